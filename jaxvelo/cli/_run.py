"""``jaxvelo run``: the whole flow on a user's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import layer_names
from jaxvelo.annotated.transition_keys import default_key
from jaxvelo.cli import _pictures as pictures
from jaxvelo.cli import _workflow as workflow
from jaxvelo.cli._account import Account, collected_warnings
from jaxvelo.cli._along_time import compute_kernel_along_time, expression_of_variable_genes, normalize_expression
from jaxvelo.cli._clustering import choose_clusters, starting_cells
from jaxvelo.cli._errors import reason, step
from jaxvelo.cli._fates import find_fates, report_drivers, report_fates
from jaxvelo.cli._h5ad_files import leave_out_unwritable, read_data
from jaxvelo.cli._html_page import require_markdown
from jaxvelo.cli._plan import Graph, Options, Plan, make_plan
from jaxvelo.cli._plan_along_time import DAYS, goes_along_time, make_plan_along_time
from jaxvelo.cli._results import check_folder, default_folder, salvage, save, save_again
from jaxvelo.cli._stale import forget_components, forget_fates, forget_fits, forget_kernel
from jaxvelo.cli._trends import find_trends, report_lines, write_table
from jaxvelo.cli._umap import add_umap, require_umap
from jaxvelo.cli._written_summary import write_summary
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels import KernelExpression, VelocityKernel

if TYPE_CHECKING:
    from anndata import AnnData


def run(options: Options, written: list[Path]) -> None:
    """Run the flow on a file, and add the files that were written to a list.

    Whatever can be wrong with the file, the options or the folder is looked at first; then comes what takes long, then
    ``kernel.h5ad``, and the pictures and what is written about them last.
    """
    with collected_warnings() as warnings:
        _run(options, written, warnings)


def _run(options: Options, written: list[Path], warnings: list[str]) -> None:
    """Run the flow; what is warned of comes to stand in a list."""
    file, seed = options.file, options.seed
    out = default_folder(file) if options.out is None else options.out
    workflow.require_drawing()
    if options.report:
        require_markdown()
    with timed(f"Reading `{file}`"):
        adata = read_data(file)
    with step("Looking at what the file holds"):
        leave_out_unwritable(adata)
        name_uniquely(adata)
        name_counts(adata, options)
        tell_contents(adata)
        cluster_key = choose_clusters(adata, options.cluster_key, options.time_key)
        starts = starting_cells(adata, cluster_key, options.start)
        plan = (make_plan_along_time if goes_along_time(adata, options) else make_plan)(adata, options)
    if plan.umap:
        require_umap()
    check_folder(out, file)

    if plan.time is not None:
        workflow.heading("Expression" if not plan.neighbors else "Expression and neighbours")
    elif plan.velocities:
        workflow.heading("From counts to velocities")
    elif plan.neighbors or plan.moments:
        workflow.heading("What the file lacks")
    shape = adata.shape
    counts = workflow.first_counts(adata) if plan.prepares_counts else None
    mode = prepare(adata, plan, options)
    is_normalized = counts is not None and workflow.are_scaled(adata, counts)

    workflow.heading("Transition matrix")
    # What another kernel led to must not stand beside what this one does, nor beside its matrix.
    if options.fates or options.kernel_key == default_key(options.backward):
        forget_fates(adata, options.backward)
    time_key = None
    try:
        if plan.time is None:
            kernel, features = compute_kernel(adata, plan, options)
        else:
            kernel, time_key = compute_kernel_along_time(adata, plan, options)
            features = expression_of_variable_genes(adata) if plan.umap else np.empty((adata.n_obs, 0))
    except Exception:
        if plan.velocities:
            salvage(adata, out, written)
        raise
    basis = add_umap(adata, plan.graph, features, seed) if plan.umap else plan.basis
    add_arrows(kernel, basis, options.kernel_key, over_couplings=plan.time == DAYS)
    failure = save(kernel, options.kernel_key, out, written)
    if cluster_key is not None:
        workflow.report_flow(kernel, cluster_key)

    workflow.heading("Random walks")
    walks = workflow.simulate_walks(kernel, starts, seed)
    if cluster_key is not None:
        workflow.report_ends(adata, walks, cluster_key)
    drawn = list(pictures.of_kernel(kernel, options.kernel_key, walks, basis, cluster_key))
    if mode == "dynamical":
        drawn += pictures.of_dynamics(adata, basis, cluster_key)

    estimator, trends = None, None
    if options.fates:
        workflow.heading("Terminal states and fates")
        layer = None if options.xkey == "X" or time_key is not None else options.xkey
        estimator = find_fates(kernel, cluster_key, options.n_states, layer)
        report_fates(estimator, cluster_key)
        report_drivers(estimator)
        if options.kernel_key != default_key(options.backward):
            logger.info("Fates and states are those of `obsp[%r]`", options.kernel_key)
        if time_key is not None:
            workflow.heading("Genes along the time")
            trends = find_trends(estimator, time_key, options.backward)
        if trends is not None:
            for line in report_lines(trends, estimator):
                logger.info("%s", line)
            write_table(trends, out, written)
        if failure is None:
            save_again(kernel, out)
        drawn += pictures.of_fates(estimator, basis, layer)
        if trends is not None:
            drawn += pictures.of_trends(estimator, trends, cluster_key)

    workflow.heading("Pictures")
    pictures.draw(drawn, out, written)
    account = Account(
        source=f"jaxvelo run {file.name}",
        shape=shape,
        options=options,
        plan=plan,
        normalized=is_normalized,
        mode=mode,
        kernel=kernel,
        estimator=estimator,
        trends=trends,
        basis=basis,
        cluster_key=cluster_key,
        time_key=time_key,
        warnings=warnings,
    )
    write_summary(account, out, written)
    if failure is not None:
        raise failure


def prepare(adata: AnnData, plan: Plan, options: Options) -> str | None:
    """Compute what the file lacks, up to neighbours or velocities; return the model of these if they are computed."""
    if "all" in options.recompute:
        forget_components(adata)
    elif not plan.neighbors and plan.time is None:
        name_graph(adata, plan.graph)
    if plan.time is not None:
        normalize_expression(adata, plan, options)
    elif plan.counts:
        with step("Filtering genes and normalising cells"):
            workflow.filter_and_normalize(adata, plan.n_top_genes, options.min_shared_counts, options.enforce)
    if plan.neighbors:
        with step("Computing neighbours", "Name another representation of the cells as --use-rep."):
            workflow.add_neighbors(
                adata,
                plan.graph,
                options.seed,
                n_neighbors=options.n_neighbors,
                n_pcs=options.n_pcs,
                use_rep=options.use_rep,
            )
    if plan.moments:
        with step("Computing moments"):
            # Whether counts are normalised has been decided where genes have been filtered.
            workflow.add_moments(adata, plan.graph, False if plan.counts else options.enforce)
    if not plan.velocities:
        return None
    if plan.moments:
        forget_fits(adata)
    with step("Computing velocities", "Choose another model as --velocity-mode."):
        mode = workflow.add_velocities(
            adata, plan.mode, plan.graph, fit=plan.fit, may_fall_back=options.velocity_mode is None
        )
    if mode == "dynamical" and plan.latent_time:
        workflow.add_latent_time(adata, plan.graph)
    elif mode == "dynamical":
        logger.info("Using the latent time in `obs['latent_time']`")
    return mode


def name_graph(adata: AnnData, graph: Graph) -> None:
    """Give neighbours of which the file holds the graph alone a name, by which functions find it."""
    if graph.key == graph.connectivities and graph.key not in adata.uns:
        adata.uns[graph.key] = {"connectivities_key": graph.connectivities, "params": {}}


def compute_kernel(adata: AnnData, plan: Plan, options: Options) -> tuple[KernelExpression, np.ndarray]:
    """Compute the transition matrix; return the kernel, and the expression that it uses."""
    forget_kernel(adata, options.kernel_key)
    with step("Computing the transition matrix"):
        velocity = VelocityKernel(
            adata,
            backward=options.backward,
            xkey=options.xkey,
            vkey=options.vkey,
            conn_key=plan.graph.connectivities,
        )
        velocity.compute_transition_matrix(
            model=options.model,
            similarity=options.similarity,
            softmax_scale=options.softmax_scale,
            seed=options.seed,
        )
        kernel = workflow.combine(velocity, options.weight, plan.graph)
    return kernel, np.asarray(velocity.features[velocity.features_name].x)[: adata.n_obs]


def add_arrows(kernel: KernelExpression, basis: str, key: str, over_couplings: bool) -> None:
    """Project the transition matrix onto the embedding, or say why there are no arrows."""
    try:
        # Cells of days go to cells that are not among their neighbours.
        ways = kernel.transition_matrix if over_couplings else None
        kernel.add_projection(basis, key, recompute=True, connectivities=ways)
    except Exception as error:  # pictures less, not the end of the flow
        logger.warning("Could not project the transition matrix onto `%s`: %s", basis, reason(error))


def name_uniquely(adata: AnnData) -> None:
    """Make the names of the cells unique, and say so; those of the genes are when they have been read."""
    repeated = adata.obs_names[adata.obs_names.duplicated()]
    if len(repeated):
        adata.obs_names_make_unique()
        logger.info(
            "Renamed %d cells, so that each has a name of its own: the further ones of %s",
            len(repeated),
            listed(repeated.unique(), 3),
        )


def name_counts(adata: AnnData, options: Options) -> None:
    """Take the layers that the user names for the spliced and the unspliced counts.

    Raises
    ------
    KeyError
        If there is no such layer.
    """
    found = {}
    for name, key in (("spliced", options.spliced), ("unspliced", options.unspliced)):
        if key in (None, name):
            continue
        if key not in layer_names(adata) and not (key == "X" and adata.X is not None):
            raise KeyError(
                f"Expected {name} counts in `layers[{key!r}]`, found the layers {listed(sorted(layer_names(adata)))}. "
                f"Name one of these, or X, as --{name}."
            )
        found[name] = adata.X.copy() if key == "X" else adata.layers[key]
        replaced = " in place of the layer of that name" if name in layer_names(adata) else ""
        logger.info("Taking `%s` for the %s counts%s", "X" if key == "X" else f"layers[{key!r}]", name, replaced)
    for name, counts in found.items():
        adata.layers[name] = counts


def tell_contents(adata: AnnData) -> None:
    """Say what the file holds."""
    logger.info(
        "Found %d cells and %d genes; layers %s; embeddings %s; graphs %s",
        *adata.shape,
        *(", ".join(sorted(names)) or "none" for names in (layer_names(adata), adata.obsm.keys(), adata.obsp.keys())),
    )
