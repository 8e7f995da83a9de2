"""Every step from counts to fates, once, in jaxvelo: a line of JSON for each on standard output.

Usage: ``python -m benchmarks.our_growth simulate CELLS GENES FILE.h5ad``, ``... in_memory FILE`` or
``... streamed FILE FOLDER LIMIT``, with layers on disk in a folder, and so much memory for what is read of them
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anndata
import jax
import numpy as np
import scipy.sparse as sp

import jaxvelo as jv
from benchmarks.step_costs import step

N_NEIGHBORS, N_STATES = 30, 4
LATE = 0.98
GRAPH = "connectivities.npz"


def in_memory(file: str) -> None:
    """Read the counts and go all the way."""
    steps(step("read", lambda: anndata.read_h5ad(file)), {})


def streamed(file: str, folder: str, limit: str) -> None:
    """The same with layers on disk, in a folder that then also has the graph."""
    jv.settings.layerdir = folder
    adata = step("read", lambda: jv.read(file, backed=True))
    steps(adata, {"memory_limit": limit})
    sp.save_npz(Path(folder) / GRAPH, adata.obsp["connectivities"], compressed=False)


def steps(adata: anndata.AnnData, limit: dict[str, Any]) -> None:
    """Go from counts to fates. Times are those of first calls, with what is compiled."""
    step("normalise", lambda: jv.pp.filter_and_normalize(adata))
    step("principal components and neighbours", lambda: jv.pp.neighbors(adata, n_neighbors=N_NEIGHBORS))
    step("moments", lambda: jv.pp.moments(adata, **limit))
    step("velocity, deterministic", lambda: jv.tl.velocity(adata, mode="deterministic", **limit))
    if not limit:  # on disk, counts are read once for every few genes, and velocities take as much room as the others
        step("velocity, stochastic", lambda: jv.tl.velocity(adata, vkey="stochastic", mode="stochastic"))
        del adata.layers["stochastic"], adata.layers["variance_stochastic"]
    adata.var["velocity_genes"] = True  # all of them, so that every size has as many
    velocity = step("velocity kernel", lambda: jv.kernels.VelocityKernel(adata).compute_transition_matrix(**limit))
    step("velocity kernel, once more", lambda: velocity.compute_transition_matrix(**limit))
    similar = step("connectivity kernel", lambda: jv.kernels.ConnectivityKernel(adata).compute_transition_matrix())
    both = step("combination", lambda: (0.8 * velocity + 0.2 * similar).compute_transition_matrix())
    del velocity, similar
    step("projection", lambda: both.add_projection("umap"))
    step("fates", lambda: fates(jv.estimators.GPCCA(both), adata))
    step("macrostates", lambda: jv.estimators.GPCCA(both).compute_macrostates(N_STATES, cluster_key="clusters"))


def fates(estimator, adata: anndata.AnnData) -> None:
    """Fates of all cells, where the last cells of each lineage are terminal."""
    hours, lineage = adata.obs["true_time"].to_numpy(), adata.obs["lineage"].to_numpy()
    late = hours > LATE * hours.max()
    ends = {name: adata.obs_names[late & (lineage == name)].tolist() for name in np.unique(lineage)}
    estimator.set_terminal_states(ends)
    estimator.compute_fate_probabilities()


def simulate(n_cells: str, n_genes: str, file: str) -> None:
    """Write counts."""
    step("simulate", lambda: jv.datasets.simulate(int(n_cells), int(n_genes), true_layers=False, path=file))


if __name__ == "__main__":
    jv.settings.verbosity = "error"
    jax.block_until_ready(jax.numpy.zeros(1))  # the device's start is nobody's step
    {"simulate": simulate, "in_memory": in_memory, "streamed": streamed}[sys.argv[1]](*sys.argv[2:])
