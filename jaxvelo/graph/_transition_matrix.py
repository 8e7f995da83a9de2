"""Row-stochastic matrices on the edges of a neighbour graph."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.graph._blocks import block_rows, map_rows
from jaxvelo.graph._csr_layout import CsrLayout
from jaxvelo.graph._neighbor_graph import NeighborGraph
from jaxvelo.graph._precision import full_precision


class TransitionMatrix(eqx.Module):
    r"""Transition probabilities :math:`T_{ij}` on the edges of a graph.

    Attributes
    ----------
    graph
        The neighbour graph.
    values
        Probability of each slot, one array of shape ``(rows, width)`` for each bucket. Padding holds zero, but for
        cells without neighbours: padding points to the row's own cell, so a one there is :math:`T_{ii} = 1`.
    """

    graph: NeighborGraph
    values: tuple[Float[Array, "rows width"], ...]

    # NumPy must leave `array @ T` to this class.
    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.graph.shape

    def __matmul__(self, y: Array) -> Array:
        r"""Expectation after one step, :math:`(T y)_i = \sum_j T_{ij} y_j`.

        Parameters
        ----------
        y
            Shape ``(cells,)`` or ``(cells, features)``.
        """
        return _matmul(self, jnp.asarray(y))

    def __rmatmul__(self, y: Array) -> Array:
        r"""One step of a distribution, :math:`(y T)_j = \sum_i y_i T_{ij}`.

        Parameters
        ----------
        y
            Shape ``(cells,)`` or ``(features, cells)``.
        """
        return _rmatmul(self, jnp.asarray(y))

    def row_dot(self, values: tuple[Array, ...]) -> Float[Array, " cells"]:
        r"""Sum of each row against other values on the same edges, :math:`\sum_j T_{ij} y_{ij}`, shape ``(cells,)``."""
        return self.graph.gather_rows(
            tuple(jnp.sum(t * y, axis=1) for t, y in zip(self.values, values, strict=True)),
        )

    def row_sums(self) -> Float[Array, " cells"]:
        """Sum of each row, shape ``(cells,)``."""
        return self.graph.gather_rows(tuple(jnp.sum(t, axis=1) for t in self.values))

    def normalize(self) -> TransitionMatrix:
        """Divide each row by its sum; rows that sum to zero become uniform over the row's edges."""
        graph = self.graph
        values = tuple(
            normalize_rows(v, uniform(r, c, m, v.dtype))
            for v, r, c, m in zip(self.values, graph.rows, graph.columns, graph.mask, strict=True)
        )
        return TransitionMatrix(graph, values)

    def rows(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities of some cells as dense rows, to look at: shape ``(m, cells)`` for ``m`` indices of cells."""
        return self.to_csr()[np.atleast_1d(np.asarray(cells))].toarray()

    def to_csr(self, eliminate_zeros: bool = True) -> sp.csr_matrix:
        """Convert to a scipy CSR matrix of float64 with sorted indices.

        Parameters
        ----------
        eliminate_zeros
            Whether to leave out edges of probability zero, as CellRank's velocity kernel does.
        """
        return CsrLayout.of(self.graph).to_csr(self.values, eliminate_zeros)


def normalize_rows(
    values: Float[Array, "rows width"], fallback: Float[Array, "rows width"]
) -> Float[Array, "rows width"]:
    """Divide the rows of one bucket by their sums; rows that sum to zero become ``fallback``."""
    total = jnp.sum(values, axis=1, keepdims=True)
    empty = total <= 0
    return jnp.where(empty, fallback, values / jnp.where(empty, 1, total))


def uniform(
    rows: Int[Array, " rows"], columns: Int[Array, "rows width"], mask: Bool[Array, "rows width"], dtype
) -> Float[Array, "rows width"]:
    """Equal probability for each edge of ``mask``; a row without edges stays at its own cell."""
    width = mask.shape[1]
    slot = jnp.arange(width)[None, :]
    first_own = slot == jnp.min(jnp.where(columns == rows[:, None], slot, width), axis=1, keepdims=True)
    degree = jnp.sum(mask, axis=1, keepdims=True)
    weight = jnp.where(degree == 0, first_own, mask).astype(dtype)
    return weight / jnp.maximum(degree, 1).astype(dtype)


@jax.jit
@full_precision
def _matmul(matrix: TransitionMatrix, y: Array) -> Array:
    flat = y[:, None] if y.ndim == 1 else y

    def expectation(values, columns):
        return jnp.einsum("rk,rkf->rf", values, flat[columns])

    product = matrix.graph.gather_rows(
        tuple(
            map_rows(expectation, _block(c, flat), t, c)
            for t, c in zip(matrix.values, matrix.graph.columns, strict=True)
        )
    )
    return product[:, 0] if y.ndim == 1 else product


@jax.jit
def _rmatmul(matrix: TransitionMatrix, y: Array) -> Array:
    graph = matrix.graph
    flat = (y[None, :] if y.ndim == 1 else y).T

    def send(received, block):
        rows, columns, values = block
        return received.at[columns].add(values[:, :, None] * flat[rows][:, None, :]), None

    product = jnp.zeros((graph.n_cells, flat.shape[1]), matrix.values[0].dtype)
    unused = graph.n_unused_rows
    for rows, columns, values in zip(graph.rows, graph.columns, matrix.values, strict=True):
        # Unused rows lead the first bucket and point to cell 0, which is not theirs.
        sent = jnp.where(jnp.arange(len(rows))[:, None] < unused, 0, values)
        size = _block(columns, flat)
        blocks = tuple(a.reshape(-1, size, *a.shape[1:]) for a in (rows, columns, sent))
        product, _ = jax.lax.scan(send, product, blocks)
        unused = 0
    return product[:, 0] if y.ndim == 1 else product.T


def _block(columns: Array, y: Array) -> int:
    """Rows to process at a time: products with all genes must not hold (cells, neighbours, genes) either."""
    return block_rows(columns.shape, y.shape[1] * y.dtype.itemsize)
