"""Fates against known ones, and the price of their gradients, as JSON on standard output.

Usage: ``python -m benchmarks.our_fates SECTION`` with the data under ``$JAXVELO_SHARED``.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxvelo as jv
from benchmarks.known_directions import convention
from jaxvelo.estimators import GPCCA, fate_uncertainty
from jaxvelo.markov import (
    Outcome,
    absorption_probabilities,
    absorption_times,
    coarse_grain,
    fate_scores,
    schur,
    stationary_distribution,
)
from jaxvelo.transitions import Features

TREES: dict[str, dict[str, Any]] = {
    "2 fates": {"n_branches": 2},
    "3 fates, one of 5 %": {"n_branches": 3, "fractions": (0.05, 0.35, 0.6)},
    "5 nested fates": {"tree": ((("A", "B"), "C"), ("D", "E"))},
}
N_CELLS, N_GENES, N_LAST = 500, 120, 8
LEVEL, N_DRAWS = 0.9, 24


class KnownFates(NamedTuple):
    """Cells with velocities and what is true of them.

    Attributes
    ----------
    adata
        The cells.
    fate
        Number of the fate of each cell, also before the branching, where nothing tells it.
    names
        Names of the fates.
    late
        Cells that may stand for an end.
    last
        Class of each terminal cell, -1 for all others.
    training
        Cells whose fates a fit may know; the others are scored, but for terminal cells.
    best
        The true probabilities, where they are known.
    """

    adata: anndata.AnnData
    fate: np.ndarray
    names: list[str]
    late: np.ndarray
    last: np.ndarray
    training: np.ndarray
    best: np.ndarray | None


def simulated(tree: dict[str, Any], seed: int = 0) -> KnownFates:
    """Cells on a tree, from counts to velocities; every other cell is for training."""
    adata = jv.datasets.simulate(N_CELLS, N_GENES, seed=seed, **tree)
    jv.pp.filter_and_normalize(adata, min_shared_counts=10, n_top_genes=2000, subset_highly_variable=False)
    jv.pp.neighbors(adata, 30, 30, random_state=seed)
    jv.pp.moments(adata)
    jv.tl.recover_dynamics(adata, show_progress_bar=False)
    jv.tl.velocity(adata, mode="dynamical")
    lineage, hours = adata.obs["lineage"].cat, adata.obs["true_time"].to_numpy()
    fate, names = lineage.codes.to_numpy().astype(int), list(lineage.categories)
    training = np.random.default_rng(seed).random(adata.n_obs) < 0.5
    best = np.asarray(adata.obsm["true_fate_probabilities"], dtype=float)
    return KnownFates(adata, fate, names, hours > 20, last_cells(fate, hours, len(names)), training, best)


def dyngen(vkey: str) -> KnownFates:
    """Eight simulations of one network, each with one fate: four for training, two of each fate."""
    adata = anndata.read_h5ad(Path(os.environ["JAXVELO_SHARED"]) / "data" / "truth_dyngen_branching.h5ad")
    if vkey == "velocity":
        jv.tl.velocity(adata, mode="stochastic")
    fates = adata.obs["true_fate"].astype("category").cat
    fate, hours = fates.codes.to_numpy().astype(int), adata.obs["true_time"].to_numpy()
    training = (adata.obs["simulation_i"] <= 4).to_numpy()
    last = last_cells(np.where(training, fate, -1), hours, len(fates.categories), 4 * N_LAST)
    return KnownFates(adata, fate, list(fates.categories), hours > 250, last, training, None)


def last_cells(fate: np.ndarray, hours: np.ndarray, n_fates: int, count: int = N_LAST) -> np.ndarray:
    """The latest cells of each fate, by the number of the fate; -1 for all others."""
    terminal = np.full(len(fate), -1)
    for number in range(n_fates):
        cells = np.flatnonzero(fate == number)
        terminal[cells[np.argsort(hours[cells])[-count:]]] = number
    return terminal


def scored(truth: KnownFates, probabilities: np.ndarray) -> dict[str, Any]:
    """Scores on the cells that no fit has seen."""
    cells = ~truth.training & (truth.last < 0)
    found = fate_scores(np.asarray(probabilities)[cells], truth.fate[cells])
    table = found.reliability
    return {
        "log_score": found.log_score,
        "accuracy": found.accuracy,
        "brier": found.brier,
        "ece": found.calibration_error,
        "reliability": {
            "predicted": np.nansum(table.predicted * table.n_cells, axis=0).tolist(),
            "observed": np.nansum(table.observed * table.n_cells, axis=0).tolist(),
            "n_cells": table.n_cells.sum(axis=0).tolist(),
        },
    }


def of_known_ends(truth: KnownFates, kernel: Any) -> np.ndarray:
    """Fates with the last cells as terminal states."""
    found = absorption_probabilities(kernel.transition_matrix, truth.last, len(truth.names))
    assert found.outcome == Outcome.SOLVED, Outcome(int(found.outcome)).explanation
    return found.probabilities


def of_found_ends(truth: KnownFates, kernel: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Fates with the terminal states that the estimator finds by itself, each counted for the fate of its cells."""
    estimator = GPCCA(kernel)
    estimator.compute_macrostates([len(truth.names), 2 * len(truth.names) + 2], n_cells=N_LAST)
    estimator.predict_terminal_states(n_cells=N_LAST)
    estimator.compute_fate_probabilities()
    states = estimator.terminal_states
    codes = states.cat.codes.to_numpy()
    probabilities = np.zeros((len(codes), len(truth.names)))
    found, early = set(), 0
    for name, number in zip(states.cat.categories, range(len(states.cat.categories)), strict=True):
        cells = codes == number
        fate = int(np.bincount(truth.fate[cells], minlength=len(truth.names)).argmax())
        probabilities[:, fate] += estimator.fate_probabilities[:, name].X.ravel()
        if truth.late[cells].mean() > 0.5:
            found.add(fate)
        else:
            early += 1
    return probabilities, {"states": len(states.cat.categories), "fates_found": len(found), "early": early}


