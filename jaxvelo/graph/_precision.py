"""Products of arrays in no less than the precision of their type, on every device."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Let the products within a function be as precise as their numbers.

    By default, GPUs round factors in single precision to 10 bits (TF32), and TPUs to 7: distances as differences of
    sums, and rows that sum to one, would be good to three digits. Custom rules of differentiation are traced later, and
    need it once more.
    """

    @wraps(function)
    def precise(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise
