"""Absorption probabilities against a dense solve, and what must hold for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.markov import absorption_probabilities, cannot_reach
from tests.finite_differences import check_gradient
from tests.markov.chains import chain, csr, messy_chain, permuted, with_lone_cells

N_CELLS, N_FATES = 40, 3
TOLERANCE = 1e-10 if jax.config.jax_enable_x64 else 2e-5

absorb = jax.jit(absorption_probabilities, static_argnums=2)


def reachable(dense, terminal):
    """Cells that some path leads to a terminal cell: by powers of the pattern."""
    reached = terminal >= 0
    for _ in range(len(dense)):
        reached = reached | ((dense > 0) & reached[None]).any(axis=1)
    return reached


def classes(dense, seed=0):
    """Random terminal cells; all cells that reach none of them are terminal too."""
    rng = np.random.default_rng(seed)
    terminal = np.where(rng.random(len(dense)) < 0.1, rng.integers(0, N_FATES, len(dense)), -1)
    lost = np.flatnonzero(~reachable(dense, terminal))
    terminal[lost] = lost % N_FATES
    return terminal


def solved(dense, terminal, n_fates=N_FATES):
    """Kemeny and Snell, theorem 3.3.7."""
    free = terminal < 0
    result = np.zeros((len(dense), n_fates))
    result[~free, terminal[~free]] = 1
    right = dense[np.ix_(free, ~free)] @ result[~free]
    result[free] = np.linalg.solve(np.eye(free.sum()) - dense[np.ix_(free, free)], right)
    return result


def check(found, expected, terminal):
    probabilities = np.asarray(found.probabilities)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=TOLERANCE)
    is_terminal = terminal >= 0
    np.testing.assert_array_equal(probabilities[is_terminal], np.eye(expected.shape[1])[terminal[is_terminal]])
    assert float(found.residual) <= TOLERANCE


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_dense_solve(seed):
    transitions, dense, _ = messy_chain(N_CELLS, seed)
    terminal = classes(dense, seed)
    assert np.any(terminal < 0)
    check(absorb(transitions, jnp.asarray(terminal), N_FATES), solved(dense, terminal), terminal)


def test_gamblers_ruin():
    n, p = 12, 0.6
    dense = np.zeros((n, n))
    for i in range(1, n - 1):
        dense[i, i + 1], dense[i, i - 1] = p, 1 - p
    dense[0, 0] = dense[-1, -1] = 1
    terminal = np.full(n, -1)
    terminal[[0, -1]] = [0, 1]
    ratio = (1 - p) / p
    win = (1 - ratio ** np.arange(n)) / (1 - ratio ** (n - 1))
    check(absorb(chain(dense), jnp.asarray(terminal), 2), np.stack([1 - win, win], axis=1), terminal)


def test_what_leaves_a_terminal_cell_does_not_count():
    _, dense, stored = messy_chain(N_CELLS, 1)
    terminal = classes(dense, 1)
    other = dense.copy()
    other[terminal >= 0] = np.where(terminal >= 0, 1 / np.sum(terminal >= 0), 0)
    found = absorb(chain(other, stored | (other > 0)), jnp.asarray(terminal), N_FATES)
    np.testing.assert_allclose(np.asarray(found.probabilities), solved(dense, terminal), rtol=0, atol=TOLERANCE)


def test_a_fate_without_cells_has_probability_zero():
    transitions, dense, _ = messy_chain(N_CELLS, 0)
    terminal = np.minimum(classes(dense), 0)
    found = np.asarray(absorb(transitions, jnp.asarray(terminal), N_FATES).probabilities)
    np.testing.assert_allclose(found, np.eye(N_FATES)[np.zeros(N_CELLS, int)], rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(found[:, 1:], 0)


def test_all_cells_terminal():
    transitions, _, _ = messy_chain(N_CELLS, 0)
    terminal = np.arange(N_CELLS) % N_FATES
    found = absorb(transitions, jnp.asarray(terminal), N_FATES)
    np.testing.assert_array_equal(np.asarray(found.probabilities), np.eye(N_FATES)[terminal])
    assert float(found.residual) == 0


def slow_chain(n_cells=60, stay=1e-3):
    """Two groups that are rarely left: many steps until absorption."""
    rng = np.random.default_rng(2)
    half = n_cells // 2
    dense = rng.random((n_cells, n_cells)) * (rng.random((n_cells, n_cells)) < 0.2)
    dense[:half, half:] *= stay
    dense[half:, :half] *= stay
    dense[:, [0, n_cells - 1]] *= stay
    dense[np.arange(n_cells), (np.arange(n_cells) + 1) % n_cells] += 0.1
    terminal = np.full(n_cells, -1)
    terminal[[0, n_cells - 1]] = [0, 1]
    return dense / dense.sum(axis=1, keepdims=True), terminal


def test_a_chain_that_takes_long():
    dense, terminal = slow_chain()
    found = absorb(chain(dense), jnp.asarray(terminal), 2)
    np.testing.assert_allclose(np.asarray(found.probabilities), solved(dense, terminal, 2), atol=100 * TOLERANCE)
    assert float(found.residual) <= TOLERANCE


def test_the_residual_tells_of_a_bad_solution():
    # Cells in a line, of which the solver sees thirty in its first attempt.
    n = 200
    dense = (np.eye(n, k=1) + np.eye(n, k=-1)) / 2
    dense[0], dense[-1] = np.eye(n)[[0, -1]]
    terminal = np.full(n, -1)
    terminal[[0, -1]] = [0, 1]
    rough = absorption_probabilities(chain(dense), jnp.asarray(terminal), 2, max_steps=1)
    assert 1e-3 < float(rough.residual) < 1
    probabilities = np.asarray(rough.probabilities, float)
    violation = np.abs(probabilities - dense @ probabilities)[terminal < 0].max()
    np.testing.assert_allclose(float(rough.residual), violation, rtol=1e-3)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(order=st.permutations(range(N_CELLS)))
def test_the_order_of_the_cells_does_not_matter(order):
    transitions, dense, stored = messy_chain(N_CELLS, 3)
    terminal = classes(dense, 3)
    order = np.asarray(order)
    expected = np.asarray(absorb(transitions, jnp.asarray(terminal), N_FATES).probabilities)
    found = absorb(permuted(dense, stored, order), jnp.asarray(terminal[order]), N_FATES)
    np.testing.assert_allclose(np.asarray(found.probabilities), expected[order], rtol=0, atol=TOLERANCE)


def test_further_cells_without_neighbours_do_not_matter():
    _, dense, stored = messy_chain(N_CELLS, 3)
    terminal = classes(dense, 3)
    longer = np.pad(terminal, (0, 5), constant_values=1)
    found = absorb(with_lone_cells(dense, stored, 5), jnp.asarray(longer), N_FATES)
    np.testing.assert_allclose(
        np.asarray(found.probabilities)[:N_CELLS], solved(dense, terminal), rtol=0, atol=TOLERANCE
    )


def outcome(values, transitions, terminal, factors):
    """A linear function of the probabilities."""
    moved = type(transitions)(transitions.graph, values)
    return jnp.sum(absorption_probabilities(moved, terminal, N_FATES).probabilities * factors)


@pytest.mark.parametrize("size", [1.0, 1e6, 1e-6])
def test_gradient_by_the_transition_probabilities(size):
    transitions, dense, _ = messy_chain(N_CELLS, 2)
    terminal = classes(dense, 2)
    rng = np.random.default_rng(0)
    factors = jnp.asarray(size * rng.normal(size=(N_CELLS, N_FATES)))
    check_gradient(outcome, transitions.values, arguments=(transitions, jnp.asarray(terminal), factors))


def test_hessian():
    # Second derivatives, as the covariance of fitted parameters takes them.
    if not jax.config.jax_enable_x64:
        pytest.skip("finite differences need float64")
    transitions, dense, _ = messy_chain(N_CELLS, 2)
    terminal = jnp.asarray(classes(dense, 2))
    factors = jnp.asarray(np.random.default_rng(0).normal(size=(N_CELLS, N_FATES)))

    def along(step):
        # A lazier chain on half of the cells, whose rows still sum to less than one.
        values = tuple(v * (1 - step * jnp.cos(jnp.arange(v.size).reshape(v.shape)) ** 2) for v in transitions.values)
        return outcome(values, transitions, terminal, factors)

    slope = jax.jit(jax.grad(along))
    second = float(jax.jit(jax.jacfwd(jax.grad(along)))(0.1))
    step = 1e-4
    np.testing.assert_allclose(second, (slope(0.1 + step) - slope(0.1 - step)) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_cannot_reach_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    dense = rng.random((n, n)) * (rng.random((n, n)) < rng.choice([0, 0.03, 0.1]))
    terminal = np.where(rng.random(n) < 0.15, 0, -1)
    np.testing.assert_array_equal(cannot_reach(sp.csr_matrix(dense), terminal), ~reachable(dense, terminal))


def test_cannot_reach_without_terminal_cells_and_with_stored_zeros():
    dense = np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(cannot_reach(sp.csr_matrix(dense), np.array([-1, -1, -1])), True)
    # An edge of probability zero is no path, though it is stored.
    stored = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1]], dtype=bool)
    found = cannot_reach(csr(dense, stored), np.array([-1, -1, 0]))
    np.testing.assert_array_equal(found, [True, True, False])
