"""Results of an estimator as entries of an AnnData object, under CellRank's keys, and back."""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.entries import stored_parameters
from jaxvelo.annotated.fate_keys import FateKeys, colors_of, memberships_of, probabilities_of
from jaxvelo.annotated.plain_values import plain, without_none
from jaxvelo.annotated.put_back import put_back_on_failure
from jaxvelo.annotated.storable_columns import with_named_columns, with_storable_columns
from jaxvelo.annotated.stored_states import has_memberships, read_fates, read_memberships
from jaxvelo.configuration import logger
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._fate_results import FateResults
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._mixtures import parts_of
from jaxvelo.estimators._state_colors import colors_of_groups
from jaxvelo.estimators._state_set import States


class Place(NamedTuple):
    """Where an entry stands: an attribute of an AnnData object, such as ``"obsm"``, and a key of it."""

    attribute: str
    key: str

    def mapping(self, adata: AnnData) -> Any:
        """The attribute itself."""
        return adata.raw.varm if self.attribute == "raw.varm" else getattr(adata, self.attribute)

    def __str__(self) -> str:
        return f"`adata.{self.attribute}[{self.key!r}]`"


Entries = Mapping[Place, Any]
"""What to write where; ``None`` for what to remove."""


class Written(NamedTuple):
    """Where entries were written, and from where some were removed."""

    added: list[Place]
    removed: list[Place]


def write_results(adata: AnnData, keys: FateKeys, results: FateResults, names: Iterable[str]) -> Written:
    """Write some results, and remove those that are ``None``: all of them, or, if one cannot be written, none.

    A view becomes data of its own, as anndata does with a warning.
    """
    if adata.is_view:
        logger.info("Making the AnnData object, a view of another, a copy of its own to write results to it")
        adata.obs = adata.obs
    entries = {place: value for name in names for place, value in _ENTRIES[name](keys, name, results).items()}
    entries = {
        place: value for place, value in entries.items() if adata.raw is not None or place.attribute != "raw.varm"
    }
    written = Written([], [])
    with put_back_on_failure(*((place.mapping(adata), place.key) for place in entries)):
        for place, value in entries.items():
            mapping = place.mapping(adata)
            if value is not None:
                mapping[place.key] = value
                written.added.append(place)
            elif place.key in mapping:
                del mapping[place.key]
                written.removed.append(place)
    return written


def read_results(adata: AnnData, keys: FateKeys) -> FateResults:
    """Read what :func:`write_results`, or CellRank, wrote.

    Raises
    ------
    ValueError
        If parts of a result do not fit together, as when they were written for other cells.
    """
    params = _read_params(adata, keys)
    terminal = _read_states(adata, keys.terminal_states)
    return FateResults(
        schur_vectors=_read_array(adata.obsm, keys.schur_vectors),
        schur_matrix=_read_array(adata.uns, keys.schur_matrix),
        eigendecomposition=_read_eigendecomposition(adata, keys),
        macrostates=_read_states(adata, keys.macrostates),
        coarse=_read_coarse(adata, keys),
        terminal_states=terminal,
        initial_states=_read_states(adata, keys.initial_states),
        fate_probabilities=_read_fates(adata, keys, terminal),
        absorption_times=_read_frame(adata.obsm, keys.absorption_times),
        priming_degree=adata.obs[keys.priming_degree].copy() if keys.priming_degree in adata.obs else None,
        lineage_drivers=_read_drivers(adata, keys),
        tsi=_read_frame(adata.uns, keys.tsi),
        params=params,
    )


def parameter_key(keys: FateKeys, name: str) -> str:
    """Key of the parameters of a result, by the name of the result."""
    special = {"schur_vectors": f"schur_decomposition_{keys.direction}", "eigendecomposition": keys.eigendecomposition}
    return special.get(name) or str(getattr(keys, name))


def _single(attribute: str, written: Callable[[Any], Any] = lambda value: value) -> Callable[..., Entries]:
    """Entries of a result that stands in one place, under the key of its own name."""

    def entries(keys: FateKeys, name: str, results: FateResults) -> Entries:
        value = getattr(results, name)
        return {Place(attribute, getattr(keys, name)): None if value is None else written(value)}

    return entries


def _of_states(keys: FateKeys, name: str, results: FateResults) -> Entries:
    key, states = getattr(keys, name), getattr(results, name)
    values: tuple[Any, ...] = (None, None, None, None)
    if states is not None:
        probabilities, memberships = states.probabilities, states.memberships
        values = (
            states.assignment.copy(),
            None if probabilities is None else probabilities.copy(),
            None if memberships is None else memberships.X.copy(),
            np.array(states.colors, dtype=object),
        )
    places = (
        Place("obs", key),
        Place("obs", probabilities_of(key)),
        Place("obsm", memberships_of(key)),
        Place("uns", colors_of(key)),
    )
    return dict(zip(places, values, strict=True))


