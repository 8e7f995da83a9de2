"""Basic kernels whose steps follow a neighbour graph."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.entries import require_anndata
from jaxvelo.kernels._graph_data import read_neighbors
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
    """

    def __init__(
        self,
        adata: AnnData,
        init: dict[str, Any],
        conn_key: str | None = "connectivities",
        check_connectivity: bool = False,
    ):
        require_anndata(adata)
        self._conn_key, graph_data = read_neighbors(adata, conn_key, check_connectivity)
        super().__init__(adata, graph_data, init)

    @property
    def conn_key(self) -> str:
        """Key of the neighbour graph in ``adata.obsp``: its name in :attr:`graph` and in the expression."""
        return self._conn_key

    @property
    def connectivities(self) -> sp.csr_matrix:
        """Weights of the neighbour graph."""
        return self.graph_data.matrices[self._conn_key]
