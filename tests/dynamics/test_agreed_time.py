"""The order of the cells that the clocks of all genes agree on."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import rankdata, spearmanr

from jaxvelo.dynamics import agreed_time
from jaxvelo.dynamics._agreed_time import N_STEPS

pytestmark = pytest.mark.any_precision


def clocks(n_cells=160, seed=0):
    """Clocks that stand still before and after the gene moves, or outside of its branch; and the true time.

    Some are cut open elsewhere, one runs backward, and a few say nothing.
    """
    rng = np.random.default_rng(seed)
    true = rng.permutation((np.arange(n_cells) + 0.5) / n_cells)
    branch = rng.integers(0, 2, n_cells)
    begin = rng.uniform(0, 0.7, 24)
    times = np.clip(true[:, None], begin, begin + 0.3) * rng.uniform(1, 20, 24)
    times[:, 12:] = np.where((true[:, None] > 0.5) & (branch[:, None] == np.arange(12) % 2), begin[12:], times[:, 12:])
    times += 0.05 * times.std(axis=0) * rng.normal(size=times.shape)
    turned = (true[:, None] + [0.2, 0.6]) % 1 + 0.05 * rng.normal(size=(n_cells, 2))
    return np.column_stack([times, turned, -true, rng.random((n_cells, 4))]), true


def around(true, width=0.02):
    """Mean over cells of about the same time."""
    near = (abs(true[:, None] - true) < width).astype(float)
    return sp.csr_matrix(near / near.sum(axis=1, keepdims=True))


def pooled(values):
    """Increasing regression by pooling neighbours that violate the order, one cell at a time."""
    blocks = []
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    return np.concatenate([np.full(n, value) for value, n in blocks])


def plain_reading(time, order, cut):
    """Reading of one clock, cut open at a step, and the variance that it leaves."""
    step = np.minimum((rankdata(time) - 0.5) / len(time) * N_STEPS, N_STEPS - 1).astype(int)
    place = (step - cut) % N_STEPS
    means = np.array([order[step == s].mean() if (step == s).any() else 0 for s in range(N_STEPS)])[step]
    sequence = np.argsort(place, kind="stable")
    reading = np.empty(len(time))
    reading[sequence] = pooled(means[sequence])
    return reading, np.mean((order - reading) ** 2)


def plain_agreed_time(times, start, neighborhoods, iterations):
    def ranks(x):
        return (rankdata(x) - 0.5) / len(x)

    order = ranks(start)
    cuts = [np.argmin([plain_reading(t, order, cut)[1] for cut in range(N_STEPS)]) for t in times.T]
    for step in range(iterations + 1):
        readings, variances = zip(
            *(plain_reading(t, order, c) for t, c in zip(times.T, cuts, strict=True)), strict=True
        )
        weights = np.maximum(1 / np.maximum(variances, 1e-4) - 1 / order.var(), 0)
        if step < iterations:
            order = ranks(neighborhoods @ np.average(readings, axis=0, weights=weights))
    return order, weights.mean()


def test_equals_numpy():
    times, true = clocks()
    times[:, 3] = np.round(times[:, 3], 1)  # equal times
    start = true + np.random.default_rng(1).normal(0, 0.2, len(true))
    found = agreed_time(times, start, around(true), 2)
    order, precision = plain_agreed_time(times, start, around(true), 2)
    np.testing.assert_allclose(found.order, order, atol=1e-9)
    assert found.precision == pytest.approx(precision)


def test_finds_the_true_order_from_a_poor_start():
    """Where the genes' mean knows little."""
    times, true = clocks()
    start = true + np.random.default_rng(1).normal(0, 0.3, len(true))
    found = agreed_time(times, start, around(true))
    assert spearmanr(start, true)[0] < 0.8
    assert spearmanr(np.median(times, axis=1), true)[0] < 0.9
    assert spearmanr(found.order, true)[0] > 0.95
    worse = agreed_time(times, np.random.default_rng(2).random(len(true)), sp.identity(len(true), format="csr"))
    assert worse.precision < found.precision


def test_units_the_order_of_cells_and_genes_and_rounding_do_not_matter():
    times, true = clocks()
    start, near = true**2, around(true)
    expected = agreed_time(times, start, near).order
    rng = np.random.default_rng(0)
    cells, genes = rng.permutation(len(true)), rng.permutation(times.shape[1])
    other = times * np.exp(rng.normal(size=times.shape[1])) * (1 + 1e-7 * rng.normal(size=times.shape))
    found = agreed_time(other[cells][:, genes], start[cells], near[cells][:, cells]).order
    np.testing.assert_allclose(found, expected[cells], atol=0.02)


def test_clocks_that_say_nothing_leave_the_order_as_it_is():
    start = np.array([0.3, 0.1, 0.2, 0.9])
    found = agreed_time(np.ones((4, 3)), start, sp.identity(4, format="csr"))
    np.testing.assert_array_equal(found.order, [0.625, 0.125, 0.375, 0.875])
    assert found.precision == 0
