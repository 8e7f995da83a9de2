"""Graphs for tests: usual ones, and all that can be wrong with one."""

import numpy as np
import scipy.sparse as sp


def random_graph(n_cells: int, mean_degree: float, seed: int = 0) -> sp.csr_matrix:
    """Asymmetric graph without a diagonal; some cells may have no neighbours."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n_cells, n_cells)) * (rng.random((n_cells, n_cells)) < mean_degree / n_cells)
    np.fill_diagonal(dense, 0)
    return sp.csr_matrix(dense)


def messy_graphs() -> dict[str, sp.csr_matrix]:
    """Graphs of 40 cells, mostly, by what is unusual about them."""
    usual = random_graph(40, 6)
    hub = usual.tolil()
    hub[7] = np.random.default_rng(1).random(40)
    diagonal = usual.tolil()
    diagonal.setdiag(0.5)
    zeros = usual.copy()
    zeros.data[::5] = 0
    isolated = usual.tolil()
    isolated[[0, 13, 39]] = 0
    ring = sp.csr_matrix((np.ones(40), np.roll(np.arange(40), 1), np.arange(41)), shape=(40, 40))
    halves = sp.block_diag([random_graph(20, 5, seed) for seed in (2, 3)], format="csr")
    full = sp.csr_matrix(np.random.default_rng(4).random((40, 40)))
    return {
        "usual": usual,
        "hub": hub.tocsr(),
        "stored diagonal": diagonal.tocsr(),
        "explicit zeros": zeros,
        "isolated cells": isolated.tocsr(),
        "one neighbour": ring,
        "disconnected": halves,
        "all to all": full,
        "no edges": sp.csr_matrix((40, 40)),
        "one cell": sp.csr_matrix((1, 1)),
        "rows left over": random_graph(70, 6),
    }
