"""The graph of a kernel, on the device and as sparse matrices."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from jaxvelo.configuration import logger
from jaxvelo.graph import CsrLayout, NeighborGraph, TransitionMatrix, graph_and_layout


@dataclasses.dataclass(frozen=True)
class GraphData:
    """Sparse matrices by name, and the graph of the union of their entries.

    Attributes
    ----------
    matrices
        The matrices, each a set of edges of :attr:`graph`.
    """

    matrices: dict[str, sp.csr_matrix]

    @functools.cached_property
    def graph(self) -> NeighborGraph:
        """The graph as arrays on the device."""
        return self._graph_and_layout[0]

    @functools.cached_property
    def layout(self) -> CsrLayout:
        """Where the entries of a CSR matrix stand in the graph."""
        return self._graph_and_layout[1]

    @functools.cached_property
    def _graph_and_layout(self) -> tuple[NeighborGraph, CsrLayout]:
        return graph_and_layout(self.matrices)

    def stochastic_csr(self, values: tuple) -> sp.csr_matrix:
        """Transition probabilities as CSR of float64, normalised once more: float32 rows sum to one to 1e-7 only."""
        return normalize_rows(self.layout.to_csr(values, eliminate_zeros=True))

    def with_matrices(self, others: dict[str, sp.csr_matrix]) -> GraphData:
        """Join with further matrices; the same name must stand for the same matrix.

        Raises
        ------
        ValueError
            If a name stands for two different matrices.
        """
        for name, matrix in others.items():
            known = self.matrices.get(name)
            if known is not None and not same_matrix(known, matrix):
                raise ValueError(
                    f"Expected kernels on the same data, found two different matrices named {name!r}. "
                    "Combine kernels of one AnnData object."
                )
        if all(name in self.matrices for name in others):
            return self
        return GraphData({**self.matrices, **others})

    def transitions(self, matrix: sp.csr_matrix) -> TransitionMatrix:
        """Bring a stochastic matrix onto the graph, which grows if it must."""
        joined = GraphData({**self.matrices, "transition matrix": matrix}).graph
        return TransitionMatrix(joined, joined.edges["transition matrix"].values)


def normalize_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Divide rows, all of them with entries, by their sums, in place."""
    sums = np.add.reduceat(matrix.data, matrix.indptr[:-1])
    matrix.data /= np.repeat(sums, np.diff(matrix.indptr))
    return matrix


def is_symmetric(matrix: sp.csr_matrix, tolerance: float = 1e-4) -> bool:
    """Whether a matrix equals its transpose, up to ``tolerance`` in the Frobenius norm, as CellRank checks."""
    transposed = matrix.tocsc()
    if np.array_equal(transposed.indptr, matrix.indptr) and np.array_equal(transposed.indices, matrix.indices):
        difference = transposed.data - matrix.data
    else:
        difference = (matrix - matrix.T).data
    # Not by `np.linalg.norm`: with it, the compiled program that follows was measured to take almost twice as long,
    # presumably as the threads of the BLAS keep the cores for a while.
    return bool(np.sum(difference**2) <= tolerance**2)


def warn_about_graph(matrix: sp.csr_matrix, where: str, check_connectivity: bool) -> None:
    """Log what is unusual about a graph that works all the same."""
    isolated = int(np.count_nonzero(np.diff(matrix.indptr) == 0))
    if isolated:
        logger.warning("%d cells have no neighbours in `%s`; they stay where they are", isolated, where)
    if check_connectivity and connected_components(matrix, directed=False, return_labels=False) > 1:
        logger.warning("kNN graph is not connected")
    if not is_symmetric(matrix):
        logger.warning("kNN graph is not symmetric")


def same_matrix(a: sp.csr_matrix, b: sp.csr_matrix) -> bool:
    """Whether two matrices store the same values at the same entries."""
    return a is b or all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("indptr", "indices", "data"))
