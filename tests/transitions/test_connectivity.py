"""Connectivities and precomputed probabilities against plain NumPy."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Connectivity, Precomputed
from tests.transitions import plain
from tests.transitions.examples import KINDS, example

ATOL = 1e-14 if jax.config.jax_enable_x64 else 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density_normalize", [True, False])
def test_connectivity(density_normalize, kind):
    matrix, _, _ = example(kind)
    found = Connectivity(density_normalize)(NeighborGraph.from_csr(matrix)).to_csr().toarray()
    expected = plain.connectivity(*plain.dense(matrix), density_normalize)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_cells_that_are_nobodys_neighbors_keep_their_weights():
    matrix, _, _ = example("asymmetric")
    found = Connectivity()(NeighborGraph.from_csr(matrix)).to_csr().toarray()
    values = matrix.toarray()
    (lonely,) = np.nonzero(values.sum(axis=0) == 0)
    assert len(lonely)
    density = values.sum(axis=0)
    for i in lonely:
        neighbors = np.flatnonzero(values[i])
        expected = values[i, neighbors] / density[neighbors]
        np.testing.assert_allclose(found[i, neighbors], expected / expected.sum(), rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_precomputed(kind):
    matrix, _, _ = example(kind)
    found = Precomputed("given")(NeighborGraph.from_csr({"given": matrix})).to_csr().toarray()
    np.testing.assert_allclose(found, plain.connectivity(*plain.dense(matrix), False), rtol=0, atol=ATOL)


def test_named_edges():
    """Each transition function normalises over its own edges, not over those of the graph."""
    one, other = example("asymmetric")[0], example("isolated", seed=1)[0]
    graph = NeighborGraph.from_csr({"one": one, "other": other})
    for name, matrix in (("one", one), ("other", other)):
        found = Connectivity(edges=name)(graph).to_csr().toarray()
        np.testing.assert_allclose(found, plain.connectivity(*plain.dense(matrix), True), rtol=0, atol=ATOL)
    empty = sp.csr_matrix(one.shape)
    graph = NeighborGraph.from_csr({"one": one, "none": empty})
    np.testing.assert_array_equal(Connectivity(edges="none")(graph).to_csr().toarray(), np.eye(one.shape[0]))
