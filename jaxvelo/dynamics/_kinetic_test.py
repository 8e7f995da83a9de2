"""Groups of cells with kinetics of their own: the curve of a gene against a line."""

import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from jaxvelo.dynamics._gene_blocks import gene_blocks
from jaxvelo.dynamics._group_contrast import group_members
from jaxvelo.dynamics._inverted_times import inverted_times, without_gaps
from jaxvelo.dynamics._splicing import SplicingKinetics
from jaxvelo.dynamics._state_residuals import EMPTY, OFF, ON, nearest_state, rates, state_residuals
from jaxvelo.dynamics._typical_cells import typical_cells

# Groups of fewer cells are not tested, nor do fewer cells decide which group is the farthest from the curve.
LEAST_CELLS = 10
SIGNIFICANT = 0.01
"""P-value below which a line is better than the curve."""
# In units of the standard deviation.
ROUNDING = 1e-6


def kinetic_p_values(
    kinetics: SplicingKinetics,
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    weights: sp.csr_matrix,
    codes: Int[np.ndarray, " cells"],
    n_groups: int,
) -> Float[np.ndarray, "genes groups"]:
    r"""Test for each gene and group whether its cells follow a line rather than the curve of all cells.

    A group with kinetics of its own, seen near its steady state, lies on a line :math:`u = k s` through the origin.
    With the squared distances of its cells to the curve, :math:`d_i^2`, and to the line, :math:`l_i^2`, in units of the
    standard deviations, the variance :math:`\sigma^2` of the distances to the curve, and :math:`n` cells,

    .. math:: z = \frac{\sum_i d_i^2 / 2 - \sum_i l_i^2}{\sigma^2 \sqrt{8 n}}, \qquad p = 1 - \Phi(z):

    twice the logarithm of the ratio of both likelihoods, each of whose parts would be :math:`\chi^2` with
    :math:`2 n` degrees of freedom, nearly normal for many cells. (Half of the distances to the curve, as cells have the
    times of their neighbourhood and not their own.)

    1. Cells that count are those with both kinds of counts and, in their unspliced counts, on one side of both branches
       of the curve: outside of it.
    2. The group with the largest mean :math:`d^2` (of groups with 10 such cells) gives :math:`k`, by orthogonal
       regression over all of its cells with both kinds of counts. All groups are tested against its line, so that those
       that share the kinetics are found together.
    3. If the line is not better for that group (:math:`p > 0.01`), cells count instead that have more than a third of
       the largest counts of both kinds, and the line is chosen anew.

    Parameters
    ----------
    kinetics
        Rates of the genes, positive.
    unspliced, spliced
        First moments, of shape (cells, genes).
    weights
        Result of :func:`neighborhood_weights`.
    codes, n_groups
        Number of each cell's group, of shape (cells,), -1 for cells of none, and the number of groups.

    Returns
    -------
    numpy.ndarray
        P-values, of shape (genes, groups): 1 for groups of fewer than 10 cells, NaN where no cell counts. If none does
        in the group of step 2, there is no step 3.

    References
    ----------
    Bergen et al. (2020), Methods: testing for differential kinetics; step by step as scVelo.

    Examples
    --------
    >>> kinetics = jv.dynamics.SplicingKinetics(*np.array([[2.0], [1.0], [0.5], [3.0], [1.0]]))
    >>> u, s = (np.array(moments, float) for moments in kinetics.state(np.linspace(0, 6, 60)[:, None]))
    >>> s[30:, 0], groups = np.linspace(2, 2.5, 30), np.repeat([0, 1], 30)
    >>> u[30:] = 4 * s[30:]  # the second group has a line of its own
    >>> jv.dynamics.kinetic_p_values(kinetics, u, s, sp.identity(60, format="csr"), groups, 2).round(2).tolist()
    [[nan, 0.03]]
    """
    members = group_members(codes, n_groups)
    p_values = []
    for genes in gene_blocks(*unspliced.shape):
        of_genes = jax.tree.map(lambda rate, genes=genes: rate[genes], kinetics)
        p_values.append(_test(of_genes, unspliced[:, genes], spliced[:, genes], weights, members))
    return np.concatenate(p_values, axis=1).T


