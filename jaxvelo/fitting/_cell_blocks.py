"""Blocks of cells: stretches of the neighbour graph."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from jaxvelo import fit

N_COORDINATES = 10
MAX_ROUNDS = 100


def cell_blocks(
    connectivities: sp.csr_matrix, cells: Bool[np.ndarray, " cells"], n_blocks: int
) -> Int[np.ndarray, " cells"]:
    r"""Cut some cells into patches of the graph.

    By k-means in the coordinates :math:`f_k(i) / \sqrt{1 - \lambda_k}` of the smoothest functions :math:`f_k` on the
    graph, with :math:`\lambda_k` their eigenvalues, in which the distance of two cells is the time that a random walk
    takes there and back (Qiu & Hancock 2007, the leading terms). It starts from cells that are far from each other
    (Gonzalez 1985) and draws nothing at random.

    Parameters
    ----------
    connectivities
        Weights of the graph, of all cells.
    cells
        The cells to cut, at least one.
    n_blocks
        Number of blocks; fewer come out where there are fewer places.

    Returns
    -------
    The block of each cell, numbered from 0; -1 for the cells that are not cut.
    """
    points = _commute_coordinates(connectivities)[cells]
    centres = _far_points(points, n_blocks)
    found = np.full(len(points), -1)
    for _ in range(MAX_ROUNDS):
        nearest = cdist(points, centres, "sqeuclidean").argmin(axis=1)
        # A block that lost all of its cells is left out.
        _, nearest = np.unique(nearest, return_inverse=True)
        if np.array_equal(nearest, found):
            break
        found = nearest
        sizes = np.bincount(found)
        centres = np.stack([np.bincount(found, axis) / sizes for axis in points.T], axis=1)
    blocks = np.full(len(cells), -1)
    blocks[cells] = found
    return blocks


def _commute_coordinates(connectivities: sp.csr_matrix) -> Float[np.ndarray, "cells coordinates"]:
    """Coordinates of all cells, in single precision: rounding errors of eigenvectors must not decide a tie."""
    weights = sp.csr_matrix((connectivities + connectivities.T) / 2, dtype=np.float64)
    n_functions = min(N_COORDINATES + 1, weights.shape[0] - 1)
    functions = fit.smooth_functions(weights, n_functions)[:, 1:]
    degree = np.asarray(weights.sum(axis=1))
    roughness = 1 - np.sum(functions * (weights @ functions), axis=0) / (degree.ravel() @ functions**2)
    # Parts without an edge between them are far from each other, not infinitely far.
    return (functions / np.sqrt(np.maximum(roughness, 1e-6))).astype(np.float32)


def _far_points(points: np.ndarray, count: int) -> np.ndarray:
    """The point farthest from the mean, and one after the other that farthest from all before; no two of one place."""
    chosen: list[int] = []
    distance = cdist(points, points.mean(axis=0, keepdims=True))[:, 0]
    while len(chosen) < count and (not chosen or distance.max() > 0):
        farthest = int(distance.argmax())
        own = cdist(points, points[farthest : farthest + 1])[:, 0]
        distance = own if not chosen else np.minimum(distance, own)
        chosen.append(farthest)
    return points[chosen]
