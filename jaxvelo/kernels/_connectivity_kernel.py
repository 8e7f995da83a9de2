"""Transition probabilities from similarities among cells."""

from __future__ import annotations

from typing import Any

from anndata import AnnData

from jaxvelo.configuration import timed
from jaxvelo.kernels._neighbor_kernel import NeighborKernel
from jaxvelo.transitions import Connectivity


class ConnectivityKernel(NeighborKernel):
    r"""Kernel of similarities among cells; it has no direction.

    .. math:: T_{ij} \propto C_{ij} / (q_i q_j), \qquad q_j = \sum_i C_{ij},

    with the weights :math:`C` of the neighbour graph, or :math:`T_{ij} \propto C_{ij}` without density normalisation;
    see :class:`jaxvelo.transitions.Connectivity`.

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

    References
    ----------
    Coifman & Lafon (2006); Haghverdi et al. (2016).

    Examples
    --------
    >>> jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    ConnectivityKernel[n=150, dnorm=True, key='connectivities']
    """

    def __init__(self, adata: AnnData, conn_key: str | None = "connectivities", check_connectivity: bool = False):
        super().__init__(adata, {}, conn_key, check_connectivity)
        self.init = {"conn_key": self.conn_key, "check_connectivity": check_connectivity}

    def compute_transition_matrix(self, density_normalize: bool = True) -> ConnectivityKernel:
        """Compute the transition matrix.

        Parameters
        ----------
        density_normalize
            Whether to divide connectivities by the densities of their cells.

        Returns
        -------
        The kernel, with :attr:`transition_matrix` and :attr:`params` updated.

        Examples
        --------
        >>> ck.compute_transition_matrix(density_normalize=False).params
        {'dnorm': False, 'key': 'connectivities'}
        """
        with timed(f"Computing transition matrix based on `adata.obsp[{self.conn_key!r}]`"):
            params = {"dnorm": bool(density_normalize), "key": self.conn_key}
            self.set_transitions(self._transition_function(params)(self.graph), params)
        return self

    @property
    def backward(self) -> None:
        """No direction."""

    @property
    def transition_function(self) -> Connectivity:
        """The pure transition function."""
        return self._transition_function(self.params)

    def _transition_function(self, params: dict[str, Any]) -> Connectivity:
        return Connectivity(bool(params.get("dnorm", True)), self.conn_key)

    @classmethod
    def recognizes(cls, init: dict[str, Any]) -> bool:
        """Whether CellRank stores these arguments for a kernel of this class."""
        return set(init) == {"conn_key", "check_connectivity"}
