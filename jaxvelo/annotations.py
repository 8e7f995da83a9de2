"""Reading from AnnData with checks: every message names the key, what was found, what was expected and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
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
    """Return ``mapping[key]``, or raise a KeyError that lists the keys there are."""
    if key not in mapping:
        keys = (known for known in mapping if known is not None)  # anndata lists `X` among the layers under None
        raise KeyError(f"Expected `{where}[{key!r}]`, found the keys {listed(keys)}. {remedy}")
    return mapping[key]


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


def read_mask(values: pd.Series, where: str, remedy: str) -> np.ndarray:
    """Return truth values of one of the types that pandas has for them; none may be missing."""
    if values.dtype not in (bool, "boolean") or values.isna().any():
        raise ValueError(f"Expected booleans in `{where}`, found the type {values.dtype}. {remedy}")
    return values.to_numpy(dtype=bool)


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
        return found.to_numpy() if isinstance(found, pd.DataFrame) else _in_memory(found, f"adata.obsm[{key!r}]")
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


def read_connectivities(adata: AnnData, conn_key: str) -> sp.csr_matrix:
    """Return ``adata.obsp[conn_key]`` as CSR of float64, checked; the name of a neighbours entry in ``uns`` works too.

    Raises
    ------
    KeyError
        If there is no such graph.
    ValueError
        If it has negative or non-finite weights.
    """
    where = f"adata.obsp[{conn_key!r}]"
    found = adata.obsp.get(conn_key)
    if found is None and conn_key in adata.uns and isinstance(adata.uns[conn_key], dict):
        conn_key = adata.uns[conn_key].get("connectivities_key", conn_key)
    found = require_key(
        adata.obsp,
        conn_key,
        "adata.obsp",
        "Compute neighbours first as `scanpy.pp.neighbors(adata)`, or pass `conn_key`.",
    )
    return check_graph(found, where)


def check_graph(matrix: Any, where: str) -> sp.csr_matrix:
    """Return a graph's weights as sorted CSR of float64; they must be finite and not negative."""
    csr = sp.csr_matrix(_in_memory(matrix, where)).astype(np.float64, copy=False)
    if not csr.has_canonical_format:
        # The arrays may be those of the argument, and this sorts them in place.
        csr = csr.copy()
        csr.sum_duplicates()
    if not np.isfinite(csr.data).all():
        bad = int(np.count_nonzero(~np.isfinite(csr.data)))
        raise ValueError(
            f"Expected finite weights in `{where}`, found {bad} that are not. "
            "Compute the neighbours anew, or remove these."
        )
    if csr.nnz and csr.data.min() < 0:
        bad = int(np.count_nonzero(csr.data < 0))
        raise ValueError(
            f"Expected non-negative weights in `{where}`, found {bad} negative ones (smallest {csr.data.min():.3g}). "
            "Pass similarities, not distances or correlations."
        )
    return csr


def dense(array: Any) -> np.ndarray:
    """Return an entry of ``adata.obsm``, whatever its format, as a dense array."""
    return array.toarray() if sp.issparse(array) else np.asarray(array)


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
            return embedding
    raise KeyError(
        f"Expected an embedding in `adata.obsm['X_{basis}']` or `adata.obsm[{basis!r}]`, found the keys "
        f"{listed(adata.obsm)}. Compute one first, for example `scanpy.tl.umap(adata)`, or pass `basis`."
    )


def read_clusters(adata: AnnData, key: str) -> pd.Series:
    """Return ``adata.obs[key]`` as a categorical series."""
    values = require_key(adata.obs, key, "adata.obs", "Pass the key of a clustering.")
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        raise TypeError(
            f"Expected `adata.obs[{key!r}]` to be categorical, found {values.dtype}. "
            f"Convert it as `adata.obs[{key!r}] = adata.obs[{key!r}].astype('category')`."
        )
    return values.astype("category")


