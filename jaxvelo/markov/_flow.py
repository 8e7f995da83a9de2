"""Flow between clusters: in one step, and over experimental time."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int, Shaped


def compute_flow(
    transition_matrix: sp.spmatrix | sp.sparray | np.ndarray,
    clusters: Int[np.ndarray, " cells"],
    times: Shaped[np.ndarray, " cells"],
    n_clusters: int | None = None,
) -> tuple[Shaped[np.ndarray, " points"], Float[np.ndarray, "steps clusters clusters"]]:
    r"""Compute the flow between clusters from each time point to the next.

    With :math:`C_a(t)` the cells of cluster :math:`a` at time point :math:`t`,

    .. math::
        F^k_{ab} \propto \sum_{i \in C_a(t_k)} \; \sum_{j \in C_b(t_{k+1})} T_{ij},
        \qquad \sum_b F^k_{ab} = 1.

    Transitions within a time point, and over more than one, do not count. A cluster from which nothing arrives at the
    next time point has a row of zeros.

    Parameters
    ----------
    transition_matrix
        Transition matrix of shape (cells, cells).
    clusters
        Cluster of each cell, shape (cells,), numbered from 0; -1 for cells that belong to none and are left out.
    times
        Experimental time of each cell, shape (cells,), in any unit.
    n_clusters
        Number of clusters; the largest number in ``clusters`` plus 1 by default.

    Returns
    -------
    points : numpy.ndarray
        The time points, in ascending order, shape (points,).
    flow : numpy.ndarray
        The flow, source by target, shape (points - 1, clusters, clusters); no unit.

    References
    ----------
    Mittnenzweig et al., A single-embryo, single-cell time-resolved model for mouse gastrulation, Cell 2021, figure 4,
    with the transition matrix in place of the metacell flow, as in CellRank.

    Examples
    --------
    >>> matrix = np.array([[0.0, 0.0, 0.25, 0.75], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    >>> points, flow = jv.markov.compute_flow(matrix, np.array([0, 1, 0, 1]), np.array([1, 1, 2, 2]))
    >>> points.tolist(), flow.tolist()
    ([1, 2], [[[0.25, 0.75], [1.0, 0.0]]])
    """
    n_clusters = int(clusters.max()) + 1 if n_clusters is None else n_clusters
    matrix = sp.csr_array(transition_matrix)
    points = np.unique(times)
    flow = np.zeros((max(len(points) - 1, 0), n_clusters, n_clusters))
    for k in range(len(flow)):
        sources, targets = (np.where(times == point, clusters, -1) for point in points[k : k + 2])
        flow[k] = mass_between_clusters(matrix, sources, targets, n_clusters)
    total = flow.sum(axis=2, keepdims=True)
    return points, np.divide(flow, total, out=np.zeros_like(flow), where=total > 0)


def cluster_proportions(
    clusters: Int[np.ndarray, " cells"], times: Shaped[np.ndarray, " cells"], n_clusters: int | None = None
) -> Float[np.ndarray, "points clusters"]:
    r"""Compute which share of the cells of each time point is in which cluster.

    .. math:: p_{ka} = |C_a(t_k)| \, \big/ \sum_b |C_b(t_k)|

    Parameters
    ----------
    clusters, times, n_clusters
        As of :func:`compute_flow`.

    Returns
    -------
    numpy.ndarray
        Shape (points, clusters), the time points in ascending order. Rows sum to one, or are zero for a time point
        without cells of known cluster.

    Examples
    --------
    >>> jv.markov.cluster_proportions(np.array([0, 0, 0, 1, 1]), np.array([1, 1, 2, 2, 2])).round(2).tolist()
    [[1.0, 0.0], [0.33, 0.67]]
    """
    n_clusters = int(clusters.max()) + 1 if n_clusters is None else n_clusters
    known = clusters >= 0
    points = np.unique(times)
    counts = np.zeros((len(points), n_clusters))
    np.add.at(counts, (np.searchsorted(points, times[known]), clusters[known]), 1.0)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)


def mass_between_clusters(
    transition_matrix: sp.spmatrix | sp.sparray | np.ndarray,
    sources: Int[np.ndarray, " cells"],
    targets: Int[np.ndarray, " cells"],
    n_clusters: int,
) -> Float[np.ndarray, "clusters clusters"]:
    r"""Compute what one step carries between clusters, :math:`\sum_{i \in C_a} \sum_{j \in C_b} T_{ij}`, in cells.

    Parameters
    ----------
    transition_matrix
        Transition matrix of shape (cells, cells).
    sources, targets
        Cluster of each cell before and after the step, shape (cells,), numbered from 0; -1 for cells that are left out.
    n_clusters
        Number of clusters.

    Returns
    -------
    numpy.ndarray
        Source by target, shape (clusters, clusters), in cells.

    Examples
    --------
    >>> matrix = np.array([[0.0, 0.25, 0.75], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> jv.markov.mass_between_clusters(matrix, np.array([0, 0, -1]), np.array([-1, 0, 1]), 2).tolist()
    [[1.25, 0.75], [0.0, 0.0]]
    """
    before, after = np.flatnonzero(sources >= 0), np.flatnonzero(targets >= 0)
    mass = sp.csr_array(transition_matrix)[before][:, after]
    arriving = mass @ _membership(targets[after], n_clusters)
    return (_membership(sources[before], n_clusters).T @ arriving).toarray()


def _membership(clusters: Int[np.ndarray, " cells"], n_clusters: int) -> sp.csr_array:
    """Give the matrix of shape (cells, clusters) with a 1 where a cell belongs to a cluster."""
    n = len(clusters)
    return sp.csr_array((np.ones(n), clusters, np.arange(n + 1)), shape=(n, n_clusters))
