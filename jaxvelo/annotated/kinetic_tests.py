"""Tests for kinetics of their own of groups of cells, as they stand in an AnnData object under scVelo's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.annotated.entries import read_numbers, require_key, stored_parameters
from jaxvelo.annotated.fit_columns import FIT_FIRST, RATES, number_of_rates, rates_are_those_of
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.parts import GROUP_KEYS
from jaxvelo.annotated.storable_columns import with_named_columns, with_storable_columns

GROUPS, P_VALUE, P_VALUES = "fit_diff_kinetics", "fit_pval_kinetics", "fit_pvals_kinetics"
TESTED, SIZES = "fit_kinetics_of", "fit_diff_kinetics_sizes"
"""Number of the rates that were tested, and how many cells the groups had, to know again what a test is of."""
TEST_FIRST = "Test the genes first: `jaxvelo.tl.differential_kinetic_test(adata, groupby=...)`."


def write_kinetic_tests(
    adata: AnnData,
    genes: Bool[np.ndarray, " genes"],
    p_values: Float[np.ndarray, "tested groups"],
    groups: Sequence[str],
    sizes: Int[np.ndarray, " groups"],
    groupby: str,
    significant: float,
) -> None:
    """Store the tests of some genes; those of others stay if they are of the same groups and of their rates.

    Parameters
    ----------
    adata
        Annotated data, with the rates of the genes.
    genes
        Mask of the genes that were tested.
    p_values
        For each of them and each group.
    groups, sizes, groupby
        Names of the groups, their numbers of cells, and the key that they stand under in ``adata.obs``.
    significant
        P-value below which a group is named.
    """
    table = pd.DataFrame(np.nan, index=adata.var_names, columns=pd.Index(groups))
    named = np.full(adata.n_vars, None, dtype=object)
    p_value = np.full(adata.n_vars, np.nan)
    rates = _rates(adata)
    number = np.full(adata.n_vars, np.nan)
    before, stored = _own_table(adata), stored_parameters(adata, "recover_dynamics")
    # Groups of another clustering may have the same names.
    if (
        before is not None
        and stored.get(GROUPS) == groupby
        and list(before.columns) == list(groups)
        and np.array_equal(stored.get(SIZES, ()), sizes)
        and {GROUPS, P_VALUE, TESTED} <= set(adata.var)
    ):
        number = read_numbers(adata.var, TESTED, "adata.var", TEST_FIRST)
        kept = rates_are_those_of({**rates, TESTED: number}, TESTED)
        table.iloc[np.flatnonzero(kept)] = before.to_numpy()[kept]
        named[kept] = adata.var[GROUPS].astype(object).where(adata.var[GROUPS].notna(), None)[kept]
        p_value[kept] = adata.var[P_VALUE].to_numpy()[kept]
        number[~kept] = np.nan
    below = p_values < significant
    table.iloc[np.flatnonzero(genes)] = p_values
    named[genes] = [",".join(group for group, is_below in zip(groups, row, strict=True) if is_below) for row in below]
    p_value[genes] = np.where(below.any(axis=1), np.max(p_values, axis=1, initial=0, where=below), np.nan)
    number[genes] = number_of_rates([rates[name][genes] for name in RATES])
    adata.var[GROUPS] = pd.Categorical(named)
    adata.var[P_VALUE] = p_value
    adata.var[TESTED] = number
    adata.varm[P_VALUES] = with_storable_columns(table)
    adata.uns["recover_dynamics"] = {**stored, GROUPS: groupby, SIZES: np.asarray(sizes)}


def forget_kinetic_tests(adata: AnnData, genes: Bool[np.ndarray, " genes"]) -> None:
    """Make missing what was found for genes, whose fit is another now; without any left, they have no clustering."""
    for key in (GROUPS, P_VALUE, TESTED):
        if key in adata.var:
            adata.var[key] = adata.var[key].mask(genes)
    if P_VALUES in adata.varm:
        # Anyone's, such as scVelo's array of records, is no table that genes can be taken from.
        before = adata.varm[P_VALUES]
        if isinstance(before, pd.DataFrame):
            adata.varm[P_VALUES] = before.mask(np.repeat(genes[:, None], before.shape[1], axis=1))
        elif genes.any():
            del adata.varm[P_VALUES]
    stored = stored_parameters(adata, "recover_dynamics")
    if GROUPS in stored and (GROUPS not in adata.var or adata.var[GROUPS].isna().all()):
        adata.uns["recover_dynamics"] = {key: value for key, value in stored.items() if key not in (GROUPS, SIZES)}


def read_other_kinetics(adata: AnnData, key: str) -> list[tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " genes"]]]:
    """Read which groups of cells have kinetics of their own, of which genes.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Column of ``adata.var`` with names of groups, joined by commas: a test's, or the user's own, of the clustering
        that was tested; if there is none, the first of ``GROUP_KEYS`` that is there.

    Returns
    -------
    list
        Places of the cells of each group, and of its genes; no groups without any.

    Raises
    ------
    KeyError
        If there is no such column, or no such clustering.
    ValueError
        If the column is not of names of groups, or none is known for any gene; if names are not those of the groups,
        or a test is of other groups or of other rates.
    """
    where = f"adata.var[{key!r}]"
    column = require_key(adata.var, key, "adata.var", TEST_FIRST)
    known = column.notna().to_numpy()
    texts = column.astype(object).to_numpy()
    if not all(isinstance(text, str) for text in texts[known]):
        raise ValueError(f"Expected names of groups in `{where}`, found the type {column.dtype}. {TEST_FIRST}")
    known = known & (texts != "nan")  # as scVelo writes what is missing
    if not known.any():
        raise ValueError(f"Expected names of groups in `{where}`, found them missing for all genes. {TEST_FIRST}")
    stored = stored_parameters(adata, "recover_dynamics")
    groupby = stored.get(GROUPS)
    if not isinstance(groupby, str):
        groupby = next((name for name in GROUP_KEYS if name in adata.obs), GROUP_KEYS[0])
    require_key(adata.obs, groupby, "adata.obs", f"`{where}` is of its groups. {TEST_FIRST}")
    codes, groups = cluster_codes(adata, groupby)
    tested = _check_test(adata, stored, groupby, codes, groups) if key == GROUPS else []
    categories = adata.obs[groupby].astype("category").cat.categories
    allowed = dict.fromkeys([*groups, *tested, *map(text_of, categories)])
    named: dict[str, list[int]] = {group: [] for group in allowed}
    absent: dict[str, None] = {}
    for gene in np.flatnonzero(known):
        found, others = _groups_in(texts[gene], allowed)
        absent |= dict.fromkeys(others)
        for group in found:
            named[group].append(int(gene))
    if absent:
        raise ValueError(
            f"Expected groups of `adata.obs[{groupby!r}]` in `{where}`, found {listed(absent)}. There are "
            f"{listed(groups)}. {TEST_FIRST}"
        )
    return [(np.flatnonzero(codes == i), np.array(named[group])) for i, group in enumerate(groups) if named[group]]


def _check_test(
    adata: AnnData, stored: Mapping[str, Any], groupby: str, codes: Int[np.ndarray, " cells"], groups: Sequence[str]
) -> list[str]:
    """Raise a ValueError if the test is of other groups, or other rates; return the groups that were tested, if known.

    Groups may have lost cells since; what has groups that were not tested, or more cells in one, is another clustering.
    """
    again = "Test the genes again: `jaxvelo.tl.differential_kinetic_test(adata, groupby=...)`."
    found, own = adata.varm.get(P_VALUES), _own_table(adata)
    if own is None:
        tested = list(getattr(getattr(found, "dtype", None), "names", None) or ())  # scVelo's array of records
        then = None
    else:
        tested, then = list(own.columns), np.ravel(stored.get(SIZES, ()))
    if not tested:
        return []
    others = [group for group in groups if group not in tested]
    if others:
        raise ValueError(
            f"Expected the groups of `adata.obs[{groupby!r}]` to be those that were tested, {listed(tested)}, found "
            f"{listed(others)}. {again}"
        )
    if then is not None and len(then) == len(tested):
        now = dict(zip(groups, np.bincount(codes[codes >= 0], minlength=len(groups)), strict=True))
        larger = [group for group, size in zip(tested, then, strict=True) if now.get(group, 0) > size]
        if larger:
            raise ValueError(
                f"Expected the groups of `adata.obs[{groupby!r}]` to be those that were tested, found more cells in "
                f"{listed(larger)} than then. {again}"
            )
    if own is not None and TESTED in adata.var:
        number = read_numbers(adata.var, TESTED, "adata.var", again)
        of_others = ~np.isnan(number) & ~rates_are_those_of({**_rates(adata), TESTED: number}, TESTED)
        if of_others.any():
            raise ValueError(
                f"Expected `adata.var[{GROUPS!r}]` to be of the rates in `adata.var`, found "
                f"{np.count_nonzero(of_others)} genes with others: they have been fitted again since. {again}"
            )
    return tested


def _groups_in(text: str, groups: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return groups whose names are joined in a text, and what is no name; names may hold commas themselves."""
    parts = [part.strip() for part in text.split(",")]
    names = {",".join(part.strip() for part in group.split(",")): group for group in groups}
    found, others, start = [], [], 0
    while start < len(parts):
        lengths = range(len(parts) - start, 0, -1)
        length = next((n for n in lengths if ",".join(parts[start : start + n]) in names), 0)
        if length:
            found.append(names[",".join(parts[start : start + length])])
        elif parts[start]:
            others.append(parts[start])
        start += max(length, 1)
    return found, others


def _own_table(adata: AnnData) -> pd.DataFrame | None:
    """Table of p-values with the names of the groups; None where another program wrote it, or there is none."""
    table = adata.varm.get(P_VALUES)
    return with_named_columns(table) if isinstance(table, pd.DataFrame) else None


def _rates(adata: AnnData) -> dict[str, Float[np.ndarray, " genes"]]:
    return {name: read_numbers(adata.var, name, "adata.var", FIT_FIRST) for name in RATES}
