"""Trends: time beside CellRank's GAMs, curves beside pyGAM's, coverage of the bands, false positives of the tests.

Usage: ``python -m benchmarks.trends [--peers DIR] [--only time,agreement,calibration] [--json FILE]``

``DIR`` is a virtual environment with CellRank, which brings pyGAM. The cells are those of the pancreas under
``JAXVELO_SHARED``: 2,000 genes, a diffusion pseudotime, and memberships of five macrostates in the place of fates.
CellRank fits 20 genes in two processes, right after ours fits all; curves are compared at the smoothness that ours
chose. Coverage and false positives are those of 1,000 simulated genes for each kind of expression.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.timing import of_peers, run, text

PARTS = ("time", "agreement", "calibration")
N_KNOTS = 10
DEPTH = 4.0  # how many times the counts of other cells those of one condition have


def pancreas(shared: Path) -> Any:
    """Cells with log-normalised expression, counts, a time, and five lineages."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    from jaxvelo.dynamics import diffusion_pseudotime
    from jaxvelo.graph import NeighborGraph

    adata = anndata.read_h5ad(shared / "data" / "pancreas_3696.h5ad")
    reference = anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad")
    estimators = np.load(shared / "reference" / "pancreas_estimators.npz")
    counts = sp.csr_matrix(adata.layers["spliced"]).astype(np.float32)
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    logs = sp.csr_matrix(sp.diags(np.median(sizes) / np.maximum(sizes, 1)) @ counts).astype(np.float32).log1p()
    graph = NeighborGraph.from_csr(reference.obsp["connectivities"])
    ductal = np.flatnonzero(reference.obs["clusters"] == "Ductal")
    root = int(ductal[np.argmin(reference.obsm["X_umap"][ductal, 0])])
    time = np.asarray(diffusion_pseudotime(graph, graph.edges["connectivities"].values, root))
    names = [f"lineage {i}" for i in range(5)]
    ends = np.argmax(estimators["macro5/memberships"], axis=1)
    return anndata.AnnData(
        logs,
        obs=pd.DataFrame(
            {"time": time, "term_states_fwd": pd.Categorical.from_codes(ends, names)}, index=adata.obs_names
        ),
        var=pd.DataFrame(index=adata.var_names),
        layers={"counts": counts},
        obsm={"lineages_fwd": np.clip(estimators["macro5/memberships"], 0, None)},
    )


def measured_time(file: Path, peers: Path | None) -> dict[str, Any]:
    """Times of cold processes, one after the other."""
    ours = [sys.executable, "-m", "benchmarks.our_trends", str(file)]
    found: dict[str, Any] = {"ours": {name: run([*ours, name]) for name in ("normal", "poisson", "nb")}}
    if peers is not None:
        found["theirs"] = run(of_peers(peers, "peer_trends.py", file, 20))
    return found


