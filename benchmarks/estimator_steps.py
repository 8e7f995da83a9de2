"""From a transition matrix to drivers on the pancreas: the steps that both estimators are asked for, and their times.

Imported in the peers' environment too, so it needs nothing of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

N_COMPONENTS = 20
N_STATES = (4, 5, 7, 9, 12)
CLUSTERS = "clusters"
ENDS = ["Alpha", "Beta", "Delta", "Epsilon"]
FOUND = ["Alpha", "Beta", "Epsilon"]  # those that are macrostates, of the nine that both compute


def transition_matrix(file: str) -> sp.csr_matrix:
    """Read 0.8 of the velocities' and 0.2 of the connectivities' transition matrix."""
    name = "combined/0.8v+0.2c"
    with np.load(file) as arrays:
        data, indices, indptr = (arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, len(indptr) - 1))


class Steps:
    """The steps of one estimator of fates, in CellRank's words.

    Parameters
    ----------
    estimator
        An estimator that nothing is computed of.
    quiet
        Arguments that keep long steps from showing a bar.
    seconds
        :func:`benchmarks.timing.seconds`, which the two environments find in different places.
    """

    def __init__(self, estimator: Any, quiet: dict[str, Any], seconds: Callable[..., dict[str, float]]) -> None:
        self.estimator, self.quiet, self.seconds = estimator, quiet, seconds

    def schur(self) -> None:
        """Compute Schur vectors, whatever is known of them."""
        self.estimator.compute_schur(N_COMPONENTS)

    def macrostates(self, n_states: int) -> None:
        """Compute macrostates from the Schur vectors."""
        self.estimator.compute_macrostates(n_states, cluster_key=CLUSTERS)

    def crispness(self) -> float:
        """Trace of the normalised overlap of the memberships, over their number."""
        x = np.asarray(self.estimator.macrostates_memberships.X)
        return float(np.trace((x.T @ x) / x.sum(axis=0)[:, None]) / x.shape[1])

    def fates(self) -> None:
        """Compute fate probabilities."""
        self.estimator.compute_fate_probabilities(**self.quiet)

    def times(self) -> None:
        """Compute means and variances of the times to each fate."""
        self.estimator.compute_absorption_times(calculate_variance=True, **self.quiet)

    def drivers(self) -> None:
        """Correlate all genes with all fates."""
        self.estimator.compute_lineage_drivers()

    def choose(self) -> None:
        """Name the terminal states, the same for both."""
        self.estimator.set_terminal_states(FOUND)

    def to_fates(self) -> None:
        """All that is needed for fates."""
        self.schur()
        self.macrostates(9)
        self.choose()
        self.fates()

    def tsi(self, n_states: int) -> dict[str, float]:
        """Find out how many macrostates it takes to find the ends; only once, for results are kept."""
        found: list[float] = []
        time = self.seconds(lambda: found.append(self.estimator.tsi(n_states, ENDS, CLUSTERS)), repeats=1, warm_up=0)
        return {**time, "n_states": n_states, "score": float(found[0])}

    def measure(self, repeats: int, warm_up: int = 0, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
        """Time every step but those that are left out."""
        times: dict[str, Any] = {"schur": self.seconds(self.schur, repeats=repeats, warm_up=warm_up)}
        print("Schur vectors", times["schur"], file=sys.stderr, flush=True)
        times["macrostates"] = {}
        for n_states in N_STATES:
            try:
                time = self.seconds(lambda n=n_states: self.macrostates(n), repeats=repeats, warm_up=warm_up)
                times["macrostates"][str(n_states)] = {**time, "crispness": self.crispness()}
            except ValueError as error:
                times["macrostates"][str(n_states)] = {"error": str(error)}
            print(n_states, "macrostates", times["macrostates"][str(n_states)], file=sys.stderr, flush=True)
        self.macrostates(9)
        self.choose()
        for name, step in (("fates", self.fates), ("times", self.times), ("drivers", self.drivers)):
            if name in leave_out:
                continue
            times[name] = self.seconds(step, repeats=repeats, warm_up=warm_up)
            print(name, times[name], file=sys.stderr, flush=True)
        return times
