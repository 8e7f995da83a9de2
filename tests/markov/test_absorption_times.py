"""Times of absorption by fate, and fates of SciPy matrices: the reference, other solutions, known truth."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.markov import Outcome, absorption_probabilities, absorption_times
from tests.finite_differences import check_gradient
from tests.markov.chains import chain

X64 = jax.config.jax_enable_x64
RTOL = 1e-8 if X64 else 1e-5
N_CELLS, N_FATES = 40, 3


@pytest.fixture(scope="module")
def reference(shared):
    """Combined kernel of the pancreas, classes of terminal cells, CellRank's results and names of the fates."""
    with np.load(shared / "reference/pancreas_kernels.npz") as stored:
        arrays = [stored[f"combined/0.8v+0.2c.{part}"] for part in ("data", "indices", "indptr")]
    with np.load(shared / "reference/pancreas_estimators.npz") as stored:
        results = {key: stored[key] for key in stored if key.startswith("fate/")}
    names = list(results["fate/names"])
    terminal = np.array([names.index(state) if state in names else -1 for state in results["fate/terminal_states"]])
    return sp.csr_matrix(tuple(arrays)), terminal, results, names


def on_graph(matrix):
    graph = NeighborGraph.from_csr(matrix)
    return TransitionMatrix(graph, graph.edges["connectivities"].values)


@pytest.mark.parametrize("of", [lambda matrix: matrix, on_graph], ids=["csr", "graph"])
def test_equal_to_the_reference(reference, of):
    matrix, terminal, results, names = reference
    rtol = 1e-8 if of is not on_graph else RTOL
    transitions = of(matrix)
    fates = absorption_probabilities(transitions, terminal, 3)
    np.testing.assert_allclose(np.asarray(fates.probabilities), results["fate/direct"], rtol=rtol, atol=0)
    found = absorption_times(transitions, terminal, 3)
    assert int(fates.outcome) == int(found.outcome) == Outcome.SOLVED
    for k, name in enumerate(names):
        for numbers, key in ((found.mean, "mean"), (found.variance, "var")):
            expected = results[f"fate/times/{name}_{key}"]
            np.testing.assert_allclose(np.asarray(numbers)[:, k], expected, rtol=rtol, atol=0)


def random_chain(seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.random((N_CELLS, N_CELLS)) * (rng.random((N_CELLS, N_CELLS)) < 0.15) + 0.1 * np.eye(N_CELLS)
    dense[np.arange(N_CELLS), (np.arange(N_CELLS) + 1) % N_CELLS] += 0.1
    terminal = np.full(N_CELLS, -1)
    terminal[:6] = [0, 0, 1, 1, 2, 2]
    return dense / dense.sum(axis=1, keepdims=True), terminal


def conditional(dense, terminal):
    """Mean and variance for each class, from the chain that is known to end there, in plain NumPy."""
    free = terminal < 0
    q = dense[np.ix_(free, free)]
    mean, variance = np.full((len(dense), N_FATES), np.inf), np.full((len(dense), N_FATES), np.nan)
    for k in range(N_FATES):
        h = np.linalg.solve(np.eye(len(q)) - q, dense[np.ix_(free, terminal == k)].sum(axis=1))
        visits = np.linalg.inv(np.eye(len(q)) - q * h / h[:, None])
        t = visits.sum(axis=1)
        mean[free, k], variance[free, k] = t, (2 * visits - np.eye(len(q))) @ t - t**2
        mean[terminal == k, k] = variance[terminal == k, k] = 0
    return mean, variance


@pytest.mark.parametrize("direct_cells", [0, 1000])
def test_equal_to_the_chain_that_is_known_to_end_there(direct_cells):
    dense, terminal = random_chain()
    expected = conditional(dense, terminal)
    found = absorption_times(sp.csr_matrix(dense), terminal, N_FATES, direct_cells=direct_cells)
    of_graph = absorption_times(chain(dense), terminal, N_FATES, direct_cells=direct_cells)
    for result, rtol in ((found, 1e-9), (of_graph, 1e-9 if X64 else 1e-5)):
        assert int(result.outcome) == Outcome.SOLVED
        np.testing.assert_allclose(np.asarray(result.mean), expected[0], rtol=rtol)
        np.testing.assert_allclose(np.asarray(result.variance), expected[1], rtol=10 * rtol)
    assert found.mean.dtype == found.variance.dtype == np.float64


def test_the_given_matrix_stays_as_it_is():
    dense, terminal = random_chain()
    matrix = sp.csr_matrix(dense)[:, ::-1][:, ::-1]  # columns not in order
    before = matrix.copy()
    found = absorption_probabilities(matrix, terminal, N_FATES)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(matrix, part), getattr(before, part))
    of_graph = absorption_probabilities(chain(dense), jnp.asarray(terminal), N_FATES)
    np.testing.assert_allclose(np.asarray(of_graph.probabilities), found.probabilities, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(of_graph.times), found.times, rtol=1e-6)


