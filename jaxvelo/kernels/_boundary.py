"""Cross-boundary correctness of a kernel."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxvelo.annotated.arrays import read_representation
from jaxvelo.annotated.clusters import read_clusters, require_cluster
from jaxvelo.annotated.graphs import read_graph
from jaxvelo.graph import NeighborGraph
from jaxvelo.kernels._kernel import KernelExpression
from jaxvelo.markov import cross_boundary_correctness as correctness


def cross_boundary_correctness(
    kernel: KernelExpression, source: str, target: str, cluster_key: str, rep: str, graph_key: str
) -> np.ndarray:
    """Score the boundary cells of ``source``; see :meth:`KernelExpression.cbc`."""
    adata = kernel.adata
    kernel.require_transitions()
    clusters = read_clusters(adata, cluster_key)
    in_source, in_target = (require_cluster(clusters, name, cluster_key) for name in (source, target))
    graph = NeighborGraph.from_csr({"distances": read_graph(adata, graph_key, "distances", "graph_key")})
    remedy = "Pass the key of a representation as `rep`, for example after `scanpy.pp.pca(adata)`."
    array = read_representation(adata, rep, remedy)
    # In their own precision, as CellRank takes the displacements to the neighbours.
    features = jnp.asarray(array if array.dtype.kind == "f" else array.astype(float))
    scores, at_boundary = correctness(kernel.transitions, features, in_source, in_target, graph)
    return np.asarray(scores, dtype=np.float64)[np.asarray(at_boundary)]
