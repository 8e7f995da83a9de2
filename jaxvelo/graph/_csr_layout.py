"""Where the entries of a CSR matrix stand among the slots of a graph."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp

from jaxvelo.graph._neighbor_graph import NeighborGraph


@dataclasses.dataclass(frozen=True)
class CsrLayout:
    """Order of a graph's slots as entries of a CSR matrix; on the host, for many conversions of one graph.

    Attributes
    ----------
    indptr, indices
        As of the CSR matrix, sorted.
    slots
        Position of each entry among all slots, bucket after bucket.
    is_edge
        Whether an entry is an edge; the others let a cell without neighbours stay where it is.
    """

    indptr: np.ndarray
    indices: np.ndarray
    slots: np.ndarray
    is_edge: np.ndarray

    @classmethod
    def of(cls, graph: NeighborGraph) -> CsrLayout:
        """Find the layout of ``graph``."""
        names = list(graph.edges.values())
        keep, is_edge = [], []
        for bucket, (cell, column) in enumerate(zip(graph.rows, graph.columns, strict=True)):
            masks = [np.asarray(edges.mask[bucket]) for edges in names]
            edge = masks[0] if len(masks) == 1 else np.any(masks, axis=0)
            kept = edge.copy()
            # A cell without edges of some name stays, there, on the first slot of its own.
            lonely = np.flatnonzero(~np.all([mask.any(axis=1) for mask in masks], axis=0))
            own = np.asarray(column)[lonely] == np.asarray(cell)[lonely, None]
            kept[lonely, np.argmax(own, axis=1)] = True
            keep.append(kept)
            is_edge.append(edge)
        keep[0][: graph.n_unused_rows] = False
        per_row = np.concatenate([np.count_nonzero(kept, axis=1) for kept in keep])
        slots_of_rows = np.flatnonzero(np.concatenate([kept.ravel() for kept in keep]))
        # Bring the rows' runs of slots into the order of the cells; within a row, slots are in order of the neighbours.
        position = np.asarray(graph.position)
        counts = per_row[position]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        first = (np.cumsum(per_row) - per_row)[position]
        slots = slots_of_rows[np.repeat(first - indptr[:-1], counts) + np.arange(indptr[-1])]
        columns = np.concatenate([np.asarray(column).ravel() for column in graph.columns])
        return cls(
            indptr.astype(np.int32), columns[slots], slots, np.concatenate([edge.ravel() for edge in is_edge])[slots]
        )

    def to_csr(self, values: tuple, eliminate_zeros: bool) -> sp.csr_matrix:
        """Collect the values of the slots, float64.

        Parameters
        ----------
        values
            One array of shape ``(rows, width)`` for each bucket.
        eliminate_zeros
            Whether to leave out edges of value zero.
        """
        data = np.concatenate([np.asarray(v).ravel() for v in values])[self.slots].astype(np.float64)
        keep = data != 0 if eliminate_zeros else self.is_edge | (data != 0)
        indptr, indices = self.indptr, self.indices
        if keep.all():
            indptr, indices = indptr.copy(), indices.copy()
        else:
            kept = np.concatenate([[0], np.cumsum(keep)])
            indptr, indices, data = kept[indptr].astype(np.int32), indices[keep], data[keep]
        n_cells = len(indptr) - 1
        matrix = sp.csr_matrix((data, indices, indptr), shape=(n_cells, n_cells))
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return matrix


def edges_to_csr(graph: NeighborGraph, name: str = "connectivities") -> sp.csr_matrix:
    """Give the named values of a graph back as a sparse matrix (float64, sorted, explicit zeros kept)."""
    edges = graph.edges[name]
    own = NeighborGraph(graph.rows, graph.columns, graph.position, {name: edges})
    layout = CsrLayout.of(own)
    return layout.to_csr(edges.values, eliminate_zeros=False)
