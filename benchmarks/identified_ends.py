"""Known ends that macrostates of each kernel find: the same calls of jaxvelo and CellRank on the same cells.

Imported in the peers' environment too, so it needs nothing of ours.
"""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import anndata

N_MACROSTATES = 10
CLUSTERS, TIME, DAY, ENDS = "clusters", "time", "day", "ends"
"""Columns of the clusters, the pseudotime and the days, and the key in ``uns`` of the clusters that are ends."""


def identified(library: Any, file: str, quiet: dict[str, Any], quiet_tsi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the score of the identification of terminal states (TSI) of each kernel, and the seconds that it took.

    Parameters
    ----------
    library
        ``jaxvelo`` or ``cellrank``.
    file
        Cells with a graph of neighbours, ``Ms``, a pseudotime, and maybe velocities, or days and couplings.
    quiet, quiet_tsi
        Arguments that keep kernels, and the estimator, from showing a bar.
    """
    found = {}
    adata = anndata.read_h5ad(file)
    for name, kernel in _kernels(library, adata, quiet):
        start = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):
            score = library.estimators.GPCCA(kernel).tsi(N_MACROSTATES, list(adata.uns[ENDS]), CLUSTERS, **quiet_tsi)
        found[name] = {"score": float(score), "seconds": time.perf_counter() - start}
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def _kernels(library: Any, adata: anndata.AnnData, quiet: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each kernel that the cells have data for, with the arguments of CellRank's tutorials."""
    make = library.kernels
    similar = make.ConnectivityKernel(adata).compute_transition_matrix()
    yield "connectivities", similar
    if "velocity" in adata.layers:
        velocity = make.VelocityKernel(adata).compute_transition_matrix(**quiet)
        yield "0.8 velocities, 0.2 connectivities", (0.8 * velocity + 0.2 * similar).compute_transition_matrix()
    for scheme in ("hard", "soft"):
        kernel = make.PseudotimeKernel(adata, TIME)
        yield f"pseudotime, {scheme}", kernel.compute_transition_matrix(scheme, **quiet)
    for scheme in ("hard", "soft"):
        kernel = make.CytoTRACEKernel(adata).compute_cytotrace("Ms")
        yield f"CytoTRACE, {scheme}", kernel.compute_transition_matrix(scheme, **quiet)
    if DAY in adata.obs:
        days = list(adata.obs[DAY].cat.categories)
        couplings = {pair: adata.uns[f"{pair[0]:g}-{pair[1]:g}"] for pair in itertools.pairwise(days)}
        kernel = make.RealTimeKernel(adata, DAY, couplings)
        yield "real time", kernel.compute_transition_matrix("auto", self_transitions="all", conn_weight=0.2)
