"""The steps that ``demo`` and ``run`` share: from counts to velocities, kernels, walks and pictures."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxvelo import pl, pp, tl
from jaxvelo.annotations import FIT_ARRAYS, FIT_COLUMNS, FIT_LAYERS, read_embedding
from jaxvelo.configuration import logger, settings, timed
from jaxvelo.kernels import ConnectivityKernel, KernelExpression, VelocityKernel
from jaxvelo.markov import random_walks, sample_starts

if TYPE_CHECKING:
    from anndata import AnnData

N_PCS, N_NEIGHBORS = 30, 30
MIN_SHARED_COUNTS = 20
# With fewer genes that have a fit, the dynamical model says too little about a cell.
LEAST_FITTED = 10
N_PORTRAITS = 8
N_WALKS, N_STEPS, N_WALKS_DRAWN = 1000, 200, 100


def heading(text: str) -> None:
    """Begin a part of the report."""
    logger.info("\n%s\n%s", text, "-" * len(text))


def require_drawing() -> None:
    """Choose a backend of matplotlib that only writes files; raise an ImportError if there is no matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('Drawing needs matplotlib. Install it: pip install "jaxvelo[tutorial]"') from error
    matplotlib.use("Agg")


def require_scanpy() -> None:
    """Raise an ImportError if there is no scanpy."""
    try:
        import scanpy  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Principal components, neighbours and UMAP need scanpy. Install it: pip install "jaxvelo[tutorial]"'
        ) from error


def filter_and_normalize(adata: AnnData, n_top_genes: int) -> None:
    """Filter genes, normalise cells and find the highly variable genes, as in the tutorial."""
    pp.filter_and_normalize(
        adata, min_shared_counts=MIN_SHARED_COUNTS, n_top_genes=n_top_genes, subset_highly_variable=False
    )


def add_neighbors(adata: AnnData, seed: int, use_rep: str = "X_pca", key_added: str | None = None) -> None:
    """Compute 30 neighbours in 30 principal components, which are computed too if there are none, or in ``use_rep``."""
    n_pcs = None
    if use_rep == "X_pca":
        if use_rep in adata.obsm:
            logger.info("Using the principal components in `adata.obsm['X_pca']`")
            most = adata.obsm[use_rep].shape[1]
        else:
            n_genes = int(adata.var["highly_variable"].sum()) if "highly_variable" in adata.var else adata.n_vars
            most = min(adata.n_obs, n_genes) - 1
        n_pcs = min(N_PCS, most)
    n_neighbors = min(N_NEIGHBORS, adata.n_obs - 1)
    pp.neighbors(adata, n_neighbors, n_pcs, use_rep, key_added=key_added, random_state=seed)


def add_velocities(adata: AnnData, mode: str) -> str:
    """Compute moments and velocities, and return the model that they are of.

    That is the stochastic model where the dynamical one was asked for and too few genes have a fit.
    """
    pp.moments(adata)
    _forget_fits(adata)
    if mode == "dynamical" and not _add_dynamical_velocities(adata):
        mode = "stochastic"
    if mode != "dynamical":
        tl.velocity(adata, mode=mode)
    # A column with one value for all genes is not written.
    n_genes = int(adata.var["velocity_genes"].sum()) if "velocity_genes" in adata.var else adata.n_vars
    logger.info("Found %d velocity genes", n_genes)
    return mode


def _forget_fits(adata: AnnData) -> None:
    """Leave out what the file may hold of fits to other moments, and the genes that were chosen by them."""
    stale = {
        "var": {"velocity_genes", "fit_r2", "fit_status", *FIT_COLUMNS},
        "layers": set(FIT_LAYERS),
        "varm": set(FIT_ARRAYS) if "fit_alpha" in adata.var else set(),
    }
    found = {slot: [name for name in getattr(adata, slot) if name in names] for slot, names in stale.items()}
    for slot, names in found.items():
        for name in names:
            del getattr(adata, slot)[name]
    if any(found.values()):
        logger.info("Leaving out an earlier fit, as moments are new: %s", ", ".join(itertools.chain(*found.values())))


def _add_dynamical_velocities(adata: AnnData) -> bool:
    """Fit the dynamical model and compute its velocities, or say why there are none."""
    shows_progress = sys.stderr.isatty() and settings.verbosity in ("info", "debug")
    try:
        tl.recover_dynamics(adata, show_progress_bar=shows_progress)
    except ValueError as error:  # there is no gene to fit, as all else has been checked
        logger.warning("The dynamical model cannot be fitted: taking the stochastic one instead. %s", error)
        return False
    n_fitted = int(adata.var["fit_alpha"].notna().sum())
    if n_fitted < LEAST_FITTED:
        logger.warning(
            "Only %d genes have a fit of the dynamical model, fewer than %d: taking the stochastic model instead",
            n_fitted,
            LEAST_FITTED,
        )
        return False
    tl.velocity(adata, mode="dynamical")
    n_genes = int(adata.var["velocity_genes"].sum())
    if n_genes < 2:
        logger.warning("Only %d genes have a dynamical fit that is good enough: taking the stochastic model", n_genes)
        del adata.layers["velocity_u"]
        return False
    return True


