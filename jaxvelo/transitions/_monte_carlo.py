"""The Monte Carlo model: velocity uncertainty propagated by samples."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import Pattern, map_rows
from jaxvelo.graph._normalized_rows import uniform
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._inner_product import InnerProduct, safe_divide, safe_sqrt
from jaxvelo.transitions._similarity import SIMILARITIES, Similarity, scaled_by_weights, slot_bytes
from jaxvelo.transitions._softmax import scales_of_rows, softmax


def monte_carlo_probabilities(
    similarity: Similarity,
    features: Features,
    gene_weights: Float[Array, " genes"] | None,
    softmax_scale: Array,
    pattern: Pattern,
    mask: tuple[Bool[Array, "rows width"], ...],
    mean: tuple[Float[Array, "rows genes"], ...],
    variance: tuple[Float[Array, "rows genes"], ...],
    noise: Float[Array, "samples genes"],
) -> tuple[tuple[Float[Array, "rows width"], ...], tuple[Float[Array, "rows width"], ...]]:
    r"""Mean probabilities over sampled velocities :math:`v_s = \bar v + \sqrt{s^2} \, z_s`.

    All cells share the standard-normal draw :math:`z`. Each cell's estimate stays unbiased, and what is left are matrix
    products: with :math:`u_s = w (v_s - \bar v_s)`,

    .. math::
        \langle\delta_j, v_s\rangle &= \delta_j \cdot u + (\delta_j w \sqrt{s^2}) \cdot z_s
            - \bar\delta_j (w\sqrt{s^2}) \cdot z_s, \\
        |v_s|^2 &= |\bar v|^2 + 2 (u \sqrt{s^2}) \cdot z_s + (w s^2) \cdot z_s^2 - ((w \sqrt{s^2}) \cdot z_s)^2 / W .

    The gradient is that of the samples (reparametrised).

    Parameters
    ----------
    mean, variance
        Mean and variance of the velocity of each row, one array for each bucket.
    noise
        Independent standard-normal numbers.

    Returns
    -------
    Probabilities and logits, both means over the samples.
    """
    if isinstance(similarity, str):
        center, normalize = SIMILARITIES[similarity]
        product = InnerProduct.over_genes(features, gene_weights, center)
        x: Any = jax.vmap(product.expression)(features.x)
        of_row = Partial(_built_in(normalize), product, noise)
    else:
        x, root = scaled_by_weights(features, gene_weights)
        of_row = Partial(_custom(similarity), root, noise)
    n_bytes = slot_bytes(features) + 2 * noise.shape[0] * features.x.dtype.itemsize
    of_rows = pattern.rows, pattern.columns, mask, scales_of_rows(softmax_scale, pattern.rows), mean, variance
    return map_rows(of_row, pattern, x, *of_rows, slot_bytes=n_bytes, halo=features.halo)


def _built_in(normalize: bool):
    def of_row(product: InnerProduct, noise: Array, own, others, row, column, edge, scale, mean, variance):
        weights = product.is_gene if product.weights is None else product.weights
        delta, delta_mean = product.displacements(own, others)
        u, n = product.velocity(mean)
        spread = safe_sqrt(variance) * weights
        logits = jnp.einsum("kg,g->k", delta, u)[:, None] + jnp.einsum("kg,sg->ks", delta * spread[None], noise)
        shift = spread @ noise.T
        if delta_mean is not None:
            logits = logits - delta_mean[:, None] * shift[None]
        if normalize:
            squared = n**2 + 2 * (u * safe_sqrt(variance)) @ noise.T + (variance * weights) @ (noise**2).T
            if product.center:
                squared = squared - safe_divide(shift**2, product.total)
            norm = product.norms(delta, delta_mean)[:, None] * safe_sqrt(jnp.maximum(squared, 0))[None]
            logits = safe_divide(logits, norm)
            defined = edge[:, None] & (norm > 0)
        else:
            defined = jnp.broadcast_to(edge[:, None], logits.shape)
        return _mean_over_samples(row, column, edge, jnp.where(defined, logits, 0), defined, scale)

    return of_row


def _mean_over_samples(row, column, edge, logits, defined, scale) -> tuple[Array, Array]:
    fallback = uniform(row, column, edge, logits.dtype)
    p = jax.vmap(softmax, in_axes=(1, 1, None, None), out_axes=1)(logits, defined, scale, fallback)
    return jnp.mean(p, axis=1), jnp.mean(logits, axis=1)


def _custom(similarity):
    def of_row(root: Array, noise: Array, own, others, row, column, edge, scale, mean, variance):
        delta, spread = others - own[None], safe_sqrt(variance)
        logits = jax.lax.map(lambda z: similarity((mean + spread * z) * root, delta), noise).T
        defined = jnp.broadcast_to(edge[:, None], logits.shape)
        return _mean_over_samples(row, column, edge, jnp.where(defined, logits, 0), defined, scale)

    return of_row
