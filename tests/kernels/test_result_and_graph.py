"""One result in two forms, one set of parameters, one graph: none can differ from another, or be out of date."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel, VelocityKernel, from_adata, read
from jaxvelo.kernels import _graph_data as graph_data
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged

DOUBLE = jax.config.jax_enable_x64


def own_product(v, displacements):
    return displacements @ v


@pytest.fixture
def restored(cells, tmp_path):
    """A kernel with a user's similarity, and what was stored of it."""
    kernel = VelocityKernel(cells).compute_transition_matrix(similarity=own_product, softmax_scale=0.1)
    kernel.write(tmp_path / "kernel.npz", write_adata=False)
    kernel.write_to_adata("mine")
    return kernel, read(tmp_path / "kernel.npz", cells), from_adata(cells, "mine")


def test_restored_without_the_similarity(cells, restored, tmp_path):
    """All but the transition function is there: matrices, parameters, walks, arrows, scores, combinations, files."""
    kernel, *found = restored
    for other in found:
        assert repr(other) == repr(kernel)
        assert other.params == kernel.params
        assert (other.transition_matrix != kernel.transition_matrix).nnz == 0
        expected = kernel.transitions.to_csr().toarray()
        np.testing.assert_allclose(other.transitions.to_csr().toarray(), expected, rtol=0, atol=1e-6)
        assert other.features.keys() == kernel.features.keys()
        np.testing.assert_array_equal(other.genes, kernel.genes)
        walks = [k.random_walks(5, 5, seed=0) for k in (other, kernel)]
        np.testing.assert_array_equal(*walks)
        scores = [k.cbc("early", "middle", "clusters", "X_pca") for k in (other, kernel)]
        np.testing.assert_allclose(*scores, rtol=1e-5)
        other.add_projection(recompute=True)
        combined = 0.5 * other + 0.5 * ConnectivityKernel(cells).compute_transition_matrix()
        assert combined.transition_matrix.shape == (N_CELLS, N_CELLS)
        assert combined.features.keys() == kernel.features.keys()
        for use in (lambda k=other: k.transition_function, lambda k=combined: k.transition_function):
            with pytest.raises(ValueError, match=r"`own_product` is a function, which is not stored.*anew with it"):
                use()
        combined.write(tmp_path / "again.npz", write_adata=False)
        assert (read(tmp_path / "again.npz", cells).transition_matrix != combined.transition_matrix).nnz == 0
        assert (~other).transition_function.similarity == "correlation"
        assert other.compute_transition_matrix(softmax_scale=2.0).transition_function.similarity == "correlation"


def test_a_function_with_a_name_of_ours(cells):
    """It is not taken for the built-in similarity, not even when it is read back."""

    def cosine(v, displacements):
        return displacements @ v

    kernel = VelocityKernel(cells).compute_transition_matrix(similarity=cosine, softmax_scale=0.1)
    assert kernel.params["similarity"] == "function cosine"
    assert kernel.transition_function.similarity is cosine
    kernel.write_to_adata("mine")
    with pytest.raises(ValueError, match="`function cosine` is a function"):
        from_adata(cells, "mine").transition_function  # noqa: B018


def test_parameters_are_those_of_the_transition_function(made):
    for arguments in (
        {"softmax_scale": 3.7},
        {"softmax_scale": np.linspace(1, 2, N_CELLS), "gene_weights": np.linspace(1, 2, 41)},
        {"model": "stochastic", "similarity": "cosine"},
        {"model": "monte_carlo", "n_samples": 7, "seed": 3},
    ):
        kernel = VelocityKernel(made).compute_transition_matrix(**arguments)
        transition_function, params = kernel.transition_function, kernel.params
        np.testing.assert_allclose(transition_function.softmax_scale, params["softmax_scale"], rtol=1e-6)
        assert transition_function.model == params["model"]
        assert transition_function.similarity == params["similarity"]
        assert transition_function.n_samples == params.get("n_samples", 1000)
        assert (transition_function.gene_weights is None) == ("gene_weights" not in params)


def test_parameters_that_are_handed_out_are_a_copy(cells):
    """What a user does with them, or with those in AnnData, changes neither the kernel nor its transition function."""
    scale, genes = np.linspace(1, 2, N_CELLS), np.linspace(1, 2, 41)
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=scale, gene_weights=genes)
    kernel.write_to_adata("mine")
    read_back = from_adata(cells, "mine")
    cells.uns["mine_params"]["params"]["gene_weights"][:] = 50.0
    cells.uns["mine_params"]["kernel"]["params"]["softmax_scale"][:] = 50.0
    for known in (kernel, read_back):
        text = repr(known)
        known.params["softmax_scale"][:] = 50.0
        known.params["gene_weights"] = None
        (1.0 * known).params[f"{known!r}:0"]["softmax_scale"] = 50.0
        assert type(known.params) is dict
        assert repr(known) == text
        np.testing.assert_array_equal(known.params["softmax_scale"], scale)
        np.testing.assert_allclose(known.transition_function.softmax_scale, scale, rtol=1e-6)
        np.testing.assert_allclose(known.transition_function.gene_weights, genes, rtol=1e-6)


