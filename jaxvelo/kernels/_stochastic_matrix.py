"""Matrices that are, or should be, row-stochastic."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxvelo.configuration import logger
from jaxvelo.kernels._graph_data import normalize_rows


def sums_to_one(sums: np.ndarray) -> np.ndarray:
    """Whether the sum of each row is one, but for rounding in single precision."""
    return np.abs(sums - 1) <= 1e-3


def stochastic(matrix: Any, n_cells: int, where: str, copy: bool) -> sp.csr_matrix:
    """Return a row-stochastic CSR matrix of float64; rows that do not sum to one are normalised in a copy."""
    if matrix.shape != (n_cells, n_cells):
        raise ValueError(
            f"Expected a transition matrix of shape {(n_cells, n_cells)} in `{where}`, found {matrix.shape}."
        )
    if np.dtype(matrix.dtype).kind not in "fiub":
        raise TypeError(f"Expected numbers in `{where}`, found the type {matrix.dtype}. Convert them first.")
    csr = sp.csr_matrix(matrix).astype(np.float64, copy=copy)
    if not csr.has_sorted_indices:
        csr = csr.sorted_indices()
    if not np.isfinite(csr.data).all():
        bad = int(np.count_nonzero(~np.isfinite(csr.data)))
        raise ValueError(f"Expected finite probabilities in `{where}`, found {bad} that are not. Remove them first.")
    if csr.nnz and csr.data.min() < 0:
        bad = int(np.count_nonzero(csr.data < 0))
        raise ValueError(f"Expected non-negative probabilities in `{where}`, found {bad} negative ones.")
    sums = np.asarray(csr.sum(axis=1)).ravel()
    if (sums == 0).any():
        empty = np.flatnonzero(sums == 0)
        raise ValueError(
            f"Expected each row in `{where}` to have a positive sum, found {len(empty)} rows without, the first for "
            f"cell {empty[0]}. Give these cells a probability to stay, or remove them."
        )
    n_off = int(np.count_nonzero(~sums_to_one(sums)))
    if n_off:
        advice = (
            ": perhaps cells have been chosen since it was written. Normalizing them; compute the kernel anew for the "
            "transition matrix of these cells"
            if where.startswith("adata.")
            else ". Normalizing them"
        )
        logger.warning(
            "%d of %d rows in `%s` do not sum to one (smallest sum %.3g, largest %.3g)%s",
            n_off, len(sums), where, sums.min(), sums.max(), advice,
        )  # fmt: skip
    if not np.allclose(sums, 1, rtol=1e-12, atol=0):
        csr = normalize_rows(csr.copy())
    return csr
