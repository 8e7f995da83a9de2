"""Transition matrices of the reference data."""

from dataclasses import dataclass

import anndata as ad
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.transitions import Connectivity, Velocity


@dataclass(frozen=True)
class Reference:
    adata: ad.AnnData
    results: dict[str, np.ndarray]
    transitions: dict[str, TransitionMatrix]


def _load(shared, name):
    adata = ad.read_h5ad(shared / f"reference/{name}_velocity.h5ad")
    with np.load(shared / f"reference/{name}_kernels.npz") as stored:
        results = {key: stored[key] for key in stored if key.startswith(("projection/", "cbc/"))}
    velocity = adata.layers["velocity"]
    genes = adata.var["velocity_genes"].to_numpy() & ~np.isnan(velocity).any(axis=0)
    x, v = (jnp.asarray(adata.layers[key][:, genes], dtype=float) for key in ("Ms", "velocity"))
    graph = NeighborGraph.from_csr(adata.obsp["connectivities"].astype(np.float64))
    kernels = {"velocity": Velocity(), "combined": 0.8 * Velocity() + 0.2 * Connectivity()}
    return Reference(adata, results, {key: kernel(graph, x, v) for key, kernel in kernels.items()})


@pytest.fixture(scope="session")
def pancreas(shared):
    """Pancreatic endocrinogenesis, 3,696 cells."""
    return _load(shared, "pancreas")


@pytest.fixture(scope="session")
def small(shared):
    """Dentate gyrus, 100 cells."""
    return _load(shared, "small")
