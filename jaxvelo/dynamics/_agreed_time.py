r"""The order of the cells that the clocks of all genes agree on best.

A gene's time says little of cells that it does not move in: before it is switched on, after it is off, and in branches
where it never is. No low percentile of all genes takes that out, but each gene can be read for what it tells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.stats import rankdata

from jaxvelo.dynamics._gene_blocks import gene_blocks

N_STEPS = 20
"""Steps of the function that reads a gene's clock; each holds as many cells. Anything from 10 to 40 does."""
LEAST_VARIANCE = 1e-4
ROUNDING = 1e-6
"""A gene that explains a smaller part of the variance explains none."""


class AgreedTime(NamedTuple):
    """What the genes agree on.

    Attributes
    ----------
    order
        Place of each cell, between 0 and 1, of shape (cells,); no unit.
    precision
        Mean over genes of how well they know it, see :func:`agreed_time`.

    Examples
    --------
    >>> clocks = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> agreed = jv.dynamics.agreed_time(clocks, np.arange(4.0), sp.identity(4, format="csr"))
    >>> agreed.order.tolist(), agreed.precision > 0
    ([0.125, 0.375, 0.625, 0.875], True)
    """

    order: Float[np.ndarray, " cells"]
    precision: float


def agreed_time(
    times: Float[np.ndarray, "cells genes"],
    start: Float[np.ndarray, " cells"],
    neighborhoods: sp.csr_matrix,
    iterations: int = 10,
) -> AgreedTime:
    r"""Bring the clocks of all genes into agreement, by turns with the order of the cells.

    Let :math:`r_i` be the place of cell :math:`i` in the order, from 0 to 1. Each gene's clock is read by the function
    of its time :math:`t_{ig}` that comes closest to it and does not decrease, a step function :math:`f_g`,

    .. math:: f_g = \operatorname{argmin}_{f \uparrow} \sum_i (r_i - f(t_{ig}))^2, \qquad
              \sigma_g^2 = \frac{1}{n} \sum_i (r_i - f_g(t_{ig}))^2, \qquad
              w_g = \frac{1}{\sigma_g^2} - \frac{1}{\sigma^2},

    where :math:`\sigma^2` is the variance of :math:`r`, that of a cell of which nothing is known. The new order is that
    of the means :math:`\sum_g w_g f_g(t_{ig}) / \sum_g w_g`, averaged over each cell and its neighbours. Clocks are
    circles, as of :func:`rooted_times`: each is cut open where the first order fits best.

    Only the order of a gene's times counts; units and rates have no part in it. Clocks of noise get no weight. Branches
    are put side by side by the genes that move in several of them: one in ten is enough, and without any the genes of
    one branch may win over those of the others.

    Parameters
    ----------
    times
        Time of each cell for each gene, of shape (cells, genes), finite, in any unit for each gene.
    start
        First order: any time of the cells, of shape (cells,).
    neighborhoods
        Result of :func:`neighborhood_weights`.
    iterations
        How often to read the clocks anew.

    Returns
    -------
    AgreedTime
        The order, and the mean of :math:`w_g`: of two orders, the genes agree more on that with the larger one.

    References
    ----------
    The isotonic regressions are by the max-min formula of Ayer et al. (1955). The alternation is that of Breiman &
    Friedman (1985), Estimating optimal transformations, with what it is to predict unknown.

    Examples
    --------
    >>> clocks = np.arange(6.0)[:, None] ** np.array([[1.0, 2.0, 0.5]])  # three genes that agree
    >>> start = np.array([0.0, 2.0, 1.0, 3.0, 4.0, 5.0])  # two cells are the wrong way round
    >>> weights = jv.dynamics.neighborhood_weights(sp.diags([1.0, 1.0], [-1, 1], (6, 6)))
    >>> jv.dynamics.agreed_time(clocks, start, weights).order.argsort().tolist()
    [0, 1, 2, 3, 4, 5]
    """
    clocks = _Clocks(times)
    order = _ranks(start)
    cuts = clocks.best_cuts(order)
    for _ in range(iterations):
        reading, precision = clocks.read(order, cuts)
        if precision.any():
            order = _ranks(neighborhoods @ clocks.mean(reading, precision))
    return AgreedTime(order, float(clocks.read(order, cuts)[1].mean()))