def weighted(values, transitions, terminal, factors):
    found = absorption_times(TransitionMatrix(transitions.graph, values), terminal, N_FATES)
    transient = (terminal < 0)[:, None]
    both = jnp.where(transient, found.mean, 0) * factors[0] + jnp.where(transient, found.variance, 0) * factors[1]
    return jnp.sum(both)


def test_gradient():
    dense, terminal = random_chain()
    transitions = chain(dense)
    factors = jnp.asarray(np.random.default_rng(1).normal(size=(2, N_CELLS, N_FATES)))
    check_gradient(weighted, transitions.values, arguments=(transitions, jnp.asarray(terminal), factors))


def hardly_let_go(rate):
    """Two blocks that are left at a small rate; in one of them, a cell that is hardly ever left."""
    rng = np.random.default_rng(4)
    dense = rng.random((30, 30))
    np.fill_diagonal(dense, 0)
    dense[:15, 15:] *= rate
    dense[15:, :15] *= rate
    dense /= dense.sum(axis=1, keepdims=True)
    dense[3] *= rate
    dense[3, 3] = 1 - rate
    terminal = np.full(30, -1)
    terminal[[0, 29]] = [0, 1]
    for end in (0, 29):
        dense[np.arange(30) != end, end] *= rate
    return dense, terminal


def plainly_eliminated(dense, terminal):
    """Fates in exact fractions."""
    free = np.flatnonzero(terminal < 0)
    rows = [
        [Fraction(x) for x in [*dense[i, free], dense[i, terminal == 0].sum(), dense[i, terminal == 1].sum()]]
        for i in free
    ]
    n = len(free)
    for k in reversed(range(n)):
        left = sum(rows[k][j] for j in [*range(k), n, n + 1])
        rows[k] = [x / left for x in rows[k]]
        for i in range(k):
            for j in [*range(k), n, n + 1]:
                rows[i][j] += rows[i][k] * rows[k][j]
    fates = []
    for k in range(n):
        fates.append([rows[k][n + f] + sum(rows[k][j] * fates[j][f] for j in range(k)) for f in range(2)])
    return np.array(fates, dtype=float)


@pytest.mark.parametrize("rate", [1e-6, 1e-9, 1e-12])
def test_blocks_and_cells_that_hardly_let_go(rate):
    dense, terminal = hardly_let_go(rate)
    transitions = chain(dense)
    exact = np.zeros_like(dense)
    stored = transitions.to_csr()
    exact[stored.nonzero()] = stored.data
    expected = plainly_eliminated(exact, terminal)
    transient = terminal < 0
    for matrix in (stored, transitions):
        found = absorption_probabilities(matrix, terminal, 2)
        assert int(found.outcome) == Outcome.SOLVED
        fates = np.asarray(found.probabilities)
        np.testing.assert_allclose(fates[transient], expected, rtol=0, atol=1e-6 if matrix is transitions else 1e-11)
        np.testing.assert_allclose(fates.sum(axis=1), 1, rtol=0, atol=1e-6)
        assert fates.min() >= 0
        assert fates.max() <= 1 + 1e-6

    def fate(values):
        return absorption_probabilities(TransitionMatrix(transitions.graph, values), terminal, 2).probabilities[5, 1]

    assert all(np.isfinite(np.asarray(part)).all() for part in jax.grad(fate)(transitions.values))


def line(n, forward=0.3, backward=0.3):
    stay = np.full(n, 1 - forward - backward)
    up, down = np.full(n - 1, forward), np.full(n - 1, backward)
    terminal = np.full(n, -1)
    terminal[[0, -1]] = [0, 1]
    return sp.diags_array([down, stay, up], offsets=[-1, 0, 1]).tocsr(), terminal


