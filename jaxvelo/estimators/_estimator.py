"""What every estimator has: a kernel, results as attributes and in AnnData, and a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.configuration import logger
from jaxvelo.estimators._fate_entries import RESULTS, write_results
from jaxvelo.estimators._fate_results import FateResults
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._state_set import States
from jaxvelo.kernels import KernelExpression, PrecomputedKernel


class Estimator:
    """A kernel, and what is found of it: nothing at first.

    Parameters
    ----------
    object
        A kernel with a transition matrix; or what :class:`~jaxvelo.kernels.PrecomputedKernel` takes.
    **kwargs
        Further arguments of :class:`~jaxvelo.kernels.PrecomputedKernel`.
    """

    def __init__(self, object: Any, **kwargs: Any):
        kernel = object if isinstance(object, KernelExpression) else PrecomputedKernel(object, **kwargs)
        kernel.require_transitions()
        self._kernel = kernel
        self._results = FateResults()

    @property
    def kernel(self) -> KernelExpression:
        """The kernel."""
        return self._kernel

    @property
    def adata(self) -> AnnData:
        """Annotated data; other data of the same cells get all results."""
        return self._kernel.adata

    @adata.setter
    def adata(self, adata: AnnData) -> None:
        before = self.adata
        self._kernel.adata = adata
        try:
            write_results(adata, self._keys, self._results, RESULTS)
        except Exception:
            self._kernel.adata = before
            raise

    @property
    def transition_matrix(self) -> sp.csr_matrix:
        """The kernel's transition matrix, float64."""
        return self._kernel.require_transitions()

    @property
    def backward(self) -> bool | None:
        """Direction of the kernel."""
        return self._kernel.backward

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self._kernel.shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def params(self) -> dict[str, dict[str, Any]]:
        """Parameters of each result by its name, as a copy."""
        return {name: dict(values) for name, values in self._results.params.items()}

    @property
    def schur_vectors(self) -> np.ndarray | None:
        """Leading real Schur vectors, cells by components."""
        return self._results.schur_vectors

    @property
    def schur_matrix(self) -> np.ndarray | None:
        """Real Schur matrix, components by components."""
        return self._results.schur_matrix

    @property
    def eigendecomposition(self) -> dict[str, Any] | None:
        """Eigenvalues ``"D"``, ``"eigengap"`` (the number of the last one before it, from zero) and ``"params"``.

        After :meth:`compute_eigendecomposition` also left and right eigenvectors, ``"V_l"`` and ``"V_r"``, and the
        stationary distribution, ``"stationary_dist"``.
        """
        return self._results.eigendecomposition

    @property
    def macrostates(self) -> pd.Series | None:
        """Macrostate of each cell that stands for one, missing for all others."""
        return _assignment(self._results.macrostates)

    @property
    def macrostates_memberships(self) -> Lineage | None:
        """How much each cell belongs to each macrostate."""
        return _memberships(self._results.macrostates)

    @property
    def coarse_T(self) -> pd.DataFrame | None:
        """Transition matrix of the macrostates."""
        return None if self._results.coarse is None else self._results.coarse.transition_matrix

    @property
    def coarse_stationary_distribution(self) -> pd.Series | None:
        """Long-run distribution over the macrostates."""
        return None if self._results.coarse is None else self._results.coarse.stationary

    @property
    def coarse_initial_distribution(self) -> pd.Series | None:
        """Distribution of the cells over the macrostates."""
        return None if self._results.coarse is None else self._results.coarse.initial

    @property
    def crispness(self) -> float | None:
        """How clearly cells belong to one macrostate each, from 0 to 1."""
        return None if self._results.coarse is None else self._results.coarse.crispness

    @property
    def terminal_states(self) -> pd.Series | None:
        """Terminal state of each cell that stands for one, missing for all others."""
        return _assignment(self._results.terminal_states)

    @property
    def terminal_states_memberships(self) -> Lineage | None:
        """How much each cell belongs to each terminal state; :obj:`None` for states given by their cells."""
        return _memberships(self._results.terminal_states)

    @property
    def terminal_states_probabilities(self) -> pd.Series | None:
        """How much each cell belongs to a terminal state; :obj:`None` for states given by their cells."""
        return _probabilities(self._results.terminal_states)

    @property
    def initial_states(self) -> pd.Series | None:
        """Initial state of each cell that stands for one, missing for all others."""
        return _assignment(self._results.initial_states)

    @property
    def initial_states_memberships(self) -> Lineage | None:
        """How much each cell belongs to each initial state; :obj:`None` for states given by their cells."""
        return _memberships(self._results.initial_states)

    @property
    def initial_states_probabilities(self) -> pd.Series | None:
        """How much each cell belongs to an initial state; :obj:`None` for states given by their cells."""
        return _probabilities(self._results.initial_states)

    @property
    def fate_probabilities(self) -> Lineage | None:
        """Probability of each cell to end in each terminal state."""
        return self._results.fate_probabilities

    @property
    def absorption_times(self) -> pd.DataFrame | None:
        """Steps of each cell to each terminal state: a column ``"<state>_mean"``, and perhaps ``"<state>_var"``."""
        return self._results.absorption_times

    @property
    def priming_degree(self) -> pd.Series | None:
        """How far each cell is committed to a fate, from 0 to 1."""
        return self._results.priming_degree

    @property
    def lineage_drivers(self) -> pd.DataFrame | None:
        """Correlation of each gene with each fate."""
        return self._results.lineage_drivers

    def __repr__(self) -> str:
        found = (self._results.initial_states, self._results.terminal_states)
        initial, terminal = (None if states is None else sorted(states.names) for states in found)
        return f"{type(self).__name__}[kernel={self._kernel!s}, initial_states={initial}, terminal_states={terminal}]"

    def __str__(self) -> str:
        return repr(self)

    @property
    def _keys(self) -> FateKeys:
        return FateKeys(bool(self.backward))

    def _take(self, params: Mapping[str, Mapping[str, Any]], **new: Any) -> None:
        """Write new results to :attr:`adata`, without what depended on the old, and hold them."""
        results, touched = self._results.replaced(params, **new)
        written = write_results(self.adata, self._keys, results, touched)
        self._results = results
        for verb, places in (("Adding", written.added), ("Removing outdated", written.removed)):
            lines = [str(place) for place in places if place.key != self._keys.parameters]
            if lines:
                logger.info("%s %s", verb, f"\n{' ' * (len(verb) + 1)}".join(lines))

    def _require_macrostates(self) -> States:
        if self._results.macrostates is None:
            raise RuntimeError("Compute macrostates first as `.compute_macrostates()`.")
        return self._results.macrostates

    def _require_fates(self) -> Lineage:
        if self._results.fate_probabilities is None:
            raise RuntimeError("Compute fate probabilities first as `.compute_fate_probabilities()`.")
        return self._results.fate_probabilities


def _assignment(states: States | None) -> pd.Series | None:
    return None if states is None else states.assignment


def _memberships(states: States | None) -> Lineage | None:
    return None if states is None else states.memberships


def _probabilities(states: States | None) -> pd.Series | None:
    return None if states is None else states.probabilities
