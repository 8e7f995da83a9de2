"""Columns for each state or group, whose names may be such as files of HDF5 and zarr do not allow."""

from __future__ import annotations

import pandas as pd

SLASH = "\u2215"
"""The sign of division: stands for a slash in the names of stored columns."""
# Of no width, after the name of a column that the index has, too.
_MARK = "\u200b"
# Names that anndata keeps for itself, or that are paths, each with one that looks like it.
_RESERVED = {"_index": "\u02cdindex", ".": "\u2024", "..": "\u2024\u2024"}
_FORMER = {stored: name for name, stored in _RESERVED.items()}


def storable_name(name: str) -> str:
    """Return the name of a column as it is stored."""
    return _RESERVED.get(name, name.replace("/", SLASH))


def with_storable_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Copy of a table as it is stored."""

    def stored(name: str) -> str:
        return storable_name(name) + (_MARK if name == table.index.name else "")

    return table.rename(columns=lambda name: stored(str(name)))


def with_named_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Copy of a stored table with the names that :func:`with_storable_columns` has changed."""

    def named(name: str) -> str:
        name = name.removesuffix(_MARK)
        return _FORMER.get(name, name.replace(SLASH, "/"))

    return table.rename(columns=lambda name: named(str(name)))
