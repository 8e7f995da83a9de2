"""Neighbour graphs: sparse matrices in, named values on the edges of one pattern out."""

from __future__ import annotations

import dataclasses
import functools
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

from jaxvelo.graph._buckets import bucket_shapes, is_unused, row_count
from jaxvelo.graph._csr_layout import CsrLayout, by_bucket, entry_numbers
from jaxvelo.graph._device_cells import parts_of_cells
from jaxvelo.graph._halo import Halo, halo_places
from jaxvelo.graph._pattern import Edges, Pattern
from jaxvelo.graph._whole import on_each_device

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
    halo
        Where values of the cells lie that are shared out to the devices of the mesh; ``None`` if none are to be.

    Examples
    --------
    >>> line = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    >>> line.shape, list(line.edges)
    ((3, 3), ['connectivities'])
    >>> line.to_csr().toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """

    pattern: Pattern
    position: Int[Array, " cells"]
    edges: dict[str, Edges]
    halo: Halo | None = None

    @classmethod
    def from_csr(
        cls,
        matrix: sp.csr_matrix | Mapping[str, sp.csr_matrix],
        dtype=None,
        mesh: Mesh | None = None,
        block_bytes: int | None = None,
        halo: bool = False,
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
        halo
            Whether expression and velocity are shared out to the devices of ``mesh`` too, as they fit on none of them:
            see :class:`~jaxvelo.graph.Halo`. Neighbours stand on one device then, as far as they can, and a kernel
            sends to each device the values of its cells' neighbours on others. Without it, each device has all values.

        Returns
        -------
        NeighborGraph
            A cell without neighbours has no edge, but a slot that points to itself, so that it can stay where it is.
        """
        return graph_and_layout(matrix, dtype, mesh, block_bytes, halo)[0]

    def to_csr(self, name: str = "connectivities") -> sp.csr_matrix:
        """Give named values back as a sparse matrix.

        Parameters
        ----------
        name
            One of :attr:`edges`.

        Returns
        -------
        scipy.sparse.csr_matrix
            Shape ``(cells, cells)``, float64, with sorted indices; stored zeros are kept.
        """
        edges = self.edges[name]
        return self.layout_of(edges.mask, edges.mask).to_csr(edges.values, eliminate_zeros=False)

    def layout_of(self, kept: tuple[Any, ...], mask: tuple[Any, ...] | None = None) -> CsrLayout:
        """Where entries of a CSR matrix stand among the slots.

        Parameters
        ----------
        kept
            Which slots are entries.
        mask
            Which slots are edges, :attr:`mask` if ``None``.

        Returns
        -------
        CsrLayout
            Of the entries, row after row.
        """
        mask = self.mask if mask is None else mask
        return CsrLayout.of_slots(self.rows, self.columns, kept, mask, self.position, self.pattern.n_devices)

    def with_edges(self, edges: Mapping[str, Edges]) -> NeighborGraph:
        """Add named values, or put others in place of those there are.

        Parameters
        ----------
        edges
            The values by name.

        Returns
        -------
        NeighborGraph
            Another graph; this one stays as it is.
        """
        return NeighborGraph(self.pattern, self.position, {**self.edges, **edges}, self.halo)

    @property
    def bare(self) -> NeighborGraph:
        """The graph without named values, for programs that read none and so do not depend on the names."""
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
        """Number of rows without a cell, all of them in the first bucket, see :class:`Pattern`."""
        return self.n_rows - self.n_cells

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.n_cells, self.n_cells

    def gather_rows(self, per_row: tuple[Array, ...]) -> Array:
        """Bring values of the rows into the order of the cells.

        Parameters
        ----------
        per_row
            One array of shape ``(rows, ...)`` for each bucket.

        Returns
        -------
        jax.Array
            Shape ``(cells, ...)``.
        """
        return on_each_device(jnp.concatenate(per_row)[self.position], self.pattern.mesh)


def graph_and_layout(
    matrix: sp.csr_matrix | Mapping[str, sp.csr_matrix],
    dtype=None,
    mesh: Mesh | None = None,
    block_bytes: int | None = None,
    halo: bool = False,
) -> tuple[NeighborGraph, CsrLayout]:
    """Build a graph, see :meth:`NeighborGraph.from_csr`, and the layout that comes with it, see :class:`CsrLayout`."""
    matrices = matrix if isinstance(matrix, Mapping) else {"connectivities": matrix}
    csr = {name: _sorted_csr(m) for name, m in matrices.items()}
    union = _union(list(csr.values()))
    entries = {name: _entries(m, union) for name, m in csr.items()}
    is_edge = _all_of(entries.values(), union.nnz)
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    n_devices = 1 if mesh is None else mesh.size
    slots = _Slots.of_entries(union, n_devices, halo and n_devices > 1)
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
    around, pairs = slots.halo(union) if halo and mesh is not None else ((), ())
    # All at once: the transfers of many small arrays one by one take longer than the rest.
    host: Any = (of_rows, values, masks, around), (np.asarray(len(slots.position), dtype=np.int32), slots.position)
    placed = jax.device_put(host, (by_row, everywhere))
    ((rows, columns, mask), values, masks, around), (n_cells, position) = placed
    edges = {name: Edges(values[name], masks.get(name, mask)) for name in csr}
    pattern = Pattern(rows, columns, mask, n_cells, mesh, block_bytes)
    shared = None
    if around and mesh is not None:
        cells, own, neighbors, sent = around
        shared = Halo(cells, own, neighbors, sent, pairs, mesh)
    layout = CsrLayout(union.indptr.astype(np.int32), union.indices.astype(np.int32), slots.of_entry, is_edge)
    return NeighborGraph(pattern, position, edges, shared), layout


