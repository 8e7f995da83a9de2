"""The one loop over the rows of a graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph, map_rows
from tests.graph.graphs import messy_graphs

GRAPHS = messy_graphs()


def spread(own, others, edge, weight):
    """Weighted sum of differences to the neighbours, and their number."""
    (place, nothing), (places, _) = own, others
    assert nothing is None
    return jnp.where(edge, weight, 0) @ (places - place[None]), jnp.sum(edge)


@pytest.mark.parametrize("block_bytes", [1, 500, None])
@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "one cell"])
def test_a_function_of_one_row(name, block_bytes):
    matrix = GRAPHS[name]
    graph = NeighborGraph.from_csr(matrix, block_bytes=block_bytes)
    weights = graph.edges["connectivities"].values
    x = np.random.default_rng(0).normal(size=(matrix.shape[0], 3)).astype(weights[0].dtype)

    @jax.jit
    def loop(graph, x):
        return map_rows(spread, graph.pattern, (x, None), graph.mask, graph.edges["connectivities"].values)

    sums, counts = (graph.gather_rows(of_rows) for of_rows in loop(graph, jnp.asarray(x)))
    expected = matrix @ x - np.asarray(matrix.sum(axis=1)) * x
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(counts, np.diff(matrix.indptr))


@pytest.mark.parametrize("block_bytes", [1, None])
def test_gradients(block_bytes):
    matrix = GRAPHS["usual"]
    graph = NeighborGraph.from_csr(matrix, block_bytes=block_bytes)
    x = jnp.asarray(np.random.default_rng(0).normal(size=40), dtype=float)[:, None]

    def half_of_squares(x):
        sums = map_rows(lambda _, others, w: w @ others, graph.pattern, x, graph.edges["connectivities"].values)
        return jnp.sum(graph.gather_rows(sums) ** 2) / 2

    dense = matrix.toarray()
    np.testing.assert_allclose(jax.grad(half_of_squares)(x), dense.T @ (dense @ x), rtol=1e-4, atol=1e-5)


def test_blocks_are_of_the_size_that_is_asked_for():
    """Each block is one step of a loop: as many as the rows need, and never more than fit."""
    graph = NeighborGraph.from_csr(GRAPHS["usual"])
    (columns,) = graph.columns
    x = jnp.ones((40, 2))
    slot_bytes = 2 * x.dtype.itemsize
    for rows in (1, 4, 40):
        asked = NeighborGraph.from_csr(GRAPHS["usual"], block_bytes=rows * columns.shape[1] * slot_bytes)

        def loop(pattern, x):
            return map_rows(lambda own, others: own + jnp.sum(others, axis=0), pattern, x)

        (scan,) = [e for e in jax.make_jaxpr(loop)(asked.pattern, x).eqns if e.primitive.name == "scan"]
        assert scan.params["length"] == 40 // rows
