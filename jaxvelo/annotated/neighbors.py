"""The neighbours of each cell, whatever their weights."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.graphs import COMPUTE_NEIGHBORS, KINDS, graph_key, read_graph
from jaxvelo.configuration import logger


def read_neighbors(
    adata: AnnData, mode: str = "distances", n_neighbors: int | None = None, neighbors_key: str | None = None
) -> sp.csr_matrix:
    """Read the neighbours of each cell, without itself, as a pattern of ones.

    Parameters
    ----------
    adata
        Annotated data.
    mode
        ``"distances"``: the nearest neighbours, directed; a stored distance of zero counts (a duplicate).
        ``"connectivities"``: those that they are connected to by a positive weight.
    n_neighbors
        Keep this many of the nearest (or most strongly connected) only.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.

    Raises
    ------
    KeyError
        If there is no such graph.
    ValueError
        If the mode is unknown, there are fewer neighbours than asked for, or there are none at all.
    """
    if mode not in KINDS:
        raise ValueError(f"Expected `mode_neighbors` to be one of {KINDS[::-1]}, found `{mode!r}`.")
    key = graph_key(adata, mode, neighbors_key)
    where = f"adata.obsp[{key!r}]"
    matrix = read_graph(adata, key).tocoo()
    other = matrix.row != matrix.col
    keep = other if mode == "distances" else other & (matrix.data > 0)
    row, column, value = matrix.row[keep], matrix.col[keep], matrix.data[keep]
    if not len(row):
        raise ValueError(f"Expected neighbours in `{where}`, found no cell that has any. {COMPUTE_NEIGHBORS}.")
    if n_neighbors is not None:
        check_integer("n_neighbors", n_neighbors, 1)
        most = int(np.bincount(row).max())
        if n_neighbors > most:
            raise ValueError(
                f"Expected `n_neighbors` to be at most the neighbours stored in `{where}`, found `{n_neighbors}`, "
                f"where cells have up to {most}. Compute more as `jaxvelo.pp.neighbors(adata, n_neighbors=...)`."
            )
        order = np.lexsort((value if mode == "distances" else -value, row))
        rank = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        chosen = order[rank < n_neighbors]
        row, column = row[chosen], column[chosen]
    return sp.csr_matrix((np.ones(len(row)), (row, column)), shape=matrix.shape)


def warn_about_isolated(neighbors: sp.csr_matrix, key: str, consequence: str) -> None:
    """Log how many cells have no neighbours, and what becomes of them."""
    isolated = int(np.count_nonzero(np.diff(neighbors.indptr) == 0))
    if isolated:
        logger.warning("%d cells have no neighbours in `adata.obsp[%r]`; %s", isolated, key, consequence)
