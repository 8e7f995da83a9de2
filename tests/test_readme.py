"""The README's code runs as it stands there."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

import jaxvelo as jv
from tests.trend_cells import trend_cells

READING, FOR_CELLRANK_USERS, FOR_JAX_USERS, KINETICS, FATES, TRENDS, FITTED = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.mark.any_precision
def test_reading(monkeypatch, tmp_path):
    """Counts of velocyto, whose cells are named by sample and barcode, come to a file without counts."""
    loompy = pytest.importorskip("loompy", reason='loom files need `pip install "jaxvelo[loom]"`')
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    barcodes = ["".join(row) for row in rng.choice(list("ACGT"), (30, 16))]
    spliced, unspliced = rng.poisson(2.0, (2, 30, 20))
    loompy.create(
        "velocyto.loom",
        {"": spliced.T, "spliced": spliced.T, "unspliced": unspliced.T},
        {"Gene": np.array([f"gene {i}" for i in range(20)])},
        {"CellID": np.array([f"sample:{barcode}x" for barcode in barcodes])},
    )
    processed = AnnData(rng.random((30, 20), dtype=np.float32))
    processed.obs_names, processed.var_names = [f"{b}-1" for b in barcodes], [f"gene {i}" for i in range(20)]
    processed[::-1].copy().write_h5ad("processed.h5ad")
    names: dict = {"jv": jv}
    exec(READING, names)
    np.testing.assert_array_equal(names["adata"].layers["unspliced"].toarray(), unspliced[::-1])


@pytest.mark.any_precision
def test_for_cellrank_users(monkeypatch):
    """On simulated cells, which need no download; pictures are drawn, not shown."""
    plt = pytest.importorskip("matplotlib.pyplot", reason='pictures need `pip install "jaxvelo[tutorial]"`')

    def simulated():
        adata = jv.datasets.simulate(300, 60)
        adata.obs["clusters"] = adata.obs["clusters"].cat.rename_categories({"Progenitor": "Ngn3 low EP"})
        return adata

    monkeypatch.setattr(jv.datasets, "pancreas", simulated)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    names: dict = {"__name__": "tests.readme"}
    exec(FOR_CELLRANK_USERS, names)
    kernel = names["kernel"]
    assert str(kernel) == "(0.8 * VelocityKernel[n=300] + 0.2 * ConnectivityKernel[n=300])"
    assert kernel.adata.obsm["T_fwd_umap"].shape == (300, 2)
    assert kernel.adata.uns["velocity_params"]["mode"] == "dynamical"
    assert len(shown) == 2

    kernel.adata.obs["clusters"] = kernel.adata.obs["clusters"].cat.rename_categories({"Ngn3 low EP": "Progenitor"})
    names = {"__name__": "tests.readme", "kernel": kernel}
    exec(FATES.replace("seed=0", "seed=0, n_samples=5"), names)
    assert sorted(names["names"]) == ["Fate A", "Fate B"]
    fates, truth = names["gpcca"].fate_probabilities, kernel.adata.obs["true_fate"]
    ends = truth.notna().to_numpy()
    assert (fates.names[fates.X.argmax(axis=1)][ends] == truth[ends]).mean() > 0.8
    assert names["gradient"].score.shape[1] == 2
    assert (names["uncertain"].lower <= names["uncertain"].upper).all()
    assert "terminal_lineage_drivers" in kernel.adata.varm
    assert len(shown) == 3
    plt.close("all")


@pytest.mark.any_precision
def test_fitted(monkeypatch):
    """On simulated cells, whose fates are known; a few steps are enough to see that it runs."""
    import matplotlib.pyplot as plt

    jv.settings.verbosity = "error"
    adata = jv.datasets.simulate(200, 40)
    steps_of_time = adata.obs["true_time"].to_numpy()[:, None] - adata.obs["true_time"].to_numpy()[None]
    adata.obsp["connectivities"] = sp.csr_matrix(np.exp(-(steps_of_time**2)) * (abs(steps_of_time) < 1))
    adata.obsp["connectivities"].setdiag(0)
    adata.obsp["connectivities"].eliminate_zeros()
    adata.layers["Ms"] = np.log1p(adata.layers["spliced"].toarray())
    adata.layers["velocity"] = adata.layers["true_velocity"]
    adata.obs["fate"] = adata.obs["true_fate"]
    adata.obs["terminal"] = adata.obs["true_fate"].where(adata.obs["true_time"] > 20)
    kernel = 0.8 * jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    kernel = kernel + 0.2 * jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    names: dict = {"__name__": "tests.readme", "jv": jv, "adata": adata, "kernel": kernel}
    exec(FITTED.replace("seed=0", "seed=0, steps=3, progress=False"), names)
    jv.settings.verbosity = "info"
    assert names["result"].scores["training"] < names["result"].scores["training_convention"]
    assert "gene_weights=" in repr(names["better"])
    assert "T_fitted" in adata.obsp
    assert "T_fitted_fit" in adata.uns
    assert len(shown) == 2
    plt.close("all")


def test_kinetics():
    names: dict = {"__name__": "tests.readme"}
    exec(KINETICS, names)
    gradient = names["gradient"]
    for part in (gradient.alpha, gradient.beta, gradient.gamma, gradient.switching_time):
        assert np.isfinite(part).all()
        assert np.all(np.asarray(part) != 0)


def test_for_jax_users():
    names: dict = {"__name__": "tests.readme"}
    exec(FOR_JAX_USERS, names)
    gradient = names["gradient"]
    assert jnp.isfinite(names["value"])
    for part in (gradient.weights, gradient.children[0].log_scale):
        assert np.isfinite(part).all()
        assert np.any(np.asarray(part) != 0)


@pytest.mark.any_precision
def test_trends(monkeypatch):
    """Tables and pictures of genes with the names that stand there."""
    plt = pytest.importorskip("matplotlib.pyplot", reason='pictures need `pip install "jaxvelo[tutorial]"`')
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    adata = trend_cells()
    adata.var_names = ["Ins2", "Gcg", "Neurog3", "Sox9", "Pyy", "Ghrl"]
    adata.obs["term_states_fwd"] = adata.obs["term_states_fwd"].cat.rename_categories(["Alpha", "Beta"])
    names: dict = {"jv": jv, "adata": adata, "genes": list(adata.var_names)}
    exec(TRENDS, names)
    assert len(names["trends"].to_frame()) == 12
    assert len(shown) == 3
