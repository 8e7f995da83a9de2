"""What a file holds, what of it is used as it is, and what is computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense, read_array
from jaxvelo.annotated.counts import check_finite
from jaxvelo.annotated.entries import layer_names
from jaxvelo.annotated.fit_columns import has_fit
from jaxvelo.annotated.genes import highly_variable_genes
from jaxvelo.annotated.graphs import NEIGHBORS, graph_key, noted_neighbors, read_graph, usual_key
from jaxvelo.annotated.transition_keys import default_key
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from anndata import AnnData

MIN_CELLS, MIN_GENES = 10, 2
N_TOP_GENES = 2000
VELOCITY = "velocity"


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments of ``jaxvelo run``; what each means stands in its help. None: the user has not said it."""

    file: Path
    cluster_key: str | None = None
    time_key: str | None = None
    basis: str | None = None
    vkey: str = VELOCITY
    xkey: str = "Ms"
    spliced: str | None = None
    unspliced: str | None = None
    neighbors_key: str | None = None
    recompute: tuple[str, ...] = ()
    normalize: str | None = None
    min_shared_counts: int | None = None
    n_top_genes: int | None = None
    use_rep: str | None = None
    n_pcs: int | None = None
    n_neighbors: int | None = None
    velocity_mode: str | None = None
    weight: float = 0.8
    model: str = "deterministic"
    similarity: str = "correlation"
    softmax_scale: float | None = None
    backward: bool = False
    key: str | None = None
    start: str | None = None
    n_states: int | None = None
    fates: bool = True
    out: Path | None = None
    seed: int = 0
    report: bool = False

    @property
    def kernel_key(self) -> str:
        """Key of the transition matrix."""
        return self.key or default_key(self.backward)

    @property
    def enforce(self) -> bool | None:
        """Whether counts are normalised; None: by what they look like."""
        return None if self.normalize in (None, "auto") else self.normalize == "yes"

    def asks_for(self, stage: str) -> bool:
        """Whether a stage must be computed even where the file holds its result: an option says how, or to do so."""
        if stage in self.recompute or "all" in self.recompute:
            return True
        if stage == "counts":
            return any(x is not None for x in (self.normalize, self.min_shared_counts, self.n_top_genes))
        if stage == "neighbors":
            return any(x is not None for x in (self.use_rep, self.n_pcs, self.n_neighbors))
        if stage == "moments":
            return self.asks_for("counts")
        if stage == "velocity":
            return self.velocity_mode is not None or self.asks_for("moments")
        return False


