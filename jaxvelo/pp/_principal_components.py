"""Principal components of expression, for neighbours of data that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, svds

from jaxvelo.annotated.rows_at_a_time import rows_at_a_time

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
    total = _total_variance(squares, mean, n_cells)
    vectors = _of_covariances if by_covariances else _of_products
    size, right = vectors(x, mean, n_components, seed)
    order = np.argsort(-size)
    size, right = size[order], _with_signs(right[:, order])
    coordinates = np.empty((n_cells, n_components), dtype=np.float32)
    # Of all at once, the product would take a copy in double precision.
    for some in rows_at_a_time(n_cells, n_genes, BLOCK):
        coordinates[some] = x[some] @ right - mean @ right
    variance = size**2 / (n_cells - 1)
    return PrincipalComponents(coordinates, right, variance, variance / total)


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
        gram += _products_of_genes(x)
        total += np.asarray(x.sum(axis=0)).ravel()
    mean = total / n_cells
    whole = _total_variance(float(np.trace(gram)), mean, n_cells)
    covariance = (gram - n_cells * np.outer(mean, mean)) / (n_cells - 1)
    del gram
    variance, vectors = _largest(covariance, n_components)
    variance, loadings = variance[::-1], _with_signs(vectors[:, ::-1])
    coordinates = np.empty((n_cells, n_components), dtype=np.float32)
    for rows, block in read():
        coordinates[rows] = block.astype(np.float64) @ loadings - mean @ loadings
    return PrincipalComponents(coordinates, loadings, variance, variance / whole)


def _products_of_genes(rows: Any) -> Float[np.ndarray, "genes genes"]:
    """Sum over cells of the products of their genes with each other."""
    if sp.issparse(rows):
        n_cells, n_genes = rows.shape
        # Measured: a product of stored numbers takes as long as a hundred of dense ones.
        if 100 * rows.nnz**2 < (n_cells * n_genes) ** 2:
            return (rows.T @ rows).toarray()
        rows = rows.toarray()
    return rows.T @ rows


def _dense_rows(x: Any) -> Iterator[Float[np.ndarray, "some genes"]]:
    """Give the rows, some at a time, dense and in double precision."""
    for rows in rows_at_a_time(x.shape[0], x.shape[1], BLOCK):
        block = x[rows]
        yield (block.toarray() if sp.issparse(block) else block).astype(np.float64)


def _of_covariances(
    x: Any, mean: np.ndarray, n_components: int, seed: int
) -> tuple[Float[np.ndarray, " components"], Float[np.ndarray, "genes components"]]:
    """Singular values and right singular vectors, from products of the genes with each other."""
    n_genes = x.shape[1]
    products = np.zeros((n_genes, n_genes))
    for rows in _dense_rows(x):
        centred = rows - mean
        products += centred.T @ centred
    squares, vectors = _largest(products, n_components)
    return np.sqrt(squares), vectors


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


def _total_variance(squares: float, mean: np.ndarray, n_cells: int) -> float:
    """Variance of all genes together, from the sum of the squares of all numbers."""
    total = (squares - n_cells * mean @ mean) / (n_cells - 1)
    if not total > ROUNDING * squares:
        raise ValueError("Expected expression in `adata.X` that varies among cells, found that all cells are equal.")
    return float(total)


def _largest(products: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues of a matrix without negative ones, in increasing order, and their vectors as columns."""
    n_genes = len(products)
    values, vectors = scipy.linalg.eigh(products, subset_by_index=(n_genes - n_components, n_genes - 1))
    return np.maximum(values, 0), vectors


def _with_signs(directions: np.ndarray) -> np.ndarray:
    """Directions, columns, whose largest loading is positive."""
    return directions * np.sign(directions[np.argmax(np.abs(directions), axis=0), np.arange(directions.shape[1])])
