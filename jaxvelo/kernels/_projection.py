"""Transition matrices as arrows in an embedding."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxvelo import pl
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.embeddings import read_embedding
from jaxvelo.annotated.entries import stored_parameters
from jaxvelo.annotated.graphs import check_graph
from jaxvelo.annotated.order import square_in_order
from jaxvelo.annotated.quiver_scale import automatic_quiver_scale
from jaxvelo.annotated.transition_keys import default_key
from jaxvelo.annotated.velocity_arrows import warn_about_places
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels._connectivity_kernel import ConnectivityKernel
from jaxvelo.kernels._graph_data import GraphData
from jaxvelo.kernels._kernel import KernelExpression
from jaxvelo.kernels._velocity_kernel import VelocityKernel
from jaxvelo.markov import project


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


def add_projection(
    kernel: KernelExpression, basis: str, key_added: str | None, recompute: bool, connectivities: Any
) -> None:
    """Write the arrows to ``adata.obsm[f"{key}_{basis}"]``, scaled as matplotlib's quiver would.

    Arrows that stand there are used if they are those of the kernel, but for their length.
    """
    adata = kernel.adata
    basis = basis.removeprefix("X_")
    key = default_key(kernel.backward) if key_added is None else key_added
    name = f"{key}_{basis}"
    kernel.require_transitions()
    embedding = read_embedding(adata, basis)
    known = None if recompute or name not in adata.obsm else dense(adata.obsm[name])
    graph, edges = _graph_of_arrows(kernel, connectivities)
    if known is not None and (graph is None or _differ_in_length(known, _arrows(kernel, embedding, graph, edges))):
        logger.info("Using precomputed projection `adata.obsm[%r]`", name)
        return
    if known is not None:
        if key != default_key(kernel.backward):
            raise ValueError(
                f"Expected arrows of this kernel in `adata.obsm[{name!r}]`, found others. Pass `recompute=True` to "
                "replace them, or another `key_added`."
            )
        logger.warning(
            "`adata.obsm[%r]` has arrows of another kernel or embedding: replacing them. Pass `key_added` to keep both",
            name,
        )
    if graph is None:
        raise RuntimeError(
            "Unable to find connectivities in the kernel. Please supply them explicitly as `connectivities=...`."
        )
    for other in kernel.kernels:
        if not isinstance(other, (VelocityKernel, ConnectivityKernel)):
            logger.warning(
                "%r is not a kNN based kernel. The embedding projection works best for kNN-based kernels", other
            )
            break
    warn_about_places(embedding, basis)
    with timed(f"Projecting transition matrix onto `{basis}`"):
        arrows = _arrows(kernel, embedding, graph, edges)
        arrows = arrows / (3 * automatic_quiver_scale(embedding, arrows))
        stored = stored_parameters(adata, f"{key}_params")
        bases = [str(b) for b in stored.get("embeddings", [])]
        logger.info("Adding `adata.obsm[%r]`", name)
    adata.uns[f"{key}_params"] = {**stored, "embeddings": [*bases, *([basis] if basis not in bases else [])]}
    adata.obsm[name] = arrows.astype(embedding.dtype if embedding.dtype.kind == "f" else float)


def _graph_of_arrows(kernel: KernelExpression, connectivities: Any) -> tuple[sp.csr_matrix | None, str]:
    """The graph whose edges count, None if there is none, and its name in the kernel's own, if it stands there."""
    if connectivities is not None:
        names = kernel.adata.obs_names
        return check_graph(square_in_order(connectivities, names, "connectivities"), "connectivities"), ""
    first = next((k for k in kernel.kernels if isinstance(k, (VelocityKernel, ConnectivityKernel))), None)
    return (None, "") if first is None else (first.connectivities, first._conn_key)


def _arrows(kernel: KernelExpression, embedding: np.ndarray, graph: sp.csr_matrix, edges: str) -> np.ndarray:
    """Arrows of any length."""
    transitions = kernel.transitions
    if edges not in transitions.graph.edges:
        edges = "connectivities"
        transitions = GraphData({edges: graph}).transitions(kernel.require_transitions())
    return np.asarray(project(transitions, jnp.asarray(embedding, dtype=float), edges))


def _differ_in_length(known: np.ndarray, arrows: np.ndarray) -> bool:
    """Whether known arrows are these but for a common factor, and rounding."""
    if known.shape != arrows.shape or known.dtype.kind not in "fiu":
        return False
    finite = np.isfinite(arrows).all(axis=1)
    if not np.array_equal(finite, np.isfinite(known).all(axis=1)):
        return False
    known, arrows = known[finite].astype(np.float64), arrows[finite].astype(np.float64)
    factor = float(np.sum(known * arrows)) / (float(np.sum(arrows**2)) or 1.0)
    return bool(factor > 0 or not known.any()) and bool(
        np.abs(known - factor * arrows).max(initial=0) <= 1e-3 * np.abs(known).max(initial=0)
    )
