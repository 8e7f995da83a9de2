"""What jaxvelo's dynamical model takes and finds, as JSON on standard output; each in a process of its own.

Usage::

    python -m benchmarks.our_dynamics bare FILE OUT         # the pancreas data without its fit and velocities
    python -m benchmarks.our_dynamics cold FILE OUT.npz     # first fit of a process, kept
    python -m benchmarks.our_dynamics warm FILE             # further fits, and what they compile
    python -m benchmarks.our_dynamics grow CELLS GENES      # time and memory on made cells
    python -m benchmarks.our_dynamics distances FILE NPZ…   # of fits and of the one stored in FILE, to the cells
    python -m benchmarks.our_dynamics simulate FOLDER SEED  # cells with known rates
    python -m benchmarks.our_dynamics truth FOLDER          # our fits to them, and the score of all that are there
    python -m benchmarks.our_dynamics directions FILE NPZ   # of our velocities, and of scVelo's in FILE
    python -m benchmarks.our_dynamics whole FILE OUT        # from moments to kernels, written for the peers
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import jax
import numpy as np
import psutil

import jaxvelo as jv
from benchmarks import splicing_truth
from benchmarks.timing import seconds
from jaxvelo.annotated.entries import layer_names

# Imports are no part of what is timed, and lazy ones happen here.
RECOVER = jv.tl.recover_dynamics
LIMIT = 24 << 30


def bare(file: str, out: str) -> dict[str, Any]:
    """Write the data as it is before any model is fitted: nobody starts from results."""
    adata = anndata.read_h5ad(file)
    adata.var = adata.var[[]]
    for layer in ("velocity", "fit_t"):
        del adata.layers[layer]
    adata.write_h5ad(out)
    return {"cells": adata.n_obs, "genes": adata.n_vars}


def cold(file: str, out: str) -> dict[str, Any]:
    """Fit, compilation included; velocities are computed and all is stored, as in the peers' processes."""
    result, taken = splicing_truth.fit_ours(anndata.read_h5ad(file))
    np.savez(out, **result, seconds=taken)
    return {"seconds": taken}


def warm(file: str) -> dict[str, Any]:
    """Time fits after the first one, and count what data of another size compiles."""
    adata = anndata.read_h5ad(file)
    times = seconds(lambda: RECOVER(adata.copy(), var_names="all"), repeats=3)
    parts = {
        "similar": adata[: int(0.99 * adata.n_obs), : int(0.99 * adata.n_vars)].copy(),
        "other": adata[: int(0.6 * adata.n_obs), : int(0.7 * adata.n_vars)].copy(),
    }
    first = programs(lambda: RECOVER(adata.copy(), var_names="all"))
    counts = {name: programs(lambda part=part: RECOVER(part, var_names="all")) for name, part in parts.items()}
    return {"times": times, "programs": {"same": first, **counts}}


def programs(function: Callable[[], Any]) -> int:
    """Number of programs that a call compiles."""
    import logging

    class Counter(logging.Handler):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.count += record.getMessage().startswith("Finished XLA compilation")

    # At the top of JAX's loggers, below which nothing is printed then.
    counter, logger = Counter(), logging.getLogger("jax")
    logger.addHandler(counter)
    propagate, logger.propagate = logger.propagate, False
    try:
        with jax.log_compiles():
            function()
    finally:
        logger.removeHandler(counter)
        logger.propagate = propagate
    return counter.count


def grow(n_cells: str, n_genes: str) -> dict[str, Any]:
    """Time of a first and of a second fit, and the largest resident memory above that of the process with its input."""
    from benchmarks.large_splicing import make

    # Out of memory, this process fails with a message, instead of another one being killed by the system.
    limit = min(LIMIT, psutil.virtual_memory().available - (1 << 30))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    adata = make(int(n_cells), int(n_genes))
    inputs = sum(adata.layers[name].nbytes for name in ("Mu", "Ms"))
    jax.block_until_ready(jax.numpy.zeros(1))  # the backend's own memory is not the model's
    before = psutil.Process().memory_info().rss
    times = []
    for _ in range(2):
        began = time.perf_counter()
        RECOVER(adata, var_names="all")
        times.append(time.perf_counter() - began)
        if len(times) == 1:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results = sum(adata.layers[name].nbytes for name in layer_names(adata) if name not in ("Mu", "Ms"))
    return {
        "first": times[0],
        "second": times[1],
        "inputs": inputs,
        "results": results,
        "peak": peak,
        "above_input": peak - before,
    }


