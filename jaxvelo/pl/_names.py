"""Find what a user names: one match, or an error; names need be neither unique nor text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxvelo.annotations import listed
from jaxvelo.configuration import logger


def is_name(wanted: Any) -> bool:
    """Whether ``wanted`` can be a single name: text or a number."""
    return isinstance(wanted, str | int | float | np.generic)


REMEDIES = {"genes": "Call `adata.var_names_make_unique()` first", "columns": "Rename them", "groups": "Rename them"}


def find_name(names: pd.Index, wanted: Any, where: str, kind: str = "genes") -> int | None:
    """Give the place of ``wanted`` among ``names``, or :obj:`None` if it is not there.

    A name that is equal comes first; else one that reads the same, as ``"5"`` for 5 and 5 for ``"5"``.

    Raises
    ------
    ValueError
        If several names match.
    """
    for known, name in ((names, wanted), (names.astype(str), str(wanted))):
        places = np.flatnonzero(np.asarray(known == name, dtype=bool))
        if len(places) > 1:
            raise ValueError(
                f"Expected unique names in `{where}`, found several {kind} called {listed([name])}, at "
                f"{listed(places)}. {REMEDIES[kind]}."
            )
        if len(places):
            return int(places[0])
    return None


def find_groups(names: Sequence[str], wanted: Any, argument: str, key: str) -> list[int]:
    """Give the numbers of the groups that a user lists; absent ones are left out with a warning.

    Raises
    ------
    ValueError
        If none of them is there, or two groups of ``names`` read the same.
    """
    wanted = [wanted] if is_name(wanted) else list(wanted)
    index = pd.Index(names, dtype=object)
    found = {str(name): find_name(index, name, f"adata.obs[{key!r}]", "groups") for name in wanted}
    places = [place for place in found.values() if place is not None]
    absent = [name for name, place in found.items() if place is None]
    if not places:
        raise ValueError(
            f"Expected `{argument}` to be groups of `adata.obs[{key!r}]`, found {listed(absent)}, none of them there. "
            f"Groups are {listed(names)}."
        )
    if absent:
        logger.warning(
            "Leaving out %s of `%s`: no such groups in `adata.obs[%r]`, which has %s",
            listed(absent),
            argument,
            key,
            listed(names),
        )
    return list(dict.fromkeys(places))
