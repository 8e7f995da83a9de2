"""How far cells lie from fitted curves of splicing: one judge for all methods, which trusts none's times or losses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from jaxvelo.dynamics import splicing_solution

RATES = ("alpha", "beta", "gamma", "t_", "scaling")


def mean_squared_distance(
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    fit: Mapping[str, Float[np.ndarray, " genes"]],
    std: tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]],
) -> Float[np.ndarray, " genes"]:
    r"""Mean over cells of the squared distance to the nearest point of the curve.

    .. math:: \frac{1}{n} \sum_i \min_t \frac{(u_i - c\,u(t))^2}{\sigma_u^2} + \frac{(s_i - s(t))^2}{\sigma_s^2}

    Parameters
    ----------
    unspliced, spliced
        What the methods saw.
    fit
        ``fit_alpha``, ``fit_beta``, ``fit_gamma``, ``fit_t_`` and ``fit_scaling`` (c above) as scVelo stores them:
        its ``fit_beta`` is per captured unspliced molecule, that of the equations is ``fit_beta * fit_scaling``.
    std
        Units of both axes, the same for all methods.

    Returns
    -------
    numpy.ndarray
        NaN for genes without a fit.
    """
    alpha, beta, gamma, switch, scaling = (np.asarray(fit[f"fit_{name}"], dtype=float) for name in RATES)
    beta = beta * scaling
    rates = np.stack([alpha, beta, gamma, switch, scaling])
    fitted = np.isfinite(rates).all(axis=0) & (rates > 0).all(axis=0)
    distance = np.full(len(alpha), np.nan)
    for gene in np.flatnonzero(fitted):
        u, s = curve(alpha[gene], beta[gene], gamma[gene], switch[gene])
        unit_u, unit_s = std[0][gene], std[1][gene]
        points = np.column_stack([scaling[gene] * u / unit_u, s / unit_s])
        cells = np.column_stack([unspliced[:, gene] / unit_u, spliced[:, gene] / unit_s]).astype(float)
        nearest, _ = cKDTree(points).query(cells)
        distance[gene] = np.mean(nearest**2)
    return distance


def curve(
    alpha: float, beta: float, gamma: float, switch: float, n_points: int = 1000
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    r"""Points of one gene's curve: from nothing to the switch, and from there back to 1/1000 of the peak or less.

    Parameters
    ----------
    alpha, beta, gamma
        Rates of :math:`\dot u = \alpha - \beta u`, :math:`\dot s = \beta u - \gamma s`.
    switch
        Time at which alpha becomes 0.
    n_points
        Number of points on each branch for each of the two rates. Points of one rate are equally spaced in what decays
        at this rate: no gap is left, however different the rates are.

    Returns
    -------
    tuple
        Unspliced and spliced molecules, in no order of time.
    """
    on = np.concatenate([_equal_steps(rate, switch, n_points) for rate in (beta, gamma)])
    # (1 + 9.2) / 10,000 is what is left at equal rates, where the decay of spliced molecules is the slowest.
    end = np.log(1e4) / min(beta, gamma)
    off = np.concatenate([_equal_steps(rate, end, n_points) for rate in (beta, gamma)])

    u_on, s_on = splicing_solution(on, 0.0, 0.0, alpha, beta, gamma, xp=np)
    peak = splicing_solution(np.array(switch), 0.0, 0.0, alpha, beta, gamma, xp=np)
    u_off, s_off = splicing_solution(off, *peak, 0.0, beta, gamma, xp=np)
    return np.concatenate([u_on, u_off]), np.concatenate([s_on, s_off])


def _equal_steps(rate: float, end: float, n_points: int) -> Float[np.ndarray, " points"]:
    """Times from 0 to ``end`` between which exp(-rate × time) takes equal steps."""
    steps = np.linspace(0.0, 1.0, n_points)
    with np.errstate(divide="ignore"):  # where nothing is left at the end, the last time is infinite before the minimum
        return np.minimum(-np.log1p(steps * np.expm1(-rate * end)) / rate, end)
