"""Means and variances over neighbourhoods."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph._blocks import map_rows
from jaxvelo.graph._halo import Halo
from jaxvelo.graph._pattern import Pattern
from jaxvelo.graph._precision import full_precision


@full_precision
def neighborhood_moments(
    pattern: Pattern,
    weights: tuple[Float[Array, "rows width"], ...],
    values: Float[Array, "cells features"],
    halo: Halo | None = None,
) -> tuple[tuple[Float[Array, "rows features"], ...], tuple[Float[Array, "rows features"], ...]]:
    r"""Mean and variance over each cell and its neighbours.

    .. math::
        \bar y_i = \frac{1}{|N_i^+|} \sum_{j \in N_i^+} y_j, \qquad
        s_i^2 = \frac{1}{|N_i^+|} \sum_{j \in N_i^+} (y_j - \bar y_i)^2, \qquad N_i^+ = N_i \cup \{i\},

    with :math:`N_i` the neighbours of positive weight: the moments of velocity estimation (Bergen et al. 2020,
    Methods), where the connectivities are binarised, include the cell itself and are normalised by row.

    Parameters
    ----------
    pattern
        Pattern of the graph.
    weights
        Weight of each slot, one array for each bucket.
    values
        Values of each cell, shape ``(cells, features)``.
    halo
        Where they are, see :func:`~jaxvelo.graph.map_rows`.

    Returns
    -------
    means, variances : tuple of jax.Array
        Of the rows, one array of shape ``(rows, features)`` for each bucket, in the units of the values and in their
        square; :meth:`NeighborGraph.gather_rows` brings them into the order of the cells.

    Examples
    --------
    >>> line = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    >>> weights = line.edges["connectivities"].values
    >>> mean, variance = jv.graph.neighborhood_moments(line.pattern, weights, jnp.array([[0.0], [2.0], [4.0]]))
    >>> round(float(line.gather_rows(mean)[1, 0]), 3), round(float(line.gather_rows(variance)[1, 0]), 3)
    (2.0, 2.667)
    """

    def moments(own, others, row, column, weight):
        # The cell itself is added once, so a stored diagonal does not count.
        member = ((weight > 0) & (column != row)).astype(values.dtype)
        count = 1 + jnp.sum(member)
        # scVelo holds these weights in single precision; so do we, to give its numbers at double precision too.
        share = (1 / count).astype(jnp.float32).astype(values.dtype)
        mean = share * (own + jnp.einsum("k,kf->f", member, others))
        deviation = others - mean[None]
        # Around the mean and not as a difference of squares, which cancels in float32. The last term is what that
        # difference has besides, as the rounded weights do not quite sum to one.
        squares = (own - mean) ** 2 + jnp.einsum("k,kf->f", member, deviation * deviation)
        return mean, share * squares + (1 - count * share) * mean**2

    return map_rows(moments, pattern, values, pattern.rows, pattern.columns, weights, halo=halo)
