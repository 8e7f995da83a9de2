"""Cells in a file whose layers are to stay there."""

from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp


def cells_on_a_ring(n_cells=120, n_genes=20, seed=0, raw=False) -> ad.AnnData:
    """Counts of cells that cycle, normalised or raw, each with the next three and the last three as its neighbours."""
    rng = np.random.default_rng(seed)
    angle = rng.permutation(n_cells) * 2 * np.pi / n_cells
    phase = rng.random(n_genes) * 2 * np.pi
    layers = {}
    for name, shift, rate in (("spliced", 0.0, 6.0), ("unspliced", 0.5, 2.0)):
        counts = rng.poisson(rate * (1 + np.cos(angle[:, None] - phase + shift))).astype(np.float32)
        size = counts.sum(axis=1, keepdims=True)
        layers[name] = sp.csr_matrix(counts if raw else counts * (np.median(size) / size))
    adata = ad.AnnData(layers["spliced"].copy(), layers=layers)
    adata.obs_names, adata.var_names = ([f"{p}{i}" for i in range(n)] for p, n in (("c", n_cells), ("g", n_genes)))
    turn = np.abs(angle[:, None] - angle) * n_cells / (2 * np.pi)
    near = np.minimum(turn, n_cells - turn)
    adata.obsp["connectivities"] = sp.csr_matrix(np.where((near > 0.5) & (near < 3.5), 1 / (1 + near), 0))
    return adata


def written(adata: ad.AnnData, path: Path) -> Path:
    """Write to h5ad, or to zarr, as the name says."""
    if path.suffix == ".zarr":
        with ad.settings.override(zarr_write_format=3):
            adata.write_zarr(path)
    else:
        adata.write_h5ad(path)
    return path
