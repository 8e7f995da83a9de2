"""The velocity kernel of many cells in memory, and its floor: a line of JSON for each step on standard output.

Usage: ``python -m benchmarks.our_large_kernel kernel FOLDER`` or ``... floor FOLDER``, where
``benchmarks.our_growth`` has left layers and the graph
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import anndata
import h5py
import jax
import numpy as np
import pandas as pd
import scipy.sparse as sp

import jaxvelo as jv
from benchmarks.our_growth import GRAPH
from benchmarks.step_costs import step

PIECE = 1 << 28


def kernel(folder: str) -> None:
    """Compute the kernel of the layers in the folder, all in memory."""

    def read() -> anndata.AnnData:
        connectivities = sp.load_npz(Path(folder) / GRAPH)
        layers = {}
        for key in ("Ms", "velocity"):
            with h5py.File(Path(folder) / f"{key}.h5") as stored:
                layers[key] = stored["layers"][key][:]
        n_cells, n_genes = layers["Ms"].shape
        names = pd.RangeIndex(n_cells).astype(str), pd.RangeIndex(n_genes).astype(str)
        adata = anndata.AnnData(obs=pd.DataFrame(index=names[0]), var=pd.DataFrame(index=names[1]))
        for key, layer in layers.items():
            adata.layers[key] = layer
        adata.obsp["connectivities"] = connectivities
        adata.uns["neighbors"] = {"connectivities_key": "connectivities"}
        return adata

    adata = step("read layers", read)
    velocity = step("velocity kernel, in memory", lambda: jv.kernels.VelocityKernel(adata).compute_transition_matrix())
    step("velocity kernel, in memory, once more", velocity.compute_transition_matrix)


def floor(folder: str) -> None:
    """Print the bandwidth of copies by all cores and of one reading of the layers, in bytes a second, and the edges."""
    n_threads = os.cpu_count() or 1
    parts = [np.ones(PIECE // 4, np.float32) for _ in range(2 * n_threads)]
    copies = [threading.Thread(target=_copy, args=parts[2 * k : 2 * k + 2]) for k in range(n_threads)]
    start = time.perf_counter()
    for thread in copies:
        thread.start()
    for thread in copies:
        thread.join()
    bandwidth = n_threads * _TIMES * 2 * PIECE / (time.perf_counter() - start)
    files = [Path(folder) / f"{key}.h5" for key in ("Ms", "velocity")]
    start = time.perf_counter()
    for file in files:
        with open(file, "rb", buffering=0) as stored:
            os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # not from memory
            while stored.read(PIECE):
                pass
    reading = time.perf_counter() - start
    with h5py.File(files[0]) as stored:
        n_genes = stored["layers"]["Ms"].shape[1]
    n_edges = sp.load_npz(Path(folder) / GRAPH).nnz
    found = {"bandwidth": bandwidth, "reading": reading, "edges": n_edges, "bytes": n_edges * n_genes * 4}
    print(json.dumps({"step": "floor", **found}), flush=True)


_TIMES = 10


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for _ in range(_TIMES):
        np.copyto(target, source)


if __name__ == "__main__":
    jv.settings.verbosity = "error"
    jax.block_until_ready(jax.numpy.zeros(1))
    {"kernel": kernel, "floor": floor}[sys.argv[1]](*sys.argv[2:])
