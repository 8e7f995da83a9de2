import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph, neighborhood_moments
from tests.graph.graphs import messy_graphs, random_graph

GRAPHS = messy_graphs()


def same(a, b):
    return (
        np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices) and np.array_equal(a.data, b.data)
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_round_trip_is_exact(name):
    matrix = GRAPHS[name].astype(np.float32).astype(np.float64)
    assert same(NeighborGraph.from_csr(matrix).to_csr(), matrix)


@pytest.mark.parametrize("name", GRAPHS)
def test_padding_points_to_the_own_cell(name):
    graph = NeighborGraph.from_csr(GRAPHS[name])
    for rows, columns, mask in zip(graph.rows, graph.columns, graph.mask, strict=True):
        rows, columns, mask = map(np.asarray, (rows, columns, mask))
        assert (columns[~mask] == np.broadcast_to(rows[:, None], mask.shape)[~mask]).all()
        assert ((columns >= 0) & (columns < graph.n_cells)).all()
    assert graph.n_rows - graph.n_cells == graph.n_unused_rows
    assert graph.n_unused_rows == (2 if name == "rows left over" else 0)
    assert not np.asarray(graph.mask[0])[: graph.n_unused_rows].any()


@pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "coo_array", "lil_matrix", "dia_matrix"])
@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float32])
def test_any_format_and_type(form, dtype):
    usual = (GRAPHS["usual"] * 10).astype(dtype)
    usual.eliminate_zeros()
    graph = NeighborGraph.from_csr(getattr(sp, form)(usual))
    assert same(graph.to_csr(), usual.astype(np.float64))


def test_unsorted_and_repeated_entries_are_joined_and_the_argument_kept():
    data = np.array([1.0, 2.0, 4.0, 8.0])
    matrix = sp.csr_matrix((data, np.array([2, 0, 2, 1]), np.array([0, 3, 4, 4])), shape=(3, 3))
    before = matrix.copy()
    graph = NeighborGraph.from_csr(matrix)
    np.testing.assert_array_equal(graph.to_csr().toarray(), [[2, 0, 5], [0, 8, 0], [0, 0, 0]])
    assert np.array_equal(matrix.indices, before.indices)
    assert np.array_equal(matrix.data, before.data)


def test_union_of_patterns_keeps_each_matrix_apart():
    first, second = random_graph(60, 5, 1), random_graph(60, 3, 2)
    first = sp.csr_matrix(first.multiply((np.arange(60) != 5)[:, None]))
    first.eliminate_zeros()
    graph = NeighborGraph.from_csr({"first": first, "second": second})
    for name, matrix in (("first", first), ("second", second)):
        found = graph.to_csr(name)
        assert np.array_equal(found.indices, matrix.indices)
        np.testing.assert_allclose(found.data, matrix.data, rtol=1e-6)
    # Cell 5 stays where it is in the first matrix: the union holds a slot of its own.
    row = int(np.asarray(graph.position)[5])
    columns = np.concatenate([np.asarray(c).ravel() for c in graph.columns])
    starts = np.concatenate([np.arange(c.shape[0]) * c.shape[1] + base for c, base in _bases(graph)])
    width = np.concatenate([np.full(c.shape[0], c.shape[1]) for c in graph.columns])[row]
    assert 5 in columns[starts[row] : starts[row] + width]


def _bases(graph):
    base = 0
    for columns in graph.columns:
        yield columns, base
        base += columns.size


@pytest.mark.parametrize("name", [n for n in GRAPHS if n != "one cell"])
def test_moments_equal_a_plain_mean_and_variance(name):
    matrix = GRAPHS[name]
    n_cells = matrix.shape[0]
    values = np.random.default_rng(0).normal(size=(n_cells, 3)) + 10
    member = (matrix.toarray() > 0) | np.eye(n_cells, dtype=bool)
    graph = NeighborGraph.from_csr(matrix)
    weights = graph.edges["connectivities"].values
    means, variances = neighborhood_moments(graph.pattern, weights, jnp.asarray(values, weights[0].dtype))
    mean, variance = (np.asarray(graph.gather_rows(m)) for m in (means, variances))
    np.testing.assert_allclose(mean, [values[row].mean(axis=0) for row in member], rtol=1e-6)
    np.testing.assert_allclose(variance, [values[row].var(axis=0) for row in member], rtol=1e-4, atol=2e-5)