@dataclasses.dataclass(frozen=True)
class Graph:
    """Neighbours: their entry in ``uns``, and their matrices in ``obsp``."""

    key: str
    connectivities: str
    distances: str | None

    @property
    def is_default(self) -> bool:
        """Whether functions find these neighbours without being told."""
        return self.key == NEIGHBORS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be computed.

    Attributes
    ----------
    n_top_genes
        Number of highly variable genes to find; None if those that the file marks are taken.
    neighbors, umap, moments, fit, velocities, latent_time
        Whether to compute these.
    graph
        Neighbours, those of the file or those to be computed.
    basis
        Embedding to draw in.
    counts
        Whether to filter genes and normalise cells for velocities; along a time, cells are normalised in any case.
    mode
        Model of the velocities, where these are computed.
    time
        What kind of time cells go along; None where they follow velocities.
    """

    n_top_genes: int | None
    neighbors: bool
    umap: bool
    graph: Graph
    basis: str
    counts: bool = False
    moments: bool = False
    fit: bool = False
    velocities: bool = False
    latent_time: bool = False
    mode: str = ""
    time: str | None = None

    @property
    def prepares_counts(self) -> bool:
        """Whether cells are normalised unless they are already."""
        return self.counts or self.time is not None


def make_plan(adata: AnnData, options: Options) -> Plan:
    """Look at what is there, decide what is to be computed, and tell both.

    Raises
    ------
    KeyError
        If a key that was asked for is not there.
    TypeError, ValueError
        If there are neither velocities nor counts to compute them from, what is there does not fit, or the options
        contradict each other.
    """
    layers = set(layer_names(adata))
    check_size(adata)
    _check_keys(layers, options)
    has_counts, has_moments = {"spliced", "unspliced"} <= layers, {"Ms", "Mu"} <= layers
    vkey, xkey = options.vkey, options.xkey
    velocities = vkey not in layers or options.asks_for("velocity")
    if velocities:
        moments = not has_moments or options.asks_for("moments")
    else:
        moments = xkey == "Ms" and xkey not in layers
    # Genes of a file with moments have been chosen, and its cells been normalised.
    counts = velocities and moments and (not has_moments or options.asks_for("counts"))
    if not has_counts and (moments or (velocities and not has_moments)):
        raise ValueError(_what_is_missing(layers, options, velocities))
    mode = options.velocity_mode or "dynamical"
    if velocities and mode == "stochastic" and not has_counts:
        raise ValueError(
            f"Expected counts in the layers 'spliced' and 'unspliced' for the stochastic model, found the layers "
            f"{listed(sorted(layers))}. Choose another --velocity-mode."
        )

    graph = None if options.asks_for("neighbors") else choose_graph(adata, options.neighbors_key)
    neighbors = graph is None
    if graph is None:
        graph = new_graph(options.neighbors_key)
        check_representation(adata, options, has_counts)
    else:
        check_graph(adata, graph)
    if not velocities:
        _check_velocities(adata, vkey)
        if not moments:
            _check_expression(adata, xkey)

    dynamical = velocities and mode == "dynamical"
    fit = dynamical and (
        moments or not has_fit(adata) or any(s in options.recompute for s in ("velocity", "moments", "all"))
    )
    replaced = vkey in layers and velocities
    latent_time = dynamical and ("latent_time" not in adata.obs or replaced)
    if dynamical and not latent_time:
        _check_time(adata)
    basis, umap = choose_basis(adata, options)
    plan = Plan(
        counts=counts,
        n_top_genes=n_highly_variable(adata, options) if counts else None,
        neighbors=neighbors,
        moments=moments,
        fit=fit,
        velocities=velocities,
        latent_time=latent_time,
        umap=umap,
        mode=mode,
        graph=graph,
        basis=basis,
    )
    _tell(plan, options, replaced)
    return plan


def check_size(adata: AnnData) -> None:
    """Raise a ValueError if there are too few cells or genes."""
    for n, least, what in ((adata.n_obs, MIN_CELLS, "cells"), (adata.n_vars, MIN_GENES, "genes")):
        if n < least:
            raise ValueError(f"Expected at least {least} {what}, found {n}.")


def _check_keys(layers: set[str], options: Options) -> None:
    """Raise unless the keys that the user names are there, or can be, and fit each other."""
    for name, key, default in (("velocities", options.vkey, VELOCITY), ("expression", options.xkey, "Ms")):
        if key not in layers | {default} and not (key == "X" and name == "expression"):
            raise KeyError(f"Expected {name} in `layers[{key!r}]`, found the layers {listed(sorted(layers))}.")
    if options.vkey != VELOCITY and options.asks_for("velocity"):
        raise ValueError(
            f"Options ask for velocities to be computed, and --vkey for those in `layers[{options.vkey!r}]`. Leave out "
            "--vkey, or all of --velocity-mode, --normalize, --min-shared-counts, --n-top-genes and --recompute."
        )
    if options.neighbors_key is not None and options.neighbors_key in ("X", ""):
        raise KeyError(f"Expected the name of neighbours as --neighbors-key, found `{options.neighbors_key}`.")


def _what_is_missing(layers: set[str], options: Options, velocities: bool) -> str:
    found = f"found the layers {listed(sorted(layers))}"
    if not velocities:
        return (
            f"Expected the expression that belongs to the velocities in `layers[{options.xkey!r}]`, {found}. Name one "
            "of these, or X, as --xkey."
        )
    wanted = "Expected counts in the layers 'spliced' and 'unspliced'"
    if not {"Ms", "Mu", options.vkey} & layers:
        wanted += f", or velocities in `layers[{options.vkey!r}]`"
    return (
        f"{wanted}, {found}. Counts come from velocyto, alevin-fry, kallisto or STARsolo; layers of other names are "
        "given as --spliced and --unspliced, velocities of another name as --vkey."
    )


def choose_graph(adata: AnnData, key: str | None) -> Graph | None:
    """Return the neighbours that the file holds under a name, or the usual ones, or the only ones.

    Raises
    ------
    KeyError
        If there are none of that name.
    ValueError
        If there are several, and none of the usual name.
    """
    entries = {name: Graph(name, *keys) for name, keys in noted_neighbors(adata).items()}
    if key is not None:
        if key in entries:
            return entries[key]
        if key in adata.obsp:
            return Graph(key, key, None)
        raise KeyError(
            f"Expected neighbours called `{key}` in `uns` or `obsp`, found {listed(entries)} in `uns` and "
            f"{listed(adata.obsp)} in `obsp`. Name one of these as --neighbors-key, or leave it out."
        )
    if NEIGHBORS in entries:
        return entries[NEIGHBORS]
    if "connectivities" in adata.obsp:
        # Says so if there is an entry that names another graph, which is not there.
        connectivities = graph_key(adata, "connectivities")
        return Graph(NEIGHBORS, connectivities, "distances" if "distances" in adata.obsp else None)
    if len(entries) > 1:
        raise ValueError(
            f"Expected neighbours in `obsp['connectivities']`, found several of other names: {listed(entries)}. "
            "Name one as --neighbors-key, or have others computed with --recompute neighbors."
        )
    return next(iter(entries.values()), None)


def new_graph(key: str | None) -> Graph:
    """Return where neighbours are written that are computed."""
    name = NEIGHBORS if key is None else str(key)
    return Graph(name, usual_key("connectivities", name), usual_key("distances", name))


def check_graph(adata: AnnData, graph: Graph) -> None:
    """Raise a ValueError if the stored neighbours are not finite, negative, or none at all."""
    if not read_graph(adata, graph.connectivities).count_nonzero():
        raise ValueError(
            f"Expected neighbours in `obsp[{graph.connectivities!r}]`, found that no cell has any. Have them computed "
            "with --recompute neighbors, or name others as --neighbors-key."
        )


def _check_velocities(adata: AnnData, vkey: str) -> None:
    """Raise a ValueError unless stored velocities of two genes or more are finite in all cells."""
    velocity = read_array(adata, vkey, "layers")
    sums = np.asarray(velocity.sum(axis=0), dtype=float).ravel()  # not finite if one of them is not
    n_finite = int(np.isfinite(sums).sum())
    if n_finite < MIN_GENES:
        raise ValueError(
            f"Expected at least {MIN_GENES} genes with finite velocities in `layers[{vkey!r}]`, found {n_finite} of "
            f"{adata.n_vars}. Have velocities computed with --recompute velocity, or name others as --vkey."
        )


def _check_expression(adata: AnnData, xkey: str) -> None:
    """Raise a ValueError unless the expression that belongs to stored velocities is there and finite."""
    remedy = "Name another layer as --xkey."
    if xkey == "X" and adata.X is None:
        raise ValueError(f"Expected expression in `X`, found none. {remedy}")
    check_finite("X" if xkey == "X" else f"layers[{xkey!r}]", read_array(adata, xkey, "layers"), remedy)


def _check_time(adata: AnnData) -> None:
    """Raise a ValueError unless the stored latent time is one."""
    column = adata.obs["latent_time"]
    if not pd.api.types.is_numeric_dtype(column.dtype) or not np.isfinite(column.to_numpy(dtype=float)).any():
        raise ValueError(
            f"Expected the times of cells in `obs['latent_time']`, found the type {column.dtype} with "
            f"{int(column.isna().sum())} missing values. Rename or delete the column."
        )


def check_representation(adata: AnnData, options: Options, has_counts: bool) -> None:
    """Raise unless there is something to compute neighbours from."""
    if options.use_rep is not None:
        if options.use_rep != "X" and options.use_rep not in adata.obsm:
            raise KeyError(
                f"Expected a representation of the cells in `obsm[{options.use_rep!r}]`, found {listed(adata.obsm)}. "
                "Name one of these, or X, as --use-rep."
            )
        return
    if "X_pca" not in adata.obsm and adata.X is None and not has_counts:
        raise ValueError(
            "Expected neighbours in `obsp['connectivities']` that belong to the velocities, or principal components in "
            "`obsm['X_pca']` or expression in `X` to compute them from, found none. Compute neighbours with "
            "`jaxvelo.pp.neighbors`, or name another representation as --use-rep."
        )


def n_highly_variable(adata: AnnData, options: Options) -> int | None:
    """Return how many highly variable genes are to be found; None if the file marks some."""
    chooses = options.n_top_genes is not None or "all" in options.recompute
    where, remedy = "var['highly_variable']", "Choose genes anew with --n-top-genes."
    marked = None if chooses else highly_variable_genes(adata, remedy, where)
    if marked is None:
        return options.n_top_genes or N_TOP_GENES
    if marked.sum() < MIN_GENES:
        raise ValueError(f"Expected `{where}` to mark {MIN_GENES} genes or more, found {marked.sum()}. {remedy}")
    # As other packages expect it: whole numbers would be taken for places.
    adata.var["highly_variable"] = marked
    logger.info("Using the %d highly variable genes in `var['highly_variable']`", marked.sum())
    return None


def choose_basis(adata: AnnData, options: Options) -> tuple[str, bool]:
    """Return the embedding to draw in, and whether it must be computed.

    Raises
    ------
    KeyError
        If the one that was asked for is not there.
    ValueError
        If it cannot be drawn in.
    """
    basis = None if options.basis is None else options.basis.removeprefix("X_")
    anew = basis in (None, "umap") and options.asks_for("umap")
    if "umap" in options.recompute and not anew:
        raise ValueError(f"--recompute umap computes the embedding `umap`, and --basis names `{basis}`: leave out one.")
    if anew:
        return "umap", True
    if basis is None:
        keys = [*("X_umap", "umap"), *(key for key in adata.obsm if key.lower() in ("x_umap", "umap"))]
        basis = next((key for key in keys if key in adata.obsm), "umap").removeprefix("X_")
    key = next((key for key in (f"X_{basis}", basis) if key in adata.obsm), None)
    if key is None and basis == "umap":
        return basis, True
    if key is None:
        raise KeyError(
            f"Expected an embedding in `obsm['X_{basis}']`, found {listed(sorted(adata.obsm))}. Name one of these as "
            "--basis, or leave it out to have a UMAP computed."
        )
    _check_embedding(adata, key)
    return basis, False


def _check_embedding(adata: AnnData, key: str) -> None:
    """Raise a ValueError unless cells can be drawn there."""
    remedy = "Name another as --basis, or have a UMAP computed with --recompute umap."
    found = dense(adata.obsm[key])
    try:
        positions = found.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected numbers in `obsm[{key!r}]`, found the type {found.dtype}. {remedy}") from error
    if positions.ndim != 2 or positions.shape[1] < 2:
        raise ValueError(
            f"Expected `obsm[{key!r}]` to have 2 columns or more to draw in, found shape {found.shape}. {remedy}"
        )
    known = np.isfinite(positions).all(axis=1)
    if not known.any() or not np.ptp(positions[known], axis=0).any():
        raise ValueError(
            f"Expected the cells to lie in different places of `obsm[{key!r}]`, found "
            f"{'the same place for all' if known.any() else 'no finite coordinates'}. {remedy}"
        )
    if not known.all():
        logger.warning(
            "%d cells have no finite coordinates in `obsm[%r]`: they are not drawn, nor are arrows of their neighbours",
            np.sum(~known),
            key,
        )


def _tell(plan: Plan, options: Options, replaced: bool) -> None:
    """Say what is used and what is computed."""
    neighbors = f"the neighbours in `obsp[{plan.graph.connectivities!r}]`"
    if not plan.velocities:
        logger.info(
            "Using the velocities in `layers[%r]` with the expression in `%s`, and %s",
            options.vkey,
            "X" if options.xkey == "X" else f"layers[{options.xkey!r}]",
            "computing neighbours" if plan.neighbors else neighbors,
        )
        if plan.moments:
            logger.info("Computing the expression, `layers['Ms']`, from the spliced counts")
    elif plan.moments and plan.neighbors:
        logger.info("Computing neighbours and velocities from the spliced and unspliced counts")
    else:
        logger.info(
            "Computing velocities from %s, and %s",
            "the spliced and unspliced counts" if plan.moments else "the moments in `layers['Ms']` and `layers['Mu']`",
            "computing neighbours" if plan.neighbors else f"using {neighbors}",
        )
    if plan.velocities and plan.mode == "dynamical" and not plan.fit:
        logger.info("Using the fit of the dynamical model in `var['fit_alpha']` and so on")
    if replaced:
        logger.info("As options ask for it, the velocities in `layers[%r]` are computed anew", options.vkey)
    tell_embedding(plan.basis, plan.umap)


def tell_embedding(basis: str, is_computed: bool) -> None:
    """Say where cells are drawn."""
    logger.info("Drawing in the embedding `%s`%s", basis, ", which is computed" if is_computed else "")
