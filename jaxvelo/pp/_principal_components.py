"""Principal components of expression, for neighbours of data that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, svds

ROUNDING = 1e-14


class PrincipalComponents(NamedTuple):
    """Coordinates of cells along the directions of largest variance.

    Attributes
    ----------
    coordinates
        Shape (cells, components), float32.
    loadings
        The directions, shape (genes, components).
    variance, variance_ratio
        Along each direction, and as share of the whole.
    """

    coordinates: Float[np.ndarray, "cells components"]
    loadings: Float[np.ndarray, "genes components"]
    variance: Float[np.ndarray, " components"]
    variance_ratio: Float[np.ndarray, " components"]


def principal_components(matrix: Any, n_components: int, seed: int = 0) -> PrincipalComponents:
    r"""Compute principal components, :math:`X - 1 \mu^\top \approx U S V^\top`, by ARPACK in double precision.

    A sparse matrix stays sparse: it is centred within the products. The largest loading of each direction is positive,
    as in scanpy.

    Parameters
    ----------
    matrix
        Expression of shape (cells, genes), dense or sparse.
    n_components
        Less than the number of cells and of genes.
    seed
        Seed of the start vector, which has no influence beyond rounding.

    Raises
    ------
    ValueError
        If all cells are equal.
    """
    x = sp.csr_matrix(matrix, dtype=np.float64) if sp.issparse(matrix) else np.asarray(matrix, dtype=np.float64)
    n_cells = x.shape[0]
    mean = np.asarray(x.mean(axis=0)).ravel()
    transposed = x.T
    centred = LinearOperator(
        x.shape,
        matvec=lambda v: x @ v - mean @ v,
        rmatvec=lambda u: transposed @ u - mean * u.sum(),
        matmat=lambda v: x @ v - mean @ v,
        rmatmat=lambda u: transposed @ u - np.outer(mean, u.sum(axis=0)),
        dtype=np.float64,
    )
    squares = sp.linalg.norm(x) ** 2 if sp.issparse(x) else np.linalg.norm(x) ** 2
    total = _total_variance(float(squares), mean, n_cells)
    start = np.random.default_rng(seed).uniform(-1, 1, min(x.shape))
    left, size, right = svds(centred, n_components, v0=start, solver="arpack")
    order = np.argsort(-size)
    left, size, right = left[:, order], size[order], right[order]
    sign = _signs(right)
    variance = size**2 / (n_cells - 1)
    coordinates = (left * (size * sign)).astype(np.float32)
    return PrincipalComponents(coordinates, (right * sign[:, None]).T, variance, variance / total)


def principal_components_in_blocks(
    read: Callable[[], Iterable[tuple[slice, Any]]], n_cells: int, n_genes: int, n_components: int
) -> PrincipalComponents:
    r"""Compute principal components of cells that are read in blocks, twice, by the eigenvectors of the covariance.

    :math:`C = (\sum_i x_i x_i^\top - n \mu \mu^\top) / (n - 1)` in double precision. Differences to
    :func:`principal_components` are of the size of rounding in double precision, times the ratio of the mean of the
    squares to the variance of a component.

    Parameters
    ----------
    read
        Begins to read: gives the rows of each block, and expression of shape (cells, genes), dense or sparse.
    n_cells, n_genes, n_components
        Numbers; the components are less than the others.

    Raises
    ------
    ValueError
        If all cells are equal.
    """
    gram, total = np.zeros((n_genes, n_genes)), np.zeros(n_genes)
    for _, block in read():
        x = block.astype(np.float64)
        product = x.T @ x
        gram += product.toarray() if sp.issparse(product) else product
        total += np.asarray(x.sum(axis=0)).ravel()
    mean = total / n_cells
    whole = _total_variance(float(np.trace(gram)), mean, n_cells)
    covariance = (gram - n_cells * np.outer(mean, mean)) / (n_cells - 1)
    del gram
    variance, vectors = scipy.linalg.eigh(covariance, subset_by_index=(n_genes - n_components, n_genes - 1))
    variance, right = np.maximum(variance[::-1], 0), vectors[:, ::-1].T
    loadings = (right * _signs(right)[:, None]).T
    coordinates = np.empty((n_cells, n_components), dtype=np.float32)
    for rows, block in read():
        coordinates[rows] = block.astype(np.float64) @ loadings - mean @ loadings
    return PrincipalComponents(coordinates, loadings, variance, variance / whole)


def _total_variance(squares: float, mean: np.ndarray, n_cells: int) -> float:
    """Variance of all genes together, from the sum of the squares of all numbers."""
    total = (squares - n_cells * mean @ mean) / (n_cells - 1)
    if not total > ROUNDING * squares:
        raise ValueError("Expected expression in `adata.X` that varies among cells, found that all cells are equal.")
    return float(total)


def _signs(directions: np.ndarray) -> np.ndarray:
    """Signs that make the largest loading of each direction, a row, positive."""
    return np.sign(directions[np.arange(len(directions)), np.argmax(np.abs(directions), axis=1)])
