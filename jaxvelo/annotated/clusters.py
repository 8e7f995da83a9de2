"""Clusters of cells: a column of categories, its names, and those that a user chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.names import places_by_name, text_of
from jaxvelo.configuration import logger

MISSING_AS_TEXT = ("nan", "NaN", "None", "<NA>", "")
"""What becomes of missing values where a column is converted to text."""


def read_clusters(adata: AnnData, key: str) -> pd.Series:
    """Return ``adata.obs[key]`` as a categorical series."""
    values = require_key(adata.obs, key, "adata.obs", "Pass the key of a clustering.")
    if not isinstance(values.dtype, pd.CategoricalDtype):
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            raise TypeError(
                f"Expected `adata.obs[{key!r}]` to be categorical, found {values.dtype}. "
                f"Convert it as `adata.obs[{key!r}] = adata.obs[{key!r}].astype('category')`."
            )
        values = values.astype("category")
    written = [name for name in values.cat.categories if name in MISSING_AS_TEXT]
    if written:
        logger.warning(
            "`adata.obs[%r]` has a group named %r, which may stand for what is missing. If so, mend it as "
            "`adata.obs[%r] = adata.obs[%r].astype('category').cat.remove_categories([%r])`",
            key, written[0], key, key, written[0],
        )  # fmt: skip
    return values


def require_cluster(values: pd.Series, name: Any, key: str) -> np.ndarray:
    """Return which cells are in cluster ``name``, which must exist and have cells."""
    return np.asarray(values.isin(chosen_groups(values, [name], f"adata.obs[{key!r}]", "cluster")), dtype=bool)


def cluster_names(values: pd.Series, where: str) -> list[str]:
    """Names of all categories as text, which must tell them apart."""
    names = [text_of(category) for category in values.cat.categories]
    doubles = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubles:
        raise ValueError(
            f"Expected categories of `{where}` with different names, found several that read {listed(doubles)}, of "
            f"different types. Rename them, as by `{where} = {where}.astype(str).astype('category')` to join them."
        )
    return names


def cluster_codes(adata: AnnData, key: str) -> tuple[np.ndarray, list[str]]:
    """Number of each cell's cluster, -1 where it is in none, and the names of the clusters that have cells.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`read_clusters` and :func:`cluster_names` do.
    """
    values = read_clusters(adata, key).cat.remove_unused_categories()
    return values.cat.codes.to_numpy().astype(np.int32), cluster_names(values, f"adata.obs[{key!r}]")


def chosen_groups(values: pd.Series, wanted: Any, where: str, name: str) -> list[Any]:
    """Return those values of a column that a user names: as values, or by what they read as text where that is unique.

    Parameters
    ----------
    values
        Clusters, or other values of the cells.
    wanted
        One or several of them.
    where
        Name of the column, for messages.
    name
        Name of the user's argument.

    Returns
    -------
    The values in the order in which they are named. Names that are not there, or have no cells, are left out with a
    warning.

    Raises
    ------
    ValueError
        If none of several is there, or a name fits several values.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        everything = list(values.cat.categories)
        known = list(values.cat.remove_unused_categories().cat.categories)
    else:
        everything = known = list(values.dropna().unique())
    asked = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]
    places = places_by_name(pd.Index(known, dtype=object, tupleize_cols=False), asked)
    twice = [want for want, found in places if len(found) > 1]
    if twice:
        raise ValueError(
            f"Expected one value of `{where}` for each name in `{name}`, found several that read {listed(twice)}."
        )
    absent = [want for want, found in places if not len(found)]
    if absent:
        texts = {text_of(value) for value in everything}
        empty = [want for want in absent if text_of(want) in texts]
        without = f" ({listed(empty)} without cells)" if empty else ""
        there = f"There are {listed(known)}."
        if len(absent) == len(places):
            raise ValueError(f"Expected values of `{where}` in `{name}`, found {listed(absent)}{without}. {there}")
        logger.warning("Leaving out %s of `%s`: no values of `%s`%s. %s", listed(absent), name, where, without, there)
    return list(dict.fromkeys(known[found[0]] for _, found in places if len(found)))
