"""Trends against a plain version, against derivatives, and against the truth."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import chi2

from jaxvelo.trends import _sums as sums
from jaxvelo.trends import difference_test, evaluate_trends, fit_trends
from jaxvelo.trends._basis import difference_penalty, spline_basis
from jaxvelo.trends._quadratic_forms import tail_probability
from tests.trends import plain

N, RANGES = 300, np.array([[0.0, 10.0], [0.0, 8.0]])


def fates_at(times, rng):
    """Of two lineages, decided with the time."""
    committed = np.clip(times / times.max(), 0, 1)[:, None]
    return (1 - committed) * 0.5 + committed * np.eye(2)[rng.integers(0, 2, len(times))]


@pytest.fixture(scope="module")
def example():
    """Times, fates, and normal expression of six genes."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 10, N))
    curves = np.stack([np.sin(times), times / 5, 0 * times, np.exp(-((times - 3) ** 2)), np.cos(times / 2), times**0.5])
    return times, fates_at(times, rng), curves.T + 0.4 * rng.normal(size=(N, 6)) + 3


def inside(times, weights, curve):
    chosen = times <= RANGES[curve, 1]
    return chosen, times[chosen] / RANGES[curve, 1], weights[chosen, curve]


@pytest.mark.parametrize("order", [1, 3])
def test_basis(order):
    x = np.linspace(0, 0.999, 50)
    for derivative in (0, 1):
        ours = spline_basis(x, 8, order, derivative, xp=np)
        np.testing.assert_allclose(ours, plain.basis_of(x, 8, order, derivative), atol=1e-12)
    end, before = np.array([1.0]), np.array([1 - 1e-7])
    np.testing.assert_allclose(spline_basis(end, 8, order, xp=np).sum(), 1)
    for derivative in (0, 1):
        at_end, near = (spline_basis(x, 8, order, derivative, xp=np) for x in (end, before))
        np.testing.assert_allclose(at_end, near, atol=1e-4)
    np.testing.assert_array_equal(difference_penalty(8), plain.penalty_of(8))


