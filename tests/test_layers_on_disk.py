"""From counts to transition probabilities on layers that stay on disk: the same code, the same numbers."""

import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.annotated.count_proportions import count_proportions
from jaxvelo.annotated.disk_arrays import GatheredRows, is_on_disk
from jaxvelo.annotated.features_in_blocks import FeatureReader
from tests.layers_on_disk import cells_on_a_ring, written

SMALL = "40 kB"
"""A budget for a part of the cells."""


@pytest.fixture(scope="module")
def in_memory():
    adata = cells_on_a_ring()
    jv.pp.moments(adata)
    jv.tl.velocity(adata)
    return adata


@pytest.fixture(scope="module")
def its_kernel(in_memory):
    return jv.kernels.VelocityKernel(in_memory).compute_transition_matrix()


def same(kernel, other):
    found, expected = kernel.transition_matrix, other.transition_matrix
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_from_counts_to_probabilities_as_in_memory(in_memory, its_kernel, form, tmp_path):
    path = written(cells_on_a_ring(), tmp_path / f"ring.{form}")
    before = {file: file.read_bytes() for file in [path, *path.rglob("*")] if file.is_file()}
    adata = jv.read(path, backed=True)
    assert not any(isinstance(adata.layers[name], np.ndarray | sp.spmatrix) for name in ("spliced", "unspliced"))

    jv.pp.moments(adata, memory_limit=SMALL)
    jv.tl.velocity(adata, memory_limit=SMALL)
    for key in ("Ms", "Mu", "velocity", "variance_velocity"):
        assert isinstance(adata.layers[key], h5py.Dataset)
        assert Path(adata.layers[key].file.filename) == tmp_path / "ring.layers" / f"{key}.h5"
        assert adata.layers[key].dtype == in_memory.layers[key].dtype
        np.testing.assert_array_equal(adata.layers[key][:], in_memory.layers[key])
    assert adata.var.equals(in_memory.var)
    assert adata.uns["velocity_params"] == in_memory.uns["velocity_params"]

    kernel = jv.kernels.VelocityKernel(adata).compute_transition_matrix(memory_limit=SMALL)
    expected = its_kernel
    same(kernel, expected)
    assert kernel.params["softmax_scale"] == pytest.approx(expected.params["softmax_scale"], rel=1e-5)
    np.testing.assert_allclose(kernel.logits.data, expected.logits.data, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(kernel.genes, expected.genes)
    combined = 0.8 * kernel + 0.2 * jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    assert combined.compute_transition_matrix().transition_matrix.shape == (120, 120)
    assert before == {file: file.read_bytes() for file in [path, *path.rglob("*")] if file.is_file()}


@pytest.mark.any_precision
@pytest.mark.parametrize(
    "arguments", [{"mode": "deterministic", "fit_offset": True, "r2_adjusted": True}, {"fit_offset2": True}]
)
def test_all_steady_states_as_in_memory(in_memory, arguments, tmp_path):
    expected = in_memory.copy()
    jv.tl.velocity(expected, **arguments)
    adata = jv.read(written(in_memory, tmp_path / "ring.h5ad"), backed=True)
    jv.tl.velocity(adata, **arguments, memory_limit=SMALL)
    np.testing.assert_array_equal(adata.layers["velocity"][:], expected.layers["velocity"])
    assert adata.var.equals(expected.var)


KERNELS = {
    "stochastic": {"model": "stochastic"},
    "monte carlo": {"model": "monte_carlo", "n_samples": 5, "seed": 0, "softmax_scale": 3.0, "gene_weights": None},
    "transposed": {"backward_mode": "transpose", "softmax_scale": np.linspace(2, 5, 120)},
    "of one's own": {"similarity": lambda v, displacements: displacements @ v, "backward_mode": "negate"},
}


@pytest.mark.parametrize("name", KERNELS)
def test_all_kernels_as_in_memory(in_memory, name, tmp_path):
    arguments = dict(KERNELS[name])
    backward = "backward_mode" in arguments
    expected = jv.kernels.VelocityKernel(in_memory, backward)
    if "gene_weights" in arguments:
        arguments["gene_weights"] = np.linspace(0, 1, len(expected.genes))
    expected.compute_transition_matrix(**arguments)
    adata = jv.read(written(in_memory, tmp_path / "ring.h5ad"), backed=True)
    kernel = jv.kernels.VelocityKernel(adata, backward).compute_transition_matrix(**arguments, memory_limit=SMALL)
    same(kernel, expected)


@pytest.fixture
def interruptible(in_memory, tmp_path, monkeypatch):
    """Compute a kernel, interrupted when some blocks have been read; also say how many were."""
    adata = jv.read(written(in_memory, tmp_path / "ring.h5ad"), backed=True)
    read = FeatureReader.__call__

    def compute(stop_at=None, memory_limit="20 kB", **arguments):
        n_read = 0

        def read_some(self, *of_block):
            nonlocal n_read
            if n_read == stop_at:
                raise KeyboardInterrupt
            n_read += 1
            return read(self, *of_block)

        monkeypatch.setattr(FeatureReader, "__call__", read_some)
        kernel = jv.kernels.VelocityKernel(adata)
        return kernel.compute_transition_matrix(memory_limit=memory_limit, **arguments), n_read

    return compute


def same_bits(kernel, other):
    np.testing.assert_array_equal(kernel.transition_matrix.data, other.transition_matrix.data)
    np.testing.assert_array_equal(kernel.logits.data, other.logits.data)
    assert kernel.params == other.params


@pytest.mark.any_precision
def test_an_interrupted_kernel_goes_on_from_its_finished_blocks(interruptible, tmp_path, logged):
    folder = tmp_path / "ring.layers"
    expected, n_blocks = interruptible()
    assert n_blocks >= 6
    assert not folder.exists()
    for stop_at in (2, n_blocks - 4):
        with pytest.raises(KeyboardInterrupt):
            interruptible(stop_at)
    assert len(list(folder.glob(".velocity.blocks.*"))) == n_blocks - 2
    assert "Going on with the logits of `velocity`" in logged()
    assert interruptible(similarity="cosine")[1] == n_blocks, "nothing is taken of another one"
    assert not folder.exists(), "no note is left when a kernel is whole"

    with pytest.raises(KeyboardInterrupt):
        interruptible(n_blocks - 1)
    last = max(folder.glob(".velocity.blocks.*"), key=lambda note: note.stat().st_mtime_ns)
    last.write_bytes(last.read_bytes()[:-700] + b"0" * 700)  # a note that is damaged
    found, n_read = interruptible()
    same_bits(found, expected)
    assert n_read == 2

    with pytest.raises(KeyboardInterrupt):
        interruptible(n_blocks - 1)
    found, n_read = interruptible(memory_limit="12 kB")  # less memory than before: the rest in smaller blocks
    same(found, expected)
    assert n_read < n_blocks / 2
    folder.write_text("no folder")
    same_bits(interruptible()[0], expected)
    assert "Could not note finished blocks of cells in the folder" in logged()


@pytest.mark.any_precision
def test_an_interrupted_second_pass_does_not_begin_with_the_first(interruptible):
    arguments = {"model": "monte_carlo", "n_samples": 3, "seed": 1, "memory_limit": "40 kB"}
    expected, n_blocks = interruptible(**arguments)
    with pytest.raises(KeyboardInterrupt):
        interruptible(n_blocks - 1, **arguments)
    found, n_read = interruptible(**arguments)
    same_bits(found, expected)
    assert n_read == 1


NORMALIZATIONS = {
    "as it is": {},
    "fewer genes": {"min_shared_counts": 600, "n_top_genes": 9},
    "of the genes left": {"min_counts": 650, "use_initial_size": False, "log": False, "n_top_genes": 8}
    | {"subset_highly_variable": False, "flavor": "cell_ranger"},
}


@pytest.mark.any_precision
@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("form", ["sparse", "dense", "without X"])
def test_counts_are_normalized_as_in_memory(name, form, tmp_path):
    adata = cells_on_a_ring(raw=True)
    adata.layers["others"] = np.arange(120.0 * 20).reshape(120, 20)
    adata.var["kind"] = pd.Categorical(list("abcdefghij" * 2))
    if form == "without X":
        adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    if form == "dense":
        adata.X, adata.layers["spliced"] = adata.X.toarray(), adata.layers["spliced"].toarray().astype(int)
    backed = jv.read(written(adata, tmp_path / "ring.h5ad"), backed=True)
    for cells in (adata, backed):
        jv.pp.filter_and_normalize(cells, **NORMALIZATIONS[name])
    assert backed.X.__class__.__name__ != "ndarray"
    loaded = backed.to_memory()
    pd.testing.assert_frame_equal(loaded.obs, adata.obs)
    pd.testing.assert_frame_equal(loaded.var, adata.var)
    assert loaded.uns.keys() == adata.uns.keys()
    for key in ("X", "spliced", "unspliced", "others"):
        found, expected = (cells.X if key == "X" else cells.layers[key] for cells in (loaded, adata))
        assert found.dtype == expected.dtype
        assert sp.issparse(found) == sp.issparse(expected)
        np.testing.assert_array_equal(*(x.toarray() if sp.issparse(x) else x for x in (found, expected)))


@pytest.mark.any_precision
@pytest.mark.parametrize(
    ("raw", "bounds"),
    [
        (True, {"min_shared_counts": 850}),
        (False, {"max_counts": 9_999}),
        (True, {"min_counts": 700, "retain_genes": "g1"}),
    ],
)
def test_genes_are_filtered_as_in_memory(raw, bounds, tmp_path):
    adata = cells_on_a_ring(raw=raw)
    adata.layers["others"] = np.arange(120.0 * 20).reshape(120, 20)
    adata.varm["loadings"] = np.arange(40.0).reshape(20, 2)
    backed = jv.read(written(adata, tmp_path / "ring.h5ad"), backed=True)
    for cells in (adata, backed):
        jv.pp.filter_genes(cells, **bounds)
    assert (adata.n_vars < 20) == raw
    names = ("spliced", "unspliced", "others")
    assert all(is_on_disk(matrix) for matrix in (backed.X, *(backed.layers[name] for name in names)))
    loaded = backed.to_memory()
    pd.testing.assert_frame_equal(loaded.obs, adata.obs)
    pd.testing.assert_frame_equal(loaded.var, adata.var)
    np.testing.assert_array_equal(loaded.varm["loadings"], adata.varm["loadings"])
    for found, expected in ((loaded.X, adata.X), *((loaded.layers[name], adata.layers[name]) for name in names)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(*(x.toarray() if sp.issparse(x) else x for x in (found, expected)))
    with pytest.raises(ValueError, match=r"None of the .* genes passes the filter"):
        jv.pp.filter_genes(backed, min_counts=1e9)


@pytest.mark.any_precision
def test_what_is_chosen_of_cells_is_what_is_loaded(in_memory, tmp_path):
    backed = jv.read(written(in_memory, tmp_path / "ring.h5ad"), backed=True)
    chosen = backed[np.arange(120) % 3 == 0, ["g3", "g1"]].to_memory()
    expected = in_memory[np.arange(120) % 3 == 0, ["g3", "g1"]]
    assert not is_on_disk(chosen.X)
    np.testing.assert_array_equal(chosen.layers["Ms"], expected.layers["Ms"])
    np.testing.assert_array_equal(chosen.layers["spliced"].toarray(), expected.layers["spliced"].toarray())
    assert all(is_on_disk(backed.layers[name]) for name in ("Ms", "spliced"))


@pytest.mark.any_precision
def test_what_is_taken_up_again_is_of_the_same(in_memory, tmp_path):
    adata = jv.read(written(in_memory, tmp_path / "ring.h5ad"), backed=True)
    for mode in ("stochastic", "deterministic", "stochastic"):  # of the first, the second moments stay
        jv.tl.velocity(adata, mode=mode)
    for key in ("velocity", "variance_velocity"):
        np.testing.assert_array_equal(adata.layers[key][:], in_memory.layers[key])

    path = written(cells_on_a_ring(raw=True), tmp_path / "raw.h5ad")
    first, second = (jv.read(path, backed=True) for _ in range(2))
    jv.pp.filter_and_normalize(first, counts_per_cell_after=1e4)
    jv.pp.filter_and_normalize(second)
    for cells in (first, second):  # each of its own counts, though they are written to the same files
        jv.pp.moments(cells)
        expected = cells.to_memory()
        jv.pp.moments(expected, enforce=False)
        np.testing.assert_array_equal(cells.layers["Ms"][:], expected.layers["Ms"])


@pytest.mark.any_precision
def test_tools_that_need_some_rows_or_none_copy_nothing(in_memory, tmp_path):
    adata = in_memory.copy()
    del adata.obsp["connectivities"]
    jv.pp.neighbors(adata, 8)
    adata.obsm["X_umap"] = adata.X[:, :2].toarray()
    adata.obs["clusters"] = pd.Categorical(["a", "b"] * 60)
    backed = jv.read(written(adata, tmp_path / "ring.h5ad"), backed=True)
    for cells in (adata, backed):
        jv.tl.velocity_graph(cells)
        jv.tl.velocity_embedding(cells)
    np.testing.assert_allclose(backed.obsm["velocity_umap"], adata.obsm["velocity_umap"], rtol=0, atol=1e-5)
    found, expected = (count_proportions(cells)[0] for cells in (backed, adata))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"Expected `adata` in memory to copy it, found .*velocity"):
        jv.tl.velocity_graph(backed, copy=True)
    kept = jv.estimators.GPCCA(jv.kernels.ConnectivityKernel(backed).compute_transition_matrix()).to_adata()
    assert is_on_disk(kept.X)


@pytest.mark.any_precision
@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_components_and_neighbors_as_in_memory(form, tmp_path):
    adata = cells_on_a_ring(150, 60)
    adata.X = adata.X.log1p() if form == "sparse" else adata.X.log1p().toarray()
    adata.var["highly_variable"] = np.arange(60) % 4 > 0
    del adata.obsp["connectivities"]
    backed = jv.read(written(adata, tmp_path / "ring.h5ad"), backed=True)
    for cells in (adata, backed):
        jv.pp.neighbors(cells, 8, n_pcs=6)
    for found, expected in (
        (backed.obsm["X_pca"], adata.obsm["X_pca"]),
        (backed.varm["PCs"], adata.varm["PCs"]),
        (backed.uns["pca"]["variance_ratio"], adata.uns["pca"]["variance_ratio"]),
        (backed.obsp["connectivities"].toarray(), adata.obsp["connectivities"].toarray()),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.any_precision
def test_covariances_that_do_not_fit_are_not_begun(tmp_path, monkeypatch):
    backed = jv.read(written(cells_on_a_ring(150, 60), tmp_path / "ring.h5ad"), backed=True)
    monkeypatch.setattr("jaxvelo.pp._neighbors.free_memory", lambda: 80_000)
    with pytest.raises(ValueError, match=r"covariances of 60 genes.*84.4 KiB, found 78.1 KiB free. Mark fewer genes"):
        jv.pp.neighbors(backed, 8)


@pytest.mark.any_precision
def test_arrays_of_dask(in_memory, its_kernel, tmp_path):
    dask = pytest.importorskip("dask.array")
    adata = in_memory.copy()
    for key in ("spliced", "unspliced", "Ms", "velocity"):
        layer = in_memory.layers[key]
        array = dask.from_array(layer.toarray() if sp.issparse(layer) else layer, chunks=(50, 20))
        adata.layers[key] = array.map_blocks(sp.csr_matrix) if sp.issparse(layer) else array
    kernel = jv.kernels.VelocityKernel(adata).compute_transition_matrix(memory_limit=SMALL)
    same(kernel, its_kernel)
    with pytest.raises(ValueError, match=r"Set `jaxvelo.settings.layerdir`"):
        jv.pp.moments(adata)
    jv.settings.layerdir = tmp_path
    try:
        jv.pp.moments(adata)
    finally:
        jv.settings.layerdir = None
    np.testing.assert_array_equal(adata.layers["Ms"][:], in_memory.layers["Ms"])


@pytest.mark.any_precision
def test_normalization_keeps_raw(tmp_path, monkeypatch):
    dask = pytest.importorskip("dask.array")
    monkeypatch.setattr(jv.settings, "_layerdir", tmp_path)
    adata = cells_on_a_ring(raw=True)
    adata.raw = adata.copy()
    adata.X = dask.from_array(adata.X.toarray(), chunks=(50, 20))
    jv.pp.filter_and_normalize(adata, n_top_genes=9)
    assert adata.n_vars == 9
    assert adata.raw.shape == (120, 20)


@pytest.mark.any_precision
def test_genes_whose_velocity_is_not_finite_are_left_out(in_memory, tmp_path, logged):
    adata = in_memory.copy()
    too_large = 2 * float(jnp.finfo(jnp.result_type(float)).max)  # for the type in use, which may not be that on disk
    for key in ("Ms", "velocity"):
        adata.layers[key] = adata.layers[key].astype(np.float64)
    adata.layers["velocity"][[5, 6], [3, 4]] = np.nan, too_large
    adata.var["velocity_genes"] = True
    expected = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    backed = jv.read(written(adata, tmp_path / "ring.h5ad"), backed=True)
    logged()
    kernel = jv.kernels.VelocityKernel(backed).compute_transition_matrix(memory_limit=SMALL)
    assert "Leaving out 2 genes whose velocity" in logged()
    same(kernel, expected)
    np.testing.assert_array_equal(kernel.genes, expected.genes)
    np.testing.assert_array_equal(jv.kernels.VelocityKernel(backed).genes, expected.genes)

    adata.layers["Ms"][7, 2] = too_large
    backed = jv.read(written(adata, tmp_path / "other.h5ad"), backed=True)
    with pytest.raises(ValueError, match=r"Expected finite expression in `adata.layers\['Ms'\]`, found 1 values"):
        jv.kernels.VelocityKernel(backed).compute_transition_matrix()


@pytest.mark.any_precision
@pytest.mark.parametrize("form", ["dense", "sparse", "zarr"])
def test_chunks_that_are_read_again_and_again_are_named_with_a_remedy(form, in_memory, tmp_path, monkeypatch, logged):
    monkeypatch.setattr("jaxvelo.annotated.disk_arrays.UNPACKED", 0)
    adata = ad.AnnData(in_memory.X, in_memory.obs, in_memory.var)
    adata.layers["Ms"] = sp.csr_matrix(in_memory.layers["Ms"]) if form == "sparse" else in_memory.layers["Ms"]
    cells = np.random.default_rng(0).permutation(120)
    for chunks in (None, 40):
        path = written(adata, tmp_path / f"{chunks}.{'zarr' if form == 'zarr' else 'h5ad'}")
        if form != "zarr":
            with h5py.File(path, "r+") as file:
                stored = file["layers/Ms"] if form == "dense" else file["layers/Ms/data"]
                name, values, attributes = stored.name, stored[:], dict(stored.attrs)
                del file[name]
                shape = None if chunks is None else (chunks, 2) if form == "dense" else (20 * chunks,)
                file.create_dataset(name, data=values, chunks=shape).attrs.update(attributes)
        layer = jv.read(path, backed=True).layers["Ms"]
        logged()
        rows = GatheredRows(layer, "adata.layers['Ms']", np.dtype(np.float32))
        for block in np.split(cells, 10):
            found = rows.read(np.sort(block), rows.empty(len(block)))
            np.testing.assert_array_equal(found, in_memory.layers["Ms"][np.sort(block)])
        said = logged()
        assert said.count("WARNING") == (chunks is not None or form == "zarr")
    assert "Reading `adata.layers['Ms']` is slow" in said
    assert {"dense": "chunks of 40 x 2, each", "sparse": "chunks of 800, each", "zarr": "chunks of "}[form] in said
    assert f"or store it {'in chunks of fewer cells' if form == 'zarr' else 'in one piece, as `h5repack'}" in said

    if form == "dense":  # in the order of the file, a chunk is read for one block, or for two
        rows = GatheredRows(layer, "adata.layers['Ms']", np.dtype(np.float32))
        for block in np.split(np.arange(120), 3):
            rows.read(block, rows.empty(40))
        assert logged() == ""


@pytest.mark.any_precision
def test_a_file_that_was_cut_off_is_an_error_at_once(in_memory, tmp_path):
    path = written(in_memory, tmp_path / "ring.h5ad")
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 3000)
    with pytest.raises(ValueError, match=r"Could not read `.*ring.h5ad`: .*truncated.* It was cut off"):
        jv.read(path, backed=True)
    with h5py.File(tmp_path / "a.loom", "w") as file:
        for name in ("matrix", "row_attrs", "col_attrs"):
            file.create_group(name)
    with pytest.raises(ValueError, match=r"Expected h5ad or zarr with `backed=True`, found the loom file"):
        jv.read(tmp_path / "a.loom", backed=True)


@pytest.mark.any_precision
def test_what_cannot_be_done_is_said_and_leaves_nothing(in_memory, tmp_path):
    raw = in_memory.copy()
    raw.layers["spliced"].data = np.rint(raw.layers["spliced"].data * 5)
    raw.layers["unspliced"].data = np.rint(raw.layers["unspliced"].data * 5)
    backed = jv.read(written(raw, tmp_path / "raw.h5ad"), backed=True)
    with pytest.raises(ValueError, match="Expected normalized counts on disk, found raw ones in spliced and unspliced"):
        jv.pp.moments(backed)
    negative = in_memory.copy()
    negative.layers["unspliced"].data[-1] = -1
    backed = jv.read(written(negative, tmp_path / "negative.h5ad"), backed=True)
    with pytest.raises(ValueError, match="found 1 negative"):
        jv.pp.moments(backed, enforce=False)
    assert not isinstance(backed.layers["Ms"].file.filename, type(None))
    assert "negative.h5ad" in backed.layers["Ms"].file.filename, "neither layer is replaced"

    backed = jv.read(written(in_memory, tmp_path / "ring.h5ad"), backed=True)
    with pytest.raises(ValueError, match="Expected `adata` in memory to copy it"):
        jv.pp.moments(backed, copy=True)
    backed.obs["clusters"] = ["a"] * 60 + ["b"] * 60
    with pytest.raises(ValueError, match="Expected moments in memory to fit groups"):
        jv.tl.velocity(backed, groupby="clusters")
    with pytest.raises(ValueError, match="Expected `memory_limit`"):
        jv.tl.velocity(backed, memory_limit="little")
    x, backed.X = backed.X, None
    with pytest.raises(ValueError, match=r"Expected a matrix in `adata.X`, found None. Set it"):
        jv.kernels.VelocityKernel(backed, xkey="X", vkey="Mu")
    backed.X = x
    # The budget that an error asks for is enough.
    for step in (
        lambda limit: jv.pp.moments(backed, memory_limit=limit),
        lambda limit: jv.tl.velocity(backed, memory_limit=limit),
        lambda limit: jv.kernels.VelocityKernel(backed).compute_transition_matrix(memory_limit=limit),
    ):
        with pytest.raises(ValueError, match="Expected `memory_limit` to hold one block") as error:
            step(50)
        step(str(error.value).split("memory_limit='")[1].split("'")[0])
    np.testing.assert_array_equal(backed.layers["velocity"][:], in_memory.layers["velocity"])


OUTSIDE = """
import ctypes, mmap, os, random, signal, sys
from pathlib import Path
import numpy as np
import jaxvelo as jv
import jaxvelo.pp, jaxvelo.tl, jaxvelo.kernels  # else each child would

jv.settings.verbosity = "error"
ring, untouched, large = sys.argv[1:]

steps = [
    lambda adata: jv.pp.moments(adata, memory_limit="20 kB"),
    lambda adata: jv.tl.velocity(adata, memory_limit="40 kB"),
    lambda adata: jv.kernels.VelocityKernel(adata).compute_transition_matrix(memory_limit="20 kB"),
]

def run(path, n_noted, kill_in=None, kill_at=None, calls_later=0):
    '''All steps in a child, which counts what each notes as done, and dies some calls after so much; how it ended.'''
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def count(frame, event, function):
        nonlocal calls_later
        if function is os.replace and event == "c_return":
            n_noted[number] += 1
        elif number == kill_in and n_noted[number] >= kill_at:
            calls_later -= 1
            if calls_later < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    adata = jv.read(path, backed=True)
    for number, step in enumerate(steps):
        sys.setprofile(count)
        kernel = step(adata)
        sys.setprofile(None)
    np.save(Path(path).with_suffix(".npy"), kernel.transition_matrix.data)
    os._exit(0)

n_noted, n_in_all = (np.frombuffer(mmap.mmap(-1, 24), np.int64) for _ in range(2))  # which children share
assert run(untouched, n_in_all) == 0
random.seed(1)
moments = [(number, n) for number, n_of_step in enumerate(n_in_all) for n in range(n_of_step)]
for number, n in sorted(random.sample(moments, 10)):
    assert run(ring, n_noted, number, n, random.randrange(500)) == -signal.SIGKILL
assert run(ring, n_noted) == 0
# Nothing of what was noted was done again, but the fits of velocities that were whole.
assert list(n_noted[[0, 2]]) == list(n_in_all[[0, 2]]), (n_noted, n_in_all)

adata = jv.read(large, backed=True)
limit = "16 MiB"

def in_mebibytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) / 1024

def growth(step):
    step()  # compiled programs take memory too, once
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = in_mebibytes("VmRSS")
    step()
    return in_mebibytes("VmHWM") - before

def velocity():
    for file in Path(large).with_suffix(".layers").glob("*"):
        file.unlink()
    jv.tl.velocity(adata, mode="deterministic", memory_limit=limit)

def kernel():
    jv.kernels.VelocityKernel(adata).compute_transition_matrix(memory_limit=limit)

print(growth(velocity), growth(kernel))
"""
"""Both in one process: what it imports takes longest."""


@pytest.mark.any_precision
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is asked of Linux")
def test_killed_runs_go_on_to_the_same_bits_and_memory_is_bounded(in_memory, tmp_path):
    ring = written(cells_on_a_ring(), tmp_path / "ring.h5ad")
    n_cells, n_genes = 40_000, 200
    cells = np.arange(n_cells)
    ones = np.ones(n_cells)
    steps = [sp.csr_matrix((ones, (cells, (cells + step) % n_cells))) for step in (1, 2, n_cells - 1, n_cells - 2)]
    names = {"obs": pd.DataFrame(index=cells.astype(str)), "var": pd.DataFrame(index=cells[:n_genes].astype(str))}
    adata = ad.AnnData(**names, obsp={"connectivities": sum(steps[1:], steps[0])})
    large = written(adata, tmp_path / "large.h5ad")
    rows = np.random.default_rng(0).random((n_cells // 20, n_genes), dtype=np.float32)
    with h5py.File(large, "r+") as file:
        for key in ("Ms", "Mu"):
            layer = file["layers"].create_dataset(key, (n_cells, n_genes), np.float32)
            layer.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            for part in range(20):
                layer[part * len(rows) : (part + 1) * len(rows)] = rows * (1 + part + (key == "Mu") * rows)

    untouched = written(cells_on_a_ring(), tmp_path / "untouched.h5ad")
    command = [sys.executable, "-W", "ignore", "-c", OUTSIDE, str(ring), str(untouched), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    keys = ("Ms", "Mu", "variance_velocity", "velocity")
    assert sorted(file.name for file in (tmp_path / "ring.layers").iterdir()) == [f"{key}.h5" for key in keys]
    for key in keys:
        with h5py.File(tmp_path / "ring.layers" / f"{key}.h5") as file:
            np.testing.assert_array_equal(file["layers"][key][:], in_memory.layers[key])
    np.testing.assert_array_equal(*(np.load(path.with_suffix(".npy")) for path in (ring, untouched)))
    # Each large layer has 31 MiB, of which two are read. The graph and the result have 160,000 edges, some 100 bytes
    # each; a block that is read ahead while the one before is put back comes on top, more often on a busy machine.
    of_velocity, of_kernel = map(float, done.stdout.split())
    assert of_velocity < 16 + 8
    assert of_kernel < 16 + 32
