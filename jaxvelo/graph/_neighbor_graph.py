"""Neighbour graphs: sparse matrices in, named values on the edges of one pattern out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int
from scipy.sparse.csgraph import reverse_cuthill_mckee

from jaxvelo.graph._buckets import bucket_shapes
from jaxvelo.graph._csr_layout import CsrLayout, by_bucket, entry_numbers
from jaxvelo.graph._pattern import Edges, Pattern

Buckets = tuple[np.ndarray, ...]


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
        cls,
        matrix: sp.csr_matrix | Mapping[str, sp.csr_matrix],
        dtype=None,
        mesh: Mesh | None = None,
        block_bytes: int | None = None,
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
        mesh
            Devices that share the rows: each bucket has a multiple of their number. One device if ``None``.
        block_bytes
            Bytes wanted for the neighbours that are gathered at a time, the more the faster as long as they fit into
            the cache; what suits the device if ``None``.
        """
        return graph_and_layout(matrix, dtype, mesh, block_bytes)[0]

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
    matrix: sp.csr_matrix | Mapping[str, sp.csr_matrix],
    dtype=None,
    mesh: Mesh | None = None,
    block_bytes: int | None = None,
) -> tuple[NeighborGraph, CsrLayout]:
    """Build a graph, see :meth:`NeighborGraph.from_csr`, and the layout that comes with it, see :class:`CsrLayout`."""
    matrices = matrix if isinstance(matrix, Mapping) else {"connectivities": matrix}
    csr = {name: _sorted_csr(m) for name, m in matrices.items()}
    union = _union(list(csr.values()))
    entries = {name: _entries(m, union) for name, m in csr.items()}
    is_edge = _all_of(entries.values(), union.nnz)
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    slots = _Slots.of_entries(union, 1 if mesh is None else mesh.size)
    of_rows = slots.rows, slots.filled(slots.own_cells(), union.indices), slots.filled(slots.zeros(bool), is_edge)
    values = {name: slots.filled(slots.zeros(dtype), csr[name].data, here) for name, here in entries.items()}
    # A name that has values on all edges has their mask.
    masks = {
        name: slots.filled(slots.zeros(bool), True, here)
        for name, here in entries.items()
        if isinstance(here, np.ndarray)
    }
    by_row, everywhere = None, None
    if mesh is not None:
        mesh = Mesh(mesh.devices, mesh.axis_names)  # its axes are no part of the arrays' types
        by_row = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        everywhere = NamedSharding(mesh, PartitionSpec())
    # All at once: the transfers of many small arrays one by one take longer than the rest.
    host: Any = (of_rows, values, masks), (np.asarray(len(slots.position), dtype=np.int32), slots.position)
    ((rows, columns, mask), values, masks), (n_cells, position) = jax.device_put(host, (by_row, everywhere))
    edges = {name: Edges(values[name], masks.get(name, mask)) for name in csr}
    graph = NeighborGraph(Pattern(rows, columns, mask, n_cells, mesh, block_bytes), position, edges)
    return graph, CsrLayout(union.indptr.astype(np.int32), union.indices.astype(np.int32), slots.of_entry, is_edge)


@dataclasses.dataclass(frozen=True)
class _Slots:
    """Where the entries of a CSR matrix go.

    Attributes
    ----------
    shapes
        Rows and width of each bucket.
    rows
        Cell of each row, bucket by bucket.
    position
        Row of each cell.
    of_entry
        Slot of each entry, counted over all buckets: those of a row stand at its start.
    """

    shapes: list[tuple[int, int]]
    rows: tuple[np.ndarray, ...]
    position: np.ndarray
    of_entry: np.ndarray

    @classmethod
    def of_entries(cls, union: sp.csr_matrix, n_devices: int) -> _Slots:
        indptr = union.indptr
        degrees = np.diff(indptr)
        order = np.argsort(degrees, kind="stable").astype(np.int32)
        shapes = bucket_shapes(degrees[order], n_devices)
        counts, widths = (np.array(x) for x in zip(*shapes, strict=True))
        n_unused = counts.sum() - len(order)
        near = _near_each_other(union)
        for start, end in itertools.pairwise(np.clip(np.cumsum([0, *counts]) - n_unused, 0, None)):
            of_bucket = order[start:end]
            of_bucket[:] = of_bucket[np.argsort(near[of_bucket])]
        rows = np.concatenate([np.zeros(n_unused, dtype=np.int32), order])
        position = np.empty(len(order), dtype=np.int32)
        position[order] = np.arange(n_unused, len(rows), dtype=np.int32)
        width = np.repeat(widths, counts)
        first = (np.cumsum(width) - width)[position]
        of_entry = np.repeat(first - indptr[:-1], degrees) + np.arange(indptr[-1])
        return cls(shapes, tuple(np.split(rows, np.cumsum(counts)[:-1])), position, of_entry)

    def own_cells(self) -> np.ndarray:
        """The row's own cell in each slot."""
        return np.concatenate([np.repeat(r, width) for r, (_, width) in zip(self.rows, self.shapes, strict=True)])

    def zeros(self, dtype: Any) -> np.ndarray:
        return np.zeros(sum(count * width for count, width in self.shapes), dtype=dtype)

    def filled(self, of_slots: np.ndarray, values: Any, entries: np.ndarray | slice = slice(None)) -> Buckets:
        """Put values of some entries into their slots, and part these bucket by bucket."""
        of_slots[self.of_entry[entries]] = values
        return by_bucket(of_slots, self.shapes)


def _near_each_other(matrix: sp.csr_matrix) -> np.ndarray:
    """Place of each cell in an order in which neighbours stand near each other.

    Rows that follow one another then share neighbours, which are in the processor's cache already: on 100,000 simulated
    cells with 500 genes, the time of gathering them was halved.
    """
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place


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
    return np.searchsorted(entry_numbers(union.indptr, union.indices), entry_numbers(matrix.indptr, matrix.indices))


def _all_of(entries: Iterable[np.ndarray | slice], n_entries: int) -> np.ndarray:
    """Which entries belong to any of the matrices."""
    member = np.zeros(n_entries, dtype=bool)
    for here in entries:
        member[here] = True
    return member
