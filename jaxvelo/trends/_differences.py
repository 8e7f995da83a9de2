"""Whether genes that have one curve along the time have another one for some of the cells."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.trends._basis import difference_penalty, spline_basis
from jaxvelo.trends._penalized_fit import Distribution, best_constants, is_absent, iterate, leaves_rounding, prepare
from jaxvelo.trends._score_test import score_test
from jaxvelo.trends._smoothness import directions
from jaxvelo.trends._sums import genes_at_a_time

LEAST_VARIANCE = 1e-10
"""Of shares beside their mean; less is rounding."""


def difference_test(
    values: np.ndarray | sp.csr_matrix | sp.csr_array,
    times: Float[np.ndarray, " cells"],
    weights: Float[np.ndarray, "cells tests"],
    shares: Float[np.ndarray, "cells tests"],
    ranges: Float[np.ndarray, "tests 2"],
    *,
    n_knots: int = 10,
    spline_order: int = 3,
    distribution: Distribution = "normal",
    size_factors: Float[np.ndarray, " cells"] | None = None,
    max_iter: int = 50,
) -> tuple[Float[np.ndarray, "tests genes"], Float[np.ndarray, "tests genes"]]:
    r"""Test whether expression at a time depends on a share that cells have, beside the time.

    At the hypothesis of one curve :math:`f`, with residuals :math:`r_i`, the score of a second curve in the cells'
    shares :math:`p_i` is

    .. math:: U = \sum_i w_i (p_i - \bar p(t_i))\, r_i\, B_i,

    where :math:`\bar p` is the mean share at a time, a spline too, in which cells count by what they say of :math:`f`
    (of counts, by the working weights of each gene): errors of either curve matter in second order only (Shah & Peters
    2020), also where cells of one kind have more counts. The statistic is :math:`Q = U^\top (G + \lambda_0 S)^{-1} U`,
    with a penalty that leaves four degrees of freedom, over its mean without a second curve. There, :math:`Q` is a
    weighted sum of :math:`\chi^2_1`, whose weights follow from the variance that the cells' own terms of :math:`U` show
    (Zhang & Lin 2003).

    Parameters
    ----------
    values, times, n_knots, spline_order, distribution, size_factors, max_iter
        See :func:`fit_trends`.
    weights
        Weights of the cells in each test, shape (cells, tests): of two lineages, the probability of ending in either;
        of conditions, that of the lineage.
    shares
        What expression may depend on, shape (cells, tests): of two lineages, the first one's share of that probability;
        of a condition, one in its cells and zero in others.
    ranges
        First and last time of the cells in each test, shape (tests, 2).

    Returns
    -------
    statistics, p_values : numpy.ndarray
        Of shape (tests, genes); NaN where no share differs from the mean at its time, or the curve leaves no residuals.

    References
    ----------
    Shah & Peters (2020), The hardness of conditional independence testing and the generalised covariance measure, Ann.
    Statist. 48:1514.

    Examples
    --------
    >>> times, second = np.tile(np.linspace(0, 1, 50), 2), np.repeat([0.0, 1.0], 50)  # two conditions
    >>> noise = np.cos(40 * np.arange(100)) / 10
    >>> values, ones = np.stack([times + noise, second * times + noise], axis=1), np.ones((100, 1))
    >>> _, p_values = jv.trends.difference_test(values, times, ones, second[:, None], np.array([[0.0, 1.0]]))
    >>> (p_values < 0.01).tolist()  # the second gene rises in the second condition alone
    [[False, True]]
    """
    found = [
        _test_genes(some, times, weights, shares, ranges, n_knots, spline_order, distribution, size_factors, max_iter)
        for some in genes_at_a_time(values)
    ]
    statistics, p_values = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return statistics, p_values


def _test_genes(
    values, times, weights, shares, ranges, n_knots, spline_order, distribution, size_factors, max_iter
) -> tuple[np.ndarray, np.ndarray]:
    """Test some genes; see :func:`difference_test`."""
    counts = distribution != "normal"
    cells, places, weights, n_effective = prepare(
        values, times, weights, ranges, size_factors, n_knots, spline_order, counts
    )
    penalty = difference_penalty(n_knots)
    if counts:
        start, sums = best_constants(cells, places, weights)
    else:  # wherever it starts, it ends at once
        start = np.zeros((weights.shape[0], values.shape[1], n_knots))
        sums = cells.sums(places, weights, start, start[..., 0])
    absent = is_absent(sums) & counts
    found = iterate(
        cells, places, weights, n_effective, start, sums, absent, "REML", None, distribution, max_iter, False
    )
    shares = np.asarray(shares, float).T
    means = _mean_shares(places, weights, shares, n_knots, spline_order)
    beside = shares - np.stack(
        [
            spline_basis(place, n_knots, spline_order, xp=np) @ mean
            for place, mean in zip(places, means[:, 0], strict=True)
        ]
    )
    varies = (weights * beside**2).sum(1) > LEAST_VARIANCE * weights.sum(1)
    if counts:
        at = found.coefficients, found.dispersion
        all_, part = (cells.sums(places, some, *at) for some in (weights, weights * shares))
        means = np.stack([_solved(a.gram, p.gram.sum(2)) for a, p in zip(all_, part, strict=True)])
    scores = cells.sums(places, weights, found.coefficients, found.dispersion, shares, means)
    results = []
    for place, weight, of in zip(places, weights * beside**2, scores, strict=True):
        basis = spline_basis(place, n_knots, spline_order, xp=np)
        gram = (basis.T * weight) @ basis
        # Where shares differ at a single time, they say nothing of a slope.
        gram += (1e-8 * np.trace(gram) + np.finfo(float).tiny) * np.eye(n_knots)
        results.append(score_test(directions(gram[None], penalty), of.score, of.meat))
    absent |= ~varies[:, None] | leaves_rounding(cells, found.coefficients, scores)
    statistics, p_values = (np.where(absent, np.nan, np.stack(of)) for of in zip(*results, strict=True))
    return statistics, p_values


def _mean_shares(places, weights, shares, n_knots, spline_order) -> Float[np.ndarray, "tests 1 n_knots"]:
    """Coefficients of the mean share at a time, of each test."""
    found = []
    for place, weight, share in zip(places, weights, shares, strict=True):
        basis = spline_basis(place, n_knots, spline_order, xp=np)
        found.append(_solved(((basis.T * weight) @ basis)[None], ((basis.T * weight) @ share)[None]))
    return np.stack(found)


def _solved(
    gram: Float[np.ndarray, "genes n_knots n_knots"], right: Float[np.ndarray, "genes n_knots"]
) -> Float[np.ndarray, "genes n_knots"]:
    """Solve for the coefficients of mean shares; where there are no cells, they are those of all."""
    whole = gram.sum(2)
    mean = right.sum(1, keepdims=True) / whole.sum(1, keepdims=True)
    n_knots = gram.shape[1]
    # So small a penalty decides nothing but where there are no cells.
    ridge = 1e-8 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * (np.eye(n_knots) + difference_penalty(n_knots))
    return mean + np.linalg.solve(gram + ridge, (right - mean * whole)[..., None])[..., 0]