def _test(
    kinetics: SplicingKinetics,
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    weights: sp.csr_matrix,
    members: sp.csr_matrix,
) -> Float[np.ndarray, "groups genes"]:
    times = inverted_times(kinetics, unspliced, spliced)
    typical = np.stack([typical_cells(u, s) for u, s in zip(unspliced.T, spliced.T, strict=True)], axis=1)
    curve, _ = _residuals(kinetics, times, unspliced, spliced, weights, _deviations(unspliced, spliced, typical))
    variance = _variance(curve, _large(unspliced, spliced, typical))

    both = (unspliced > 0) & (spliced > 0)
    deviation = _deviations(unspliced, spliced, both)
    curve, outside = _residuals(kinetics, times, unspliced, spliced, weights, deviation)
    to_curve = np.sum(np.square(curve), axis=0)
    u, s = unspliced / rates(kinetics)[-1], spliced.astype(np.float64)
    slopes = _orthogonal_slopes(members, u, s, both)
    units = deviation[0][None] / rates(kinetics)[-1], deviation[1][None]

    def tested(counted: Bool[np.ndarray, "cells genes"]) -> tuple[np.ndarray, np.ndarray]:
        """P-values of all groups, and the group that gave the line."""
        n, sums = members @ counted.astype(np.float64), members @ np.where(counted, to_curve, 0)
        farthest = np.argmax(np.where(n >= LEAST_CELLS, sums / np.maximum(n, 1), 0), axis=0)
        slope = np.take_along_axis(slopes, farthest[None], axis=0)
        on_line = (s + slope * u) / (1 + slope**2)
        to_line = np.square((slope * on_line - u) / units[0]) + np.square((on_line - s) / units[1])
        difference = sums / 2 - members @ np.where(counted, to_line, 0)
        error = variance[None] * np.sqrt(8 * n)
        z = np.divide(difference, error, out=np.full_like(error, np.nan), where=error > 0)
        sizes = np.asarray(members.sum(axis=1)).reshape(-1, 1)
        return np.where(sizes < LEAST_CELLS, 1.0, ndtr(-z)), farthest

    p_values, farthest = tested(both & outside)
    unsure = np.take_along_axis(p_values, farthest[None], axis=0) > SIGNIFICANT
    return np.where(unsure, tested(_large(unspliced, spliced, both))[0], p_values)


def _residuals(
    kinetics: SplicingKinetics,
    times: tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "cells genes"]],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    weights: sp.csr_matrix,
    deviation: Float[np.ndarray, "2 genes"],
) -> tuple[Float[np.ndarray, "2 cells genes"], Bool[np.ndarray, "cells genes"]]:
    """Residuals from the curve, in the state that the neighbourhood is nearest to, and which cells are outside."""
    cells = unspliced, spliced, deviation
    on_branches = state_residuals(kinetics, *times, *cells)[[OFF, ON]]
    time_on, time_off = without_gaps(*times, nearest_state(on_branches, weights) == ON)
    residuals = state_residuals(kinetics, time_on, time_off, *cells)
    # Where times were found from the unspliced counts, what is left of these is rounding, on either side.
    side = np.where(abs(residuals[:2, 0]) > ROUNDING, np.sign(residuals[:2, 0]), 0)
    outside = side[OFF] * side[ON] > 0
    state = nearest_state(residuals, weights)
    # Cells without counts are where the curve begins, those in the steady state where the gene is switched off.
    time_on, time_off = np.where(state == ON, time_on, 0), np.where(state == OFF, time_off, 0)
    at_times = state_residuals(kinetics, time_on, time_off, *cells)
    return np.where((state == ON) | (state == EMPTY), at_times[ON], at_times[OFF]), outside


def _deviations(
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    used: Bool[np.ndarray, "cells genes"],
) -> Float[np.ndarray, "2 genes"]:
    """Standard deviations over the cells that are used; NaN where there are fewer than three, or nothing varies."""
    n = used.sum(axis=0)
    result = np.full((2, used.shape[1]), np.nan)
    for row, x in zip(result, (unspliced, spliced), strict=True):
        mean = np.sum(x, axis=0, where=used, dtype=np.float64) / np.maximum(n, 1)
        np.sqrt(np.sum(np.square(x - mean[None]), axis=0, where=used) / np.maximum(n, 1), out=row)
    return np.where((n > 2) & (result > 0).all(axis=0), result, np.nan)


def _large(
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    used: Bool[np.ndarray, "cells genes"],
) -> Bool[np.ndarray, "cells genes"]:
    """Cells that are used, with more than a third of the largest counts among these, of both kinds."""
    large = used
    for x in (unspliced, spliced):
        large = large & (x > np.max(x, axis=0, initial=0, where=used)[None] / 3)
    return large


def _variance(
    residuals: Float[np.ndarray, "2 cells genes"], counted: Bool[np.ndarray, "cells genes"]
) -> Float[np.ndarray, " genes"]:
    """Variance of the distances to the curve, with the sign of the residual in spliced."""
    n = np.maximum(counted.sum(axis=0), 1)
    squared = np.sum(np.square(residuals), axis=0)
    mean = np.sum(np.sign(residuals[1]) * np.sqrt(squared), axis=0, where=counted) / n
    return np.sum(squared, axis=0, where=counted) / n - np.square(mean)


def _orthogonal_slopes(
    members: sp.csr_matrix,
    u: Float[np.ndarray, "cells genes"],
    s: Float[np.ndarray, "cells genes"],
    used: Bool[np.ndarray, "cells genes"],
) -> Float[np.ndarray, "groups genes"]:
    """Slope of the line through the origin with the least squared orthogonal distances to the cells of each group."""
    mixed = members @ np.where(used, u * s, 0)
    difference = members @ np.where(used, u * u - s * s, 0)
    root = np.sqrt(np.square(difference) + 4 * np.square(mixed))
    return np.divide(difference + root, 2 * mixed, out=np.full_like(mixed, np.nan), where=mixed > 0)
