"""Published cells with ends that are known, ready for every kernel that they have data for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float

import jaxvelo as jv
from benchmarks.identified_ends import CLUSTERS, DAY, ENDS, TIME
from jaxvelo.dynamics import diffusion_pseudotime, first_moments, neighborhood_weights
from jaxvelo.graph import NeighborGraph

N_NEIGHBORS = 30


def pancreas(shared: Path) -> anndata.AnnData:
    """Cells of the pancreas: velocities of the dynamical model, diffusion pseudotime from a ductal cell."""
    stored = anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad")
    whole = anndata.read_h5ad(shared / "data" / "pancreas_3696.h5ad")
    expression = _log_normalized(whole.layers["spliced"])
    known = stored.obs["clusters"].astype(str).to_numpy()
    ductal = np.flatnonzero(known == "Ductal")
    root = int(ductal[np.argmin(stored.obsm["X_umap"][ductal, 0])])
    adata = _cells(expression, stored.obsp["connectivities"], known, ["Alpha", "Beta", "Delta", "Epsilon"])
    adata.var_names = whole.var_names
    adata.obs[TIME] = _from_root(adata, root)
    # Expression and velocity by the model, of its genes; the other genes serve CytoTRACE.
    places = adata.var_names.get_indexer(stored.var_names)
    adata.layers["velocity"] = np.full(adata.shape, np.nan, dtype=np.float32)
    adata.layers["velocity"][:, places] = stored.layers["velocity"]
    adata.layers["Ms"][:, places] = stored.layers["Ms"]
    return adata


def paul15(shared: Path) -> anndata.AnnData:
    """Progenitors of blood cells: slingshot's pseudotime, over both lineages.

    The ends are clusters 5 (neutrophils: *Elane*, *Gfi1*, *Cebpe*), 6 (erythrocytes: *Hba-a2*, *Klf1*) and 7
    (monocytes: *Irf8*, *Ly86*, *Csf1r*); slingshot takes the last ones to be on the way to the first.
    """
    counts = anndata.read_h5ad(shared / "data" / "paul15_2660.h5ad")
    expression = _log_normalized(counts.X)
    neighbors = anndata.AnnData(expression)
    jv.pp.neighbors(neighbors, n_neighbors=N_NEIGHBORS, n_pcs=30)
    known = counts.obs["cluster"].astype(str).to_numpy()
    adata = _cells(expression, neighbors.obsp["connectivities"], known, ["5", "6", "7"])
    weights, times = (
        counts.obs[[f"slingshot_{what}_curve{i}" for i in (1, 2)]].to_numpy(dtype=float) for what in ("w", "pt")
    )
    adata.obs[TIME] = (weights * times).sum(axis=1) / weights.sum(axis=1)
    return adata


def larry(shared: Path) -> anndata.AnnData:
    """Blood cells of three days, with couplings by optimal transport; the ends are the states of over 40 cells."""
    stored = anndata.read_h5ad(shared / "data" / "larry_781.h5ad")
    states, day = stored.obs["state_info"].astype(str).to_numpy(), stored.obs["time_info"].astype(float).to_numpy()
    ends = ["Baso", "Mast", "Monocyte", "Neutrophil"]
    adata = _cells(sp.csr_matrix(stored.X), stored.obsp["connectivities"], states, ends)
    adata.obsm["X_pca"] = np.asarray(stored.obsm["X_pca"])
    adata.obs[DAY] = pd.Categorical(day, np.unique(day), ordered=True)
    coupled = jv.kernels.RealTimeKernel(adata, DAY).compute_couplings().couplings
    assert coupled is not None
    for first, second in itertools.pairwise(np.unique(day)):
        adata.uns[f"{first:g}-{second:g}"] = np.asarray(coupled[first, second])
    early = np.flatnonzero((day == day.min()) & (states == "undiff"))
    center = adata.obsm["X_pca"][early].mean(axis=0)
    root = int(early[np.argmin(np.linalg.norm(adata.obsm["X_pca"][early] - center, axis=1))])
    adata.obs[TIME] = _from_root(adata, root)
    return adata


DATA = {"pancreas": pancreas, "paul15": paul15, "larry": larry}


def _cells(expression: Any, connectivities: Any, clusters: np.ndarray, ends: list[str]) -> anndata.AnnData:
    adata = anndata.AnnData(expression.astype(np.float32))
    adata.obs[CLUSTERS] = pd.Categorical(clusters)
    adata.obsp["connectivities"] = sp.csr_matrix(connectivities)
    adata.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "params": {"n_neighbors": N_NEIGHBORS, "method": "umap"},
    }
    adata.uns[ENDS] = ends
    adata.layers["Ms"] = first_moments(neighborhood_weights(adata.obsp["connectivities"]), adata.X)
    return adata


def _log_normalized(counts: Any) -> sp.csr_matrix:
    counts = sp.csr_matrix(counts).astype(np.float64)
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags_array(np.median(sizes) / np.maximum(sizes, 1)) @ counts).log1p()


def _from_root(adata: anndata.AnnData, root: int) -> Float[np.ndarray, " cells"]:
    graph = NeighborGraph.from_csr(adata.obsp["connectivities"])
    return np.asarray(diffusion_pseudotime(graph, graph.edges["connectivities"].values, root), dtype=float)
