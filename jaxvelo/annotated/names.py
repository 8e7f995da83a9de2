"""Names of cells, genes and groups, the same for all types that a file may give them back in, and their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import is_missing, listed


def text_of(value: Any) -> str:
    """Write a name or a value as text, the same for all types that a file may give it back in: 3, 3.0, "3", b"3"."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def is_name(wanted: Any) -> bool:
    """Whether ``wanted`` can be a single name: text or a number."""
    return isinstance(wanted, str | bytes | int | float | np.generic)


def find_name(names: pd.Index, wanted: Any, where: str, argument: str) -> int | None:
    """Return the place of the only entry of that name, None if there is no such entry; see :func:`places_of`."""
    return one_name(names, wanted, where, argument) if places_by_name(names, [wanted])[0][1] else None


def one_name(names: pd.Index, name: Any, where: str, argument: str) -> int:
    """Return the place of the only entry of that name; see :func:`places_of`."""
    return int(places_of(names, [name], where, argument)[0])


def places_of(names: pd.Index, wanted: Any, where: str, argument: str) -> np.ndarray:
    """Return the place of each wanted name, in their order: by value, or by what it reads as text.

    Parameters
    ----------
    names
        Names of cells or genes, unique or not, text or not.
    wanted
        A list of names.
    where
        Name of ``names``, such as ``"adata.var_names"``, for messages.
    argument
        Name of the user's argument.

    Raises
    ------
    KeyError
        If a name is not there.
    ValueError
        If a name is there several times.
    """
    places = places_by_name(names, wanted)
    absent = [want for want, found in places if not len(found)]
    if absent:
        things = "genes" if "var" in where else "cells"
        raise KeyError(
            f"Expected names of {things} as `{argument}`, found {listed(absent, 5)} not in `{where}`, which are like "
            f"{listed(names[:3])}. Leave them out, or check the spelling."
        )
    twice = [want for want, found in places if len(found) > 1]
    if twice:
        remedy = f", as by `{where}_make_unique()`" if where in ("adata.obs_names", "adata.var_names") else ""
        raise ValueError(
            f"Expected each name in `{argument}` once in `{where}`, found {listed(twice, 5)} several times. Make the "
            f"names unique first{remedy}."
        )
    return np.array([found[0] for _, found in places], dtype=int)


def places_by_name(names: pd.Index, wanted: Any) -> list[tuple[Any, list[int]]]:
    """Return all places of each wanted name: of that value, otherwise what reads the same; none if it is missing."""
    asked = [want.item() if isinstance(want, np.generic) else want for want in wanted]
    by_value = _at(names, [want for want in asked if pd.api.types.is_hashable(want) and not is_missing(want)])
    rest = {i for i, want in enumerate(asked) if not is_missing(want) and not _get(by_value, want)}
    by_text: dict[Any, list[int]] = {}
    if rest:
        texts = pd.Index([None if is_missing(name) else text_of(name) for name in names], dtype=object)
        by_text = _at(texts, [text_of(asked[i]) for i in rest])
    return [
        (want, by_text.get(text_of(want), []) if i in rest else _get(by_value, want)) for i, want in enumerate(asked)
    ]


def _at(names: pd.Index, asked: list[Any]) -> dict[Any, list[int]]:
    """Places of those that are there."""
    places: dict[Any, list[int]] = {}
    for place in np.flatnonzero(names.isin(asked)):
        places.setdefault(names[place], []).append(int(place))
    return places


def _get(places: dict[Any, list[int]], want: Any) -> list[int]:
    return places.get(want, []) if pd.api.types.is_hashable(want) else []
