"""Transition probabilities from similarities among cells."""

from __future__ import annotations

import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import find_graph, read_graph
from jaxvelo.configuration import timed
from jaxvelo.kernels._graph_data import GraphData, warn_about_graph
from jaxvelo.kernels._kernel import Kernel
from jaxvelo.transitions import Connectivity


class ConnectivityKernel(Kernel):
    """Kernel of similarities among cells; it has no direction.

    Parameters
    ----------
    adata
        Annotated data with neighbours.
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

    def __init__(self, adata: AnnData, conn_key: str | None = "connectivities", check_connectivity: bool = False):
        require_anndata(adata)
        conn_key = find_graph(adata, "connectivities" if conn_key is None else conn_key)
        connectivities = read_graph(adata, conn_key)
        warn_about_graph(connectivities, f"adata.obsp[{conn_key!r}]", check_connectivity)
        init = {"conn_key": conn_key, "check_connectivity": check_connectivity}
        super().__init__(adata, GraphData({conn_key: connectivities}), init)
        self._conn_key = conn_key

    def compute_transition_matrix(self, density_normalize: bool = True) -> ConnectivityKernel:
        """Compute the transition matrix.

        Parameters
        ----------
        density_normalize
            Whether to divide connectivities by the densities of their cells.

        Returns
        -------
        The kernel, with :attr:`transition_matrix` and :attr:`params` updated.
        """
        with timed(f"Computing transition matrix based on `adata.obsp[{self._conn_key!r}]`"):
            params = {"dnorm": bool(density_normalize), "key": self._conn_key}
            transitions = Connectivity(bool(density_normalize), self._conn_key)(self.graph)
            self.set_transitions(transitions, params)
        return self

    @property
    def connectivities(self) -> sp.csr_matrix:
        """Weights of the neighbour graph."""
        return self.graph_data.matrices[self._conn_key]

    @property
    def backward(self) -> None:
        """No direction."""

    @property
    def expression(self) -> Connectivity:
        """The pure expression."""
        return Connectivity(bool(self.params.get("dnorm", True)), self._conn_key)
