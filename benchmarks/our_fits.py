"""What fits find on data with known fates, and how long they take, as JSON on standard output.

Usage: ``python -m benchmarks.our_fits SECTION`` with the data under ``$JAXVELO_SHARED``.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import anndata
import jax
import jax.numpy as jnp
import numpy as np

import jaxvelo as jv
from benchmarks import fits_outside_labels
from benchmarks.known_directions import TRANSITIONS, convention
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.markov import Outcome, absorption_probabilities, fate_scores

FATES = {"C": ["sBmid -> sC", "sC -> sEndC"], "D": ["sBmid -> sD", "sD -> sEndD"]}
BAD_STARTS = [
    {"softmax_scale": 1.0, "weights": 0.5},
    {"softmax_scale": 60.0, "weights": 0.95},
    {"softmax_scale": 2.0, "weights": 0.1},
]
N_FOLDS, N_REPETITIONS = 5, 3


def read(name: str) -> anndata.AnnData:
    """Read a file with velocities."""
    return anndata.read_h5ad(Path(os.environ["JAXVELO_SHARED"]) / "reference" / name)


@functools.cache
def dyngen() -> anndata.AnnData:
    """The simulated bifurcation."""
    return read("dyngen_bifurcating_velocity.h5ad")


def fates(adata: anndata.AnnData, shuffle: int | None = None) -> Any:
    """Objective of the known fates; with the labels of the cells shuffled, if asked for."""
    late = (adata.obs["time"] > 0.8).to_numpy()
    terminal = {fate: (adata.obs["lineage"] == lineages[1]).to_numpy() & late for fate, lineages in FATES.items()}
    labels = {fate: adata.obs["lineage"].isin(lineages).to_numpy() for fate, lineages in FATES.items()}
    if shuffle is not None:
        scored = np.flatnonzero((labels["C"] | labels["D"]) & ~(terminal["C"] | terminal["D"]))
        order = np.random.default_rng(shuffle).permutation(scored)
        labels = {fate: _moved(mask, scored, order) for fate, mask in labels.items()}
    return jv.objectives.FateLikelihood(adata, labels, terminal)


def _moved(mask: np.ndarray, to: np.ndarray, of: np.ndarray) -> np.ndarray:
    moved = mask.copy()
    moved[to] = mask[of]
    return moved


def metrics(kernel: Any, objective: Any, held_out: np.ndarray) -> dict[str, float]:
    """Negative log-likelihood, accuracy, and expected gain of true time per step, on held-out cells."""
    transitions = kernel.transitions
    solution = absorption_probabilities(transitions, objective.terminal, objective.n_fates)
    assert solution.outcome == Outcome.SOLVED, Outcome(int(solution.outcome)).explanation
    cell, fate = np.asarray(objective.cell), np.asarray(objective.fate)
    chosen = held_out[cell]
    scores = fate_scores(np.asarray(solution.probabilities)[cell[chosen]], fate[chosen])
    hours = kernel.adata.obs["global_time"].to_numpy()
    gain = kernel.transition_matrix @ hours - hours
    return {
        "nll": -scores.log_score,
        "accuracy": scores.accuracy,
        "time_gain": float(gain[cell[chosen]].mean()),
    }


def folds(objective: Any, n_cells: int) -> list[np.ndarray]:
    """Masks of the held-out cells: five folds, three times."""
    cells, masks = np.asarray(objective.cell), []
    for repetition in range(N_REPETITIONS):
        order = np.random.default_rng(repetition).permutation(cells)
        for fold in range(N_FOLDS):
            mask = np.zeros(n_cells, dtype=bool)
            mask[order[fold::N_FOLDS]] = True
            masks.append(mask)
    return masks


def starts() -> dict[str, Any]:
    """From bad starts to the best of a grid of 8 scales and 6 weights, on the same cells."""
    adata = dyngen()
    kernel, objective = convention(adata), fates(adata)
    grid = jv.tl.sweep_kernel(kernel, objective)
    alone, with_equal, steps = [], [], []
    for start in BAD_STARTS:
        # As by default, beside a start from equal weights.
        pair = [start, {"weights": 0.5}]
        fit = jv.tl.fit_kernel(kernel, objective, starts=pair, validation=None, patience=None, progress=False)
        losses = fit.history["loss"]
        alone.append(float(losses[:, 0].min()))
        with_equal.append(float(losses.min()))
        steps.append(int(np.argmax(losses.min(axis=1) <= 1.001 * grid.losses.min())))
    return {
        "grid": float(grid.losses.min()),
        "grid_at": grid.best,
        "convention": fit.scores["training_convention"],
        "fits": with_equal,
        "fits_of_that_start_alone": alone,
        "steps_to_grid": steps,
        "scale": float(fit.parameters["softmax_scale"]),
        "weights": fit.parameters["weights"].tolist(),
        "scale_se": float(fit.standard_errors["softmax_scale"]),
    }


def crossval() -> dict[str, Any]:
    """Held-out scores of convention, best of a grid, fitted scale and weight, and fitted gene weights."""
    adata = dyngen()
    kernel, objective = convention(adata), fates(adata)
    known = np.zeros(adata.n_obs, dtype=bool)
    known[np.asarray(objective.cell)] = True
    scores: dict[str, list[dict[str, float]]] = {}
    penalties, genes = [], np.zeros(len(kernel.kernels[0].genes))
    began = time.perf_counter()
    for held_out in folds(objective, adata.n_obs):
        rest = {"validation": held_out, "progress": False, "patience": 20}
        contenders = {
            "convention 0.8/0.2, automatic scale": kernel,
            "best of an 8 × 6 grid": jv.tl.sweep_kernel(kernel, objective, cells=known & ~held_out).kernel,
            "fitted scale and weight": jv.tl.fit_kernel(kernel, objective, **rest).kernel,
        }
        fit = jv.tl.fit_kernel(kernel, objective, train=("scale", "weights", "gene_weights"), steps=60, **rest)
        contenders["fitted scale, weight and gene weights"] = fit.kernel
        penalties.append(fit.penalty)
        genes += np.log(fit.parameters["gene_weights"]) / (N_FOLDS * N_REPETITIONS)
        for name, contender in contenders.items():
            scores.setdefault(name, []).append(metrics(contender, objective, held_out))
        print(len(penalties), penalties[-1], {n: s[-1]["nll"] for n, s in scores.items()}, file=sys.stderr)
    order = np.argsort(-genes)[:10]
    names = kernel.kernels[0].genes
    return {
        "scores": scores,
        "penalties": penalties,
        "genes": [(str(names[i]), float(np.exp(genes[i] - np.median(genes)))) for i in order],
        "seconds": time.perf_counter() - began,
    }


def more() -> dict[str, Any]:
    """Further things to fit, five folds once: weights for each cell, scale by lineage, two kinds of velocity."""
    adata = dyngen().copy()
    jv.tl.velocity(adata, vkey="steady", mode="stochastic")
    objective = fates(adata)
    kernel = convention(adata)
    both = 0.4 * kernel.kernels[0] + 0.4 * jv.kernels.VelocityKernel(adata, vkey="steady").compute_transition_matrix()
    both = both + 0.2 * kernel.kernels[1]
    wishes = {
        "weight of each cell, smooth on the graph": (kernel, {"scale": True, "weights": "smooth"}),
        "two kinds of velocity": (both, {"scale": True, "weights": True}),
        "two kinds of velocity, gene weights": (both, {"scale": True, "weights": True, "gene_weights": True}),
        "sparse gene weights": (kernel, {"scale": True, "weights": True, "gene_weights": "sparse"}),
    }
    scores: dict[str, list[dict[str, float]]] = {}
    for held_out in folds(objective, adata.n_obs)[:N_FOLDS]:
        for name, (start, train) in wishes.items():
            steps = 60 if "gene_weights" in train else 200
            fit = jv.tl.fit_kernel(start, objective, train=train, steps=steps, validation=held_out, progress=False)
            scores.setdefault(name, []).append(metrics(fit.kernel, objective, held_out))
            print(name, scores[name][-1], fit.penalty, file=sys.stderr)
    return {"scores": scores}


def unlabelled() -> dict[str, Any]:
    """The scale that velocities of unseen genes pick, and the scales that labels pick."""
    result = {}
    adata = dyngen()
    cases = {"bifurcation": (adata, fates(adata))}
    pancreas = read("pancreas_velocity.h5ad")
    cases["pancreas"] = (pancreas, jv.objectives.CrossBoundary(pancreas, TRANSITIONS, "clusters"))
    for name, (data, labels) in cases.items():
        kernel = convention(data)
        picked = jv.tl.fit_kernel(
            kernel, jv.objectives.HeldOutVelocity(data), train=["scale"], validation=0.2, progress=False
        )
        scales = np.geomspace(1, 128, 29)
        best = jv.tl.sweep_kernel(kernel, labels, scales, weights=[0.8])
        at = jv.tl.sweep_kernel(
            kernel,
            labels,
            [float(picked.parameters["softmax_scale"]), float(picked.convention["softmax_scale"])],
            weights=[0.8],
        )
        result[name] = {
            "automatic": float(picked.convention["softmax_scale"]),
            "picked": float(picked.parameters["softmax_scale"]),
            "best_by_labels": best.best[0],
            "loss_best": float(best.losses.min()),
            "loss_picked": float(at.losses[0, 0]),
            "loss_automatic": float(at.losses[1, 0]),
            "held_out": picked.scores,
        }
    return result


def noise() -> dict[str, Any]:
    """The fitted weight of the velocity as noise is added to the velocities, the scale held fixed."""
    source = dyngen()
    velocity = source.layers["velocity"][:, source.var["velocity_genes"]]
    spread = velocity.std(axis=0, keepdims=True)
    scale = convention(source).kernels[0].params["softmax_scale"]
    weights = {}
    for level in (0.0, 1.0, 4.0, 8.0, 16.0, 32.0):
        weights[str(level)] = []
        for seed in range(3):
            adata = source.copy()
            rng = np.random.default_rng(seed)
            noisy = velocity + level * spread * rng.normal(size=velocity.shape)
            adata.layers["velocity"][:, adata.var["velocity_genes"]] = noisy
            kernel = jv.kernels.VelocityKernel(adata).compute_transition_matrix(softmax_scale=scale)
            kernel = 0.8 * kernel + 0.2 * jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
            fit = jv.tl.fit_kernel(
                kernel, fates(adata), train=["weights"], validation=0.2, starts=2, steps=200, seed=seed, progress=False
            )
            weights[str(level)].append(float(fit.parameters["weights"][0]))
    return weights


def shuffle() -> dict[str, Any]:
    """Held-out loss with shuffled labels: not below that of guessing by the frequencies of the training cells."""
    adata = dyngen()
    kernel = convention(adata)
    train = ("scale", "weights", "gene_weights")
    scores = []
    for seed in range(3):
        objective = fates(adata, shuffle=seed)
        fit = jv.tl.fit_kernel(kernel, objective, train=train, steps=60, seed=seed, progress=False)
        cell, fate = np.asarray(objective.cell), np.asarray(objective.fate)
        frequencies = np.bincount(fate[fit.training[cell]], minlength=2) / fit.training[cell].sum()
        guess = -np.log(frequencies[fate[fit.validation[cell]]]).mean()
        scores.append({**fit.scores, "guess": float(guess), "penalty": fit.penalty})
    return {"scores": scores}


def pancreas(train: str) -> dict[str, Any]:
    """Two hundred steps on four known transitions, compilation included: run it in a process of its own."""
    adata = read("pancreas_velocity.h5ad")
    kernel = convention(adata)
    objective = jv.objectives.CrossBoundary(adata, TRANSITIONS, "clusters")
    wishes = ["scale", "weights"] + (["gene_weights"] if train == "genes" else [])
    times, fit = [], None
    for _ in range(2):
        began = time.perf_counter()
        fit = jv.tl.fit_kernel(kernel, objective, train=wishes, penalty=0.3, patience=None, progress=False)
        times.append(time.perf_counter() - began)
    return {"cold": times[0], "warm": times[1], "scores": fit.scores, "scale": float(fit.parameters["softmax_scale"])}


def gradients() -> dict[str, Any]:
    """Relative error of gradients against central differences of fourth order; run it at float64."""
    source = dyngen()
    adata = source[np.random.default_rng(0).permutation(source.n_obs)[:300]].copy()
    jv.pp.neighbors(adata, n_neighbors=15)
    kernel = convention(adata)
    objectives = {
        "CrossBoundary": jv.objectives.CrossBoundary(
            adata, [("sBmid -> sC", "sC -> sEndC"), ("sBmid -> sD", "sD -> sEndD")], "lineage"
        ),
        "FateLikelihood": fates(adata),
        "FutureLikelihood": jv.objectives.FutureLikelihood(
            adata, future=adata.obs["time"].to_numpy()[None] > adata.obs["time"].to_numpy()[:, None] + 0.2, steps=4
        ),
        "TimeGain": jv.objectives.TimeGain(adata, "global_time"),
        "HeldOutVelocity": jv.objectives.HeldOutVelocity(adata, n_splits=2),
    }
    errors: dict[str, dict[str, float]] = {}
    for name, objective in objectives.items():
        for way, train in {
            "one": {"scale": True, "weights": True, "gene_weights": True},
            "by level": {"scale": "lineage", "weights": "lineage"},
            "smooth": {"scale": "smooth", "weights": "smooth"},
        }.items():
            problem = KernelProblem.of(kernel, objective, train, 0).problem
            everywhere = jnp.ones((1, adata.n_obs))
            loss = jax.jit(lambda p, problem=problem, cells=everywhere: problem.on_cells(p, cells)[0])
            errors.setdefault(name, {}).update(
                {
                    f"{part}, {way}": error
                    for part, error in _relative_errors(loss, problem.parametrization.start()).items()
                }
            )
    return {"errors": errors}


def _relative_errors(loss: Any, start: Any, step: float = 1e-3) -> dict[str, float]:
    """Error of the gradient along a random direction of each leaf, relative to the size of the gradient there."""
    gradient = jax.grad(loss)(start)
    leaves, structure = jax.tree.flatten(start)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(start)]
    rng = np.random.default_rng(0)
    errors = {}
    for i, (name, slope) in enumerate(zip(names, jax.tree.leaves(gradient), strict=True)):
        direction = rng.normal(size=leaves[i].shape)
        direction /= np.linalg.norm(direction)
        values = [
            float(
                loss(jax.tree.unflatten(structure, [*leaves[:i], leaves[i] + k * step * direction, *leaves[i + 1 :]]))
            )
            for k in (-2, -1, 1, 2)
        ]
        expected = np.dot(values, [1, -8, 8, -1]) / (12 * step)
        size = max(abs(expected), float(jnp.linalg.norm(slope)) / np.sqrt(direction.size))
        errors[name] = abs(float(jnp.sum(slope * direction)) - expected) / size
    return errors


SECTIONS = {
    "gradients": gradients,
    "starts": starts,
    "crossval": crossval,
    "more": more,
    "unlabelled": unlabelled,
    "noise": noise,
    "shuffle": shuffle,
    "pancreas_scalars": functools.partial(pancreas, "scalars"),
    "pancreas_genes": functools.partial(pancreas, "genes"),
    "outside": fits_outside_labels.outside,
    "wrong_labels": fits_outside_labels.wrong_labels,
    "by_simulation": fits_outside_labels.by_simulation,
    "coverage": fits_outside_labels.coverage,
    "clones": fits_outside_labels.clones,
    "example_times": fits_outside_labels.example_times,
}

if __name__ == "__main__":
    jv.settings.verbosity = "error"
    print(json.dumps(SECTIONS[sys.argv[1]]()))
