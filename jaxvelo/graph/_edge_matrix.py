"""Matrices on the edges of a neighbour graph, row-stochastic or not."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int

from jaxvelo.graph._blocks import map_rows, sum_to_neighbors
from jaxvelo.graph._neighbor_graph import NeighborGraph
from jaxvelo.graph._normalized_rows import normalize_or_fall_back, uniform
from jaxvelo.graph._pattern import Pattern
from jaxvelo.graph._precision import full_precision
from jaxvelo.graph._whole import on_each_device, on_host


class AbstractEdgeMatrix(eqx.Module):
    r"""A sparse matrix :math:`M_{ij}` with values on the edges of a graph.

    Attributes
    ----------
    graph
        The neighbour graph.
    values
        Value of each slot, one array of shape ``(rows, width)`` for each bucket. Padding holds zero, but for cells
        without neighbours: padding points to the row's own cell, so a value there is :math:`M_{ii}`.

    Examples
    --------
    >>> isinstance(T, jv.graph.AbstractEdgeMatrix), T.shape
    (True, (150, 150))
    >>> (T @ x).shape, (jnp.ones(150) @ T).shape
    ((150, 40), (150,))
    """

    graph: eqx.AbstractVar[NeighborGraph]
    values: eqx.AbstractVar[tuple[Float[Array, "rows width"], ...]]

    @property
    @abc.abstractmethod
    def bare(self) -> AbstractEdgeMatrix:
        """The same matrix on :attr:`NeighborGraph.bare`, for programs that read no named values."""

    # NumPy must leave `array @ M` to this class.
    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.graph.shape

    def __matmul__(self, y: Array) -> Float[Array, "..."]:
        r"""Apply to values of the cells, :math:`(M y)_i = \sum_j M_{ij} y_j`: of transitions, expectations in a step.

        Parameters
        ----------
        y
            Shape ``(cells,)`` or ``(cells, features)``.
        """
        return _matmul(self.graph.pattern, self.graph.position, self.values, jnp.asarray(y))

    def __rmatmul__(self, y: Array) -> Float[Array, "..."]:
        r"""Apply the transpose, :math:`(y M)_j = \sum_i y_i M_{ij}`: of transitions, one step of a distribution.

        Parameters
        ----------
        y
            Shape ``(cells,)`` or ``(features, cells)``.
        """
        return _rmatmul(self.graph.pattern, self.values, jnp.asarray(y))

    def row_dot(self, values: tuple[Array, ...]) -> Float[Array, " cells"]:
        r"""Sum of each row against other values on the same edges, :math:`\sum_j M_{ij} y_{ij}`.

        Parameters
        ----------
        values
            :math:`y`, one array of shape ``(rows, width)`` for each bucket, as :attr:`values`.

        Returns
        -------
        jax.Array
            Shape ``(cells,)``.
        """
        return self.graph.gather_rows(
            tuple(jnp.sum(m * y, axis=1) for m, y in zip(self.values, values, strict=True)),
        )

    def row_sums(self) -> Float[Array, " cells"]:
        """Sum of each row, shape ``(cells,)``."""
        return self.graph.gather_rows(tuple(jnp.sum(m, axis=1) for m in self.values))

    def normalize(self) -> TransitionMatrix:
        """Divide each row by its sum; rows that sum to zero become uniform over the row's edges."""
        graph = self.graph
        values = tuple(
            normalize_or_fall_back(v, uniform(r, c, m, v.dtype))
            for v, r, c, m in zip(self.values, graph.rows, graph.columns, graph.mask, strict=True)
        )
        return TransitionMatrix(graph, values)

    def rows(self, cells: np.ndarray) -> np.ndarray:
        """Rows of some cells as a dense array, to look at.

        Parameters
        ----------
        cells
            Index of a cell, or several.

        Returns
        -------
        numpy.ndarray
            Shape ``(m, cells)`` for ``m`` indices, float64.
        """
        return self.to_csr()[np.atleast_1d(np.asarray(cells))].toarray()

    def to_csr(self, eliminate_zeros: bool = True) -> sp.csr_matrix:
        """Convert to a scipy CSR matrix of float64 with sorted indices.

        Parameters
        ----------
        eliminate_zeros
            Whether to leave out edges of value zero, as CellRank's velocity kernel does.

        Returns
        -------
        scipy.sparse.csr_matrix
            Shape ``(cells, cells)``.
        """
        graph = self.graph
        values = tuple(map(on_host, self.values))
        kept = tuple(v != 0 for v in values)
        if not eliminate_zeros:
            kept = tuple(k | on_host(m) for k, m in zip(kept, graph.mask, strict=True))
        return graph.layout_of(kept).to_csr(values, eliminate_zeros)


class EdgeMatrix(AbstractEdgeMatrix):
    """A matrix of any values on the edges of a graph, such as weights; see :class:`AbstractEdgeMatrix`.

    Attributes
    ----------
    graph, values
        As of :class:`AbstractEdgeMatrix`.

    Examples
    --------
    >>> pair = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 2.0], [4.0, 0.0]]))
    >>> weights = jv.graph.EdgeMatrix(pair, pair.edges["connectivities"].values)
    >>> (weights @ jnp.array([1.0, 10.0])).tolist(), weights.row_sums().tolist()
    ([20.0, 4.0], [2.0, 4.0])
    """

    graph: NeighborGraph
    values: tuple[Float[Array, "rows width"], ...]

    @property
    def bare(self) -> EdgeMatrix:
        """The same matrix, see :attr:`AbstractEdgeMatrix.bare`."""
        return EdgeMatrix(self.graph.bare, self.values)


class TransitionMatrix(AbstractEdgeMatrix):
    r"""Transition probabilities :math:`T_{ij}` on the edges of a graph: every row sums to one.

    A cell without neighbours stays where it is, :math:`T_{ii} = 1`. See :class:`AbstractEdgeMatrix`.

    Attributes
    ----------
    graph
        The neighbour graph.
    values
        :math:`T_{ij}` of each slot, one array of shape ``(rows, width)`` for each bucket. They are taken as they are:
        :meth:`AbstractEdgeMatrix.normalize` makes rows sum to one.

    Examples
    --------
    >>> chain = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]]))
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> (transitions @ jnp.array([1.0, 2.0, 3.0])).tolist(), (jnp.array([1.0, 0.0, 0.0]) @ transitions).tolist()
    ([2.0, 2.5, 3.0], [0.0, 1.0, 0.0])
    """

    graph: NeighborGraph
    values: tuple[Float[Array, "rows width"], ...]

    @property
    def bare(self) -> TransitionMatrix:
        """The same matrix, see :attr:`AbstractEdgeMatrix.bare`."""
        return TransitionMatrix(self.graph.bare, self.values)


@jax.jit
@full_precision
def _matmul(
    pattern: Pattern, position: Int[Array, " cells"], matrix: tuple[Float[Array, "rows width"], ...], y: Array
) -> Array:
    def expectation(_, others, values):
        return jnp.einsum("k,kf->f", values, others)

    # In blocks: products with all genes must not hold (cells, neighbours, genes) either.
    flat = y[:, None] if y.ndim == 1 else y
    product = on_each_device(jnp.concatenate(map_rows(expectation, pattern, flat, matrix))[position], pattern.mesh)
    return product[:, 0] if y.ndim == 1 else product


@jax.jit
def _rmatmul(pattern: Pattern, matrix: tuple[Float[Array, "rows width"], ...], y: Array) -> Array:
    product = sum_to_neighbors(pattern, matrix, (y[None, :] if y.ndim == 1 else y).T)
    return product[:, 0] if y.ndim == 1 else product.T
