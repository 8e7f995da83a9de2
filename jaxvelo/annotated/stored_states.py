"""States that stand in AnnData: their names, the cells that stand for each, and how much every cell belongs to each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import require_key, stored_parameters
from jaxvelo.annotated.fate_keys import FateKeys, memberships_of
from jaxvelo.annotated.groups import group_codes
from jaxvelo.annotated.names import places_by_name, text_of
from jaxvelo.annotated.storable_columns import with_named_columns
from jaxvelo.configuration import logger


@dataclasses.dataclass(frozen=True)
class Memberships:
    """How much every cell belongs to each state.

    Attributes
    ----------
    values
        One column for each state.
    names
        Names of the states.
    """

    values: Float[np.ndarray, "cells states"]
    names: list[str]

    def of(self, states: Any, argument: str = "states") -> Memberships:
        """Give the states that a user names in an argument, in this order; all for :obj:`None`."""
        chosen = chosen_states(self.names, states, argument)
        return Memberships(self.values[:, chosen], [self.names[i] for i in chosen])


def read_assignment(adata: AnnData, key: str, remedy: str) -> tuple[list[str], Int[np.ndarray, " cells"]]:
    """Read the states in ``obs[key]``: their names, and for each cell the state that it stands for, -1 for none.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If no cell stands for a state.
    """
    require_key(adata.obs, key, "adata.obs", remedy)
    return group_codes(adata, key)


def has_memberships(adata: AnnData, key: str) -> bool:
    """Whether it is stored how much every cell belongs to the states of ``obs[key]``."""
    return memberships_of(key) in adata.obsm


def read_memberships(adata: AnnData, key: str, remedy: str) -> Memberships:
    """Read how much every cell belongs to each of the states in ``obs[key]``.

    Raises
    ------
    KeyError
        If there is no such entry.
    ValueError
        If it has no numbers, or not one column for each state.
    """
    stored = require_key(adata.obsm, memberships_of(key), "adata.obsm", remedy)
    return _named(stored, memberships_of(key), [known_states(adata, key)], remedy)


def read_fates(adata: AnnData, keys: FateKeys, remedy: str) -> Memberships:
    """Read how probable each terminal state is as every cell's fate.

    Raises
    ------
    KeyError, ValueError
        As :func:`read_memberships` does.
    """
    key = keys.fate_probabilities
    stored = require_key(adata.obsm, key, "adata.obsm", remedy)
    parameters = stored_parameters(adata, keys.parameters).get(key, {})
    # Those of some terminal states alone, or of several taken together. CellRank notes them in another order.
    some = parameters.get("names") if hasattr(parameters, "get") else None
    some = [] if some is None else [text_of(name) for name in np.atleast_1d(some)]
    known = known_states(adata, keys.terminal_states)
    return _named(stored, key, [_with_new_names(some, known, bool(some) and "keys" in parameters, keys), known], remedy)


def _with_new_names(noted: list[str], known: list[str], are_chosen: bool, keys: FateKeys) -> list[str]:
    """Names of fates that were noted with them, with the new names of terminal states that were renamed since.

    Those of all states are as many as the states: then what has no name in common is the same. If a user chose their
    order, that is known of one only.
    """
    old = [name for name in noted if name not in known]
    new = [name for name in known if name not in noted]
    if not old or len(noted) != len(known) or (are_chosen and len(old) > 1):
        return noted
    renamed = dict(zip(old, new, strict=True))
    logger.info(
        "Taking the names of `adata.obs[%r]` for the columns of `adata.obsm[%r]`, which were written as others: %s",
        keys.terminal_states, keys.fate_probabilities, renamed,
    )  # fmt: skip
    return [renamed.get(name, name) for name in noted]


def chosen_states(names: list[str], states: Any, argument: str = "states") -> list[int]:
    """Give the places of the states that a user names in an argument, in this order; all for :obj:`None`.

    Raises
    ------
    KeyError
        If there is no state of a name.
    ValueError
        If none is named.
    """
    if states is None:
        return list(range(len(names)))
    wanted = list(dict.fromkeys(states if pd.api.types.is_list_like(states) else [states]))
    if not wanted:
        raise ValueError(f"Expected at least one name in `{argument}`, found none. There are {listed(names)}.")
    places = places_by_name(pd.Index(names, dtype=object), wanted)
    absent = [want for want, found in places if not found]
    if absent:
        raise KeyError(f"Expected names of states in `{argument}`, found {listed(absent)}. There are {listed(names)}.")
    return [found[0] for _, found in places]


def known_states(adata: AnnData, key: str) -> list[str]:
    """Names of the states in ``obs[key]``; none where they are not there."""
    column = adata.obs.get(key)
    is_named = isinstance(column, pd.Series) and isinstance(column.dtype, pd.CategoricalDtype)
    return [text_of(name) for name in column.cat.categories] if is_named else []


def _named(stored: Any, key: str, candidates: list[list[str]], remedy: str) -> Memberships:
    """Give a stored table its names: its own, or the first that there is one of for each column."""
    values, where = dense(stored), f"adata.obsm[{key!r}]"
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected numbers in `{where}`, a column for each state, found the type {values.dtype} of shape "
            f"{values.shape}. {remedy}"
        )
    if isinstance(stored, pd.DataFrame):
        candidates = [[text_of(name) for name in stored.columns]]
    names = next((names for names in candidates if len(names) == values.shape[1]), None)
    if names is None:
        raise ValueError(
            f"Expected `{where}` with a column for each of the states {listed(candidates[-1])}, found "
            f"{values.shape[1]}. {remedy}"
        )
    return Memberships(values.astype(float), names)


def read_drivers(adata: AnnData, keys: FateKeys, use_raw: bool | None, remedy: str) -> pd.DataFrame:
    """Read the table of how genes go with fates: of ``varm``, or of ``raw`` if it is wanted or there alone.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        If ``raw`` is wanted and there is none, or what is stored is no data frame.
    """
    key = keys.lineage_drivers
    if use_raw and adata.raw is None:
        raise ValueError("Expected `adata.raw` with `use_raw=True`, found none. Leave out `use_raw`.")
    in_raw = adata.raw is not None and key in adata.raw.varm and (use_raw or key not in adata.varm)
    where, mapping = ("adata.raw.varm", adata.raw.varm) if in_raw else ("adata.varm", adata.varm)
    table = require_key(mapping, key, where, remedy)
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"Expected a data frame in `{where}[{key!r}]`, found `{type(table).__name__}`. {remedy}")
    return with_named_columns(table)


def correlations_of(table: pd.DataFrame, lineage: Any) -> np.ndarray:
    """Give the correlation of all genes with a fate.

    Raises
    ------
    KeyError
        If there is no fate of that name.
    """
    column = f"{text_of(lineage)}_corr"
    if column not in table:
        known = [name.removesuffix("_corr") for name in map(str, table.columns) if name.endswith("_corr")]
        raise KeyError(f"Expected a lineage among {listed(known)}, found {lineage!r}. Compute its drivers first.")
    return table[column].to_numpy(dtype=float)
