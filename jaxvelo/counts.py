"""Matrices of counts, dense or sparse: what they may hold, size of each cell, scaling, logarithm."""

from typing import Any

import numpy as np
import scipy.sparse as sp


def check_finite(name: str, matrix: Any, remedy: str) -> None:
    """Raise a ValueError unless ``matrix``, called ``name`` to the user, holds finite numbers only."""
    values = _values(matrix)
    if values.dtype.kind not in "iufb":
        raise ValueError(f"Expected numbers in `{name}`, found the type {values.dtype}. {remedy}")
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"Expected finite values in `{name}`, found {bad} that are NaN or infinite. {remedy}")


def check_non_negative(name: str, matrix: Any, remedy: str) -> None:
    """Raise a ValueError unless ``matrix``, called ``name`` to the user, holds finite numbers of at least zero."""
    check_finite(name, matrix, remedy)
    bad = int(np.sum(_values(matrix) < 0))
    if bad:
        raise ValueError(f"Expected values of at least zero in `{name}`, found {bad} negative ones. {remedy}")


def has_only_integers(matrix: Any) -> bool:
    """Whether all values are whole numbers, as raw counts are."""
    values = _values(matrix)
    return values.dtype.kind in "iub" or bool(np.all(values == np.rint(values)))


def is_zero(matrix: Any) -> bool:
    """Whether there is no count at all."""
    return not _values(matrix).any()


def cell_sizes(matrix: Any) -> np.ndarray:
    """Sum the counts of each cell; in the type of the matrix if that is floating, otherwise int64."""
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sums.astype(matrix.dtype if matrix.dtype.kind == "f" else np.int64)


def to_median_size(sizes: np.ndarray) -> np.ndarray:
    """Factor for each cell that brings it from its size to the median size; one for cells without counts."""
    sizes = np.asarray(sizes, dtype=float)
    median = np.median(sizes)
    return np.where(sizes > 0, median if median > 0 else 1.0, 1.0) / np.where(sizes > 0, sizes, 1.0)


def scale_cells(matrix: Any, factor: np.ndarray) -> Any:
    """Multiply each row by its factor, into a new matrix of the same format and of floating type."""
    dtype = matrix.dtype if matrix.dtype.kind == "f" else np.float32
    if not sp.issparse(matrix):
        return (np.asarray(matrix) * factor[:, None]).astype(dtype)
    scaled = (matrix if matrix.format in ("csr", "csc") else matrix.tocsr()).astype(dtype, copy=True)
    scaled.sum_duplicates()
    rows = scaled.indices if scaled.format == "csc" else np.repeat(np.arange(len(factor)), np.diff(scaled.indptr))
    scaled.data *= factor[rows]
    return scaled


def log1p(matrix: Any) -> Any:
    """Logarithm of one plus each value, as a new matrix of the same format."""
    return matrix.log1p() if sp.issparse(matrix) else np.log1p(matrix)


def _values(matrix: Any) -> np.ndarray:
    """Return the stored values."""
    return matrix.data if sp.issparse(matrix) else np.asarray(matrix)
