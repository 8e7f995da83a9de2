"""Absorption probabilities and times against other solutions, what must hold for all of them, and how they fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.markov import Outcome, absorption_probabilities, cannot_reach
from tests.finite_differences import check_gradient
from tests.markov.chains import chain, csr, messy_chain, permuted, with_lone_cells

N_CELLS, N_FATES = 40, 3
X64 = jax.config.jax_enable_x64
TOLERANCE = 1e-10 if X64 else 1e-6

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


def eliminated(dense, terminal, n_fates):
    """Cell after cell taken out of the chain, without a subtraction (Grassmann, Taksar & Heyman 1985)."""
    free = np.flatnonzero(terminal < 0)
    classes = np.eye(n_fates)[terminal[terminal >= 0]]
    moves = np.hstack([dense[np.ix_(free, free)], dense[np.ix_(free, np.flatnonzero(terminal >= 0))] @ classes])
    np.fill_diagonal(moves, 0)
    n = len(free)
    rest = [np.r_[0:i, n : n + n_fates] for i in range(n)]
    for i in reversed(range(n)):
        moves[i] /= moves[i, rest[i]].sum()
        moves[:i, rest[i]] += moves[:i, i, None] * moves[i, rest[i]]
        np.fill_diagonal(moves, 0)
    found = np.vstack([np.zeros((n, n_fates)), np.eye(n_fates)])
    for i in range(n):
        found[i] = moves[i, rest[i]] @ found[rest[i]]
    result = np.zeros((len(dense), n_fates))
    result[terminal >= 0] = classes
    result[free] = found[:n]
    return result


def line(n, forward=0.5, backward=0.5):
    """A walk along a line with absorbing ends, which stays where it is with what is left of the probability."""
    stay = np.full(n, 1 - forward - backward)
    stay[[0, -1]] = 1
    up, down = np.full(n - 1, forward), np.full(n - 1, backward)
    up[0] = down[-1] = 0
    graph = NeighborGraph.from_csr(sp.diags_array([down, stay, up], offsets=[-1, 0, 1]).tocsr())
    terminal = np.full(n, -1)
    terminal[[0, -1]] = [0, 1]
    return TransitionMatrix(graph, graph.edges["connectivities"].values), jnp.asarray(terminal)


def check(found, expected, terminal):
    assert int(found.outcome) == Outcome.SOLVED
    assert float(found.error) <= TOLERANCE
    assert float(found.row_sum_defect) <= TOLERANCE
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


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_an_elimination_without_subtractions(seed):
    """Also where absorption takes a million steps."""
    transitions, dense, _ = messy_chain(N_CELLS, seed)
    terminal = classes(dense, seed)
    expected = eliminated(dense, terminal, N_FATES)
    np.testing.assert_allclose(expected, solved(dense, terminal), rtol=0, atol=1e-12)
    check(absorb(transitions, jnp.asarray(terminal), N_FATES), expected, terminal)
    dense, terminal = slow_chain(stay=1e-5)
    transitions = chain(dense)
    exact = np.zeros_like(dense)
    exact[transitions.to_csr().nonzero()] = transitions.to_csr().data  # as rounded to single precision
    found = absorb(transitions, jnp.asarray(terminal), 2)
    assert int(found.outcome) == Outcome.SOLVED
    expected = eliminated(exact, terminal, 2)
    np.testing.assert_allclose(np.asarray(found.probabilities), expected, rtol=0, atol=max(float(found.error), 1e-7))


@pytest.mark.any_precision
def test_a_large_block_that_hardly_lets_go():
    """A ring of many cells, left from two of them to an end each: the fates are as their rates, but for a trifle."""
    n, rates = 1102, np.array([1e-12, 3e-12])
    cell = np.arange(n - 2)
    ring = sp.coo_array((np.full(n - 2, 0.5), (cell, (cell + 1) % (n - 2))), shape=(n, n))
    out = sp.coo_array((rates, ([100, 700], [n - 2, n - 1])), shape=(n, n))
    terminal = np.r_[np.full(n - 2, -1), 0, 1]
    found = absorption_probabilities(sp.csr_matrix(ring + ring.T + out), terminal, 2)
    assert found.outcome == Outcome.SOLVED
    np.testing.assert_allclose(found.probabilities[:-2], np.tile([0.25, 0.75], (n - 2, 1)), rtol=1e-8)
    np.testing.assert_allclose(found.times[:-2], (n - 2) / rates.sum(), rtol=1e-6)
    # Of one class alone there is nothing to find out but how long it takes.
    alone = absorption_probabilities(sp.csr_matrix(ring + ring.T + out), np.where(terminal < 0, -1, 0), 1)
    np.testing.assert_allclose(alone.probabilities, 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("move", [0.5, 0.3])
@pytest.mark.parametrize("n", [200, 1000, 10_000])
def test_a_long_line(n, move):
    """Ill conditioned, up to 25 million steps; single precision rounds rows to sums other than one."""
    transitions, terminal = line(n, move, move)
    found = absorption_probabilities(transitions, terminal, 2)
    win = np.arange(n) / (n - 1)
    assert int(found.outcome) == Outcome.SOLVED
    np.testing.assert_allclose(np.asarray(found.probabilities), np.stack([1 - win, win], axis=1), rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.asarray(found.probabilities).sum(axis=1), 1, rtol=0, atol=2e-7)
    cell = np.arange(n)
    rounded = float(np.asarray(move, transitions.values[0].dtype))
    np.testing.assert_allclose(np.asarray(found.times), cell * (n - 1 - cell) / (2 * rounded), rtol=2e-7)
    assert float(found.row_sum_defect) <= 1e-9
    assert float(found.error) <= 1e-6


def test_a_long_line_with_a_drift():
    """The fates are those of the probabilities as they are given, after rounding."""
    n = 10_000
    transitions, terminal = line(n, 0.3001, 0.3)
    forward, backward = (float(np.asarray(p, transitions.values[0].dtype)) for p in (0.3001, 0.3))
    ratio = np.log1p((backward - forward) / forward)
    win = np.expm1(np.arange(n) * ratio) / np.expm1((n - 1) * ratio)
    found = absorption_probabilities(transitions, terminal, 2)
    assert int(found.outcome) == Outcome.SOLVED
    np.testing.assert_allclose(np.asarray(found.probabilities)[:, 1], win, rtol=0, atol=1e-7)


def chance(values, transitions, terminal, start, of_time):
    """Probability of the second end, and the time until an end, weighted."""
    found = absorption_probabilities(TransitionMatrix(transitions.graph, values), terminal, 2)
    return found.probabilities[start, 1] + of_time * found.times[start]


@pytest.mark.parametrize("n", [200, 1000, 10_000])
@pytest.mark.parametrize("of_time", [0.0, 1.0])
def test_gradient_of_a_long_line(n, of_time):
    r"""Equal, in either precision, to visits times differences: :math:`N_{si} (x_j - x_i)`."""
    transitions, terminal = line(n, 0.3, 0.3)
    start, last, cell = n // 3, n - 1, np.arange(n)
    move = float(np.asarray(0.3, transitions.values[0].dtype))
    gradient = jax.grad(chance)(transitions.values, transitions, terminal, start, of_time)
    visits = np.where(cell <= start, cell * (last - start), start * (last - cell)) / (last * move)
    outcome = cell / last + of_time * cell * (last - cell) / (2 * move)
    graph, pairs = transitions.graph, []
    for rows, columns, found in zip(graph.rows, graph.columns, gradient, strict=True):
        row, column = np.asarray(rows)[:, None], np.asarray(columns)
        pairs.append((np.asarray(found), visits[row] * (outcome[column] - outcome[row])))
    largest = max(np.abs(expected).max() for _, expected in pairs)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("n", [200, 1000])
def test_gradient_of_a_long_line_against_differences(n):
    transitions, terminal = line(n)
    # A drift of 1 / n decides: steps must be small against it.
    check_gradient(chance, transitions.values, arguments=(transitions, terminal, n // 3, 0.0), step=1 / n**2)


def test_gradient_of_the_times():
    transitions, dense, _ = messy_chain(N_CELLS, 2)
    terminal = np.minimum(classes(dense, 2), 1)
    start = int(np.flatnonzero(terminal < 0)[0])
    check_gradient(chance, transitions.values, arguments=(transitions, jnp.asarray(terminal), start, 1.0))


def iterated(transitions, terminal, n_fates, max_steps=500):
    return absorption_probabilities(transitions, terminal, n_fates, max_steps=max_steps, direct_cells=0)


@pytest.mark.parametrize("seed", range(4))
def test_iteration_and_its_gradient(seed):
    transitions, dense, _ = messy_chain(N_CELLS, seed)
    terminal = classes(dense, seed)
    check(iterated(transitions, jnp.asarray(terminal), N_FATES), solved(dense, terminal), terminal)
    factors = np.random.default_rng(0).normal(size=(N_CELLS, N_FATES))

    def total(values, solve):
        found = solve(TransitionMatrix(transitions.graph, values), jnp.asarray(terminal), N_FATES)
        return jnp.sum(found.probabilities * jnp.asarray(factors, found.probabilities.dtype)) + jnp.mean(found.times)

    gradients = [jax.grad(total)(transitions.values, solve) for solve in (iterated, absorption_probabilities)]
    for found, expected in zip(*gradients, strict=True):
        largest = np.abs(np.asarray(expected)).max(initial=0)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=TOLERANCE * largest)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 3), max_steps=st.integers(2, 40))
def test_the_error_is_no_larger_than_its_bound(seed, max_steps):
    transitions, dense, _ = messy_chain(N_CELLS, seed)
    terminal = classes(dense, seed)
    found = iterated(transitions, jnp.asarray(terminal), N_FATES, max_steps)
    expected = eliminated(dense, terminal, N_FATES)
    error = np.abs(np.asarray(found.probabilities, float) - expected).max()
    assert error <= float(found.error) + 1e-6
    assert (int(found.outcome) == Outcome.SOLVED) == (float(found.error) <= 1e-6)
    assert int(found.outcome) in (Outcome.SOLVED, Outcome.INACCURATE)


def test_without_a_tolerance_it_is_the_default():
    transitions, terminal = line(50)
    found, default = (absorption_probabilities(transitions, terminal, 2, **k) for k in ({"tolerance": None}, {}))
    np.testing.assert_array_equal(found.probabilities, default.probabilities)
    assert int(found.outcome) == Outcome.SOLVED


def test_too_few_steps_are_a_failure():
    transitions, terminal = line(200)
    rough = iterated(transitions, terminal, 2, max_steps=30)
    assert int(rough.outcome) == Outcome.INACCURATE
    assert float(rough.error) > 1e-3
    assert 1e-6 < float(rough.residual) < 1
    assert float(rough.row_sum_defect) > 1e-3
    probabilities = np.asarray(rough.probabilities, float)
    dense = transitions.to_csr().toarray()
    violation = np.abs(probabilities - dense @ probabilities)[np.asarray(terminal) < 0].max()
    np.testing.assert_allclose(float(rough.residual), violation, rtol=1e-3)
    defect = np.abs(1 - probabilities.sum(axis=1)).max()
    np.testing.assert_allclose(float(rough.row_sum_defect), defect, rtol=1e-3)

    def of_rough(values):
        return iterated(TransitionMatrix(transitions.graph, values), terminal, 2, max_steps=30).probabilities[77, 1]

    assert any(np.isnan(np.asarray(leaf)).any() for leaf in jax.grad(of_rough)(transitions.values))


def test_a_line_too_long_is_a_failure_unless_asked_for():
    transitions, terminal = line(12_000)
    found = absorption_probabilities(transitions, terminal, 2)
    assert int(found.outcome) == Outcome.INACCURATE
    assert float(found.error) > 1e-6
    found = absorption_probabilities(transitions, terminal, 2, direct_cells=12_000)
    assert int(found.outcome) == Outcome.SOLVED
    win = np.arange(12_000) / 11_999
    np.testing.assert_allclose(np.asarray(found.probabilities)[:, 1], win, rtol=0, atol=1e-6)


@pytest.mark.parametrize("direct_cells", [0, 10_000])
def test_cells_that_reach_no_end_are_a_failure(direct_cells):
    _, dense, stored = messy_chain(N_CELLS, 3)
    terminal = np.where(np.arange(N_CELLS) < N_CELLS // 2, classes(dense, 3), -1)  # the other half is lost
    for transitions, ends in (
        (chain(dense * stored, stored), terminal),
        # One lone cell, among many that are not lost.
        (with_lone_cells(dense, stored, 1), np.append(classes(dense, 3), -1)),
    ):
        ends = jnp.asarray(ends)
        found = absorption_probabilities(transitions, ends, N_FATES, direct_cells=direct_cells)
        assert int(found.outcome) == Outcome.UNREACHABLE
        assert not float(found.error) <= 1
        transient = np.asarray(ends) < 0
        np.testing.assert_array_equal(np.isnan(np.asarray(found.probabilities)).any(axis=1), transient)
        np.testing.assert_array_equal(np.isnan(np.asarray(found.times)), transient)


def test_probabilities_that_are_not_finite_are_a_failure():
    transitions, dense, _ = messy_chain(N_CELLS, 3)
    values = tuple(v * jnp.where(v == jnp.max(v), jnp.nan, 1) for v in transitions.values)
    found = absorb(TransitionMatrix(transitions.graph, values), jnp.asarray(classes(dense, 3)), N_FATES)
    assert int(found.outcome) == Outcome.NOT_FINITE
    assert np.isnan(np.asarray(found.probabilities)).any()


def test_each_outcome_is_explained():
    assert [int(outcome) for outcome in Outcome] == list(range(4))
    assert len({outcome.explanation for outcome in Outcome}) == 4


def test_times_are_one_step_more_than_those_after_a_step():
    transitions, dense, _ = messy_chain(N_CELLS, 1)
    terminal = classes(dense, 1)
    times = np.asarray(absorb(transitions, jnp.asarray(terminal), N_FATES).times, float)
    np.testing.assert_allclose(times, np.where(terminal < 0, 1 + dense @ times, 0), rtol=10 * TOLERANCE)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 3), laziness=st.floats(0, 0.999))
def test_waiting_changes_no_fate(seed, laziness):
    _, dense, stored = messy_chain(N_CELLS, seed)
    terminal = classes(dense, seed)
    stay = laziness * np.random.default_rng(seed).random((N_CELLS, 1))
    lazy = (1 - stay) * dense + stay * np.eye(N_CELLS)
    found = absorb(chain(lazy, stored | np.eye(N_CELLS, dtype=bool)), jnp.asarray(terminal), N_FATES)
    check(found, solved(dense, terminal), terminal)


def test_several_chains_at_once():
    transitions, dense, _ = messy_chain(N_CELLS, 2)
    terminal = jnp.asarray(classes(dense, 2))

    def of_power(power):
        values = tuple(jnp.where(v > 0, jnp.where(v > 0, v, 1) ** power, 0) for v in transitions.values)
        return absorption_probabilities(TransitionMatrix(transitions.graph, values), terminal, N_FATES).probabilities

    powers = jnp.asarray([0.5, 1.0, 2.0])
    together = jax.jit(jax.vmap(of_power))(powers)
    slopes = jax.vmap(jax.grad(lambda power: of_power(power)[:, 0].sum()))(powers)
    for i, power in enumerate(powers):
        np.testing.assert_allclose(np.asarray(together[i]), np.asarray(of_power(power)), rtol=0, atol=TOLERANCE)
        slope = jax.grad(lambda power: of_power(power)[:, 0].sum())(power)
        np.testing.assert_allclose(float(slopes[i]), float(slope), rtol=1e-5, atol=TOLERANCE)


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


@pytest.mark.parametrize("direct_cells", [0, 10_000])
def test_without_times(direct_cells):
    """The same fates and derivatives to the last digits; the bound holds, and is not much larger."""
    transitions, dense, _ = messy_chain(N_CELLS, 2)
    terminal = jnp.asarray(classes(dense, 2))
    factors = jnp.asarray(np.random.default_rng(0).normal(size=(N_CELLS, N_FATES)), transitions.values[0].dtype)

    def solved(values, needs_times):
        moved = TransitionMatrix(transitions.graph, values)
        found = absorption_probabilities(moved, terminal, N_FATES, direct_cells=direct_cells, needs_times=needs_times)
        return jnp.sum(found.probabilities * factors), found

    (_, both), slopes = jax.value_and_grad(solved, has_aux=True)(transitions.values, True)
    (_, alone), others = jax.value_and_grad(solved, has_aux=True)(transitions.values, False)
    for one, other in zip((*slopes, both.probabilities), (*others, alone.probabilities), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 if one.dtype == np.float32 else 1e-10)
    assert np.isnan(np.asarray(alone.times)).all()
    assert int(alone.outcome) == Outcome.SOLVED
    assert 0 < float(alone.error) <= 1e-9
    plain = absorption_probabilities(transitions.to_csr(), terminal, N_FATES, direct_cells=direct_cells)
    without = absorption_probabilities(
        transitions.to_csr(), terminal, N_FATES, direct_cells=direct_cells, needs_times=False
    )
    assert np.abs(plain.probabilities - without.probabilities).max() <= plain.error + without.error
    assert np.isnan(without.times).all()


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