@dataclasses.dataclass(frozen=True)
class _Slots:
    """Where the entries of a CSR matrix go.

    Attributes
    ----------
    shapes
        Rows and width of each bucket.
    cells
        Cell of each row of each device, bucket after bucket, shape ``(devices, rows)``. The first ones are unused.
    used
        Which of these rows are not.
    numbers
        Number of these rows, counted over all buckets, in each of which the rows of the devices follow one another.
    of_entry
        Slot of each entry, counted over all buckets: those of a row stand at its start.
    """

    shapes: list[tuple[int, int]]
    cells: np.ndarray
    used: np.ndarray
    numbers: np.ndarray
    of_entry: np.ndarray

    @classmethod
    def of_entries(cls, union: sp.csr_matrix, n_devices: int, near: bool) -> _Slots:
        """Deal out the rows: as they come, or neighbours to one device as far as they can be (``near``)."""
        indptr = union.indptr
        degrees = np.diff(indptr)
        n_cells = len(degrees)
        n_places = row_count(n_cells, n_devices) // n_devices
        used = ~is_unused(n_places * n_devices, n_places * n_devices - n_cells, n_devices).reshape(n_devices, n_places)
        cells = np.zeros((n_devices, n_places), dtype=np.int32)
        if near:
            parts = parts_of_cells(union, np.count_nonzero(used, axis=1).tolist())
            for own, is_used, part in zip(cells, used, parts, strict=True):
                own[is_used] = part[np.argsort(degrees[part], kind="stable")]
        else:
            cells.T[used.T] = np.argsort(degrees, kind="stable")
        # A bucket is as wide as its widest row on any device.
        widest = np.where(used, degrees[cells], 0).max(axis=0)
        shapes = bucket_shapes(np.repeat(widest, n_devices)[-n_cells:], n_devices)
        counts, widths = (np.array(x) for x in zip(*shapes, strict=True))
        ends = np.cumsum(counts)
        numbers = np.hstack([np.arange(e - c, e).reshape(n_devices, -1) for e, c in zip(ends, counts, strict=True)])
        place, ends_of_device = _near_each_other(union), ends // n_devices
        for own, is_used in zip(cells, used, strict=True):
            for first, last in itertools.pairwise([0, *ends_of_device]):
                here = first + np.flatnonzero(is_used[first:last])
                own[here] = own[here][np.argsort(place[own[here]])]
        slots = cls(shapes, cells, used, numbers, np.empty(0, dtype=np.int64))
        width = np.repeat(widths, counts)
        first = (np.cumsum(width) - width)[slots.position]
        return dataclasses.replace(slots, of_entry=np.repeat(first - indptr[:-1], degrees) + np.arange(indptr[-1]))

    @functools.cached_property
    def rows(self) -> Buckets:
        """Cell of each row, bucket by bucket."""
        rows = np.empty(self.cells.size, dtype=np.int32)
        rows[self.numbers] = self.cells
        return tuple(np.split(rows, np.cumsum([count for count, _ in self.shapes])[:-1]))

    @functools.cached_property
    def position(self) -> np.ndarray:
        """Row of each cell."""
        position = np.empty(np.count_nonzero(self.used), dtype=np.int32)
        position[self.cells[self.used]] = self.numbers[self.used]
        return position

    def halo(self, union: sp.csr_matrix) -> tuple[tuple, tuple]:
        """The arrays of a :class:`Halo`, and its pairs of devices."""
        n_devices, n_places = self.cells.shape
        n_cells = len(self.position)
        device, place = np.empty(n_cells, dtype=np.int32), np.empty(n_cells, dtype=np.int32)
        device[self.cells[self.used]], place[self.cells[self.used]] = np.nonzero(self.used)
        entry_rows = np.repeat(np.arange(n_cells), np.diff(union.indptr))
        of_entries, sent, pairs = halo_places(device, place, n_places, entry_rows, union.indices, n_devices)
        own = np.empty(self.cells.size, dtype=np.int32)
        own[self.numbers] = np.arange(n_places)
        rows = tuple(np.split(own, np.cumsum([count for count, _ in self.shapes])[:-1]))
        in_slots = [np.repeat(places, width) for places, (_, width) in zip(rows, self.shapes, strict=True)]
        columns = self.filled(np.concatenate(in_slots), of_entries)
        return (self.cells.ravel(), rows, columns, tuple(sent)), pairs

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
