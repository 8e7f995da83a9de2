"""``jaxvelo demo``: the whole flow on simulated cells, compared with what is true of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import scipy.sparse as sp
from scipy.stats import spearmanr

from jaxvelo import datasets, tl
from jaxvelo.annotated.genes import velocity_genes
from jaxvelo.annotated.transition_keys import FORWARD
from jaxvelo.cli import _pictures as pictures
from jaxvelo.cli import _workflow as workflow
from jaxvelo.cli._account import Account, collected_warnings
from jaxvelo.cli._fates import find_fates, report_drivers, top_drivers
from jaxvelo.cli._html_page import require_markdown
from jaxvelo.cli._plan import Options, Plan, new_graph
from jaxvelo.cli._results import check_folder, save, save_again
from jaxvelo.cli._written_summary import write_summary
from jaxvelo.configuration import logger, timed
from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import VelocityKernel
from jaxvelo.markov import fate_scores

if TYPE_CHECKING:
    from anndata import AnnData

# Small graphs compile fastest, and compiling is nearly all of the time that the demonstration takes.
N_CELLS = 500
SIMULATION = "simulated cells of two fates"
ROOT = "Progenitor"
KEY = FORWARD
EXPRESSION = "Ms"
N_DRIVERS = 10


def demo(out: Path, seed: int, report: bool, written: list[Path]) -> None:
    """Run the flow on the simulation, and add the files that were written to a list."""
    with collected_warnings() as warnings:
        _demo(out, seed, report, written, warnings)


def _demo(out: Path, seed: int, report: bool, written: list[Path], warnings: list[str]) -> None:
    """Run the flow; what is warned of comes to stand in a list."""
    workflow.require_drawing()
    if report:
        require_markdown()
    check_folder(out)

    workflow.heading("Simulated cells")
    with timed("Simulating cells on a branching splicing process"):
        adata = datasets.simulate(N_CELLS, seed=seed)
    logger.info("%d cells and %d genes: a trunk of 10 hours, then two fates until 24 hours", *adata.shape)

    workflow.heading("From counts to velocities")
    options = Options(Path(SIMULATION), n_top_genes=2000, start=ROOT, seed=seed, report=report)
    graph = new_graph(None)
    plan = Plan(
        counts=True,
        n_top_genes=options.n_top_genes,
        neighbors=True,
        moments=True,
        fit=True,
        velocities=True,
        latent_time=True,
        umap=False,
        mode="dynamical",
        graph=graph,
        basis="umap",
    )
    shape, counts = adata.shape, workflow.first_counts(adata)
    workflow.filter_and_normalize(adata, options.n_top_genes)
    is_normalized = workflow.are_scaled(adata, counts)
    workflow.add_neighbors(adata, graph, seed)
    workflow.add_moments(adata, graph, enforce=False)
    mode = workflow.add_velocities(adata, plan.mode, graph)
    workflow.add_latent_time(adata, graph)
    report_truth(adata)

    workflow.heading("Transition matrix")
    velocity = compute_velocity_kernel(adata)
    kernel = workflow.combine(velocity, options.weight, graph)
    logger.info(
        "%s of cells expect to be later in true time after a step", _share_forward(kernel.require_transitions(), adata)
    )
    workflow.report_flow(kernel, "clusters")

    workflow.heading("Random walks")
    walks = workflow.simulate_walks(kernel, (adata.obs["clusters"] == ROOT).to_numpy(), seed)
    report_ends(adata, walks)
    kernel.add_projection("umap", KEY, recompute=True)
    failure = save(kernel, KEY, out, written)

    workflow.heading("Terminal states and fates")
    estimator = find_fates(kernel, "clusters", None, EXPRESSION)
    report_fates(adata, estimator)
    report_drivers(estimator)
    report_branch_genes(adata, estimator)
    if failure is None:
        save_again(kernel, out)

    workflow.heading("Pictures")
    drawn = [
        *pictures.of_demo(estimator, KEY, "umap", "clusters"),
        *pictures.of_kernel(kernel, KEY, walks, "umap", "clusters"),
        *pictures.of_dynamics(adata, "umap", "clusters"),
        *pictures.of_fates(estimator, "umap", EXPRESSION),
    ]
    pictures.draw(drawn, out, written)
    account = Account(
        source=f"jaxvelo demo: {SIMULATION}",
        shape=shape,
        options=options,
        plan=plan,
        normalized=is_normalized,
        mode=mode,
        kernel=kernel,
        estimator=estimator,
        trends=None,
        basis="umap",
        cluster_key="clusters",
        time_key=None,
        warnings=warnings,
    )
    write_summary(account, out, written)
    if failure is not None:
        raise failure


def report_truth(adata: AnnData) -> None:
    """Tell how well velocities, times and rates are found, and velocities of the steady-state model beside."""
    with workflow.only("warning"):
        steady = tl.velocity(adata, mode="deterministic", copy=True)
    lines = []
    for model, cells in (("dynamical", adata), ("steady-state", steady)):
        over_genes, over_cells = velocity_correlations(cells)
        lines.append(f"    {model:<13} {over_genes:11.2f} {over_cells:11.2f}")
    logger.info("Correlation with the true velocities, each model with its velocity genes:")
    logger.info("    %-13s %11s %11s\n%s", "model", "over genes", "over cells", "\n".join(lines))
    logger.info("(over genes: mean of the cells; over cells: median of the genes)")
    if "latent_time" in adata.obs:
        rank_correlation = spearmanr(adata.obs["latent_time"], adata.obs["true_time"]).statistic
        logger.info("Rank correlation of latent time and true time: %.2f", rank_correlation)
    error, is_switched_off = ratio_errors(adata)
    logger.info(
        "Error of log(gamma / beta), median: %.2f for the %d genes that are switched off on the trunk,\n"
        "    %.2f for the %d that never are, so that no cell shows the second half of their curve",
        np.median(error[is_switched_off]),
        np.sum(is_switched_off),
        np.median(error[~is_switched_off]),
        np.sum(~is_switched_off),
    )


def velocity_correlations(adata: AnnData) -> tuple[float, float]:
    """Correlations of estimated and true velocities: over genes, mean of cells; and over cells, median of genes."""
    chosen = velocity_genes(adata, "velocity", "Delete the column, and compute velocities anew.")
    genes = slice(None) if chosen is None else chosen
    estimated, true = adata.layers["velocity"][:, genes], adata.layers["true_velocity"][:, genes]
    return float(np.mean(_row_correlations(estimated, true))), float(np.median(_row_correlations(estimated.T, true.T)))


def _row_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def ratio_errors(adata: AnnData) -> tuple[np.ndarray, np.ndarray]:
    r"""Absolute errors of :math:`\log \gamma / \beta` of genes with a fit, and whether each is ever switched off."""
    error = np.log(adata.var["fit_ratio"]) - np.log(adata.var["true_gamma"] / adata.var["true_beta"])
    fitted = error.notna().to_numpy()
    is_switched_off = np.isfinite(adata.varm["true_off"]).all(axis=1)
    return error.abs().to_numpy()[fitted], is_switched_off[fitted]


def compute_velocity_kernel(adata: AnnData) -> VelocityKernel:
    """Compute the transition matrix of the velocities, and tell how long it takes once it is compiled."""
    kernel = VelocityKernel(adata).compute_transition_matrix()
    start = time.perf_counter()
    with workflow.only("warning"):
        jax.block_until_ready(VelocityKernel(adata).compute_transition_matrix().transitions)
    logger.info("    Most of that is preparation: once more, it takes %.3f s", time.perf_counter() - start)
    return kernel


def _share_forward(transitions: sp.csr_matrix, adata: AnnData) -> str:
    hours = adata.obs["true_time"].to_numpy()
    return f"{np.mean(transitions @ hours > hours):.1%}"


def report_ends(adata: AnnData, walks: np.ndarray) -> None:
    """Tell how many of the walks end in each fate, and how many should."""
    fates = adata.obs["true_fate"].cat
    ends = fates.codes.to_numpy()[walks[:, -1]]
    expected = adata.obsm["true_fate_probabilities"][walks[:, 0]].mean(axis=0)
    shares = [f"{name} {np.mean(ends == i):.1%} (true: {expected[i]:.1%})" for i, name in enumerate(fates.categories)]
    logger.info(
        "They started in `%s`, and end in: %s, before the branching %.1f%%",
        ROOT,
        ", ".join(shares),
        100 * np.mean(ends < 0),
    )


def report_fates(adata: AnnData, estimator: GPCCA) -> None:
    """Tell how well fate probabilities agree with the true fates."""
    if estimator.fate_probabilities is None:
        return
    fates = adata.obs["true_fate"].cat
    truth = fates.codes.to_numpy()
    found, shares = true_fates_of(adata, estimator), np.bincount(truth[truth >= 0]) / np.sum(truth >= 0)
    missing = [name for name, total in zip(fates.categories, found.sum(axis=0), strict=True) if not total]
    if missing:
        logger.info("No terminal state is of %s", ", ".join(missing))
    logger.info("Fates of the %d cells after the branching:", np.sum(truth >= 0))
    logger.info("    %-18s %9s %10s", "", "accuracy", "log score")
    for label, probabilities in (("probabilities", found), ("the fates' shares", np.tile(shares, (len(truth), 1)))):
        scores = fate_scores(probabilities, truth)
        logger.info("    %-18s %9.3f %10.3f", label, scores.accuracy, scores.log_score)
    before = truth < 0
    expected = adata.obsm["true_fate_probabilities"][before].mean(axis=0)
    means = zip(fates.categories, found[before].mean(axis=0), expected, strict=True)
    shown = ", ".join(f"{name} {mean:.1%} (true: {true:.1%})" for name, mean, true in means)
    logger.info("Before it, their mean is: %s", shown)


def true_fates_of(adata: AnnData, estimator: GPCCA) -> np.ndarray:
    """Add up the probabilities of the terminal states whose cells have the same true fate, by most of them."""
    states, truth = estimator.terminal_states, adata.obs["true_fate"].cat
    total = np.zeros((adata.n_obs, len(truth.categories)))
    if estimator.fate_probabilities is None or states is None:
        return total
    for name, column in zip(estimator.fate_probabilities.names, estimator.fate_probabilities.X.T, strict=True):
        counts = np.bincount(1 + truth.codes[(states == name).to_numpy()], minlength=1 + total.shape[1])
        if counts.argmax():  # most of its cells are after the branching
            total[:, counts.argmax() - 1] += column
    return total


def report_branch_genes(adata: AnnData, estimator: GPCCA) -> None:
    """Tell how many of the genes that go with a fate are switched on in its branch alone."""
    fates = list(adata.obs["true_fate"].cat.categories)
    is_on = np.isfinite(adata.varm["true_on"])
    counts = []
    for name, genes in top_drivers(estimator, N_DRIVERS).items():
        if name in fates:
            of_branch = adata.var_names[is_on[:, fates.index(name)] & (is_on.sum(axis=1) == 1)]
            counts.append(f"{name} {len(set(of_branch) & {gene for gene, _ in genes})}")
    if counts:
        logger.info("Of the first %d, switched on in that branch alone: %s", N_DRIVERS, ", ".join(counts))
