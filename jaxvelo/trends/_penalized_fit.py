"""Penalised splines of all genes along a time, weighted by fates."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from jaxvelo.trends._basis import difference_penalty
from jaxvelo.trends._score_test import score_test
from jaxvelo.trends._smoothness import Criterion, Directions, Smooth, directions, smooth
from jaxvelo.trends._sums import FARTHEST, Cells, Sums, genes_at_a_time

Distribution = Literal["normal", "poisson", "negative binomial"]

TOLERANCE = 1e-2
"""Standard errors that a curve of counts may still move by when it counts as found."""

FREE_ITERATIONS = 12
"""Iterations in which the penalty is chosen anew; later ones keep it, as it could go back and forth."""

LEAST_COUNT = 0.5
"""Counts of a gene, weighted as the cells are, below which there is nothing to fit."""

LARGEST_STEP = 3.0
"""Change of the logarithm of expected counts in one iteration: from where little is expected, steps are too long."""

LARGEST_DISPERSION = 100.0
"""Dispersion of counts that nearly all stand in a few cells, which has no upper bound of its own."""

STEEPEST = 10.0
"""Standard deviation of the logarithm of what counts may change from end to end: a lone count at one end would let it
grow without bound."""

LARGEST_LOG_VARIANCE = 10.0
"""Of the penalty's logarithm, where the likelihood hardly depends on it."""

ROUNDING = 16.0
"""Errors of single operations that residuals may have, in units of the precision."""


class TrendFit(NamedTuple):
    """Curves of all genes, in double precision.

    All numbers are NaN for a gene with less than half a count in the cells of a curve, as they are weighted.

    Attributes
    ----------
    coefficients
        Of the basis functions, shape (curves, genes, n_knots); they give the logarithm of the expected counts at size
        factor 1 for count models.
    covariances
        Their covariances, shape (curves, genes, n_knots, n_knots): sampling variance, the bias that a curve of that
        smoothness has on average, and the uncertainty of the smoothness.
    ratio
        Penalties, relative to the traces' ratio of Gram matrix and penalty; this and all that follow, but for the last,
        have the shape (curves, genes).
    degrees
        Effective degrees of freedom, 2 (a straight line) to the number of functions.
    scale
        Residual variance of a cell of weight one, relative to the model's; for counts at least one, as fewer counts
        than a model needs look as if they varied less.
    dispersion
        Dispersion of counts, zero for other models.
    statistic, p_value
        Test of no change along the time, by the statistic of :func:`difference_test`: 1 on average where nothing
        changes. The p-value is NaN for genes that all cells express alike.
    converged
        Whether the iterations of count models came to an end.
    n_effective
        Number of cells that the weights of each curve amount to, shape (curves,).

    Examples
    --------
    >>> times = np.linspace(0, 1, 50)
    >>> values = np.stack([times, np.cos(40 * np.arange(50))], axis=1)  # one gene that rises, one that does not
    >>> fit = jv.trends.fit_trends(values, times, np.ones((50, 1)), np.array([[0.0, 1.0]]))
    >>> fit.coefficients.shape, fit.covariances.shape, fit.converged.tolist(), fit.n_effective.tolist()
    ((1, 2, 10), (1, 2, 10, 10), [[True, True]], [50.0])
    """

    coefficients: Float[np.ndarray, "curves genes n_knots"]
    covariances: Float[np.ndarray, "curves genes n_knots n_knots"]
    ratio: Float[np.ndarray, "curves genes"]
    degrees: Float[np.ndarray, "curves genes"]
    scale: Float[np.ndarray, "curves genes"]
    dispersion: Float[np.ndarray, "curves genes"]
    statistic: Float[np.ndarray, "curves genes"]
    p_value: Float[np.ndarray, "curves genes"]
    converged: Bool[np.ndarray, "curves genes"]
    n_effective: Float[np.ndarray, " curves"]


