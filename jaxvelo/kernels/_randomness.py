"""Seeds and random keys."""

from __future__ import annotations

import jax
import numpy as np


def random_key(seed: int | jax.Array | None) -> jax.Array:
    """Turn a seed into a random key; keys pass through, and ``None`` gives a new one each time."""
    if seed is None:
        return jax.random.key(int(np.random.SeedSequence().generate_state(1)[0]))
    if isinstance(seed, jax.Array):
        return seed
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return jax.random.key(int(seed))
    raise TypeError(f"Expected `seed` to be an integer, a random key of JAX or None, found `{type(seed).__name__}`.")
