"""Expected steps of the Markov chain as arrows in an embedding."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import AbstractEdgeMatrix, map_rows
from jaxvelo.graph._precision import full_precision


def project(
    transitions: AbstractEdgeMatrix, embedding: Float[Array | np.ndarray, "cells dims"], edges: str = "connectivities"
) -> Float[Array, "cells dims"]:
    r"""Expected direction of the next step, less that of a step to any neighbour with equal probability.

    .. math::
        a_i = \sum_{j \in N_i} \Big( T_{ij} - \frac{1}{|N_i|} \Big) e_{ij}, \qquad
        e_{ij} = \frac{z_j - z_i}{|z_j - z_i|},

    with :math:`e_{ij} = 0` for cells in the same place, and :math:`N_i` the edges named by ``edges``, stored zeros and
    a stored diagonal included (La Manno et al. 2018, Methods; Bergen et al. 2020, Methods). Directions are without
    unit: the arrows have lengths of at most two and are to be scaled for a picture.

    Parameters
    ----------
    transitions
        The transition matrix. Probabilities of edges that are not in ``edges`` are left out.
    embedding
        Coordinates :math:`z`, shape ``(cells, dims)``, in any number of dimensions. Displacements are taken in its
        precision.
    edges
        Which of the graph's edges to sum over.

    Returns
    -------
    jax.Array
        Arrows, shape ``(cells, dims)``. Zero for a cell without neighbours, NaN for a cell that has, or has a neighbour
        with, coordinates that are not finite.

    Examples
    --------
    >>> chain = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]]))
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> jv.markov.project(transitions, jnp.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])).tolist()
    [[0.0, 0.0], [0.5, 0.0], [0.0, 0.0]]
    """
    return _project(transitions.bare, transitions.graph.edges[edges].mask, jnp.asarray(embedding))


@jax.jit
@full_precision
def _project(transitions: AbstractEdgeMatrix, mask: tuple[Bool[Array, "rows width"], ...], embedding: Array) -> Array:
    # Cells without coordinates are marked at the end; until then nothing is NaN, so that no gradient is either.
    finite = jnp.all(jnp.isfinite(embedding), axis=1)
    coordinates = jnp.where(finite[:, None], embedding, 0)

    def arrow(own, others, probability, edge):
        (place, is_finite), (places, are_finite) = own, others
        dtype = probability.dtype
        displacement = places - place[None]
        squared = jnp.sum(displacement**2, axis=1)
        apart = edge & (squared > 0)
        distance = jnp.sqrt(jnp.where(apart, squared, 1)).astype(dtype)
        degree = jnp.maximum(jnp.sum(edge), 1).astype(dtype)
        weight = jnp.where(apart, (probability - 1 / degree) / distance, 0)
        known = is_finite & jnp.all(are_finite | ~edge)
        return jnp.where(known, jnp.einsum("k,kd->d", weight, displacement.astype(dtype)), jnp.nan)

    graph = transitions.graph
    return graph.gather_rows(map_rows(arrow, graph.pattern, (coordinates, finite), transitions.values, mask))