class _Clocks:
    """Times of all genes as numbers of steps, each of which holds about as many cells."""

    def __init__(self, times: Float[np.ndarray, "cells genes"]):
        self.n_cells, self.n_genes = times.shape
        self.step: Int[np.ndarray, "cells genes"] = np.empty(times.shape, dtype=np.int8)
        for genes in gene_blocks(self.n_cells, self.n_genes):
            # Equal times share a step.
            place = (rankdata(times[:, genes], axis=0) - 0.5) / self.n_cells
            self.step[:, genes] = np.minimum(place * N_STEPS, N_STEPS - 1)

    def best_cuts(self, order: Float[np.ndarray, " cells"]) -> Int[np.ndarray, " genes"]:
        """For each gene, the first step after the cut at which its clock fits an order best."""
        sums = self._sums(order)
        variances = [_variance(*sums, np.full(self.n_genes, cut))[1] for cut in range(N_STEPS)]
        # Within rounding, the cut at zero, where the gene is switched on.
        improved = np.stack(variances) + np.where(np.arange(N_STEPS) == 0, 0, 1e-6)[:, None]
        return np.argmin(improved, axis=0)

    def read(
        self, order: Float[np.ndarray, " cells"], cuts: Int[np.ndarray, " genes"]
    ) -> tuple[Float[np.ndarray, "genes steps"], Float[np.ndarray, " genes"]]:
        """Place in the order that each step of a gene stands for, and its precision."""
        reading, variance = _variance(*self._sums(order), cuts)
        of_nothing = max(float(order.var()), LEAST_VARIANCE)
        known = variance < (1 - ROUNDING) * of_nothing
        return reading, np.where(known, 1 / np.maximum(variance, LEAST_VARIANCE) - 1 / of_nothing, 0)

    def mean(
        self, reading: Float[np.ndarray, "genes steps"], precision: Float[np.ndarray, " genes"]
    ) -> Float[np.ndarray, " cells"]:
        """Mean of what the genes say, weighted by their precision."""
        total = np.zeros(self.n_cells)
        weighted = reading * (precision / precision.sum())[:, None]
        for genes in gene_blocks(self.n_cells, self.n_genes):
            total += np.take_along_axis(weighted[genes].T, self.step[:, genes].astype(np.intp), axis=0).sum(axis=1)
        return total

    def _sums(self, order: Float[np.ndarray, " cells"]) -> tuple[np.ndarray, np.ndarray, float]:
        """Number of cells in each step and the sum of their places, of shape (genes, steps); the mean square of all."""
        counts, sums = np.empty((2, self.n_genes, N_STEPS))
        for genes in gene_blocks(self.n_cells, self.n_genes):
            size = genes.stop - genes.start
            flat = (self.step[:, genes] + N_STEPS * np.arange(size)).ravel()
            places = np.repeat(order, size)
            counts[genes] = np.bincount(flat, minlength=size * N_STEPS).reshape(size, N_STEPS)
            sums[genes] = np.bincount(flat, places, size * N_STEPS).reshape(size, N_STEPS)
        return counts, sums, float(np.mean(np.square(order)))


def _variance(
    counts: Float[np.ndarray, "genes steps"],
    sums: Float[np.ndarray, "genes steps"],
    mean_square: float,
    cuts: Int[np.ndarray, " genes"],
) -> tuple[Float[np.ndarray, "genes steps"], Float[np.ndarray, " genes"]]:
    """Isotonic regression of places on steps, from the cut on around the circle, and its mean squared residual."""
    around = (np.arange(N_STEPS)[None] + cuts[:, None]) % N_STEPS
    reading = np.empty_like(sums)
    fitted = _isotonic(np.take_along_axis(counts, around, 1), np.take_along_axis(sums, around, 1))
    np.put_along_axis(reading, around, fitted, axis=1)
    n_cells = counts[0].sum()
    squares = mean_square + (reading * (counts * reading - 2 * sums)).sum(axis=1) / n_cells
    return reading, squares


def _isotonic(
    counts: Float[np.ndarray, "genes steps"], sums: Float[np.ndarray, "genes steps"]
) -> Float[np.ndarray, "genes steps"]:
    r"""Compute the closest increasing function, :math:`\max_{a \leq k} \min_{b \geq k}` of the means from a to b.

    Steps without cells have no say.
    """
    zero = np.zeros((len(counts), 1))
    until_count, until_sum = (np.concatenate([zero, np.cumsum(x, axis=1)], axis=1) for x in (counts, sums))
    count = until_count[:, None, 1:] - until_count[:, :-1, None]
    total = until_sum[:, None, 1:] - until_sum[:, :-1, None]
    first, last = np.arange(counts.shape[1])[:, None], np.arange(counts.shape[1])[None]
    there = (last >= first) & (count > 0)
    means = np.where(there, total / np.where(there, count, 1), np.inf)
    smallest = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]
    # Of a range that begins after the last cell there is no mean.
    smallest = np.where((last >= first) & np.isfinite(smallest), smallest, -np.inf)
    return np.diagonal(np.maximum.accumulate(smallest, axis=1), axis1=1, axis2=2)


def _ranks(values: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    return (rankdata(values) - 0.5) / len(values)
