"""Nearest neighbours by comparing each cell with all others, in blocks on the device."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.graph._precision import full_precision

BLOCK_BYTES = 1 << 28
"""Bytes of the distances that are held at a time (one row at least)."""


def nearest_neighbors(
    x: Float[Array, "cells dims"], n_neighbors: int, block_bytes: int = BLOCK_BYTES
) -> Int[Array, "cells {n_neighbors}"]:
    r"""Find the nearest other cells of each cell by their Euclidean distance, exactly up to rounding.

    Distances are compared as :math:`\tfrac12 |x_j|^2 - x_i \cdot x_j`, one product of matrices for each block of
    cells. Rounding may swap cells whose distances differ by less than the precision of :math:`|x|^2`: centre the data,
    ask for a few more than wanted, and order these by distances from explicit differences.

    Parameters
    ----------
    x
        Coordinates, shape ``(cells, dims)``.
    n_neighbors
        Number of other cells, less than that of all cells.
    block_bytes
        Memory for the distances of one block, in bytes.

    Returns
    -------
    jax.Array
        Numbers of the neighbours of each cell, the nearest first, shape ``(cells, n_neighbors)``.

    Examples
    --------
    >>> jv.graph.nearest_neighbors(jnp.array([[0.0], [1.0], [3.0]]), 1).tolist()
    [[1], [0], [1]]
    """
    n_cells = x.shape[0]
    block = max(1, min(n_cells, block_bytes // (n_cells * x.dtype.itemsize)))
    return _search(x, n_neighbors, block)


@full_precision
@functools.partial(jax.jit, static_argnames=("n_neighbors", "block"))
def _search(x: jax.Array, n_neighbors: int, block: int) -> jax.Array:
    n_cells = x.shape[0]
    half_squares = jnp.sum(x * x, axis=1) / 2

    def nearest_of(cells: jax.Array) -> jax.Array:
        closeness = x[cells] @ x.T - half_squares[None]
        itself = jnp.arange(n_cells)[None] == cells[:, None]
        return jax.lax.top_k(jnp.where(itself, -jnp.inf, closeness), n_neighbors)[1]

    n_blocks = -(-n_cells // block)
    # What is left of the last block looks at the last cell again.
    cells = jnp.minimum(jnp.arange(n_blocks * block), n_cells - 1).reshape(n_blocks, block)
    return jax.lax.map(nearest_of, cells).reshape(n_blocks * block, n_neighbors)[:n_cells]