@pytest.mark.parametrize("kind", ["velocity", "connectivity", "precomputed", "sum", "beyond the graph"])
def test_two_forms_of_one_result(cells, kind):
    v, c = VelocityKernel(cells), ConnectivityKernel(cells).compute_transition_matrix()
    p = PrecomputedKernel(sp.csr_matrix(c.transition_matrix @ c.transition_matrix), cells)
    kernel = {
        "velocity": v, "connectivity": c, "precomputed": p, "sum": 0.8 * v + 0.2 * c, "beyond the graph": v + p,
    }[kind]  # fmt: skip
    for scale in (2.0, 5.0):
        v.compute_transition_matrix(softmax_scale=scale)
        matrix = kernel.transition_matrix
        assert kernel.transition_matrix is matrix
        assert kernel.transitions is kernel.transitions
        found = kernel.transitions.to_csr().toarray()
        np.testing.assert_allclose(found, matrix.toarray(), rtol=0, atol=1e-15 if DOUBLE else 1e-7)


@pytest.mark.parametrize("kind", ["velocity", "connectivity", "precomputed", "of a kernel", "sum", "beyond the graph"])
@pytest.mark.parametrize("source", ["computed", "copy", "file", "AnnData"])
def test_the_matrix_is_read_only(cells, kind, source, tmp_path):
    """A change of it would not reach the pytree."""
    v = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    c = ConnectivityKernel(cells).compute_transition_matrix()
    p = PrecomputedKernel(sp.csr_matrix(c.transition_matrix @ c.transition_matrix), cells)
    kernel = {
        "velocity": v, "connectivity": c, "precomputed": p, "of a kernel": PrecomputedKernel(v),
        "sum": 0.8 * v + 0.2 * c, "beyond the graph": v + p,
    }[kind]  # fmt: skip
    expected = kernel.transition_matrix.toarray()
    if source == "copy":
        kernel = kernel.copy()
    elif source == "file":
        kernel.write(tmp_path / "kernel.npz", write_adata=False)
        kernel = read(tmp_path / "kernel.npz", cells)
    elif source == "AnnData":
        kernel.write_to_adata("mine")
        kernel = from_adata(cells, "mine")
    for known in (kernel, *kernel.kernels):
        for name in ("data", "indices", "indptr"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(known.transition_matrix, name)[:] = 0
    own = kernel.transition_matrix.copy()
    own.data[:] = 0
    np.testing.assert_array_equal(kernel.transition_matrix.toarray(), expected)
    np.testing.assert_allclose(kernel.transitions.row_sums(), 1, rtol=0, atol=1e-6)


def test_graph_of_a_combination_is_built_once(cells, monkeypatch):
    v = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    c = ConnectivityKernel(cells).compute_transition_matrix()
    o = ConnectivityKernel(cells, conn_key="other").compute_transition_matrix()
    built = []
    build = graph_data.graph_and_layout
    monkeypatch.setattr(
        graph_data, "graph_and_layout", lambda *args, **options: built.append(args) or build(*args, **options)
    )
    one_graph = 0.8 * v + 0.2 * c
    assert one_graph.graph is v.graph
    one_graph.add_projection()
    assert one_graph.transitions.graph is v.graph
    assert len(built) == 0
    two_graphs = 0.8 * v + 0.2 * o
    two_graphs.add_projection("umap3d")
    assert two_graphs.transitions.graph is two_graphs.graph
    two_graphs.transition_function(two_graphs.graph, two_graphs.features)
    v.compute_transition_matrix(softmax_scale=3.0)
    assert two_graphs.transitions.graph is two_graphs.graph
    assert len(built) == 1


def test_kernels_on_one_matrix_share_its_graph(cells):
    v, c, other = VelocityKernel(cells), ConnectivityKernel(cells), ConnectivityKernel(cells.copy())
    assert v.graph_data is c.graph_data is other.graph_data
    assert ConnectivityKernel(cells, conn_key="other").graph_data is not c.graph_data


def test_graphs_of_two_precisions(cells):
    before = ConnectivityKernel(cells).compute_transition_matrix()
    with jax.enable_x64(not DOUBLE):
        now = ConnectivityKernel(cells).compute_transition_matrix()
        assert now.graph_data is not before.graph_data
        assert now.transitions.values[0].dtype == (np.float32 if DOUBLE else np.float64)
    np.testing.assert_allclose(now.transition_matrix.toarray(), before.transition_matrix.toarray(), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_graph_in_the_precision_of_the_moment(cells):
    """A graph that is first asked for in single precision is not handed out in double precision."""
    with jax.enable_x64(True):
        before = ConnectivityKernel(cells, conn_key="other")
    with jax.enable_x64(False):
        single = before.graph
        assert single.edges["other"].values[0].dtype == np.float32
        assert before.compute_transition_matrix().transitions.values[0].dtype == np.float32
        assert before.graph_data.values_of(before.transition_matrix)[0].dtype == np.float32
    with jax.enable_x64(True):
        now = ConnectivityKernel(cells, conn_key="other")
        for kernel in (now, before):
            assert kernel.graph.edges["other"].values[0].dtype == np.float64
            assert kernel.compute_transition_matrix().transitions.values[0].dtype == np.float64
        assert now.graph is before.graph
    with jax.enable_x64(False):
        assert before.graph is single


@pytest.mark.parametrize("change", ["values in place", "pattern", "other matrix"])
def test_shared_graphs_do_not_get_stale(cells, change):
    before = ConnectivityKernel(cells).compute_transition_matrix(density_normalize=False)
    expected = before.transition_matrix.toarray()
    if change == "values in place":
        cells.obsp["connectivities"].data[3] *= 2
    elif change == "pattern":
        matrix = cells.obsp["connectivities"].tolil()
        matrix[0, 30] = matrix[30, 0] = 1
        cells.obsp["connectivities"] = matrix.tocsr()
    else:
        cells.obsp["connectivities"] = cells.obsp["other"]
    weights = cells.obsp["connectivities"].toarray()
    now = ConnectivityKernel(cells).compute_transition_matrix(density_normalize=False)
    assert now.graph_data is not before.graph_data
    found = now.transition_matrix.toarray()
    np.testing.assert_allclose(found, weights / weights.sum(axis=1, keepdims=True), rtol=0, atol=1e-7)
    np.testing.assert_array_equal(
        before.compute_transition_matrix(density_normalize=False).transition_matrix.toarray(), expected
    )
    with pytest.raises(ValueError, match="read-only"):
        now.connectivities.data[:] = 1


def test_graphs_go_with_their_kernels(cells):
    kernel = ConnectivityKernel(cells)
    assert kernel.graph_data in graph_data._in_use
    gc.collect()
    n_before = len(graph_data._in_use)
    cells.obsp["connectivities"] = cells.obsp["connectivities"] * 0.5
    other = ConnectivityKernel(cells).compute_transition_matrix()
    assert len(graph_data._in_use) == n_before + 1
    del other
    gc.collect()
    assert len(graph_data._in_use) == n_before


def test_walks_without_a_picture(cells):
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    with unchanged(cells):
        walks = kernel.random_walks(4, 10, seed=0, start_ixs={"clusters": "early"}, stop_ixs={"clusters": "late"})
    assert len(walks) == 4
    assert all((cells.obs["clusters"].iloc[walk[0]] == "early") and len(walk) <= 11 for walk in walks)
    with pytest.raises(RuntimeError, match="Compute transition matrix first"):
        VelocityKernel(cells).random_walks()


def test_kernels_are_made_in_several_threads(monkeypatch):
    """The living ones are looked through while others are added: many of them, with a pause in each comparison."""
    matrices = [sp.csr_matrix(sp.eye_array(5) * (i + 1.0)) for i in range(20)]
    compare = graph_data.same_matrix

    def slowly(a, b):
        time.sleep(1e-4)
        return compare(a, b)

    monkeypatch.setattr(graph_data, "same_matrix", slowly)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: graph_data.GraphData.shared("own", matrices[i // 5]), range(100)))
    assert len({id(data) for data in made}) == 20


def test_weights_of_cells_do_not_change_behind_a_result(cells):
    """Nor do they belong to other annotated data than their kernel."""
    kernel = VelocityKernel(cells).compute_transition_matrix()
    scaled = np.linspace(0.1, 1.0, N_CELLS) * kernel
    with pytest.raises(ValueError, match="read-only"):
        scaled.weight[:] = 1.0
    other = cells.copy()
    scaled.adata = other
    assert scaled[0].adata is other
    assert kernel.adata is other
