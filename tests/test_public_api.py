"""What a user imports: that it is quick, that it needs no more than it says, and that it is all there."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxvelo

pytestmark = pytest.mark.any_precision

PURE = ["jaxvelo.graph", "jaxvelo.transitions", "jaxvelo.dynamics", "jaxvelo.markov", "jaxvelo.trends", "jaxvelo.fit"]
FACE = [f"jaxvelo.{name}" for name in ("kernels", "pp", "tl", "pl", "datasets", "objectives", "logging")]


def run(program: str) -> str:
    """Run a program in a process of its own, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ImportError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Blocker())
"""


def test_import_is_quick():
    """The best of three: other processes may slow down any one of them."""
    program = "import time; t = time.perf_counter(); import jaxvelo; print(time.perf_counter() - t)"
    assert min(float(run(program)) for _ in range(3)) < 0.5


def test_import_is_light():
    program = "import sys, jaxvelo; dir(jaxvelo); jaxvelo.__version__; jaxvelo.settings.verbosity; print(*sys.modules)"
    loaded = set(run(program).split())
    assert "jaxvelo" in loaded
    assert not loaded & {"jax", "anndata", "pandas", "scipy", "matplotlib", "scanpy", "scvelo", "pooch"}


@pytest.mark.parametrize("package", PURE)
def test_pure_packages_need_arrays_only(package):
    """They import, all of their modules, where none of the libraries of the face is installed."""
    names = {"anndata", "pandas", "scanpy", "scvelo", "matplotlib", "tqdm", "pooch", "h5py"}
    program = BLOCKED.format(names=names) + (
        f"import importlib, pkgutil, {package} as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'{package.__name__}.{module.name}')\n"
        "for name in package.__all__:\n"
        "    getattr(package, name)\n"
        "print(*sys.modules)"
    )
    assert not set(run(program).split()) & {*FACE, "jaxvelo.annotated", "jaxvelo.fitting", "jaxvelo.cli"}


def test_face_imports_without_the_tutorials_libraries():
    names = {"scanpy", "scvelo", "matplotlib", "pooch", "loompy"}
    run(BLOCKED.format(names=names) + f"import {', '.join(FACE)}, jaxvelo.reading")


def test_kernels_without_the_tutorials_libraries():
    """All but the pictures works; these say what to install."""
    program = BLOCKED.format(names={"scanpy", "scvelo", "matplotlib", "pooch"}) + (
        "import anndata, numpy as np, scipy.sparse as sp\n"
        "import jaxvelo as jv\n"
        "rng = np.random.default_rng(0)\n"
        "n = 20\n"
        "adata = anndata.AnnData(rng.random((n, 5)))\n"
        "adata.layers['Ms'], adata.layers['velocity'] = rng.random((2, n, 5))\n"
        "adata.obsp['connectivities'] = sp.csr_matrix(sp.eye_array(n, k=1) + sp.eye_array(n, k=-1))\n"
        "adata.obsm['X_umap'] = rng.random((n, 2))\n"
        "kernel = jv.kernels.VelocityKernel(adata).compute_transition_matrix()\n"
        "kernel.write_to_adata()\n"
        "for plot in (kernel.plot_projection, kernel.plot_random_walks):\n"
        "    try:\n"
        "        plot()\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
        "print(list(adata.obsm))\n"
    )
    *errors, keys = run(program).splitlines()
    assert len(errors) == 2
    assert all('pip install "jaxvelo[tutorial]"' in error for error in errors)
    assert keys == "['X_umap']"


# What the house shares and users do not need: private modules that other packages import, and these alone.
SHARED_IN_THE_HOUSE = {
    "dynamics": {"_gene_blocks"},
    "graph": {
        "_aligned",
        "_blocks",
        "_buckets",
        "_csr_layout",
        "_host",
        "_neighbor_graph",
        "_normalized_rows",
        "_precision",
        "_row_blocks",
        "_threads",
        "_whole",
    },
    "kernels": {"_randomness", "_storage"},
    "pp": {"_neighbors"},
    "transitions": {"_algebra", "_velocity_in_blocks"},
}


def test_private_modules_are_imported_in_their_package_only():
    """But those that the house shares: each of them is used elsewhere, and no other."""
    root = Path(jaxvelo.__file__).parent
    used: dict[str, set[str]] = {}
    for file in root.rglob("*.py"):
        own = file.relative_to(root).parts[0]
        for package, module in re.findall(r"(?:from|import) jaxvelo\.(\w+)(?:\.| import )(_\w+)", file.read_text()):
            if package != own:
                used.setdefault(package, set()).add(module)
    assert used == SHARED_IN_THE_HOUSE


def test_layers_are_listed_without_x():
    """anndata 0.13 lists ``X`` among the layers under the key None, which no message shows and no order knows."""
    root = Path(jaxvelo.__file__).parent
    for file in root.rglob("*.py"):
        assert not re.findall(r"\b(?:listed|list|sorted)\(\w+\.layers\b(?!\[)", file.read_text()), file


def test_names_of_the_package():
    expected = {"read", "settings", *(name.removeprefix("jaxvelo.") for name in PURE + FACE)}
    assert expected <= set(jaxvelo.__all__)
    for name in jaxvelo.__all__:
        assert getattr(jaxvelo, name) is not None
    with pytest.raises(AttributeError, match="absent"):
        jaxvelo.absent  # noqa: B018


# Names that users of arrays call, and that go on working; what only the house needs is imported from its own file.
PUBLIC_NAMES = {
    "graph": [
        "AbstractEdgeMatrix",
        "EdgeMatrix",
        "Edges",
        "Halo",
        "NeighborGraph",
        "Pattern",
        "TransitionMatrix",
        "cluster_connectivities",
        "fuzzy_connectivities",
        "map_rows",
        "nearest_neighbors",
        "neighborhood_moments",
    ],
    "transitions": [
        "BACKWARD_MODES",
        "MODELS",
        "SCHEMES",
        "SIMILARITIES",
        "Connectivity",
        "Features",
        "FixedLogits",
        "FixedProbabilities",
        "Precomputed",
        "Product",
        "Pseudotime",
        "RealTime",
        "Scaled",
        "Sum",
        "TransitionFunction",
        "Velocity",
        "automatic_softmax_scale",
        "evaluate_logits",
        "evaluate_velocity",
        "fix_logits",
        "in_parts",
        "strength_order",
    ],
}


@pytest.mark.parametrize("package", PUBLIC_NAMES)
def test_public_names(package):
    module = importlib.import_module(f"jaxvelo.{package}")
    assert module.__all__ == PUBLIC_NAMES[package]
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    reachable = {name for name in vars(module) if not name.startswith("_")} - modules
    assert reachable == set(PUBLIC_NAMES[package])


@pytest.mark.parametrize("package", PURE + FACE)
def test_names_exist(package):
    """Modules of one file have no list of names: there, what they define counts. `docstrings/` looks at each name."""
    module = importlib.import_module(package)
    assert module.__doc__
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == package and name[0] != "_"
    ]
    assert len(names) == len(set(names)) > 0
    for name in names:
        assert getattr(module, name) is not None


# CellRank's calls, with their defaults (`...` for none): scripts written for it must find them.
SIGNATURES = {
    "VelocityKernel": {"adata": ..., "backward": False, "attr": "layers", "xkey": "Ms", "vkey": "velocity"},
    "VelocityKernel.compute_transition_matrix": {
        "model": "deterministic",
        "backward_mode": "transpose",
        "similarity": "correlation",
        "softmax_scale": None,
        "n_samples": 1000,
        "seed": None,
    },
    "ConnectivityKernel": {"adata": ..., "conn_key": "connectivities", "check_connectivity": False},
    "ConnectivityKernel.compute_transition_matrix": {"density_normalize": True},
    "PrecomputedKernel": {"object": ..., "adata": None, "obsp_key": None},
    "KernelExpression.plot_projection": {
        "basis": "umap",
        "key_added": None,
        "recompute": False,
        "stream": True,
        "connectivities": None,
    },
    "KernelExpression.plot_random_walks": {
        "n_sims": 100,
        "max_iter": 0.25,
        "seed": None,
        "successive_hits": 0,
        "start_ixs": None,
        "stop_ixs": None,
        "basis": "umap",
        "cmap": "gnuplot",
        "linewidth": 1.0,
        "linealpha": 0.3,
        "ixs_legend_loc": None,
    },
    "KernelExpression.plot_single_flow": {
        "cluster": ...,
        "cluster_key": ...,
        "time_key": ...,
        "clusters": None,
        "time_points": None,
    },
    "KernelExpression.cbc": {
        "source": ...,
        "target": ...,
        "cluster_key": ...,
        "rep": ...,
        "graph_key": "distances",
    },
    "KernelExpression.write_to_adata": {"key": None, "copy": False},
    "KernelExpression.write": {"fname": ..., "write_adata": True},
    "KernelExpression.read": {"fname": ..., "adata": None, "copy": False},
    "Kernel.from_adata": {"adata": ..., "key": ..., "copy": False},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_of_cellrank(name):
    """The same arguments in the same order, with the same defaults."""
    target = jaxvelo.kernels
    for part in name.split("."):
        target = getattr(target, part)
    found = {
        p.name: ... if p.default is p.empty else p.default
        for p in inspect.signature(target).parameters.values()
        if p.name != "self"
    }
    expected = SIGNATURES[name]
    assert list(found.items())[: len(expected)] == list(expected.items())
