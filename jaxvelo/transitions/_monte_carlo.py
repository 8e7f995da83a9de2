"""The Monte Carlo model: velocity uncertainty propagated by samples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import Pattern, block_rows, map_rows, uniform
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._inner_product import InnerProduct, displacements, safe_divide, safe_sqrt
from jaxvelo.transitions._similarity import SIMILARITIES, Similarity
from jaxvelo.transitions._softmax import scale_of_rows, softmax


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
        block = _built_in(product, features.x, normalize, softmax_scale, noise)
    else:
        block = _custom(similarity, features, gene_weights, softmax_scale, noise)
    row_bytes = (features.x.shape[1] + 2 * noise.shape[0]) * features.x.dtype.itemsize
    probabilities, logits = [], []
    for *bucket, m, s2 in zip(pattern.rows, pattern.columns, mask, mean, variance, strict=True):
        size = block_rows(bucket[1].shape, row_bytes)
        p, logit = map_rows(block, size, *bucket, m, s2)
        probabilities.append(p)
        logits.append(logit)
    return tuple(probabilities), tuple(logits)


def _built_in(product: InnerProduct, expression: Array, normalize: bool, scale: Array, noise: Array):
    x, x_mean = product.expression(expression)
    weights = product.is_gene if product.weights is None else product.weights

    def block(row, column, edge, mean, variance):
        delta, delta_mean = displacements(x, x_mean, row, column)
        u, n = product.velocity(mean)
        spread = safe_sqrt(variance) * weights[None]
        logits = jnp.einsum("rkg,rg->rk", delta, u)[:, :, None] + jnp.einsum(
            "rkg,sg->rks", delta * spread[:, None, :], noise
        )
        shift = spread @ noise.T
        if delta_mean is not None:
            logits = logits - delta_mean[:, :, None] * shift[:, None, :]
        if normalize:
            squared = (
                n[:, None] ** 2 + 2 * (u * safe_sqrt(variance)) @ noise.T + (variance * weights[None]) @ (noise**2).T
            )
            if product.center:
                squared = squared - safe_divide(shift**2, product.total)
            norm = product.norms(delta, delta_mean)[:, :, None] * safe_sqrt(jnp.maximum(squared, 0))[:, None, :]
            logits = safe_divide(logits, norm)
            defined = edge[:, :, None] & (norm > 0)
        else:
            defined = jnp.broadcast_to(edge[:, :, None], logits.shape)
        logits = jnp.where(defined, logits, 0)
        return _mean_over_samples(row, column, edge, logits, defined, scale)

    return block


def _mean_over_samples(row, column, edge, logits, defined, scale) -> tuple[Array, Array]:
    fallback = uniform(row, column, edge, logits.dtype)
    p = jax.vmap(softmax, in_axes=(2, 2, None, None), out_axes=2)(logits, defined, scale_of_rows(scale, row), fallback)
    return jnp.mean(p, axis=2), jnp.mean(logits, axis=2)


def _custom(similarity, features: Features, gene_weights: Array | None, scale: Array, noise: Array):
    x = features.x
    root = jnp.ones(x.shape[1], x.dtype) if gene_weights is None else safe_sqrt(gene_weights)
    x = x * root[None]

    def row_logits(row, column, mean, variance):
        delta = x[column] - x[row][None]
        spread = safe_sqrt(variance)
        return jax.lax.map(lambda z: similarity((mean + spread * z) * root, delta), noise).T

    def block(row, column, edge, mean, variance):
        defined = jnp.broadcast_to(edge[:, :, None], (*edge.shape, noise.shape[0]))
        logits = jnp.where(defined, jax.vmap(row_logits)(row, column, mean, variance), 0)
        return _mean_over_samples(row, column, edge, logits, defined, scale)

    return block
