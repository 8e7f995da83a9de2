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

NEIGHBORS = "neighbors"
"""Name of the neighbours that functions take without being told."""
KINDS = ("connectivities", "distances")
COMPUTE_NEIGHBORS = "Compute neighbours first as `jaxvelo.pp.neighbors(adata)`"


def neighbors_params(adata: AnnData, neighbors_key: str | None = None) -> Mapping[str, Any]:
    """Return what is noted of how neighbours were computed; empty where nothing is."""
    params = _entry(adata, neighbors_key).get("params")
    return params if isinstance(params, Mapping) else {}


def has_neighbors(adata: AnnData) -> bool:
    """Whether there is anything that tells of neighbours of the usual name, be it whole or not."""
    return NEIGHBORS in adata.uns or any(kind in adata.obsp for kind in KINDS)


def noted_neighbors(adata: AnnData) -> dict[str, tuple[str, str | None]]:
    """Return the keys of connectivities and distances, None if these are not there, by the name of the neighbours.

    Neighbours without connectivities are left out.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for name, entry in adata.uns.items():
        connectivities = _noted_key(entry, "connectivities") if isinstance(entry, Mapping) else None
        if isinstance(connectivities, str) and connectivities in adata.obsp:
            distances = _noted_key(entry, "distances") or usual_key("distances", name)
            found[name] = connectivities, distances if distances in adata.obsp else None
    return found


def write_graphs(
    adata: AnnData, key_added: str | None, connectivities: sp.csr_matrix, distances: sp.csr_matrix, params: Any
) -> None:
    """Store graphs of neighbours, under scanpy's keys, and how they were computed."""
    graphs = {"connectivities": connectivities, "distances": distances}
    keys = {kind: kind if key_added is None else f"{key_added}_{kind}" for kind in KINDS}
    for kind in reversed(KINDS):
        adata.obsp[keys[kind]] = graphs[kind]
    entry = {f"{kind}_key": key for kind, key in keys.items()}
    adata.uns[NEIGHBORS if key_added is None else key_added] = {**entry, "params": params}


def _entry(adata: AnnData, neighbors_key: str | None) -> Mapping[str, Any]:
    """What is noted of neighbours; empty where nothing is."""
    entry = adata.uns.get(NEIGHBORS if neighbors_key is None else neighbors_key)
    return entry if isinstance(entry, Mapping) else {}


def _noted_key(entry: Mapping[str, Any], kind: str) -> Any:
    """The key of a graph that is noted of neighbours, None if none is; some files give texts back in other types."""
    key = entry.get(f"{kind}_key")
    if isinstance(key, np.ndarray) and key.size == 1:
        key = key.item()
    return key.decode(errors="replace") if isinstance(key, bytes) else key


def usual_key(kind: str, name: str) -> str:
    """Scanpy's key of a graph."""
    return kind if name == NEIGHBORS else f"{name}_{kind}"


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
    name = NEIGHBORS if neighbors_key is None else neighbors_key
    if not isinstance(name, str):
        raise TypeError(f"Expected `neighbors_key` to be a name in `adata.uns` or None, found `{neighbors_key!r}`.")
    by_default, key = usual_key(kind, name), _noted_key(_entry(adata, name), kind)
    key = by_default if key is None else key
    if isinstance(key, str) and key in adata.obsp:
        return key
    if key == by_default:
        note = "" if name in adata.uns or name == NEIGHBORS else f" (and no `adata.uns[{name!r}]`)"
    else:
        note = f", which `adata.uns[{name!r}]['{kind}_key']` names"
    call = COMPUTE_NEIGHBORS if name == NEIGHBORS else f"{COMPUTE_NEIGHBORS[:-2]}, key_added={name!r})`"
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
    if key not in (kind, NEIGHBORS) and key not in adata.uns and usual_key(kind, key) not in adata.obsp:
        raise KeyError(
            f"Expected `adata.obsp[{key!r}]` or neighbours of that name in `adata.uns`, found the keys "
            f"{listed(adata.obsp)}. {COMPUTE_NEIGHBORS}, or pass the key of another graph as `{argument}`."
        )
    return graph_key(adata, kind, None if key == kind else key)


def read_graph(adata: AnnData, key: str, kind: str = "connectivities", argument: str = "conn_key") -> sp.csr_matrix:
    """Return a graph, found as by :func:`find_graph` and checked as by :func:`check_graph`."""
    key = find_graph(adata, key, kind, argument)
    return check_graph(adata.obsp[key], f"adata.obsp[{key!r}]", adata.n_obs)


def read_neighbor_graph(adata: AnnData, kind: str, neighbors_key: str | None = None) -> sp.csr_matrix:
    """Return a graph of the neighbours of a name, found as by :func:`graph_key`, checked as by :func:`check_graph`."""
    return read_graph(adata, graph_key(adata, kind, neighbors_key))


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
