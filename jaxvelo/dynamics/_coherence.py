"""Agreement of velocities among neighbours."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._normalized_rows import uniform


def velocity_coherence(
    graph: NeighborGraph, velocity: Float[Array, "cells genes"]
) -> tuple[Float[Array, " cells"], Float[Array, " cells"]]:
    r"""Length of each velocity, and its mean correlation with those of the neighbours.

    With :math:`\tilde v_i = v_i - \bar v_i` centred over genes,

    .. math:: \ell_i = |\tilde v_i|, \qquad
              c_i = \frac{1}{|N_i|} \sum_{j \in N_i} \frac{\tilde v_i \cdot \tilde v_j}{|\tilde v_i| |\tilde v_j|}
                  = \hat v_i \cdot \frac{1}{|N_i|} \sum_{j \in N_i} \hat v_j .

    The sum is over unit vectors: no array over cells, neighbours and genes is needed.

    Parameters
    ----------
    graph
        Neighbour graph; every edge of it counts alike.
    velocity
        Velocities of shape (cells, genes), finite.

    Returns
    -------
    tuple of jax.Array
        Lengths, in the units of the velocity, and mean correlations, from -1 to 1, both of shape (cells,). A velocity
        without direction (zero, or equal for all genes) has length 0 and correlation 0 with all others; a cell without
        neighbours has mean 0.

    References
    ----------
    Bergen et al. (2020), Methods, confidence of velocities.
    """
    return _velocity_coherence(graph.bare, velocity)


@jax.jit
def _velocity_coherence(graph: NeighborGraph, velocity: Float[Array, "cells genes"]) -> tuple[Array, Array]:
    centred = velocity - jnp.mean(velocity, axis=1, keepdims=True)
    squared = jnp.sum(jnp.square(centred), axis=1)
    # What rounding leaves of a velocity that is equal for all genes is no direction.
    rounding = (4 * jnp.finfo(velocity.dtype).eps) ** 2 * jnp.sum(jnp.square(velocity), axis=1)
    has_direction = squared > rounding
    length = jnp.where(has_direction, jnp.sqrt(jnp.where(has_direction, squared, 1)), 0)
    unit = centred / jnp.where(has_direction, length, 1)[:, None] * has_direction.astype(velocity.dtype)[:, None]
    weights = tuple(
        uniform(row, column, mask, velocity.dtype)
        for row, column, mask in zip(graph.rows, graph.columns, graph.mask, strict=True)
    )
    mean = TransitionMatrix(graph, weights) @ unit
    has_neighbors = graph.gather_rows(tuple(jnp.any(mask, axis=1) for mask in graph.mask))
    return length, jnp.where(has_neighbors, jnp.sum(unit * mean, axis=1), 0)