@pytest.mark.any_precision
@pytest.mark.parametrize("n", [200, 5000])
def test_a_long_line(n):
    """The time to the far end, given that it is reached: (L^2 - x^2) / (6 p), for steps of probability p each way."""
    matrix, terminal = line(n)
    found = absorption_times(matrix, terminal, 2)
    assert found.outcome == Outcome.SOLVED
    x, length = np.arange(1, n - 1), n - 1
    np.testing.assert_allclose(found.mean[1:-1, 1], (length**2 - x**2) / (6 * 0.3), rtol=1e-6)
    np.testing.assert_allclose(found.mean[1:-1, 0], (length**2 - (length - x) ** 2) / (6 * 0.3), rtol=1e-6)
    np.testing.assert_array_equal(found.variance > 0, np.isfinite(found.mean) & (found.mean > 0))


@pytest.mark.any_precision
def test_a_class_that_is_never_reached_and_one_that_hardly_is():
    dense = np.diag(np.full(5, 0.5), 1) + np.diag(np.r_[np.full(5, 0.5), 1])
    dense[0, :2] = [1, 0]  # only upwards, from the second cell on
    terminal = np.array([0, -1, -1, -1, -1, 1])
    found = absorption_times(sp.csr_matrix(dense), terminal, 2)
    assert found.outcome == Outcome.SOLVED
    np.testing.assert_allclose(found.mean[1:, 1], [8, 6, 4, 2, 0])
    np.testing.assert_allclose(found.variance[1:, 1], [8, 6, 4, 2, 0])
    np.testing.assert_array_equal(found.mean[:, 0], [0, *[np.inf] * 5])
    np.testing.assert_array_equal(np.isnan(found.variance[:, 0]), [False, *[True] * 5])


@pytest.mark.any_precision
@pytest.mark.filterwarnings("error")
def test_chances_too_small_for_numbers():
    """Against a drift, the probability of the first end underflows: its time is not known, but not infinite."""
    n = 1000
    matrix, terminal = line(n, 0.9, 0.1)
    found = absorption_times(matrix, terminal, 2)
    assert found.outcome == Outcome.SOLVED
    np.testing.assert_allclose(found.mean[1:-1, 1], (n - np.arange(2, n)) / 0.8, rtol=0.3)
    assert np.isnan(found.mean[n // 2, 0])
    assert np.isinf(found.mean[n - 1, 0])


def certain(n):
    """Step by step to the last cell."""
    matrix = sp.csr_matrix(np.diag(np.ones(n - 1), 1))
    return matrix, np.r_[np.full(n - 1, -1), 0]


@pytest.mark.any_precision
def test_means_do_not_wait_for_variances():
    matrix, terminal = certain(300)
    found = absorption_times(matrix, terminal, 1)
    assert found.outcome == Outcome.INACCURATE
    assert found.error < 1e-9 < 1e-6 < found.variance_error
    alone = absorption_times(matrix, terminal, 1, needs_variance=False)
    assert alone.outcome == Outcome.SOLVED
    for each in (found, alone):
        np.testing.assert_allclose(each.mean[:, 0], np.arange(300)[::-1], rtol=1e-9)
        assert np.isnan(each.variance).any()

    def first(values):
        transitions = TransitionMatrix(graph, values)
        return absorption_times(transitions, jnp.asarray(terminal), 1, needs_variance=False).mean[0, 0]

    graph, values = (of := on_graph(matrix)).graph, of.values
    assert all(np.isfinite(np.asarray(part)).all() for part in jax.grad(first)(values))


@pytest.mark.any_precision
def test_without_a_solution_it_says_so():
    dense, terminal = random_chain()
    lost = dense.copy()
    lost[20] = np.eye(N_CELLS)[20]
    found = absorption_times(sp.csr_matrix(lost), terminal, N_FATES)
    assert found.outcome == Outcome.UNREACHABLE
    assert np.isnan(found.mean[terminal < 0]).all()
    rough = absorption_times(sp.csr_matrix(dense), terminal, N_FATES, max_steps=4, direct_cells=0)
    assert rough.outcome == Outcome.INACCURATE
    assert not rough.error <= 1e-6
    # Where the iteration has not come to, nothing is known; that no path leads there is.
    matrix, ends = line(60)
    rough = absorption_times(matrix, ends, 2, max_steps=4, direct_cells=0)
    assert rough.outcome == Outcome.INACCURATE
    assert np.isnan(rough.mean[1:-1]).any()
    np.testing.assert_array_equal(np.argwhere(np.isinf(rough.mean)), [[0, 1], [59, 0]])
    slow, ends = hardly_let_go(1e-9)
    assert absorption_times(chain(slow).to_csr(), ends, 2).outcome == Outcome.SOLVED
