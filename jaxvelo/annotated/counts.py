"""Matrices of counts, dense or sparse: what they may hold, size of each cell, scaling, logarithm."""

from typing import Any

import numpy as np
import scipy.sparse as sp


def readable(name: str, matrix: Any) -> np.ndarray | sp.csr_matrix | sp.csc_matrix:
    """Return ``matrix``, called ``name`` to the user, as an array, CSR or CSC that the rest can calculate with.

    Duplicate entries are summed and stored zeros dropped; numbers of a type that SciPy does not know, such as
    half-precision or those of another byte order, take the nearest that it knows. The argument stays as it is.

    Raises
    ------
    ValueError
        If it is not in memory, is no matrix of real numbers, or has masked values.
    """
    if not isinstance(matrix, np.ndarray | sp.spmatrix | sp.sparray):
        raise ValueError(
            f"Expected `{name}` in memory, found a `{type(matrix).__name__}`. "
            "Load it with `adata = adata.to_memory()` first."
        )
    if matrix.dtype.kind not in "iufb":
        raise ValueError(
            f"Expected numbers in `{name}`, found the type {matrix.dtype}. Convert it: `{name} = {name}.astype('f4')`."
        )
    if isinstance(matrix, np.ma.MaskedArray):
        if np.ma.count_masked(matrix):
            raise ValueError(
                f"Expected a value in every place of `{name}`, found {np.ma.count_masked(matrix)} that are masked. "
                f"Fill them: `{name} = {name}.filled(0)`."
            )
        matrix = matrix.data
    dtype = _known_type(matrix.dtype)
    if not sp.issparse(matrix):
        return np.asarray(matrix).astype(dtype, copy=False)
    known = (matrix if matrix.format in ("csr", "csc") else matrix.tocsr()).astype(dtype, copy=False)
    if known.has_canonical_format and known.data.all():
        return known
    if known is matrix or np.shares_memory(known.data, matrix.data):
        known = known.copy()
    known.sum_duplicates()
    known.eliminate_zeros()
    return known


def _known_type(dtype: np.dtype) -> np.dtype:
    """Return the nearest type that both NumPy and SciPy calculate with."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return dtype.newbyteorder("=")


def floating_type(dtype: np.dtype) -> np.dtype:
    """Return the type in which counts are averaged: their own if it is floating, not of half precision."""
    return dtype.newbyteorder("=") if dtype.kind == "f" and dtype.itemsize > 2 else np.dtype(np.float32)


def check_finite(name: str, matrix: Any, remedy: str) -> None:
    """Raise a ValueError unless ``matrix``, called ``name`` to the user, holds finite numbers only."""
    values = stored_values(matrix)
    if values.dtype.kind not in "iufb":
        raise ValueError(f"Expected numbers in `{name}`, found the type {values.dtype}. {remedy}")
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"Expected finite values in `{name}`, found {bad} that are NaN or infinite. {remedy}")


def check_non_negative(name: str, matrix: Any, remedy: str) -> None:
    """Raise a ValueError unless ``matrix``, called ``name`` to the user, holds finite numbers of at least zero."""
    check_finite(name, matrix, remedy)
    bad = int(np.sum(stored_values(matrix) < 0))
    if bad:
        raise ValueError(f"Expected values of at least zero in `{name}`, found {bad} negative ones. {remedy}")


def is_zero(matrix: Any) -> bool:
    """Whether there is no count at all."""
    return not stored_values(matrix).any()


def cell_sizes(matrix: Any) -> np.ndarray:
    """Sum the counts of each cell; in the type of the matrix if that is floating, otherwise int64."""
    sums = np.asarray(matrix.sum(axis=1, dtype=np.float64 if matrix.dtype.kind == "f" else np.int64)).ravel()
    return sums.astype(matrix.dtype if matrix.dtype.kind == "f" else np.int64)


def to_size(sizes: np.ndarray, target: float | np.ndarray | None = None) -> np.ndarray:
    """Factor for each cell that brings it from its size to the target, by default the median size.

    It is one for cells without counts.
    """
    sizes = np.asarray(sizes, dtype=float)
    target = np.median(sizes) if target is None else np.asarray(target, dtype=float)
    target = np.broadcast_to(np.where(target > 0, target, 1.0), sizes.shape)
    return np.where(sizes > 0, target, 1.0) / np.where(sizes > 0, sizes, 1.0)


def scale_cells(matrix: Any, factor: np.ndarray) -> Any:
    """Multiply each row by its factor, into a new matrix of the same format and of floating type."""
    dtype = matrix.dtype if matrix.dtype.kind == "f" else np.dtype(np.float32)
    if not sp.issparse(matrix):
        return (np.asarray(matrix) * factor[:, None]).astype(dtype)
    scaled = matrix.astype(dtype, copy=True)
    rows = scaled.indices if scaled.format == "csc" else np.repeat(np.arange(len(factor)), np.diff(scaled.indptr))
    scaled.data *= factor[rows]
    return scaled


def log1p(matrix: Any) -> Any:
    """Logarithm of one plus each value, as a new matrix of the same format and of floating type."""
    floating = matrix if matrix.dtype.kind == "f" else matrix.astype(np.float32)
    return floating.log1p() if sp.issparse(floating) else np.log1p(floating)


def stored_values(matrix: Any) -> np.ndarray:
    """Return the stored values: all of a dense matrix, those of a sparse one that are not left out."""
    return matrix.data if sp.issparse(matrix) else np.asarray(matrix)
