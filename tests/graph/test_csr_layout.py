"""Where the entries of CSR matrices stand among the slots: found beforehand, and from the arrays of a graph."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import EdgeMatrix
from jaxvelo.graph._csr_layout import CsrLayout
from jaxvelo.graph._neighbor_graph import graph_and_layout
from tests.graph.graphs import messy_graphs, random_graph

GRAPHS = messy_graphs()
ISOLATED = sp.csr_matrix(GRAPHS["usual"].multiply((np.arange(40) % 13 > 0)[:, None]))
ISOLATED.eliminate_zeros()
NAMED = {name: {"connectivities": matrix} for name, matrix in GRAPHS.items()} | {
    "two names": {"a": GRAPHS["usual"], "b": random_graph(40, 3, 5)},
    "one within the other": {"a": GRAPHS["all to all"], "b": GRAPHS["usual"]},
    "isolated in one": {"a": GRAPHS["usual"], "b": ISOLATED},
    "isolated in both": {"a": GRAPHS["isolated cells"], "b": ISOLATED},
    "isolated, with a diagonal": {"a": GRAPHS["stored diagonal"], "b": ISOLATED},
}


@pytest.mark.parametrize("name", NAMED)
def test_layout_that_comes_with_a_graph(name):
    """Its entries are the edges, in the order of CSR, and a diagonal entry for each cell that may stay."""
    matrices = NAMED[name]
    graph, layout = graph_and_layout(matrices)
    n_cells = graph.n_cells
    stored = sum((matrix != 0).astype(int) for matrix in _ones(matrices)) > 0
    stays = np.any([np.diff(m.indptr) == 0 for m in matrices.values()], axis=0)
    expected = sp.csr_matrix(stored + sp.diags_array(stays.astype(float)) > 0)
    expected.sort_indices()
    assert np.array_equal(layout.indptr, expected.indptr)
    assert np.array_equal(layout.indices, expected.indices)
    row = np.repeat(np.arange(n_cells), np.diff(layout.indptr))
    is_stored = np.asarray(stored.todense(), dtype=bool)
    assert np.array_equal(layout.is_edge, is_stored[row, layout.indices])
    rows = np.concatenate(
        [np.repeat(np.asarray(r), c.shape[1]) for r, c in zip(graph.rows, graph.columns, strict=True)]
    )
    columns = np.concatenate([np.asarray(c).ravel() for c in graph.columns])
    assert np.array_equal(rows[layout.slots], row)
    assert np.array_equal(columns[layout.slots], layout.indices)
    assert np.array_equal(np.concatenate([np.asarray(m).ravel() for m in graph.mask])[layout.slots], layout.is_edge)


def _ones(matrices):
    return [sp.csr_matrix((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape) for m in matrices.values()]


@pytest.mark.parametrize("name", NAMED)
def test_layout_from_the_arrays_of_a_graph(name):
    graph, expected = graph_and_layout(NAMED[name])
    kept = [np.zeros(columns.shape, dtype=bool) for columns in graph.columns]
    for slot in expected.slots:
        bucket = 0
        while slot >= kept[bucket].size:
            slot -= kept[bucket].size
            bucket += 1
        kept[bucket].flat[slot] = True
    found = CsrLayout.of_slots(graph.rows, graph.columns, kept, graph.mask, graph.position)
    for part in ("indptr", "indices", "slots", "is_edge"):
        assert np.array_equal(getattr(found, part), getattr(expected, part)), part


@pytest.mark.parametrize("name", NAMED)
def test_each_name_keeps_its_values(name):
    graph, _ = graph_and_layout(NAMED[name], dtype=np.float32)
    assert set(graph.edges) == set(NAMED[name])
    for key, matrix in NAMED[name].items():
        found = graph.to_csr(key)
        assert np.array_equal(found.indptr, matrix.indptr)
        assert np.array_equal(found.indices, matrix.indices)
        np.testing.assert_allclose(found.data, matrix.data, rtol=1e-6)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("eliminate_zeros", [False, True])
def test_both_ways_to_csr_agree(name, eliminate_zeros):
    graph, layout = graph_and_layout(NAMED[name])
    rng = np.random.default_rng(0)
    values = [np.where(mask, rng.integers(-1, 2, mask.shape), 0).astype(float) for mask in map(np.asarray, graph.mask)]
    expected = layout.to_csr(tuple(values), eliminate_zeros)
    found = EdgeMatrix(graph, tuple(values)).to_csr(eliminate_zeros)
    assert np.array_equal(found.indptr, expected.indptr)
    assert np.array_equal(found.indices, expected.indices)
    assert np.array_equal(found.data, expected.data)
    assert eliminate_zeros == (found.data != 0).all() or not len(found.data)


@pytest.mark.parametrize("name", NAMED)
def test_values_of_a_matrix_in_the_slots(name):
    """There and back; and nothing, where an entry has no slot."""
    graph, layout = graph_and_layout(NAMED[name])
    shapes = [columns.shape for columns in graph.columns]
    data = np.random.default_rng(0).random(len(layout.indices)) + 1
    matrix = sp.csr_matrix((data, layout.indices, layout.indptr), shape=graph.shape)
    values = layout.to_slots(matrix, shapes, np.dtype(np.float64))
    assert [value.shape for value in values] == shapes
    assert sum(np.count_nonzero(value) for value in values) == len(data)
    assert (layout.to_csr(values, eliminate_zeros=True) != matrix).nnz == 0
    elsewhere = np.argwhere(matrix.toarray() == 0)
    if len(elsewhere):
        i, j = elsewhere[len(elsewhere) // 2]
        other = sp.csr_matrix(([1.0], ([i], [j])), shape=graph.shape)
        assert layout.to_slots(other, shapes, np.dtype(np.float64)) is None
