r"""RNA velocity from the steady-state model of splicing, for all genes at once.

Spliced counts follow :math:`ds/dt = \beta u - \gamma s`. In units where :math:`\beta = 1`, cells in the steady state
lie on the line :math:`u = \gamma s`; a cell's distance from that line is its velocity.

JAX arrays are fitted by a compiled program for their shape, differentiable in the moments; which cells count as extreme
is held fixed under differentiation. NumPy arrays are fitted by NumPy, in blocks of genes, and nothing is compiled. The
text is the same: inside, arrays have the shape (genes, cells). The results equal those of scVelo 0.3.4; choices of its
that a reader would not expect are marked *as scVelo*.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxvelo.graph._aligned import empty_aligned
from jaxvelo.graph._threads import n_workers, worker_threads
from jaxvelo.order_statistic import order_statistic

# Numbers in one array of a block of genes, on the host.
BLOCK = 1 << 18

Percentiles = tuple[float, float] | float | None
"""Which cells of a gene are extreme: lower and upper percentile, the upper one alone, or ``None`` for all cells."""


class SteadyState(eqx.Module):
    r"""Fit of the deterministic model.

    Attributes
    ----------
    gamma
        Degradation rate over splicing rate, :math:`\gamma / \beta`, of shape (genes,); no unit. 0 where it is
        undetermined (no spliced counts among the extreme cells).
    offset
        Unspliced counts at :math:`s = 0`, of shape (genes,); zeros unless fitted, never negative.
    r2
        Coefficient of determination over all cells, of shape (genes,), at most 1 and possibly negative; 0 where the
        unspliced counts do not vary.
    residual
        Velocity :math:`u - \gamma s - o`, of shape (cells, genes), in counts per unit of :math:`1/\beta`.

    Examples
    --------
    >>> s, u = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [0.8], [1.0]])
    >>> fit = jv.dynamics.steady_state(s, u, percentiles=(0, 100))
    >>> fit.gamma.tolist(), fit.residual[:, 0].round(2).tolist()
    ([0.5], [0.0, 0.3, 0.0])
    """

    gamma: Float[Any, " genes"]
    offset: Float[Any, " genes"]
    r2: Float[Any, " genes"]
    residual: Float[Any, "cells genes"]


class StochasticSteadyState(eqx.Module):
    r"""Fit of the stochastic model.

    Attributes
    ----------
    gamma
        As in :class:`SteadyState`, from the first and second moments together.
    offset, offset2
        Offsets of the equations of the first and of the second moments, of shape (genes,); zeros unless fitted.
    residual
        Velocity, of shape (cells, genes).
    residual2
        Velocity of the second moment (scVelo's ``variance_velocity``), of shape (cells, genes).

    Examples
    --------
    >>> s, u = np.asarray(spliced), np.asarray(unspliced)
    >>> fit = jv.dynamics.stochastic_steady_state(s, u, s * s, u * s)
    >>> fit.gamma.shape, fit.residual.shape, fit.residual2.shape
    ((40,), (150, 40), (150, 40))
    """

    gamma: Float[Any, " genes"]
    offset: Float[Any, " genes"]
    offset2: Float[Any, " genes"]
    residual: Float[Any, "cells genes"]
    residual2: Float[Any, "cells genes"]


def steady_state(
    spliced: Float[Any, "cells genes"],
    unspliced: Float[Any, "cells genes"],
    *,
    percentiles: Percentiles = (5, 95),
    fit_offset: bool = False,
    r2_of_all_cells: bool = False,
) -> SteadyState:
    r"""Fit the deterministic steady-state model.

    Least squares over the extreme cells :math:`E` of each gene, where the steady states are found,

    .. math:: \gamma = \frac{\sum_{i \in E} u_i s_i}{\sum_{i \in E} s_i^2}, \qquad
              r^2 = 1 - \frac{\sum_i (u_i - \gamma s_i)^2}{\sum_i (u_i - \bar u)^2}.

    Extreme are the cells whose :math:`s / \max s + u / \max u` reaches the upper percentile. With ``fit_offset`` the
    cells at or below the lower percentile are extreme as well, and an intercept :math:`o \geq 0` is fitted: where it
    would be negative, the line goes through the origin.

    Parameters
    ----------
    spliced, unspliced
        First moments of the normalised counts, of shape (cells, genes): all arrays of NumPy, or all of JAX.
    percentiles
        Lower and upper percentile, from 0 to 100; the lower is used with an offset only. A single number is the upper
        one. None fits on all cells. Static.
    fit_offset
        Whether to fit an intercept. Static.
    r2_of_all_cells
        Whether :math:`r^2` belongs to a second line, fitted on all cells. Static.

    Returns
    -------
    SteadyState
        Ratios, offsets, coefficients of determination and velocities.

    References
    ----------
    La Manno et al. (2018), extreme-quantile fit of gamma; Bergen et al. (2020), its deterministic model.

    Examples
    --------
    >>> s, u = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [0.8], [1.0]])
    >>> jv.dynamics.steady_state(s, u).gamma.tolist()  # the line through the highest cell
    [0.5]
    >>> jv.dynamics.steady_state(s, u, percentiles=None).gamma.round(2).tolist()  # through all cells
    [0.56]
    """
    options = percentiles, fit_offset, r2_of_all_cells
    return SteadyState(*_over_genes(_fit_first_moments, (spliced, unspliced), options))


def stochastic_steady_state(
    spliced: Float[Any, "cells genes"],
    unspliced: Float[Any, "cells genes"],
    spliced_spliced: Float[Any, "cells genes"],
    unspliced_spliced: Float[Any, "cells genes"],
    *,
    percentiles: Percentiles = (5, 95),
    fit_offset: bool = False,
    fit_offset2: bool = False,
) -> StochasticSteadyState:
    r"""Fit the stochastic steady-state model.

    Transcription, splicing and degradation as a Markov jump process give one more equation for the steady state, of
    the second moments, with the same :math:`\gamma`:

    .. math:: \langle u \rangle &= \gamma \langle s \rangle, \\
              \langle u \rangle + 2 \langle u s \rangle &= \gamma (2 \langle s^2 \rangle - \langle s \rangle).

    Both are solved together by generalised least squares: the first over the extreme cells, the second over all
    cells, each divided by the variance of its own residuals :math:`\sigma_k^2` under separate fits,

    .. math:: \gamma = \frac{\sum_k \sigma_k^{-2} x_k \cdot y_k}{\sum_k \sigma_k^{-2} x_k \cdot x_k}.

    Where an equation has an offset, its :math:`x_k` and :math:`y_k` are centred. Extreme cells here are those of
    :func:`steady_state` and those extreme in :math:`s` alone.

    Parameters
    ----------
    spliced, unspliced
        First moments of the normalised counts, of shape (cells, genes).
    spliced_spliced, unspliced_spliced
        Second, uncentred moments :math:`\langle s^2 \rangle`, :math:`\langle u s \rangle`, of shape (cells, genes).
    percentiles
        As for :func:`steady_state`. Static.
    fit_offset, fit_offset2
        Whether the equation of the first, and of the second moments has an offset; unconstrained. Static.

    Returns
    -------
    StochasticSteadyState
        Ratios, offsets and the velocities of both moments.

    References
    ----------
    Bergen et al. (2020), the stochastic model and its generalised least squares.

    Examples
    --------
    >>> s = u = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> fit = jv.dynamics.stochastic_steady_state(s, u, s * s + s / 2, u * s)
    >>> fit.gamma.round(6).tolist()
    [1.0]
    """
    options = percentiles, fit_offset, fit_offset2
    moments = spliced, unspliced, spliced_spliced, unspliced_spliced
    return StochasticSteadyState(*_over_genes(_fit_both_moments, moments, options))


def steady_residual(s: Any, u: Any, gamma: Any, offset: Any) -> Any:
    r"""Velocity of the steady-state model, :math:`u - \gamma s - o`.

    Parameters
    ----------
    s, u
        Spliced and unspliced counts.
    gamma
        Degradation rate over splicing rate.
    offset
        Unspliced counts at :math:`s = 0`. All are arrays of NumPy or of JAX that can be broadcast to each other.

    Returns
    -------
    array
        In counts per unit of :math:`1/\beta`.

    Examples
    --------
    >>> float(jv.dynamics.steady_residual(2.0, 1.5, gamma=0.5, offset=0.0))
    0.5
    """
    return u - gamma * s - offset


def steady_residual_of_second_moments(s: Any, u: Any, ss: Any, us: Any, gamma: Any, offset: Any, offset2: Any) -> Any:
    r"""Velocity of the second moment: the second equation of :func:`stochastic_steady_state` for centred moments.

    .. math:: (u + 2 \langle us \rangle - 2 s u) - \gamma (2 \langle s^2 \rangle - s - 2 s^2) + 2 o s - o_2

    Parameters
    ----------
    s, u
        First moments of spliced and unspliced counts.
    ss, us
        Second, uncentred moments :math:`\langle s^2 \rangle` and :math:`\langle u s \rangle`.
    gamma
        Degradation rate over splicing rate.
    offset, offset2
        Offsets :math:`o` and :math:`o_2` of both equations. All are arrays that can be broadcast to each other.

    Returns
    -------
    array
        In squared counts per unit of :math:`1/\beta`.

    References
    ----------
    Bergen et al. (2020), the stochastic model; scVelo's ``variance_velocity``.

    Examples
    --------
    >>> s, u, ss, us = 2.0, 1.0, 5.0, 2.5
    >>> jv.dynamics.steady_residual_of_second_moments(s, u, ss, us, gamma=0.5, offset=0.0, offset2=0.0)
    2.0
    """
    x2, y2 = 2 * ss - s, 2 * us + u
    return (y2 - 2 * s * u) - gamma * (x2 - 2 * s * s) + 2 * offset * s - offset2


def _over_genes(
    fit: Callable[..., tuple[Any, ...]], moments: tuple[Float[Any, "cells genes"], ...], options: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Results of shape (genes,) or (cells, genes), of a function whose arrays have the shape (genes, cells)."""
    if not all(isinstance(moment, np.ndarray) for moment in moments):
        return _compiled(fit, moments, options)
    n_cells, n_genes = moments[0].shape
    size = max(1, BLOCK // max(n_cells, 1))
    blocks = [slice(first, first + size) for first in range(0, max(n_genes, 1), size)]
    results: list[np.ndarray] = []

    def fit_some(genes: slice) -> None:
        # Sums along contiguous cells are in pairs, and as precise as the compiled ones.
        found = fit(*(np.ascontiguousarray(moment[:, genes].T) for moment in moments), *options)
        if not results:
            results.extend(empty_aligned((*values.T.shape[:-1], n_genes), values.dtype) for values in found)
        for result, values in zip(results, found, strict=True):
            result[..., genes] = values.T

    fit_some(blocks[0])
    with worker_threads(n_workers()) as submit:
        for genes in blocks[1:]:
            submit(fit_some, genes)
    return tuple(results)


@eqx.filter_jit
def _compiled(fit: Callable[..., tuple[Array, ...]], moments: Any, options: tuple[Any, ...]) -> tuple[Array, ...]:
    return tuple(values.T for values in fit(*(moment.T for moment in moments), *options))


def _fit_first_moments(
    s: Float[Any, "genes cells"],
    u: Float[Any, "genes cells"],
    percentiles: Percentiles,
    fit_offset: bool,
    r2_of_all_cells: bool,
) -> tuple[Float[Any, " genes"], Float[Any, " genes"], Float[Any, " genes"], Float[Any, "genes cells"]]:
    """Deterministic fit: gamma, offset, r2, residual."""
    xp = s.__array_namespace__()
    gamma, offset = _line(s, u, _extreme(_both(s, u), percentiles, fit_offset), fit_offset)
    residual = steady_residual(s, u, gamma, offset)
    if r2_of_all_cells:
        slope, intercept = _line(s, u, xp.ones_like(s, dtype=bool), fit_offset)
        unexplained = u - slope * s - intercept
    else:
        unexplained = residual
    total = _sum(xp.square(u - u.mean(axis=1, keepdims=True)))
    r2 = xp.where(total > 0, 1 - _ratio(_sum(xp.square(unexplained)), total), 0)
    return gamma[:, 0], offset[:, 0], r2[:, 0], residual


def _fit_both_moments(
    s: Float[Any, "genes cells"],
    u: Float[Any, "genes cells"],
    ss: Float[Any, "genes cells"],
    us: Float[Any, "genes cells"],
    percentiles: Percentiles,
    fit_offset: bool,
    fit_offset2: bool,
) -> tuple[Float[Any, "genes *cells"], ...]:
    """Stochastic fit: gamma and both offsets, of shape (genes,); both residuals, of shape (genes, cells)."""
    xp = s.__array_namespace__()
    extreme = _extreme(_both(s, u), percentiles, fit_offset)
    x2, y2 = 2 * ss - s, 2 * us + u

    gamma1, offset1 = _line(s, u, extreme, fit_offset)
    gamma2, offset2 = _line(x2, y2, xp.ones_like(s, dtype=bool), fit_offset2)
    variance1 = (u - gamma1 * s - offset1).var(axis=1, keepdims=True)
    variance2 = (y2 - gamma2 * x2 - offset2).var(axis=1, keepdims=True)
    # The inverse variances, scaled to sum to one: a residual of zero then needs no division by zero. Each from its own
    # quotient: they differ by many orders of magnitude, and 1 - weight1 would be rounding error.
    both = variance1 + variance2
    weight1 = xp.where(both > 0, _ratio(variance2, both), 0.5)
    weight2 = xp.where(both > 0, _ratio(variance1, both), 0.5)

    # As scVelo: cells that are not extreme stay in the first equation as points at the origin. That matters with an
    # offset only.
    used = extreme | _extreme(s, percentiles, fit_offset)
    x1, y1 = xp.where(used, s, 0), xp.where(used, u, 0)
    xx1, xy1 = _products(x1, y1, centred=fit_offset)
    xx2, xy2 = _products(x2, y2, centred=fit_offset2)
    gamma = _ratio(weight1 * xy1 + weight2 * xy2, weight1 * xx1 + weight2 * xx2)
    zero = xp.zeros_like(gamma)
    offset1 = y1.mean(axis=1, keepdims=True) - gamma * x1.mean(axis=1, keepdims=True) if fit_offset else zero
    offset2 = y2.mean(axis=1, keepdims=True) - gamma * x2.mean(axis=1, keepdims=True) if fit_offset2 else zero

    residual = steady_residual(s, u, gamma, offset1)
    residual2 = steady_residual_of_second_moments(s, u, ss, us, gamma, offset1, offset2)
    return gamma[:, 0], offset1[:, 0], offset2[:, 0], residual, residual2


def _both(s: Float[Any, "genes cells"], u: Float[Any, "genes cells"]) -> Float[Any, "genes cells"]:
    """Sum of spliced and unspliced counts, each in units of its maximum (as scVelo: of at least 0.001)."""
    xp = s.__array_namespace__()
    return sum(x / xp.maximum(x.max(axis=1, keepdims=True), 1e-3) for x in (s, u))


def _extreme(score: Float[Any, "genes cells"], percentiles: Percentiles, two_sided: bool) -> Bool[Any, "genes cells"]:
    """Mask of the cells at or beyond the percentiles of the score.

    No element lies between the order statistics around a percentile, so that comparing with the outer one gives the
    same mask as comparing with an interpolated percentile.
    """
    xp = score.__array_namespace__()
    if percentiles is None:
        return xp.ones_like(score, dtype=bool)
    last = score.shape[1] - 1
    lower, upper = percentiles if isinstance(percentiles, tuple) else (None, percentiles)
    # The tolerance keeps a percentile that falls on an element, but for rounding, on that element.
    mask = score >= _ranked(score, math.ceil(last * (upper / 100) - 1e-9))
    if two_sided and lower is not None:
        mask |= score <= _ranked(score, math.floor(last * (lower / 100) + 1e-9))
    return mask


def _ranked(score: Float[Any, "genes cells"], rank: int) -> Float[Any, "genes 1"]:
    """Element of each gene with that many before it in ascending order."""
    if isinstance(score, np.ndarray):
        return np.partition(score, rank, axis=1)[:, rank : rank + 1]
    return jax.vmap(partial(order_statistic, rank=rank))(score)[:, None]


def _line(
    x: Float[Any, "genes cells"], y: Float[Any, "genes cells"], used: Bool[Any, "genes cells"], fit_offset: bool
) -> tuple[Float[Any, "genes 1"], Float[Any, "genes 1"]]:
    """Slope and non-negative intercept of least squares over the cells used; zeros where they are undetermined."""
    xp = x.__array_namespace__()
    x, y = xp.where(used, x, 0), xp.where(used, y, 0)
    through_origin = _ratio(_sum(x * y), _sum(x * x))
    zero = xp.zeros_like(through_origin)
    if not fit_offset:
        return through_origin, zero
    n_used = _sum(used).astype(x.dtype)
    mean_x, mean_y = _sum(x) / n_used, _sum(y) / n_used
    centred_x, centred_y = xp.where(used, x - mean_x, 0), xp.where(used, y - mean_y, 0)
    xx = _sum(centred_x * centred_x)
    slope = _ratio(_sum(centred_x * centred_y), xx)
    offset = xp.where(xx > 0, mean_y - slope * mean_x, 0)
    return xp.where(offset < 0, through_origin, slope), xp.maximum(offset, zero)


def _products(
    x: Float[Any, "genes cells"], y: Float[Any, "genes cells"], centred: bool
) -> tuple[Float[Any, "genes 1"], Float[Any, "genes 1"]]:
    """Inner products of x with itself and with y, after taking the mean off both if asked."""
    if centred:
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    return _sum(x * x), _sum(x * y)


def _sum(x: Any) -> Float[Any, "genes 1"]:
    return x.sum(axis=1, keepdims=True)


def _ratio(numerator: Float[Any, "genes 1"], denominator: Float[Any, "genes 1"]) -> Float[Any, "genes 1"]:
    """Quotient, and 0 (with a gradient of 0) where the denominator is 0."""
    xp = numerator.__array_namespace__()
    safe = xp.where(denominator == 0, 1, denominator)
    return xp.where(denominator == 0, 0, numerator / safe)
