"""Expected steps of the Markov chain as arrows in an embedding."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import BLOCK_BYTES, TransitionMatrix, block_rows, map_rows


def project(
    transitions: TransitionMatrix, embedding: Float[Array, "cells dims"], edges: str = "connectivities"
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
        Coordinates :math:`z` in any number of dimensions. Displacements are taken in its precision.
    edges
        Which of the graph's edges to sum over.

    Returns
    -------
    Arrows. Zero for a cell without neighbours, NaN for a cell that has, or has a neighbour with, coordinates that are
    not finite.
    """
    return _project(transitions, jnp.asarray(embedding), edges)


@partial(jax.jit, static_argnames="edges")
def _project(transitions: TransitionMatrix, embedding: Array, edges: str) -> Array:
    graph = transitions.graph
    dtype = transitions.values[0].dtype

    def arrows(row, column, probability, edge):
        own = embedding[row]
        displacement = embedding[column] - own[:, None, :]
        finite = jnp.all(jnp.isfinite(displacement), axis=2)
        known = jnp.all(jnp.isfinite(own), axis=1) & jnp.all(finite | ~edge, axis=1)
        direction = _unit(jnp.where((edge & finite)[:, :, None], displacement, 0)).astype(dtype)
        degree = jnp.maximum(jnp.sum(edge, axis=1, keepdims=True), 1).astype(dtype)
        weight = jnp.where(edge, probability - 1 / degree, 0)
        return jnp.where(known[:, None], jnp.einsum("rk,rkd->rd", weight, direction), jnp.nan)

    row_bytes = embedding.shape[1] * embedding.dtype.itemsize
    buckets = zip(graph.rows, graph.columns, transitions.values, graph.edges[edges].mask, strict=True)
    return graph.gather_rows(
        tuple(map_rows(arrows, block_rows(*bucket[1].shape, row_bytes, BLOCK_BYTES), *bucket) for bucket in buckets)
    )


def _unit(vectors: Array) -> Array:
    """Divide by the norm; zero vectors stay, and have gradient zero."""
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    positive = squared > 0
    return jnp.where(positive, vectors / jnp.sqrt(jnp.where(positive, squared, 1)), 0)
