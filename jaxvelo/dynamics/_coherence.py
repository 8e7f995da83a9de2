"""Agreement of velocities among neighbours, and with where transitions lead."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import EdgeMatrix, NeighborGraph, TransitionMatrix
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

    Examples
    --------
    >>> pair = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0], [1.0, 0.0]]))
    >>> length, coherence = jv.dynamics.velocity_coherence(pair, jnp.array([[4.0, 0.0, 2.0], [0.0, 4.0, 2.0]]))
    >>> length.shape, np.asarray(coherence, float).round(3).tolist()  # they go opposite ways
    ((2,), [-1.0, -1.0])
    """
    return _velocity_coherence(graph.bare, velocity)


def transition_coherence(
    transitions: EdgeMatrix, expression: Float[Array, "cells genes"], velocity: Float[Array, "cells genes"]
) -> Float[Array, " cells"]:
    r"""Correlate each velocity with the expected displacement of its cell.

    .. math:: c_i = \operatorname{corr}_g\Big(v_{ig}, \sum_j T_{ij} (x_{jg} - x_{ig})\Big)

    Parameters
    ----------
    transitions
        Transition probabilities :math:`T_{ij}` to other cells, or numbers in proportion to those of a cell. One
        without any stays where it is.
    expression, velocity
        Of shape (cells, genes), finite.

    Returns
    -------
    jax.Array
        Correlations from -1 to 1, of shape (cells,); 0 where the velocity or the displacement has no direction.

    References
    ----------
    Bergen et al. (2020); scVelo's ``velocity_confidence_transition``.

    Examples
    --------
    >>> coherence = jv.dynamics.transition_coherence(T, x, v)
    >>> coherence.shape, bool(jnp.mean(coherence) > 0.3)  # expected steps go along the velocities
    ((150,), True)
    """
    return _transition_coherence(transitions.bare, expression, velocity)


@jax.jit
def _transition_coherence(
    transitions: EdgeMatrix, expression: Float[Array, "cells genes"], velocity: Float[Array, "cells genes"]
) -> Float[Array, " cells"]:
    # About the mean of all cells, so that differences lose fewer digits.
    x = expression - jnp.mean(expression, axis=0, keepdims=True)
    here = transitions.row_sums()[:, None] * x
    displacement = transitions @ x - here
    a, b = (y - jnp.mean(y, axis=1, keepdims=True) for y in (displacement, velocity))
    squared = jnp.sum(a * a, axis=1), jnp.sum(b * b, axis=1)
    has_direction = (squared[0] > _rounding(here)) & (squared[1] > _rounding(velocity))
    norms = jnp.sqrt(jnp.where(has_direction, squared[0], 1)) * jnp.sqrt(jnp.where(has_direction, squared[1], 1))
    return jnp.where(has_direction, jnp.sum(a * b, axis=1) / norms, 0)


@jax.jit
def _velocity_coherence(graph: NeighborGraph, velocity: Float[Array, "cells genes"]) -> tuple[Array, Array]:
    centred = velocity - jnp.mean(velocity, axis=1, keepdims=True)
    squared = jnp.sum(jnp.square(centred), axis=1)
    has_direction = squared > _rounding(velocity)
    length = jnp.where(has_direction, jnp.sqrt(jnp.where(has_direction, squared, 1)), 0)
    unit = centred / jnp.where(has_direction, length, 1)[:, None] * has_direction.astype(velocity.dtype)[:, None]
    weights = tuple(
        uniform(row, column, mask, velocity.dtype)
        for row, column, mask in zip(graph.rows, graph.columns, graph.mask, strict=True)
    )
    mean = TransitionMatrix(graph, weights) @ unit
    has_neighbors = graph.gather_rows(tuple(jnp.any(mask, axis=1) for mask in graph.mask))
    return length, jnp.where(has_neighbors, jnp.sum(unit * mean, axis=1), 0)


def _rounding(vectors: Float[Array, "cells genes"]) -> Float[Array, " cells"]:
    """Squared length of what rounding leaves of differences of such vectors, which is no direction."""
    return (4 * jnp.finfo(vectors.dtype).eps) ** 2 * jnp.sum(jnp.square(vectors), axis=1)
