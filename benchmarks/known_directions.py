"""How well the velocities of the pancreas data agree with what is known about its cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

from benchmarks.our_fits import TRANSITIONS, convention

CLUSTERS = "clusters"
EARLIER, LATER = "Ductal", "Ngn3 low EP"


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


def crossing(adata: AnnData, kernel: Any, source: np.ndarray, target: np.ndarray) -> float:
    """Probability of cells of the source to move into the target, mean over those that have a neighbour there."""
    graph = adata.obsp["connectivities"]
    at_boundary = source & (np.asarray(graph[:, target].getnnz(axis=1)).ravel() > 0)
    into = np.asarray(kernel.transition_matrix @ target.astype(float)).ravel()
    return float(into[at_boundary].mean())