class Found(NamedTuple):
    """What is found of curves, counted from ``Cells.base``; the attributes are those of :class:`TrendFit`."""

    coefficients: Float[np.ndarray, "curves genes n_knots"]
    covariances: Float[np.ndarray, "curves genes n_knots n_knots"]
    ratio: Float[np.ndarray, "curves genes"]
    degrees: Float[np.ndarray, "curves genes"]
    scale: Float[np.ndarray, "curves genes"]
    dispersion: Float[np.ndarray, "curves genes"]
    converged: Bool[np.ndarray, "curves genes"]


def fit_trends(
    values: np.ndarray | sp.csr_matrix | sp.csr_array,
    times: Float[np.ndarray, " cells"],
    weights: Float[np.ndarray, "cells curves"],
    ranges: Float[np.ndarray, "curves 2"],
    *,
    n_knots: int = 10,
    spline_order: int = 3,
    distribution: Distribution = "normal",
    size_factors: Float[np.ndarray, " cells"] | None = None,
    criterion: Criterion = "REML",
    ratio: float | None = None,
    max_iter: int = 50,
) -> TrendFit:
    r"""Fit penalised B-splines to the expression of all genes along a time, one curve for each column of weights.

    Each curve :math:`f = B \beta` minimises the weighted deviance plus :math:`\lambda \beta^\top S \beta`, the squared
    second differences of its coefficients (Eilers & Marx 1996). Expression is normal with the mean :math:`f`; or counts
    with the mean :math:`s_i e^f` for size factors :math:`s_i` and variance :math:`\phi \mu` or :math:`\phi (\mu +
    \alpha \mu^2)`, by iterated weighted least squares, where the dispersion :math:`\alpha` is that for which Pearson's
    statistic is as large as its degrees of freedom.

    Weights say how much a cell belongs to a lineage; they are no numbers of cells. They are multiplied by
    :math:`\sum w / \sum w^2`, so that they sum to the number :math:`n = (\sum w)^2 / \sum w^2` of equally weighted
    cells that say as much (Kish 1965), and the smoothness is chosen as for so many. Covariances are

    .. math:: A^{-1} M A^{-1} + \phi \lambda A^{-1} S A^{-1} + v_\rho
        \frac{\partial \beta}{\partial \log \lambda} \frac{\partial \beta}{\partial \log \lambda}^\top,
        \quad A = G + \lambda S,

    the variance that the residuals of single cells show (:math:`M`, inflated by :math:`n / (n - \text{degrees})`;
    White 1980), whatever the weights and the variance along the curve; the average squared bias of a curve as smooth
    as this one (Wahba 1983; Nychka 1988), and what the smoothness's own variance :math:`v_\rho` adds (Kass & Steffey
    1989; Wood, Pya & Saefken 2016).

    Parameters
    ----------
    values
        Expression, log-normalised or counts, shape (cells, genes); dense or sparse in rows.
    times
        Times of the cells, shape (cells,), in any unit, finite where they have weight.
    weights
        Weights of the cells for each curve, shape (cells, curves), not negative; cells outside of a curve's range do
        not count.
    ranges
        First and last time of each curve, shape (curves, 2).
    n_knots
        Number of basis functions.
    spline_order
        Order of their polynomials.
    distribution
        ``"normal"``, ``"poisson"`` or ``"negative binomial"``: see above.
    size_factors
        Size factors of counts, shape (cells,); 1 by default.
    criterion
        How smoothness is chosen, gene by gene and curve by curve: by restricted maximum likelihood, ``"REML"``, or by
        generalised cross validation, ``"GCV"``.
    ratio
        The same penalty for all instead, relative to the traces' ratio of Gram matrix and penalty.
    max_iter
        Iterations of count models, at most.

    Returns
    -------
    TrendFit
        Curves of all genes, their covariances, and a test of each for no change.

    Examples
    --------
    >>> times = np.linspace(0, 1, 50)
    >>> values = np.stack([times, np.cos(40 * np.arange(50))], axis=1)  # one gene that rises, one that does not
    >>> fit = jv.trends.fit_trends(values, times, np.ones((50, 1)), np.array([[0.0, 1.0]]))
    >>> (fit.p_value < 0.01).tolist(), bool(fit.degrees[0, 0] < 3)
    ([[True, False]], True)
    """
    fits = [
        _fit_genes(
            some, times, weights, ranges, n_knots, spline_order, distribution, size_factors, criterion, ratio, max_iter
        )
        for some in genes_at_a_time(values)
    ]
    *of_genes, n_effective = zip(*fits, strict=True)
    return TrendFit._make([*(np.concatenate(parts, axis=1) for parts in of_genes), n_effective[0]])


