import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.dynamics import _moments, first_moments, neighborhood_weights, second_moments
from jaxvelo.graph._aligned import is_aligned


def neighborhoods(graph):
    """Cells of each neighbourhood, from a dense graph."""
    return [sorted({i, *np.flatnonzero(row > 0)}) for i, row in enumerate(graph)]


@pytest.fixture
def graph():
    """Seven cells: asymmetric, a stored diagonal, a stored zero, a cell without neighbours."""
    rng = np.random.default_rng(0)
    dense = rng.random((7, 7)) * (rng.random((7, 7)) < 0.4)
    dense[3] = dense[:, 3] = 0.0
    dense[2, 2] = 0.5
    sparse = sp.coo_matrix(dense)
    row, col, data = np.append(sparse.row, 3), np.append(sparse.col, 1), np.append(sparse.data, 0.0)
    return dense, sp.coo_matrix((data, (row, col)), shape=dense.shape).tocsr()


def test_reference(shared):
    adata = ad.read_h5ad(shared / "reference/pancreas_velocity.h5ad")
    weights = neighborhood_weights(adata.obsp["connectivities"])
    for key, name in (("Ms", "spliced"), ("Mu", "unspliced")):
        moments = first_moments(weights, adata.layers[name])
        assert moments.dtype == np.float32
        np.testing.assert_allclose(moments, adata.layers[key], rtol=1e-6, atol=1e-6)


def test_weights_are_the_plain_mean_over_the_neighborhood(graph):
    dense, sparse = graph
    assert 0.0 in sparse.data
    expected = np.zeros_like(dense)
    for i, cells in enumerate(neighborhoods(dense)):
        expected[i, cells] = 1 / len(cells)
    weights = neighborhood_weights(sparse)
    np.testing.assert_allclose(weights.toarray(), expected, rtol=1e-7)
    assert weights.dtype == np.float32
    assert weights.nnz == np.count_nonzero(expected)
    np.testing.assert_array_equal(weights[3].toarray()[0], np.eye(7)[3])


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_moments(graph, form, dtype):
    dense, sparse = graph
    rng = np.random.default_rng(1)
    if dtype == np.float16:
        form = np.asarray  # there are no sparse matrices of half precision
    # Their squares do not fit into eight bits, or into half precision.
    s, u = (rng.integers(0, 256 if dtype == np.uint8 else 400, (7, 5)) * (rng.random((7, 5)) < 0.6) for _ in range(2))
    expected = {
        name: np.stack([x[cells].mean(axis=0) for cells in neighborhoods(dense)])
        for name, x in (("s", s), ("ss", s * s), ("us", u * s))
    }
    weights = neighborhood_weights(sparse)
    ss, us = second_moments(weights, form(s.astype(dtype)), form(u.astype(dtype)))
    np.testing.assert_allclose(first_moments(weights, form(s.astype(dtype))), expected["s"], rtol=1e-6)
    np.testing.assert_allclose(ss, expected["ss"], rtol=1e-6)
    np.testing.assert_allclose(us, expected["us"], rtol=1e-6)
    assert ss.dtype == us.dtype == np.float32


@pytest.mark.any_precision
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_many_genes_are_taken_some_at_a_time(monkeypatch, form):
    rng = np.random.default_rng(0)
    weights = neighborhood_weights(sp.random(50, 50, 0.2, format="csr", random_state=rng))
    counts = rng.poisson(0.5, (50, 150)).astype(np.float32)
    at_once = first_moments(weights, form(counts))
    monkeypatch.setattr(_moments, "MOST_NUMBERS", 1)
    in_blocks = first_moments(weights, form(counts))
    np.testing.assert_array_equal(in_blocks, at_once)
    assert is_aligned(in_blocks)


@pytest.mark.any_precision
def test_many_cells_are_taken_some_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    weights = neighborhood_weights(sp.random(50, 50, 0.2, format="csr", random_state=rng))
    s, u = rng.poisson(2, (2, 50, 9)).astype(np.float32)
    expected = [weights @ s, weights @ (s * s), weights @ (u * s)]
    monkeypatch.setattr(_moments, "ROWS", 7)
    for order in (None, rng.permutation(50)):
        found = [first_moments(weights, s, order), *second_moments(weights, s, u, order)]
        np.testing.assert_array_equal(found, expected)
    some = np.array([3, 4, 20, 41])
    np.testing.assert_array_equal(first_moments(weights[some], s, np.array([2, 0, 3, 1])), expected[0][some])
    assert first_moments(weights[:0], s).shape == (0, 9)


@pytest.mark.any_precision
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, sp.csr_matrix, sp.csc_matrix])
def test_no_piece_of_a_product_copies_all_counts(monkeypatch, form):
    """As SciPy does where the rows of the dense factor are not one after another."""
    given = []
    product = sp.csr_matrix.__matmul__
    monkeypatch.setattr(sp.csr_matrix, "__matmul__", lambda w, x: given.append(x) or product(w, x))
    monkeypatch.setattr(_moments, "ROWS", 7)
    monkeypatch.setattr(_moments, "MOST_NUMBERS", 50 * 64)  # genes are taken some at a time
    counts = np.random.default_rng(0).poisson(0.5, (50, 150)).astype(np.float32)
    first_moments(neighborhood_weights(sp.identity(50, format="csr")), form(counts))
    assert len(given) == 8 * 3
    assert all(x.flags.c_contiguous for x in given)
