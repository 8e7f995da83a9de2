"""The layers of counts: which there are, what they hold, and the sizes of the cells in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.counts import check_non_negative, readable
from jaxvelo.annotated.entries import require_key
from jaxvelo.configuration import logger
from jaxvelo.pp._state_of_counts import ADVICE, State, state_of, together

LAYERS = ("spliced", "unspliced")
# Ambiguous counts are no part of a velocity, but stay on one scale with the others.
COUNT_LAYERS = (*LAYERS, "ambiguous")
MEND_COUNTS = "Put counts there, from before any scaling or centering, with zeros for what is missing."


def read_layer(adata: AnnData, name: str) -> Any:
    """Return a layer of counts, checked, or say that it is missing."""
    remedy = "Read the data from a file with spliced and unspliced counts, or store them under that key."
    return checked_layer(require_key(adata.layers, name, "adata.layers", remedy), name)


def checked_layer(matrix: Any, name: str) -> Any:
    """Counts of a layer, as they can be calculated with, or an error that says what is wrong with them."""
    where = f"adata.layers[{name!r}]"
    counts = readable(where, matrix)
    check_non_negative(where, counts, MEND_COUNTS)
    return counts


def states_of_layers(
    adata: AnnData, layers: Mapping[str, Any], cells: np.ndarray | slice = slice(None)
) -> dict[str, State]:
    """Decide for all layers of counts at once whether they are raw; ``layers`` may be of some of the cells only.

    Ambiguous counts have no say: scVelo leaves them raw where it normalises the others. They go with the others, unless
    they are processed already.
    """
    sizes = {name: stored_size(adata, name) for name in layers}
    own = {name: state_of(counts, None if (n := sizes[name]) is None else n[cells]) for name, counts in layers.items()}
    voters = {name: state for name, state in own.items() if name in LAYERS}
    decided = together(voters or own)
    for name, state in own.items():
        if name not in decided:
            decided[name] = state if state.kind in ("normalized", "logarithmized") else next(iter(decided.values()))
    return decided


def report(states: Mapping[str, State]) -> None:
    """Say in the log for what layers of counts are taken and why, and how to choose otherwise where that is in doubt.

    Raises
    ------
    ValueError
        If some are logarithmised and others are not: these cannot be brought to one scale.
    """
    states = {name: state for name, state in states.items() if name in ("X", *LAYERS)} or states
    kinds = {state.kind for state in states.values()}
    if len(kinds) > 1:
        found = " and ".join(f"{name} {state.kind} ({state.reason})" for name, state in states.items())
        if "logarithmized" in kinds:
            raise ValueError(
                f"Expected layers of counts on one scale, found {found}. Put raw counts into all of them. {ADVICE}"
            )
        logger.warning("Found layers of counts in several states: %s. Only raw ones are normalized. %s", found, ADVICE)
        return
    for kind in kinds:
        names, reasons = ", ".join(states), "; ".join(dict.fromkeys(state.reason for state in states.values()))
        certain = kind == "normalized" or any(state.certain for state in states.values())
        if kind == "unknown":
            logger.warning("Took %s for normalized already, but cannot tell: %s. %s", names, reasons, ADVICE)
        elif not certain or kind == "logarithmized":
            logger.warning("Took %s for %s: %s. %s", names, _IN_WORDS[kind], reasons, ADVICE)
        else:
            logger.info("Took %s for %s: %s.", names, _IN_WORDS[kind], reasons)


_IN_WORDS = {
    "raw": "raw counts",
    "normalized": "normalized already",
    "logarithmized": "logarithmized, which velocities are not made for",
}


def size_key(name: str) -> str:
    """Column of ``obs`` with the sizes of the cells in a layer, or in X, before genes were left out."""
    return "initial_size" if name == "X" else f"initial_size_{name}"


def initial_size(adata: AnnData, name: str, present: np.ndarray) -> np.ndarray:
    """Sizes of the cells in raw counts: as they are stored if they can be those of these counts, otherwise ``present``.

    Genes may have been left out since the sizes were stored, so that they may be larger than the sums, not smaller.
    """
    key = size_key(name)
    stored = stored_size(adata, name)
    if stored is None:
        return present
    if not np.isfinite(stored).all():
        found = f"{np.sum(~np.isfinite(stored))} that are missing or no numbers"
    elif (stored < present * (1 - 1e-3)).any():
        found = f"{np.sum(stored < present * (1 - 1e-3))} that are less than what the cells hold now"
    else:
        return adata.obs[key].to_numpy() if adata.obs[key].dtype.kind in "iuf" else stored
    logger.warning(
        "Expected `adata.obs[%r]` to hold the sizes of the cells in %s, found %s: counting them anew.", key, name, found
    )
    return present


def stored_size(adata: AnnData, name: str) -> np.ndarray | None:
    """Return the stored sizes as floats, NaN for what is no number; None if there are none."""
    if size_key(name) not in adata.obs:
        return None
    values = pd.to_numeric(adata.obs[size_key(name)].astype(object), errors="coerce")
    return values.to_numpy(dtype=float, na_value=np.nan)
