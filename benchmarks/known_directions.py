"""How well the velocities of the pancreas data agree with what is known about its cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

import jaxvelo as jv

CLUSTERS = "clusters"
TRANSITIONS = [
    ("Ngn3 low EP", "Ngn3 high EP"),
    ("Ngn3 high EP", "Pre-endocrine"),
    ("Pre-endocrine", "Alpha"),
    ("Pre-endocrine", "Beta"),
]
N_HALVES = 32
EARLIER, LATER = "Ductal", "Ngn3 low EP"


def convention(adata: AnnData, vkey: str = "velocity", weight: float = 0.8) -> Any:
    """Velocity and connectivity kernel with the conventional weights and the automatic scale."""
    velocity = jv.kernels.VelocityKernel(adata, vkey=vkey).compute_transition_matrix()
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    return weight * velocity + (1 - weight) * connectivity


def agreement(adata: AnnData) -> dict[str, Any]:
    """Score the velocities in ``layers["velocity"]`` of the genes in ``var["velocity_genes"]``.

    Parameters
    ----------
    adata
        The pancreas data with velocities.

    Returns
    -------
    dict
        ``genes``, the number of velocity genes, and for the kernel with the conventional weights and for that of the
        velocities alone:

        - ``correctness``: cross-boundary correctness of each known transition in ``X_pca``, mean over its cells;
        - ``backward``, ``forward``: of cells of one of ``EARLIER`` and ``LATER`` with neighbours in the other, the
          probability to move into the other, mean over cells; ``backward`` is from later to earlier;
        - ``net_backward``: their difference;
        - ``cycling_backward``: of ductal cells in the cycle (a score of the S or G2M phase above 0.1), the probability
          to move to ductal cells out of it, mean over cells.
    """
    both = convention(adata).compute_transition_matrix()
    clusters = adata.obs[CLUSTERS].to_numpy()
    result: dict[str, Any] = {"genes": int(adata.var["velocity_genes"].sum())}
    for name, kernel in {"0.8/0.2": both, "velocity alone": both.kernels[0]}.items():
        correctness = {
            f"{source} → {target}": float(np.mean(kernel.cbc(source, target, CLUSTERS, "X_pca")))
            for source, target in TRANSITIONS
        }
        flow = {
            direction: crossing(adata, kernel, clusters == source, clusters == target)
            for direction, source, target in (("backward", LATER, EARLIER), ("forward", EARLIER, LATER))
        }
        cycling = (adata.obs[["S_score", "G2M_score"]] > 0.1).any(axis=1).to_numpy()
        early = clusters == EARLIER
        result[name] = {
            "correctness": correctness,
            **flow,
            "net_backward": flow["backward"] - flow["forward"],
            "cycling_backward": crossing(adata, kernel, early & cycling, early & ~cycling),
        }
    return result


def standard_errors(ours: AnnData, theirs: AnnData, seed: int = 0) -> dict[str, Any]:
    """Spread of the differences of :func:`agreement`, had other genes been measured.

    Both are scored on the same random halves of the genes: the standard deviation over halves is that of the whole.

    Parameters
    ----------
    ours, theirs
        The data with velocities of two methods.
    seed
        Of the halves.

    Returns
    -------
    dict
        As :func:`agreement`, without ``genes``.
    """
    rng = np.random.default_rng(seed)
    differences: dict[str, list[dict[str, float]]] = {}
    for _ in range(N_HALVES):
        half = rng.permutation(ours.n_vars) < ours.n_vars // 2
        scores = []
        for adata in (ours, theirs):
            part = adata.copy()
            part.var["velocity_genes"] &= half
            scores.append(agreement(part))
        for kernel in scores[0]:
            if kernel != "genes":
                mine, other = (flat(score[kernel]) for score in scores)
                differences.setdefault(kernel, []).append({name: mine[name] - other[name] for name in mine})
    return {
        kernel: {name: float(np.std([found[name] for found in halves], ddof=1)) for name in halves[0]}
        for kernel, halves in differences.items()
    }


def flat(scores: dict[str, Any]) -> dict[str, float]:
    """Scores of one kernel without nesting, and the mean correctness."""
    correctness = scores["correctness"]
    rest = {name: value for name, value in scores.items() if name != "correctness"}
    return {**correctness, "mean": float(np.mean(list(correctness.values()))), **rest}


def crossing(adata: AnnData, kernel: Any, source: np.ndarray, target: np.ndarray) -> float:
    """Probability of cells of the source to move into the target, mean over those that have a neighbour there."""
    graph = adata.obsp["connectivities"]
    at_boundary = source & (np.asarray(graph[:, target].getnnz(axis=1)).ravel() > 0)
    into = np.asarray(kernel.transition_matrix @ target.astype(float)).ravel()
    return float(into[at_boundary].mean())
