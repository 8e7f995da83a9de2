"""A Markov chain on the cells of an AnnData object: what walks, pictures, scores and files need to know of a kernel."""

from __future__ import annotations

import abc

import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.graph import TransitionMatrix


class CellChain(abc.ABC):
    """A Markov chain on the cells of an AnnData object, made of one or several basic chains."""

    @property
    @abc.abstractmethod
    def adata(self) -> AnnData:
        """Annotated data."""

    @adata.setter
    @abc.abstractmethod
    def adata(self, adata: AnnData) -> None:
        pass

    @property
    @abc.abstractmethod
    def kernels(self) -> tuple[CellChain, ...]:
        """The basic kernels, each once, in order of appearance."""

    @property
    @abc.abstractmethod
    def backward(self) -> bool | None:
        """Direction of the process; ``None`` for kernels without one."""

    @property
    @abc.abstractmethod
    def transition_matrix(self) -> sp.csr_matrix | None:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64; ``None`` before it is computed."""

    @property
    @abc.abstractmethod
    def transitions(self) -> TransitionMatrix:
        """The transition matrix as a pytree on the device."""

    @property
    @abc.abstractmethod
    def conn_key(self) -> str | None:
        """Name of the neighbour graph that steps follow, that of the first kernel with one; ``None`` if none has."""

    @property
    @abc.abstractmethod
    def connectivities(self) -> sp.csr_matrix | None:
        """Weights of this neighbour graph; ``None`` if there is none."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.adata.n_obs, self.adata.n_obs

    def require_transitions(self) -> sp.csr_matrix:
        """Return the transition matrix, which must have been computed.

        Raises
        ------
        RuntimeError
            If it has not been.

        Examples
        --------
        >>> kernel.require_transitions().shape
        (150, 150)
        """
        matrix = self.transition_matrix
        if matrix is None:
            raise RuntimeError("Compute transition matrix first as `.compute_transition_matrix()`.")
        return matrix
