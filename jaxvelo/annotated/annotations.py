"""Reading from AnnData with checks: every message names the key, what was found, what was expected and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

# Numbers that a fit of the dynamical model leaves for each gene, jaxvelo's or scVelo's, and times of the cells.
FIT_COLUMNS = tuple(
    f"fit_{name}"
    for name in (
        *("alpha", "beta", "gamma", "t_", "scaling", "std_u", "std_s", "likelihood", "variance", "residual"),
        *("u0", "s0", "steady_u", "steady_s", "alignment_scaling", "pval_steady"),
        *("log_alpha_se", "log_gamma_se", "log_t__se", "log_scaling_se"),
    )
)
FIT_LAYERS = ("fit_t", "fit_tau", "fit_tau_", "fit_on")
FIT_ARRAYS = ("fit_covariance", "loss")


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


def is_missing(value: Any) -> bool:
    """Whether ``value`` is one of the values that stand for a missing one."""
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers: anndata 0.13 lists ``X`` among them, under the key None."""
    return [name for name in adata.layers if name is not None]


def check_integer(name: str, value: Any, least: int) -> None:
    """Raise a ValueError unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"Expected `{name}` to be an integer of at least {least}, found `{value!r}`.")


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number; truth values are none."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def listed(names: Iterable[Any], limit: int = 12) -> str:
    """Format names for a message, cut after ``limit``."""
    names = [repr(n.item() if isinstance(n, np.generic) else n) for n in names]
    shown = ", ".join(names[:limit])
    return f"[{shown}, ... ({len(names)} in all)]" if len(names) > limit else f"[{shown}]"


def place_of(key: str | None, attr: str) -> str:
    """Name, for messages, where :func:`read_array` reads from."""
    return "adata.X" if key in (None, "X") else f"adata.{attr}[{key!r}]"


def read_array(adata: AnnData, key: str | None, attr: str) -> Any:
    """Return ``adata.X`` (key ``None`` or ``"X"``) or ``adata.layers[key]`` or ``adata.obsm[key]``, in memory."""
    if key in (None, "X"):
        return _in_memory(adata.X, "adata.X")
    if attr == "layers":
        remedy = "Compute it first (`jaxvelo.pp.moments`, `jaxvelo.tl.velocity`), or pass its key."
        return _in_memory(require_key(adata.layers, key, "adata.layers", remedy), f"adata.layers[{key!r}]")
    if attr == "obsm":
        remedy = "Pass the key of an array in `adata.obsm`, or `attr='layers'`."
        found = require_key(adata.obsm, key, "adata.obsm", remedy)
        return dense(found) if isinstance(found, pd.DataFrame) else _in_memory(found, f"adata.obsm[{key!r}]")
    raise ValueError(f"Expected `attr` to be 'layers' or 'obsm', found `{attr!r}`.")


def _in_memory(array: Any, where: str) -> np.ndarray | sp.csr_matrix:
    """Dense arrays and sparse matrices as they are; those of a backed AnnData are read."""
    if array is None:
        raise ValueError(f"Expected a matrix in `{where}`, found None. Set it, or pass the key of a layer.")
    if isinstance(array, (np.ndarray, sp.spmatrix, sp.sparray)):
        return array
    if hasattr(array, "to_memory"):  # backed sparse matrices
        return array.to_memory()
    return np.asarray(array)


COMPUTE_NEIGHBORS = "Compute neighbours first as `jaxvelo.pp.neighbors(adata)`"


def neighbors_params(adata: AnnData, neighbors_key: str | None = None) -> Mapping[str, Any]:
    """Return what is noted of how neighbours were computed; empty where nothing is."""
    params = _neighbors_entry(adata, neighbors_key).get("params")
    return params if isinstance(params, Mapping) else {}


def _neighbors_entry(adata: AnnData, neighbors_key: str | None) -> Mapping[str, Any]:
    entry = adata.uns.get("neighbors" if neighbors_key is None else neighbors_key)
    return entry if isinstance(entry, Mapping) else {}


def graph_key(adata: AnnData, kind: str, neighbors_key: str | None = None) -> str:
    """Turn the name of neighbours into the key of one of their graphs in ``adata.obsp``.

    That is what ``adata.uns[neighbors_key]`` says or, where it says nothing, scanpy's name: ``kind`` itself for
    ``"neighbors"``, otherwise ``f"{neighbors_key}_{kind}"``.

    Parameters
    ----------
    adata
        Annotated data.
    kind
        ``"connectivities"`` or ``"distances"``.
    neighbors_key
        Name of the neighbours, None for ``"neighbors"``.

    Raises
    ------
    KeyError
        If there are no neighbours of that name, or their graph is missing.
    TypeError
        If ``neighbors_key`` is no name.
    """
    name = "neighbors" if neighbors_key is None else neighbors_key
    if not isinstance(name, str):
        raise TypeError(f"Expected `neighbors_key` to be a name in `adata.uns` or None, found `{neighbors_key!r}`.")
    by_default = kind if name == "neighbors" else f"{name}_{kind}"
    key = _neighbors_entry(adata, neighbors_key).get(f"{kind}_key", by_default)
    if isinstance(key, np.ndarray) and key.size == 1:  # as some files give texts back
        key = key.item()
    key = key.decode(errors="replace") if isinstance(key, bytes) else key
    if isinstance(key, str) and key in adata.obsp:
        return key
    if key == by_default:
        note = "" if name in adata.uns or name == "neighbors" else f" (and no `adata.uns[{name!r}]`)"
    else:
        note = f", which `adata.uns[{name!r}]['{kind}_key']` names"
    call = COMPUTE_NEIGHBORS if name == "neighbors" else f"{COMPUTE_NEIGHBORS[:-2]}, key_added={name!r})`"
    raise KeyError(
        f"Expected `adata.obsp[{key!r}]`{note}, found the keys {listed(adata.obsp)}. {call}, or pass the name of "
        "others."
    )


def find_graph(adata: AnnData, key: str, kind: str = "connectivities", argument: str = "conn_key") -> str:
    """Return the key of a graph in ``adata.obsp``: ``key`` itself if it is one, else that of the neighbours named so.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Key in ``adata.obsp``, or name of neighbours.
    kind
        Which graph of these neighbours: ``"connectivities"`` or ``"distances"``.
    argument
        Name of the user's argument, for messages.

    Raises
    ------
    KeyError
        If there is no such graph.
    """
    if key in adata.obsp:
        return key
    if key not in (kind, "neighbors") and key not in adata.uns and f"{key}_{kind}" not in adata.obsp:
        raise KeyError(
            f"Expected `adata.obsp[{key!r}]` or neighbours of that name in `adata.uns`, found the keys "
            f"{listed(adata.obsp)}. {COMPUTE_NEIGHBORS}, or pass the key of another graph as `{argument}`."
        )
    return graph_key(adata, kind, None if key == kind else key)


def read_graph(adata: AnnData, key: str, kind: str = "connectivities", argument: str = "conn_key") -> sp.csr_matrix:
    """Return a graph, found as by :func:`find_graph` and checked as by :func:`check_graph`."""
    key = find_graph(adata, key, kind, argument)
    return check_graph(adata.obsp[key], f"adata.obsp[{key!r}]", adata.n_obs)


def check_graph(matrix: Any, where: str, n_cells: int | None = None) -> sp.csr_matrix:
    """Return a graph's weights as sorted CSR of float64.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If it is not a matrix of cells and cells, or weights are negative or not finite.
    """
    if isinstance(matrix, pd.DataFrame):
        matrix = matrix.to_numpy()
    matrix = _in_memory(matrix, where)
    if matrix.dtype.kind not in "biuf":
        raise TypeError(
            f"Expected a matrix of numbers in `{where}`, found the type {matrix.dtype}. {COMPUTE_NEIGHBORS}."
        )
    side = matrix.shape[0] if n_cells is None else n_cells
    if matrix.shape != (side, side):
        raise ValueError(
            f"Expected a matrix of cells and cells in `{where}`, shape {(side, side)}, found {matrix.shape}. "
            f"{COMPUTE_NEIGHBORS}."
        )
    csr = sp.csr_matrix(matrix).astype(np.float64, copy=False)
    if not csr.has_canonical_format:
        # The arrays may be those of the argument, and this sorts them in place.
        csr = csr.copy()
        csr.sum_duplicates()
    if not np.isfinite(csr.data).all():
        bad = int(np.count_nonzero(~np.isfinite(csr.data)))
        raise ValueError(
            f"Expected finite weights in `{where}`, found {bad} that are not. "
            "Compute the neighbours anew as `jaxvelo.pp.neighbors(adata)`, or remove these."
        )
    if csr.nnz and csr.data.min() < 0:
        bad = int(np.count_nonzero(csr.data < 0))
        raise ValueError(
            f"Expected non-negative weights in `{where}`, found {bad} negative ones (smallest {csr.data.min():.3g}). "
            "Pass similarities or distances, not correlations, or compute them as `jaxvelo.pp.neighbors(adata)`."
        )
    return csr


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


def read_embedding(adata: AnnData, basis: str, least_columns: int = 1) -> np.ndarray:
    """Return ``adata.obsm["X_{basis}"]`` or ``adata.obsm[basis]`` as a dense array with two axes."""
    for key in (f"X_{basis}", basis):
        if key in adata.obsm:
            embedding = dense(adata.obsm[key])
            if embedding.ndim != 2 or embedding.shape[1] < least_columns:
                raise ValueError(
                    f"Expected `adata.obsm[{key!r}]` to have {least_columns} or more columns, "
                    f"found shape {embedding.shape}."
                )
            if embedding.dtype.kind not in "fiub":
                try:  # texts of numbers, as tables of other tools have them
                    embedding = embedding.astype(float)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"Expected coordinates in `adata.obsm[{key!r}]`, found values that are no numbers, of the type "
                        f"{embedding.dtype}. Keep the columns of numbers, or pass another `basis`."
                    ) from error
            return embedding
    raise KeyError(
        f"Expected an embedding in `adata.obsm['X_{basis}']` or `adata.obsm[{basis!r}]`, found the keys "
        f"{listed(adata.obsm)}. Compute one first, for example `scanpy.tl.umap(adata)`, or pass `basis`."
    )
