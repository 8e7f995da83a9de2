"""Simulated splicing kinetics of which all rates, times and velocities are known, and the score of a fit to them.

Usage::

    python -m benchmarks.splicing_truth make FOLDER             # simulate, preprocess, write SCENARIO.h5ad
    python -m benchmarks.splicing_truth ours FOLDER             # fit jaxvelo's model, write SCENARIO_jaxvelo.npz
    python -m benchmarks.splicing_truth scores FOLDER           # table of all SCENARIO_METHOD.npz found
    python -m benchmarks.splicing_truth check                   # sparsity, next to the pancreas data's

``make``, ``ours`` and ``scores`` take ``--scenarios full,partial``. Peers write their results with
``benchmarks/peer_dynamics.py``. ``check`` reads ``$JAXVELO_SHARED``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, read_h5ad
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from jaxvelo.datasets import splicing_state

SCENARIOS = ("full", "induction", "repression", "partial")
# Counts of a cell of the pancreas data over all of its genes: the panel of simulated genes is a small part of them.
SPLICED_SIZE, UNSPLICED_SIZE = 6194, 1222
# What a fit is scored on; names and meaning are scVelo's.
COLUMNS = ("fit_alpha", "fit_beta", "fit_gamma", "fit_t_", "fit_scaling", "fit_likelihood", "velocity_genes")
LAYERS = ("fit_t", "velocity")


def simulate(scenario: str, n_cells: int = 1500, n_genes: int = 200, seed: int = 0) -> AnnData:
    r"""Simulate counts of genes that are switched on and off once along one trajectory.

    Every gene follows :math:`\dot u = \alpha - \beta u`, :math:`\dot s = \beta u - \gamma s` from nothing at its onset,
    with :math:`\alpha = 0` after its switch. All genes share the cells' time, uniform in [0, 1]:

    - ``"full"``: every gene is off, on and off again within the time of the cells;
    - ``"induction"``: genes come on and stay on;
    - ``"repression"``: genes have been on for :math:`4 / \min(\beta, \gamma)` (98 % of the way to the steady state)
      and were switched off shortly before the first cell;
    - ``"partial"``: onset before the first cell, switch anywhere (before the first, between, after the last cell).

    ``log(gamma / beta)`` is normal around log 0.3 with standard deviation 0.7. Unspliced molecules are captured with
    another efficiency than spliced ones, log-normal per gene around 0.5 with standard deviation 0.5: it does not
    enter the true rates. Counts are negative binomial, with a depth per cell (log-normal, 0.3). Spliced counts have
    the means and zeros of the velocity genes of the pancreas data; of unspliced ones, 64 to 74 % are zero, and 91 %
    in repression (pancreas: 84 %). The panel is part of a transcriptome whose size does not change along the
    trajectory, so that normalisation brings counts back to the true scale.

    Parameters
    ----------
    scenario
        One of ``SCENARIOS``.
    n_cells, n_genes
        Size of the data.
    seed
        Seed of :func:`numpy.random.default_rng`.

    Returns
    -------
    AnnData
        Raw counts in ``X`` (spliced), ``layers["spliced"]``, ``["unspliced"]``, sizes of the whole cells in
        ``obs["initial_size..."]`` (where the normalisation looks for them), and the truth:

        - ``obs["true_time"]``, in [0, 1], and ``obs["true_depth"]``;
        - ``var["true_alpha"]``, ``["true_beta"]``, ``["true_gamma"]`` per unit of the cells' time, spliced molecules
          at depth 1; ``var["true_ratio"]``, gamma / beta; ``var["true_capture"]``, what ``fit_scaling`` should be;
        - ``var["true_on"]``, ``var["true_off"]``: times of onset and switch; ``var["true_beta_switch"]``, beta times
          the time from onset to switch, infinite if never switched off; ``var["switch_observed"]``: cells on both
          sides of the switch (at least 5 %); ``var["time_identifiable"]``: the gene moves while cells are there;
        - ``layers["true_velocity"]``, ds/dt; ``layers["true_spliced"]``, ``["true_unspliced"]`` (before capture).

    Raises
    ------
    ValueError
        If the scenario is unknown.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Expected `scenario` to be one of {SCENARIOS}, found `{scenario!r}`.")
    rng = np.random.default_rng(seed)
    ratio = rng.lognormal(np.log(0.3), 0.7, n_genes)
    capture = rng.lognormal(np.log(0.5), 0.5, n_genes)
    mean_spliced = rng.lognormal(np.log(1.1), 0.9, n_genes)
    beta, on, off = _courses(rng, scenario, ratio)
    gamma = ratio * beta

    # One draw in each of as many bins as there are cells: no gaps along the trajectory.
    cell_time = rng.permutation((np.arange(n_cells) + rng.uniform(size=n_cells)) / n_cells)
    unit = np.ones(n_genes)
    unspliced, spliced = splicing_state(cell_time[:, None], unit, beta, gamma, on, off)
    alpha = mean_spliced / spliced.mean(axis=0)  # the equations are linear in alpha
    unspliced, spliced = alpha * unspliced, alpha * spliced

    depth = rng.lognormal(0.0, 0.3, n_cells)
    layers = {
        "spliced": _negative_binomial(rng, depth[:, None] * spliced),
        "unspliced": _negative_binomial(rng, depth[:, None] * capture * unspliced),
        "true_spliced": spliced.astype(np.float32),
        "true_unspliced": unspliced.astype(np.float32),
        "true_velocity": (beta * unspliced - gamma * spliced).astype(np.float32),
    }
    sizes = {
        name: rng.poisson(depth * size) for name, size in (("spliced", SPLICED_SIZE), ("unspliced", UNSPLICED_SIZE))
    }
    obs = pd.DataFrame(
        {
            "true_time": cell_time,
            "true_depth": depth,
            "initial_size": sizes["spliced"],
            "initial_size_spliced": sizes["spliced"],
            "initial_size_unspliced": sizes["unspliced"],
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    before, after = (cell_time[:, None] < off).mean(axis=0), (cell_time[:, None] > off).mean(axis=0)
    var = pd.DataFrame(
        {
            "true_alpha": alpha,
            "true_beta": beta,
            "true_gamma": gamma,
            "true_ratio": ratio,
            "true_capture": capture,
            "true_on": on,
            "true_off": off,
            "true_beta_switch": beta * (off - on),
            "switch_observed": np.minimum(before, after) >= 0.05,
            "time_identifiable": _path_length(cell_time, unspliced, spliced) > 0.5,
        },
        index=[f"gene_{i}" for i in range(n_genes)],
    )
    return AnnData(
        X=layers["spliced"].copy(), layers=layers, obs=obs, var=var, uns={"scenario": scenario, "seed": int(seed)}
    )


def _courses(
    rng: np.random.Generator, scenario: str, ratio: Float[np.ndarray, " genes"]
) -> tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]]:
    """Draw the splicing rate, and the times of onset and switch, of every gene."""
    n_genes = len(ratio)
    if scenario == "full":
        on, off = rng.uniform(0.0, 0.3, n_genes), rng.uniform(0.4, 0.75, n_genes)
        # In the pancreas data, scVelo finds 1.3 to 5.6 (5 to 95 %) for beta times the time of the switch.
        return rng.lognormal(np.log(3.0), 0.4, n_genes) / (off - on), on, off
    if scenario == "induction":
        on = rng.uniform(0.0, 0.3, n_genes)
        return rng.lognormal(np.log(5.0), 0.4, n_genes) / (1 - on), on, np.full(n_genes, np.inf)
    if scenario == "repression":
        off = rng.uniform(-0.15, 0.0, n_genes)
        beta = rng.lognormal(np.log(4.0), 0.4, n_genes)
        return beta, off - 4.0 / (beta * np.minimum(ratio, 1.0)), off
    on, off = rng.uniform(-0.7, -0.2, n_genes), rng.uniform(-0.1, 1.1, n_genes)
    return rng.lognormal(np.log(3.0), 0.35, n_genes), on, off


