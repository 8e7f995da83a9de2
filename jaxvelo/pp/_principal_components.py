"""Principal components of expression, for neighbours of data that have none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, svds

ROUNDING = 1e-14
BLOCK = 1 << 22
"""Dense numbers at a time."""


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
    r"""Compute principal components, :math:`X - 1 \mu^\top \approx U S V^\top`, in double precision.

    They are the eigenvectors of the genes' covariances, where these are quick to compute: few genes, or values that are
    not sparse. Otherwise singular vectors, by ARPACK. A sparse matrix stays sparse: it is centred block by block, or
    within the products. The largest loading of each direction is positive, as in scanpy.

    Parameters
    ----------
    matrix
        Expression of shape (cells, genes), dense or sparse.
    n_components
        Less than the number of cells and of genes.
    seed
        Seed of the start vector of ARPACK, which has no influence beyond rounding.

    Raises
    ------
    ValueError
        If all cells are equal.
    """
    x: Any = sp.csr_matrix(matrix) if sp.issparse(matrix) else np.asarray(matrix)
    n_cells, n_genes = x.shape
    # Measured: the covariances take as long as 2e4 numbers of the matrix do in all products that ARPACK asks for.
    n_values = x.nnz if sp.issparse(x) else x.size
    by_covariances = n_cells * n_genes**2 + 7 * n_genes**3 < 2e4 * n_values
    mean, squares = np.zeros(n_genes), 0.0
    for rows in _dense_rows(x):
        mean += rows.sum(axis=0) / n_cells
        squares += float(np.vdot(rows, rows))
    total = (squares - n_cells * mean @ mean) / (n_cells - 1)
    if not total > ROUNDING * squares:
        raise ValueError("Expected expression in `adata.X` that varies among cells, found that all cells are equal.")
    vectors = _of_covariances if by_covariances else _of_products
    size, right = vectors(x, mean, n_components, seed)
    order = np.argsort(-size)
    size, right = size[order], right[:, order]
    right = right * np.sign(right[np.argmax(np.abs(right), axis=0), np.arange(n_components)])
    coordinates = (x @ right - mean @ right).astype(np.float32)
    variance = size**2 / (n_cells - 1)
    return PrincipalComponents(coordinates, right, variance, variance / total)


def _dense_rows(x: Any) -> Iterator[Float[np.ndarray, "some genes"]]:
    """Give the rows, some at a time, dense and in double precision."""
    n_rows = max(1, BLOCK // x.shape[1])
    for start in range(0, x.shape[0], n_rows):
        rows = x[start : start + n_rows]
        yield (rows.toarray() if sp.issparse(rows) else rows).astype(np.float64)


def _of_covariances(
    x: Any, mean: np.ndarray, n_components: int, seed: int
) -> tuple[Float[np.ndarray, " components"], Float[np.ndarray, "genes components"]]:
    """Singular values and right singular vectors, from products of the genes with each other."""
    n_genes = x.shape[1]
    products = np.zeros((n_genes, n_genes))
    for rows in _dense_rows(x):
        centred = rows - mean
        products += centred.T @ centred
    squares, vectors = scipy.linalg.eigh(products, subset_by_index=(n_genes - n_components, n_genes - 1))
    return np.sqrt(np.maximum(squares, 0)), vectors


def _of_products(
    x: Any, mean: np.ndarray, n_components: int, seed: int
) -> tuple[Float[np.ndarray, " components"], Float[np.ndarray, "genes components"]]:
    """Singular values and right singular vectors, from products of the matrix with vectors."""
    x = x.astype(np.float64)
    transposed = x.T
    centred = LinearOperator(
        x.shape,
        matvec=lambda v: x @ v - mean @ v,
        rmatvec=lambda u: transposed @ u - mean * u.sum(),
        matmat=lambda v: x @ v - mean @ v,
        rmatmat=lambda u: transposed @ u - np.outer(mean, u.sum(axis=0)),
        dtype=np.float64,
    )
    start = np.random.default_rng(seed).uniform(-1, 1, min(x.shape))
    _, size, right = svds(centred, n_components, v0=start, solver="arpack", return_singular_vectors="vh")
    return size, right.T
