"""Rows that sum to one."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def normalize_or_fall_back(
    values: Float[Array, "*rows width"], fallback: Float[Array, "*rows width"]
) -> Float[Array, "*rows width"]:
    """Divide rows by their sums; rows that sum to zero become ``fallback``."""
    total = jnp.sum(values, axis=-1, keepdims=True)
    empty = total <= 0
    return jnp.where(empty, fallback, values / jnp.where(empty, 1, total))


def uniform(
    rows: Int[Array, "*rows"], columns: Int[Array, "*rows width"], mask: Bool[Array, "*rows width"], dtype
) -> Float[Array, "*rows width"]:
    """Equal probability for each edge of ``mask``; a row without edges stays at its own cell."""
    width = mask.shape[-1]
    slot = jnp.broadcast_to(jnp.arange(width), mask.shape)
    first_own = slot == jnp.min(jnp.where(columns == rows[..., None], slot, width), axis=-1, keepdims=True)
    degree = jnp.sum(mask, axis=-1, keepdims=True)
    weight = jnp.where(degree == 0, first_own, mask).astype(dtype)
    return weight / jnp.maximum(degree, 1).astype(dtype)
