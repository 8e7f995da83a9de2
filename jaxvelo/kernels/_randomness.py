"""Seeds and random keys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def random_key(seed: int | jax.Array | None) -> jax.Array:
    """Turn a seed into a random key; keys pass through, and ``None`` gives a new one each time."""
    if seed is None:
        return jax.random.key(int(np.random.SeedSequence().generate_state(1)[0]))
    if isinstance(seed, jax.Array) and _is_key(seed):
        return seed
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"Expected `seed` to be an integer, a random key of JAX or None, found `{seed!r}`.")
    # JAX would cut longer ones, differently at float32 and float64.
    if not 0 <= seed < 2**32:
        raise ValueError(f"Expected `seed` to be an integer from 0 to 2**32 - 1, found `{seed}`.")
    return jax.random.key(int(seed))


def _is_key(array: jax.Array) -> bool:
    """Whether this is one key: a typed one, or the raw numbers of older code."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array.shape == ()
    return array.dtype == jnp.uint32 and array.shape == jax.random.key_data(jax.random.key(0)).shape
