"""``jaxvelo demo``: the whole flow on simulated cells, compared with what is true of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import scipy.sparse as sp

from jaxvelo import datasets
from jaxvelo.cli import _flow as flow
from jaxvelo.cli._files import KERNEL, prepare_folder, write_h5ad
from jaxvelo.configuration import logger, settings, timed
from jaxvelo.kernels import VelocityKernel

if TYPE_CHECKING:
    from anndata import AnnData

# Small graphs compile fastest, and compiling is nearly all of the time that the demonstration takes.
N_CELLS = 500
ROOT = "Progenitor"
WEIGHT = 0.8


def demo(out: Path, seed: int) -> list[Path]:
    """Run the flow on the simulation and return the files that were written."""
    flow.require_drawing()
    flow.require_scanpy()
    prepare_folder(out)

    flow.heading("Simulated cells")
    with timed("Simulating cells on a branching splicing process"):
        adata = datasets.simulate(N_CELLS, seed=seed)
    logger.info("%d cells and %d genes: a trunk of 10 hours, then two fates until 24 hours", *adata.shape)

    flow.heading("From counts to velocities")
    flow.filter_and_normalize(adata, n_top_genes=2000)
    flow.add_neighbors(adata, seed)
    flow.add_velocities(adata)
    logger.info("Correlation with the true velocities, mean over cells: %.2f", velocity_correlation(adata))

    flow.heading("Transition matrix")
    velocity = compare_models(adata, seed)
    kernel = flow.combine(velocity, WEIGHT)
    logger.info(
        "%s of cells expect to be later in true time after a step", _share_forward(kernel.require_transitions(), adata)
    )
    flow.report_flow(kernel, "clusters")

    flow.heading("Random walks and pictures")
    walks = flow.simulate_walks(kernel, (adata.obs["clusters"] == ROOT).to_numpy(), seed)
    report_fates(adata, walks)
    pictures = flow.draw(kernel, walks, "umap", "clusters", out)
    kernel.write_to_adata()
    with timed(f"Writing `{out / KERNEL}`"):
        write_h5ad(adata, out / KERNEL)
    return [out / KERNEL, *pictures]


def velocity_correlation(adata: AnnData) -> float:
    r"""Correlation over velocity genes of estimated and true velocities, mean over cells.

    Steady-state models count time in units of each gene's :math:`1 / \beta`, so true velocities are taken in these.
    """
    genes = adata.var["velocity_genes"].to_numpy() if "velocity_genes" in adata.var else slice(None)
    estimated = adata.layers["velocity"][:, genes]
    true = adata.layers["true_velocity"][:, genes] / adata.var["true_beta"].to_numpy()[genes]
    estimated, true = (v - v.mean(axis=1, keepdims=True) for v in (estimated, true))
    norms = np.linalg.norm(estimated, axis=1) * np.linalg.norm(true, axis=1)
    return float(np.mean(np.sum(estimated * true, axis=1) / norms))


def compare_models(adata: AnnData, seed: int) -> VelocityKernel:
    """Compute the transition matrix with each model, tell time and quality, and return the deterministic kernel."""
    kernels, lines = {}, []
    for model in ("deterministic", "stochastic", "monte_carlo"):
        kernel = kernels[model] = VelocityKernel(adata)
        first = _seconds(kernel, model, seed)
        verbosity, settings.verbosity = settings.verbosity, "warning"
        again = _seconds(kernel, model, seed)
        settings.verbosity = verbosity
        forward = _share_forward(kernel.require_transitions(), adata)
        lines.append(f"    {model:<13} {first:9.2f} s {again:9.3f} s {forward:>9}")
    logger.info("    %-13s %11s %11s %9s\n%s", "model", "compiling", "again", "forward", "\n".join(lines))
    logger.info("(forward: cells whose true time is expected to be later after a step)")
    return kernels["deterministic"]


def _seconds(kernel: VelocityKernel, model: str, seed: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready(kernel.compute_transition_matrix(model, seed=seed).transitions)
    return time.perf_counter() - start


def _share_forward(transitions: sp.csr_matrix, adata: AnnData) -> str:
    hours = adata.obs["true_time"].to_numpy()
    return f"{np.mean(transitions @ hours > hours):.1%}"


def report_fates(adata: AnnData, walks: np.ndarray) -> None:
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
