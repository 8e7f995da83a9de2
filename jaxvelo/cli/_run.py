"""``jaxvelo run``: the whole flow on a user's file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxvelo.annotations import layer_names, listed
from jaxvelo.cli import _flow as flow
from jaxvelo.cli._files import KERNEL, prepare_folder, read_h5ad, write_h5ad
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels import VelocityKernel

if TYPE_CHECKING:
    from anndata import AnnData

MIN_CELLS = 10


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be computed, as the file does not hold it, and what is used from it."""

    velocities: bool
    neighbors: bool
    umap: bool
    basis: str
    cluster_key: str | None


def run(
    file: Path,
    *,
    cluster_key: str | None,
    basis: str,
    vkey: str,
    xkey: str,
    n_top_genes: int,
    velocity_mode: str | None,
    weight: float,
    model: str,
    similarity: str,
    softmax_scale: float | None,
    backward: bool,
    start: str | None,
    out: Path | None,
    seed: int,
) -> list[Path]:
    """Run the flow on a file and return the files that were written."""
    out = Path(f"jaxvelo_{file.stem}") if out is None else out
    with timed(f"Reading `{file}`"):
        adata = read_h5ad(file)
    plan = make_plan(adata, cluster_key, basis, vkey, xkey)
    cells = starting_cells(adata, plan.cluster_key, start)
    flow.require_drawing()
    if plan.neighbors or plan.velocities or plan.umap:
        flow.require_scanpy()
    prepare_folder(out, keep=file)

    if plan.velocities:
        flow.heading("From counts to velocities")
    elif plan.neighbors or plan.umap:
        flow.heading("What the file lacks")
    if plan.velocities:
        flow.filter_and_normalize(adata, n_top_genes)
    if plan.neighbors:
        flow.add_neighbors(adata, seed)
    mode = None
    if plan.velocities:
        mode = flow.add_velocities(adata, velocity_mode or "dynamical")
    elif velocity_mode is not None:
        logger.warning("--velocity-mode has no effect: the file's velocities are used")
    if mode == "dynamical":
        flow.add_latent_time(adata)
    if plan.umap:
        flow.add_umap(adata, seed)

    flow.heading("Transition matrix")
    velocity = VelocityKernel(adata, backward=backward, xkey=xkey, vkey=vkey)
    velocity.compute_transition_matrix(model=model, similarity=similarity, softmax_scale=softmax_scale, seed=seed)
    kernel = flow.combine(velocity, weight)
    if plan.cluster_key is not None:
        flow.report_flow(kernel, plan.cluster_key)

    flow.heading("Random walks and pictures")
    walks = flow.simulate_walks(kernel, cells, seed)
    if plan.cluster_key is not None:
        flow.report_ends(adata, walks, plan.cluster_key)
    pictures = flow.draw(kernel, walks, plan.basis, plan.cluster_key, out)
    if mode == "dynamical":
        pictures += flow.draw_dynamics(adata, plan.basis, plan.cluster_key, out)
    kernel.write_to_adata()
    with timed(f"Writing `{out / KERNEL}`"):
        write_h5ad(adata, out / KERNEL)
    return [out / KERNEL, *pictures]


