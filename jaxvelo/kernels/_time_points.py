"""Experimental time: the time points in their order, and which cells are of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.names import text_of


@dataclass(frozen=True)
class TimePoints:
    """Time points in their order.

    Attributes
    ----------
    names
        The values in ``adata.obs``, in order.
    number
        Which of them each cell is of.
    cells
        Of each time point, the numbers of its cells, increasing.
    numeric
        The names as numbers; ``None`` if they are none.
    key
        The column.
    """

    names: list[Any]
    number: Int[np.ndarray, " cells"]
    cells: list[np.ndarray]
    numeric: Float[np.ndarray, " times"] | None
    key: str

    def find(self, name: Any) -> int:
        """Number of a time point, by its value or by what that reads as text or as a number."""
        known = [text_of(own) for own in self.names]
        if text_of(name) not in known:
            if self.numeric is not None and _is_numeric(name) and float(name) in self.numeric:
                return self.numeric.tolist().index(float(name))
            raise ValueError(f"Expected a time point of `adata.obs[{self.key!r}]`, {listed(known)}, found `{name!r}`.")
        return known.index(text_of(name))

    def pair(self, source: int, target: int) -> str:
        """Name two time points, for messages."""
        return f"({text_of(self.names[source])}, {text_of(self.names[target])})"


def read_time_points(adata: AnnData, key: str) -> TimePoints:
    """Read the time points of the cells.

    Ordered categories are in their order. All others must read as numbers, be they numbers or text, and are in the
    order of these: of ``"2"`` and ``"10"``, the second one is later. Categories without cells are left out.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If a cell has no time, there are fewer than two time points, or their order is not known.
    """
    column = require_key(adata.obs, key, "adata.obs", "Pass the key of the experimental time.")
    where = f"adata.obs[{key!r}]"
    missing = np.flatnonzero(column.isna().to_numpy())
    if len(missing):
        raise ValueError(
            f"Expected a time point of each cell in `{where}`, found {len(missing)} cells without, the first of them "
            f"{missing[0]}. Remove these cells."
        )
    is_ordered = isinstance(column.dtype, pd.CategoricalDtype) and bool(column.cat.ordered)
    values = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
    values = values.cat.remove_unused_categories()
    names = list(values.cat.categories)
    if len(names) < 2:
        raise ValueError(
            f"Expected at least two time points in `{where}`, found {listed(map(text_of, names))}. Pass another "
            "`time_key`, or use a kernel that needs no experimental time."
        )
    numeric = np.array([float(name) for name in names]) if all(map(_is_numeric, names)) else None
    order = np.arange(len(names))
    if not is_ordered:
        if numeric is None:
            raise ValueError(
                f"Expected time points in `{where}` that are numbers or have an order, found {listed(names)}. Give "
                f"them one, as by `adata.obs[{key!r}] = adata.obs[{key!r}].astype('category')"
                ".cat.reorder_categories([...], ordered=True)`."
            )
        order = np.argsort(numeric, kind="stable")
    number = np.argsort(order)[values.cat.codes.to_numpy()]
    cells = [np.flatnonzero(number == i) for i in range(len(names))]
    return TimePoints([names[i] for i in order], number, cells, None if numeric is None else numeric[order], key)


def _is_numeric(name: Any) -> bool:
    try:
        return bool(np.isfinite(float(name)))
    except (TypeError, ValueError):
        return False
