"""Known fates of populations: counts of an experiment or of clones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arguments import is_number, listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.names import text_of
from jaxvelo.fitting.objectives._fate_labels import terminal_fates

ONLY = "the set"
"""Name of a set that is the only one."""


def FateProportions(
    adata: AnnData,
    counts: Mapping[str, Any] | pd.DataFrame,
    cells: Any,
    terminal: str | Mapping[str, Any],
    standard_errors: Mapping[str, Any] | pd.DataFrame | None = None,
    overdispersion: float = 0.0,
) -> fit.FateProportions:
    r"""Negative log-likelihood of the shares of sets of cells that went to each fate, known from an experiment.

    For example, of the descendants of sorted progenitors, 120 became Alpha and 40 Beta:
    ``FateProportions(adata, {"Alpha": 120, "Beta": 40}, {"clusters": "Progenitor"}, "terminal")``.

    Each term of a sum of objectives is a mean over its own observations. To count all observations alike, weigh the
    terms by their numbers: ``fates + shares.weight.sum() / fates.weight.sum() * shares``.

    Parameters
    ----------
    adata
        Annotated data.
    counts
        Number of observations of each fate of one set, as a dictionary; or of several sets, as a data frame with a
        column for each fate, or a dictionary of dictionaries. Numbers need not be whole: give 30 times a share that is
        as uncertain as one from 30 observations.
    cells
        Cells of the set: indices, names, a mask or ``{"clusters": "Progenitor"}``. Of several sets, the cells of each,
        in a dictionary; or the key of a categorical column in ``adata.obs``, such as clones, whose categories name the
        sets (those without counts are left out).
    terminal
        Terminal cells of each fate: key of a categorical column in ``adata.obs``, missing for other cells; or, for each
        fate, its cells.
    standard_errors
        Those of ``counts``, in the same form, if these are shares and not counts: they stand for
        :math:`n = \sum_k f_k (1 - f_k) / \sum_k \operatorname{se}_k^2` observations.
    overdispersion
        Correlation :math:`\rho` of two observations of a set, as of cells of one clone or one animal: between 0, if
        they are independent, and 1. It leaves :math:`n / (1 + (n - 1) \rho)` independent ones (Kish 1965, section 5.4).

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FateProportions`. Its fates are those of ``terminal``, in that order. A set
    is fitted on, or held out, where more than half of its cells are.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If the fates are not those of ``terminal``, a number is none, a set has no counts or no cells, or terminal cells
        alone.
    TypeError
        If counts or cells are in none of these forms.

    Examples
    --------
    >>> counts = {"Fate A": 120, "Fate B": 40}
    >>> objective = jv.objectives.FateProportions(adata, counts, {"clusters": "Progenitor"}, "term_states_fwd")
    >>> objective.names
    ('Fate A', 'Fate B')
    """
    require_anndata(adata)
    if not (is_number(overdispersion) and 0 <= overdispersion < 1):
        raise ValueError(f"Expected `overdispersion` to be a number from 0 to below 1, found `{overdispersion!r}`.")
    ends, fates = terminal_fates(adata, terminal)
    table = _table(counts, "counts", fates)
    total = table.sum(axis=1)
    empty = list(table.index[total <= 0])
    if empty:
        raise ValueError(
            f"Expected a positive sum of `counts` of each set, found 0 for {listed(empty)}. Leave these out."
        )
    shares = table.div(total, axis=0)
    if standard_errors is not None:
        total = _numbers_behind(shares, table, _table(standard_errors, "standard_errors", fates))
    sets = _sets(adata, cells, list(table.index))
    for name, mask in sets.items():
        if not (mask & (ends < 0)).any():
            raise ValueError(
                f"Expected cells that are not terminal themselves in `cells` of {name!r}, found none. The fates of "
                "terminal cells are certain: leave this set out."
            )
    members = [np.flatnonzero(mask) for mask in sets.values()]
    return fit.FateProportions(
        terminal=jnp.asarray(ends),
        n_fates=len(fates),
        shares=jnp.asarray(shares.to_numpy(), dtype=float),
        member=jnp.asarray(np.concatenate(members)),
        member_of=jnp.asarray(np.repeat(np.arange(len(members)), [len(m) for m in members])),
        cell=jnp.asarray([m[len(m) // 2] for m in members]),
        weight=jnp.asarray((total / (1 + np.maximum(total - 1, 0) * overdispersion)).to_numpy(), dtype=float),
        names=tuple(fates),
    )


def _table(given: Any, argument: str, fates: list[str]) -> pd.DataFrame:
    """Return numbers of sets (rows) and fates (columns, in their order), not negative and finite."""
    if isinstance(given, pd.DataFrame):
        table = given.copy()
    elif isinstance(given, Mapping) and given and all(isinstance(row, Mapping | pd.Series) for row in given.values()):
        table = pd.DataFrame({name: dict(row) for name, row in given.items()}).T
    elif isinstance(given, Mapping | pd.Series) and len(given):
        table = pd.DataFrame([dict(given)], index=[ONLY])
    else:
        raise TypeError(
            f"Expected `{argument}` to be a dictionary of the number of each fate, or a data frame of sets and fates, "
            f"found `{type(given).__name__}`."
        )
    table.index, table.columns = [text_of(name) for name in table.index], [text_of(name) for name in table.columns]
    if sorted(table.columns) != sorted(fates):
        raise ValueError(
            f"Expected `{argument}` of each of the fates {listed(fates)} of `terminal`, found {listed(table.columns)}. "
            "Give 0 for a fate that was not seen."
        )
    if not table.index.is_unique:
        raise ValueError(
            f"Expected each set once in `{argument}`, found {listed(table.index[table.index.duplicated()])} again."
        )
    try:
        numbers = table[fates].astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected numbers in `{argument}`, found {listed(table.to_numpy().ravel())}.") from error
    bad = ~(np.isfinite(numbers) & (numbers >= 0)).to_numpy()
    if bad.any():
        raise ValueError(
            f"Expected finite numbers that are not negative in `{argument}`, found {listed(numbers.to_numpy()[bad])} "
            f"for {listed(numbers.index[bad.any(axis=1)])}."
        )
    return numbers


def _numbers_behind(shares: pd.DataFrame, given: pd.DataFrame, errors: pd.DataFrame) -> pd.Series:
    """Return the number of observations of each set whose shares have these standard errors."""
    if (np.abs(given.sum(axis=1) - 1) > 0.01).any():
        raise ValueError(
            f"Expected shares that sum to 1 in `counts`, as there are `standard_errors`, found the sums "
            f"{listed(given.sum(axis=1).round(3))}. Divide counts and errors by their sum, or leave the errors out."
        )
    if list(errors.index) != list(shares.index):
        raise ValueError(
            f"Expected `standard_errors` of the sets of `counts`, {listed(shares.index)}, found {listed(errors.index)}."
        )
    spread, squares = (shares * (1 - shares)).sum(axis=1), (errors**2).sum(axis=1)
    certain = list(shares.index[(squares <= 0) | (spread <= 0)])
    if certain:
        raise ValueError(
            f"Expected positive `standard_errors` of shares between 0 and 1, found certain shares for "
            f"{listed(certain)}. Give counts, whose number says how certain a share of 0 or 1 is."
        )
    return spread / squares


def _sets(adata: AnnData, cells: Any, names: list[str]) -> dict[str, np.ndarray]:
    """Return the mask of each set."""
    if names == [ONLY]:
        return {ONLY: chosen_cells(adata, cells, "cells")}
    if isinstance(cells, str):
        codes, found = cluster_codes(adata, cells)
        given = {name: codes == number for number, name in enumerate(found)}
    elif isinstance(cells, Mapping):
        given = {text_of(name): chosen for name, chosen in cells.items()}
    else:
        raise TypeError(
            "Expected `cells` of several sets to be a dictionary of the cells of each, or a key in `adata.obs`, found "
            f"`{type(cells).__name__}`."
        )
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(
            f"Expected cells of each set of `counts` in `cells`, found none for {listed(missing)}. There are "
            f"{listed(given)}."
        )
    return {name: chosen_cells(adata, given[name], f"cells[{name!r}]") for name in names}