def require_cluster(values: pd.Series, name: Any, key: str) -> np.ndarray:
    """Return which cells are in cluster ``name``, which must exist."""
    if name not in list(values.cat.categories):
        raise ValueError(
            f"Expected a cluster of `adata.obs[{key!r}]`, found `{name!r}`. There are {listed(values.cat.categories)}."
        )
    return (values == name).to_numpy()


def chosen_cells(adata: AnnData, chosen: Any, name: str) -> np.ndarray:
    """Boolean mask of the cells that a user names.

    Parameters
    ----------
    adata
        Annotated data.
    chosen
        ``None`` (all cells), indices, names or a mask of cells, ``{"clusters": "Alpha"}``, ``{"clusters": ["Alpha",
        "Beta"]}`` or ``{"pseudotime": [0, 0.1]}``.
    name
        Name of the user's argument, for messages.
    """
    mask = np.zeros(adata.n_obs, dtype=bool)
    if chosen is None:
        return ~mask
    if isinstance(chosen, Mapping):
        mask |= _by_annotation(adata, chosen, name)
    else:
        listed_cells = list(chosen) if isinstance(chosen, Set) else chosen
        mask |= _by_list(adata, np.atleast_1d(np.asarray(listed_cells)), name)
    if not mask.any():
        raise ValueError(
            f"No {name.removesuffix('_ixs')} indices have been selected: `{chosen}` is no cell of `adata`."
        )
    return mask


def _by_annotation(adata: AnnData, chosen: Mapping[str, Any], name: str) -> np.ndarray:
    if len(chosen) != 1:
        raise ValueError(f"Expected one key in `{name}`, found {listed(chosen)}.")
    key, wanted = next(iter(chosen.items()))
    values = require_key(adata.obs, key, "adata.obs", "Pass the key of a column with clusters or numbers.")
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        limits = np.atleast_1d(np.asarray(wanted))
        if not np.issubdtype(limits.dtype, np.number):
            raise TypeError(f"Expected two numbers as limits for `adata.obs[{key!r}]`, found `{wanted}`.")
        if limits.shape != (2,):
            raise ValueError(f"Expected two limits for `adata.obs[{key!r}]`, found {len(limits)}: `{wanted}`.")
        return ((values >= limits.min()) & (values <= limits.max())).to_numpy()
    names = [wanted] if np.isscalar(wanted) else list(wanted)
    known = set(values.cat.categories) if isinstance(values.dtype, pd.CategoricalDtype) else set(values)
    unknown = [value for value in names if value not in known]
    if unknown:
        raise ValueError(
            f"Expected values of `adata.obs[{key!r}]` in `{name}`, found {unknown}. "
            f"There are {listed(sorted(known, key=str))}."
        )
    return values.isin(names).to_numpy()


def _by_list(adata: AnnData, chosen: np.ndarray, name: str) -> np.ndarray:
    if chosen.dtype == bool:
        if chosen.shape != (adata.n_obs,):
            raise ValueError(f"Expected a mask of length {adata.n_obs} as `{name}`, found shape {chosen.shape}.")
        return chosen
    if chosen.dtype.kind in "iu":
        if len(chosen) and (chosen.max() >= adata.n_obs or chosen.min() < -adata.n_obs):
            outside = chosen[(chosen >= adata.n_obs) | (chosen < -adata.n_obs)][0]
            raise IndexError(f"Expected {name.removesuffix('_ixs')} indices below {adata.n_obs}, found {outside}.")
        return np.isin(np.arange(adata.n_obs), chosen % adata.n_obs)
    if chosen.dtype.kind in "UO" and len(chosen):
        unknown = np.setdiff1d(chosen.astype(str), adata.obs_names.astype(str))
        if len(unknown):
            raise KeyError(f"Expected names of cells as `{name}`, found {listed(unknown, 5)} not in `adata.obs_names`.")
        return adata.obs_names.isin(chosen.astype(str))
    if not len(chosen):
        return np.zeros(adata.n_obs, dtype=bool)
    raise TypeError(
        f"Expected `{name}` to be indices, names or a mask of cells, or a dictionary, found {chosen.dtype} numbers."
    )
