"""Plain arguments of a user: what they may be, and how messages list them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd


def check_integer(name: str, value: Any, least: int) -> None:
    """Raise a ValueError unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"Expected `{name}` to be an integer of at least {least}, found `{value!r}`.")


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number; truth values are none."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def is_missing(value: Any) -> bool:
    """Whether ``value`` is one of the values that stand for a missing one."""
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def listed(names: Iterable[Any], limit: int = 12) -> str:
    """Format names for a message, cut after ``limit``."""
    names = [repr(n.item() if isinstance(n, np.generic) else n) for n in names]
    shown = ", ".join(names[:limit])
    return f"[{shown}, ... ({len(names)} in all)]" if len(names) > limit else f"[{shown}]"
