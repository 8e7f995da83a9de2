"""Similarity of velocities and displacements: the logits of the transition probabilities."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.graph import block_rows, map_rows
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._inner_product import InnerProduct, displacements, safe_divide, safe_sqrt

Similarity = str | Callable[[Float[Array, " genes"], Float[Array, "neighbors genes"]], Float[Array, " neighbors"]]

SIMILARITIES = {"correlation": (True, True), "cosine": (False, True), "dot_product": (False, False)}
"""Whether to centre over genes and whether to divide by the norms: correlation is the cosine of centred vectors, and
cosine the dot product of unit vectors (Li et al. 2020, eqs. 4.7-4.9)."""

Logits = tuple[tuple[Float[Array, "rows width"], ...], tuple[Bool[Array, "rows width"], ...]]


def similarity_logits(
    similarity: Similarity,
    features: Features,
    gene_weights: Float[Array, " genes"] | None,
    rows: tuple[Int[Array, " rows"], ...],
    columns: tuple[Int[Array, "rows width"], ...],
    mask: tuple[Bool[Array, "rows width"], ...],
    transpose: bool,
) -> Logits:
    r"""Logits of all edges, bucket by bucket.

    Forward, :math:`\ell_{ij}` compares the velocity :math:`v_i` with the displacement :math:`x_j - x_i`; with
    ``transpose``, :math:`v_j` with :math:`x_i - x_j`, still for the neighbours :math:`j` of :math:`i`.

    Returns
    -------
    Logits, zero where there is no edge, and where they are defined: the edges without those whose displacement or
    velocity has norm zero (no direction; probability zero), for similarities that divide by the norms.
    """
    if isinstance(similarity, str):
        center, normalize = SIMILARITIES[similarity]
        product = InnerProduct.over_genes(features, gene_weights, center)
        bucket_logits = _built_in(product, features, normalize, transpose)
    else:
        bucket_logits = _custom(similarity, features, gene_weights, transpose)
    row_bytes = features.x.shape[1] * features.x.dtype.itemsize
    logits, defined = [], []
    for row, column, edge in zip(rows, columns, mask, strict=True):
        logit, is_defined = bucket_logits(block_rows(column.shape, row_bytes), row, column, edge)
        logits.append(logit)
        defined.append(is_defined)
    return tuple(logits), tuple(defined)


def _built_in(product: InnerProduct, features: Features, normalize: bool, transpose: bool):
    x, x_mean = product.expression(features.x)
    all_u, all_norms = product.velocity(features.v)

    def sums(row, column, u):
        delta, mean = displacements(x, x_mean, row, column)
        if transpose:
            projection = -jnp.einsum("rkg,rkg->rk", delta, all_u[column])
        else:
            projection = jnp.einsum("rkg,rg->rk", delta, u)
        return projection, product.norms(delta, mean) if normalize else None

    # A cell's own velocity comes with its row: its gradient is then a result of the block. What is gathered from all
    # cells instead gets a gradient of the size of all cells from every block. Only the sums over genes stand in blocks:
    # every further step there costs as often as there are blocks.
    def bucket_logits(block, row, column, edge):
        logits, norms = map_rows(sums, block, row, column, None if transpose else all_u[row])
        if not normalize:
            return jnp.where(edge, logits, 0), edge
        norms = norms * (all_norms[column] if transpose else all_norms[row][:, None])
        return jnp.where(edge, safe_divide(logits, norms), 0), edge & (norms > 0)

    return bucket_logits


def _custom(similarity, features: Features, gene_weights, transpose: bool):
    """Logits by a user's function. Gene weights scale velocity and displacement by their square roots."""
    x = features.x
    root = jnp.ones(x.shape[1], x.dtype) if gene_weights is None else safe_sqrt(gene_weights)
    x = x * root[None]

    def row_logits(row, column, edge, v):
        delta = x[column] - x[row][None]
        if transpose:
            v = features.v[column] * root[None]
            logits = jax.vmap(lambda v_j, delta_j: similarity(v_j, -delta_j[None])[0])(v, delta)
        else:
            logits = similarity(v * root, delta)
        return jnp.where(edge, logits, 0), edge

    def bucket_logits(block, row, column, edge):
        return map_rows(jax.vmap(row_logits), block, row, column, edge, features.v[row])

    return bucket_logits
