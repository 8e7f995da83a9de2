"""Cross-boundary correctness of transition probabilities."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arrays import read_representation
from jaxvelo.annotated.clusters import read_clusters, require_cluster
from jaxvelo.annotated.graphs import read_graph
from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.markov import cross_boundary_correctness as correctness


def cross_boundary_correctness(
    adata: AnnData, transitions: TransitionMatrix, source: str, target: str, cluster_key: str, rep: str, graph_key: str
) -> np.ndarray:
    """Score the cells of ``source`` at the boundary to ``target``.

    Parameters
    ----------
    adata
        Annotated data.
    transitions
        Transition probabilities among its cells.
    source, target, cluster_key, rep, graph_key
        As of :meth:`jaxvelo.kernels.KernelExpression.cbc`.
    """
    clusters = read_clusters(adata, cluster_key)
    in_source, in_target = (require_cluster(clusters, name, cluster_key) for name in (source, target))
    graph = NeighborGraph.from_csr({"distances": read_graph(adata, graph_key, "distances", "graph_key")})
    remedy = "Pass the key of a representation as `rep`, for example after `scanpy.pp.pca(adata)`."
    array = read_representation(adata, rep, remedy)
    # In their own precision, as CellRank takes the displacements to the neighbours.
    features = jnp.asarray(array if array.dtype.kind == "f" else array.astype(float))
    scores, at_boundary = correctness(transitions, features, in_source, in_target, graph)
    return np.asarray(scores, dtype=np.float64)[np.asarray(at_boundary)]
