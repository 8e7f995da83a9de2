r"""RNA velocity from the steady-state model of splicing, for all genes at once.

Spliced counts follow :math:`ds/dt = \beta u - \gamma s`. In units where :math:`\beta = 1`, cells in the steady state
lie on the line :math:`u = \gamma s`; a cell's distance from that line is its velocity.

Every function here is written for one gene and mapped over the columns of (cells, genes) arrays. All are jitted and
differentiable in the moments; which cells count as extreme is held fixed under differentiation. The results equal
those of scVelo 0.3.4; choices of its that a reader would not expect are marked *as scVelo*.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvelo.order_statistic import order_statistic

Percentiles = tuple[float, float] | float | None


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
    """

    gamma: Float[Array, " genes"]
    offset: Float[Array, " genes"]
    r2: Float[Array, " genes"]
    residual: Float[Array, "cells genes"]


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
    """

    gamma: Float[Array, " genes"]
    offset: Float[Array, " genes"]
    offset2: Float[Array, " genes"]
    residual: Float[Array, "cells genes"]
    residual2: Float[Array, "cells genes"]


@eqx.filter_jit
def steady_state(
    spliced: Float[Array, "cells genes"],
    unspliced: Float[Array, "cells genes"],
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
        First moments of the normalised counts, of shape (cells, genes).
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
    """
    fit = partial(_fit_first_moments, percentiles=percentiles, fit_offset=fit_offset, r2_of_all_cells=r2_of_all_cells)
    return SteadyState(*_over_genes(fit, out_axes=(0, 0, 0, 1))(spliced, unspliced))


