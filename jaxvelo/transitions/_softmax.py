"""From logits to probabilities."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def softmax(
    logits: Float[Array, "*rows width"],
    defined: Bool[Array, "*rows width"],
    softmax_scale: Float[Array, ""] | Float[Array, "*rows 1"],
    fallback: Float[Array, "*rows width"],
) -> Float[Array, "*rows width"]:
    r"""Softmax of :math:`\sigma \ell_{ij}` over the defined logits of each row; ``fallback`` for rows without any."""
    lowest = jnp.finfo(logits.dtype).min
    top = jax.lax.stop_gradient(jnp.max(jnp.where(defined, logits, lowest), axis=-1, keepdims=True))
    # Subtracted before scaling: after it, a fused multiply-add leaves of the largest exponent not zero but a rounding
    # error of the scaled logit, which overflows for large ones.
    exponent = jnp.where(defined, softmax_scale * (logits - top), 0)
    weight = jnp.where(defined, jnp.exp(exponent), 0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    empty = total == 0
    return jnp.where(empty, fallback, weight / jnp.where(empty, 1, total))


def scales_of_rows(
    softmax_scale: Float[Array, ""] | Float[Array, " cells"], rows: tuple[Int[Array, " rows"], ...]
) -> tuple[Float[Array, " rows"], ...]:
    """Softmax scale of each row, bucket by bucket, from one for all cells or one for each."""
    if softmax_scale.ndim == 0:
        return tuple(jnp.broadcast_to(softmax_scale, row.shape) for row in rows)
    return tuple(softmax_scale[row] for row in rows)


def softmax_of_rows(
    logits: tuple[Float[Array, "rows width"], ...],
    support: tuple[Bool[Array, "rows width"], ...],
    softmax_scale: Float[Array, ""] | Float[Array, " cells"],
    rows: tuple[Int[Array, " rows"], ...],
) -> tuple[Float[Array, "rows width"], ...]:
    """Softmax of the logits of all buckets, where no row is without support."""
    scales = scales_of_rows(softmax_scale.astype(logits[0].dtype), rows)
    return tuple(
        softmax(logit, where, scale[:, None], jnp.zeros_like(logit))
        for logit, where, scale in zip(logits, support, scales, strict=True)
    )
