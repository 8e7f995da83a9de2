"""Matrices on edges that are not stochastic, and what all such matrices share."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import EdgeMatrix, NeighborGraph, TransitionMatrix
from tests.graph.graphs import messy_graphs, random_graph

GRAPHS = messy_graphs()


def signed(name):
    matrix = GRAPHS[name].copy()
    matrix.data = matrix.data - 0.5
    graph = NeighborGraph.from_csr(matrix)
    return EdgeMatrix(graph, graph.edges["connectivities"].values), matrix


@pytest.mark.parametrize("name", GRAPHS)
def test_products_and_rows(name):
    weights, matrix = signed(name)
    n_cells, dense = matrix.shape[0], matrix.toarray()
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(weights.to_csr().toarray(), dense, **tolerance)
    np.testing.assert_allclose(weights.rows(np.arange(n_cells)), dense, **tolerance)
    np.testing.assert_allclose(weights.row_sums(), dense.sum(axis=1), **tolerance)
    np.testing.assert_allclose(weights.row_dot(weights.values), (dense**2).sum(axis=1), **tolerance)
    y = np.random.default_rng(0).normal(size=(n_cells, 3)).astype(weights.values[0].dtype)
    np.testing.assert_allclose(weights @ y, dense @ y, **tolerance)
    np.testing.assert_allclose(y.T @ weights, y.T @ dense, **tolerance)


def test_only_normalised_rows_make_a_transition_matrix():
    weights, _ = signed("usual")
    transitions = EdgeMatrix(weights.graph, tuple(jnp.abs(v) for v in weights.values)).normalize()
    assert isinstance(transitions, TransitionMatrix)
    assert not isinstance(weights, TransitionMatrix)
    np.testing.assert_allclose(transitions.row_sums(), 1, rtol=1e-5)


def test_without_names():
    """The same matrix, also where a cell stays as it has no neighbours under one name but some under another."""
    first = sp.csr_matrix(GRAPHS["usual"].multiply((np.arange(40) != 5)[:, None]))
    first.eliminate_zeros()
    graph = NeighborGraph.from_csr({"first": first, "second": random_graph(40, 6, 7)})
    own = tuple(
        jnp.where((c == 5) & (r == 5)[:, None] & ~m, 1, v)
        for r, c, m, v in zip(graph.rows, graph.columns, graph.mask, graph.edges["first"].values, strict=True)
    )
    matrix = EdgeMatrix(graph, own)
    assert matrix.bare.graph.edges == {}
    assert matrix.to_csr()[5, 5] != 0
    assert (matrix.bare.to_csr() != matrix.to_csr()).nnz == 0


def test_further_values_change_no_edge():
    graph = NeighborGraph.from_csr(GRAPHS["isolated cells"])
    edges = graph.edges["connectivities"]
    further = graph.with_edges({"further": type(edges)(edges.values, tuple(jnp.ones_like(m) for m in edges.mask))})
    assert set(further.edges) == {"connectivities", "further"}
    assert set(graph.edges) == {"connectivities"}
    assert all(a is b for a, b in zip(further.mask, graph.mask, strict=True))