def test_equal_to_plain_version(example):
    times, weights, values = example
    fit = fit_trends(values, times, weights, RANGES, ratio=0.3)
    for curve in range(2):
        chosen, x, w = inside(times, weights, curve)
        assert fit.n_effective[curve] == pytest.approx(w.sum() ** 2 / (w**2).sum())
        for gene in range(values.shape[1]):
            beta, covariance, degrees, scale = plain.normal_trend(values[chosen, gene], x, w, 0.3)
            np.testing.assert_allclose(fit.coefficients[curve, gene], beta, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(fit.covariances[curve, gene], covariance, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(fit.degrees[curve, gene], degrees, rtol=1e-4)
            np.testing.assert_allclose(fit.scale[curve, gene], scale, rtol=1e-4)


def test_smoothness(example):
    """No penalty has a higher restricted likelihood; cross validation is near it."""
    times, weights, values = example
    fit = fit_trends(values, times, weights, RANGES)
    chosen, x, w = inside(times, weights, 0)
    n, w = w.sum() ** 2 / (w**2).sum(), w * w.sum() / (w**2).sum()
    basis, penalty = plain.basis_of(x, 10), plain.penalty_of(10)
    unit = np.trace(basis.T @ (w[:, None] * basis)) / np.trace(penalty)
    for gene in range(values.shape[1]):
        tried = [
            plain.restricted_likelihood(values[chosen, gene], basis, w, n, ratio * unit * penalty)
            for ratio in [fit.ratio[0, gene], *10.0 ** np.arange(-5, 5.5, 0.5)]
        ]
        assert tried[0] > max(tried[1:]) - 1e-2
    crossed = fit_trends(values, times, weights, RANGES, criterion="GCV")
    assert np.abs(np.log(crossed.degrees / fit.degrees)).max() < 1
    assert (crossed.degrees != fit.degrees).any()


def test_blocks_and_sparse_rows(example, monkeypatch):
    times, weights, values = example
    whole = fit_trends(values, times, weights, RANGES)
    monkeypatch.setattr(sums, "BLOCK", 64 * 4)
    monkeypatch.setattr(sums, "GENES", 4)
    parts = fit_trends(sp.csr_matrix(values), times, weights, RANGES)
    for some, all_ in zip(parts, whole, strict=True):
        np.testing.assert_allclose(some, all_, rtol=2e-3, atol=1e-5)


def test_slopes(example):
    """As finite differences of the curves, for both scales."""
    times, weights, values = example
    fit = fit_trends(values, times, weights, RANGES)
    for counts in (False, True):
        of = fit.coefficients[0] / 4, fit.covariances[0]
        at = {"time_range": (0.0, 10.0), "counts": counts}
        points = np.linspace(0.5, 9.5, 7)
        here, step = evaluate_trends(*of, points, **at), 1e-4
        before, after = (evaluate_trends(*of, points + shift, **at) for shift in (-step, step))
        np.testing.assert_allclose(here.slope, (after.values - before.values) / (2 * step), atol=1e-6)
        # The band is that of coefficients drawn from their distribution.
        draws = np.random.default_rng(0).multivariate_normal(of[0][0], of[1][0], 4000)
        sampled = evaluate_trends(draws, np.zeros((4000, 10, 10)), points, **at)
        width = (here.slope_upper - here.slope_lower)[0] / 2 / 1.96
        np.testing.assert_allclose(width, sampled.slope.std(0), rtol=0.1)
        assert (here.lower < here.values).all()
        assert (here.values < here.upper).all()


@pytest.mark.parametrize("distribution", ["poisson", "negative binomial"])
def test_counts(example, distribution):
    times, weights, _ = example
    rng = np.random.default_rng(1)
    size = rng.lognormal(0, 0.3, N)
    mean = size[:, None] * np.exp(np.stack([np.sin(times), 0 * times + 1, -times / 3], axis=1))
    noise = rng.gamma(2, 0.5, mean.shape) if distribution == "negative binomial" else 1
    counts = np.concatenate([rng.poisson(mean * noise), np.zeros((N, 1))], axis=1)
    given = {"distribution": distribution, "size_factors": size}
    fit = fit_trends(counts, times, weights[:, :1], RANGES[:1], ratio=0.1, **given)
    assert fit.converged.all()
    assert np.isnan(fit.coefficients[0, 3]).all()
    assert np.isnan(fit.p_value[0, 3])
    dispersion = fit.dispersion[0, :3]
    if distribution == "poisson":
        assert (dispersion == 0).all()
    else:
        np.testing.assert_allclose(dispersion.mean(), 0.5, atol=0.2)
        np.testing.assert_allclose(fit.scale[0, :3][dispersion > 0], 1, atol=0.1)
    for gene in range(3):
        beta = plain.count_trend(counts[:, gene], times / 10, weights[:, 0], size, 0.1, dispersion[gene])
        np.testing.assert_allclose(fit.coefficients[0, gene], beta, atol=0.02)
    free = fit_trends(counts, times, weights[:, :1], RANGES[:1], **given)
    curve = evaluate_trends(free.coefficients[0, :3], free.covariances[0, :3], times, (0, 10), counts=True)
    truth = (mean / size[:, None]).T
    assert ((curve.lower <= truth) & (truth <= curve.upper)).mean() > 0.7
    assert free.p_value[0, [0, 2]].max() < 0.01
    assert free.p_value[0, 1] > 0.01


def test_a_lone_count_at_one_end():
    times = np.linspace(0, 1, 200)
    counts = np.zeros((200, 2))
    counts[0, 0] = counts[:, 1] = 1
    fit = fit_trends(counts, times, np.ones((200, 1)), np.array([[0.0, 1.0]]), distribution="poisson")
    assert np.isfinite(fit.coefficients).all()
    assert fit.coefficients[0, 0, 0] > fit.coefficients[0, 0, -1]


@pytest.mark.any_precision
def test_constant_genes_are_not_tested():
    """What rounding leaves of them is no change."""
    rng = np.random.default_rng(4)
    times, condition = rng.uniform(0, 1, 300), rng.integers(0, 2, (300, 1)).astype(float)
    values = np.tile(rng.uniform(0.1, 9, 50).astype(np.float32), (300, 1))
    values[:, 0] += rng.normal(size=300) * 1e-3
    given = times, np.ones((300, 1)), np.array([[0.0, 1.0]])
    fit = fit_trends(values, *given)
    np.testing.assert_array_equal(np.isnan(fit.p_value[0]), np.arange(50) > 0)
    np.testing.assert_array_equal(fit.statistic[0, 1:], 0)
    np.testing.assert_allclose(fit.coefficients[0, 1:], values[0, 1:, None] + np.zeros(10), rtol=1e-5)
    p = difference_test(values, *given[:2], condition, given[2])[1]
    np.testing.assert_array_equal(np.isnan(p[0]), np.arange(50) > 0)


@pytest.fixture(scope="module")
def noise():
    """Many genes without any change, and their times, fates and conditions."""
    rng = np.random.default_rng(2)
    times = rng.uniform(0, 10, 400)
    return times, fates_at(times, rng), rng.normal(size=(400, 1000)) * (1 + times[:, None] / 5), rng.integers(0, 2, 400)


def test_coverage_and_false_positives(noise):
    """Bands cover curves of many shapes, also where noise changes; flat genes are not found to change."""
    times, weights, values, condition = noise
    rng = np.random.default_rng(3)
    center, width = rng.uniform(1, 9, 1000), rng.uniform(1, 3, 1000)
    grid = np.linspace(0, 8, 50)

    def truth(times):
        return 2 * np.exp(-0.5 * ((times[:, None] - center) / width) ** 2)

    fit = fit_trends(values / 2 + truth(times), times, weights, RANGES)
    for curve in range(2):
        found = evaluate_trends(fit.coefficients[curve], fit.covariances[curve], grid, tuple(RANGES[curve]))
        covered = (found.lower <= truth(grid).T) & (found.upper >= truth(grid).T)
        assert 0.88 <= covered.mean() <= 0.95
    changed, flat = fit.p_value, fit_trends(values, times, weights, RANGES).p_value
    assert (changed < 0.05).mean() > 0.9
    assert 0.03 < (flat < 0.05).mean() < 0.07
    tests = {
        "lineages": (np.ones((400, 1)), weights[:, :1]),
        "conditions": (weights[:, :1], condition[:, None]),
    }
    for name, (together, share) in tests.items():
        common = values / 2 + truth(times)
        p = difference_test(common, times, together, share, RANGES[:1])[1]
        assert 0.03 < (p < 0.05).mean() < 0.07, name
        differs = common + share * times[:, None] / 4
        assert (difference_test(differs, times, together, share, RANGES[:1])[1] < 0.05).mean() > 0.8, name


def test_conditions_of_different_depth():
    """Cells of one condition may have more counts: that neither makes differences nor hides them."""
    rng = np.random.default_rng(5)
    n, n_genes = 600, 400
    times, condition = rng.uniform(0, 1, n), rng.integers(0, 2, n)
    size = np.where(condition == 1, 6.0, 1.0) * rng.lognormal(0, 0.2, n)
    size /= size.mean()
    center = rng.uniform(0, 1, n_genes)
    log_mean = 2 * np.exp(-0.5 * ((times[:, None] - center) / 0.3) ** 2)
    given = times, np.ones((n, 1)), condition[:, None].astype(float), np.array([[0.0, 1.0]])
    for distribution in ("poisson", "negative binomial"):
        for change, low, high in ((0.0, 0.02, 0.09), (0.6, 0.75, 1.0)):
            mean = size[:, None] * np.exp(log_mean + change * (condition * times)[:, None])
            noise = rng.gamma(4, 0.25, mean.shape) if distribution != "poisson" else 1
            counts = rng.poisson(mean * noise).astype(float)
            p = difference_test(counts, *given, distribution=distribution, size_factors=size)[1]
            assert low < (p < 0.05).mean() < high, (distribution, change)


@pytest.mark.any_precision
def test_tails():
    """Of sums of few terms; equal weights make a chi-squared distribution."""
    q = np.array([0.1, 1.0, 3.0, 5.0, 10.0, 60.0, 400.0])
    for terms in (1, 3, 10):
        p = tail_probability(2 * q, np.full((len(q), terms), 2.0))
        np.testing.assert_allclose(p, chi2.sf(q, terms), rtol=0.16 if terms == 1 else 0.05)
    weights = np.array([3.0, 1.0, 0.2, 0.0, -1e-12])
    draws = np.random.default_rng(0).normal(size=(400_000, 5)) ** 2 @ np.maximum(weights, 0)
    for q in (1.0, weights.sum(), 10.0, 30.0):
        assert tail_probability(np.array([q]), weights[None])[0] == pytest.approx((draws > q).mean(), rel=0.08)
    assert np.isnan(tail_probability(np.array([1.0]), np.zeros((1, 3)))).all()
