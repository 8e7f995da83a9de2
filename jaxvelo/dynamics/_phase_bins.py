"""A gene's phase portrait as a few hundred weighted points, so that the cost of a fit does not depend on the cells."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SLABS = 20
N_POINTS = SLABS * SLABS
# Cells of as many genes as are sorted at a time: what they need stays in the cache of a processor core.
BLOCK = 1 << 16


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
    size = max(1, BLOCK // n_cells)
    for genes in (slice(first, first + size) for first in range(0, n_genes, size)):
        u, s = (np.ascontiguousarray(x[:, genes].T) for x in (unspliced, spliced))
        b = np.zeros(u.shape, np.int8) if branches is None else branches[:, genes].T.astype(np.int8)
        order, starts, slots = _bins(u, s, b)
        gene, counts = starts // n_cells, np.diff(starts, append=u.size)
        for axis, x in enumerate((u, s)):
            sums = np.add.reduceat(np.take_along_axis(x, order, axis=1).ravel(), starts)
            places[genes][gene, axis, slots] = sums / counts
        weights[genes][gene, slots] = counts / n_cells
        labels[genes][gene, slots] = np.take_along_axis(b, order, axis=1).ravel()[starts]
    return Points(places, weights, labels)


def _bins(
    u: Float[np.ndarray, "genes cells"], s: Float[np.ndarray, "genes cells"], branches: Int[np.ndarray, "genes cells"]
) -> tuple[Int[np.ndarray, "genes cells"], Int[np.ndarray, " bins"], Int[np.ndarray, " bins"]]:
    r"""Order of the cells of each gene; where bins start, one gene after another; number of the bin in its gene.

    What is even splits :math:`n` cells into :math:`m` parts: the one of rank :math:`r` comes into part
    :math:`\lfloor ((r + 1) m - 1) / n \rfloor`.
    """
    rows, rank = np.arange(len(u))[:, None], np.arange(u.shape[1], dtype=np.int32)[None]
    sizes = np.stack(
        [np.sum(branches == branch, axis=1, dtype=np.int32) for branch in range(branches.max() + 1)], axis=1
    )
    shares = _shares(sizes, SLABS)
    # Stable sorts after each other: cells of equal counts in one kind are ordered by the other, so that the order in
    # which they come does not matter.
    by_unspliced = np.lexsort((s, u, branches))
    branch = np.take_along_axis(branches, by_unspliced, axis=1)
    within = rank - _before(sizes)[rows, branch]
    slab = _before(shares)[rows, branch] + ((within + 1) * shares[rows, branch] - 1) // sizes[rows, branch]
    slab = slab.astype(np.int16)  # that is sorted fast
    order = np.take_along_axis(by_unspliced, np.lexsort((np.take_along_axis(s, by_unspliced, axis=1), slab)), axis=1)
    sizes = np.bincount((rows * SLABS + slab).ravel(), minlength=len(u) * SLABS).reshape(-1, SLABS).astype(np.int32)
    part = ((rank - _before(sizes)[rows, slab] + 1) * SLABS - 1) // sizes[rows, slab]
    bins = slab.astype(np.int32) * SLABS + part
    begins = np.diff(bins, axis=1, prepend=-1) != 0
    starts = np.flatnonzero(begins)
    return order, starts, (np.cumsum(begins, axis=1) - 1).ravel()[starts]


def _shares(sizes: Int[np.ndarray, "genes groups"], total: int) -> Int[np.ndarray, "genes groups"]:
    """Split a number of slabs over groups by their sizes; each with cells gets at least one."""
    shares = np.round(total * sizes / sizes.sum(axis=1, keepdims=True)).astype(np.int32)
    shares = np.where(sizes > 0, np.maximum(shares, 1), 0)
    while (genes := np.flatnonzero(shares.sum(axis=1) > total)).size:
        shares[genes, np.argmax(shares[genes], axis=1)] -= 1
    return shares


def _before(sizes: Int[np.ndarray, "genes groups"]) -> Int[np.ndarray, "genes groups"]:
    """Sum of the sizes before each."""
    return np.cumsum(sizes, axis=1, dtype=np.int32) - sizes
