"""Where the entries of a CSR matrix stand among the slots of a graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from jaxvelo.graph._buckets import is_unused
from jaxvelo.graph._whole import on_host


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
    def of_slots(cls, rows, columns, kept, mask, position, n_devices: int = 1) -> CsrLayout:
        """Find the layout from the arrays of a graph.

        Parameters
        ----------
        rows, columns
            Cell of each row and neighbour of each slot, bucket by bucket.
        kept, mask
            Which slots are entries, and which of these are edges.
        position
            Row of each cell.
        n_devices
            Number of devices that share the rows.
        """
        position = np.asarray(position)
        keep = [np.array(on_host(bucket)) for bucket in kept]
        n_unused = sum(len(cell) for cell in rows) - len(position)
        keep[0][is_unused(len(rows[0]), n_unused, n_devices)] = False
        per_row = np.concatenate([np.count_nonzero(bucket, axis=1) for bucket in keep])
        slots_of_rows = np.flatnonzero(np.concatenate([bucket.ravel() for bucket in keep]))
        # Bring the rows' runs of slots into the order of the cells; within a row, slots are in order of the neighbours.
        counts = per_row[position]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        first = (np.cumsum(per_row) - per_row)[position]
        slots = slots_of_rows[np.repeat(first - indptr[:-1], counts) + np.arange(indptr[-1])]
        indices, is_edge = (np.concatenate([on_host(b).ravel() for b in x])[slots] for x in (columns, mask))
        return cls(indptr.astype(np.int32), indices, slots, is_edge)

    def to_csr(self, values: tuple, eliminate_zeros: bool) -> sp.csr_matrix:
        """Collect the values of the slots, float64.

        Parameters
        ----------
        values
            One array of shape ``(rows, width)`` for each bucket.
        eliminate_zeros
            Whether to leave out edges of value zero.
        """
        data = np.concatenate([on_host(v).ravel() for v in values])[self.slots].astype(np.float64)
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

    def to_slots(
        self, matrix: sp.csr_matrix, shapes: Sequence[tuple[int, ...]], dtype: np.dtype
    ) -> tuple[np.ndarray, ...] | None:
        """Bring the entries of a CSR matrix into the slots, zero elsewhere; ``None`` if it has others than the graph.

        Parameters
        ----------
        matrix
            The matrix, with sorted indices.
        shapes
            Rows and width of each bucket.
        dtype
            Type of the values.
        """
        own, wanted = entry_numbers(self.indptr, self.indices), entry_numbers(matrix.indptr, matrix.indices)
        entry = np.minimum(np.searchsorted(own, wanted), max(len(own) - 1, 0))
        if len(wanted) and not (len(own) and np.array_equal(own[entry], wanted)):
            return None
        slots = np.zeros(sum(rows * width for rows, width in shapes), dtype=dtype)
        slots[self.slots[entry]] = matrix.data
        return by_bucket(slots, shapes)


def entry_numbers(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Numbers of the entries of a square CSR matrix, counted along the rows of the whole; increasing."""
    n_cells = len(indptr) - 1
    row = np.repeat(np.arange(n_cells, dtype=np.int64), np.diff(indptr))
    return row * n_cells + indices


def by_bucket(of_slots: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, ...]:
    """Part values of all slots bucket by bucket."""
    ends = np.cumsum([rows * width for rows, width in shapes])[:-1]
    return tuple(part.reshape(shape) for part, shape in zip(np.split(of_slots, ends), shapes, strict=True))
