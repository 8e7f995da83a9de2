import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from jaxvelo.dynamics import SplicingKinetics, diffusion_pseudotime
from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Features, Velocity, evaluate_logits
from tests.dynamics import plain
from tests.finite_differences import check_gradient
from tests.transitions.examples import nearest

X64 = jax.config.jax_enable_x64
# Factors of slow components are large: single precision is left with the fewer digits the longer the line.
TOLERANCE = 1e-8 if X64 else 5e-4


def line(n_cells, seed=0, width=3):
    """Weights of neighbours along a line."""
    rng = np.random.default_rng(seed)
    dense = sum(np.diag(rng.uniform(0.5, 1.5, n_cells - k), k) for k in range(1, width + 1))
    return dense + dense.T


def parts_of(*weights):
    """Weights of cells in parts that are not connected."""
    return sp.csr_matrix(sp.block_diag([sp.csr_array(part) for part in weights]))


def pseudotime(weights, root, end=None, **options):
    graph = NeighborGraph.from_csr(sp.csr_matrix(weights))
    return np.asarray(diffusion_pseudotime(graph, graph.edges["connectivities"].values, root, end, **options))


@pytest.mark.parametrize("n_cells", [4, 8, 40, 150])
def test_equals_numpy(n_cells):
    weights = line(n_cells)
    count = min(10, n_cells - 1)
    expected = plain.diffusion_pseudotime(weights, 2, count)
    found = pseudotime(weights, 2)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert found[2] == 0
    assert found.max() == 1


def test_both_directions_count():
    """Half of the weights on each direction of a pair, or all on one, are the same."""
    weights = line(30)
    share = np.random.default_rng(0).uniform(size=weights.shape)
    share = share / (share + share.T)
    expected = pseudotime(weights, 2)
    np.testing.assert_allclose(pseudotime(share * weights, 2), expected, atol=TOLERANCE)
    np.testing.assert_allclose(pseudotime(np.triu(weights), 2), expected, atol=TOLERANCE)


def test_with_an_end_point():
    weights = line(60)
    first, last = (plain.diffusion_pseudotime(weights, cell) for cell in (0, 59))
    mean = (first + 1 - last) / 2
    expected = (mean - mean.min()) / (mean.max() - mean.min())
    found = pseudotime(weights, 0, 59)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert spearmanr(found, np.arange(60))[0] > 0.99


def test_disconnected_parts():
    """Each part as if alone; what is connected to neither root nor end has no pseudotime."""
    a, b = line(30), line(25, seed=1)
    weights = parts_of(a, b, np.zeros((1, 1)))
    only_root = pseudotime(weights, 4)
    np.testing.assert_allclose(only_root[:30], pseudotime(a, 4), atol=TOLERANCE)
    assert np.isnan(only_root[30:]).all()
    both = pseudotime(weights, 4, 30 + 24)
    np.testing.assert_allclose(both[:30], only_root[:30], atol=TOLERANCE)
    np.testing.assert_allclose(both[30:55], 1 - pseudotime(b, 24), atol=TOLERANCE)
    assert np.isnan(both[55])


def test_an_edge_of_weight_zero_is_none():
    weights = parts_of(line(20), line(15, seed=1))
    weights.eliminate_zeros()
    bridged = sp.csr_matrix(weights + sp.csr_matrix(([1.0], ([3], [22])), weights.shape))
    bridged[3, 22] = 0
    assert bridged.nnz == weights.nnz + 1
    np.testing.assert_allclose(pseudotime(bridged, 0), pseudotime(weights, 0), atol=TOLERANCE)


def test_a_root_without_neighbours():
    weights = parts_of(line(5), np.zeros((1, 1)))
    np.testing.assert_array_equal(pseudotime(weights, 5), [np.nan] * 5 + [0])


def test_repeatable():
    weights = line(200)
    np.testing.assert_array_equal(pseudotime(weights, 0), pseudotime(weights, 0))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), n_cells=st.sampled_from([16, 40]))