def contenders(truth: KnownFates, vkey: str) -> dict[str, Any]:
    """The convention, and kernels that are fitted to the fates of the training cells, or to no fates."""
    kernel = convention(truth.adata, vkey)
    known = {
        name: truth.training & (truth.last < 0) & (truth.fate == number) for number, name in enumerate(truth.names)
    }
    ends = {name: truth.last == number for number, name in enumerate(truth.names)}
    fates = jv.objectives.FateLikelihood(truth.adata, known, ends)
    rest = {"steps": 60, "patience": 10, "progress": False}
    of_fates = jv.tl.fit_kernel(kernel, fates, **rest)
    held_out = jv.objectives.HeldOutVelocity(truth.adata, vkey=vkey)
    of_velocities = jv.tl.fit_kernel(kernel, held_out, train=["scale"], **rest)
    return {
        "convention": (kernel, None),
        "fitted to fates: scale and weight": (of_fates.kernel, of_fates),
        "fitted to held-out velocities: scale": (of_velocities.kernel, of_velocities),
    }


def compared(truth: KnownFates, vkey: str = "velocity") -> dict[str, Any]:
    """Scores of all contenders, with given and with found terminal states, beside those of the prior alone."""
    began = time.perf_counter()
    share = np.bincount(truth.fate[truth.training], minlength=len(truth.names)) / truth.training.sum()
    found: dict[str, Any] = {"prior alone": {"given": scored(truth, np.tile(share, (len(truth.fate), 1)))}}
    if truth.best is not None:
        found["true probabilities"] = {"given": scored(truth, truth.best)}
    for name, (kernel, fit) in contenders(truth, vkey).items():
        found[name] = {"given": scored(truth, of_known_ends(truth, kernel))}
        try:
            probabilities, ends = of_found_ends(truth, kernel)
            found[name]["found"] = {**scored(truth, probabilities), **ends}
        except (ArithmeticError, ValueError) as error:
            found[name]["found"] = {"failed": str(error)}
        parameters = (fit.parameters if fit is not None else {}) | {}
        shown = {key: np.asarray(value).tolist() for key, value in parameters.items() if key != "gene_weights"}
        found[name]["parameters"] = shown or {"softmax_scale": kernel.kernels[0].params["softmax_scale"]}
        print(name, found[name]["given"]["log_score"], time.perf_counter() - began, file=sys.stderr)
    return {"scores": found, "seconds": time.perf_counter() - began, "cells": len(truth.fate)}


def coverage() -> dict[str, Any]:
    """How often intervals hold the fates of the kernel without errors in the velocities, and those of the cells.

    The trees' seed and those of the errors are none of those by which the intervals' formula was chosen.
    """
    cells = [simulated(TREES[name], seed=1) for name in ("2 fates", "3 fates, one of 5 %")]
    found: dict[str, Any] = {}
    for method, size in (("monte_carlo", 0.25), ("monte_carlo", 0.5), ("monte_carlo", 1.0), ("linear", 0.05)):
        for shared in (True, False):
            # Errors of all cells at once are one observation of few numbers: more of them.
            parts = [held(truth, method, size, shared, n_seeds=12 if shared else 5) for truth in cells]
            kernel, of_cells, width = (np.concatenate(each) for each in zip(*parts, strict=True))
            name = f"{method}, {size}, {'shared by all cells' if shared else 'of each cell'}"
            found[name] = {
                "held": float(kernel.mean()),
                "error": float(np.sqrt(sum(part[0].var(ddof=1) / part[0].size for part in parts)) / len(parts)),
                "of_cells": float(of_cells.mean()),
                "width": float(width.mean()),
            }
            print(name, found[name], time.process_time(), file=sys.stderr)
    return found


