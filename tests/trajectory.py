"""Simulated cells with known times, and what the dynamical model would have found in them."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.spatial import cKDTree

import jaxvelo as jv
from tests.dynamics import plain


def with_neighbors(adata, features, n_neighbors=10):
    """Nearest neighbours of each cell: distances, directed; and connectivities, symmetric."""
    distance, index = cKDTree(features).query(features, n_neighbors + 1)
    row = np.repeat(np.arange(len(features)), n_neighbors)
    # Duplicates of a cell may come before it: it is taken out by number and not by place.
    other = [(d[i != cell][:n_neighbors], i[i != cell][:n_neighbors]) for cell, (d, i) in enumerate(zip(distance, index, strict=True))]  # fmt: skip  # noqa: E501
    value, column = (np.concatenate(parts) for parts in zip(*other, strict=True))
    shape = (len(features), len(features))
    adata.obsp["distances"] = sp.csr_matrix((value, (row, column)), shape=shape)
    pattern = sp.csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
    adata.obsp["connectivities"] = sp.csr_matrix(pattern.maximum(pattern.T))
    adata.uns["neighbors"] = {"params": {"n_neighbors": n_neighbors}}
    return adata


def simulated(n_cells=200, n_genes=40, n_branches=1, noise=0.2, seed=0):
    """Simulated cells with velocities, neighbours and times of each gene; every eighth gene has no fit.

    A gene's clock starts when it is switched on (or off, if it was always on), as in a fit, with noise that is a
    fraction ``noise`` of the whole time, and runs at the gene's own pace.
    """
    full = jv.datasets.simulate(n_cells, n_genes, n_branches, seed=seed)
    layers = {"Ms": full.layers["true_spliced"], "Mu": full.layers["true_unspliced"]}
    layers["velocity"] = full.layers["true_velocity"].copy()
    adata = type(full)(full.X, obs=full.obs.copy(), var=pd.DataFrame(index=full.var_names), layers=layers)
    rng = np.random.default_rng(seed)
    start = np.where(np.isfinite(full.varm["true_on"]), full.varm["true_on"], full.varm["true_off"])
    start = np.where(np.isfinite(start), start, 0.0).min(axis=1)
    time = adata.obs["true_time"].to_numpy()[:, None] + noise * 24 * (rng.random((n_cells, n_genes)) - 0.5)
    times = (time - start) % 30 * rng.uniform(0.5, 2, n_genes)
    likelihood = rng.uniform(0.05, 0.6, n_genes)
    unfitted = np.arange(n_genes) % 8 == 3
    times[:, unfitted], likelihood[unfitted] = np.nan, np.nan
    adata.layers["velocity"][:, unfitted] = np.nan
    adata.layers["fit_t"] = times
    adata.var["fit_likelihood"] = likelihood
    adata.var["velocity_genes"] = ~unfitted
    return with_neighbors(adata, np.log1p(adata.layers["Ms"]))


def two_parts():
    """Two trajectories of 100 cells that are not connected, and in the first of them a cell by itself."""
    parts = [simulated(100, 32, seed=seed) for seed in (0, 1)]
    adata = ad.concat(parts, index_unique="-", keys=["a", "b"], label="part", merge="first")
    graphs = {key: sp.block_diag([part.obsp[key] for part in parts], format="lil") for key in parts[0].obsp}
    for graph in graphs.values():
        graph[3], graph[:, 3] = 0, 0
    adata.obsp.update({key: sp.csr_matrix(graph) for key, graph in graphs.items()})
    jv.tl.velocity_graph(adata)
    return adata


def genes_of(adata):
    return adata.var["velocity_genes"].to_numpy()


def plain_graph(adata, n_steps=2):
    """Correlations with the neighbours within two steps; dense."""
    genes = genes_of(adata)
    x, v = (adata.layers[key][:, genes].astype(float) for key in ("Ms", "velocity"))
    step = (adata.obsp["distances"] > 0).toarray() + np.eye(adata.n_obs)
    reached = np.linalg.matrix_power(step, n_steps) > 0
    return plain.correlations(x, v, reached & ~np.eye(adata.n_obs, dtype=bool))


def halves(adata):
    """The earlier and the later cells of a trajectory as groups."""
    adata.obs["half"] = pd.Categorical(np.where(adata.obs["true_time"] < 12, "early", "late"))
    return adata


def part_of(adata, group, key="half"):
    """The cells of a group by themselves, with what stands between them."""
    cells = (adata.obs[key] == group).to_numpy()
    part = adata[cells].copy()
    for name in ("velocity_graph", "velocity_graph_neg"):
        part.uns[name] = sp.csr_matrix(adata.uns[name])[cells][:, cells]
    return part
