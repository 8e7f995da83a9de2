"""How true velocities, rates and times are on cells that are no draws from any model that is fitted to them.

Usage::

    python -m benchmarks.network_truth make FOLDER [--seeds 0,1,2] [--deep] [--files]  # data, ready for all
    python -m benchmarks.network_truth fit FOLDER [--methods jaxvelo,...] [--peers DIR]
    python -m benchmarks.network_truth scores FOLDER [--json FILE]              # table of all fits that are found

``make`` writes ``network_SEED.h5ad``, from :func:`jaxvelo.datasets.simulate_network`; with ``--deep`` instead
``deep_network_SEED.h5ad``, with ten times the counts, as the files of others have; with ``--files`` also links to
``truth_gfcp.h5ad`` and ``truth_dyngen_branching.h5ad`` of ``$JAXVELO_SHARED/data``, which others have simulated.
``fit`` writes ``NAME_METHOD.npz``, without ``--peers`` of our methods only; those of the peers are not written again
where they are. All of it runs in ``python -m benchmarks.dynamics --only networks`` too, with seeds of its own.

Models are chosen by seeds 0 to 9. Seeds 10 to 12 and the files are there to judge what was chosen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from anndata import AnnData, read_h5ad
from jaxtyping import Bool, Float
from scipy.stats import spearmanr

from benchmarks import records
from benchmarks.splicing_truth import prepare
from benchmarks.timing import of_peers

FILES = ("gfcp", "dyngen_branching")
DEEP = 20.0
# Half of a 90 % interval, in standard errors.
HALF_WIDTH = 1.645


class Method(NamedTuple):
    """A package, and the model of it."""

    module: str
    mode: str


METHODS = {
    "jaxvelo": Method("jaxvelo", "dynamical"),
    "jaxvelo_curve": Method("jaxvelo", "curve"),
    "jaxvelo_stochastic": Method("jaxvelo", "stochastic"),
    "jaxvelo_deterministic": Method("jaxvelo", "deterministic"),
    "scvelo": Method("scvelo", "dynamical"),
    "scvelo_stochastic": Method("scvelo", "stochastic"),
}


def make(folder: Path, seeds: Iterable[int], *, deep: bool = False, files: bool = False) -> list[Path]:
    """Write data that are ready for all methods, where they are not there yet.

    Parameters
    ----------
    folder
        Where to.
    seeds
        Of networks.
    deep
        Whether genes have ``DEEP`` counts per cell, instead of 2.
    files
        Whether to take the files that others have simulated as well.
    """
    from jaxvelo.datasets import simulate_network

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for seed in seeds:
        file = folder / f"{'deep_' if deep else ''}network_{seed}.h5ad"
        if not file.exists():
            prepare(simulate_network(seed=seed, **({"counts_per_gene": DEEP} if deep else {}))).write_h5ad(file)
        made.append(file)
    for name in FILES if files else ():
        file = folder / f"{name}.h5ad"
        if not file.exists():
            file.symlink_to(Path(os.environ["JAXVELO_SHARED"]) / "data" / f"truth_{name}.h5ad")
        made.append(file)
    return made


def command(file: Path, name: str, peers: Path | None) -> list[str] | None:
    """Give the words of the process that runs a method; ``None`` if it does not have to run, or cannot."""
    method, out = METHODS[name], file.with_name(f"{file.stem}_{name}.npz")
    arguments = [str(file), *method, str(out)]
    if method.module == "jaxvelo":
        return [sys.executable, "-m", "benchmarks.velocities_and_times", *arguments]
    if peers is None or out.exists():
        return None
    return of_peers(peers, "velocities_and_times.py", *arguments)


class Truth(NamedTuple):
    """What is known of cells and genes.

    Attributes
    ----------
    velocity
        Derivative of the spliced molecules.
    cells
        Cells whose velocity is known.
    deviation
        Of the spliced moments: the unit of each gene.
    log_ratio
        log(gamma / beta).
    log_slope
        The same with the efficiency of unspliced counts: log of unspliced to spliced counts at steady state.
    time
        Of the cells.
    """

    velocity: Float[np.ndarray, "cells genes"]
    cells: Bool[np.ndarray, " cells"]
    deviation: Float[np.ndarray, " genes"]
    log_ratio: Float[np.ndarray, " genes"]
    log_slope: Float[np.ndarray, " genes"]
    time: Float[np.ndarray, " cells"]


def truth_of(adata: AnnData) -> Truth:
    """Read the truth, of a simulated network or of the files of others."""
    log_ratio = adata.var["true_log_ratio"].to_numpy(dtype=float)
    if "true_capture" in adata.var:
        log_slope = log_ratio + np.log(adata.var["true_capture"].to_numpy(dtype=float))
    else:
        log_slope = adata.var["true_log_slope"].to_numpy(dtype=float)
    return Truth(
        velocity=np.asarray(adata.layers["true_velocity"], dtype=float),
        cells=adata.obs["moving"].to_numpy(dtype=bool) if "moving" in adata.obs else np.ones(adata.n_obs, dtype=bool),
        deviation=np.asarray(adata.layers["Ms"], dtype=float).std(axis=0),
        log_ratio=log_ratio,
        log_slope=log_slope,
        time=adata.obs["true_time"].to_numpy(dtype=float),
    )


def score(truth: Truth, result: Mapping[str, np.ndarray], mode: str) -> dict[str, float]:
    """Compare one method's results with the truth.

    Parameters
    ----------
    truth
        From :func:`truth_of`.
    result
        From ``benchmarks/velocities_and_times.py``.
    mode
        Its model.

    Returns
    -------
    dict
        NaN where nothing is there to score.

        - ``genes``: number of genes that have velocities, and move in truth;
        - ``cosine``: of velocity and true velocity over these genes, each in units of the deviation of its spliced
          moments, mean over cells;
        - ``by_gene``: Pearson correlation over cells, mean over genes: blind to each gene's unit of time;
        - ``negative``, ``true_negative``: share of velocities below zero;
        - ``ratio``, ``ratio_bias``: median of absolute and of signed errors of log(gamma / beta); of models of the
          steady state, whose slope includes the efficiency of unspliced counts, against that in truth;
        - ``converged``: share of the genes whose fit has; ``coverage``: share of those with a standard error whose 90 %
          interval holds the true log(gamma / beta), and ``width``: median width of these intervals;
        - ``latent_time``, ``pseudotime``: Spearman correlation with the true time.
    """
    velocity = np.asarray(result["velocity"], dtype=float)
    genes = np.isfinite(velocity).all(axis=0) & (truth.velocity[truth.cells].std(axis=0) > 1e-6) & (truth.deviation > 0)
    found, true = (x[truth.cells][:, genes] / truth.deviation[genes] for x in (velocity, truth.velocity))
    scores = {
        "genes": float(genes.sum()),
        "cosine": _mean_cosine(found, true),
        "by_gene": _mean_cosine((found - found.mean(axis=0)).T, (true - true.mean(axis=0)).T),
        "negative": float((found < 0).mean()),
        "true_negative": float((true < 0).mean()),
    }
    error = result["log_ratio"] - (truth.log_ratio if mode in ("dynamical", "curve") else truth.log_slope)
    known = np.isfinite(error)
    scores["ratio"] = _median(np.abs(error[known]))
    scores["ratio_bias"] = _median(error[known])
    converged = known & (result["converged"] > 0)
    scores["converged"] = float(converged.mean())
    half_width = HALF_WIDTH * result["log_ratio_se"]
    with_interval = converged & np.isfinite(half_width)
    inside = np.abs(error[with_interval]) <= half_width[with_interval]
    scores["coverage"] = float(inside.mean()) if with_interval.any() else np.nan
    scores["width"] = _median(2 * half_width[with_interval])
    for key in ("latent_time", "pseudotime"):
        times = result.get(key, np.full(len(truth.time), np.nan))
        there = np.isfinite(times)
        scores[key] = float(spearmanr(times[there], truth.time[there])[0]) if there.sum() > 1 else np.nan
    return scores


def _mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over rows of the cosine; rows of length zero are left out."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    there = length > 0
    return float(np.mean((a * b).sum(axis=1)[there] / length[there])) if there.any() else np.nan


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan


def scores(folder: Path) -> dict[str, dict[str, dict[str, float | None]]]:
    """Score all fits that are in a folder, by data and method; what is not known is ``None``."""
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    for file in sorted(folder.glob("*.h5ad"), key=_rank):
        fits = {name: file.with_name(f"{file.stem}_{name}.npz") for name in METHODS}
        fits = {name: fit for name, fit in fits.items() if fit.exists()}
        truth = truth_of(read_h5ad(file)) if fits else None
        result[file.stem] = {}
        for name, fit in fits.items():
            with np.load(fit) as arrays:
                found = score(truth, dict(arrays), METHODS[name].mode) | {"seconds": float(arrays["seconds"])}
            result[file.stem][name] = {key: None if np.isnan(value) else value for key, value in found.items()}
    return result


def _rank(file: Path) -> tuple[bool, str, int]:
    """Networks by seed, then the files of others."""
    kind, _, seed = file.stem.rpartition("_")
    return (True, file.stem, 0) if file.stem in FILES else (False, kind, int(seed))


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("make", "fit", "scores"))
    parser.add_argument("folder", type=Path, help="where data and fits are")
    parser.add_argument("--seeds", default="0,1,2", help="of networks to make")
    parser.add_argument("--deep", action="store_true", help="ten times the counts")
    parser.add_argument("--files", action="store_true", help="take the files that others have simulated as well")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated methods to fit")
    parser.add_argument("--peers", type=Path, help="virtual environment with scVelo")
    parser.add_argument("--json", type=Path, help="write all scores here")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if unknown := set(methods) - set(METHODS):
        parser.error(f"unknown methods: {', '.join(sorted(unknown))}")
    if arguments.step == "make":
        seeds = map(int, filter(None, arguments.seeds.split(",")))
        make(arguments.folder, seeds, deep=arguments.deep, files=arguments.files)
    elif arguments.step == "fit":
        for file in sorted(arguments.folder.glob("*.h5ad"), key=_rank):
            for name in methods:
                if words := command(file.absolute(), name, arguments.peers):
                    print(file.stem, name, file=sys.stderr)
                    subprocess.run(words, cwd=records.ROOT, check=True)
    else:
        from benchmarks.dynamics_tables import network_rows

        found = scores(arguments.folder)
        records.keep(arguments.json, found)
        print(*network_rows(found), sep="\n")


if __name__ == "__main__":
    main()
