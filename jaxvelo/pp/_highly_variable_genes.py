"""Highly variable genes by their dispersion, under scanpy's names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from jaxvelo.configuration import logger

FLAVORS = ("seurat", "cell_ranger")
_N_BINS = 20
# Median absolute deviation of a standard normal variable.
_NORMAL_DEVIATION = 0.6744897501960817


def highly_variable_genes(logarithms: Any, n_top_genes: int, flavor: str) -> pd.DataFrame:
    r"""Rank genes by how much they vary, compared with genes of a similar mean.

    The dispersion of a gene is its variance over its mean. It is compared within bins of the mean: by mean and standard
    deviation of the logarithm of the dispersion (``"seurat"``, 20 bins of equal width; of :math:`\exp(x) - 1`), or by
    median and median absolute deviation (``"cell_ranger"``, 20 bins with as many genes; of :math:`x`). A gene alone in
    its bin has 1.

    Parameters
    ----------
    logarithms
        :math:`x = \log(1 + \text{normalised counts})`, of shape (cells, genes), dense or sparse.
    n_top_genes
        Number of genes; more if the last has ties, fewer if fewer vary.
    flavor
        One of :data:`FLAVORS`.

    Returns
    -------
    pandas.DataFrame
        A row for each gene, in their order, with ``means``, ``dispersions``, ``dispersions_norm`` (missing where a gene
        does not vary) and ``highly_variable``.

    Raises
    ------
    ValueError
        If there are fewer than 2 cells, or no gene varies.

    Notes
    -----
    Equal to :func:`scanpy.pp.highly_variable_genes`, which it stands in for as that compiles for many seconds. Other
    than there, genes without counts are never chosen, and where they, or others of equal means, would leave bins of
    ``"cell_ranger"`` without width, the former have no say and the latter share a bin.

    References
    ----------
    Satija et al. (2015), Nature Biotechnology 33, 495; Zheng et al. (2017), Nature Communications 8, 14049.
    """
    return ranked_by_dispersion(*sums_of_genes(logarithms, flavor), logarithms.shape[0], n_top_genes, flavor)


def sums_of_genes(logarithms: Any, flavor: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the values of each gene that :func:`highly_variable_genes` compares, and of their squares."""
    values = logarithms
    if flavor == "seurat":
        values = values.expm1() if sp.issparse(values) else np.expm1(values)
    values = values.astype(np.float64)
    squares = values.multiply(values) if sp.issparse(values) else values * values
    total, total_of_squares = (np.asarray(matrix.sum(axis=0)).ravel() for matrix in (values, squares))
    return total, total_of_squares


def ranked_by_dispersion(
    total: np.ndarray, total_of_squares: np.ndarray, n_cells: int, n_top_genes: int, flavor: str
) -> pd.DataFrame:
    """Result of :func:`highly_variable_genes`, or its error, by the sums of :func:`sums_of_genes`."""
    if n_cells < 2:
        raise ValueError(f"Expected at least 2 cells to look for highly variable genes, found {n_cells}.")
    mean, mean_square = total / n_cells, total_of_squares / n_cells
    variance = (mean_square - mean**2) * n_cells / (n_cells - 1)
    expressed = mean > 0
    mean = np.where(expressed, mean, 1e-12)
    dispersion = pd.Series(variance / mean)
    if flavor == "seurat":
        dispersion, mean = np.log(dispersion.where(dispersion > 0)), np.log1p(mean)
        bins = pd.cut(mean, _N_BINS, labels=False)
        groups = dispersion.groupby(bins)
        center, spread = groups.transform("mean"), groups.transform("std")
        center, spread = center.where(spread.notna(), 0.0), spread.fillna(center)
    else:
        edges = np.percentile(mean, np.arange(10, 105, 5))
        if len(np.unique(edges)) < len(edges) and expressed.any():
            dispersion = dispersion.where(expressed)
            edges = np.percentile(mean[expressed], np.arange(10, 105, 5))
        bins = pd.cut(mean, np.unique(np.r_[-np.inf, edges, np.inf]), labels=False)
        center = dispersion.groupby(bins).transform("median")
        spread = (dispersion - center).abs().groupby(bins).transform("median") / _NORMAL_DEVIATION
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = ((dispersion - center) / spread).to_numpy()
    ranked = np.sort(normalized[expressed & ~np.isnan(normalized)])[::-1]
    if not len(ranked):
        raise ValueError(
            f"Expected genes that vary more or less than others of a similar mean, found none among {len(mean)} genes "
            f"with `flavor={flavor!r}`: there are too few, or they are the same in all {n_cells} cells. "
            "Leave out `n_top_genes`, or choose another flavor."
        )
    least = ranked[min(n_top_genes, len(ranked)) - 1]
    return pd.DataFrame(
        {
            "means": mean,
            "dispersions": dispersion,
            "dispersions_norm": normalized,
            "highly_variable": expressed & (normalized >= least),
        }
    )


def mark_highly_variable(
    var: pd.DataFrame, rank: Callable[[int], pd.DataFrame], n_top_genes: int, retained: np.ndarray
) -> None:
    """Write what is known about the variability of the genes into their table, by a ranking for a number of genes."""
    if n_top_genes >= len(var):
        logger.info("Marked all %d genes as highly variable: `n_top_genes` asks for no fewer.", len(var))
        var["highly_variable"] = True
        return
    table = rank(n_top_genes)
    for key in table:
        var[key] = table[key].to_numpy()
    var["highly_variable"] |= retained
    marked = int(var["highly_variable"].sum())
    if marked < n_top_genes:
        logger.warning(
            "Marked %d highly variable genes, fewer than the %d of `n_top_genes`: the others cannot be compared with "
            "genes of a similar mean.",
            marked,
            n_top_genes,
        )
    else:
        logger.info("Marked %d highly variable genes.", marked)