def test_order_of_cells_does_not_matter(seed, n_cells):
    rng = np.random.default_rng(seed)
    weights, order = line(n_cells, seed), rng.permutation(n_cells)
    expected = pseudotime(weights, order[0], order[1])
    found = pseudotime(weights[order][:, order], 0, 1)
    np.testing.assert_allclose(found, expected[order], atol=TOLERANCE)
    # Nor does the unit of the weights.
    np.testing.assert_allclose(pseudotime(7 * weights, order[0], order[1]), expected, atol=TOLERANCE)


def weighted_sum(values, graph, weights, root, end, n_components=10):
    times = diffusion_pseudotime(graph, values, root, end, n_components)
    return jnp.sum(jnp.where(jnp.isnan(times), 0, times) * weights)


def check(weights, root, end, rtol=1e-5, step=1e-5, **options):
    """Gradient by all weights against finite differences."""
    graph = NeighborGraph.from_csr(sp.csr_matrix(weights))
    factors = jnp.asarray(np.random.default_rng(1).normal(size=graph.n_cells), dtype=float)

    def objective(values, graph, factors):
        return weighted_sum(values, graph, factors, root, end, **options)

    values = graph.edges["connectivities"].values
    return graph, check_gradient(objective, values, rtol=rtol, arguments=(graph, factors), step=step)


@pytest.mark.parametrize("end", [None, 23])
@pytest.mark.parametrize("n_components", [2, 5, 10])
def test_gradients_equal_finite_differences(end, n_components):
    _, gradient = check(line(24), 2, end, n_components=n_components)
    assert max(np.abs(leaf).max() for leaf in gradient) > 1e-3


def test_gradients_with_all_components_of_a_small_graph():
    check(line(7), 0, 6)


def test_gradients_on_disconnected_parts():
    graph, gradient = check(parts_of(line(15), line(14, seed=1), line(5, seed=2)), 2, 27)
    # Cells that are connected to neither do not matter.
    unconnected = graph.gather_rows(tuple(jnp.sum(jnp.abs(leaf), axis=1) for leaf in gradient))[29:]
    assert not np.any(unconnected)


def ring(n_cells):
    """Neighbours on a ring, all of the same weight: eigenvalues come in equal pairs."""
    return sum(np.roll(np.eye(n_cells), k, axis=1) for k in (-2, -1, 1, 2))


def test_gradients_where_eigenvalues_are_equal():
    """Among those that count; the last pair is complete. (A single cell is the farthest, so that there is no kink.)"""
    weights = ring(16)
    values = np.sort(np.abs(np.linalg.eigvalsh(weights / 4)))[::-1]
    assert np.isclose(values[1], values[2])
    assert values[4] - values[5] > 1e-2
    check(weights, 0, 8, n_components=5)


def test_gradients_with_negative_eigenvalues():
    """A chain that goes to and fro between two halves has the eigenvalue -1."""
    weights = line(12, width=1)
    check(weights, 0, 11, n_components=6)


def test_gradients_of_duplicate_cells():
    """Two cells with the same neighbours and weights are at distance zero of each other: a kink."""
    weights = line(14)
    weights = np.block([[weights, weights[:, :1]], [weights[:1], np.zeros((1, 1))]])
    found = pseudotime(weights, 0)
    assert found[14] < 1e-6 if X64 else found[14] < 1e-3
    graph = NeighborGraph.from_csr(sp.csr_matrix(weights))
    gradient = jax.grad(weighted_sum)(graph.edges["connectivities"].values, graph, jnp.ones(15), 0, 13)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def pair():
    return np.array([[0.0, 0.7], [1.3, 0.0]])


def test_gradients_with_a_pair_of_cells():
    """Their distance does not depend on the weights, and they do not disturb the rest."""
    for seed in range(4):
        graph, gradient = check(parts_of(line(12, seed), pair()), 2, 12)
        on_pair = graph.gather_rows(tuple(jnp.sum(jnp.abs(leaf), axis=1) for leaf in gradient))[12:]
        np.testing.assert_allclose(on_pair, 0, atol=1e-8)