def _fit_genes(
    values, times, weights, ranges, n_knots, spline_order, distribution, size_factors, criterion, ratio, max_iter
) -> TrendFit:
    """Fit some genes; see :func:`fit_trends`."""
    counts = distribution != "normal"
    cells, places, weights, n_effective = prepare(
        values, times, weights, ranges, size_factors, n_knots, spline_order, counts
    )
    constants, sums = best_constants(cells, places, weights)
    absent = is_absent(sums) & counts
    constant, tests = leaves_rounding(cells, constants, sums), [_test_of_change(of) for of in sums]
    found = iterate(
        cells, places, weights, n_effective, constants, sums, absent, criterion, ratio, distribution, max_iter
    )
    found = found._replace(coefficients=found.coefficients + cells.base[None, :, None])
    statistic, p_value = (np.stack(of) for of in zip(*tests, strict=True))
    p_value[constant] = np.nan
    statistic[constant] = 0
    for array in (*found[:-1], statistic, p_value):
        array[absent] = np.nan
    return TrendFit(*found[:-1], statistic, p_value, found.converged, n_effective)


def prepare(values, times, weights, ranges, size_factors, n_knots, spline_order, counts):
    """Bring times to the unit interval and weights to effective numbers of cells; curves come first."""
    n_cells = values.shape[0]
    low, high = np.asarray(ranges, float).T[:, :, None]
    times = np.asarray(times, float)[None]
    inside = (times >= low) & (times <= high)
    weights = np.where(inside, np.asarray(weights, float).T, 0)
    places = np.where(inside, (times - low) / (high - low), 0)
    totals, squares = weights.sum(1), (weights**2).sum(1)
    size_factors = np.ones(n_cells) if size_factors is None else np.asarray(size_factors, float)
    mean = np.asarray(values.mean(axis=0), float).ravel()
    if counts:
        # A gene without counts has the mean of half a count in all cells.
        mean = np.log(np.maximum(mean * n_cells, 0.5) / size_factors.sum())
    cells = Cells(values, np.log(size_factors) if counts else np.zeros(n_cells), mean, n_knots, spline_order, counts)
    return cells, places, weights * (totals / squares)[:, None], totals**2 / squares


def best_constants(
    cells: Cells, places: np.ndarray, weights: np.ndarray
) -> tuple[Float[np.ndarray, "curves genes n_knots"], list[Sums]]:
    """Find the best constant of each gene for each curve, and the sums there."""
    n_curves, n_genes = len(weights), cells.values.shape[1]
    nothing, none = np.zeros((n_curves, n_genes, cells.n_knots)), np.zeros((n_curves, n_genes))
    at_zero = cells.sums(places, weights, nothing, none)
    shift = np.stack([of.score.sum(1) / of.gram.sum((1, 2)) for of in at_zero])
    if cells.counts:
        shift = np.log(np.maximum(1 + shift, 1e-6))
    constants = nothing + shift[..., None]
    return constants, cells.sums(places, weights, constants, none)


def is_absent(sums: Sequence[Sums]) -> Bool[np.ndarray, "curves genes"]:
    """Which genes have less than half a count in the cells of a curve, given the sums at the best constants."""
    return np.stack([np.broadcast_to(of.gram.sum((1, 2)) < LEAST_COUNT, len(of.score)) for of in sums])