def _negative_binomial(
    rng: np.random.Generator, mean: Float[np.ndarray, "cells genes"], dispersion: float = 0.15
) -> sp.csr_matrix:
    """Draw counts of variance mean + dispersion mean²."""
    return sp.csr_matrix(rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, mean.shape)).astype(np.float32))


def _path_length(
    cell_time: Float[np.ndarray, " cells"],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
) -> Float[np.ndarray, " genes"]:
    """Length of the noise-free path through the phase plane, both axes scaled by their largest values."""
    order = np.argsort(cell_time)
    steps = [np.diff(x[order] / x.max(axis=0), axis=0) for x in (unspliced, spliced)]
    return np.hypot(*steps).sum(axis=0)


def prepare(adata: AnnData, n_neighbors: int = 30) -> AnnData:
    """Normalise, reduce, find neighbours and average over them, once for all methods.

    Parameters
    ----------
    adata
        From :func:`simulate`; it is left as it is.
    n_neighbors
        Number of neighbours.

    Returns
    -------
    AnnData
        With ``layers["Ms"]``, ``["Mu"]``, ``obsm["X_pca"]``, ``obsp["connectivities"]`` and the truth.
    """
    import scanpy as sc

    import jaxvelo as jv

    result = adata.copy()
    jv.pp.filter_and_normalize(result)
    sc.pp.pca(result, n_comps=30, random_state=0)
    jv.pp.neighbors(result, n_neighbors, n_pcs=30, use_rep="X_pca")
    jv.pp.moments(result)
    return result


