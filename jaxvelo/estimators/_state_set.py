"""States of the process: the cells that stand for each, their colours, and how much all cells belong to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Int

from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._mixtures import mixtures_of
from jaxvelo.estimators._state_colors import mean_color


@dataclasses.dataclass(frozen=True)
class States:
    """Some states.

    Attributes
    ----------
    assignment
        For each cell the state that it stands for, missing for all others; categories are the states, in order.
    colors
        Colours of the states.
    probabilities
        For each cell, how much it belongs to the state that it belongs to most, 1 for the one that belongs to it most
        of all; ``None`` if the states were given by their cells.
    memberships
        How much each cell belongs to each state; ``None`` likewise.
    """

    assignment: pd.Series
    colors: tuple[str, ...]
    probabilities: pd.Series | None = None
    memberships: Lineage | None = None

    @property
    def names(self) -> list[str]:
        """Names of the states."""
        return list(self.assignment.cat.categories)

    @property
    def codes(self) -> Int[np.ndarray, " cells"]:
        """For each cell the number of its state, -1 for none."""
        return self.assignment.cat.codes.to_numpy().astype(int)

    def renamed(self, new_names: dict[str, str]) -> States:
        """Return the states with other names for some of them."""
        memberships = None if self.memberships is None else self.memberships.renamed(new_names)
        assignment = self.assignment.cat.rename_categories(new_names)
        return dataclasses.replace(self, assignment=assignment, memberships=memberships)

    def chosen(self, wanted: list[str]) -> States:
        """Return some of the states, and mixtures such as ``"Alpha, Beta"``; cells of the others stand for none.

        Raises
        ------
        KeyError, ValueError
            As :func:`~jaxvelo.estimators._mixtures.mixtures_of` does.
        """
        mixed = mixtures_of(wanted, self.names, "states")
        new = np.full(len(self.names) + 1, -1)  # the last one is that of no state
        for number, places in enumerate(mixed.values()):
            new[places] = number
        assignment = assigned(new[self.codes], list(mixed), self.assignment.index)
        return States(assignment, tuple(mean_color([self.colors[i] for i in places]) for places in mixed.values()))


def assigned(codes: Int[np.ndarray, " cells"], names: list[str], index: pd.Index) -> pd.Series:
    """Make a categorical series of the number of each cell's state, -1 for none."""
    return pd.Series(pd.Categorical.from_codes(codes, categories=names), index=index)
