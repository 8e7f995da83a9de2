"""Basic kernels whose steps follow a neighbour graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scipy.sparse.csgraph import connected_components

from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import find_graph, read_graph
from jaxvelo.configuration import logger
from jaxvelo.kernels._graph_data import GraphData
from jaxvelo.kernels._kernel import Kernel


class NeighborKernel(Kernel):
    """A basic kernel whose steps follow a neighbour graph. Projections sum over its edges.

    Parameters
    ----------
    adata
        Annotated data with neighbours.
    init
        Arguments that the kernel was made with, to store.
    conn_key
        Key of the neighbour graph in ``adata.obsp``, or name of the neighbours in ``adata.uns``; None for
        ``"connectivities"``.
    check_connectivity
        Whether to check that the graph is connected.

    Raises
    ------
    KeyError
        If there is no such graph.
    ValueError
        If weights are negative or not finite.

    Examples
    --------
    >>> [isinstance(part, jv.kernels.NeighborKernel) for part in (vk, ck)], vk.conn_key
    ([True, True], 'connectivities')
    """

    def __init__(
        self,
        adata: AnnData,
        init: dict[str, Any],
        conn_key: str | None = "connectivities",
        check_connectivity: bool = False,
    ):
        require_anndata(adata)
        self._conn_key = key = find_graph(adata, "connectivities" if conn_key is None else conn_key)
        graph_data = GraphData.shared(key, read_graph(adata, key))
        super().__init__(adata, graph_data, init)
        # What is unusual about a graph that works all the same.
        isolated = int(np.count_nonzero(np.diff(self.connectivities.indptr) == 0))
        if isolated:
            logger.warning("%d cells have no neighbours in `adata.obsp[%r]`; they stay where they are", isolated, key)
        if check_connectivity and connected_components(self.connectivities, False, return_labels=False) > 1:
            logger.warning("kNN graph is not connected: no cell goes from one of its parts to another")
        if not graph_data.is_symmetric:
            logger.warning("kNN graph is not symmetric: some cells are neighbours of others that are not theirs")

    @property
    def conn_key(self) -> str:
        """Key of the neighbour graph in ``adata.obsp``: its name in :attr:`graph` and in the transition function."""
        return self._conn_key

    @property
    def connectivities(self) -> sp.csr_matrix:
        """Weights of the neighbour graph; read-only, `.copy()` to change."""
        return self.graph_data.matrices[self._conn_key]
