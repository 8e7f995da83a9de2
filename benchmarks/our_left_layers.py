"""What is computed of the layers that ``benchmarks.our_growth`` has left: a line of JSON for each step.

Usage: ``python -m benchmarks.our_left_layers kernel FOLDER LIMIT``, the velocity kernel in memory, ``... floor FOLDER
LIMIT``, what it cannot go below, or ``... dynamics FOLDER LIMIT``, the dynamical model on disk
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
from jaxvelo.graph._aligned import empty_aligned

PIECE, N_FITTED = 1 << 28, 64
_TIMES = 10


def read(folder: str, keys: tuple[str, ...], in_memory: bool) -> anndata.AnnData:
    """Cells and genes with some of the layers and the graph."""
    layers = {}
    for key in keys:
        stored = h5py.File(Path(folder) / f"{key}.h5")["layers"][key]
        layers[key] = stored
        if in_memory:  # as `jaxvelo.read` does
            layers[key] = empty_aligned(stored.shape, stored.dtype)
            stored.read_direct(layers[key])
    n_cells, n_genes = layers[keys[0]].shape
    names = pd.RangeIndex(n_cells).astype(str), pd.RangeIndex(n_genes).astype(str)
    adata = anndata.AnnData(obs=pd.DataFrame(index=names[0]), var=pd.DataFrame(index=names[1]))
    for key, layer in layers.items():
        adata.layers[key] = layer
    adata.obsp["connectivities"] = sp.load_npz(Path(folder) / GRAPH)
    adata.uns["neighbors"] = {"connectivities_key": "connectivities"}
    return adata


def kernel(folder: str, limit: str) -> None:
    """Compute the kernel in memory."""
    adata = step("read layers", lambda: read(folder, ("Ms", "velocity"), True))
    velocity = step("velocity kernel, in memory", lambda: jv.kernels.VelocityKernel(adata).compute_transition_matrix())
    step("velocity kernel, in memory, once more", velocity.compute_transition_matrix)


def dynamics(folder: str, limit: str) -> None:
    """Fit some genes, which are in a file by themselves, and compute their velocities."""
    file = Path(folder) / "some_genes.h5ad"
    read(folder, ("Ms", "Mu"), False)[:, :N_FITTED].to_memory().write_h5ad(file)
    adata = jv.read(file, backed=True)
    fit = {"var_names": "all", "memory_limit": limit, "show_progress_bar": False}
    step(f"dynamical model of {N_FITTED} genes", lambda: jv.tl.recover_dynamics(adata, **fit))
    step("velocities of these genes", lambda: jv.tl.velocity(adata, mode="dynamical", memory_limit=limit))


def floor(folder: str, limit: str) -> None:
    """Print the bandwidth of copies by all cores and of one reading of the layers, in bytes a second, and the edges."""
    bandwidth = copied_per_second()
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


def copied_per_second() -> float:
    """Bytes that all cores together read and write in a second when they copy."""
    n_threads = os.cpu_count() or 1
    parts = [np.ones(PIECE // 4, np.float32) for _ in range(2 * n_threads)]
    copies = [threading.Thread(target=_copy, args=parts[2 * k : 2 * k + 2]) for k in range(n_threads)]
    start = time.perf_counter()
    for thread in copies:
        thread.start()
    for thread in copies:
        thread.join()
    return n_threads * _TIMES * 2 * PIECE / (time.perf_counter() - start)


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for _ in range(_TIMES):
        np.copyto(target, source)


if __name__ == "__main__":
    jv.settings.verbosity = "error"
    jax.block_until_ready(jax.numpy.zeros(1))
    {"kernel": kernel, "floor": floor, "dynamics": dynamics}[sys.argv[1]](*sys.argv[2:])
