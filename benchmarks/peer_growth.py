"""Every step from counts to fates, once, in scVelo and CellRank: a line of JSON for each on standard output.

Usage: ``peer_growth.py FILE.h5ad``; runs in the peers' environment.
"""

from __future__ import annotations

import sys
import warnings

import anndata
import cellrank_on_numpy2  # noqa: F401  (before cellrank)
import numpy as np
import scanpy
import scvelo
from step_costs import step

import cellrank  # isort: skip

N_NEIGHBORS, N_STATES = 30, 4
LATE = 0.98
QUIET = {"show_progress_bar": False}


def normalize(adata: anndata.AnnData) -> None:
    """As the tutorials do."""
    scvelo.pp.filter_and_normalize(adata)
    scanpy.pp.log1p(adata)


def neighbors(adata: anndata.AnnData) -> None:
    """Principal components and neighbours."""
    scanpy.pp.pca(adata, n_comps=30)
    scanpy.pp.neighbors(adata, n_neighbors=N_NEIGHBORS, n_pcs=30)


def fates(kernel, adata: anndata.AnnData) -> None:
    """Fates of all cells, where the last cells of each lineage are terminal."""
    hours, lineage = adata.obs["true_time"].to_numpy(), adata.obs["lineage"].to_numpy()
    late = hours > LATE * hours.max()
    estimator = cellrank.estimators.GPCCA(kernel)
    estimator.set_terminal_states(
        {name: adata.obs_names[late & (lineage == name)].tolist() for name in np.unique(lineage)}
    )
    estimator.compute_fate_probabilities(**QUIET)


def main(file: str) -> None:
    """Read the counts and go all the way."""
    adata = step("read", lambda: anndata.read_h5ad(file))
    step("normalise", lambda: normalize(adata))
    step("principal components and neighbours", lambda: neighbors(adata))
    step("moments", lambda: scvelo.pp.moments(adata, n_pcs=None, n_neighbors=None))
    step("velocity, deterministic", lambda: scvelo.tl.velocity(adata, mode="deterministic"))
    adata.var["velocity_genes"] = True
    velocity = step(
        "velocity kernel", lambda: cellrank.kernels.VelocityKernel(adata).compute_transition_matrix(**QUIET)
    )
    similar = step(
        "connectivity kernel", lambda: cellrank.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    )
    both = step("combination", lambda: (0.8 * velocity + 0.2 * similar).compute_transition_matrix())
    step("fates", lambda: fates(both, adata))
    step(
        "macrostates",
        lambda: cellrank.estimators.GPCCA(both).compute_macrostates(N_STATES, cluster_key="clusters"),
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    cellrank.settings.verbosity = scvelo.settings.verbosity = scanpy.settings.verbosity = 0
    main(*sys.argv[1:])
