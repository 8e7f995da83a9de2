"""How well effects of silenced genes name the genes behind each fate, and how often they name genes without effect.

Usage: ``python -m benchmarks.perturbation [--seeds 0,1,2] [--cells 1000] [--json FILE]``

*Ranking*: area under the ROC curve (AUROC, 0.5 by chance) of the genes behind each fate among all genes of the kernel,
mean over fates and seeds. On simulated branches these are the genes that are switched on in the branch, on simulated
networks the factors that decide for the fate and those that follow (three of a hundred genes). Genes are ranked by

- ``correlation``: of expression with the fate (drivers);
- ``effect``, ``score``: of silencing to first order (:func:`jaxvelo.tl.perturb_genes`), by how much less likely the
  fate becomes; ``exact``: the same with all fates computed anew; ``p-value``: of genes that make it less likely;
- ``consistency``: how consistently more velocity of the gene leads to the fate, of the same backward pass.

All from velocities of the steady-state model, and from true ones (with true molecules as expression).

*Genes without effect*: beside the genes of simulated branches, as many more whose expression and velocity are noise,
averaged over neighbours so many times, each by itself: part of them with a p-value up to 0.05; by shuffled genes, and
for comparison by velocities shuffled over the cells.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Float
from scipy.stats import rankdata

import jaxvelo as jv
from benchmarks import records
from jaxvelo.estimators import GPCCA, fate_gradient
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel

DATA = {
    "2 branches": {"n_branches": 2},
    "3 branches": {"n_branches": 3},
    "network, 2 fates": {"n_branches": 2},
    "network, 3 fates": {"n_branches": 3},
}
VELOCITIES = {"estimated": ("Ms", "velocity"), "true": ("true_spliced", "true_velocity")}
RANKINGS = ("correlation", "effect", "exact", "score", "p-value", "consistency")
N_ENDS, N_SHUFFLES = 30, 200
SMOOTHED = (1, 5, 30)


def prepared(name: str, n_cells: int, seed: int) -> AnnData:
    """Simulate cells, estimate their velocities, and mark the last ones of each lineage as terminal."""
    if name.startswith("network"):
        adata = jv.datasets.simulate_network(n_cells, 100, seed=seed, **DATA[name])
    else:
        adata = jv.datasets.simulate(n_cells, 200, seed=seed, **DATA[name])
    jv.pp.filter_and_normalize(adata, min_shared_counts=20, n_top_genes=2000, subset_highly_variable=False)
    jv.pp.neighbors(adata, 30, 30, random_state=seed)
    jv.pp.moments(adata)
    jv.tl.velocity(adata, mode="stochastic")
    lineages = sorted(adata.obs["lineage"].cat.categories)
    codes, time = np.full(adata.n_obs, -1), adata.obs["true_time"].to_numpy()
    for number, lineage in enumerate(lineages):
        cells = np.flatnonzero(adata.obs["lineage"] == lineage)
        codes[cells[np.argsort(-time[cells])[:N_ENDS]]] = number
    adata.obs["term_states_fwd"] = pd.Categorical.from_codes(codes, lineages)
    return adata


def kernel_of(adata: AnnData, xkey: str, vkey: str) -> Any:
    """Combine the kernels of velocities and neighbours."""
    velocity = VelocityKernel(adata, xkey=xkey, vkey=vkey).compute_transition_matrix()
    return 0.8 * velocity + 0.2 * ConnectivityKernel(adata).compute_transition_matrix()


def behind(program: pd.Series, lineage: str) -> Bool[np.ndarray, " genes"]:
    """Which genes are behind a fate."""
    letter = lineage.removeprefix("Fate ")
    return program.isin([f"{kind} {letter}" for kind in ("fate", "deciding", "middle", "late")]).to_numpy()


def auroc(score: Float[np.ndarray, " genes"], truth: Bool[np.ndarray, " genes"]) -> float:
    """Probability that a true gene has a larger score than another one; NaN scores are the smallest."""
    ranks = rankdata(np.where(np.isnan(score), -np.inf, score))
    n = truth.sum()
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * (~truth).sum()))


def ranking(adata: AnnData, xkey: str, vkey: str) -> dict[str, float]:
    """Mean AUROC over the fates, by what genes are ranked by."""
    kernel = kernel_of(adata, xkey, vkey)
    genes = list(kernel.kernels[0].genes)
    estimator = GPCCA(kernel)
    states = adata.obs["term_states_fwd"]
    names = list(states.cat.categories)
    estimator.set_terminal_states({name: list(adata.obs_names[states == name]) for name in names})
    estimator.compute_fate_probabilities()
    drivers = estimator.compute_lineage_drivers(layer=xkey).loc[genes]
    table = jv.tl.perturb_genes(kernel, genes)
    found = defaultdict(list)
    for name in names:
        truth = behind(adata.var.loc[genes, "program"], name)
        rows = table[table["lineage"] == name].set_index("gene").loc[genes]
        less = rows["effect"].to_numpy() < 0
        scores = {
            "correlation": drivers[f"{name}_corr"].to_numpy(),
            "effect": -rows["effect"].to_numpy(),
            "exact": -rows["exact"].to_numpy(),
            "score": -rows["score"].to_numpy(),
            "p-value": np.where(less, 1, -1) * -np.log(rows["pval"].to_numpy()),
            "consistency": rows["consistency"].to_numpy(),
        }
        for ranked_by in RANKINGS:
            found[ranked_by].append(auroc(scores[ranked_by], truth))
    return {ranked_by: float(np.mean(values)) for ranked_by, values in found.items()}


def smooth_noise(adata: AnnData, like: Float[np.ndarray, "cells genes"], times: int, rng: Any) -> np.ndarray:
    """Noise averaged over neighbours so many times, with the mean and deviation of each gene."""
    connectivities = sp.csr_matrix(adata.obsp["connectivities"])
    mean = sp.diags_array(1 / np.asarray(connectivities.sum(axis=1)).ravel()) @ connectivities
    noise = rng.normal(size=like.shape)
    for _ in range(times):
        noise = mean @ noise
    return (noise - noise.mean(axis=0)) / noise.std(axis=0) * like.std(axis=0) + like.mean(axis=0)


def false_positives(adata: AnnData, times: int, seed: int) -> dict[str, float]:
    """Part of the genes without effect that have a p-value up to 0.05."""
    rng = np.random.default_rng(seed)
    genes = np.isfinite(np.asarray(adata.layers["velocity"])).all(axis=0) & adata.var["velocity_genes"].to_numpy()
    x, v = (np.asarray(adata.layers[key], dtype=float)[:, genes] for key in ("Ms", "velocity"))
    layers = {
        key: np.concatenate([one, smooth_noise(adata, one, times, rng)], axis=1).astype(np.float32)
        for key, one in (("Ms", x), ("velocity", v))
    }
    both = AnnData(layers["Ms"], obs=adata.obs.copy(), layers=layers, obsp=dict(adata.obsp))
    kernel = kernel_of(both, "Ms", "velocity")
    table = jv.tl.perturb_genes(kernel)
    name = table["lineage"].iloc[0]
    p = table.loc[table["lineage"] == name, "pval"].to_numpy()[x.shape[1] :]
    states = both.obs["term_states_fwd"].cat
    gradient = fate_gradient(kernel, states.codes.to_numpy().astype(int), list(states.categories), of_cells=True)
    of_noise = gradient.of_cells[0][:, x.shape[1] :]
    noise = layers["velocity"][:, x.shape[1] :]
    own = np.abs((of_noise * noise).sum(axis=0))
    as_large = np.ones(len(own))
    for _ in range(N_SHUFFLES):
        as_large += np.abs((of_noise * noise[rng.permutation(len(noise))]).sum(axis=0)) >= own
    return {
        "shuffled genes": float((p <= 0.05).mean()),
        "shuffled cells": float((as_large / (1 + N_SHUFFLES) <= 0.05).mean()),
    }


def rows(found: dict[str, Any]) -> list[str]:
    """Lines of the tables."""
    lines = [f"| AUROC of the genes behind each fate | {' | '.join(RANKINGS)} |", "|" + "---|" * (1 + len(RANKINGS))]
    for name, values in found["ranking"].items():
        lines.append(f"| {name} | {' | '.join(f'{values[ranked_by]:.2f}' for ranked_by in RANKINGS)} |")
    lines += ["", "| genes without effect with p ≤ 0.05 | shuffled genes | shuffled cells |", "|---|---|---|"]
    for name, values in found["false_positives"].items():
        lines.append(f"| {name} | {values['shuffled genes']:.3f} | {values['shuffled cells']:.3f} |")
    return lines


def mean_of(results: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each number."""
    return {key: float(np.mean([one[key] for one in results])) for key in results[0]}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated seeds of the simulations")
    parser.add_argument("--cells", type=int, default=1000, help="number of cells")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    jv.settings.verbosity = "error"
    rankings, positives = defaultdict(list), defaultdict(list)
    for seed in map(int, arguments.seeds.split(",")):
        for name in DATA:
            adata = prepared(name, arguments.cells, seed)
            for velocities, keys in VELOCITIES.items():
                rankings[f"{name}, {velocities} velocities"].append(ranking(adata, *keys))
            if name == "2 branches":
                for times in SMOOTHED:
                    positives[f"noise, averaged {times} ×"].append(false_positives(adata, times, seed))
    found = {
        "ranking": {name: mean_of(values) for name, values in rankings.items()},
        "false_positives": {name: mean_of(values) for name, values in positives.items()},
    }
    records.keep(arguments.json, found)
    print(*rows(found), sep="\n")


if __name__ == "__main__":
    main()
