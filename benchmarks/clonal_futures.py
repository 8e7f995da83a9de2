"""How well kernels tell the later cells of clones that they have not seen."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.dynamics import first_moments, neighborhood_weights

N_FOLDS, N_STEPS = 5, 10


def measure(adata: Any, time_key: str = "time_info", clone_key: str = "X_clone") -> dict[str, dict[str, float]]:
    """Nats to a cell's later cells of its own clone after ten steps, of clones held out: mean and standard error.

    Clones are dealt out to five folds; what is fitted, is fitted on the clones of the other four. ``uniform`` draws the
    later cell among all of the next time point.
    """
    clones = sp.csr_matrix(adata.obsm[clone_key] != 0).astype(float)
    fold = np.random.default_rng(0).permutation(clones.shape[1]) % N_FOLDS
    day = adata.obs[time_key].astype(float).to_numpy()
    days = np.unique(day)
    following = dict(itertools.pairwise(days))
    similar = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    adata.layers["smooth"] = first_moments(neighborhood_weights(adata.obsp["connectivities"]), adata.X)
    cytotrace = jv.kernels.CytoTRACEKernel(adata).compute_cytotrace("smooth").compute_transition_matrix()
    known: dict[str, list[np.ndarray]] = {}
    for number in range(N_FOLDS):
        held, seen = fold == number, fold != number
        adata.obsm["seen"] = sp.csr_matrix(clones @ sp.diags(seen.astype(float)))
        adata.obs["growth"] = _growth(adata, clones, day, following, seen)
        kernels = {"connectivities": similar, "CytoTRACE": cytotrace, **_real_time(adata, time_key)}
        of_held = sp.csr_matrix(clones[:, held] @ clones[:, held].T > 0)
        for name, kernel in kernels.items():
            known.setdefault(name, []).append(_losses(kernel.transition_matrix, of_held, day, following))
        known.setdefault("uniform", []).append(_losses(None, of_held, day, following))
        known.setdefault("real time and connectivities, fitted", []).append(
            _losses(_fitted(adata, time_key, similar, kernels), of_held, day, following)
        )
    result = {}
    for name, folds in known.items():
        of_fold = np.array([losses.mean() for losses in folds])
        result[name] = {"nats": float(np.concatenate(folds).mean()), "se": float(of_fold.std(ddof=1) / N_FOLDS**0.5)}
    return result


def _real_time(adata: Any, time_key: str) -> dict[str, Any]:
    """Kernels of experimental time, with couplings of our own."""
    found = {}
    for name, arguments in {
        "real time": {},
        "real time, growth": {"growth": "growth"},
        "real time, chosen on clones": {"clones": "seen"},
        "real time, growth, chosen on clones": {"growth": "growth", "clones": "seen"},
    }.items():
        kernel = jv.kernels.RealTimeKernel(adata, time_key).compute_couplings(**arguments)
        found[name] = kernel.compute_transition_matrix(None, "all", 0.2)
    return found


def _fitted(adata: Any, time_key: str, similar: Any, kernels: dict[str, Any]) -> sp.csr_matrix:
    """Real time and connectivities, with their weights fitted on the clones that are seen."""
    kernel = 0.8 * kernels["real time, chosen on clones"] + 0.2 * similar
    objective = jv.objectives.FutureLikelihood(adata, time_key, "seen", steps=N_STEPS)
    return jv.tl.fit_kernel(kernel, objective, steps=50, prior=1.0, progress=False).kernel.transition_matrix


def _growth(adata: Any, clones: sp.csr_matrix, day: np.ndarray, following: dict, seen: np.ndarray) -> np.ndarray:
    """Growth in a unit of time: of the clones of each state that are seen, cells of the next day by cells of this."""
    state = adata.obs["state_info"].astype(str).to_numpy()
    table = clones[:, seen]
    growth = np.ones(len(day))
    for now, later in following.items():
        descendants = np.asarray(table[day == later].sum(axis=0)).ravel()
        siblings = np.maximum(np.asarray(table[day == now].sum(axis=0)).ravel(), 1)
        of_cells = table[day == now]
        n_clones = np.asarray(of_cells.sum(axis=1)).ravel()
        rate = (of_cells @ (descendants / siblings) + 1) / np.maximum(n_clones, 1)
        by_state = pd.Series(rate).groupby(state[day == now]).transform("mean").to_numpy()
        growth[day == now] = by_state ** (1 / (later - now))
    return growth


def _losses(matrix: sp.csr_matrix | None, of_held: sp.csr_matrix, day: np.ndarray, following: dict) -> np.ndarray:
    """Negative logarithms of the probability of later cells of the own clone, over those of the next day at all."""
    losses = []
    for now, later in following.items():
        cells, targets = np.flatnonzero(day == now), np.flatnonzero(day == later)
        futures = of_held[cells][:, targets]
        known = np.flatnonzero(np.diff(futures.indptr))
        if not len(known):
            continue
        if matrix is None:
            probabilities = np.full((len(known), len(targets)), 1 / len(targets))
        else:
            rows = matrix[cells[known]].toarray()
            for _ in range(N_STEPS - 1):
                rows = rows @ matrix
            probabilities = rows[:, targets]
        share = np.asarray(futures[known].multiply(probabilities).sum(axis=1)).ravel()
        n_own = np.diff(futures.indptr)[known]
        losses.append(-np.log(np.maximum(share, 1e-12) / n_own))
    return np.concatenate(losses)
