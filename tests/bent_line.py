"""Cells on a bent line, with velocities along it: what most tests of kernels and fits look at."""

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

N_CELLS, N_GENES = 60, 41  # genes are padded to 42: padding must not leak


def make_cells() -> anndata.AnnData:
    """Cells along a bent line, each with 8 neighbours; velocities follow the line, with noise."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 3, N_CELLS)
    loadings = rng.normal(size=(3, N_GENES))
    path = np.stack([time, np.sin(time), np.cos(2 * time)], axis=1)
    slope = np.stack([np.ones_like(time), np.cos(time), -2 * np.sin(2 * time)], axis=1)
    expression = path @ loadings + 0.1 * rng.normal(size=(N_CELLS, N_GENES)) + 3
    velocity = slope @ loadings + 0.5 * rng.normal(size=(N_CELLS, N_GENES))
    ring = sum(sp.eye_array(N_CELLS, k=k) + sp.eye_array(N_CELLS, k=k - N_CELLS) for k in (1, 2, 3, 4))
    weights = sp.csr_array(ring)
    weights.data = rng.uniform(0.2, 1.0, weights.nnz)
    connectivities = sp.csr_matrix(weights + weights.T)
    assert (np.diff(connectivities.indptr) == 8).all()
    adata = anndata.AnnData(
        expression.astype(np.float32),
        obs=pd.DataFrame(
            {
                "clusters": pd.Categorical.from_codes((time * 0.99).astype(int), ["early", "middle", "late"]),
                "pseudotime": time / 3,
                "day": pd.Categorical(np.floor(time * 0.99)),
                "label": [f"group {int(t * 0.99)}" for t in time],
            },
            index=[f"cell_{i}" for i in range(N_CELLS)],
        ),
        var=pd.DataFrame({"chosen": np.arange(N_GENES) % 3 > 0}, index=[f"gene_{i}" for i in range(N_GENES)]),
        layers={"Ms": expression.astype(np.float32), "velocity": velocity.astype(np.float32)},
        obsm={
            "X_umap": (path[:, :2] + 0.05 * rng.normal(size=(N_CELLS, 2))).astype(np.float32),
            "X_umap3d": path + 0.05 * rng.normal(size=(N_CELLS, 3)),
            "X_pca": path @ rng.normal(size=(3, 5)) + 0.1 * rng.normal(size=(N_CELLS, 5)),
        },
        obsp={"connectivities": connectivities, "distances": connectivities.copy()},
        uns={"neighbors": {"connectivities_key": "connectivities", "distances_key": "distances", "params": {}}},
    )
    # Another graph on the same cells: fewer neighbours, some of them others.
    other = sum(sp.eye_array(N_CELLS, k=k) + sp.eye_array(N_CELLS, k=-k) for k in (1, 6))
    adata.obsp["other"] = sp.csr_matrix(other)
    adata.layers["velocity2"] = (velocity + rng.normal(size=velocity.shape)).astype(np.float32)
    return adata
