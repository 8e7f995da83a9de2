"""From logits to probabilities."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def softmax(
    logits: Float[Array, "rows width"],
    defined: Bool[Array, "rows width"],
    softmax_scale: Float[Array, ""],
    fallback: Float[Array, "rows width"],
) -> Float[Array, "rows width"]:
    r"""Softmax of :math:`\sigma \ell_{ij}` over the defined logits of each row; ``fallback`` for rows without any."""
    scaled = softmax_scale * logits
    lowest = jnp.finfo(scaled.dtype).min
    top = jax.lax.stop_gradient(jnp.max(jnp.where(defined, scaled, lowest), axis=1, keepdims=True))
    exponent = jnp.where(defined, scaled - top, 0)
    weight = jnp.where(defined, jnp.exp(exponent), 0)
    total = jnp.sum(weight, axis=1, keepdims=True)
    empty = total == 0
    return jnp.where(empty, fallback, weight / jnp.where(empty, 1, total))
