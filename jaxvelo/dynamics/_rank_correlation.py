"""Correlation of ranks, gene by gene."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from jaxvelo.dynamics._gene_blocks import gene_blocks


def rank_correlation(
    a: Float[np.ndarray, "cells genes"], b: Float[np.ndarray, "cells genes"]
) -> Float[np.ndarray, " genes"]:
    r"""Spearman's correlation of the columns of two arrays.

    .. math:: \rho_g = \operatorname{corr}_i\big(\operatorname{rank}(a_{ig}), \operatorname{rank}(b_{ig})\big)

    Parameters
    ----------
    a, b
        Of shape (cells, genes), finite.

    Returns
    -------
    numpy.ndarray
        Correlations from -1 to 1, of shape (genes,); NaN where one of the columns does not vary.

    References
    ----------
    Spearman (1904). Ties get the mean of their ranks.

    Examples
    --------
    >>> a, b = np.array([[1.0, 3.0], [2.0, 2.0], [9.0, 1.0]]), np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    >>> jv.dynamics.rank_correlation(a, b).round(6).tolist()
    [1.0, -1.0]
    """
    result = np.full(a.shape[1], np.nan)
    for genes in gene_blocks(*a.shape):
        x, y = (rankdata(values[:, genes], axis=0) - (len(values) + 1) / 2 for values in (a, b))
        norm = np.sqrt(np.sum(x * x, axis=0) * np.sum(y * y, axis=0))
        np.divide(np.sum(x * y, axis=0), norm, out=result[genes], where=norm > 0)
    return result
