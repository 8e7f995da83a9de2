"""Groups of cells: any column of ``obs``, or any values, as names and the number of each cell's group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.clusters import cluster_names
from jaxvelo.annotated.names import find_name, is_name


def group_codes(adata: AnnData, key: Any) -> tuple[list[str], Int[np.ndarray, " cells"]]:
    """Read a column of ``obs`` as groups: their names, and the number of each cell's group, -1 where it is missing.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there are two, or no cell has a group.
    """
    names, codes = coded(group_values(adata, key), str(key))
    if not (codes >= 0).any():
        raise ValueError(
            f"Expected groups in `adata.obs[{key!r}]`, found none: the value of all {len(codes)} cells is missing."
        )
    return names, codes


def group_values(adata: AnnData, key: Any) -> pd.Series:
    """Give the column of ``obs`` with the cells' groups; raises as :func:`group_codes` does."""
    place = find_name(adata.obs.columns, key, "adata.obs.columns", "groupby") if is_name(key) else None
    if place is None:
        raise KeyError(
            f"Expected `adata.obs[{key!r}]` with the cells' groups, found the columns {listed(adata.obs)}. Name one of "
            "these."
        )
    return as_groups(adata.obs.iloc[:, place], str(key))


def as_groups(column: pd.Series, key: str) -> pd.Series:
    """Give values of the cells as categories; ``key`` is the column's name for messages, empty for the user's own."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column
    try:
        return column.astype("object").where(column.notna()).astype("category")
    except TypeError as error:  # lists and other things that are no names
        where = f"adata.obs[{key!r}]" if key else "color"
        example = next(value for value in column if not pd.api.types.is_hashable(value))
        raise TypeError(
            f"Expected numbers or names of groups in `{where}`, found values such as `{example!r}` of the type "
            f"{type(example).__name__}. Make them names, as by `{where}.astype(str)`."
        ) from error


def coded(column: pd.Series, key: str) -> tuple[list[str], Int[np.ndarray, " cells"]]:
    """Give the names of categories, and the number of each cell's, -1 where it is missing; ``key`` as above."""
    names = cluster_names(column, f"adata.obs[{key!r}]" if key else "color")
    return names, column.cat.codes.to_numpy().astype(int)