def add_latent_time(adata: AnnData) -> bool:
    """Compute the time that all genes share, or say why there is none."""
    try:
        # The file may hold a graph of other velocities.
        tl.velocity_graph(adata)
        tl.latent_time(adata)
    except (ArithmeticError, KeyError, ValueError) as error:  # a result less, not the end of the flow
        logger.warning("Going on without a latent time: %s", error)
        return False
    return True


def add_umap(adata: AnnData, seed: int) -> None:
    """Compute a UMAP."""
    import scanpy as sc

    # The file may hold the graph alone, without scanpy's note of how it was made.
    adata.uns.setdefault("neighbors", {"connectivities_key": "connectivities", "params": {"method": "umap"}})
    with timed("Computing the embedding `umap`"):
        sc.tl.umap(adata, random_state=seed)


def combine(velocity: VelocityKernel, weight: float) -> KernelExpression:
    """Combine a computed velocity kernel with the similarity of the cells."""
    kernel: KernelExpression = velocity
    if weight < 1:
        similarity = ConnectivityKernel(velocity.adata).compute_transition_matrix()
        kernel = weight * velocity + round(1 - weight, 9) * similarity
    logger.info("%s", kernel)
    return kernel


def simulate_walks(kernel: KernelExpression, start: np.ndarray, seed: int) -> np.ndarray:
    """Simulate random walks from the cells of a mask; shape ``(walks, steps + 1)``."""
    start_key, walk_key = jax.random.split(jax.random.key(seed))
    with timed(f"Simulating {N_WALKS} random walks of {N_STEPS} steps"):
        starts = sample_starts(start_key, jnp.asarray(start), N_WALKS)
        visited, _ = random_walks(kernel.transitions, starts, walk_key, N_STEPS)
        return np.asarray(visited)


def report_ends(adata: AnnData, walks: np.ndarray, cluster_key: str) -> None:
    """Tell in which clusters walks end."""
    ends = adata.obs[cluster_key].iloc[walks[:, -1]].value_counts(normalize=True)
    logger.info("They end in: %s", ", ".join(f"{name} {share:.1%}" for name, share in ends.items() if share > 0))


def report_flow(kernel: KernelExpression, cluster_key: str, n_shown: int = 8) -> None:
    """Tell between which clusters the net flow is strongest."""
    column = kernel.adata.obs[cluster_key].cat
    member = (column.codes.to_numpy()[:, None] == np.arange(len(column.categories))).astype(float)
    flow = member.T @ (kernel.require_transitions() @ member)
    net = flow - flow.T
    strongest = [np.unravel_index(i, net.shape) for i in np.argsort(-net, axis=None)[:n_shown]]
    names = [str(name) for name in column.categories]
    lines = [f"    {names[a]} -> {names[b]}: {net[a, b]:.1f}" for a, b in strongest if net[a, b] >= 0.05]
    if lines:
        logger.info("Net flow between clusters, in cells per step:\n%s", "\n".join(lines))


def draw(kernel: KernelExpression, walks: np.ndarray, basis: str, cluster_key: str | None, out: Path) -> list[Path]:
    """Draw the projection, the walks and the proportions of the counts, and return the files."""
    adata = kernel.adata
    color = "grey" if cluster_key is None else cluster_key
    # In three dimensions there are no stream lines.
    kinds = ["grid"] if read_embedding(adata, basis).shape[1] == 3 else ["stream", "grid"]
    pictures = [out / f"{name}.png" for name in (*kinds, "random_walks")]
    for kind, picture in zip(kinds, pictures, strict=False):
        kernel.plot_projection(basis, recompute=kind == kinds[0], stream=kind == "stream", color=color, save=picture)
    pl.random_walks(adata, list(walks[:N_WALKS_DRAWN]), basis, color=color, save=pictures[-1])
    if cluster_key is not None and {"spliced", "unspliced"} <= set(adata.layers):
        pictures.append(out / "proportions.png")
        pl.proportions(adata, cluster_key, save=pictures[-1])
    return pictures


def draw_dynamics(adata: AnnData, basis: str, cluster_key: str | None, out: Path) -> list[Path]:
    """Draw phase portraits of the genes that fit best, and the latent time if there is one, and return the files."""
    pictures = [out / "phase_portraits.png"]
    likelihood = adata.var["fit_likelihood"].where(adata.var["velocity_genes"])
    genes = list(likelihood.nlargest(N_PORTRAITS).index)
    pl.phase_portrait(adata, genes, "grey" if cluster_key is None else cluster_key, save=pictures[0])
    if "latent_time" in adata.obs:
        pictures.append(out / "latent_time.png")
        pl.scatter(adata, basis, color="latent_time", title="latent time", save=pictures[-1])
    return pictures
