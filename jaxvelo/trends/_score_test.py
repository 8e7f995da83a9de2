"""Whether a curve beside those that are fitted would explain the cells any better."""

import numpy as np
from jaxtyping import Float

from jaxvelo.trends._quadratic_forms import tail_probability
from jaxvelo.trends._smoothness import Directions

DEGREES = 4.0
"""Effective degrees of freedom of the curve that is looked for: less is blind to peaks, more loses power for trends."""


def score_test(
    along: Directions,
    score: Float[np.ndarray, "genes n_knots"],
    meat: Float[np.ndarray, "genes n_knots n_knots"],
) -> tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]]:
    r"""Test that the expected score of a curve is zero, against smooth curves.

    What a penalised curve of few effective degrees of freedom would explain,

    .. math:: Q = U^\top (G + \lambda_0 S)^{-1} U \sim \sum_j e_j \chi^2_1,

    with the score :math:`U` at the hypothesis and the eigenvalues :math:`e_j` of
    :math:`(G + \lambda_0 S)^{-1/2} M (G + \lambda_0 S)^{-1/2}`, where :math:`M = \sum_i U_i U_i^\top` is the variance
    that the cells' scores show: neither a variance that changes along the curve nor weights that are no numbers of
    cells make it wrong (White 1980; variance components tested by scores: Zhang & Lin 2003).

    Parameters
    ----------
    along
        Directions of the Gram matrix, for each gene or for all.
    score, meat
        :math:`U` and :math:`M`.

    Returns
    -------
    :math:`Q / \sum_j e_j`, of any scale of expression, 1 on average where nothing is to be found and zero for constant
    expression, and the p-value.
    """
    g = along.information
    low, high = np.full(len(g), -12.0), np.full(len(g), 12.0)
    for _ in range(60):  # the degrees of freedom fall with the penalty
        middle = (low + high) / 2
        too_many = (g / along.precision(10**middle)).sum(1) > DEGREES
        low, high = np.where(too_many, middle, low), np.where(too_many, high, middle)
    half = along.vectors / np.sqrt(along.precision(10 ** ((low + high) / 2)))[:, None]
    turned = half.swapaxes(1, 2)
    explained = ((turned @ score[..., None])[..., 0] ** 2).sum(1)
    weights = np.maximum(np.linalg.eigvalsh(turned @ meat @ half), 0)
    expected = weights.sum(1)
    statistic = np.divide(explained, expected, out=np.zeros_like(explained), where=expected > 0)
    return statistic, tail_probability(explained, weights)
