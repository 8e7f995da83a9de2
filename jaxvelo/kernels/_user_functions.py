"""Functions of a user's own in place of a built-in choice: what they must be, and how parameters name them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax


def check_traceable(function: Callable[..., Any], arguments: tuple[Any, ...], what: str, rewrite: str) -> None:
    """Raise a TypeError unless JAX can trace a function, and it gives a number for each of three neighbours.

    Parameters
    ----------
    function
        The function.
    arguments
        Shapes and types of what it is called with.
    what, rewrite
        What it is, and how to write it, for messages.
    """
    try:
        result = jax.eval_shape(function, *arguments)
    except Exception as error:
        raise TypeError(f"The {what} cannot be traced by JAX: {error}\n{rewrite}") from error
    if getattr(result, "shape", None) != (3,):
        raise TypeError(f"Expected the {what} to return one array of shape (neighbors,), found {result}. {rewrite}")


def name_of_choice(choice: Any, built_in: Collection[str]) -> str:
    """Name of a choice; that of a function is no name of a built-in one."""
    if isinstance(choice, str):
        return choice
    name = getattr(choice, "__name__", repr(choice))
    return f"function {name}" if name in built_in else name


def require_built_in(name: str, built_in: Collection[str], what: str) -> str:
    """Give the name of a built-in choice; raise a ValueError for that of a function, which parameters only name."""
    if name not in built_in:
        raise ValueError(
            f"The {what} `{name}` is a function, which is not stored. Compute the transition matrix anew with it."
        )
    return name
