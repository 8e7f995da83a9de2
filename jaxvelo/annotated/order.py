"""Values and matrices of cells that a user gives, in the order of the cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.names import places_of


def in_order(values: pd.Series, names: pd.Index, where: str) -> pd.Series:
    """Return the values of a series in the order of ``names``; one that has no names of its own stays as it is.

    Values of others, as of all cells where some have been chosen since, are left out.

    Raises
    ------
    ValueError
        If some of ``names`` have no value, or they are in another order and several of one name.
    """
    index = values.index
    if index.equals(names) or index.equals(pd.RangeIndex(len(names))):
        return values
    if index.is_unique and names.isin(index).all():
        return values.reindex(names)
    raise ValueError(
        f"Expected the index of `{where}` to be the {len(names)} names {listed(names[:2])}, ..., found "
        f"{len(index)} like {listed(index[:2])}, or several of one name. Pass an array (`.to_numpy()`) if the order is "
        "the same, or set the index."
    )


def aligned(values: pd.Series, names: pd.Index, where: str) -> np.ndarray:
    """Return the values of a series as an array in the order of ``names``; see :func:`in_order`."""
    return _array_of(in_order(values, names, where))


def square_in_order(matrix: Any, names: pd.Index, where: str) -> np.ndarray | sp.spmatrix | sp.sparray:
    """Return a matrix of cells and cells that a user gives, in memory; a table in the order of ``names``.

    Raises
    ------
    KeyError
        If a table is of other cells.
    TypeError
        If it is no matrix of numbers.
    ValueError
        If it has another shape, or a table has several rows of one name.
    """
    shape = (len(names), len(names))
    if not sp.issparse(matrix) and not isinstance(matrix, pd.DataFrame):
        matrix = np.asarray(matrix)
    if matrix.shape != shape:
        raise ValueError(f"Expected `{where}` of shape {shape}, cells by cells, found {matrix.shape}.")
    if isinstance(matrix, pd.DataFrame):
        default, table = pd.RangeIndex(len(names)), matrix
        matrix = dense(table)
        if not (table.index.equals(default) and table.columns.equals(default)):
            places = (
                places_of(axis, names, f"{where}.{name}", "the names of the cells")
                for axis, name in ((table.index, "index"), (table.columns, "columns"))
            )
            matrix = matrix[np.ix_(*places)]
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"Expected a matrix of numbers as `{where}`, found the type {matrix.dtype}.")
    return matrix


def _array_of(values: pd.Series) -> np.ndarray:
    """Values as an array; of nullable numbers, NaN where they are missing."""
    if pd.api.types.is_numeric_dtype(values.dtype) and pd.api.types.is_extension_array_dtype(values.dtype):
        return values.to_numpy(dtype=float, na_value=np.nan)
    return values.to_numpy()
