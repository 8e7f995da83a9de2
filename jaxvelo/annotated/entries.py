"""What stands in an AnnData object under a key, or an error that names the key, what was found and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import is_missing, listed


def require_anndata(adata: Any) -> AnnData:
    """Return ``adata`` if it is an AnnData object."""
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected `adata` to be an AnnData object, found `{type(adata).__name__}`.")
    return adata


def require_key(mapping: Any, key: str, where: str, remedy: str) -> Any:
    """Return ``mapping[key]``, or raise a KeyError that lists the keys there are; a table's columns must be unique."""
    if key not in mapping:
        keys = (known for known in mapping if known is not None)  # anndata lists `X` among the layers under None
        raise KeyError(f"Expected `{where}[{key!r}]`, found the keys {listed(keys)}. {remedy}")
    found = mapping[key]
    if isinstance(mapping, pd.DataFrame) and isinstance(found, pd.DataFrame):
        raise ValueError(
            f"Expected one column `{where}[{key!r}]`, found {found.shape[1]} of that name. Keep one of them, as by "
            f"`{where} = {where}.loc[:, ~{where}.columns.duplicated()]`."
        )
    return found


def stored_parameters(adata: AnnData, key: str) -> Mapping[str, Any]:
    """Return the parameters in ``adata.uns[key]``; none where there is something else, or nothing."""
    found = adata.uns.get(key)
    return found if isinstance(found, Mapping) else {}


def read_numbers(table: pd.DataFrame, key: str, where: str, remedy: str) -> np.ndarray:
    """Return a column as float64, NaN where values are missing.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there are several, or they are no numbers.
    """
    column = require_key(table, key, where, remedy)
    try:
        if pd.api.types.is_numeric_dtype(column.dtype):
            return column.to_numpy(dtype=float, na_value=np.nan, copy=True)
        return np.array([np.nan if is_missing(value) else float(value) for value in column])
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected numbers in `{where}[{key!r}]`, found the type {column.dtype}. {remedy}") from error


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers: anndata 0.13 lists ``X`` among them, under the key None."""
    return [name for name in adata.layers if name is not None]