def leaves_rounding(
    cells: Cells, coefficients: Float[np.ndarray, "curves genes n_knots"], sums: Sequence[Sums]
) -> Bool[np.ndarray, "curves genes"]:
    """Whether what a curve of normal expression leaves of a gene is no more than rounding: that is nothing to test."""
    if cells.counts:
        return np.zeros(coefficients.shape[:2], dtype=bool)
    level = np.abs(coefficients + cells.base[:, None]).max(axis=2)
    n = np.stack([of.gram.sum((1, 2)) for of in sums])
    return np.stack([of.pearson for of in sums]) <= n * (ROUNDING * np.finfo(jnp.result_type(float)).eps * level) ** 2


def _test_of_change(sums: Sums) -> tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]]:
    """Test the best constant, whose own score and information are taken out."""
    n_knots = sums.gram.shape[1]
    gram = sums.gram.sum(2)
    center = gram / gram.sum(1, keepdims=True)
    out = np.eye(n_knots)[None] - center[..., None]
    score = (out @ sums.score[..., None])[..., 0]
    along = directions(sums.gram, difference_penalty(n_knots))
    return score_test(along, score, out @ sums.meat @ out.swapaxes(1, 2))


def iterate(
    cells: Cells,
    places: Float[np.ndarray, "curves cells"],
    weights: Float[np.ndarray, "curves cells"],
    n_effective: Float[np.ndarray, " curves"],
    coefficients: Float[np.ndarray, "curves genes n_knots"],
    sums: list[Sums],
    absent: Bool[np.ndarray, "curves genes"],
    criterion: Criterion,
    ratio: float | None,
    distribution: Distribution,
    max_iter: int,
    with_covariances: bool = True,
) -> Found:
    """Solve, and go through the cells again, until no curve moves: once for normal expression.

    Parameters
    ----------
    cells, places, weights, n_effective
        The cells, as prepared.
    coefficients, sums
        Where to start, and the sums there.
    absent
        Genes with too few counts, which are not waited for.
    criterion, ratio, distribution, max_iter
        See :func:`fit_trends`.
    with_covariances
        Whether covariances are asked for; otherwise they are empty.
    """
    penalty, ends = difference_penalty(cells.n_knots), np.zeros(cells.n_knots)
    if cells.counts:
        ends[[0, -1]] = -1 / STEEPEST, 1 / STEEPEST
    n_curves, n_genes, _ = coefficients.shape
    dispersion, active = np.zeros((n_curves, n_genes)), np.arange(n_genes)
    degrees = np.ones((n_curves, n_genes))
    chosen = None if ratio is None else np.stack([np.full((n_curves, n_genes), value) for value in (ratio, 0.0)])
    all_found: Found | None = None
    for iteration in range(1, max_iter + 1 if cells.counts else 2):
        alongs = [directions(of.gram + np.outer(ends, ends)[None], penalty) for of in sums]
        smooths = [
            _solve(
                sums[i],
                alongs[i],
                coefficients[i],
                n,
                criterion,
                None if chosen is None else tuple(chosen[:, i]),
                np.maximum(sums[i].pearson / np.maximum(n - degrees[i], 1), 1) if cells.counts else None,
            )
            for i, n in enumerate(n_effective)
        ]
        degrees = np.stack([of.degrees for of in smooths])
        if iteration == FREE_ITERATIONS:
            chosen = np.stack([[of.ratio for of in smooths], [of.log_variance for of in smooths]])
        converged = absent | (not cells.counts)
        for curve, (along, smoothed) in enumerate(zip(alongs, smooths, strict=True)):
            converged[curve] |= _moved(along, smoothed, coefficients[curve]) < TOLERANCE
        step = np.stack([of.coefficients for of in smooths]) - coefficients
        if cells.counts:
            step *= LARGEST_STEP / np.maximum(np.abs(step).max(axis=2, keepdims=True), LARGEST_STEP)
        coefficients = coefficients + step
        if cells.counts:
            coefficients = np.clip(coefficients, -FARTHEST, FARTHEST)
        if distribution == "negative binomial":
            before, left = dispersion, np.maximum(n_effective[:, None] - degrees, 1)
            dispersion = np.stack(list(map(_next_dispersion, sums, before, left)))
            converged &= absent | (np.abs(dispersion - before) <= 1e-2 * dispersion)
        if cells.counts or with_covariances:
            sums = cells.sums(places, weights, coefficients, dispersion)
        left = np.asarray(~converged.all(axis=0))
        # Most genes are ready long before the last ones.
        if left.any() and iteration < max_iter and np.count_nonzero(left) > len(active) / 2:
            continue
        found = Found(
            coefficients,
            np.stack(list(map(_covariance, sums, alongs, smooths, n_effective)))
            if with_covariances
            else np.empty((*coefficients.shape, 0)),
            np.stack([of.ratio for of in smooths]),
            degrees,
            np.stack([of.scale for of in smooths]),
            dispersion,
            converged,
        )
        if all_found is None:
            all_found = found
        else:
            for array, some in zip(all_found, found, strict=True):
                array[:, active] = some
        if not left.any():
            break
        active, cells, sums = active[left], cells.of(left), [of.of(left) for of in sums]
        coefficients, dispersion, degrees, absent = (
            array[:, left] for array in (coefficients, dispersion, degrees, absent)
        )
        chosen = None if chosen is None else chosen[..., left]
    assert all_found is not None
    return all_found


