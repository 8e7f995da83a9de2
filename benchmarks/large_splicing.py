"""Moments of many cells from closed-form curves, made in pieces: nothing on the way is larger than the result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.datasets import splicing_state

ENTRIES_AT_ONCE = 1 << 18


def make(n_cells: int, n_genes: int, seed: int = 0, n_neighbors: int = 30, noise: float = 0.05) -> AnnData:
    """Make cells whose time is uniform in [0, 1], in random order; every gene is on once within it.

    Parameters
    ----------
    n_cells, n_genes
        Size of the data.
    seed
        Seed of :func:`numpy.random.default_rng`.
    n_neighbors
        Number of neighbours (even): those next in time, the last cells being next to the first.
    noise
        Standard deviation of the noise, relative to the peak of each gene. What falls below 0 is 0.

    Returns
    -------
    AnnData
        ``layers["Mu"]``, ``["Ms"]`` (float32), ``obsp["connectivities"]``.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_cells)
    cell_time = np.empty(n_cells)
    cell_time[order] = (np.arange(n_cells) + 0.5) / n_cells
    alpha, ratio = rng.lognormal(0.0, 1.0, n_genes), rng.lognormal(np.log(0.3), 0.7, n_genes)
    on, off = rng.uniform(0.0, 0.3, n_genes), rng.uniform(0.4, 0.75, n_genes)
    beta = rng.lognormal(np.log(3.0), 0.4, n_genes) / (off - on)
    rates = alpha, beta, ratio * beta, on, off
    capture = rng.lognormal(np.log(0.5), 0.5, n_genes)
    peaks = [x.max(axis=0) for x in splicing_state(np.linspace(0.0, 1.0, 201)[:, None], *rates)]

    layers = {name: np.empty((n_cells, n_genes), np.float32) for name in ("Mu", "Ms")}
    n_at_once = max(1, ENTRIES_AT_ONCE // n_genes)
    for first in range(0, n_cells, n_at_once):
        cells = slice(first, first + n_at_once)
        states = splicing_state(cell_time[cells, None], *rates)
        for name, state, peak, unit in zip(layers, states, peaks, (capture, 1.0), strict=True):
            noisy = state + noise * peak * rng.standard_normal(state.shape, dtype=np.float32)
            layers[name][cells] = unit * np.maximum(noisy, 0.0)

    distance = np.concatenate([np.arange(-(n_neighbors // 2), 0), np.arange(1, n_neighbors // 2 + 1)])
    rank = np.empty(n_cells, np.int64)
    rank[order] = np.arange(n_cells)
    neighbors = np.sort(order[(rank[:, None] + distance) % n_cells], axis=1)
    graph = sp.csr_matrix(
        (
            np.ones(neighbors.size, np.float32),
            neighbors.ravel().astype(np.int32),
            np.arange(0, neighbors.size + 1, len(distance), dtype=np.int32),
        ),
        shape=(n_cells, n_cells),
    )
    return AnnData(
        obs=pd.DataFrame({"true_time": cell_time}, index=[f"cell_{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"gene_{i}" for i in range(n_genes)]),
        layers=layers,
        obsp={"connectivities": graph},
        uns={"neighbors": {"connectivities_key": "connectivities", "params": {"n_neighbors": n_neighbors}}},
    )
