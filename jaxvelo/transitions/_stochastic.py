"""The stochastic model: velocity uncertainty propagated to second order, in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import Pattern, map_rows
from jaxvelo.graph._normalized_rows import uniform
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._inner_product import InnerProduct, safe_divide
from jaxvelo.transitions._similarity import SIMILARITIES, Similarity, scaled_by_weights, slot_bytes
from jaxvelo.transitions._softmax import scales_of_rows, softmax


def stochastic_probabilities(
    similarity: Similarity,
    features: Features,
    gene_weights: Float[Array, " genes"] | None,
    softmax_scale: Array,
    pattern: Pattern,
    mask: tuple[Bool[Array, "rows width"], ...],
    mean: tuple[Float[Array, "rows genes"], ...],
    variance: tuple[Float[Array, "rows genes"], ...],
) -> tuple[tuple[Float[Array, "rows width"], ...], tuple[Float[Array, "rows width"], ...]]:
    r"""Expected probabilities for velocities with the given means and variances, to second order.

    .. math::
        \mathbb{E}[p_j(v)] \approx p_j(\bar v) + \tfrac12 \sum_g s_g^2 \, \partial^2 p_j / \partial v_g^2 (\bar v),

    clipped to :math:`[0, 1]` and normalised (uniform if nothing is left). Only the diagonal of the Hessian enters. With
    :math:`a_j = w \hat\delta_j`, the weighted unit displacement, :math:`u = w (\bar v - \bar{\bar v})` and
    :math:`n = |\bar v|` (see :class:`~jaxvelo.transitions._inner_product.InnerProduct`):

    .. math::
        \nabla \ell_j &= a_j / n - \ell_j u / n^2 \\
        \operatorname{diag} \nabla^2 \ell_j &= -2 a_j u / n^3 - \ell_j c / n^2 + 3 \ell_j u^2 / n^4,
        \qquad c = w - w^2 / W \text{ (correlation)}, \; w \text{ (cosine)} \\
        \operatorname{diag} \nabla^2 p_j &= p_j [\sigma^2 (\nabla\ell_j - \mathbb{E}\nabla\ell)^2
            + \sigma (\nabla^2\ell_j - \mathbb{E}\nabla^2\ell)
            - \sigma^2 \mathbb{E}(\nabla\ell - \mathbb{E}\nabla\ell)^2]

    with the expectations over :math:`p`; for the dot product :math:`\nabla \ell_j = w \delta_j` and
    :math:`\nabla^2 \ell_j = 0`. The sums over genes cost as much as the logits. The model is that of Lange et al. 2022
    (CellRank), Supplementary Note, which forms the whole Hessian. For a user's similarity the second derivatives come
    from automatic differentiation, gene by gene.

    Parameters
    ----------
    mean, variance
        Mean and variance of the velocity of each row, one array for each bucket.

    Returns
    -------
    Probabilities, and logits of the mean velocities.
    """
    if isinstance(similarity, str):
        center, normalize = SIMILARITIES[similarity]
        product = InnerProduct.over_genes(features, gene_weights, center)
        x: Any = jax.vmap(product.expression)(features.x)
        of_row = Partial(_built_in(normalize), product)
    else:
        x, root = scaled_by_weights(features, gene_weights)
        of_row = Partial(_custom(similarity), root)
    of_rows = pattern.rows, pattern.columns, mask, scales_of_rows(softmax_scale, pattern.rows), mean, variance
    probabilities, logits = map_rows(
        of_row, pattern, x, *of_rows, slot_bytes=2 * slot_bytes(features), halo=features.halo
    )
    # Once more, outside the loop: there, XLA computes the correction, which may be large and cancel, one time for the
    # row's sum and another for its entries, and rounds differently.
    return tuple(p / jnp.sum(p, axis=1, keepdims=True) for p in probabilities), logits


def _built_in(normalize: bool):
    def of_row(product: InnerProduct, own, others, row, column, edge, scale, mean, variance):
        delta, delta_mean = product.displacements(own, others)
        u, n = product.velocity(mean)
        weighted = _weighted(product, delta, delta_mean)
        if normalize:
            norm = product.norms(delta, delta_mean)
            logits = safe_divide(jnp.einsum("kg,g->k", delta, u), norm * n)
            defined = edge & (norm * n > 0)
            # Lengths in units of the velocity's norm: n itself is the only denominator.
            unit = safe_divide(weighted, norm[:, None])
            direction = safe_divide(u, n)
            inverse = safe_divide(jnp.ones_like(n), n)
            gradient = (unit - logits[:, None] * direction[None]) * inverse
            curvature = _curvature_scale(product, variance)
            along = jnp.einsum("kg,g->k", unit, variance * direction)
            squared = jnp.sum(variance * direction**2)
            second = (-2 * along - logits * curvature + 3 * logits * squared) * inverse**2
        else:
            logits, defined = jnp.einsum("kg,g->k", delta, u), edge
            gradient, second = weighted, jnp.zeros_like(logits)
        logits = jnp.where(defined, logits, 0)
        fallback = uniform(row, column, edge, logits.dtype)
        p = softmax(logits, defined, scale, fallback)
        deviation = gradient - jnp.einsum("k,kg->g", p, gradient)[None]
        spread = jnp.einsum("kg,kg->k", deviation, deviation * variance[None])
        return _second_order(p, second, spread, scale, defined, fallback), logits

    return of_row


def _weighted(product: InnerProduct, delta: Array, mean: Array | None) -> Array:
    if product.weights is None:
        return delta
    return (delta if mean is None else delta - mean[:, None]) * product.weights[None]


def _curvature_scale(product: InnerProduct, variance: Array) -> Array:
    if product.weights is None:
        total = jnp.sum(variance)
        return total * (1 - 1 / product.count) if product.center else total
    weights = product.weights
    curvature = weights - safe_divide(weights**2, product.total) if product.center else weights
    return variance @ curvature


def _second_order(p: Array, second: Array, spread: Array, scale: Array, defined: Array, fallback: Array) -> Array:
    r"""Add half the contracted curvature of the softmax to ``p``, clip and normalise."""

    def centered(value: Array) -> Array:
        return value - jnp.sum(p * value)

    change = 0.5 * p * (scale**2 * centered(spread) + scale * centered(second))
    return _clipped(p + change, defined, fallback)


def _clipped(p: Array, defined: Array, fallback: Array) -> Array:
    corrected = jnp.where(defined, jnp.clip(p, 0, 1), 0)
    total = jnp.sum(corrected)
    empty = total <= 0
    return jnp.where(empty, fallback, corrected / jnp.where(empty, 1, total))


def _custom(similarity):
    def of_row(root: Array, own, others, row, column, edge, scale, mean, variance):
        delta = others - own[None]
        fallback = uniform(row, column, edge, delta.dtype)

        def probabilities(v):
            return softmax(similarity(v * root, delta), edge, scale, fallback)

        def curvature(gene):
            basis = jnp.zeros_like(mean).at[gene].set(1)
            return jax.jvp(lambda v: jax.jvp(probabilities, (v,), (basis,))[1], (mean,), (basis,))[1]

        def add(total, gene):
            return total + variance[gene] * curvature(gene), None

        p = probabilities(mean)
        total, _ = jax.lax.scan(add, jnp.zeros_like(p), jnp.arange(mean.shape[0]))
        return _clipped(p + 0.5 * total, edge, fallback), jnp.where(edge, similarity(mean * root, delta), 0)

    return of_row