def agreement(file: Path, peers: Path) -> dict[str, Any]:
    """Share of the variance of pyGAM's curves that ours have, gene by gene, at the same smoothness."""
    import anndata

    from jaxvelo.trends import evaluate_trends, fit_trends
    from jaxvelo.trends._basis import difference_penalty, spline_basis

    adata = anndata.read_h5ad(file)
    times, weights = adata.obs["time"].to_numpy(), adata.obsm["lineages_fwd"][:, :1]
    limits = np.array([[times.min(), times.max()]])
    expressed = np.argsort(-np.asarray((adata.X > 0).sum(axis=0)).ravel())[:300]
    values = adata.X[:, expressed].toarray()
    fit = fit_trends(values, times, weights, limits)
    x = (times - limits[0, 0]) / np.ptp(limits)
    weight = weights[:, 0] * weights.sum() / (weights**2).sum()
    basis = np.asarray(spline_basis(x, N_KNOTS, 3, xp=np))
    unit = np.trace(basis.T @ (weight[:, None] * basis)) / np.trace(difference_penalty(N_KNOTS))
    grid = np.linspace(*limits[0], 200)
    ours = evaluate_trends(fit.coefficients[0], fit.covariances[0], grid, tuple(limits[0])).values
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npy"
        np.savez(inputs, x=times, values=values, weight=weight, penalty=fit.ratio[0] * unit, grid=grid, n=N_KNOTS)
        version = run(of_peers(peers, "peer_trends.py", inputs, outputs))["version"]
        theirs = np.load(outputs)
    residual = ((ours - theirs) ** 2).sum(axis=1)
    r2 = 1 - residual / ((theirs - theirs.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    over_all = 1 - residual.sum() / ((theirs - theirs.mean()) ** 2).sum()
    return {
        "version": version,
        "genes": len(r2),
        "median": float(np.median(r2)),
        "least": float(r2.min()),
        "all": over_all,
    }


def calibration(n_cells: int, kind: str, n_genes: int = 1000, seed: int = 0) -> dict[str, float]:
    """Coverage of 95 % bands, and parts of p-values below 5 % where there is nothing to find."""
    from jaxvelo.trends import difference_test, evaluate_trends, fit_trends

    rng = np.random.default_rng(seed)
    times, grid = rng.beta(1.2, 1.5, n_cells), np.linspace(0, 1, 101)
    ends, committed = rng.integers(0, 3, n_cells), np.clip(1.3 * times - 0.2, 0, 1)[:, None]
    fates = (1 - committed) * rng.dirichlet([5, 5, 5], n_cells) + committed * np.eye(3)[ends]
    height, center, width = (
        rng.uniform(0.3, 2, n_genes),
        rng.uniform(0.15, 0.85, n_genes),
        rng.uniform(0.08, 0.25, n_genes),
    )

    def curves(t: np.ndarray) -> np.ndarray:
        t = t[:, None]
        shapes = [
            np.ones_like(t) + 0 * height,
            np.exp(-0.5 * ((t - center) / width) ** 2),
            1 / (1 + np.exp(-2 * (t - center) / width)),
            t + 0 * height,
        ]
        return height * np.choose(np.arange(n_genes) % 4, shapes)

    condition = rng.integers(0, 2, (n_cells, 1))
    size = rng.lognormal(0, 0.3, n_cells) * np.where(condition[:, 0] == 1, DEPTH, 1.0)
    size /= size.mean()
    f = curves(times)
    distribution = "normal"
    if kind in ("normal", "uneven noise"):
        values = f + rng.normal(size=f.shape) * (0.5 + 0.5 * f * (kind == "uneven noise"))
    else:
        distribution = kind
        noise = rng.gamma(2, 0.5, f.shape) if kind == "negative binomial" else 1.0
        values = rng.poisson(size[:, None] * np.exp(f - 1) * noise).astype(float)
    given: dict[str, Any] = {"distribution": distribution, "size_factors": size}
    limits = np.array([[0.0, 1.0]])
    fit = fit_trends(values, times, fates, np.repeat(limits, 3, axis=0), **given)
    covered = []
    truth = (curves(grid) - (distribution != "normal")).T
    for curve in range(3):
        found = evaluate_trends(fit.coefficients[curve], fit.covariances[curve], grid, (0.0, 1.0))
        covered.append(((found.lower <= truth) & (truth <= found.upper)).mean())
    # Each gene by itself: genes whose cells are shuffled together come out alike.
    shuffled, alone = rng.permuted(values, axis=0), {"distribution": distribution}
    both = fates[:, :2].sum(axis=1, keepdims=True)
    shares = np.divide(fates[:, :1], both, out=np.zeros_like(both), where=both > 0)
    p = {
        "change, shuffled": fit_trends(shuffled, times, fates, np.repeat(limits, 3, axis=0), **alone).p_value,
        "lineages": difference_test(values, times, both, shares, limits, **given)[1],
        "conditions": difference_test(values, times, fates[:, :1], condition, limits, **given)[1],
        "lineages, shuffled": difference_test(shuffled, times, both, shares, limits, **alone)[1],
        "conditions, shuffled": difference_test(shuffled, times, fates[:, :1], condition, limits, **alone)[1],
    }
    return {"coverage": float(np.mean(covered)), **{name: float(np.mean(of < 0.05)) for name, of in p.items()}}


def rows(found: dict[str, Any]) -> list[str]:
    """Tables of all parts."""
    lines = []
    if "time" in found:
        ours, theirs = found["time"]["ours"], found["time"].get("theirs")
        lines += [
            "Trends of 2,000 genes, 3,696 cells and 5 lineages, with bands and tests; a new process, after imports.",
            "",
            "Times of the processor, all cores together, in brackets: they count where other work runs.",
            "",
            "| | first call | again | with differences of 10 pairs | genes and lineages | per curve |",
            "|---|---|---|---|---|---|",
        ]
        for name, of in ours.items():
            calls = [f"{text(of[call])} ({text(of[f'{call}_cpu'])})" for call in ("first", "again", "differences")]
            each = f"{text(of['first'] / of['curves'])} ({text(of['first_cpu'] / of['curves'])})"
            lines.append(f"| jaxvelo, {name} | {' | '.join(calls)} | {of['curves']:,} | {each} |")
        if theirs is not None:
            n_curves, mine = theirs["curves"], ours["normal"]
            ratios = [
                theirs[other] / n_curves / (mine[own] / mine["curves"])
                for other, own in (("seconds", "first"), ("cpu", "first_cpu"))
            ]
            lines += [
                f"| CellRank {theirs['version']}, GAM, 2 jobs | {text(theirs['seconds'])} ({text(theirs['cpu'])}) | | "
                f"| {n_curves:,} | {text(theirs['seconds'] / n_curves)} ({text(theirs['cpu'] / n_curves)}) |",
                "",
                f"Per curve, the first call with normal expression is {ratios[0]:,.0f}× as fast as CellRank's GAM, "
                f"by processor time {ratios[1]:,.0f}×.",
            ]
    if "agreement" in found:
        of = found["agreement"]
        lines += [
            "",
            f"R² of the curves of {of['genes']} genes with pyGAM's ({of['version']}) at equal smoothness: "
            f"{of['all']:.6f} over all, median {of['median']:.6f}, least {of['least']:.6f}.",
        ]
    if "calibration" in found:
        names = [name for name in found["calibration"][0] if name not in ("kind", "cells")]
        lines += [
            "",
            "Coverage of 95 % bands of 1,000 simulated genes, and parts of p-values below 5 % with nothing to find.",
            "",
            f"| expression | cells | {' | '.join(names)} |",
            f"|---|---|{'---|' * len(names)}",
        ]
        for of in found["calibration"]:
            numbers = " | ".join(f"{of[name]:.3f}" for name in names)
            lines.append(f"| {of['kind']} | {of['cells']:,} | {numbers} |")
    return lines


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="virtual environment with CellRank; none: only ours")
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of parts not run")
    arguments = parser.parse_args()
    found = records.known(arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pancreas.h5ad"
        parts = arguments.only.split(",")
        if {"time", "agreement"} & set(parts):
            pancreas(Path(os.environ["JAXVELO_SHARED"])).write_h5ad(file)
        for part in parts:
            print(f"running {part}", file=sys.stderr)
            if part == "time":
                found[part] = measured_time(file, arguments.peers)
            elif part == "agreement" and arguments.peers is not None:
                found[part] = agreement(file, arguments.peers)
            elif part == "calibration":
                found[part] = [
                    {"kind": kind, "cells": n_cells, **calibration(n_cells, kind)}
                    for kind, n_cells in (
                        ("normal", 500), ("normal", 3000), ("uneven noise", 2000),
                        ("poisson", 1000), ("negative binomial", 1000),
                    )
                ]  # fmt: skip
            records.keep(arguments.json, found)
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
