"""The pattern of a neighbour graph: padded index arrays, with rows of similar degree in one bucket."""

from __future__ import annotations

import equinox as eqx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int


class Pattern(eqx.Module):
    """Where the edges of a graph are: what compiled programs know of it.

    Rows are sorted by degree and stand in a few buckets, each of one width. A slot without an edge is padding: it
    points to the row's own cell and is false in the mask. (An index out of range would be clamped when gathered, and
    would silently lose its gradient; a row's own cell is harmless, and lets a cell without neighbours stay where it is:
    see :class:`~jaxvelo.graph.TransitionMatrix`.) The rows are more than the cells: the
    unused rows are in the first bucket, at the beginning of each device's rows, name cell 0 and have no edges. Shapes
    come from a ladder, and the number of cells is a value, so that similar graphs share their programs.

    Attributes
    ----------
    rows
        Cell of each row, one array for each bucket.
    columns
        Neighbour of each slot, one array for each bucket.
    mask
        Whether a slot holds an edge, one array for each bucket.
    n_cells
        Number of cells.
    mesh
        Devices that share the rows of each bucket; all rows stand on one if ``None``.
    block_bytes
        Bytes wanted for the neighbours that are gathered at a time, see :func:`~jaxvelo.graph.map_rows`; what suits the
        device if ``None``.

    Examples
    --------
    >>> line = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    >>> line.pattern.rows[0].shape, line.pattern.columns[0].shape, int(line.pattern.mask[0].sum())
    ((3,), (3, 2), 4)
    """

    rows: tuple[Int[Array, " rows"], ...]
    columns: tuple[Int[Array, "rows width"], ...]
    mask: tuple[Bool[Array, "rows width"], ...]
    n_cells: Int[Array, ""]
    mesh: Mesh | None = eqx.field(static=True, default=None)
    block_bytes: int | None = eqx.field(static=True, default=None)

    @property
    def n_rows(self) -> int:
        """Number of rows, unused ones included."""
        return sum(rows.shape[0] for rows in self.rows)

    @property
    def n_devices(self) -> int:
        """Number of devices that share the rows."""
        return 1 if self.mesh is None else self.mesh.size


class Edges(eqx.Module):
    """Values on some or all of the edges of a graph, bucket by bucket.

    Attributes
    ----------
    values
        One array of shape ``(rows, width)`` for each bucket, zero where ``mask`` is false.
    mask
        Which slots have a value.

    Examples
    --------
    >>> edges = graph.edges["connectivities"]
    >>> stored = sum(int(mask.sum()) for mask in edges.mask)
    >>> stored == adata.obsp["connectivities"].nnz
    True
    """

    values: tuple[Float[Array, "rows width"], ...]
    mask: tuple[Bool[Array, "rows width"], ...]
