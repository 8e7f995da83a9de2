"""What users feel: how often something is compiled."""

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo import pp, tl
from jaxvelo.estimators import GPCCA
from jaxvelo.graph import NeighborGraph
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from jaxvelo.markov import expected_displacement, project
from jaxvelo.transitions import Connectivity, Features, TransitionFunction, Velocity


def cells(n_cells: int, n_genes: int, seed: int) -> AnnData:
    """Random cells with the degrees of a symmetric neighbour graph."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(size=(n_cells, 2))
    distance = ((positions[:, None] - positions[None]) ** 2).sum(axis=2)
    near = np.argsort(distance, axis=1)[:, 1:16]
    graph = sp.csr_matrix((np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, 15)), shape=(n_cells, n_cells))
    layers = {"Ms": rng.random((n_cells, n_genes)), "velocity": rng.normal(size=(n_cells, n_genes))}
    return AnnData(np.zeros((n_cells, n_genes)), layers=layers, obsp={"connectivities": graph.maximum(graph.T)})


def part(adata: AnnData, n_cells: int, n_genes: int) -> AnnData:
    return adata[:n_cells, :n_genes].copy()


def test_a_second_data_set_compiles_nothing_or_one_program(compilations):
    data = cells(640, 50, 0)
    first = VelocityKernel(data).compute_transition_matrix()
    assert len(compilations) >= 1
    compilations.clear()

    similar = VelocityKernel(part(data, 632, 49)).compute_transition_matrix()
    assert similar.shape == (632, 632)
    assert [c.shape for c in similar.graph.columns] == [c.shape for c in first.graph.columns]
    assert compilations == []

    other = VelocityKernel(cells(400, 70, 2))
    known = {c.shape for c in first.graph.columns}
    new_shapes = {c.shape for c in other.graph.columns} - known
    other.compute_transition_matrix()
    assert 1 <= len(compilations) <= len(new_shapes)

    compilations.clear()
    other.compute_transition_matrix()
    first.compute_transition_matrix()
    assert compilations == []


def to_fates(adata: AnnData) -> np.ndarray:
    """Fates of cells by velocities of their counts: those of the first and of the last cells."""
    pp.moments(adata, enforce=False)
    tl.velocity(adata)
    velocity = VelocityKernel(adata).compute_transition_matrix(model="stochastic")
    connected = ConnectivityKernel(adata).compute_transition_matrix()
    kernel = (0.8 * velocity + 0.2 * connected).compute_transition_matrix()
    names = list(adata.obs_names)
    estimator = GPCCA(kernel).set_terminal_states({"first": names[:9], "last": names[-9:]})
    return estimator.compute_fate_probabilities().fate_probabilities.X


def test_from_counts_to_fates_a_second_data_set_compiles_nothing(compilations):
    data = cells(640, 50, 0)
    rng = np.random.default_rng(0)
    for name in ("spliced", "unspliced"):
        data.layers[name] = rng.poisson(3.0, data.shape).astype(np.float32)
    first, second = data.copy(), part(data, 632, 49)
    to_fates(first)
    assert 1 <= len(compilations) <= 5  # two kernels, their combination, and two steps of arrays
    compilations.clear()
    np.testing.assert_allclose(to_fates(second).sum(axis=1), 1, rtol=1e-5)
    assert compilations == []


class EvenToAll(TransitionFunction):
    """A transition function of one's own that asks for the number of cells."""

    def probabilities(self, pattern, edges, data, key):
        dtype = edges["connectivities"].values[0].dtype
        return tuple(jnp.where(mask, 1 / pattern.n_cells.astype(dtype), 0) for mask in pattern.mask)


def test_the_number_of_cells_is_a_value(compilations):
    data = cells(640, 2, 0)
    graphs = [NeighborGraph.from_csr(part(data, n, 2).obsp["connectivities"]) for n in (640, 632)]
    assert len({tuple(c.shape for c in graph.columns) for graph in graphs}) == 1
    for graph in graphs:
        found = EvenToAll()(graph).values
        np.testing.assert_allclose(np.max(found[0]), 1 / graph.n_cells, rtol=1e-6)
        assert len([p for p in compilations if "_evaluate" in p]) == 1


def test_names_that_are_not_read_do_not_count(compilations):
    """Neither of edges that stand beside, nor of data; a program knows the names that its transition function reads."""
    matrix = cells(640, 2, 0).obsp["connectivities"]
    other = sp.csr_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    rng = np.random.default_rng(0)
    x, v = (jnp.asarray(rng.normal(size=(640, 5)), dtype=float) for _ in range(2))
    features = Features(x, v)
    alone = NeighborGraph.from_csr({"connectivities": matrix})
    beside = NeighborGraph.from_csr({"connectivities": matrix, "precomputed": other})
    renamed = NeighborGraph.from_csr({"other": matrix})
    transition_function = 0.8 * Velocity(2.0) + 0.2 * Connectivity()

    def use(graph, data):
        connected, mixed = Connectivity()(graph, data), transition_function(graph, data)
        return connected @ x[:, 0], x[:, 0] @ connected, mixed @ x, expected_displacement(mixed, x), project(mixed, x)

    expected = use(alone, {"velocity": features})
    assert len(compilations) > 4
    compilations.clear()
    for one, another in zip(use(beside, {"velocity": features, "time": x[:, 0]}), expected, strict=True):
        assert np.array_equal(one, another)
    assert compilations == []
    transitions = Connectivity(edges="other")(renamed)
    compilations.clear()
    assert np.array_equal(transitions @ x[:, 0], expected[0])
    assert np.array_equal(x[:, 0] @ transitions, expected[1])
    project(transitions, x, "other")
    assert compilations == []