def distances(file: str, *fits: str) -> dict[str, Any]:
    """Distance of the cells from the curves of each fit, against scVelo's stored ones."""
    from benchmarks.curve_distance import mean_squared_distance

    adata = anndata.read_h5ad(file)
    stored = {name: adata.var[name].to_numpy(dtype=float) for name in adata.var if name.startswith("fit_")}
    std = stored["fit_std_u"], stored["fit_std_s"]
    theirs = mean_squared_distance(adata.layers["Mu"], adata.layers["Ms"], stored, std)
    result: dict[str, Any] = {"scvelo_stored": {"median": float(np.median(theirs))}}
    for fit in fits:
        with np.load(fit) as arrays:
            found = mean_squared_distance(adata.layers["Mu"], adata.layers["Ms"], arrays, std)
        # A gene without a fit is worse than one with any.
        ratio = np.where(np.isfinite(found), found, np.inf) / theirs
        worst = np.argsort(-ratio)[:10]
        result[Path(fit).stem.removeprefix("pancreas_")] = {
            "not_worse": float(np.mean(ratio <= 1 + 1e-6)),
            "median_ratio": float(np.median(ratio)),
            "quantiles": {str(q): float(np.quantile(ratio, q, method="higher")) for q in (0.05, 0.25, 0.75, 0.95)},
            "median": float(np.nanmedian(found)),
            "without_fit": int(np.sum(~np.isfinite(found))),
            "worst": {str(adata.var_names[gene]): float(ratio[gene]) for gene in worst},
        }
    return result


def simulate(folder: str, seed: str) -> dict[str, Any]:
    """Write each scenario's cells, preprocessed once for all methods."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for scenario in splicing_truth.SCENARIOS:
        adata = splicing_truth.prepare(splicing_truth.simulate(scenario, seed=int(seed)))
        adata.write_h5ad(Path(folder) / f"{scenario}.h5ad")
    return {}


def truth(folder: str) -> dict[str, Any]:
    """Fit ours to each scenario, and score all methods on the genes that all of them have fitted."""
    result = {}
    for scenario in splicing_truth.SCENARIOS:
        adata = anndata.read_h5ad(Path(folder) / f"{scenario}.h5ad")
        fit, taken = splicing_truth.fit_ours(adata)
        np.savez(Path(folder) / f"{scenario}_jaxvelo.npz", **fit, seconds=taken)
        found = splicing_truth.read_results(Path(folder), scenario)
        table = splicing_truth.compare(adata, found)
        scores = table.astype(object).where(table.notna(), None).to_dict(orient="index")
        for method, arrays in found.items():
            scores[method]["seconds"] = float(arrays["seconds"])
        result[scenario] = scores
    return result


def directions(file: str, fit: str) -> dict[str, Any]:
    """Agreement of our velocities, and of those that scVelo left in the file, with what is known of the pancreas."""
    from benchmarks.known_directions import agreement, standard_errors

    theirs = anndata.read_h5ad(file)
    ours = theirs.copy()
    with np.load(fit) as arrays:
        ours.layers["velocity"] = arrays["velocity"]
        ours.var["velocity_genes"] = arrays["velocity_genes"].astype(bool)
    return {
        "jaxvelo": agreement(ours),
        "scvelo": agreement(theirs),
        "standard_errors": standard_errors(ours, theirs),
    }


def whole(file: str, out: str) -> dict[str, Any]:
    """Write all that jaxvelo adds to the data, with default arguments; transition matrices under CellRank's keys."""
    adata = anndata.read_h5ad(file)
    RECOVER(adata)
    jv.tl.velocity(adata, mode="dynamical")
    jv.tl.velocity_graph(adata)
    jv.tl.velocity_pseudotime(adata)
    jv.tl.latent_time(adata)
    # What scVelo's functions compute with default arguments.
    as_scvelo = jv.tl.velocity_pseudotime(adata, end_key="end_points", power=1, copy=True)
    jv.tl.latent_time(as_scvelo, n_iterations=0)
    for key in ("velocity_pseudotime", "latent_time"):
        adata.obs[f"{key}_as_scvelo"] = as_scvelo.obs[key]
    jv.tl.velocity_confidence(adata)
    with jax.enable_x64(True):  # CellRank computes in double precision
        forward = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
        backward = jv.kernels.VelocityKernel(adata, backward=True).compute_transition_matrix()
        connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
        forward.write_to_adata()
        backward.write_to_adata()
        (0.8 * forward + 0.2 * connectivity).compute_transition_matrix().write_to_adata("combined")
    adata.write_h5ad(out)
    return {"velocity_genes": int(adata.var["velocity_genes"].sum())}


STEPS = {
    "bare": bare,
    "cold": cold,
    "warm": warm,
    "grow": grow,
    "distances": distances,
    "simulate": simulate,
    "truth": truth,
    "directions": directions,
    "whole": whole,
}

if __name__ == "__main__":
    jv.settings.verbosity = "error"
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
