"""Kernels in AnnData objects and in the files that these are written to."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import (
    ConnectivityKernel,
    KernelAdd,
    KernelMul,
    PrecomputedKernel,
    VelocityKernel,
    from_adata,
)
from tests.bent_line import N_CELLS
from tests.snapshot import snapshot, unchanged


@pytest.fixture(scope="module")
def kernels(made):
    rng = np.random.default_rng(1)
    matrix = sp.random_array((N_CELLS, N_CELLS), density=0.1, rng=rng, format="csr") + sp.eye_array(N_CELLS)
    v = VelocityKernel(made).compute_transition_matrix()
    c = ConnectivityKernel(made).compute_transition_matrix()
    w = VelocityKernel(made, xkey=None, vkey="velocity2", gene_subset="chosen", conn_key="other")
    w.compute_transition_matrix(similarity="cosine", softmax_scale=3.0)
    m = VelocityKernel(made, gene_subset=made.var["chosen"].to_numpy())
    m.compute_transition_matrix(model="monte_carlo", softmax_scale=4.0, n_samples=16, seed=3)
    b = VelocityKernel(made, backward=True, gene_subset=["gene_1", "gene_5", "gene_7"])
    b.compute_transition_matrix(softmax_scale=2.0)
    o = ConnectivityKernel(made, conn_key="other", check_connectivity=True)
    o.compute_transition_matrix(density_normalize=False)
    p = PrecomputedKernel(matrix, made)
    return {
        "velocity": v,
        "connectivity": c,
        "other velocity": w,
        "monte carlo": m,
        "backward": b,
        "other connectivity": o,
        "precomputed": p,
        "sum": 0.8 * v + 0.2 * c,
        "thirds": v + c + o,
        "product": v * c,
        "nested": 0.3 * (v * p) + 0.7 * (0.8 * v + 0.2 * (c * o)),
        "bare product": v * c + c,
        "weighted alone": 0.8 * v,
        "backward sum": 0.6 * b + 0.4 * c,
    }


NAMES = [
    "velocity",
    "connectivity",
    "other velocity",
    "monte carlo",
    "backward",
    "other connectivity",
    "precomputed",
    "sum",
    "thirds",
    "product",
    "nested",
    "bare product",
    "weighted alone",
    "backward sum",
]


def assert_same(found, expected):
    """Kernels are equal: structure, weights, parameters, and matrices to the last bit."""
    assert type(found) is type(expected)
    assert expected.transition_matrix is not None, "weights read otherwise before it is computed"
    assert repr(found) == repr(expected)
    assert found.backward == expected.backward
    assert_same_matrix(found.transition_matrix, expected.transition_matrix)
    assert len(found.kernels) == len(expected.kernels)
    for one, other in zip(found.kernels, expected.kernels, strict=True):
        assert type(one) is type(other)
        assert_same_matrix(one.transition_matrix, other.transition_matrix)
        given = {key: value for key, value in other.params.items() if value is not None}
        assert one.params == given
        assert {type(value) for value in one.params.values()} == {type(value) for value in given.values()}
        if not isinstance(other, PrecomputedKernel):
            assert one.init.keys() == other.init.keys()
            assert all(np.array_equal(one.init[key], other.init[key]) for key in other.init)
    if isinstance(expected, KernelAdd):
        assert found.weights == expected.weights
    if isinstance(expected, KernelMul):
        assert found.weight == expected.weight
    # The structure decides how it is combined anew.
    pure = [k.transition_function(k.graph, k.features) for k in (found, expected) if "monte" not in repr(k)]
    if pure:
        assert abs(pure[0].to_csr() - pure[1].to_csr()).max() < 1e-6


def assert_same_matrix(found, expected):
    assert isinstance(found, sp.csr_matrix)
    for part in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    assert found.dtype == np.float64


def write(kernel, adata, key=None):
    """Write to an AnnData object of its own."""
    kernel = kernel.copy()
    kernel.adata = adata
    kernel.write_to_adata(key)


def through_file(adata, path, file_format):
    if file_format == "h5ad":
        adata.write_h5ad(path / "kernel.h5ad")
        return anndata.read_h5ad(path / "kernel.h5ad")
    adata.write_zarr(path / "kernel.zarr")
    return anndata.read_zarr(path / "kernel.zarr")


@pytest.mark.parametrize("name", NAMES)
def test_in_memory(kernels, cells, name):
    with unchanged(kernels[name].adata):
        write(kernels[name], cells)
    key = "T_bwd" if kernels[name].backward else "T_fwd"
    with unchanged(cells):
        assert_same(from_adata(cells, key), kernels[name])


@pytest.fixture(scope="module")
def read_back(kernels, made, tmp_path_factory):
    """All kernels in one AnnData object, written and read."""
    adata = made.copy()
    for i, kernel in enumerate(kernels.values()):
        write(kernel, adata, f"kernel_{i}")
    return through_file(adata, tmp_path_factory.mktemp("files"), "h5ad")


@pytest.mark.parametrize("name", ["backward sum", "nested"])
def test_through_zarr(kernels, cells, name, tmp_path):
    pytest.importorskip("zarr")
    write(kernels[name], cells, "mine")
    assert_same(from_adata(through_file(cells, tmp_path, "zarr"), "mine"), kernels[name])


@pytest.mark.parametrize("name", NAMES)
def test_through_file(kernels, read_back, name):
    key = f"kernel_{NAMES.index(name)}"
    with unchanged(read_back):
        kernel = from_adata(read_back, key)
        assert_same(kernel, kernels[name])
        with pytest.raises(ValueError, match="read-only"):
            from_adata(read_back, key, copy=True).transition_matrix.data[:] = 0
        if name in ("velocity", "other velocity", "monte carlo", "backward"):
            assert_same(VelocityKernel.from_adata(read_back, key), kernels[name])
            computed = VelocityKernel.from_adata(read_back, key).compute_transition_matrix(softmax_scale=2.0)
            assert computed.params["softmax_scale"] == 2.0
        if name in ("connectivity", "other connectivity"):
            assert_same(ConnectivityKernel.from_adata(read_back, key), kernels[name])
        precomputed = PrecomputedKernel.from_adata(read_back, key)
        assert_same_matrix(precomputed.transition_matrix, kernels[name].transition_matrix)
        assert_same_matrix(
            PrecomputedKernel(read_back, obsp_key=key).transition_matrix, kernels[name].transition_matrix
        )


def test_keys(made, cells):
    kernel = 0.8 * VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    kernel = kernel + 0.2 * ConnectivityKernel(cells).compute_transition_matrix()
    written = "/obsp/T_fwd", "/obsp/T_fwd_kernel0", "/obsp/T_fwd_kernel1", "/uns/T_fwd_params"
    with unchanged(cells, *written):
        assert kernel.write_to_adata() is None
    assert set(cells.obsp) - set(made.obsp) == {path.removeprefix("/obsp/") for path in written[:3]}
    kernel.write_to_adata("mine")
    assert "mine_params" in cells.uns
    np.testing.assert_array_equal(cells.obsp["mine"].toarray(), kernel.transition_matrix.toarray())


@pytest.mark.parametrize("copy", [False, True])
def test_written_matrices_are_copies(cells, copy):
    """They may be changed, which changes neither the kernel that wrote them nor those that read them."""
    c = ConnectivityKernel(cells).compute_transition_matrix()
    kernel = 0.8 * VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0) + 0.2 * c
    kernel.write_to_adata("mine", copy=copy)
    known = [kernel, from_adata(cells, "mine", copy=copy), PrecomputedKernel(cells, obsp_key="mine", copy=copy)]
    c.write_to_adata("basic", copy=copy)
    of_basic = [c, ConnectivityKernel.from_adata(cells, "basic", copy=copy)]
    expected, of_parts = kernel.transition_matrix.toarray(), [k.transition_matrix.toarray() for k in kernel.kernels]
    for key in ("mine", "mine_kernel0", "mine_kernel1", "basic"):
        matrix = cells.obsp[key]
        matrix.data *= 0.5
        matrix.indices[:] = 0
        matrix.indptr[:] = 0
    for other in known:
        np.testing.assert_array_equal(other.transition_matrix.toarray(), expected)
        np.testing.assert_allclose(other.transitions.to_csr().toarray(), expected, rtol=0, atol=1e-6)
    for other in known[:2]:
        for part, of_part in zip(other.kernels, of_parts, strict=True):
            np.testing.assert_array_equal(part.transition_matrix.toarray(), of_part)
    for other in of_basic:
        np.testing.assert_array_equal(other.transition_matrix.toarray(), of_parts[1])


def test_embeddings_are_kept(cells):
    """Both orders of projecting and writing keep what the other wrote, as in CellRank."""
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    kernel.plot_projection(show=False)
    kernel.write_to_adata()
    kernel.plot_projection(basis="umap3d", show=False)
    assert list(cells.uns["T_fwd_params"]["embeddings"]) == ["umap", "umap3d"]
    assert_same(from_adata(cells, "T_fwd"), kernel)


def test_writing_again_replaces(cells):
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    (0.5 * kernel + 0.5 * ConnectivityKernel(cells).compute_transition_matrix()).write_to_adata()
    kernel.write_to_adata()
    assert_same(from_adata(cells, "T_fwd"), kernel)


def test_view(cells):
    """Writing to a view makes it an object of its own, as AnnData says in a warning."""
    view = cells[:30]
    kernel = ConnectivityKernel(view).compute_transition_matrix()
    assert view.is_view
    with unchanged(cells), pytest.warns(anndata.ImplicitModificationWarning):
        kernel.write_to_adata()
    assert not view.is_view
    assert_same(from_adata(view, "T_fwd"), kernel)


@pytest.mark.parametrize("key", ["absent", "connectivities"])
def test_missing(cells, key):
    with unchanged(cells), pytest.raises(KeyError, match=key):
        from_adata(cells, key)


def test_missing_part(cells):
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    (0.5 * kernel + 0.5 * ConnectivityKernel(cells).compute_transition_matrix()).write_to_adata()
    del cells.obsp["T_fwd_kernel1"]
    with unchanged(cells), pytest.raises(KeyError, match=r"T_fwd_kernel1.*write it anew"):
        from_adata(cells, "T_fwd")
    assert isinstance(PrecomputedKernel(cells), PrecomputedKernel), "the matrix alone is still there"


def test_missing_layer(cells):
    VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0).write_to_adata()
    del cells.layers["velocity"]
    with unchanged(cells), pytest.raises(KeyError, match="velocity"):
        from_adata(cells, "T_fwd")


def test_wrong_class(cells):
    VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0).write_to_adata("v")
    ConnectivityKernel(cells).compute_transition_matrix().write_to_adata("c")
    for cls, key, kind in ((ConnectivityKernel, "v", "VelocityKernel"), (VelocityKernel, "c", "ConnectivityKernel")):
        with pytest.raises(TypeError, match=f"found a `{kind}`.*kernels.from_adata"):
            cls.from_adata(cells, key)


def test_no_anndata():
    with pytest.raises(TypeError, match="found `dict`"):
        from_adata({}, "T_fwd")


def test_subset_of_the_cells(made):
    """A part of the cells has a part of the matrix, which no longer is what the description says."""
    adata = made.copy()
    kernel = 0.8 * VelocityKernel(adata).compute_transition_matrix(softmax_scale=2.0)
    (kernel + 0.2 * ConnectivityKernel(adata).compute_transition_matrix()).write_to_adata()
    part = adata[:40].copy()
    found = from_adata(part, "T_fwd")
    assert isinstance(found, PrecomputedKernel)
    np.testing.assert_allclose(found.transition_matrix.sum(axis=1), 1, rtol=1e-12)


# What CellRank 2.0 writes, key by key.


def written_by_cellrank(adata, key, matrix, params, init, **more):
    adata.obsp[key] = matrix
    adata.uns[f"{key}_params"] = {**more, "params": params, "init": init}


@pytest.fixture
def matrix(made):
    return ConnectivityKernel(made).compute_transition_matrix(density_normalize=False).transition_matrix.copy()


@pytest.mark.parametrize("file_format", [None, "h5ad"])
def test_cellrank_velocity(cells, matrix, tmp_path, file_format):
    params = {"model": "deterministic", "similarity": "correlation", "softmax_scale": np.float64(4.5)}
    init = {"xkey": "Ms", "vkey": "velocity", "attr": "layers", "backward": False}
    written_by_cellrank(cells, "T_fwd", matrix, params, init, embeddings=["umap"])
    adata = cells if file_format is None else through_file(cells, tmp_path, file_format)
    for kernel in (from_adata(adata, "T_fwd"), VelocityKernel.from_adata(adata, "T_fwd")):
        assert type(kernel) is VelocityKernel
        assert_same_matrix(kernel.transition_matrix, matrix)
        assert kernel.params == params
        assert kernel.backward is False
        assert "softmax_scale=4.5]" in repr(kernel)
        assert float(kernel.transition_function.softmax_scale) == pytest.approx(4.5)
    with pytest.raises(TypeError, match="found a `VelocityKernel`"):
        ConnectivityKernel.from_adata(adata, "T_fwd")


def test_cellrank_velocity_backward(cells, matrix):
    params = {"model": "stochastic", "similarity": "cosine", "softmax_scale": 4.5, "bwd_mode": "negate"}
    init = {"xkey": "Ms", "vkey": "velocity", "attr": "layers", "backward": True}
    more = {"gene_subset": ["gene_1", "gene_2", "gene_3"], "conn_key": "other", "check_symmetric": False}
    written_by_cellrank(cells, "T_bwd", matrix, params, {**init, **more})
    kernel = from_adata(cells, "T_bwd")
    assert type(kernel) is VelocityKernel
    assert kernel.backward is True
    assert kernel.params["bwd_mode"] == "negate"
    assert kernel.connectivities.nnz == cells.obsp["other"].nnz
    assert next(iter(kernel.features.values())).x.shape[1] == 3


@pytest.mark.parametrize("file_format", [None, "h5ad"])
def test_cellrank_connectivity(cells, matrix, tmp_path, file_format):
    params, init = {"dnorm": False, "key": "other"}, {"conn_key": "other", "check_connectivity": False}
    written_by_cellrank(cells, "mine", matrix, params, init)
    adata = cells if file_format is None else through_file(cells, tmp_path, file_format)
    for kernel in (from_adata(adata, "mine"), ConnectivityKernel.from_adata(adata, "mine")):
        assert type(kernel) is ConnectivityKernel
        assert_same_matrix(kernel.transition_matrix, matrix)
        assert kernel.params == params
        assert kernel.transition_function.density_normalize is False


@pytest.mark.parametrize("backward", [False, True])
def test_cellrank_combination(cells, matrix, tmp_path, backward):
    """CellRank does not say how it combined: the matrix, its direction and the parameters of the kernels remain."""
    params = {
        "VelocityKernel[n=60, softmax_scale=np.float64(4.5)]:0": {"softmax_scale": 4.5},
        "ConnectivityKernel[n=60, dnorm=True, key='connectivities']:1": {"dnorm": True, "key": "connectivities"},
    }
    written_by_cellrank(cells, "combined", matrix, params, {"backward": backward})
    adata = through_file(cells, tmp_path, "h5ad")
    for kernel in (from_adata(adata, "combined"), PrecomputedKernel.from_adata(adata, "combined")):
        assert type(kernel) is PrecomputedKernel
        assert kernel.backward is backward
        assert_same_matrix(kernel.transition_matrix, matrix)
        assert kernel.params == {**params, "origin": "adata.obsp['combined']"}


def test_cellrank_other_kernels(cells, matrix):
    """Kernels that we have not are matrices, whatever their arguments are called."""
    init = {"clone_key": "clone", "conn_key": "connectivities", "backward": False}
    written_by_cellrank(cells, "T_fwd", matrix, {"scheme": "hard"}, init)
    assert type(from_adata(cells, "T_fwd")) is PrecomputedKernel
    written_by_cellrank(cells, "T_fwd", matrix, {"origin": "array"}, {"obsp_key": "T_fwd", "backward": None})
    assert from_adata(cells, "T_fwd").backward is None


def test_cellrank_over_ours(cells, matrix):
    """CellRank replaces matrix, parameters and arguments, and leaves our description, which then is out of date."""
    VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0).write_to_adata()
    ours = cells.uns["T_fwd_params"]
    params, init = {"dnorm": False, "key": "other"}, {"conn_key": "other", "check_connectivity": False}
    written_by_cellrank(
        cells, "T_fwd", matrix, params, init, **{k: v for k, v in ours.items() if k not in ("params", "init")}
    )
    assert "kernel" in cells.uns["T_fwd_params"]
    kernel = from_adata(cells, "T_fwd")
    assert type(kernel) is ConnectivityKernel
    assert kernel.params == params


def test_what_cellrank_finds(cells):
    """Its `from_adata` passes `init` to the class and takes `params` as they are."""
    VelocityKernel(cells, backward=True).compute_transition_matrix(softmax_scale=2.0).write_to_adata()
    stored = cells.uns["T_bwd_params"]
    assert stored["init"] == {"backward": True, "attr": "layers", "xkey": "Ms", "vkey": "velocity"}
    expected = {"model": "deterministic", "similarity": "correlation", "softmax_scale": 2.0, "bwd_mode": "transpose"}
    assert stored["params"] == expected
    ConnectivityKernel(cells).compute_transition_matrix().write_to_adata("c")
    assert cells.uns["c_params"]["init"] == {"conn_key": "connectivities", "check_connectivity": False}
    assert cells.uns["c_params"]["params"] == {"dnorm": True, "key": "connectivities"}
    # Combinations are for its `PrecomputedKernel`, which takes these arguments, and else looks behind a default key.
    (0.8 * VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)).write_to_adata("combined")
    assert cells.uns["combined_params"]["init"] == {"obsp_key": "combined", "backward": False}
    (ConnectivityKernel(cells).compute_transition_matrix() * 2).write_to_adata("undirected")
    assert cells.uns["undirected_params"]["init"] == {"obsp_key": "undirected"}
    before = snapshot(cells)
    from_adata(cells, "c")
    assert snapshot(cells) == before
