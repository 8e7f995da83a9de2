"""Each group of cells against all other cells, gene by gene: Welch's test."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.special import stdtr

from jaxvelo.dynamics._gene_blocks import gene_blocks


class GroupContrast(NamedTuple):
    """How far each group is from the rest.

    Attributes
    ----------
    score
        Difference of the means in units of its standard error, of shape (groups, genes).
    degrees
        Degrees of freedom, of shape (groups, genes); 0 where there is nothing to compare.

    Examples
    --------
    >>> contrast = jv.dynamics.group_contrast(np.array([[0.0], [1.0], [4.0], [5.0]]), np.array([0, 0, 1, 1]), 2)
    >>> contrast.score.round(2).tolist(), contrast.degrees.tolist()
    ([[-5.66], [5.66]], [[2.0], [2.0]])
    >>> contrast.p_values(two_sided=True).round(3).tolist()
    [[0.03], [0.03]]
    """

    score: Float[np.ndarray, "groups genes"]
    degrees: Float[np.ndarray, "groups genes"]

    def p_values(self, two_sided: bool) -> Float[np.ndarray, "groups genes"]:
        """Probabilities of a score at least that large, or that far from zero, without a difference.

        Parameters
        ----------
        two_sided
            Whether it is the distance from zero that counts.

        Returns
        -------
        numpy.ndarray
            By Student's t, of shape (groups, genes); 1 where there is nothing to compare.
        """
        lower = stdtr(np.maximum(self.degrees, 1), -abs(self.score) if two_sided else -self.score)
        return np.where(self.degrees > 0, (2 if two_sided else 1) * lower, 1.0)


def group_contrast(
    values: Float[np.ndarray, "cells genes"], codes: Int[np.ndarray, " cells"], n_groups: int
) -> GroupContrast:
    r"""Compare the cells of each group with all others.

    With means :math:`m, m'` and variances :math:`v, v'` of the :math:`n` cells of a group and of the rest,

    .. math:: t = \frac{m - m'}{\sqrt{v / n + v' / n}}, \qquad
              \nu = (n - 1) \frac{(v + v')^2}{v^2 + v'^2}.

    The rest counts as if it were of :math:`n` cells too, which overestimates its part of the error and keeps groups of
    different sizes comparable.

    Parameters
    ----------
    values
        Of shape (cells, genes). What is not finite is left out.
    codes
        Number of each cell's group, of shape (cells,); -1 for cells of none, which belong to the rest of all.
    n_groups
        Number of groups.

    Returns
    -------
    GroupContrast
        Scores are 0 where there is no cell of the group or none of the rest, and infinite where the means differ and
        nothing varies. A single cell has a score, but no degrees of freedom.

    References
    ----------
    Welch (1947); with the overestimated variance as scanpy's ``"t-test_overestim_var"`` and scVelo.

    Examples
    --------
    >>> values = np.array([[0.0, 1.0], [1.0, 1.0], [4.0, 1.0], [5.0, 1.0]])
    >>> contrast = jv.dynamics.group_contrast(values, np.array([0, 0, 1, 1]), 2)
    >>> contrast.score.round(2).tolist()
    [[-5.66, 0.0], [5.66, 0.0]]
    """
    members = group_members(codes, n_groups)
    parts = [_contrast(values[:, genes], members) for genes in gene_blocks(*values.shape)]
    return GroupContrast(*(np.concatenate(of_parts, axis=1) for of_parts in zip(*parts, strict=True)))


def group_members(codes: Int[np.ndarray, " cells"], n_groups: int) -> sp.csr_matrix:
    """Matrix of shape (groups, cells) that sums over the cells of each group."""
    known = np.flatnonzero(codes >= 0)
    return sp.csr_matrix((np.ones(len(known)), (codes[known], known)), shape=(n_groups, len(codes)))


def _contrast(values: Float[np.ndarray, "cells genes"], members: sp.csr_matrix) -> GroupContrast:
    used = np.isfinite(values)
    x = np.where(used, values, 0).astype(np.float64)
    # About the mean of all cells, so that squares lose no digits.
    x = np.where(used, x - x.sum(axis=0) / np.maximum(used.sum(axis=0), 1), 0)
    powers = used.astype(np.float64), x, x * x
    of_group = [members @ power for power in powers]
    n = of_group[0]
    mean, variance = _moments(*of_group)
    rest = [power.sum(axis=0) - part for power, part in zip(powers, of_group, strict=True)]
    mean_of_rest, variance_of_rest = _moments(*rest)
    difference, total = mean - mean_of_rest, variance + variance_of_rest
    # What rounding leaves of equal numbers is no difference.
    difference[abs(difference) <= 1e-12 * np.max(abs(x), axis=0, initial=0)] = 0
    comparable = (n > 0) & (rest[0] > 0)
    error = np.sqrt(total / np.maximum(n, 1))
    with np.errstate(divide="ignore"):
        score = np.divide(difference, error, out=np.zeros_like(error), where=comparable & (difference != 0))
    squares = variance**2 + variance_of_rest**2
    degrees = (n - 1) * np.divide(total**2, squares, out=np.ones_like(error), where=squares > 0)
    return GroupContrast(score, np.where(comparable, degrees, 0))


def _moments(
    n: Float[np.ndarray, "groups genes"],
    x: Float[np.ndarray, "groups genes"],
    squared: Float[np.ndarray, "groups genes"],
) -> tuple[Float[np.ndarray, "*groups genes"], Float[np.ndarray, "*groups genes"]]:
    """Mean and variance from the number of cells and the sums of values and of squares."""
    mean = x / np.maximum(n, 1)
    return mean, np.maximum(squared - x * mean, 0) / np.maximum(n - 1, 1)
