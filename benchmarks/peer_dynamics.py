"""Dynamical model of scVelo or scvelo-rs on prepared data; runs in the peers' environment.

Usage: ``peer_dynamics.py FILE.h5ad scvelo|scvelo_rs OUT.npz``

Writes plain arrays and the seconds that ``recover_dynamics`` took; prints the latter and the version as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings

import anndata
import numpy as np

# As in splicing_truth.py, which cannot be imported here: it needs jaxvelo.
COLUMNS = ("fit_alpha", "fit_beta", "fit_gamma", "fit_t_", "fit_scaling", "fit_likelihood", "velocity_genes")
LAYERS = ("fit_t", "velocity")


def main(file: str, method: str, out: str) -> dict[str, object]:
    """Fit all genes, then store."""
    warnings.simplefilter("ignore")
    peer = importlib.import_module(method)
    peer.settings.verbosity = 1
    adata = anndata.read_h5ad(file)
    # scVelo brings all genes to 20 units of time by default; scvelo-rs does so only if asked.
    options = {"t_max": 20} if method == "scvelo_rs" else {}
    start = time.perf_counter()
    peer.tl.recover_dynamics(adata, var_names="all", n_jobs=2, show_progress_bar=False, **options)
    seconds = time.perf_counter() - start
    peer.tl.velocity(adata, mode="dynamical")
    columns = {name: np.asarray(adata.var[name], dtype=float) for name in COLUMNS}
    layers = {name: np.asarray(adata.layers[name], dtype=np.float32) for name in LAYERS}
    np.savez(out, **columns, **layers, seconds=seconds)
    return {"seconds": seconds, "version": peer.__version__}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