def collect(adata: AnnData) -> dict[str, np.ndarray]:
    """Take what :func:`score` needs out of a fitted AnnData, as plain arrays.

    Parameters
    ----------
    adata
        After ``recover_dynamics`` and ``velocity(mode="dynamical")``, of scVelo or with its keys.

    Returns
    -------
    dict
        ``COLUMNS`` and, of a fit that says what ratio of the rates to rely on, ``"fit_ratio"``, of shape (genes,);
        ``LAYERS`` of shape (cells, genes).
    """
    names = (*COLUMNS, "fit_ratio") if "fit_ratio" in adata.var else COLUMNS
    columns = {name: np.asarray(adata.var[name], dtype=float) for name in names}
    return columns | {name: np.asarray(adata.layers[name], dtype=np.float32) for name in LAYERS}


def fitted_genes(result: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " genes"]:
    """Genes whose rates, times and velocities are all there."""
    rates = np.stack([np.asarray(result[f"fit_{name}"]) for name in ("alpha", "beta", "gamma", "t_", "scaling")])
    return np.isfinite(rates).all(axis=0) & np.all([np.isfinite(result[name]).all(axis=0) for name in LAYERS], axis=0)


def score(
    truth: AnnData, result: Mapping[str, np.ndarray], genes: Bool[np.ndarray, " genes"] | None = None
) -> dict[str, float]:
    """Compare one method's fit with the truth.

    Parameters
    ----------
    truth
        From :func:`simulate` or :func:`prepare`.
    result
        From :func:`collect`, or a file of the peers.
    genes
        Genes to score on, of those that are fitted; all of these by default. For a fair comparison, pass the genes
        fitted by all methods, as :func:`compare` does.

    Returns
    -------
    dict
        NaN where nothing is there to score.

        - ``fitted``, ``scored``: number of genes;
        - ``ratio``, ``ratio_bias``: median of absolute and of signed errors of log(gamma / beta), of ``fit_ratio``
          where there is one; ``curve_ratio``, ``curve_ratio_bias``: of the curve's;
        - ``scaling``, ``scaling_bias``: the same for log(fit_scaling) against the capture;
        - ``switch``, ``switch_bias``: the same for log(beta × time of the switch), of genes whose switch is observed;
        - ``time``: Spearman correlation over cells of ``fit_t`` and the true time, mean over genes. Cells before the
          onset are left out: they all look the same;
        - ``cosine``, ``pearson``: of velocity and true velocity over genes, mean over cells. The true velocity is that
          of the cell itself. Its unit (counts at median depth, per time shared by all genes) is that of the
          normalised layers up to one factor for all genes, which neither of the two sees;
        - ``velocity``: Pearson correlation over cells, mean over genes: blind to each gene's unit of time.
    """
    fitted = fitted_genes(result)
    use = fitted if genes is None else fitted & np.asarray(genes)
    var = truth.var
    beta = result["fit_beta"] * result["fit_scaling"]  # scVelo's fit_beta is per captured unspliced molecule
    scores = {"fitted": float(fitted.sum()), "scored": float(use.sum())}
    of_curve = result["fit_gamma"] / beta
    for name, found, true, where in (
        ("ratio", result.get("fit_ratio", of_curve), var["true_ratio"], use),
        ("curve_ratio", of_curve, var["true_ratio"], use),
        ("scaling", result["fit_scaling"], var["true_capture"], use),
        ("switch", beta * result["fit_t_"], var["true_beta_switch"], use & var["switch_observed"].to_numpy()),
    ):
        error = _log(found[where]) - _log(true.to_numpy()[where])
        error = error[np.isfinite(error)]
        scores[name] = float(np.median(np.abs(error))) if len(error) else np.nan
        scores[f"{name}_bias"] = float(np.median(error)) if len(error) else np.nan

    cell_time, on = truth.obs["true_time"].to_numpy(), var["true_on"].to_numpy()
    times = []
    for gene in np.flatnonzero(use & var["time_identifiable"].to_numpy()):
        cells = cell_time >= on[gene]
        ranks = [rankdata(x[cells])[None] for x in (np.asarray(result["fit_t"])[:, gene], cell_time)]
        times.append(_cosine(*ranks, centered=True))
    scores["time"] = _mean(times)

    found = np.asarray(result["velocity"], dtype=float)[:, use]
    true = np.asarray(truth.layers["true_velocity"], dtype=float)[:, use]
    scores["cosine"] = _mean(_cosine(found, true, centered=False))
    scores["pearson"] = _mean(_cosine(found, true, centered=True))
    scores["velocity"] = _mean(_cosine(found.T, true.T, centered=True))
    return scores


