"""One cold call of ``scanpy.pp.neighbors``, as JSON on standard output; runs in the peers' environment.

Usage: ``peer_neighbors.py FILE.npy``
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time

import anndata
import numpy as np


def main(file: str) -> dict[str, object]:
    """Import and compute once."""
    x = np.load(file)
    adata = anndata.AnnData(np.zeros((len(x), 1), np.float32), obsm={"X_pca": x})
    start = time.perf_counter()
    import scanpy as sc

    try:
        sc.pp.neighbors(adata, n_neighbors=30, use_rep="X_pca")
    except Exception as error:  # with pynndescent 0.7, for example, above 8,192 cells
        return {"error": f"{type(error).__name__}: {error}", "version": importlib.metadata.version("scanpy")}
    return {"in_process": time.perf_counter() - start, "version": importlib.metadata.version("scanpy")}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
