"""Chains of any size on a tree of known coordinates: neighbours in space, steps along the known time.

Usage: ``python -m benchmarks.tree_chain N_CELLS FILE.npz [--fates 5] [--closed 0] [--seed 0]``
"""

from __future__ import annotations

import argparse
import json
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

BRANCHING, TIP = 0.4, 0.95
VELOCITY_WEIGHT, SOFTMAX_SCALE = 0.8, 4.0


class TreeChain(NamedTuple):
    """A transition matrix in float64, and what is true of its cells: time in [0, 1] and the fate that they head for."""

    transitions: sp.csr_matrix
    time: np.ndarray
    fate: np.ndarray


def make(
    n_cells: int, n_fates: int = 5, n_closed: int = 0, seed: int = 0, n_neighbors: int = 30, noise: float = 0.1
) -> TreeChain:
    """Make a chain on a trunk and branches, in five dimensions.

    Parameters
    ----------
    n_cells
        Number of cells, spread evenly over fates and time.
    n_fates
        Number of branches.
    n_closed
        Number of branches whose tip is not left once it is reached: so many closed classes.
    seed
        Seed of :func:`numpy.random.default_rng`.
    n_neighbors
        Of each cell; the graph is made symmetric, so that most cells have more.
    noise
        Standard deviation of the coordinates about the tree, which is one long. With 0.1 the branches are as thick as
        those of measured cells; with 0.03 they are nearly uncoupled.
    """
    rng = np.random.default_rng(seed)
    time, fate = rng.random(n_cells), rng.integers(0, n_fates, n_cells)
    directions = spread_out(rng, n_fates)
    place = np.maximum(time - BRANCHING, 0.0)[:, None] * directions[fate]
    place[:, 0] += np.minimum(time, BRANCHING)
    place += noise * rng.standard_normal(place.shape)

    neighbors = cKDTree(place).query(place, n_neighbors + 1, workers=-1)[1][:, 1:]
    indptr = np.arange(0, neighbors.size + 1, n_neighbors, dtype=np.int32)
    ones = np.ones(neighbors.size, np.float32)
    graph = sp.csr_matrix((ones, neighbors.astype(np.int32).ravel(), indptr), shape=(n_cells, n_cells))
    del neighbors
    graph = (graph + graph.T).tocsr()
    graph.sort_indices()
    degree = np.diff(graph.indptr)
    rows = np.repeat(np.arange(n_cells, dtype=np.int32), degree)

    in_tip = np.where((time > TIP) & (fate < n_closed), fate, -1)
    if n_closed:
        in_tip = largest_parts(graph, rows, in_tip)
    leaves = (in_tip[rows] >= 0) & (in_tip[rows] != in_tip[graph.indices])
    first = graph.indptr[:-1]
    leaves &= ~np.logical_and.reduceat(leaves, first)[rows]  # the few without a neighbour in their own tip
    ahead = time[graph.indices] - time[rows]
    ahead /= np.maximum.reduceat(np.abs(ahead), first)[rows]
    step = np.exp(SOFTMAX_SCALE * ahead)
    step[leaves] = 0.0
    near = np.where(leaves, 0.0, 1.0)
    for weights in (step, near):
        weights /= np.add.reduceat(weights, first)[rows]
    graph = sp.csr_matrix((VELOCITY_WEIGHT * step + (1 - VELOCITY_WEIGHT) * near, graph.indices, graph.indptr))
    graph.eliminate_zeros()
    return TreeChain(graph, time, fate)


def spread_out(rng: np.random.Generator, n_fates: int) -> np.ndarray:
    """Directions in five dimensions, the widest apart of many draws."""
    draws = rng.normal(size=(2000, n_fates, 5))
    draws /= np.linalg.norm(draws, axis=2, keepdims=True)
    closest = np.triu(draws @ draws.transpose(0, 2, 1), k=1).max(axis=(1, 2))
    return draws[closest.argmin()]


def largest_parts(graph: sp.csr_matrix, rows: np.ndarray, in_tip: np.ndarray) -> np.ndarray:
    """Keep of each tip the largest part that hangs together, so that it is one closed class."""
    inside = (in_tip[rows] >= 0) & (in_tip[rows] == in_tip[graph.indices])
    edges = sp.coo_matrix((np.ones(inside.sum(), np.int8), (rows[inside], graph.indices[inside])), shape=graph.shape)
    part = connected_components(edges, directed=False)[1]
    kept = np.full_like(in_tip, -1)
    for tip in range(in_tip.max() + 1):
        cells = np.flatnonzero(in_tip == tip)
        largest = np.bincount(part[cells]).argmax()
        kept[cells[part[cells] == largest]] = tip
    return kept


def save(file: str, chain: TreeChain) -> None:
    """Write a chain, uncompressed."""
    matrix = chain.transitions
    np.savez(file, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, time=chain.time, fate=chain.fate)


def load(file: str) -> TreeChain:
    """Read a chain."""
    with np.load(file) as arrays:
        n_cells = len(arrays["indptr"]) - 1
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        return TreeChain(sp.csr_matrix(parts, shape=(n_cells, n_cells), copy=False), arrays["time"], arrays["fate"])


def main() -> None:
    """Make a chain and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n_cells", type=int)
    parser.add_argument("file")
    parser.add_argument("--fates", type=int, default=5)
    parser.add_argument("--closed", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chain = make(arguments.n_cells, arguments.fates, arguments.closed, arguments.seed)
    save(arguments.file, chain)
    print(json.dumps({"entries": int(chain.transitions.nnz)}))


if __name__ == "__main__":
    main()
