"""The share of labels that may be wrong, as a user gives it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxvelo.annotated.arguments import is_number


def checked_share(blind: Any) -> jax.Array | None:
    """Return the share of blind labels; None if it is to be fitted.

    Raises
    ------
    ValueError
        If it is neither ``"fit"`` nor a number from 0 to below 1.
    """
    if isinstance(blind, str) and blind == "fit":
        return None
    if not (is_number(blind) and 0 <= blind < 1):
        raise ValueError(
            "Expected `blind`, the share of blind labels, to be 'fit' or a number from 0 to below 1, found "
            f"`{blind!r}`."
        )
    return jnp.asarray(blind, dtype=float)
