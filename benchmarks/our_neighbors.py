"""One cold call of ``jaxvelo.pp.neighbors``, or its recall, as JSON on standard output.

Usage: ``python -m benchmarks.our_neighbors FILE.npy cold|recall``
"""

from __future__ import annotations

import json
import sys
import time

import anndata
import numpy as np


def read(file: str) -> anndata.AnnData:
    """Cells whose principal components are in the file."""
    x = np.load(file)
    return anndata.AnnData(np.zeros((len(x), 1), np.float32), obsm={"X_pca": x})


def cold(file: str) -> dict[str, float]:
    """Import and compute once."""
    adata = read(file)
    start = time.perf_counter()
    import jaxvelo as jv

    jv.settings.verbosity = "error"
    jv.pp.neighbors(adata, n_neighbors=30, use_rep="X_pca")
    return {"in_process": time.perf_counter() - start}


def recall(file: str, n_sample: int = 2000) -> dict[str, float]:
    """Share of the true neighbours that are found, of some cells."""
    import jaxvelo as jv

    jv.settings.verbosity = "error"
    adata = read(file)
    jv.pp.neighbors(adata, n_neighbors=30, use_rep="X_pca")
    x = adata.obsm["X_pca"].astype(float)
    found = adata.obsp["distances"]
    # Another sample than the one by which the search measures itself.
    sample = np.random.default_rng(12345).choice(len(x), n_sample, replace=False)
    shares = []
    for cell in sample:
        distances = np.linalg.norm(x - x[cell], axis=1)
        distances[cell] = np.inf
        truth = np.argpartition(distances, 29)[:29]
        shares.append(np.isin(truth, found.indices[found.indptr[cell] : found.indptr[cell + 1]]).mean())
    return {"recall": float(np.mean(shares))}


if __name__ == "__main__":
    name, what = sys.argv[1:]
    print(json.dumps(cold(name) if what == "cold" else recall(name)))
