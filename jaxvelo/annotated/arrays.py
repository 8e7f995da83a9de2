"""Arrays in an AnnData object: layers and representations, in memory, dense, of finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.entries import require_key


def place_of(key: str | None, attr: str) -> str:
    """Name, for messages, where :func:`read_array` reads from."""
    return "adata.X" if key in (None, "X") else f"adata.{attr}[{key!r}]"


def read_array(adata: AnnData, key: str | None, attr: str) -> Any:
    """Return ``adata.X`` (key ``None`` or ``"X"``) or ``adata.layers[key]`` or ``adata.obsm[key]``, in memory."""
    found = find_array(adata, key, attr)
    return dense(found) if isinstance(found, pd.DataFrame) else in_memory(found, place_of(key, attr))


def find_array(adata: AnnData, key: str | None, attr: str) -> Any:
    """Return the same as it stands there, which may be on disk."""
    if key in (None, "X"):
        return _require_matrix(adata.X, "adata.X")
    if attr == "layers":
        remedy = "Compute it first (`jaxvelo.pp.moments`, `jaxvelo.tl.velocity`), or pass its key."
        return require_key(adata.layers, key, "adata.layers", remedy)
    if attr == "obsm":
        remedy = "Pass the key of an array in `adata.obsm`, or `attr='layers'`."
        return require_key(adata.obsm, key, "adata.obsm", remedy)
    raise ValueError(f"Expected `attr` to be 'layers' or 'obsm', found `{attr!r}`.")


def in_memory(array: Any, where: str) -> np.ndarray | sp.csr_matrix:
    """Dense arrays and sparse matrices as they are; those of a backed AnnData are read."""
    array = _require_matrix(array, where)
    if isinstance(array, (np.ndarray, sp.spmatrix, sp.sparray)):
        return array
    if hasattr(array, "to_memory"):  # backed sparse matrices
        return array.to_memory()
    if hasattr(array, "compute"):  # arrays of dask, which may be sparse
        return in_memory(array.compute(), where)
    return np.asarray(array)


def _require_matrix(array: Any, where: str) -> Any:
    if array is None:
        raise ValueError(f"Expected a matrix in `{where}`, found None. Set it, or pass the key of a layer.")
    return array


def dense(array: Any) -> np.ndarray:
    """Return an entry of ``adata.obsm``, whatever its format, as a dense array.

    Numbers that pandas or Python hold in types of their own become floats, NaN where they are missing; what is no
    number leaves the array of objects.
    """
    if sp.issparse(array):
        return array.toarray()
    values = array.to_numpy() if isinstance(array, pd.DataFrame) else np.asarray(array)
    if values.dtype.kind != "O" or any(isinstance(value, str | bytes) for value in values.flat):
        return values
    try:
        table = array if isinstance(array, pd.DataFrame) else pd.DataFrame(values)
        return table.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return values


def read_representation(adata: AnnData, key: str, remedy: str) -> np.ndarray:
    """Return ``adata.obsm[key]`` as a dense array of finite numbers with two axes."""
    array, where = dense(require_key(adata.obsm, key, "adata.obsm", remedy)), f"adata.obsm[{key!r}]"
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected numbers with two axes in `{where}`, found the type {array.dtype} of shape {array.shape}. "
            f"{remedy}"
        )
    check_finite_rows(array, where)
    return array


def check_finite_rows(values: np.ndarray, where: str) -> None:
    """Raise a ValueError that counts the cells with values that are not finite."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Expected finite values in `{where}`, found {len(bad)} cells without, the first of them {bad[0]}. "
            "Remove these cells, or fill in their values."
        )