def _of_coarse(keys: FateKeys, name: str, results: FateResults) -> Entries:
    coarse = results.coarse
    if coarse is None:
        return {Place("uns", keys.coarse): None}
    obs = pd.DataFrame({"coarse_init_dist": coarse.initial})
    if coarse.stationary is not None:
        obs["coarse_stat_dist"] = coarse.stationary
    uns = {} if coarse.crispness is None else {"crispness": coarse.crispness}
    return {Place("uns", keys.coarse): AnnData(coarse.transition_matrix.copy(), obs=obs, uns=uns)}


def _of_drivers(keys: FateKeys, name: str, results: FateResults) -> Entries:
    """In ``raw`` if they were computed of its genes."""
    drivers = None if results.lineage_drivers is None else with_storable_columns(results.lineage_drivers)
    raw = bool(results.params.get(name, {}).get("use_raw", False))
    return {
        Place("varm", keys.lineage_drivers): None if raw else drivers,
        Place("raw.varm", keys.lineage_drivers): drivers if raw else None,
    }


def _of_params(keys: FateKeys, name: str, results: FateResults) -> Entries:
    stored = {parameter_key(keys, result): without_none(dict(values)) for result, values in results.params.items()}
    return {Place("uns", keys.parameters): stored or None}


def _copied(value: Any) -> Any:
    return copying.deepcopy(value)


_ENTRIES: Mapping[str, Callable[[FateKeys, str, FateResults], Entries]] = {
    "schur_vectors": _single("obsm", _copied),
    "schur_matrix": _single("uns", _copied),
    "eigendecomposition": _single("uns", _copied),
    "macrostates": _of_states,
    "coarse": _of_coarse,
    "terminal_states": _of_states,
    "initial_states": _of_states,
    "fate_probabilities": _single("obsm", lambda lineage: lineage.X.copy()),
    "absorption_times": _single("obsm", with_storable_columns),
    "priming_degree": _single("obs", _copied),
    "lineage_drivers": _of_drivers,
    "tsi": _single("uns", _copied),
    "params": _of_params,
}
"""Entries of each result."""
RESULTS = tuple(_ENTRIES)
_REMEDY = "Perhaps cells have been chosen since: remove both, and compute them anew."


def _read_params(adata: AnnData, keys: FateKeys) -> dict[str, dict[str, Any]]:
    stored = stored_parameters(adata, keys.parameters)
    names = {parameter_key(keys, name): name for name in RESULTS if name not in ("params", "schur_matrix")}
    return {names[key]: plain(dict(values)) for key, values in stored.items() if key in names}


def _read_array(mapping: Any, key: str) -> np.ndarray | None:
    return np.array(mapping[key]) if key in mapping else None


def _read_frame(mapping: Any, key: str) -> pd.DataFrame | None:
    found = mapping.get(key)
    return with_named_columns(found) if isinstance(found, pd.DataFrame) else None


def _read_eigendecomposition(adata: AnnData, keys: FateKeys) -> dict[str, Any] | None:
    found = adata.uns.get(keys.eigendecomposition)
    return plain(dict(found)) if isinstance(found, Mapping) and "D" in found else None


def _read_states(adata: AnnData, key: str) -> States | None:
    column = adata.obs.get(key)
    if column is None:
        return None
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    column = column.cat.rename_categories([str(name) for name in column.cat.categories])
    names = list(column.cat.categories)
    colors = colors_of_groups(adata.uns.get(colors_of(key)), names)
    probabilities = adata.obs.get(probabilities_of(key))
    memberships = None
    if has_memberships(adata, key):
        memberships = Lineage(read_memberships(adata, key, _REMEDY).values, names=names, colors=colors)
    return States(column.copy(), tuple(colors), None if probabilities is None else probabilities.copy(), memberships)


def _read_coarse(adata: AnnData, keys: FateKeys) -> CoarseChain | None:
    found = adata.uns.get(keys.coarse)
    if not isinstance(found, AnnData):
        return None
    names = [str(name) for name in found.obs_names]
    matrix = pd.DataFrame(np.array(found.X), index=names, columns=names)
    obs = found.obs.set_axis(names)
    crispness = found.uns.get("crispness")
    stationary = obs["coarse_stat_dist"].copy() if "coarse_stat_dist" in obs else None
    return CoarseChain(
        matrix, stationary, obs["coarse_init_dist"].copy(), None if crispness is None else float(crispness)
    )


def _read_fates(adata: AnnData, keys: FateKeys, terminal: States | None) -> Lineage | None:
    if keys.fate_probabilities not in adata.obsm:
        return None
    found = read_fates(adata, keys, _REMEDY)
    is_known = terminal is not None and all(
        part in terminal.names for name in found.names for part in parts_of(name, terminal.names)
    )
    colors = terminal.chosen(found.names).colors if terminal is not None and is_known else None
    return Lineage(found.values, names=found.names, colors=colors)


def _read_drivers(adata: AnnData, keys: FateKeys) -> pd.DataFrame | None:
    found = _read_frame(adata.varm, keys.lineage_drivers)
    if found is None and adata.raw is not None:
        return _read_frame(adata.raw.varm, keys.lineage_drivers)
    return found
