"""From logits to probabilities."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def softmax(
    logits: Float[Array, "rows width"],
    defined: Bool[Array, "rows width"],
    softmax_scale: Float[Array, ""] | Float[Array, "rows 1"],
    fallback: Float[Array, "rows width"],
) -> Float[Array, "rows width"]:
    r"""Softmax of :math:`\sigma \ell_{ij}` over the defined logits of each row; ``fallback`` for rows without any."""
    lowest = jnp.finfo(logits.dtype).min
    top = jax.lax.stop_gradient(jnp.max(jnp.where(defined, logits, lowest), axis=1, keepdims=True))
    # Subtracted before scaling: after it, a fused multiply-add leaves of the largest exponent not zero but a rounding
    # error of the scaled logit, which overflows for large ones.
    exponent = jnp.where(defined, softmax_scale * (logits - top), 0)
    weight = jnp.where(defined, jnp.exp(exponent), 0)
    total = jnp.sum(weight, axis=1, keepdims=True)
    empty = total == 0
    return jnp.where(empty, fallback, weight / jnp.where(empty, 1, total))


def scale_of_rows(softmax_scale: Array, rows: Int[Array, " rows"]) -> Float[Array, "rows 1"]:
    """Softmax scale of each row of a bucket, from one for all cells or one for each."""
    scale = jnp.broadcast_to(softmax_scale, rows.shape) if softmax_scale.ndim == 0 else softmax_scale[rows]
    return scale[:, None]


def softmax_of_rows(
    logits: tuple[Float[Array, "rows width"], ...],
    support: tuple[Bool[Array, "rows width"], ...],
    softmax_scale: Float[Array, ""] | Float[Array, " cells"],
    rows: tuple[Int[Array, " rows"], ...],
) -> tuple[Float[Array, "rows width"], ...]:
    """Softmax of the logits of all buckets, where no row is without support."""
    scale = softmax_scale.astype(logits[0].dtype)
    return tuple(
        softmax(logit, where, scale_of_rows(scale, row), jnp.zeros_like(logit))
        for logit, where, row in zip(logits, support, rows, strict=True)
    )
