"""The default device against the CPU of the same machine: times, and how far the results are apart.

Usage: ``python -m benchmarks.accelerator FILE.h5ad [--json FILE]``

``FILE`` is the pancreas data with moments, velocities, neighbours and clusters (``reference/pancreas_velocity.h5ad``
under ``$JAXVELO_SHARED``). Both run in processes of their own, one after the other, in single precision.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxvelo as jv
from benchmarks import records
from benchmarks.known_directions import CLUSTERS, TRANSITIONS, convention
from benchmarks.pure_kernels import mixed_loss
from benchmarks.timing import run, seconds, text
from jaxvelo.markov import random_walks
from jaxvelo.transitions import Velocity, evaluate_velocity

STEPS = {
    "kernel": "`VelocityKernel` → transition matrix (CSR), automatic scale",
    "stochastic": "the same, stochastic model",
    "monte_carlo": "the same, Monte Carlo model, 1,000 samples",
    "pure": "the deterministic model, pure function",
    "value": "a loss of 0.8/0.2 with `ConnectivityKernel`",
    "gradient": "the same with its gradient (scale, weights, gene weights)",
    "walks": "10,000 random walks of 200 steps",
    "fit": "`fit_kernel`, 200 steps, scale and weights",
    "fit_genes": "the same with gene weights",
    "dynamics": "`recover_dynamics`, all genes",
}
MEASURE = "measure"


def measure(file: str, out: str) -> dict[str, Any]:
    """Times of the first and of further calls on the device of this process; results go to ``out``."""
    jv.settings.verbosity = "error"
    adata = anndata.read_h5ad(file)
    device = jax.block_until_ready(jnp.zeros(1)).devices().pop()
    result: dict[str, Any] = {"device": device.device_kind, "cores": os.cpu_count()}

    def timed(name: str, function: Callable[[], Any], repeats: int) -> Any:
        began = time.perf_counter()
        value = function()
        jax.block_until_ready(value)
        first = time.perf_counter() - began
        result[name] = {"first": first, **seconds(lambda: jax.block_until_ready(function()), repeats, warm_up=0)}
        return value

    def matrix(**options: Any) -> Any:
        return jv.kernels.VelocityKernel(adata).compute_transition_matrix(**options).transition_matrix

    found = {
        "kernel": timed("kernel", matrix, 11),
        "stochastic": timed("stochastic", lambda: matrix(model="stochastic"), 5),
        "monte_carlo": timed("monte_carlo", lambda: matrix(model="monte_carlo", seed=0), 3),
    }
    found = {name: values.toarray() for name, values in found.items()}
    both = convention(adata).compute_transition_matrix()
    graph, (features,) = both.kernels[0].graph, both.kernels[0].features.values()
    transition_function = Velocity()
    timed("pure", lambda: evaluate_velocity(transition_function, graph, features), 31)

    mixed, loss = mixed_loss(graph.n_cells, features.x.shape[1])
    value, gradient = eqx.filter_jit(loss), eqx.filter_jit(eqx.filter_value_and_grad(loss))
    timed("value", lambda: value(mixed, graph, {"velocity": features}), 31)
    timed("gradient", lambda: gradient(mixed, graph, {"velocity": features}), 31)

    start, key = jnp.arange(10_000) % graph.n_cells, jax.random.key(0)
    timed("walks", lambda: random_walks(both.transitions, start, key, 200), 5)

    objective = jv.objectives.CrossBoundary(adata, TRANSITIONS, CLUSTERS)

    def fit(*train: str) -> None:
        jv.tl.fit_kernel(both, objective, train=train, penalty=0.3, patience=None, progress=False)

    timed("fit", lambda: fit("scale", "weights"), 3)
    timed("fit_genes", lambda: fit("scale", "weights", "gene_weights"), 1)
    timed("dynamics", lambda: jv.tl.recover_dynamics(adata, var_names="all", show_progress_bar=False), 3)
    fitted = adata.var
    found["ratio"] = np.log(fitted["fit_gamma"] / (fitted["fit_beta"] * fitted["fit_scaling"])).to_numpy()
    found["residual"] = fitted["fit_residual"].to_numpy()
    np.savez(out, **found)
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return result if peak is None else result | {"memory": peak}


def differences(here: Path, there: Path) -> dict[str, float]:
    """How far results on the device are from those on the CPU."""
    with np.load(here) as a, np.load(there) as b:
        result = {name: float(np.max(np.abs(a[name] - b[name]))) for name in ("kernel", "stochastic", "monte_carlo")}
        ratio = np.abs(a["ratio"] - b["ratio"])
        result |= {f"ratio_{q}": float(np.nanquantile(ratio, q)) for q in (0.5, 0.9)}
        return result | {"residual": float(np.nanmedian(a["residual"] / b["residual"]))}


def rows(found: dict[str, Any]) -> list[str]:
    """Lines of the table."""
    device, cpu, apart = found["device"], found["cpu"], found["differences"]
    memory = f", at most {device['memory'] / 2**20:.0f} MiB of the device in use" if "memory" in device else ""
    lines = [
        f"{device['device']} and the {cpu['cores']} cores beside it, float32, pancreas; medians of warm calls, in "
        f"brackets the first one{memory}.",
        "",
        "| step | device | CPU | ratio |",
        "|---|---|---|---|",
    ]
    for name, label in STEPS.items():
        here, there = device[name], cpu[name]
        ratio = there["median"] / here["median"]
        cells = [f"{text(times['median'])} ({text(times['first'])})" for times in (here, there)]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | {ratio:.{0 if ratio > 10 else 1}f}× |")
    return [
        *lines,
        "",
        f"Largest difference of probabilities: {apart['kernel']:.0e}, stochastic {apart['stochastic']:.0e}, "
        f"Monte Carlo {apart['monte_carlo']:.0e}; of log γ/β of the genes, median {apart['ratio_0.5']:.0e} and 90 % "
        f"within {apart['ratio_0.9']:.0e}; ratio of their distances to the cells, median {apart['residual']:.5f}.",
    ]


def main() -> None:
    """Measure both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        results = {name: Path(folder) / f"{name}.npz" for name in ("device", "cpu")}
        for name, out in results.items():
            environment = {**os.environ, "JAX_ENABLE_X64": "0"} | ({"JAX_PLATFORMS": "cpu"} if name == "cpu" else {})
            command = [sys.executable, "-m", "benchmarks.accelerator", MEASURE, str(arguments.file.resolve()), str(out)]
            found[name] = run(command, env=environment)
            print(name, json.dumps(found[name]), file=sys.stderr)
        found["differences"] = differences(results["device"], results["cpu"])
    records.keep(arguments.json, found)
    print(*rows(found), sep="\n")


if __name__ == "__main__":
    if sys.argv[1:2] == [MEASURE]:
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        main()
