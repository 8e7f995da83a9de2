"""Neighbour graphs as padded index arrays, with rows of similar degree in one bucket."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.graph._buckets import bucket_shapes


class Edges(eqx.Module):
    """Values on some of the edges of a graph, bucket by bucket.

    Attributes
    ----------
    values
        One array of shape ``(rows, width)`` for each bucket, zero where ``mask`` is false.
    mask
        Whether the edge belongs to this set of values.
    """

    values: tuple[Float[Array, "rows width"], ...]
    mask: tuple[Bool[Array, "rows width"], ...]


class NeighborGraph(eqx.Module):
    """Directed graph over cells, with named values on its edges.

    Rows are sorted by degree and stand in a few buckets, each of one width. A slot without an edge is padding: it
    points to the row's own cell and is false in every mask. (An index out of range would be clamped when gathered, and
    would silently lose its gradient; a row's own cell is harmless, and lets a cell without neighbours stay where it is:
    see :class:`~jaxvelo.graph.TransitionMatrix`.) The rows are more than the cells, see
    :mod:`jaxvelo.graph._buckets`: the unused rows lead the first bucket, name cell 0 and have no edges.

    Attributes
    ----------
    rows
        Cell of each row, one array for each bucket.
    columns
        Neighbour of each slot, one array for each bucket.
    position
        Row of each cell, counted over all buckets, shape ``(cells,)``.
    edges
        Values on the edges, by name. Each name may cover only a part of the edges: the graph is their union.
    """

    rows: tuple[Int[Array, " rows"], ...]
    columns: tuple[Int[Array, "rows width"], ...]
    position: Int[Array, " cells"]
    edges: dict[str, Edges]

    @classmethod
    def from_csr(cls, matrix: sp.csr_matrix | dict[str, sp.csr_matrix], dtype=None) -> NeighborGraph:
        """Build a graph from sparse matrices.

        Parameters
        ----------
        matrix
            A square sparse matrix (named ``"connectivities"`` in :attr:`edges`), or several by name, whose union of
            stored entries becomes the graph. Any sparse format, symmetric or not, with or without a diagonal.
            Explicitly stored zeros are edges, as in CellRank.
        dtype
            Floating-point type of the values; JAX's default if ``None``.
        """
        matrices = matrix if isinstance(matrix, dict) else {"connectivities": matrix}
        csr = {name: _sorted_csr(m) for name, m in matrices.items()}
        pattern = _union_pattern(list(csr.values()))
        n_cells = pattern.shape[0]
        indptr, indices = pattern.indptr, pattern.indices
        degrees = np.diff(indptr)
        order = np.argsort(degrees, kind="stable")
        shapes = bucket_shapes(degrees[order])
        n_rows = sum(count for count, _ in shapes)
        first_row = n_rows - n_cells
        position = np.empty(n_cells, dtype=np.int32)
        position[order] = np.arange(first_row, n_rows, dtype=np.int32)
        cells = np.concatenate([np.zeros(first_row, dtype=order.dtype), order])
        row_degrees = np.concatenate([np.zeros(first_row, dtype=degrees.dtype), degrees[order]])
        dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
        aligned = {name: _align(m, pattern) for name, m in csr.items()}

        rows, columns = [], []
        values: dict[str, list[np.ndarray]] = {name: [] for name in csr}
        masks: dict[str, list[np.ndarray]] = {name: [] for name in csr}
        start = 0
        for count, width in shapes:
            cell, degree = cells[start : start + count], row_degrees[start : start + count]
            stored = np.arange(width) < degree[:, None]
            entry = indptr[cell][:, None] + np.arange(width)
            rows.append(cell.astype(np.int32))
            columns.append(np.where(stored, _take(indices, entry), cell[:, None]).astype(np.int32))
            for name, (data, covered) in aligned.items():
                mask = stored if covered is None else stored & _take(covered, entry)
                masks[name].append(mask)
                values[name].append(np.where(mask, _take(data, entry), 0).astype(dtype))
            start += count
        edges: Any = {name: Edges(tuple(values[name]), tuple(masks[name])) for name in csr}  # type: ignore[arg-type]
        # All at once: the transfers of many small arrays one by one take longer than the rest.
        host: Any = (tuple(rows), tuple(columns), position, edges)
        return cls(*jax.device_put(host))

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.position.shape[0]

    @property
    def n_rows(self) -> int:
        """Number of rows, unused ones included."""
        return sum(rows.shape[0] for rows in self.rows)

    @property
    def n_unused_rows(self) -> int:
        """Number of rows without a cell, all of them at the start of the first bucket."""
        return self.n_rows - self.n_cells

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.n_cells, self.n_cells

    @property
    def mask(self) -> tuple[Bool[Array, "rows width"], ...]:
        """Whether a slot holds an edge of any name, one array for each bucket."""
        masks = [edges.mask for edges in self.edges.values()]
        return masks[0] if len(masks) == 1 else tuple(_any(bucket) for bucket in zip(*masks, strict=True))

    def gather_rows(self, per_row: tuple[Array, ...]) -> Array:
        """Bring values of the rows, bucket by bucket, into the order of the cells."""
        return jnp.concatenate(per_row)[self.position]


def _sorted_csr(matrix) -> sp.csr_matrix:
    """Convert to CSR with sorted, unique indices, without changing the argument."""
    csr = sp.csr_matrix(matrix)
    if not csr.has_canonical_format:
        # A CSR matrix made from another shares its arrays, and these are sorted in place.
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _union_pattern(matrices: list[sp.csr_matrix]) -> sp.csr_matrix:
    first = matrices[0]
    if all(
        m is first or (np.array_equal(m.indptr, first.indptr) and np.array_equal(m.indices, first.indices))
        for m in matrices
    ):
        return first
    ones = [sp.csr_matrix((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape) for m in matrices]
    # A cell without neighbours in one of the matrices stays where it is there: its own slot must exist.
    isolated = np.any([np.diff(m.indptr) == 0 for m in matrices], axis=0).astype(float)
    union = sp.csr_matrix(sum(ones[1:], ones[0] + sp.diags_array(isolated)))
    union.eliminate_zeros()
    union.sort_indices()
    return union


def _align(matrix: sp.csr_matrix, pattern: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of ``matrix`` at the entries of ``pattern``, and which of these it stores (``None``: all)."""
    if matrix.nnz == pattern.nnz:
        return matrix.data, None

    def keys(m: sp.csr_matrix) -> np.ndarray:
        row = np.repeat(np.arange(m.shape[0], dtype=np.int64), np.diff(m.indptr))
        return row * m.shape[1] + m.indices

    entry = np.searchsorted(keys(pattern), keys(matrix))
    data = np.zeros(pattern.nnz, dtype=matrix.dtype)
    covered = np.zeros(pattern.nnz, dtype=bool)
    data[entry] = matrix.data
    covered[entry] = True
    return data, covered


def _take(values: np.ndarray, entry: np.ndarray) -> np.ndarray:
    """Take ``values[entry]``, anything where there is no such entry."""
    return values.take(entry, mode="clip") if len(values) else np.zeros(entry.shape, dtype=values.dtype)


def _any(masks: tuple[Array, ...]) -> Array:
    result = masks[0]
    for mask in masks[1:]:
        result = result | mask
    return result