def _solve(sums: Sums, along: Directions, coefficients: np.ndarray, n: float, criterion, known, scale) -> Smooth:
    """Solve for the coefficients of the working model around the present ones."""
    fitted = (sums.gram @ coefficients[..., None])[..., 0]
    squares = sums.pearson + (coefficients * (2 * sums.score + fitted)).sum(1)
    return smooth(along, fitted + sums.score, squares, n, criterion, known, scale)


def _moved(along: Directions, found: Smooth, before: np.ndarray) -> Float[np.ndarray, " genes"]:
    """Length of a step, in standard errors of the coefficients."""
    step = np.linalg.solve(along.vectors, (found.coefficients - before)[..., None])[..., 0]
    return np.sqrt((along.precision(found.ratio) * step**2).sum(1) / found.scale)


def _next_dispersion(sums: Sums, dispersion: np.ndarray, degrees: np.ndarray) -> Float[np.ndarray, " genes"]:
    """Newton's step for Pearson's statistic to be its degrees of freedom; the inverse of it is nearly linear."""
    step = (1 / degrees - 1 / sums.pearson) * sums.pearson**2 / np.maximum(sums.pearson_slope, np.finfo(float).tiny)
    return np.clip(dispersion + step, 0, np.minimum(10 * dispersion + 1, LARGEST_DISPERSION))


def _covariance(sums: Sums, along: Directions, found: Smooth, n: float) -> np.ndarray:
    """Covariances of the coefficients, see :func:`fit_trends`."""
    precision, penalized = along.precision(found.ratio), found.ratio[:, None] * (1 - along.information)
    inverse = along.spread(1 / precision)
    inflation = n / np.maximum(n - found.degrees, 1)
    sampling = inverse @ sums.meat @ inverse * inflation[:, None, None]
    bias = along.spread(penalized / precision**2) * found.scale[:, None, None]
    # The derivative of the coefficients in the logarithm of the penalty.
    inner = np.linalg.solve(along.vectors, found.coefficients[..., None])[..., 0]
    change = (along.vectors @ (penalized / precision * inner)[..., None])[..., 0]
    log_variance = np.minimum(found.log_variance, LARGEST_LOG_VARIANCE)
    return sampling + bias + log_variance[:, None, None] * change[:, :, None] * change[:, None]
