"""Which device has which cells, so that most neighbours of a cell are on its own."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

ROUNDS, STEPS = 4, 16
"""So often the order of the cells is made even, after so many steps of diffusion."""


def parts_of_cells(pattern: sp.csr_matrix, sizes: Sequence[int]) -> list[np.ndarray]:
    """Part the cells of a graph into parts of given sizes with few edges between them.

    The graph is cut into two again and again, across an order in which neighbours are near: it begins with the order of
    Cuthill & McKee (1969), layers around a cell at the rim, and is smoothed by diffusion on the graph, which turns it
    towards that of the second eigenvector, along which a graph falls apart most easily (Fiedler 1973).

    Parameters
    ----------
    pattern
        The edges, stored entries of any value.
    sizes
        Number of cells of each part, as many as cells in all.

    Returns
    -------
    The cells of each part, in increasing order.
    """
    ones = sp.csr_matrix((np.ones(pattern.nnz, np.float32), pattern.indices, pattern.indptr), shape=pattern.shape)
    return _cut(ones + ones.T, np.arange(pattern.shape[0]), list(sizes))


def _cut(graph: sp.csr_matrix, cells: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    if len(sizes) == 1 or not len(cells):
        return [cells] * len(sizes)
    half = len(sizes) // 2
    order, n_left = _smoothed_order(graph), sum(sizes[:half])
    parts = []
    for chosen, of_part in ((order[:n_left], sizes[:half]), (order[n_left:], sizes[half:])):
        own = np.sort(chosen)
        inside = graph[own][:, own] if len(of_part) > 1 else graph
        parts += _cut(inside, cells[own], of_part)
    return parts


def _smoothed_order(graph: sp.csr_matrix) -> np.ndarray:
    """Order of the cells in which neighbours are near; of a symmetric graph with weights."""
    n_cells = graph.shape[0]
    share = 1 / np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)
    order = reverse_cuthill_mckee(graph, symmetric_mode=True)
    place = np.empty(n_cells, np.float32)
    for _ in range(ROUNDS):
        # Even numbers in each round: diffusion brings all cells together, down to the last digit in the end.
        place[order] = np.linspace(-1, 1, n_cells)
        for _ in range(STEPS):
            place = (place + share * (graph @ place)) / 2
        order = np.argsort(place, kind="stable")
    return order
