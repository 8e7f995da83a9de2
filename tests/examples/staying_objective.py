"""An objective of one's own: cells of these clusters are known to stay in them."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from anndata import AnnData
from jaxtyping import Array, Float, Int

from jaxvelo import fit
from jaxvelo.annotated.clusters import cluster_codes


class Staying(fit.Objective):
    r"""How rarely a step stays in the cluster of its cell.

    .. math:: L_i = -\log \sum_{j : c_j = c_i} T_{ij}

    Attributes
    ----------
    cluster
        Cluster :math:`c_i` of each cell, -1 for none, shape ``(cells,)``.
    cell, weight
        Cell and weight of each item.
    """

    cluster: Int[Array, " cells"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = False  # steps of neighbouring cells are no independent observations

    @property
    def n_cells(self):
        """Those of ``cluster``."""
        return len(self.cluster)

    def item_losses(self, transitions, features, key):
        """Minus the logarithm of the probability to stay."""
        (matrix,) = transitions
        graph = matrix.graph
        inside = tuple(
            (self.cluster[columns] == self.cluster[rows][:, None]).astype(values.dtype)
            for rows, columns, values in zip(graph.rows, graph.columns, matrix.values, strict=True)
        )
        staying = matrix.row_dot(inside)[self.cell]
        # Where a probability is zero, its logarithm has no slope: the smallest normal number stands in.
        smallest = jnp.finfo(staying.dtype).tiny
        return -jnp.log(jnp.where(staying > smallest, staying, smallest))


def StayingInClusters(adata: AnnData, clusters: Sequence[str], cluster_key: str) -> Staying:
    """How rarely a step stays in a cluster, for the cells of clusters that are known to be stable.

    Parameters
    ----------
    adata
        Annotated data of the kernel.
    clusters
        The stable clusters.
    cluster_key
        Column of the clusters in ``adata.obs``.

    Returns
    -------
    The objective, with an item for each cell of these clusters.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there is no such cluster.
    """
    codes, names = cluster_codes(adata, cluster_key)
    absent = [cluster for cluster in clusters if cluster not in names]
    if absent:
        raise ValueError(f"Expected clusters of `adata.obs[{cluster_key!r}]`, found {absent}. There are {names}.")
    cell = np.flatnonzero(np.isin(codes, [names.index(cluster) for cluster in clusters]))
    return Staying(cluster=jnp.asarray(codes), cell=jnp.asarray(cell), weight=jnp.ones(len(cell)))
