"""Terminal and initial states that a user names: macrostates, or cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import chosen_groups, cluster_names, read_clusters
from jaxvelo.annotated.fate_keys import colors_of
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.order import in_order
from jaxvelo.configuration import logger
from jaxvelo.estimators._mixtures import mixtures_of
from jaxvelo.estimators._state_cells import most_likely_cells, strongest_membership, union_of_cells
from jaxvelo.estimators._state_colors import colors_of_groups
from jaxvelo.estimators._state_names import named_states
from jaxvelo.estimators._state_set import States, assigned

AGGREGATIONS = ("top_n", "union")


def states_of_macrostates(macrostates: States, wanted: Any, n_cells: int, agg: str) -> States:
    """Take some macrostates, and mixtures of them.

    Parameters
    ----------
    macrostates
        The macrostates, with memberships.
    wanted
        A name or a list of names, such as ``["Alpha, Beta", "Epsilon"]``; all if ``None``.
    n_cells
        How many cells stand for each.
    agg
        Which cells stand for a mixture: those that belong most to it, ``"top_n"``, or those of each of its macrostates,
        ``"union"``.

    Raises
    ------
    KeyError, ValueError
        If a name is unknown, or a macrostate in several, or there are too few cells.
    """
    if macrostates.memberships is None:
        raise RuntimeError("Expected memberships of the macrostates, found none. Run `.compute_macrostates()`.")
    check_integer("n_cells", n_cells, 1)
    if agg not in AGGREGATIONS:
        raise ValueError(f"Expected `agg` to be one of {list(AGGREGATIONS)}, found `{agg!r}`.")
    if wanted is None:
        wanted = macrostates.names
    wanted = [wanted] if isinstance(wanted, str) else [text_of(name) for name in wanted]
    if not wanted:
        raise ValueError(f"Expected names of macrostates, found none. There are {listed(macrostates.names)}.")
    mixed = mixtures_of(wanted, macrostates.names, "macrostates")
    memberships = macrostates.memberships[wanted]
    if agg == "union":
        codes = union_of_cells(macrostates.memberships.X, mixed, n_cells, macrostates.names)
    else:
        codes = most_likely_cells(memberships.X, n_cells, list(mixed))
    index = macrostates.assignment.index
    probabilities = pd.Series(strongest_membership(memberships.X), index=index)
    return States(assigned(codes, list(mixed), index), tuple(memberships.colors), probabilities, memberships)


def states_of_cells(adata: AnnData, given: Any, cluster_key: Any, weight_key: str | None) -> States:
    """Take states that are given by their cells.

    Parameters
    ----------
    adata
        Annotated data.
    given
        A categorical series, missing for cells of no state; a dictionary from names of states to names or numbers of
        cells; or a dictionary of one key of clusters in ``adata.obs`` and some of them.
    cluster_key, weight_key
        Clusters to name the states after, as of :func:`~jaxvelo.estimators._state_names.named_states`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there are no such cells, or a cell is in several states, or no state has cells.
    """
    if isinstance(given, pd.Series):
        codes, names, colors = _of_series(adata, given)
    elif len(given) == 1 and next(iter(given)) in adata.obs:
        codes, names, colors = _of_clusters(adata, *next(iter(given.items())))
    else:
        codes, names, colors = _of_dictionary(adata, given)
    if cluster_key is not None or colors is None:
        names, colors = named_states(adata, codes, names, cluster_key, weight_key)
    return States(assigned(codes, names, adata.obs_names), tuple(colors))


def check_overlap(states: States, others: States | None, kinds: tuple[str, str]) -> None:
    """Raise a ValueError if a cell stands for a state of two kinds, such as ``("terminal", "initial")``."""
    if others is None:
        return
    both = np.flatnonzero((states.codes >= 0) & (others.codes >= 0))
    if len(both):
        cells = listed(states.assignment.index[both], 3)
        raise ValueError(
            f"Expected {kinds[0]} states of other cells than {kinds[1]} ones, found {len(both)} overlapping cells, as "
            f"{cells}. Choose other states or fewer cells, or pass `allow_overlap=True`."
        )


def check_renaming(states: States, new_names: Any, kind: str) -> None:
    """Raise an error unless a dictionary gives some states other names, each once."""
    if not isinstance(new_names, Mapping):
        raise TypeError(f"Expected a dictionary from old to new names, found `{type(new_names).__name__}`.")
    unknown = [name for name in new_names if name not in states.names]
    if unknown:
        raise ValueError(f"Expected names of {kind} states, found {listed(unknown)}. There are {listed(states.names)}.")
    after = [new_names.get(name, name) for name in states.names]
    if len(set(after)) < len(after):
        raise ValueError(f"Expected each new name once, found {listed(after)}.")


_Given = tuple[Int[np.ndarray, " cells"], list[str], list[str] | None]


def _of_series(adata: AnnData, given: pd.Series) -> _Given:
    if not isinstance(given.dtype, pd.CategoricalDtype):
        raise TypeError(
            f"Expected a categorical series of states, found the type {given.dtype}. Convert it by "
            "`.astype('category')`."
        )
    values = in_order(given, adata.obs_names, "states").cat.remove_unused_categories()
    names = cluster_names(values, "states")
    if not names:
        raise ValueError("Expected a series with states, found none: the value of all cells is missing.")
    return values.cat.codes.to_numpy().astype(int), names, None


def _of_clusters(adata: AnnData, key: str, wanted: Any) -> _Given:
    values = read_clusters(adata, key)
    where = f"adata.obs[{key!r}]"
    all_names = cluster_names(values, where)
    colors = colors_of_groups(adata.uns.get(colors_of(key)), all_names)
    groups = chosen_groups(values, wanted, where, "states")
    places = [list(values.cat.categories).index(group) for group in groups]
    number = np.full(len(all_names) + 1, -1)
    number[places] = np.arange(len(places))
    codes = number[values.cat.codes.to_numpy()]
    return codes, [all_names[place] for place in places], [colors[place] for place in places]


def _of_dictionary(adata: AnnData, given: Mapping[Any, Any]) -> _Given:
    codes = np.full(adata.n_obs, -1)
    names: list[str] = []
    for name, cells in given.items():
        if not len(cells):
            logger.warning("Leaving out the state %r: it has no cells", name)
            continue
        mask = chosen_cells(adata, cells, "states")
        if (codes[mask] >= 0).any():
            twice = listed(adata.obs_names[mask & (codes >= 0)], 3)
            raise ValueError(f"Expected each cell in one state, found {twice} in {name!r} and in another.")
        codes[mask] = len(names)
        names.append(text_of(name))
    if not names:
        raise ValueError("Expected states with cells, found none. Pass a dictionary from states to their cells.")
    if len(set(names)) < len(names):
        raise ValueError(f"Expected states of different names, found several that read {listed(names)}.")
    return codes, names, None
