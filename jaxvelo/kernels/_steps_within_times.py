"""Transition probabilities among the cells of one time point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.graphs import find_graph, read_graph
from jaxvelo.configuration import logger
from jaxvelo.graph import NeighborGraph
from jaxvelo.kernels._time_points import TimePoints
from jaxvelo.pp._neighbors import compute_neighbors
from jaxvelo.transitions import Connectivity

N_NEIGHBORS = 15
MOST_UNIFORM = 20_000
"""Up to so many cells may go to each other with equal probability: of more, the matrix does not fit into memory."""
_OF_NEIGHBORS = ("n_neighbors", "n_pcs", "use_rep", "metric", "random_state")
_ACCEPTED = ("density_normalize", "conn_key", *_OF_NEIGHBORS)
_WITHOUT_EFFECT = ("copy", "key_added", "method", "knn")


def identity_within(times: TimePoints, time: int) -> sp.csr_matrix:
    """All cells of a time point stay where they are."""
    cells, n_cells = times.cells[time], len(times.number)
    return sp.csr_matrix((np.ones(len(cells)), (cells, cells)), shape=(n_cells, n_cells))


def uniform_within(times: TimePoints, time: int) -> sp.csr_matrix:
    """The same probability of all cells of a time point."""
    cells, n_cells = times.cells[time], len(times.number)
    if len(cells) > MOST_UNIFORM:
        raise ValueError(
            f"Expected at most {MOST_UNIFORM} cells of the last time point with `self_transitions='uniform'`, found "
            f"{len(cells)}: a matrix of all pairs of them does not fit into memory. Use 'connectivities' or 'diagonal'."
        )
    rows, columns = np.repeat(cells, len(cells)), np.tile(cells, len(cells))
    return sp.csr_matrix((np.full(len(rows), 1 / len(cells)), (rows, columns)), shape=(n_cells, n_cells))


def similarities_within(
    adata: AnnData, times: TimePoints, chosen: list[int], options: Mapping[str, Any]
) -> sp.csr_matrix:
    """Transition probabilities of similar cells of the same time point, for some time points.

    Parameters
    ----------
    adata
        Annotated data.
    times, chosen
        The time points, and which of them.
    options
        Arguments of :func:`jaxvelo.pp.neighbors`, of the cells of each time point, with 15 neighbours by default, as
        scanpy has; ``conn_key``, for a neighbour graph that is there, of which edges between time points are left out;
        ``density_normalize``.

    Raises
    ------
    TypeError
        If an option is unknown.
    """
    unknown = set(options) - {*_ACCEPTED, *_WITHOUT_EFFECT}
    if unknown:
        raise TypeError(f"Expected `conn_kwargs` to have some of {_ACCEPTED}, found {sorted(unknown)}.")
    n_cells = adata.n_obs
    if options.get("conn_key") is not None:
        matrix = read_graph(adata, find_graph(adata, options["conn_key"])).tocoo()
        same = (times.number[matrix.row] == times.number[matrix.col]) & np.isin(times.number[matrix.row], chosen)
        weights = sp.csr_matrix((matrix.data[same], (matrix.row[same], matrix.col[same])), shape=(n_cells, n_cells))
    else:
        weights = sp.csr_matrix((n_cells, n_cells))
        for time in chosen:
            part = _weights(adata, times, time, options)
            cells = times.cells[time]
            weights = weights + sp.csr_matrix((part.data, (cells[part.row], cells[part.col])), shape=weights.shape)
    graph = NeighborGraph.from_csr(weights)
    within = Connectivity(bool(options.get("density_normalize", True)))(graph).to_csr()
    of_chosen = np.isin(times.number, chosen)
    return sp.csr_matrix(sp.diags_array(of_chosen.astype(float)) @ within)


def _weights(adata: AnnData, times: TimePoints, time: int, options: Mapping[str, Any]) -> sp.coo_matrix:
    """Connectivities of the cells of one time point."""
    cells = times.cells[time]
    if len(cells) < 3:
        return sp.coo_matrix(np.ones((len(cells), len(cells))) - np.eye(len(cells)))
    arguments = {name: options[name] for name in _OF_NEIGHBORS if name in options}
    n_neighbors = arguments.pop("n_neighbors", N_NEIGHBORS)
    if n_neighbors > len(cells):
        logger.warning(
            "The time point %s has %d cells: using `n_neighbors=%d`, half of them and one",
            times.names[time], len(cells), n_neighbors := 1 + len(cells) // 2,
        )  # fmt: skip
    return compute_neighbors(adata[cells], n_neighbors, **arguments).connectivities.tocoo()
