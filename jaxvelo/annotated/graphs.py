"""Graphs of neighbours in an AnnData object: the one rule for where they stand, and what they may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import in_memory

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
    matrix = in_memory(matrix, where)
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
