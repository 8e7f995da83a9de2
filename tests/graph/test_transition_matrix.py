import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from tests.graph.graphs import messy_graphs

GRAPHS = messy_graphs()


def chain(name):
    """Rows of the weights normalised, the plain way: zero rows uniform over the entries, empty rows stay."""
    matrix = GRAPHS[name]
    graph = NeighborGraph.from_csr(matrix)
    transitions = TransitionMatrix(graph, graph.edges["connectivities"].values).normalize()
    n = matrix.shape[0]
    dense, stored = matrix.toarray(), np.zeros(matrix.shape, dtype=bool)
    stored[np.repeat(np.arange(n), np.diff(matrix.indptr)), matrix.indices] = True
    for i in range(n):
        if dense[i].sum() == 0:
            dense[i] = stored[i] if stored[i].any() else np.eye(n)[i]
    return transitions, dense / dense.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", GRAPHS)
def test_products_rows_and_csr(name):
    transitions, dense = chain(name)
    n = len(dense)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(transitions.to_csr().toarray(), dense, **tolerance)
    np.testing.assert_allclose(transitions.rows(np.arange(n)), dense, **tolerance)
    np.testing.assert_allclose(transitions.row_sums(), np.ones(n), rtol=1e-5)
    rng = np.random.default_rng(0)
    dtype = transitions.values[0].dtype
    for features in (rng.random(n).astype(dtype), rng.random((n, 4)).astype(dtype)):
        np.testing.assert_allclose(transitions @ features, dense @ features, **tolerance)
        np.testing.assert_allclose(features.T @ transitions, features.T @ dense, **tolerance)
        np.testing.assert_allclose(jnp.asarray(features.T) @ transitions, features.T @ dense, **tolerance)


def test_zeros_are_left_out_or_kept():
    transitions, dense = chain("explicit zeros")
    stored = GRAPHS["explicit zeros"].nnz + np.count_nonzero(np.diff(GRAPHS["explicit zeros"].indptr) == 0)
    assert transitions.to_csr().nnz == np.count_nonzero(dense)
    assert transitions.to_csr(eliminate_zeros=False).nnz == stored


def test_row_dot():
    transitions, dense = chain("usual")
    squares = tuple(v**2 for v in transitions.values)
    np.testing.assert_allclose(transitions.row_dot(squares), (dense**3).sum(axis=1), rtol=1e-5)


def test_is_a_pytree_and_differentiable():
    transitions, dense = chain("usual")
    y = jnp.linspace(0, 1, 40)

    @jax.jit
    def loss(transitions):
        return jnp.sum(transitions.normalize() @ y)

    gradient = jax.grad(loss, allow_int=True)(transitions)
    assert all(np.isfinite(g).all() for g in gradient.values)
    np.testing.assert_allclose(loss(transitions), (dense @ np.linspace(0, 1, 40)).sum(), rtol=1e-5)
