"""Correlation of ranks, gene by gene."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from jaxvelo.dynamics._gene_blocks import gene_blocks


def rank_correlation(
    a: Float[np.ndarray, "cells genes"], b: Float[np.ndarray, "cells genes"]
) -> Float[np.ndarray, " genes"]:
    """Spearman's correlation of the columns of two arrays of shape (cells, genes); NaN where one does not vary.

    References
    ----------
    Spearman (1904). Ties get the mean of their ranks.
    """
    result = np.full(a.shape[1], np.nan)
    for genes in gene_blocks(*a.shape):
        x, y = (rankdata(values[:, genes], axis=0) - (len(values) + 1) / 2 for values in (a, b))
        norm = np.sqrt(np.sum(x * x, axis=0) * np.sum(y * y, axis=0))
        np.divide(np.sum(x * y, axis=0), norm, out=result[genes], where=norm > 0)
    return result
