"""Cells of some groups, which a tool looks at by themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.clusters import chosen_groups, cluster_codes, read_clusters

GROUP_KEYS = ("clusters", "louvain")
"""Where groups are looked up if nothing is said (as scVelo)."""


class Part(NamedTuple):
    """Cells that are looked at by themselves.

    Attributes
    ----------
    cells
        Which cells they are, of shape (cells,).
    group
        Name of the group, where each is looked at by itself; None otherwise.
    """

    cells: Bool[np.ndarray, " cells"]
    group: str | None

    @property
    def label(self) -> str:
        """What to add to a log line."""
        return "" if self.group is None else f" of the group {self.group!r}"

    def within(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        """Return what a matrix of all cells has between these."""
        return matrix if self.cells.all() else sp.csr_matrix(matrix[self.cells][:, self.cells])


def parts_of(adata: AnnData, groupby: str | None, groups: Any) -> list[Part]:
    """Return the cells of the named groups together; without names, those of each group by itself.

    Parameters
    ----------
    adata
        Annotated data.
    groupby
        Key of a clustering in ``adata.obs``; None for all cells, or, if groups are named, for the first of
        ``GROUP_KEYS`` that is there.
    groups
        Name of a group or names of several; None for each group.

    Raises
    ------
    KeyError
        If there is no such clustering.
    ValueError
        If none of the groups is there. Those that are absent while others are there are left out with a warning.
    """
    if groupby is None and groups is None:
        return [Part(np.ones(adata.n_obs, dtype=bool), None)]
    if groupby is None:
        groupby = next((key for key in GROUP_KEYS if key in adata.obs), None)
    if groupby is None:
        raise KeyError(
            f"Expected `groupby` beside `groups`, the key of a clustering, found neither it nor "
            f"`adata.obs[{GROUP_KEYS[0]!r}]`. There are the keys {listed(adata.obs)}."
        )
    where = f"adata.obs[{groupby!r}]"
    if groups is not None:
        values = read_clusters(adata, groupby)
        return [Part(np.asarray(values.isin(chosen_groups(values, groups, where, "groups")), dtype=bool), None)]
    codes, names = cluster_codes(adata, groupby)
    if not names:
        raise ValueError(f"Expected groups of cells in `{where}`, found none. Pass the key of another clustering.")
    return [Part(codes == number, name) for number, name in enumerate(names)]


def compared_groups(adata: AnnData, groupby: str | None) -> tuple[str, list[str], Int[np.ndarray, " cells"]]:
    """Return the key of a clustering, the names of its groups, and the number of each cell's, -1 where it is in none.

    Parameters
    ----------
    adata
        Annotated data.
    groupby
        Key in ``adata.obs``; None for the first of ``GROUP_KEYS`` that is there.

    Raises
    ------
    KeyError
        If there is no such clustering.
    ValueError
        If fewer than two groups have cells, or one has an empty name, under which no file can hold its results.
    """
    key = groupby if groupby is not None else next((key for key in GROUP_KEYS if key in adata.obs), None)
    if key is None:
        raise KeyError(
            f"Expected `adata.obs[{GROUP_KEYS[0]!r}]`, found the columns {listed(adata.obs)}. Pass the key of another "
            "clustering as `groupby`."
        )
    codes, names = cluster_codes(adata, key)
    if len(names) < 2:
        raise ValueError(
            f"Expected at least two groups with cells in `adata.obs[{key!r}]`, found {listed(names)}. Pass the key of "
            "another clustering as `groupby`."
        )
    if "" in names:
        raise ValueError(
            f"Expected names of the groups in `adata.obs[{key!r}]`, found one that is empty, under which its results "
            f"cannot be saved. Name it, as by `adata.obs[{key!r}] = "
            f"adata.obs[{key!r}].astype('category').cat.rename_categories({{'': 'other'}})`, or pass the key of "
            "another clustering as `groupby`."
        )
    return key, names, codes


def column_of(adata: AnnData, key: str, parts: list[Part], values: np.ndarray, otherwise: float) -> np.ndarray:
    """Return a column of numbers with the values of the parts; the other cells keep theirs, if they have some."""
    covered = np.any([part.cells for part in parts], axis=0)
    if covered.all():
        return values
    has_numbers = key in adata.obs and pd.api.types.is_numeric_dtype(adata.obs[key].dtype)
    before = adata.obs[key].to_numpy(dtype=float, na_value=np.nan) if has_numbers else np.full(adata.n_obs, otherwise)
    return np.where(covered, values, before)
