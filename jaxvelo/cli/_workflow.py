"""The steps that ``demo`` and ``run`` share: from counts to velocities, kernels and walks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo import pp, tl
from jaxvelo.annotated.clusters import cluster_names
from jaxvelo.annotated.genes import velocity_genes
from jaxvelo.cli._errors import message_of
from jaxvelo.cli._plan import Graph
from jaxvelo.cli._stale import forget_ranks_of_fits, forget_velocities
from jaxvelo.configuration import logger, settings, timed
from jaxvelo.kernels import ConnectivityKernel, Kernel, KernelExpression
from jaxvelo.markov import mass_between_clusters, random_walks, sample_starts

ROOT_KEYS = ("root_cells", "starting_cells", "root_states_probs")
N_PCS, N_NEIGHBORS = 30, 30
MIN_SHARED_COUNTS = 20
# With fewer genes that have a fit, the dynamical model says too little about a cell.
LEAST_FITTED = 10
N_WALKS, N_STEPS = 1000, 200
N_ENDS_SHOWN = 20
N_COMPARED = 200


@contextlib.contextmanager
def only(level: str) -> Iterator[None]:
    """Leave out what is told below a level, of a step that is done in passing."""
    known, settings.verbosity = settings.verbosity, level
    try:
        yield
    finally:
        settings.verbosity = known


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


def filter_and_normalize(
    adata: AnnData, n_top_genes: int | None, min_shared_counts: int | None = None, enforce: bool | None = None
) -> None:
    """Filter genes, normalise cells and find the highly variable genes, as in the tutorial.

    Parameters
    ----------
    adata
        Cells with counts.
    n_top_genes
        Number of highly variable genes; None to find none.
    min_shared_counts
        Least number of spliced and unspliced counts of a gene.
    enforce
        Whether counts are normalised; None: by what they look like.
    """
    least = MIN_SHARED_COUNTS if min_shared_counts is None else min_shared_counts
    pp.filter_and_normalize(
        adata, min_shared_counts=least, n_top_genes=n_top_genes, subset_highly_variable=False, enforce=enforce
    )


def first_counts(adata: AnnData) -> tuple[sp.csr_matrix, pd.Index]:
    """Counts of the first cells, to be compared with what becomes of them, and the names of their genes."""
    counts = adata.layers.get("spliced", adata.X)
    return sp.csr_matrix(counts[:N_COMPARED], dtype=np.float64), adata.var_names


def are_scaled(adata: AnnData, before: tuple[sp.csr_matrix, pd.Index]) -> bool:
    """Whether counts differ from what they were, by more than logarithms."""
    counts, genes = before
    counts, after = counts[:, genes.get_indexer(adata.var_names)], first_counts(adata)[0]
    return all(
        abs(after - former).max() > 1e-4 * max(1.0, former.max()) for former in (counts, counts.maximum(0).log1p())
    )


def add_neighbors(
    adata: AnnData,
    graph: Graph,
    seed: int,
    *,
    n_neighbors: int | None = None,
    n_pcs: int | None = None,
    use_rep: str | None = None,
) -> None:
    """Compute neighbours, and principal components where there are none.

    Parameters
    ----------
    adata
        Cells.
    graph
        Where neighbours are written.
    seed
        Seed.
    n_neighbors, n_pcs
        Numbers of neighbours and components; 30 of each, or as many as there can be, if None.
    use_rep
        Representation of the cells; principal components if None.
    """
    key_added = None if graph.is_default else graph.key
    if n_neighbors is None:
        n_neighbors = min(N_NEIGHBORS, adata.n_obs - 1)
    if use_rep is None and "X_pca" not in adata.obsm:
        n_genes = int(adata.var["highly_variable"].sum()) if "highly_variable" in adata.var else adata.n_vars
        n_pcs = min(N_PCS, adata.n_obs - 1, n_genes - 1) if n_pcs is None else n_pcs
        cells = _logarithms(adata)
        pp.neighbors(cells, n_neighbors, n_pcs, "X_pca", key_added=key_added, random_state=seed)
        if cells is not adata:
            adata.obsm["X_pca"], adata.varm["PCs"] = cells.obsm["X_pca"], cells.varm["PCs"]
            for slot in ("obsp", "uns"):
                for key, value in getattr(cells, slot).items():
                    getattr(adata, slot)[key] = value
        return
    if use_rep is None:
        use_rep = "X_pca"
        n_pcs = min(N_PCS, adata.obsm["X_pca"].shape[1]) if n_pcs is None else n_pcs
        logger.info("Using the principal components in `obsm['X_pca']`")
    pp.neighbors(adata, n_neighbors, n_pcs, use_rep, key_added=key_added, random_state=seed)


def _logarithms(adata: AnnData) -> AnnData:
    """Return cells with logarithms of their expression in X: an object of its own unless the file says they are."""
    if adata.X is not None and "log1p" in adata.uns:
        return adata
    counts = adata.layers["spliced"] if adata.X is None else adata.X
    cells = AnnData(counts, obs=adata.obs[[]], var=adata.var[[k for k in adata.var if k == "highly_variable"]])
    logger.info("Principal components are of the logarithms of %s", "the spliced counts" if adata.X is None else "X")
    with only("warning"):
        pp.filter_and_normalize(cells)
    return cells


def add_moments(adata: AnnData, graph: Graph, enforce: bool | None) -> None:
    """Compute moments over the neighbours, normalising first if ``enforce``; None: if counts look raw."""
    pp.moments(adata, enforce=enforce, **_named(graph))


def add_velocities(adata: AnnData, mode: str, graph: Graph, *, fit: bool = True, may_fall_back: bool = True) -> str:
    """Compute velocities, and return the model that they are of.

    Parameters
    ----------
    adata
        Cells with moments.
    mode
        Model.
    graph
        Neighbours.
    fit
        Whether to fit the dynamical model; otherwise its stored fit is taken.
    may_fall_back
        Whether another model may take the place of the dynamical one where too few genes have a fit: that is for the
        user to say.

    Raises
    ------
    ValueError
        If too few genes have a fit and no other model may take its place.
    """
    forget_velocities(adata, "velocity")
    if mode == "dynamical":
        # The stochastic model needs the counts, which a file with moments may lack.
        other = "stochastic" if {"spliced", "unspliced"} <= set(adata.layers) else "deterministic"
        reason, detail = _add_dynamical_velocities(adata, graph, fit)
        if reason and not may_fall_back:
            raise ValueError(f"{reason}. {detail} Choose stochastic or deterministic as --velocity-mode.")
        if reason:
            logger.warning("%s: taking the %s model instead. %s", reason, other, detail)
            mode = other
    if mode != "dynamical":
        tl.velocity(adata, mode=mode, **_named(graph))
    # A column with one value for all genes is not written.
    chosen = velocity_genes(adata, "velocity", "Delete the column, and compute velocities anew.")
    n_genes = adata.n_vars if chosen is None else int(chosen.sum())
    logger.info("Found %d velocity genes", n_genes)
    return mode


def _named(graph: Graph) -> dict[str, Any]:
    """Arguments that name neighbours other than the usual ones."""
    return {} if graph.is_default else {"neighbors_key": graph.key}


def _add_dynamical_velocities(adata: AnnData, graph: Graph, fit: bool) -> tuple[str, str]:
    """Fit the dynamical model and compute its velocities; return why there are none, and more of it, or nothing."""
    if fit:
        forget_ranks_of_fits(adata)
        try:
            tl.recover_dynamics(adata, **_named(graph))
        except ValueError as error:  # there is no gene to fit, as all else has been checked
            return "The dynamical model cannot be fitted", message_of(error)
    n_fitted = int(adata.var["fit_alpha"].notna().sum())
    if n_fitted < LEAST_FITTED:
        return f"Only {n_fitted} genes have a fit of the dynamical model, fewer than {LEAST_FITTED}", ""
    tl.velocity(adata, mode="dynamical", **_named(graph))
    n_genes = int(adata.var["velocity_genes"].sum())
    if n_genes < 2:
        del adata.layers["velocity_u"]
        return f"Only {n_genes} genes have a dynamical fit that is good enough", ""
    return "", ""


def add_latent_time(adata: AnnData, graph: Graph) -> bool:
    """Compute the time that all genes share, or say why there is none."""
    if graph.distances is None and not any(key in adata.obs for key in ROOT_KEYS):
        logger.warning(
            "Going on without a latent time: root cells for it need the distances of the neighbours, which the file "
            "lacks. Have neighbours computed with --recompute neighbors, or store root cells in `obs['root_cells']`."
        )
        return False
    try:
        mode = "connectivities" if graph.distances is None else "distances"
        tl.velocity_graph(adata, mode_neighbors=mode, **_named(graph))
        tl.latent_time(adata, **_named(graph))
    except Exception as error:  # a result less, not the end of the flow
        logger.warning("Going on without a latent time: %s", message_of(error))
        return False
    return True


def combine(directed: Kernel, weight: float, graph: Graph) -> KernelExpression:
    """Combine a computed kernel, of velocities or along a time, with the similarity of the cells."""
    kernel: KernelExpression = directed
    if weight < 1:
        similarity = ConnectivityKernel(directed.adata, conn_key=graph.connectivities).compute_transition_matrix()
        kernel = weight * directed + round(1 - weight, 9) * similarity
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
    column = adata.obs[cluster_key]
    names, codes = [*cluster_names(column, cluster_key), "no cluster"], column.cat.codes.to_numpy()[walks[:, -1]]
    shares = np.bincount(np.where(codes < 0, len(names) - 1, codes), minlength=len(names)) / len(codes)
    largest = [i for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    shown = [f"{names[i]} {shares[i]:.1%}" for i in largest[:N_ENDS_SHOWN]]
    if len(largest) > N_ENDS_SHOWN:
        shown.append(f"{len(largest) - N_ENDS_SHOWN} others {shares[largest[N_ENDS_SHOWN:]].sum():.1%}")
    logger.info("They end in: %s", ", ".join(shown))


def net_flow(kernel: KernelExpression, cluster_key: str, n_shown: int = 8) -> list[tuple[str, str, float]]:
    """Pairs of clusters between which the net flow is strongest, from where to where, and cells per step."""
    column = kernel.adata.obs[cluster_key].cat
    codes = column.codes.to_numpy()  # -1: in no cluster
    flow = mass_between_clusters(kernel.require_transitions(), codes, codes, len(column.categories))
    net = sp.coo_matrix(flow - flow.T)
    strongest = np.argsort(-net.data, kind="stable")[:n_shown]
    names = cluster_names(kernel.adata.obs[cluster_key], cluster_key)
    found = zip(net.row[strongest], net.col[strongest], net.data[strongest], strict=True)
    return [(names[a], names[b], float(x)) for a, b, x in found if x >= 0.05]


def report_flow(kernel: KernelExpression, cluster_key: str) -> None:
    """Tell between which clusters the net flow is strongest."""
    lines = [f"    {a} -> {b}: {x:.1f}" for a, b, x in net_flow(kernel, cluster_key)]
    if lines:
        logger.info("Net flow between clusters, in cells per step:\n%s", "\n".join(lines))
