"""All that an estimator has found, and what depends on what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._state_set import States

DEPENDENTS: Mapping[str, tuple[str, ...]] = {
    "macrostates": ("coarse", "terminal_states", "initial_states"),
    "terminal_states": ("fate_probabilities", "absorption_times"),
    "fate_probabilities": ("priming_degree", "lineage_drivers"),
}
"""What is no longer true when a result is another."""


@dataclasses.dataclass(frozen=True)
class FateResults:
    """Results, each ``None`` before it is there.

    Attributes
    ----------
    schur_vectors, schur_matrix
        Leading real Schur vectors, cells by components, and components by components.
    eigendecomposition
        Eigenvalues ``"D"``, the ``"eigengap"`` (place of the last one before it, from zero), the ``"params"``, and
        perhaps eigenvectors and the stationary distribution.
    macrostates
        The macrostates.
    coarse
        They as a chain; ``None`` for a single one.
    terminal_states, initial_states
        Where the process ends, and where it starts.
    fate_probabilities
        Probability of each cell to end in each terminal state.
    absorption_times
        Steps until then: a column ``"<lineage>_mean"`` for each, and perhaps ``"<lineage>_var"``.
    priming_degree
        How far each cell is committed, from 0 to 1.
    lineage_drivers
        Correlation of each gene with each fate, with p-values and intervals.
    tsi
        How many known terminal states are among how many macrostates.
    params
        Parameters of each result, by its name.
    """

    schur_vectors: Float[np.ndarray, "cells components"] | None = None
    schur_matrix: Float[np.ndarray, "components components"] | None = None
    eigendecomposition: dict[str, Any] | None = None
    macrostates: States | None = None
    coarse: CoarseChain | None = None
    terminal_states: States | None = None
    initial_states: States | None = None
    fate_probabilities: Lineage | None = None
    absorption_times: pd.DataFrame | None = None
    priming_degree: pd.Series | None = None
    lineage_drivers: pd.DataFrame | None = None
    tsi: pd.DataFrame | None = None
    params: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def replaced(self, params: Mapping[str, Mapping[str, Any]], **new: Any) -> tuple[FateResults, list[str]]:
        """Return the results with some new ones, without what depended on the old.

        Parameters
        ----------
        params
            Parameters of the new results by name.
        **new
            The new results.

        Returns
        -------
        The results, and the names of those that are other ones.
        """
        outdated = _dependents(new)
        touched = [*new, *(name for name in outdated if name not in new)]
        kept = {name: values for name, values in self.params.items() if name not in touched}
        changes = dict.fromkeys(touched) | new
        return dataclasses.replace(self, **changes, params={**kept, **params}), [*touched, "params"]


def _dependents(names: Any) -> list[str]:
    """All results that depend on some, directly or not."""
    found: list[str] = []
    for name in names:
        for dependent in DEPENDENTS.get(name, ()):
            found += [dependent, *_dependents([dependent])]
    return found
