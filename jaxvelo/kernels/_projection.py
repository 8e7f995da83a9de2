"""Transition matrices as arrows in an embedding."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxvelo import pl
from jaxvelo.annotations import check_graph, read_embedding
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels._annotated import default_key
from jaxvelo.kernels._connectivity_kernel import ConnectivityKernel
from jaxvelo.kernels._graph_data import GraphData
from jaxvelo.kernels._kernel import KernelExpression
from jaxvelo.kernels._velocity_kernel import VelocityKernel
from jaxvelo.markov import project
from jaxvelo.quiver_scale import automatic_quiver_scale


def plot_projection(
    kernel: KernelExpression,
    basis: str,
    key_added: str | None,
    recompute: bool,
    stream: bool,
    connectivities: Any,
    **kwargs: Any,
) -> Any:
    """Project, store and plot; see :meth:`KernelExpression.plot_projection`."""
    basis = basis.removeprefix("X_")
    key = default_key(kernel.backward) if key_added is None else key_added
    arrows, params = f"{key}_{basis}", f"{key}_params"
    before = kernel.adata.obsm.get(arrows), kernel.adata.uns.get(params)
    try:
        add_projection(kernel, basis, key, recompute, connectivities)
        draw = pl.projection_stream if stream else pl.projection_grid
        return draw(kernel.adata, basis=basis, vkey=key, **kwargs)
    except BaseException:
        _put_back(kernel.adata.obsm, arrows, before[0])
        _put_back(kernel.adata.uns, params, before[1])
        raise


def _put_back(mapping: Any, key: str, value: Any) -> None:
    if value is not None:
        mapping[key] = value
    elif key in mapping:
        del mapping[key]


def add_projection(kernel: KernelExpression, basis: str, key: str, recompute: bool, connectivities: Any) -> None:
    """Write the arrows to ``adata.obsm[f"{key}_{basis}"]``, scaled as matplotlib's quiver would."""
    adata = kernel.adata
    name = f"{key}_{basis}"
    if not recompute and name in adata.obsm:
        logger.info("Using precomputed projection `adata.obsm[%r]`", name)
        return
    matrix = kernel.require_transitions()
    embedding = read_embedding(adata, basis)
    graph_kernels = [k for k in kernel.kernels if isinstance(k, (VelocityKernel, ConnectivityKernel))]
    if len(graph_kernels) < len(kernel.kernels):
        other = next(k for k in kernel.kernels if k not in graph_kernels)
        logger.warning("%r is not a kNN based kernel. The embedding projection works best for kNN-based kernels", other)
    with timed(f"Projecting transition matrix onto `{basis}`"):
        if connectivities is not None:
            graph = check_graph(connectivities, "connectivities")
            if graph.shape != kernel.shape:
                raise ValueError(f"Expected `connectivities` of shape {kernel.shape}, found {graph.shape}.")
        elif graph_kernels:
            graph = graph_kernels[0].connectivities
        else:
            raise RuntimeError(
                "Unable to find connectivities in the kernel. Please supply them explicitly as `connectivities=...`."
            )
        transitions, edges = kernel.transitions, graph_kernels[0]._conn_key if graph_kernels else ""
        if connectivities is not None or edges not in transitions.graph.edges:
            edges = "connectivities"
            transitions = GraphData({edges: graph}).transitions(matrix)
        arrows = np.asarray(project(transitions, jnp.asarray(embedding, dtype=float), edges))
        arrows = arrows / (3 * automatic_quiver_scale(embedding, arrows))
        stored = adata.uns.get(f"{key}_params", {})
        bases = [str(b) for b in stored.get("embeddings", [])]
        logger.info("Adding `adata.obsm[%r]`", name)
    adata.uns[f"{key}_params"] = {**stored, "embeddings": [*bases, *([basis] if basis not in bases else [])]}
    adata.obsm[name] = arrows.astype(embedding.dtype if embedding.dtype.kind == "f" else float)