def make_plan(adata: AnnData, cluster_key: str | None, basis: str, vkey: str, xkey: str) -> Plan:
    """Look at what is there, decide what is to be computed, and tell both.

    Raises
    ------
    KeyError
        If a key that was asked for is not there.
    ValueError
        If there are neither velocities nor counts to compute them from.
    """
    if adata.n_obs < MIN_CELLS:
        raise ValueError(f"Expected at least {MIN_CELLS} cells, found {adata.n_obs}.")
    layers = set(layer_names(adata))
    logger.info(
        "Found %d cells and %d genes; layers %s; embeddings %s; graphs %s",
        *adata.shape,
        *(listed(sorted(names)) for names in (layers, adata.obsm.keys(), adata.obsp.keys())),
    )
    for name, key, default in (("velocities", vkey, "velocity"), ("expression", xkey, "Ms")):
        if key not in layers | {default} and not (key == "X" and name == "expression"):
            raise KeyError(f"Expected {name} in `layers[{key!r}]`, found the layers {listed(sorted(layers))}.")

    has_counts = {"spliced", "unspliced"} <= layers
    has_velocities = vkey in layers and (xkey in layers or xkey == "X")
    has_graph = "connectivities" in adata.obsp
    if has_velocities and (has_graph or "X_pca" in adata.obsm):
        velocities, neighbors = False, not has_graph
        logger.info(
            "Using the velocities in `layers[%r]` with the expression in `%s`, and %s",
            vkey,
            "X" if xkey == "X" else f"layers[{xkey!r}]",
            "computing neighbours" if neighbors else "the neighbours in `obsp['connectivities']`",
        )
    elif has_counts and vkey == "velocity":
        velocities = neighbors = True
        logger.info("Computing neighbours and velocities from the spliced and unspliced counts")
        if has_velocities or has_graph:
            logger.warning(
                "The file's %s not used: there are no %s that belong to them",
                "velocities are" if has_velocities else "neighbours are",
                "neighbours" if has_velocities else "velocities",
            )
    else:
        raise ValueError(_what_is_missing(layers, vkey, xkey, has_velocities))

    basis = basis.removeprefix("X_")
    umap = f"X_{basis}" not in adata.obsm and basis not in adata.obsm
    if umap and basis != "umap":
        raise KeyError(
            f"Expected an embedding in `obsm['X_{basis}']`, found {listed(sorted(adata.obsm))}. Name one of these as "
            "--basis, or leave it out to have a UMAP computed."
        )
    logger.info("Drawing in the embedding `%s`%s", basis, ", which is computed" if umap else "")
    return Plan(velocities, neighbors, umap, basis, choose_clusters(adata, cluster_key))


def _what_is_missing(layers: set[str], vkey: str, xkey: str, has_velocities: bool) -> str:
    if has_velocities:
        return (
            "Expected neighbours in `obsp['connectivities']` that belong to the velocities, or principal components in "
            "`obsm['X_pca']` to compute them from, found none. Compute them with `scanpy.pp.neighbors`."
        )
    if vkey in layers:
        return (
            f"Expected the expression that belongs to the velocities in `layers[{xkey!r}]`, found the layers "
            f"{listed(sorted(layers))}. Name one of these, or X, as --xkey."
        )
    return (
        f"Expected counts in the layers 'spliced' and 'unspliced', or velocities in `layers[{vkey!r}]`, found the "
        f"layers {listed(sorted(layers))}. Counts come from velocyto, alevin-fry, kallisto or STARsolo; velocities "
        "under another name are named as --vkey."
    )


def choose_clusters(adata: AnnData, key: str | None) -> str | None:
    """Return the column with the clusters, as categories: the one asked for, or the likeliest.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If it holds numbers that are no clusters.
    """
    if key is None:
        kinds = {name: adata.obs[name].dtype for name in adata.obs}
        categorical = [name for name, kind in kinds.items() if isinstance(kind, pd.CategoricalDtype)]
        key = "clusters" if "clusters" in adata.obs else next(iter(categorical), None)
        if key is None:
            logger.info("Found no clusters: name a column of obs as --cluster-key for colours")
            return None
        logger.info("Guessed that the clusters are `obs[%r]`", key)
    if key not in adata.obs:
        raise KeyError(f"Expected clusters in `obs[{key!r}]`, found the columns {listed(adata.obs)}.")
    column = adata.obs[key]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return key
    if pd.api.types.is_float_dtype(column.dtype):
        raise ValueError(f"Expected clusters in `obs[{key!r}]`, found numbers of type {column.dtype}.")
    adata.obs[key] = column.astype("category").cat.rename_categories(str)
    return key


def starting_cells(adata: AnnData, cluster_key: str | None, start: str | None) -> np.ndarray:
    """Mask of the cells where random walks start.

    Raises
    ------
    ValueError
        If there is no such cluster.
    """
    if start is None:
        return np.ones(adata.n_obs, dtype=bool)
    names = [] if cluster_key is None else adata.obs[cluster_key].astype(str)
    cells = np.asarray(names) == start
    if not cells.any():
        known = [] if cluster_key is None else adata.obs[cluster_key].cat.categories
        raise ValueError(f"Expected --start to be a cluster, found `{start}`. There are {listed(known)}.")
    return cells