def compare(truth: AnnData, results: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """Score methods on the genes that all of them have fitted.

    Parameters
    ----------
    truth
        From :func:`simulate` or :func:`prepare`.
    results
        Of each method, by name.

    Returns
    -------
    pandas.DataFrame
        A row for each method, and two for what knows nothing: ``(constant)`` has the errors of one value for all
        genes, the median of the truth; ``(shuffled)`` gives each cell the true velocities and time of another. Where
        all genes go the same way, the latter's cosine is high.
    """
    common = np.all([fitted_genes(result) for result in results.values()], axis=0)
    rows = {name: score(truth, result, common) for name, result in results.items()}
    observed = common & truth.var["switch_observed"].to_numpy()
    rows["(constant)"] = {
        name: _spread(truth.var[column].to_numpy()[where])
        for name, column, where in (
            ("ratio", "true_ratio", common),
            ("scaling", "true_capture", common),
            ("switch", "true_beta_switch", observed),
        )
    }
    shuffled = np.random.default_rng(0).permutation(truth.n_obs)
    cell_time, velocity = truth.obs["true_time"].to_numpy(), np.asarray(truth.layers["true_velocity"])
    nothing = {
        **next(iter(results.values())),
        "fit_t": np.broadcast_to(cell_time[shuffled, None], truth.shape),
        "velocity": velocity[shuffled],
    }
    scores = score(truth, nothing, common)
    rows["(shuffled)"] = {name: scores[name] for name in ("time", "cosine", "pearson", "velocity")}
    return pd.DataFrame.from_dict(rows, orient="index")


def _spread(values: np.ndarray) -> float:
    """Median absolute deviation of the logarithm from its median."""
    logs = np.log(values)
    return float(np.median(np.abs(logs - np.median(logs)))) if len(logs) else np.nan


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm, NaN where there is none."""
    values = np.asarray(values, dtype=float)
    return np.log(np.where(values > 0, values, np.nan))


def _cosine(a: np.ndarray, b: np.ndarray, *, centered: bool) -> np.ndarray:
    """Cosine of each row of ``a`` with that of ``b``, or correlation if centered; NaN for rows of length zero."""
    if a.shape[1] == 0:
        return np.full(len(a), np.nan)
    if centered:
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(length > 0, np.sum(a * b, axis=1) / np.where(length > 0, length, 1.0), np.nan)


def _mean(values: Any) -> float:
    """Mean of what is finite; nothing finite gives NaN."""
    values = np.ravel(values).astype(float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


def fit_ours(adata: AnnData) -> tuple[dict[str, np.ndarray], float]:
    """Fit jaxvelo's model to all genes; also give the seconds that the fit took, compilation included."""
    import jaxvelo as jv

    result = adata.copy()
    start = time.perf_counter()
    jv.tl.recover_dynamics(result, var_names="all")
    seconds = time.perf_counter() - start
    jv.tl.velocity(result, mode="dynamical")
    return collect(result), seconds


def read_results(folder: Path, scenario: str) -> dict[str, dict[str, np.ndarray]]:
    """Read all ``SCENARIO_METHOD.npz``."""
    results = {}
    for file in sorted(folder.glob(f"{scenario}_*.npz")):
        with np.load(file) as arrays:
            results[file.stem.removeprefix(f"{scenario}_")] = dict(arrays)
    return results


def sparsity(adata: AnnData) -> pd.DataFrame:
    """Mean counts and zeros of genes: quartiles, and averages over genes."""
    rows = {}
    for name in ("spliced", "unspliced"):
        counts = sp.csr_matrix(adata.layers[name])
        mean = np.asarray(counts.mean(axis=0)).ravel()
        zeros = 1 - counts.getnnz(axis=0) / adata.n_obs
        for label, values in ((f"{name} mean", mean), (f"{name} zeros", zeros)):
            rows[label] = [*np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]), values.mean()]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["5 %", "25 %", "50 %", "75 %", "95 %", "average"])


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("make", "ours", "scores", "check"))
    parser.add_argument("folder", type=Path, nargs="?", help="where the files are")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=1500)
    parser.add_argument("--genes", type=int, default=200)
    arguments = parser.parse_args()
    scenarios = arguments.scenarios.split(",")
    if arguments.step == "check":
        shared = Path(os.environ["JAXVELO_SHARED"])
        fitted = read_h5ad(shared / "reference" / "pancreas_velocity.h5ad", backed="r").var
        genes = fitted.index[fitted["velocity_genes"]]
        print("pancreas", sparsity(read_h5ad(shared / "data" / "pancreas_3696.h5ad")[:, genes]).round(3), sep="\n")
        for scenario in scenarios:
            adata = simulate(scenario, arguments.cells, arguments.genes, arguments.seed)
            print(scenario, sparsity(adata).round(3), sep="\n")
        return
    if arguments.folder is None:
        parser.error(f"the step `{arguments.step}` needs a folder")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for scenario in scenarios:
        file = arguments.folder / f"{scenario}.h5ad"
        if arguments.step == "make":
            prepare(simulate(scenario, arguments.cells, arguments.genes, arguments.seed)).write_h5ad(file)
        elif arguments.step == "ours":
            result, seconds = fit_ours(read_h5ad(file))
            np.savez(arguments.folder / f"{scenario}_jaxvelo.npz", **result, seconds=seconds)
        else:
            table = compare(read_h5ad(file), read_results(arguments.folder, scenario))
            print(scenario, table.to_string(float_format=lambda x: f"{x:.3f}"), sep="\n")


if __name__ == "__main__":
    main()
