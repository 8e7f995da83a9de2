"""The stochastic model: velocity uncertainty propagated to second order, in closed form."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import Pattern, block_rows, map_rows, uniform
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._inner_product import InnerProduct, displacements, safe_divide, safe_sqrt
from jaxvelo.transitions._similarity import SIMILARITIES, Similarity
from jaxvelo.transitions._softmax import scale_of_rows, softmax


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
        block = _built_in(InnerProduct.over_genes(features, gene_weights, center), features.x, normalize, softmax_scale)
    else:
        block = _custom(similarity, features, gene_weights, softmax_scale)
    row_bytes = 2 * features.x.shape[1] * features.x.dtype.itemsize
    probabilities, logits = [], []
    for *bucket, m, s2 in zip(pattern.rows, pattern.columns, mask, mean, variance, strict=True):
        size = block_rows(bucket[1].shape, row_bytes)
        p, logit = map_rows(block, size, *bucket, m, s2)
        # Once more, outside the block: there, XLA computes the correction, which may be large and cancel, one time for
        # the row's sum and another for its entries, and rounds differently.
        probabilities.append(p / jnp.sum(p, axis=1, keepdims=True))
        logits.append(logit)
    return tuple(probabilities), tuple(logits)


def _built_in(product: InnerProduct, expression: Array, normalize: bool, scale: Array):
    x, x_mean = product.expression(expression)

    def block(row, column, edge, mean, variance):
        delta, delta_mean = displacements(x, x_mean, row, column)
        u, n = product.velocity(mean)
        weighted = _weighted(product, delta, delta_mean)
        if normalize:
            norm = product.norms(delta, delta_mean)
            logits = safe_divide(jnp.einsum("rkg,rg->rk", delta, u), norm * n[:, None])
            defined = edge & (norm * n[:, None] > 0)
            # Lengths in units of the velocity's norm: n itself is the only denominator.
            unit = safe_divide(weighted, norm[:, :, None])
            direction = safe_divide(u, n[:, None])
            inverse = safe_divide(jnp.ones_like(n), n)[:, None]
            gradient = (unit - logits[:, :, None] * direction[:, None, :]) * inverse[:, :, None]
            curvature = _curvature_scale(product, variance)[:, None]
            along = jnp.einsum("rkg,rg->rk", unit, variance * direction)
            squared = jnp.sum(variance * direction**2, axis=1)[:, None]
            second = (-2 * along - logits * curvature + 3 * logits * squared) * inverse**2
        else:
            logits, defined = jnp.einsum("rkg,rg->rk", delta, u), edge
            gradient, second = weighted, jnp.zeros_like(logits)
        logits = jnp.where(defined, logits, 0)
        fallback = uniform(row, column, edge, logits.dtype)
        row_scale = scale_of_rows(scale, row)
        p = softmax(logits, defined, row_scale, fallback)
        deviation = gradient - jnp.einsum("rk,rkg->rg", p, gradient)[:, None, :]
        spread = jnp.einsum("rkg,rkg->rk", deviation, deviation * variance[:, None, :])
        return _second_order(p, second, spread, row_scale, defined, fallback), logits

    return block


def _weighted(product: InnerProduct, delta: Array, mean: Array | None) -> Array:
    if product.weights is None:
        return delta
    return (delta if mean is None else delta - mean[:, :, None]) * product.weights[None, None]


def _curvature_scale(product: InnerProduct, variance: Array) -> Array:
    if product.weights is None:
        total = jnp.sum(variance, axis=1)
        return total * (1 - 1 / product.count) if product.center else total
    weights = product.weights
    curvature = weights - safe_divide(weights**2, product.total) if product.center else weights
    return variance @ curvature


def _second_order(p: Array, second: Array, spread: Array, scale: Array, defined: Array, fallback: Array) -> Array:
    r"""Add half the contracted curvature of the softmax to ``p``, clip and normalise."""

    def centered(value: Array) -> Array:
        return value - jnp.sum(p * value, axis=1, keepdims=True)

    change = 0.5 * p * (scale**2 * centered(spread) + scale * centered(second))
    corrected = jnp.where(defined, jnp.clip(p + change, 0, 1), 0)
    total = jnp.sum(corrected, axis=1, keepdims=True)
    empty = total <= 0
    return jnp.where(empty, fallback, corrected / jnp.where(empty, 1, total))


def _custom(similarity, features: Features, gene_weights: Array | None, scale: Array):
    x = features.x
    root = jnp.ones(x.shape[1], x.dtype) if gene_weights is None else safe_sqrt(gene_weights)
    x = x * root[None]

    def row_block(row, column, edge, mean, variance):
        delta = x[column] - x[row][None]
        fallback = uniform(row[None], column[None], edge[None], x.dtype)
        row_scale = scale_of_rows(scale, row[None])

        def probabilities(v):
            return softmax(similarity(v * root, delta)[None], edge[None], row_scale, fallback)[0]

        def curvature(gene):
            basis = jnp.zeros_like(mean).at[gene].set(1)
            return jax.jvp(lambda v: jax.jvp(probabilities, (v,), (basis,))[1], (mean,), (basis,))[1]

        def add(total, gene):
            return total + variance[gene] * curvature(gene), None

        p = probabilities(mean)
        total, _ = jax.lax.scan(add, jnp.zeros_like(p), jnp.arange(mean.shape[0]))
        corrected = jnp.where(edge, jnp.clip(p + 0.5 * total, 0, 1), 0)
        remaining = jnp.sum(corrected)
        p = jnp.where(remaining > 0, corrected / jnp.where(remaining > 0, remaining, 1), fallback[0])
        return p, jnp.where(edge, similarity(mean * root, delta), 0)

    return jax.vmap(row_block)
