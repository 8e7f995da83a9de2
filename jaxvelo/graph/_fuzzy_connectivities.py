"""Connectivities of a neighbour graph: the fuzzy simplicial set of UMAP, without compilation."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

TOLERANCE = 1e-5
MOST_STEPS = 64
LEAST_BANDWIDTH = 1e-3  # of the mean distance
BLOCK_ROWS = 1 << 14


def fuzzy_connectivities(
    neighbors: Int[np.ndarray, "cells others"], distances: Float[np.ndarray, "cells others"]
) -> sp.csr_matrix:
    r"""Connect each cell to its nearest neighbours, with weights that do not depend on the density around it.

    With :math:`\rho_i` the distance to the nearest neighbour that is no duplicate of cell :math:`i`, and a bandwidth
    :math:`\sigma_i` such that the weights of the :math:`k - 1` other cells sum to :math:`\log_2 k`,

    .. math:: w_{ij} = \exp\Big(-\frac{\max(d_{ij} - \rho_i, 0)}{\sigma_i}\Big), \qquad
              C_{ij} = w_{ij} + w_{ji} - w_{ij} w_{ji}.

    The bandwidth is found by bisection from 1 on, up to an error of 1e-5 of the sum, and is at least 1e-3 of the mean
    distance of the cell's neighbours (of all distances if they are all duplicates): so it is in umap-learn, whose
    weights these are, and it matters where the sum cannot be reached (many equal distances). As there, distances count
    in single precision.

    Parameters
    ----------
    neighbors
        Nearest neighbours of each cell, without the cell itself, of shape ``(cells, k - 1)``.
    distances
        Distances to them, ascending, finite in single precision, in any unit.

    Returns
    -------
    scipy.sparse.csr_matrix
        :math:`C`, shape ``(cells, cells)``, float32: symmetric, from 0 to 1, without diagonal and stored zeros.

    References
    ----------
    McInnes, Healy & Melville (2018), UMAP, algorithms 1 to 3.

    Examples
    --------
    >>> neighbors = np.array([[1, 2], [2, 0], [1, 0]])
    >>> distances = np.array([[2.0, 3.0], [1.0, 2.0], [1.0, 3.0]])
    >>> jv.graph.fuzzy_connectivities(neighbors, distances).toarray().astype(float).round(2).tolist()
    [[0.0, 1.0, 0.83], [1.0, 0.0, 1.0], [0.83, 1.0, 0.0]]
    """
    n_cells, n_others = neighbors.shape
    distances = distances.astype(np.float32)
    overall = distances.sum(dtype=np.float64) / (n_cells * (n_others + 1))  # the cell itself is one of its neighbours
    weights = np.empty(distances.shape, dtype=np.float32)
    for start in range(0, n_cells, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        weights[rows] = _directed_weights(distances[rows], overall)
    row_ends = np.arange(n_cells + 1) * n_others
    directed = sp.csr_matrix((weights.ravel(), neighbors.ravel(), row_ends), shape=(n_cells, n_cells))
    directed.sort_indices()
    reverse = directed.T.tocsr()
    union = sp.csr_matrix(directed + reverse - directed.multiply(reverse))
    np.minimum(union.data, 1, out=union.data)  # rounding may lead beyond
    union.eliminate_zeros()
    union.sort_indices()
    return union


def _directed_weights(distances: Float[np.ndarray, "rows others"], overall: float) -> Float[np.ndarray, "rows others"]:
    """Weights from each cell to its neighbours, given the mean of all distances."""
    n_others = distances.shape[1]
    nearest = np.where(distances > 0, distances, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(nearest), nearest, 0).astype(distances.dtype)
    excess = np.maximum(distances - nearest[:, None], 0).astype(np.float64)
    mean = np.where(nearest > 0, distances.sum(axis=1, dtype=np.float64) / (n_others + 1), overall)
    bandwidth = np.maximum(_bandwidths(excess, np.log2(n_others + 1)), LEAST_BANDWIDTH * mean)
    return np.exp(-excess / bandwidth[:, None])


def _bandwidths(excess: Float[np.ndarray, "rows others"], target: float) -> Float[np.ndarray, " rows"]:
    """Bandwidth of each row for which the weights sum to the target."""
    n_rows = len(excess)
    bandwidth, low, high = np.ones(n_rows), np.zeros(n_rows), np.full(n_rows, np.inf)
    searching = np.arange(n_rows)
    for _ in range(MOST_STEPS):
        here = bandwidth[searching]
        surplus = np.exp(-excess[searching] / here[:, None]).sum(axis=1) - target
        undecided = np.abs(surplus) >= TOLERANCE
        searching, here, surplus = searching[undecided], here[undecided], surplus[undecided]
        if not len(searching):
            break
        high[searching] = np.where(surplus > 0, here, high[searching])
        low[searching] = np.where(surplus > 0, low[searching], here)
        above, below = high[searching], low[searching]
        bandwidth[searching] = np.where(np.isfinite(above), (below + above) / 2, 2 * here)
    return bandwidth
