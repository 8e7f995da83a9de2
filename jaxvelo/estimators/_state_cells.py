"""The cells that stand for a state: those that belong to it most."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.configuration import logger

LEAST_SHARE = 0.2
"""Share of the cells asked for that a state must be left with."""


def most_likely_cells(
    memberships: Float[np.ndarray, "cells states"], n_cells: int, names: list[str]
) -> Int[np.ndarray, " cells"]:
    """Number of the state that each cell stands for, -1 for none.

    Each state gets the ``n_cells`` cells with its largest memberships. A cell among those of several states is that of
    the one it belongs to most; the others are left with fewer, which a warning says.

    Raises
    ------
    ValueError
        If there are not ``n_cells`` cells for each state, or a state is left with fewer than a fifth of them.
    """
    n_all, n_states = memberships.shape
    if n_cells > n_all // n_states:
        raise ValueError(
            f"Expected `n_cells` of at most {n_all // n_states} ({n_all} cells for {n_states} states), found "
            f"{n_cells}. Ask for fewer cells, or fewer states."
        )
    is_chosen = np.zeros(memberships.shape, dtype=bool)
    largest = np.argpartition(memberships, n_all - n_cells, axis=0)[n_all - n_cells :]
    np.put_along_axis(is_chosen, largest, True, axis=0)
    codes = np.where(is_chosen.any(axis=1), np.argmax(np.where(is_chosen, memberships, -np.inf), axis=1), -1)
    counts = np.bincount(codes[codes >= 0], minlength=n_states)
    least = max(int(LEAST_SHARE * n_cells), 1)
    few = {name: int(count) for name, count in zip(names, counts, strict=True) if count < least}
    if few:
        raise ValueError(
            f"Expected at least {least} of the {n_cells} cells that belong most to each state to belong to no other "
            f"even more, found {few}: these states are parts of others. Ask for fewer states, or other `n_cells`."
        )
    fewer = {name: int(count) for name, count in zip(names, counts, strict=True) if count < n_cells}
    if fewer:
        shown = ", ".join(f"{name} ({count})" for name, count in fewer.items())
        logger.warning("Some states have fewer cells than the %d asked for, as others have them: %s", n_cells, shown)
    return codes


def union_of_cells(
    memberships: Float[np.ndarray, "cells states"], mixed: dict[str, list[int]], n_cells: int, names: list[str]
) -> Int[np.ndarray, " cells"]:
    """Number of the mixture that each cell stands for: of each mixture, the cells of all of its states.

    Parameters
    ----------
    memberships
        Of the single states.
    mixed
        For each mixture the places of its states.
    n_cells
        Number of cells of each single state.
    names
        Names of the single states.
    """
    used = [place for places in mixed.values() for place in places]
    owner = np.array([number for number, places in enumerate(mixed.values()) for _ in places])
    codes = most_likely_cells(memberships[:, used], n_cells, [names[place] for place in used])
    return np.where(codes >= 0, owner[codes], -1)


def strongest_membership(memberships: Float[np.ndarray, "cells states"]) -> Float[np.ndarray, " cells"]:
    """How much each cell belongs to the state that it belongs to most, in units of that state's largest membership."""
    largest = memberships.max(axis=0)
    if not (largest > 0).all():
        raise ValueError(f"Expected memberships of which some are positive, found the largest {listed(largest)}.")
    return (memberships / largest).max(axis=1)
