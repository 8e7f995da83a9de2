"""How closely groups of cells are connected in a graph of neighbours."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int


def cluster_connectivities(
    graph: sp.csr_matrix, codes: Int[np.ndarray, " cells"], n_clusters: int
) -> Float[np.ndarray, "clusters clusters"]:
    r"""Connectivity of clusters: the edges between two of them, in units of those that chance would make (PAGA).

    With :math:`e_{ab}` the number of edges from cells of cluster a to cells of cluster b, :math:`e_a = \sum_b e_{ab}`
    and :math:`n_a` cells in cluster a, of n in all, edges that end anywhere would give

    .. math:: \bar e_{ab} = \frac{e_a n_b + e_b n_a}{n - 1}, \qquad
        c_{ab} = \min\left(1, \frac{e_{ab} + e_{ba}}{\bar e_{ab}}\right), \quad c_{aa} = 0

    (Wolf et al. 2019, PAGA, Supplementary Note 1). Weights of the edges do not count; edges of a cell to itself are
    none.

    Parameters
    ----------
    graph
        Neighbours of each cell, shape ``(cells, cells)``: the entries that are stored, be they zero, such as distances;
        need not be symmetric.
    codes
        Number of each cell's cluster, shape ``(cells,)``; -1 for cells of none, which are left out with their edges.
    n_clusters
        Number of clusters.

    Returns
    -------
    numpy.ndarray
        Symmetric, from 0 to 1, of shape ``(clusters, clusters)``; no unit.

    Examples
    --------
    >>> line = sp.csr_matrix([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    >>> jv.graph.cluster_connectivities(line, np.array([0, 0, 1, 1]), 2).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    known = codes >= 0
    sizes = np.bincount(codes[known], minlength=n_clusters).astype(float)
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    counted = known[rows] & known[graph.indices] & (rows != graph.indices)
    edges = np.zeros((n_clusters, n_clusters))
    np.add.at(edges, (codes[rows[counted]], codes[graph.indices[counted]]), 1.0)
    from_each = edges.sum(axis=1)
    by_chance = (from_each[:, None] * sizes + from_each * sizes[:, None]) / max(sizes.sum() - 1, 1)
    between = edges + edges.T
    connected = np.where(by_chance > 0, between / np.where(by_chance > 0, by_chance, 1), 0.0)
    np.fill_diagonal(connected, 0.0)
    return np.minimum(connected, 1.0)
