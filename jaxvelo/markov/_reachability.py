"""Which cells lead to which."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order


def cannot_reach(matrix: sp.csr_matrix, terminal: np.ndarray) -> np.ndarray:
    r"""Mask of the cells that no path of positive probability leads to a terminal cell.

    .. math:: \{ i : (T^k)_{ij} = 0 \text{ for all } k \geq 0 \text{ and all terminal } j \}

    Parameters
    ----------
    matrix
        Transition matrix, shape ``(cells, cells)``.
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(cells,)``.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> jv.markov.cannot_reach(chain, np.array([-1, 0, -1])).tolist()
    [False, False, True]
    """
    n_cells = matrix.shape[0]
    # One more cell, from which backward edges lead to all terminal cells: what it does not reach, reaches none of them.
    # A stored zero is no edge.
    backward = sp.csr_matrix(matrix.T > 0)
    source = sp.csr_matrix((terminal >= 0)[None])
    joined = sp.block_array([[backward, None], [source, sp.csr_matrix((1, 1))]], format="csr")
    reached = breadth_first_order(joined, n_cells, return_predecessors=False)
    unreached = np.ones(n_cells + 1, dtype=bool)
    unreached[reached] = False
    return unreached[:n_cells]