def held(truth: KnownFates, method: str, size: float, shared: bool, n_seeds: int) -> tuple[np.ndarray, ...]:
    """Parts of the intervals that hold the kernel's fates and the cells', and median width, for each seed of errors."""
    kernel = convention(truth.adata)
    scale = kernel.kernels[0].params["softmax_scale"]
    velocity = np.asarray(truth.adata.layers["velocity"])
    used = truth.adata.var["velocity_genes"].to_numpy()
    errors = np.broadcast_to(np.where(used, size * np.nanstd(velocity, axis=0), 0), velocity.shape)
    exact, free = of_known_ends(truth, kernel), truth.last < 0
    adata, rows = truth.adata.copy(), []
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    for seed in range(n_seeds):
        noise = np.random.default_rng(seed).normal(size=(1 if shared else len(velocity), velocity.shape[1]))
        adata.layers["velocity"] = (velocity + errors * noise).astype(np.float32)
        noisy = jv.kernels.VelocityKernel(adata).compute_transition_matrix(softmax_scale=scale)
        noisy = 0.8 * noisy + 0.2 * connectivity
        u = fate_uncertainty(noisy, truth.last, truth.names, errors, method, LEVEL, N_DRAWS, shared, seed=seed)
        inside = [((u.lower <= fates) & (fates <= u.upper))[free].mean() for fates in (exact, truth.best)]
        rows.append((*inside, np.median((u.upper - u.lower)[free])))
    return tuple(np.array(rows).T)


def gradients() -> dict[str, Any]:
    """Seconds of values on the pancreas kernel, and of values with all gradients, measured in turn."""
    folder = Path(os.environ["JAXVELO_SHARED"]) / "reference"
    adata = anndata.read_h5ad(folder / "pancreas_velocity.h5ad")
    kernel = convention(adata)
    with np.load(folder / "pancreas_estimators.npz") as stored:
        names, states = stored["fate/names"].tolist(), stored["fate/terminal_states"].astype(str)
    terminal = jnp.asarray(np.array([names.index(state) if state in names else -1 for state in states]))
    ((name, features),) = kernel.features.items()
    mix = jnp.asarray(np.random.default_rng(0).normal(size=(adata.n_obs, len(names))), features.v.dtype)

    def transitions(argument, graph, features):
        function, v = argument
        return function(graph, {name: Features(features.x, v, features.n_genes)})

    def fates(argument, graph, features, terminal, mix):
        found = absorption_probabilities(transitions(argument, graph, features), terminal, len(names))
        return jnp.sum(mix * found.probabilities)

    def times(argument, graph, features, terminal, mix):
        mean = absorption_times(transitions(argument, graph, features), terminal, len(names)).mean
        return jnp.sum(mix * jnp.where(jnp.isfinite(mean), mean, 0))

    def long_run(argument, graph, features, terminal, mix):
        return jnp.sum(mix[:, 0] * stationary_distribution(transitions(argument, graph, features)))

    def macrostates(argument, graph, features, terminal, mix):
        return coarse_grain(schur(transitions(argument, graph, features), 5), 4).crispness

    arguments = ((kernel.transition_function, features.v), kernel.graph, features, terminal, mix)
    found: dict[str, Any] = {}
    for function in (fates, times, long_run, macrostates):
        ways = (eqx.filter_jit(function), eqx.filter_jit(eqx.filter_value_and_grad(function)))
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(6):
            for way, taken in zip(ways, seconds, strict=True):
                began = time.perf_counter()
                jax.block_until_ready(way(*arguments))
                taken.append(time.perf_counter() - began)
        value, both = (statistics.median(taken[1:]) for taken in seconds)
        found[function.__name__] = {"value": value, "with_gradient": both}
        print(function.__name__, value, both, both / value, file=sys.stderr)
    return found


SECTIONS = {
    **{name: (lambda tree=tree: compared(simulated(tree))) for name, tree in TREES.items()},
    "dyngen, estimated velocities": lambda: compared(dyngen("velocity")),
    "dyngen, true velocities": lambda: compared(dyngen("true_velocity"), "true_velocity"),
    "coverage": coverage,
    "gradients": gradients,
}

if __name__ == "__main__":
    jv.settings.verbosity = "error"
    print(json.dumps(SECTIONS[sys.argv[1]]()))