@eqx.filter_jit
def stochastic_steady_state(
    spliced: Float[Array, "cells genes"],
    unspliced: Float[Array, "cells genes"],
    spliced_spliced: Float[Array, "cells genes"],
    unspliced_spliced: Float[Array, "cells genes"],
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
    """
    fit = partial(_fit_both_moments, percentiles=percentiles, fit_offset=fit_offset, fit_offset2=fit_offset2)
    gammas = _over_genes(fit, out_axes=(0, 0, 0, 1, 1))
    return StochasticSteadyState(*gammas(spliced, unspliced, spliced_spliced, unspliced_spliced))


def _over_genes(fit: Callable[..., Any], out_axes: tuple[int, ...]) -> Callable[..., Any]:
    """Map the fit of one gene over the columns."""
    return jax.vmap(fit, in_axes=1, out_axes=out_axes)


def _fit_first_moments(
    s: Float[Array, " cells"],
    u: Float[Array, " cells"],
    percentiles: Percentiles,
    fit_offset: bool,
    r2_of_all_cells: bool,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Float[Array, " cells"]]:
    """Deterministic fit of one gene: gamma, offset, r2, residual."""
    gamma, offset = _line(s, u, _extreme(_both(s, u), percentiles, fit_offset), fit_offset)
    residual = u - gamma * s - offset
    if r2_of_all_cells:
        slope, intercept = _line(s, u, jnp.ones_like(s, dtype=bool), fit_offset)
        unexplained = u - slope * s - intercept
    else:
        unexplained = residual
    total = jnp.sum(jnp.square(u - jnp.mean(u)))
    r2 = jnp.where(total > 0, 1 - _ratio(jnp.sum(jnp.square(unexplained)), total), 0)
    return gamma, offset, r2, residual


def _fit_both_moments(
    s: Float[Array, " cells"],
    u: Float[Array, " cells"],
    ss: Float[Array, " cells"],
    us: Float[Array, " cells"],
    percentiles: Percentiles,
    fit_offset: bool,
    fit_offset2: bool,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Float[Array, " cells"], Float[Array, " cells"]]:
    """Stochastic fit of one gene: gamma, both offsets, both residuals."""
    extreme = _extreme(_both(s, u), percentiles, fit_offset)
    x2, y2 = 2 * ss - s, 2 * us + u

    gamma1, offset1 = _line(s, u, extreme, fit_offset)
    gamma2, offset2 = _line(x2, y2, jnp.ones_like(s, dtype=bool), fit_offset2)
    variance1 = jnp.var(u - gamma1 * s - offset1)
    variance2 = jnp.var(y2 - gamma2 * x2 - offset2)
    # The inverse variances, scaled to sum to one: a residual of zero then needs no division by zero. Each from its own
    # quotient: they differ by many orders of magnitude, and 1 - weight1 would be rounding error.
    both = variance1 + variance2
    weight1 = jnp.where(both > 0, _ratio(variance2, both), 0.5)
    weight2 = jnp.where(both > 0, _ratio(variance1, both), 0.5)

    # As scVelo: cells that are not extreme stay in the first equation as points at the origin. That matters with an
    # offset only.
    used = extreme | _extreme(s, percentiles, fit_offset)
    x1, y1 = jnp.where(used, s, 0), jnp.where(used, u, 0)
    xx1, xy1 = _products(x1, y1, centred=fit_offset)
    xx2, xy2 = _products(x2, y2, centred=fit_offset2)
    gamma = _ratio(weight1 * xy1 + weight2 * xy2, weight1 * xx1 + weight2 * xx2)
    zero = jnp.zeros_like(gamma)
    offset1 = jnp.mean(y1) - gamma * jnp.mean(x1) if fit_offset else zero
    offset2 = jnp.mean(y2) - gamma * jnp.mean(x2) if fit_offset2 else zero

    residual = u - gamma * s - offset1
    # The same equation for the centred moments.
    residual2 = (y2 - 2 * s * u) - gamma * (x2 - 2 * s * s) + 2 * offset1 * s - offset2
    return gamma, offset1, offset2, residual, residual2


def _both(s: Float[Array, " cells"], u: Float[Array, " cells"]) -> Float[Array, " cells"]:
    """Sum of spliced and unspliced counts, each in units of its maximum (as scVelo: of at least 0.001)."""
    return s / jnp.maximum(jnp.max(s), 1e-3) + u / jnp.maximum(jnp.max(u), 1e-3)


def _extreme(score: Float[Array, " cells"], percentiles: Percentiles, two_sided: bool) -> Bool[Array, " cells"]:
    """Mask of the cells at or beyond the percentiles of the score.

    No element lies between the order statistics around a percentile, so that comparing with the outer one gives the
    same mask as comparing with an interpolated percentile.
    """
    if percentiles is None:
        return jnp.ones_like(score, dtype=bool)
    last = score.shape[0] - 1
    lower, upper = percentiles if isinstance(percentiles, tuple) else (None, percentiles)
    # The tolerance keeps a percentile that falls on an element, but for rounding, on that element.
    mask = score >= order_statistic(score, math.ceil(last * (upper / 100) - 1e-9))
    if two_sided and lower is not None:
        mask |= score <= order_statistic(score, math.floor(last * (lower / 100) + 1e-9))
    return mask


def _line(
    x: Float[Array, " cells"], y: Float[Array, " cells"], used: Bool[Array, " cells"], fit_offset: bool
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Slope and non-negative intercept of least squares over the cells used; zeros where they are undetermined."""
    x, y = jnp.where(used, x, 0), jnp.where(used, y, 0)
    through_origin = _ratio(jnp.sum(x * y), jnp.sum(x * x))
    zero = jnp.zeros_like(through_origin)
    if not fit_offset:
        return through_origin, zero
    n_used = jnp.sum(used).astype(x.dtype)
    mean_x, mean_y = jnp.sum(x) / n_used, jnp.sum(y) / n_used
    centred_x, centred_y = jnp.where(used, x - mean_x, 0), jnp.where(used, y - mean_y, 0)
    xx = jnp.sum(centred_x * centred_x)
    slope = _ratio(jnp.sum(centred_x * centred_y), xx)
    offset = jnp.where(xx > 0, mean_y - slope * mean_x, 0)
    return jnp.where(offset < 0, through_origin, slope), jnp.maximum(offset, zero)


def _products(
    x: Float[Array, " cells"], y: Float[Array, " cells"], centred: bool
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Inner products of x with itself and with y, after taking the mean off both if asked."""
    if centred:
        x, y = x - jnp.mean(x), y - jnp.mean(y)
    return jnp.sum(x * x), jnp.sum(x * y)


def _ratio(numerator: Float[Array, ""], denominator: Float[Array, ""]) -> Float[Array, ""]:
    """Quotient, and 0 (with a gradient of 0) where the denominator is 0."""
    safe = jnp.where(denominator == 0, 1, denominator)
    return jnp.where(denominator == 0, 0, numerator / safe)
