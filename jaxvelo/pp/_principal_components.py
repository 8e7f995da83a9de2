"""Principal components of expression, for neighbours of data that have none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
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
    total = (squares - n_cells * mean @ mean) / (n_cells - 1)
    if not total > ROUNDING * squares:
        raise ValueError("Expected expression in `adata.X` that varies among cells, found that all cells are equal.")
    start = np.random.default_rng(seed).uniform(-1, 1, min(x.shape))
    left, size, right = svds(centred, n_components, v0=start, solver="arpack")
    order = np.argsort(-size)
    left, size, right = left[:, order], size[order], right[order]
    sign = np.sign(right[np.arange(n_components), np.argmax(np.abs(right), axis=1)])
    variance = size**2 / (n_cells - 1)
    coordinates = (left * (size * sign)).astype(np.float32)
    return PrincipalComponents(coordinates, (right * sign[:, None]).T, variance, variance / total)
