"""Known transitions between clusters, by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arrays import read_representation
from jaxvelo.annotated.clusters import read_clusters, require_cluster
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import read_graph
from jaxvelo.graph import NeighborGraph
from jaxvelo.markov import boundary_directions


def CrossBoundary(
    adata: AnnData,
    transitions: Sequence[tuple[str, str]],
    cluster_key: str,
    rep: str = "X_pca",
    graph_key: str = "distances",
) -> fit.CrossBoundary:
    """Cross-boundary correctness of known transitions between clusters.

    The items are the cells of a source cluster with neighbours in its target, as in :meth:`KernelExpression.cbc`; all
    transitions count the same.

    Parameters
    ----------
    adata
        Annotated data.
    transitions
        Pairs of source and target, such as ``[("Ngn3 high EP", "Pre-endocrine")]``.
    cluster_key
        Key in ``adata.obs`` with the clusters.
    rep
        Key in ``adata.obsm`` with the representation of the cells.
    graph_key
        Key in ``adata.obsp`` of the graph, or name in ``adata.uns`` of the neighbours, that decides which source cells
        are at the boundary.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.CrossBoundary`.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If a cluster does not exist, or a transition has no cell at the boundary.
    TypeError
        If ``transitions`` is no list.

    Examples
    --------
    >>> known = [("Progenitor", "Intermediate"), ("Intermediate", "Fate A")]
    >>> objective = jv.objectives.CrossBoundary(adata, known, "clusters", rep="X_umap")
    >>> objective.towards.shape[1]
    2
    """
    require_anndata(adata)
    clusters = read_clusters(adata, cluster_key)
    graph = NeighborGraph.from_csr({"distances": read_graph(adata, graph_key, "distances", "graph_key")})
    remedy = "Pass the key of a representation as `rep`, for example after `scanpy.pp.pca(adata)`."
    x = jnp.asarray(read_representation(adata, rep, remedy), dtype=float)
    if not isinstance(transitions, Iterable):
        raise TypeError(
            f"Expected a list of pairs of source and target as `transitions`, found `{type(transitions).__name__}`."
        )
    transitions = list(transitions)
    if len(transitions) == 0:
        raise ValueError("Expected at least one pair of source and target in `transitions`, found none.")
    cells, towards, item_weights = [], [], []
    for pair in transitions:
        if np.shape(pair) != (2,):
            raise ValueError(f"Expected pairs of source and target in `transitions`, found `{pair!r}`.")
        source, target = pair
        in_source, in_target = (require_cluster(clusters, name, cluster_key) for name in (source, target))
        direction, boundary = boundary_directions(x, jnp.asarray(in_source), jnp.asarray(in_target), graph)
        moves = np.ptp(np.asarray(direction), axis=1) > 0
        cell = np.flatnonzero(np.asarray(boundary) & moves)
        if not len(cell):
            raise ValueError(
                f"Expected cells of {source!r} with neighbours in {target!r} in `adata.obsp[{graph_key!r}]`, found "
                "none. Leave this transition out, or compute more neighbours."
            )
        cells.append(cell)
        towards.append(np.asarray(direction)[cell])
        item_weights.append(np.full(len(cell), 1 / len(cell)))
    return fit.CrossBoundary(
        x=x,
        towards=jnp.asarray(np.concatenate(towards), dtype=float),
        cell=jnp.asarray(np.concatenate(cells)),
        weight=jnp.asarray(np.concatenate(item_weights), dtype=float),
    )
