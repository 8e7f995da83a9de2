"""Cells that are some steps from neighbour to neighbour away."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def within_steps(neighbors: sp.csr_matrix, n_steps: int) -> sp.csr_matrix:
    """Pattern of the cells that are reached within ``n_steps`` steps from neighbour to neighbour, without the start."""
    here = sp.identity(neighbors.shape[0], format="csr")
    step = neighbors + here
    reached = step
    for _ in range(n_steps - 1):
        reached = sp.csr_matrix(reached @ step)
        reached.data[:] = 1.0
    others = reached.tocoo()
    keep = others.row != others.col
    return sp.csr_matrix((np.ones(np.count_nonzero(keep)), (others.row[keep], others.col[keep])), reached.shape)
