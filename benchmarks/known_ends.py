"""Chains whose ends are known: the pancreas, and simulated trees after the whole way from counts to kernels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import scipy.sparse as sp

import jaxvelo as jv
from benchmarks.estimator_steps import transition_matrix

NESTED = ((("A", "B"), "C"), ("D", "E"))
TREES: dict[str, dict[str, Any]] = {
    "2 fates": {"n_branches": 2},
    "3 fates, one of 5 %": {"n_branches": 3, "fractions": (0.05, 0.35, 0.6)},
    "5 nested fates": {"tree": NESTED},
}
VELOCITY_WEIGHT = 0.8


class KnownEnds(NamedTuple):
    """A chain and its truth: the cluster of each cell, whether a cell may be an end, and the clusters that are ends.

    On the pancreas, all cells of the four clusters may; in a simulation those in the second half of their branch: a
    state at the beginning of a branch is no end, whatever the branch is called.
    """

    transitions: sp.csr_matrix
    clusters: np.ndarray
    may_end: np.ndarray
    ends: tuple[str, ...]


def pancreas() -> KnownEnds:
    """Read the pancreas and its reference matrix."""
    folder = Path(os.environ["JAXVELO_SHARED"]) / "reference"
    clusters = anndata.read_h5ad(folder / "pancreas_velocity.h5ad", backed="r").obs["clusters"].astype(str).to_numpy()
    matrix = transition_matrix(str(folder / "pancreas_kernels.npz"))
    return KnownEnds(matrix, clusters, np.ones(len(clusters), bool), ("Alpha", "Beta", "Delta", "Epsilon"))


def simulated(tree: dict[str, Any], n_cells: int, seed: int, n_genes: int = 200) -> KnownEnds:
    """Simulate cells on a tree, estimate their velocities from the counts and combine the kernels."""
    adata = jv.datasets.simulate(n_cells, n_genes, seed=seed, **tree)
    jv.pp.filter_and_normalize(adata, min_shared_counts=20, n_top_genes=2000, subset_highly_variable=False)
    jv.pp.neighbors(adata, 30, 30, random_state=seed)
    jv.pp.moments(adata)
    jv.tl.recover_dynamics(adata, show_progress_bar=False)
    jv.tl.velocity(adata, mode="dynamical")
    velocity = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    kernel = (VELOCITY_WEIGHT * velocity + (1 - VELOCITY_WEIGHT) * connectivity).compute_transition_matrix()
    clusters, hours = adata.obs["clusters"].astype(str).to_numpy(), adata.obs["true_time"].to_numpy()
    ends = tuple(adata.obs["lineage"].cat.categories)
    may_end = np.zeros(len(hours), bool)
    for end in ends:
        branch = clusters == end
        may_end |= branch & (hours > (hours[branch].min() + hours.max()) / 2)
    return KnownEnds(kernel.transition_matrix, clusters, may_end, ends)
