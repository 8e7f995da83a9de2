"""Dictionaries of plain values, such as all file formats hold."""

from __future__ import annotations

from typing import Any

import numpy as np


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is ``None``, which not all file formats hold; it is the default of every argument."""
    return {k: without_none(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Turn NumPy scalars, as files give them back, into Python's."""
    return {
        k: plain(v) if isinstance(v, dict) else v.item() if isinstance(v, np.generic) else v for k, v in values.items()
    }
