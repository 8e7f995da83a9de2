"""Neighbour graphs: sparse matrices in, named values on the edges of one pattern out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Int

from jaxvelo.graph._buckets import bucket_shapes
from jaxvelo.graph._csr_layout import CsrLayout
from jaxvelo.graph._pattern import Edges, Pattern


class NeighborGraph(eqx.Module):
    """Directed graph over cells, with named values on its edges.

    Attributes
    ----------
    pattern
        Where the edges are: the stored entries of the matrices that the graph was made of.
    position
        Row of each cell, counted over all buckets of the pattern, shape ``(cells,)``.
    edges
        Values on the edges, by name. A name may have values on a part of the edges.
    """

    pattern: Pattern
    position: Int[Array, " cells"]
    edges: dict[str, Edges]

    @classmethod
    def from_csr(
        cls, matrix: sp.csr_matrix | Mapping[str, sp.csr_matrix], dtype=None, n_devices: int = 1
    ) -> NeighborGraph:
        """Build a graph from sparse matrices.

        Parameters
        ----------
        matrix
            A square sparse matrix (named ``"connectivities"`` in :attr:`edges`), or several by name, whose union of
            stored entries becomes the graph. Any sparse format, symmetric or not, with or without a diagonal.
            Explicitly stored zeros are edges, as in CellRank.
        dtype
            Floating-point type of the values; JAX's default if ``None``.
        n_devices
            Number of devices among which the rows are to be split: each bucket has a multiple of so many.
        """
        return graph_and_layout(matrix, dtype, n_devices)[0]

    def to_csr(self, name: str = "connectivities") -> sp.csr_matrix:
        """Give the named values back as a sparse matrix (float64, sorted, explicit zeros kept)."""
        edges = self.edges[name]
        layout = CsrLayout.of_slots(self.rows, self.columns, edges.mask, edges.mask, self.position)
        return layout.to_csr(edges.values, eliminate_zeros=False)

    def with_edges(self, edges: Mapping[str, Edges]) -> NeighborGraph:
        """Return the same graph with further named values, or others in place of those it has."""
        return NeighborGraph(self.pattern, self.position, {**self.edges, **edges})

    @property
    def bare(self) -> NeighborGraph:
        """The graph without named values, for programs that read none: these do not depend on the names then."""
        return NeighborGraph(self.pattern, self.position, {})

    @property
    def rows(self) -> tuple[Int[Array, " rows"], ...]:
        """Cell of each row, one array for each bucket."""
        return self.pattern.rows

    @property
    def columns(self) -> tuple[Int[Array, "rows width"], ...]:
        """Neighbour of each slot, one array for each bucket."""
        return self.pattern.columns

    @property
    def mask(self) -> tuple[Bool[Array, "rows width"], ...]:
        """Whether a slot holds an edge, one array for each bucket."""
        return self.pattern.mask

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.position.shape[0]

    @property
    def n_rows(self) -> int:
        """Number of rows, unused ones included."""
        return self.pattern.n_rows

    @property
    def n_unused_rows(self) -> int:
        """Number of rows without a cell, all of them at the start of the first bucket."""
        return self.n_rows - self.n_cells

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.n_cells, self.n_cells

    def gather_rows(self, per_row: tuple[Array, ...]) -> Array:
        """Bring values of the rows, bucket by bucket, into the order of the cells."""
        return jnp.concatenate(per_row)[self.position]


def graph_and_layout(
    matrix: sp.csr_matrix | Mapping[str, sp.csr_matrix], dtype=None, n_devices: int = 1
) -> tuple[NeighborGraph, CsrLayout]:
    """Build a graph, see :meth:`NeighborGraph.from_csr`, and the layout that comes with it, see :class:`CsrLayout`."""
    matrices = matrix if isinstance(matrix, Mapping) else {"connectivities": matrix}
    csr = {name: _sorted_csr(m) for name, m in matrices.items()}
    union = _union(list(csr.values()))
    entries = {name: _entries(m, union) for name, m in csr.items()}
    degrees = np.diff(union.indptr)
    order = np.argsort(degrees, kind="stable").astype(np.int32)
    shapes = bucket_shapes(degrees[order], n_devices)
    widths = np.repeat([width for _, width in shapes], [count for count, _ in shapes])
    n_cells, n_rows, n_slots = len(order), len(widths), int(widths.sum())
    position = np.empty(n_cells, dtype=np.int32)
    position[order] = np.arange(n_rows - n_cells, n_rows, dtype=np.int32)
    # The entries of a row stand at the start of its slots.
    first_slot = (np.cumsum(widths) - widths)[position]
    slots = np.repeat(first_slot - union.indptr[:-1], degrees) + np.arange(union.nnz)

    def filled(start: np.ndarray, values: Any, stored: np.ndarray = slots) -> np.ndarray:
        start[stored] = values
        return start

    def buckets(of_slots: np.ndarray) -> tuple[Array, ...]:
        parts = np.split(of_slots, np.cumsum([count * width for count, width in shapes])[:-1])
        return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    rows = np.concatenate([np.zeros(n_rows - n_cells, dtype=np.int32), order])
    columns = filled(np.repeat(rows, widths), union.indices)
    is_edge = _all_of(entries.values(), union.nnz)
    mask = filled(np.zeros(n_slots, dtype=bool), is_edge)
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    values = {
        name: buckets(filled(np.zeros(n_slots, dtype=dtype), csr[name].data, slots[here]))
        for name, here in entries.items()
    }
    parts = {
        name: buckets(filled(np.zeros(n_slots, dtype=bool), True, slots[here]))
        for name, here in entries.items()
        if not isinstance(here, slice)
    }
    host: Any = (
        tuple(np.split(rows, np.cumsum([count for count, _ in shapes])[:-1])),
        buckets(columns),
        buckets(mask),
        np.asarray(n_cells, dtype=np.int32),
    )
    # All at once: the transfers of many small arrays one by one take longer than the rest.
    arrays, device_position, values, parts = jax.device_put((host, position, values, parts))
    pattern = Pattern(*arrays)
    edges = {name: Edges(values[name], parts.get(name, pattern.mask)) for name in csr}
    return NeighborGraph(pattern, device_position, edges), CsrLayout(
        union.indptr.astype(np.int32), union.indices, slots, is_edge
    )


def _sorted_csr(matrix) -> sp.csr_matrix:
    """Convert to CSR with sorted, unique indices, without changing the argument."""
    csr = sp.csr_matrix(matrix)
    if not csr.has_canonical_format:
        # A CSR matrix made from another shares its arrays, and these are sorted in place.
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _union(matrices: list[sp.csr_matrix]) -> sp.csr_matrix:
    """Matrix with the entries of all, and a diagonal entry for each cell without neighbours in one of them.

    Such a cell stays where it is there: its own slot must exist.
    """
    first = matrices[0]
    isolated = np.any([np.diff(m.indptr) == 0 for m in matrices], axis=0)
    if not isolated.any() and all(
        m is first or (np.array_equal(m.indptr, first.indptr) and np.array_equal(m.indices, first.indices))
        for m in matrices
    ):
        return first
    ones = [sp.csr_matrix((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape) for m in matrices]
    union = sp.csr_matrix(sum(ones[1:], ones[0] + sp.diags_array(isolated.astype(float))))
    union.eliminate_zeros()
    union.sort_indices()
    return union


def _entries(matrix: sp.csr_matrix, union: sp.csr_matrix) -> np.ndarray | slice:
    """Which of the union's entries those of one matrix are."""
    if matrix.nnz == union.nnz:
        return slice(None)

    def keys(m: sp.csr_matrix) -> np.ndarray:
        row = np.repeat(np.arange(m.shape[0], dtype=np.int64), np.diff(m.indptr))
        return row * m.shape[1] + m.indices

    return np.searchsorted(keys(union), keys(matrix))


def _all_of(entries: Iterable[np.ndarray | slice], n_entries: int) -> np.ndarray:
    """Which entries belong to any of the matrices."""
    member = np.zeros(n_entries, dtype=bool)
    for here in entries:
        member[here] = True
    return member
