"""A gene's phase portrait as a few hundred weighted points, so that the cost of a fit does not depend on the cells."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SLABS = 20
N_POINTS = SLABS * SLABS


class Points(NamedTuple):
    """Weighted points of genes, all with the same number of them.

    Attributes
    ----------
    places
        Mean unspliced and spliced of the cells of a point, of shape (genes, 2, points).
    weights
        Share of the cells, of shape (genes, points); they sum to one. 0 where there are fewer cells than points.
    branches
        Branch of the curve that the cells belong to, of shape (genes, points), as passed to :func:`phase_bins`.
    """

    places: Float[np.ndarray, "genes 2 points"]
    weights: Float[np.ndarray, "genes points"]
    branches: Int[np.ndarray, "genes points"]


def phase_bins(
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    branches: Int[np.ndarray, "cells genes"] | None = None,
) -> Points:
    """Group the cells of each gene by branch, then by unspliced, then by spliced, into bins of equally many cells.

    Equal counts need no choice of a bin width, and give arrays of one shape for all genes and data sets.

    Parameters
    ----------
    unspliced, spliced
        Arrays of shape (cells, genes).
    branches
        Small non-negative integers; cells of different branches share no bin. None puts all into branch 0.

    Returns
    -------
    Points
        Means and weights.
    """
    n_cells, n_genes = unspliced.shape
    places = np.zeros((n_genes, 2, N_POINTS), dtype=unspliced.dtype)
    weights = np.zeros((n_genes, N_POINTS), dtype=unspliced.dtype)
    labels = np.zeros((n_genes, N_POINTS), dtype=np.int32)
    columns = np.ascontiguousarray(unspliced.T), np.ascontiguousarray(spliced.T)
    branch_columns = None if branches is None else np.ascontiguousarray(branches.T)
    everything = [np.arange(n_cells)]
    for gene, (u, s) in enumerate(zip(*columns, strict=True)):
        groups = everything
        if branch_columns is not None:
            groups = [np.flatnonzero(branch_columns[gene] == b) for b in np.unique(branch_columns[gene])]
        first = 0
        for group, n_slabs in zip(groups, _shares([len(g) for g in groups], SLABS), strict=True):
            order, edges = _bins(u[group], s[group], n_slabs)
            cells, counts = group[order], np.diff(edges)
            slots = slice(first, first + len(counts))
            places[gene, 0, slots] = np.add.reduceat(u[cells], edges[:-1]) / counts
            places[gene, 1, slots] = np.add.reduceat(s[cells], edges[:-1]) / counts
            weights[gene, slots] = counts / n_cells
            if branch_columns is not None:
                labels[gene, slots] = branch_columns[gene, group[0]]
            first += len(counts)
    return Points(places, weights, labels)


def _shares(sizes: list[int], total: int) -> list[int]:
    """Split a number of slabs over groups by their sizes; each gets at least one."""
    shares = [max(1, round(total * size / sum(sizes))) for size in sizes]
    while sum(shares) > total:
        shares[int(np.argmax(shares))] -= 1
    return shares


def _bins(
    u: Float[np.ndarray, " cells"], s: Float[np.ndarray, " cells"], n_slabs: int
) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " edges"]]:
    """Order of the cells, and the edges of the bins in it."""
    n_cells = len(u)
    # Stable sorts after each other: cells of equal counts in one kind are ordered by the other, so that the order in
    # which they come does not matter.
    by_unspliced = np.lexsort((s, u))
    by_spliced = by_unspliced[np.argsort(s[by_unspliced], kind="stable")]
    slab_edges = np.arange(n_slabs + 1) * n_cells // n_slabs
    slab = np.empty(n_cells, dtype=np.int16)
    slab[by_unspliced] = np.repeat(np.arange(n_slabs), np.diff(slab_edges))
    order = by_spliced[np.argsort(slab[by_spliced], kind="stable")]
    inner = np.diff(slab_edges)[:, None] * np.arange(SLABS) // SLABS
    edges = np.append((slab_edges[:-1, None] + inner).ravel(), n_cells)
    return order, edges[np.append(edges[1:] > edges[:-1], True)]
