"""Velocities, rates and times of jaxvelo, scVelo or scvelo-rs on prepared data; runs in the environment of any of them.

Usage: ``velocities_and_times.py FILE.h5ad MODULE dynamical|curve|stochastic|deterministic OUT.npz``

The three have the same functions, so that one script serves all. ``FILE`` has moments and a neighbour graph. All genes
are fitted. ``curve`` is jaxvelo's dynamical model without the choice of a model for each gene. Writes plain arrays, and
prints the seconds that the model took and the module's version as JSON:

- ``velocity`` of shape (cells, genes), NaN where a gene has none;
- ``log_ratio``: log(gamma / beta) of the dynamical model, with the scaling of unspliced counts taken out; of the other
  models, the logarithm of the slope of unspliced to spliced counts at steady state, of which that scaling is a part;
- ``log_ratio_se``: its standard error, NaN without; ``converged``: 1 where the module says that a gene's fit has, or
  says nothing about it and there is a fit;
- ``pseudotime``, and ``latent_time`` (dynamical) of the cells; NaN if the call failed.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from typing import Any

import anndata
import numpy as np


def main(file: str, name: str, mode: str, out: str) -> dict[str, object]:
    """Fit, estimate, store."""
    warnings.simplefilter("ignore")
    module = importlib.import_module(name)
    ours = name == "jaxvelo"
    module.settings.verbosity = "error" if ours else 0
    adata = anndata.read_h5ad(file)
    start = time.perf_counter()
    fits = mode in ("dynamical", "curve")
    if fits:
        # Only ours knows standard errors; scvelo-rs brings genes to 20 units of time only if asked.
        options = {"jaxvelo": {"standard_errors": True}, "scvelo": {"n_jobs": 2}, "scvelo_rs": {"t_max": 20}}[name]
        module.tl.recover_dynamics(adata, var_names="all", show_progress_bar=False, **options)
    module.tl.velocity(adata, mode="dynamical" if fits else mode, **({"model": "curve"} if mode == "curve" else {}))
    seconds = time.perf_counter() - start
    result = rates(adata.var, mode) | {"velocity": np.asarray(adata.layers["velocity"], dtype=np.float32)}

    failed = {}
    quiet = {} if ours else {"n_jobs": 1, "show_progress_bar": False}
    module.tl.velocity_graph(adata, **quiet)
    calls = {"pseudotime": (module.tl.velocity_pseudotime, "velocity_pseudotime")}
    if fits:
        calls["latent_time"] = (module.tl.latent_time, "latent_time")
    for key, (function, column) in calls.items():
        try:
            function(adata)
            result[key] = adata.obs[column].to_numpy(dtype=float)
        except Exception as error:  # what is there of the others is not lost
            failed[key] = f"{type(error).__name__}: {error}"
            result[key] = np.full(adata.n_obs, np.nan)
    np.savez(out, **result, seconds=seconds)
    return {"seconds": seconds, "version": module.__version__, "failed": failed}


def rates(var: Any, mode: str) -> dict[str, np.ndarray]:
    """Ratio of degradation to splicing, its standard error, and whether the fit has converged."""
    if mode not in ("dynamical", "curve"):
        ratio = var["velocity_gamma"].to_numpy(dtype=float)
        error, converged = np.full(len(var), np.nan), ratio > 0
    else:
        by_evidence = mode == "dynamical" and "fit_ratio" in var
        ratio = var["fit_ratio"] if by_evidence else var["fit_gamma"] / (var["fit_beta"] * var["fit_scaling"])
        ratio = ratio.to_numpy(dtype=float)
        missing, of_error = np.full(len(var), np.nan), "fit_log_ratio_se" if by_evidence else "fit_log_gamma_se"
        error = var[of_error].to_numpy(dtype=float) if of_error in var else missing
        converged = np.isfinite(ratio)
        if "fit_status" in var:
            converged &= (var["fit_status"].astype(str) == "converged").to_numpy()
    log_ratio = np.log(ratio, out=np.full(len(var), np.nan), where=ratio > 0)
    return {"log_ratio": log_ratio, "log_ratio_se": error, "converged": converged.astype(float)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