def test_gradients_are_finite_with_a_pair_of_cells():
    for seed in range(6):
        graph = NeighborGraph.from_csr(parts_of(line(12, seed), pair()))
        gradient = jax.grad(weighted_sum)(graph.edges["connectivities"].values, graph, jnp.arange(14.0), 2, 12)
        assert all(np.isfinite(leaf).all() for leaf in gradient)


@pytest.mark.parametrize("n_cells", [4, 13, 25])
def test_gradients_on_a_star(n_cells):
    """All eigenvalues but two are zero: which of their vectors count makes no difference."""
    weights = np.zeros((n_cells, n_cells))
    weights[0, 1:] = np.random.default_rng(0).uniform(0.5, 1.5, n_cells - 1)
    check(weights, 1, 2, n_components=min(n_cells - 1, 4))


def test_gradients_with_several_slow_components():
    """The second eigenvalue is above the threshold as well."""
    weights = line(300)
    density = weights.sum(axis=0)
    kernel = weights / np.outer(density, density)
    total = np.sqrt(kernel.sum(axis=0))
    assert np.sort(np.linalg.eigvalsh(kernel / np.outer(total, total)))[-2] > 0.9994
    check(weights, 5, 290, n_components=4, rtol=1e-4, step=1e-3)


def test_root_and_end_may_be_one():
    for seed in range(8):
        assert not pseudotime(line(20, seed), 3, 3).any()


def test_weights_that_are_not_finite_give_nan():
    weights = line(20)
    weights[3, 4] = np.nan
    assert np.isnan(pseudotime(weights, 0)).all()


def test_forward_and_reverse_derivatives_agree():
    graph = NeighborGraph.from_csr(sp.csr_matrix(line(20)))
    values = graph.edges["connectivities"].values
    rng = np.random.default_rng(0)
    direction = tuple(jnp.asarray(rng.normal(size=v.shape), dtype=v.dtype) for v in values)
    factors = jnp.asarray(rng.normal(size=20), dtype=float)
    arguments = (graph, factors, 0, 19)
    _, forward = jax.jvp(lambda v: weighted_sum(v, *arguments), (values,), (direction,))
    gradient = jax.grad(weighted_sum)(values, *arguments)
    terms = np.concatenate([np.ravel(g * d) for g, d in zip(gradient, direction, strict=True)])
    np.testing.assert_allclose(forward, terms.sum(), atol=(1e-9 if X64 else 1e-3) * np.abs(terms).sum())


def test_gradients_by_the_rates():
    """From rates to velocities, to the correlations of the velocity graph, to pseudotime."""
    rng = np.random.default_rng(0)
    n_cells, n_genes = 24, 6
    x = np.sort(rng.normal(size=(n_cells, n_genes)), axis=0) + 0.3 * rng.normal(size=(n_cells, n_genes))
    graph = NeighborGraph.from_csr(sp.csr_matrix(nearest(x, 6)))
    gamma = np.r_[1.0, rng.uniform(0.2, 2, n_genes - 1)]  # the first as fast as splicing
    rates = (rng.uniform(1, 5, n_genes), np.ones(n_genes), gamma, rng.uniform(2, 4, n_genes), np.ones(n_genes))
    kinetics = SplicingKinetics(*(jnp.asarray(rate, dtype=float) for rate in rates))
    times = jnp.asarray(rng.uniform(0, 5, (n_cells, n_genes)), dtype=float)
    arguments = (graph, times, jnp.asarray(x, dtype=float), jnp.asarray(rng.normal(size=n_cells), dtype=float))

    def objective(kinetics, graph, times, x, factors):
        velocity, _ = kinetics.velocities(times)
        logits, _, _ = evaluate_logits(Velocity(similarity="correlation"), graph, Features(x, velocity))
        return weighted_sum(tuple(jnp.abs(logit) for logit in logits), graph, factors, 0, 23)

    gradient = check_gradient(objective, kinetics, rtol=1e-5, step=1e-6, arguments=arguments)
    assert np.all(np.asarray(gradient.gamma) != 0)
