import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxvelo.dynamics import transition_coherence, velocity_coherence
from jaxvelo.graph import EdgeMatrix, NeighborGraph
from tests.dynamics import plain
from tests.finite_differences import check_gradient


def example(n_cells=70, n_genes=9):
    """Cells with few and many neighbours, or none; two velocities have no direction."""
    rng = np.random.default_rng(0)
    pattern = rng.random((n_cells, n_cells)) < rng.choice([0.02, 0.2, 0.6], size=(n_cells, 1))
    np.fill_diagonal(pattern, False)
    pattern[5] = False
    v = rng.normal(size=(n_cells, n_genes)) + 3
    v[7], v[8] = 0, 0.1
    return pattern, v


def graph_of(pattern):
    return NeighborGraph.from_csr(sp.csr_matrix(pattern.astype(float)))


def test_equals_numpy():
    pattern, v = example()
    length, mean = velocity_coherence(graph_of(pattern), jnp.asarray(v, dtype=float))
    v[8] = 0  # the rounding of its mean is no direction
    expected_length, expected = plain.coherence(pattern, v)
    atol = 1e-12 if jax.config.jax_enable_x64 else 1e-5
    np.testing.assert_allclose(length, expected_length, atol=atol)
    np.testing.assert_allclose(mean, expected, atol=atol)
    assert not np.asarray(length)[[7, 8]].any()
    assert not np.asarray(mean)[[5, 7, 8]].any()


def test_equal_velocities_agree():
    pattern, v = example()
    v[:] = np.arange(9)
    mean = np.asarray(velocity_coherence(graph_of(pattern), jnp.asarray(v, dtype=float))[1])
    np.testing.assert_allclose(mean[pattern.any(axis=1)], 1, rtol=1e-5)


def test_gradient():
    pattern, v = example(20)
    v[7:9] += np.random.default_rng(3).normal(size=(2, 9))

    def objective(v, graph):
        length, mean = velocity_coherence(graph, v)
        return jnp.sum(length) + jnp.sum(mean**2)

    check_gradient(objective, v, arguments=(graph_of(pattern),))


def test_gradient_is_finite_without_direction():
    pattern, v = example()
    gradient = jax.grad(lambda v: jnp.sum(velocity_coherence(graph_of(pattern), v)[1]))(jnp.asarray(v, dtype=float))
    assert np.isfinite(gradient).all()


def transitions(n_cells=20):
    pattern, v = example(n_cells)
    graph = graph_of(pattern * np.random.default_rng(1).random(pattern.shape))
    return EdgeMatrix(graph, graph.edges["connectivities"].values), np.random.default_rng(2).random(v.shape), v


def test_transitions_equal_numpy():
    """Also of large expression, which nothing is lost of; without transitions or direction there is no agreement."""
    matrix, x, v = transitions()
    dense = matrix.to_csr().toarray()
    x[:] += 1000
    found = np.asarray(transition_coherence(matrix, jnp.asarray(x, dtype=float), jnp.asarray(v, dtype=float)))
    moved = np.array([row @ (x - x[i]) for i, row in enumerate(dense)])
    v[8] = 0
    expected = [plain.correlation(a, b) for a, b in zip(moved, v, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9 if jax.config.jax_enable_x64 else 1e-3)
    assert not found[[5, 7, 8]].any()


def test_gradient_of_transitions():
    matrix, x, v = transitions()
    v[7:9] += np.random.default_rng(3).normal(size=(2, 9))

    def objective(layers, matrix):
        return jnp.sum(transition_coherence(matrix, *layers) ** 2)

    check_gradient(objective, (x, v), arguments=(matrix,))
