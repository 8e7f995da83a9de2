"""How well the curve of a gene explains the cells of each group."""

import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.dynamics._gene_blocks import gene_blocks
from jaxvelo.dynamics._group_contrast import group_contrast, group_members
from jaxvelo.dynamics._splicing import SplicingKinetics
from jaxvelo.dynamics._state_residuals import EMPTY, OFF, ON, nearest_state, state_residuals

# Cells count that have more than a fifth of the largest counts of the gene, of both kinds.
FRACTION = 5


def group_likelihoods(
    kinetics: SplicingKinetics,
    time_on: Float[np.ndarray, "cells genes"],
    time_off: Float[np.ndarray, "cells genes"],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    deviation: Float[np.ndarray, "2 genes"],
    weights: sp.csr_matrix,
    codes: Int[np.ndarray, " cells"],
    n_groups: int,
) -> tuple[Float[np.ndarray, "groups genes"], Float[np.ndarray, "groups genes"]]:
    r"""Likelihood of each gene in each group, and the p-value of its being no higher there than elsewhere.

    Cells are on the branch that their neighbourhood is nearest to (of four states: off, on, no counts at all, which
    counts as on, and the steady state, which counts as off). With the squared distances :math:`d^2_i` to the curve,
    over the cells with more than a fifth of the largest unspliced and of the largest spliced counts,

    .. math:: \sigma^2 = \operatorname{var}_i(\pm d_i), \qquad
              L_c = \frac{1}{\sqrt{2 \pi \sigma^2}}
                    \exp\Big(-\frac{\sum_{i \in c} d_i^2}{2 \sigma^2 \max(m_c - 0.01 n_c, 2)}\Big)

    with the sign of the residual in spliced, :math:`n_c` the cells of group :math:`c` and :math:`m_c` those that count.
    Genes for which :math:`m_c - 0.01 n_c` is less than a fifth of the largest among genes get the largest of all sums.
    The p-value is that of :func:`group_contrast` of :math:`-d_i^2`, one-sided.

    Parameters
    ----------
    kinetics
        Rates of the genes.
    time_on, time_off
        Times since the last switch with the gene on and with it off, of shape (cells, genes).
    unspliced, spliced
        First moments, of shape (cells, genes).
    deviation
        Standard deviations of unspliced and spliced counts, of shape (2, genes).
    weights
        Result of :func:`neighborhood_weights`.
    codes, n_groups
        Number of each cell's group, of shape (cells,), -1 for cells of none, and the number of groups.

    Returns
    -------
    tuple of numpy.ndarray
        Likelihoods, 0 where no cell counts, and p-values, 1 there; of shape (groups, genes).

    References
    ----------
    Bergen et al. (2020); the likelihoods are those of scVelo's ``rank_dynamical_genes``.

    Examples
    --------
    >>> kinetics = jv.dynamics.SplicingKinetics(*np.array([[2.0], [1.0], [0.5], [3.0], [1.0]]))
    >>> t = np.linspace(0, 6, 60)[:, None]
    >>> u, s = (np.asarray(moments, float) + 0.1 * np.cos(9 * t) for moments in kinetics.state(t))
    >>> on, off, groups = np.minimum(t, 3.0), np.maximum(t - 3.0, 0.0), np.repeat([0, 1], 30)
    >>> likelihoods, p_values = jv.dynamics.group_likelihoods(
    ...     kinetics, on, off, u, s, np.ones((2, 1)), sp.identity(60, format="csr"), groups, 2
    ... )
    >>> likelihoods.shape, p_values.shape, bool((likelihoods > 0).all())
    ((2, 1), (2, 1), True)
    """
    members = group_members(codes, n_groups)
    sums, counts, variances, p_values = [], [], [], []
    for genes in gene_blocks(*unspliced.shape):
        u, s = unspliced[:, genes], spliced[:, genes]
        of_genes = jax.tree.map(lambda rate, genes=genes: rate[genes], kinetics)
        residuals = state_residuals(of_genes, time_on[:, genes], time_off[:, genes], u, s, deviation[:, genes])
        state = nearest_state(residuals, weights)
        off_curve = np.where((state == ON) | (state == EMPTY), residuals[ON], residuals[OFF])
        squared = np.sum(np.square(off_curve), axis=0)
        counted = (u > u.max(axis=0)[None] / FRACTION) & (s > s.max(axis=0)[None] / FRACTION)
        n = np.maximum(counted.sum(axis=0), 1)
        mean_of_signed = np.sum(np.sign(off_curve[1]) * np.sqrt(squared), axis=0, where=counted) / n
        variances.append(np.sum(squared, axis=0, where=counted) / n - mean_of_signed**2)
        sums.append(members @ np.where(counted, squared, 0))
        counts.append(members @ counted.astype(np.float64))
        contrast = group_contrast(np.where(counted, -squared, np.nan), codes, n_groups)
        p_values.append(contrast.p_values(two_sided=False))
    sum_squared, n, p_value = (np.concatenate(x, axis=1) for x in (sums, counts, p_values))
    variance = np.concatenate(variances)[None]
    n = np.maximum(n - 0.01 * np.asarray(members.sum(axis=1)), 2)
    sum_squared = np.where(
        n < n.max(axis=1, keepdims=True) / FRACTION, sum_squared.max(axis=1, keepdims=True), sum_squared
    )
    known = (variance > 0) & (sum_squared > 0)
    variance = np.where(variance > 0, variance, 1)
    likelihood = np.exp(-0.5 * sum_squared / n / variance) / np.sqrt(2 * np.pi * variance)
    return np.where(known, likelihood, 0), p_value
