"""Curves at any times: their values, slopes, and how sure both are."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from jaxvelo.trends._basis import spline_basis
from jaxvelo.trends._sums import FARTHEST


class Curve(NamedTuple):
    """Curves of genes at some times, with pointwise bands.

    Attributes
    ----------
    values, lower, upper
        Expected expression, and its band, of shape (genes, times), in the units of the expression.
    slope, slope_lower, slope_upper
        Its derivative with respect to the time, and the band of that, of shape (genes, times), per unit of time.

    Examples
    --------
    >>> times = np.linspace(0, 1, 50)
    >>> values = np.stack([times, np.cos(40 * np.arange(50))], axis=1)  # one gene that rises, one that does not
    >>> fit = jv.trends.fit_trends(values, times, np.ones((50, 1)), np.array([[0.0, 1.0]]))
    >>> curve = jv.trends.evaluate_trends(fit.coefficients[0], fit.covariances[0], np.array([0.25, 0.75]), (0.0, 1.0))
    >>> curve.values[0].round(2).tolist(), curve.slope[0].round(2).tolist(), bool((curve.lower < curve.upper).all())
    ([0.25, 0.75], [1.0, 1.0], True)
    """

    values: Float[np.ndarray, "genes times"]
    lower: Float[np.ndarray, "genes times"]
    upper: Float[np.ndarray, "genes times"]
    slope: Float[np.ndarray, "genes times"]
    slope_lower: Float[np.ndarray, "genes times"]
    slope_upper: Float[np.ndarray, "genes times"]


def evaluate_trends(
    coefficients: Float[np.ndarray, "genes n_knots"],
    covariances: Float[np.ndarray, "genes n_knots n_knots"],
    times: Float[np.ndarray, " times"],
    time_range: tuple[float, float],
    *,
    spline_order: int = 3,
    counts: bool = False,
    level: float = 0.95,
) -> Curve:
    r"""Evaluate the curves of one lineage, with bands that cover the truth at a share ``level`` of the times.

    That is so of many cells: where the weights amount to 50 of them, bands of level 0.95 cover 0.90, to ten, 0.82.

    Bands of counts are made for the logarithm; the slope :math:`\mu f'` has the standard error of
    :math:`\mu (B' + f' B) \beta`.

    Parameters
    ----------
    coefficients, covariances
        Of one curve of each gene, of shape (genes, n_knots) and (genes, n_knots, n_knots); see :class:`TrendFit`.
    times
        Times within the range, of shape (times,), in its unit.
    time_range
        First and last time of the curve.
    spline_order
        Order of the splines.
    counts
        Whether the coefficients give logarithms of expected counts.
    level
        Level of the bands, between 0 and 1.

    Returns
    -------
    Curve
        Values, slopes and their bands at these times.

    References
    ----------
    Nychka (1988) for bands that hold on average over the curve; the standard error of the slope of counts by the delta
    method.

    Examples
    --------
    >>> times = np.linspace(0, 1, 50)
    >>> values = np.stack([times, np.cos(40 * np.arange(50))], axis=1)  # one gene that rises, one that does not
    >>> fit = jv.trends.fit_trends(values, times, np.ones((50, 1)), np.array([[0.0, 1.0]]))
    >>> curve = jv.trends.evaluate_trends(fit.coefficients[0], fit.covariances[0], np.array([0.25, 0.75]), (0.0, 1.0))
    >>> curve.values[0].round(2).tolist()
    [0.25, 0.75]
    """
    low, high = time_range
    place, n_knots = (np.asarray(times, float) - low) / (high - low), coefficients.shape[1]
    basis = np.asarray(spline_basis(place, n_knots, spline_order, xp=np))
    change = np.asarray(spline_basis(place, n_knots, spline_order, 1, xp=np)) / (high - low)
    value, slope = coefficients @ basis.T, coefficients @ change.T
    width = ndtri((1 + level) / 2)
    error = width * _errors(basis[None], covariances)
    if not counts:
        slope_error = width * _errors(change[None], covariances)
        return Curve(value, value - error, value + error, slope, slope - slope_error, slope + slope_error)
    mean, error = np.exp(value), np.minimum(error, FARTHEST)  # a band that says nothing is finite
    slope_error = width * mean * _errors(change[None] + slope[..., None] * basis[None], covariances)
    slope = mean * slope
    return Curve(mean, np.exp(value - error), np.exp(value + error), slope, slope - slope_error, slope + slope_error)


def _errors(rows: Float[np.ndarray, "genes_or_1 times n_knots"], covariances: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(((rows @ covariances) * rows).sum(-1), 0))
