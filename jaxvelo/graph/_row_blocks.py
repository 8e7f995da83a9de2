"""A graph in blocks of cells, for rows that do not fit in memory: which cells, what they gather, the loop over them.

Of a file, only the rows of a block's cells and of their neighbours are in memory, twice: while the device computes one
block, a thread reads the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int
from scipy.sparse.csgraph import reverse_cuthill_mckee

from jaxvelo.graph._buckets import next_size
from jaxvelo.graph._neighbor_graph import NeighborGraph
from jaxvelo.graph._pattern import Pattern
from jaxvelo.graph._threads import worker_threads

MANY_BLOCKS = 16
"""So many blocks of half the size are worth a program of their own, as slots without edges take as long as others. How
many cells a block has differs with how many neighbours they share: of 418 blocks of a million cells with 30 neighbours,
one shape fills 29 % of the slots, three fill 50 %."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, eq=False)
class RowBlock:
    """Cells that are computed at a time.

    Attributes
    ----------
    own
        The cells, in increasing order.
    others
        Their neighbours that are not among them, in increasing order.
    end
        Position after the block, in the order of the cells that it was cut from.
    order
        Numbers of its cells among :attr:`own`, in that order.
    """

    own: Int[np.ndarray, " own"]
    others: Int[np.ndarray, " others"]
    end: int
    order: Int[np.ndarray, " own"]

    @property
    def gathered(self) -> Int[np.ndarray, " gathered"]:
        """All cells whose rows the block needs: its own first."""
        return np.concatenate([self.own, self.others])


class BudgetTooSmall(ValueError):
    """One cell with its neighbours needs more than a block may hold.

    Attributes
    ----------
    needed
        Bytes that are needed.
    """

    def __init__(self, needed: int):
        super().__init__(f"One cell and its neighbours need {needed} bytes at a time.")
        self.needed = needed


def near_order(graph: sp.csr_matrix) -> Int[np.ndarray, " cells"]:
    """Cells in an order in which neighbours are near: reverse Cuthill-McKee.

    Cut into 8 parts, the cells of a part and their neighbours were 1.24 times as many as the cells of the part, on
    100,000 cells of a tree with noise in 30 dimensions; 1.21 times with clusters of the positions, 1.65 with bisection
    by the graph's slowest vector, 7.9 times in any order. And what a part needs beyond its own cells is nearly all in
    the part before and the part after.

    Parameters
    ----------
    graph
        Graph of shape (cells, cells), symmetric or not.
    """
    pattern = _pattern(graph)
    transposed = pattern.T.tocsr()
    if not np.array_equal(transposed.indptr, pattern.indptr) or not np.array_equal(transposed.indices, pattern.indices):
        pattern = sp.csr_matrix(pattern + transposed)
    return reverse_cuthill_mckee(pattern, symmetric_mode=True).astype(np.int64)


def _pattern(graph: sp.csr_matrix) -> sp.csr_matrix:
    """The stored entries of a graph, with values of one byte: what is made of it is small."""
    return sp.csr_matrix((np.ones(graph.nnz, dtype=np.int8), graph.indices, graph.indptr), shape=graph.shape)


def row_blocks(
    graph: sp.csr_matrix,
    order: Int[np.ndarray, " cells"],
    n_bytes: Callable[[Any, Any], Any],
    budget: int,
    start: int = 0,
) -> Iterator[RowBlock]:
    """Cut an order of the cells into blocks, each of as many cells as the budget allows.

    Parameters
    ----------
    graph
        Whose stored entries are the neighbours, shape (cells, cells).
    order
        The cells.
    n_bytes
        Bytes for numbers of a block's cells and of the rows that it gathers; of arrays too, and growing with both.
    budget
        Bytes that a block may take.
    start
        Position in the order at which to begin.

    Raises
    ------
    BudgetTooSmall
        If the cell with most neighbours exceeds the budget.
    """
    graph = _pattern(graph)
    needed = int(n_bytes(1, 1 + int(np.diff(graph.indptr).max(initial=0))))
    if needed > budget:
        raise BudgetTooSmall(needed)
    while start < len(order):
        most = _most(lambda n: n_bytes(n, n), budget, len(order) - start)
        cells = order[start : start + most]
        used = graph[cells]
        # Which of these cells is the first to use a cell: assigned from the last, so that the first one stays.
        first = np.full(graph.shape[0], len(cells), dtype=np.int32)
        which = np.repeat(np.arange(len(cells), dtype=np.int32), np.diff(used.indptr))
        first[used.indices[::-1]] = which[::-1]
        first[cells] = np.minimum(first[cells], np.arange(len(cells), dtype=np.int32))
        n_gathered = np.cumsum(np.bincount(first, minlength=len(cells) + 1)[: len(cells)])
        of_first = n_bytes(np.arange(1, len(cells) + 1), n_gathered)
        n_own = int(np.searchsorted(of_first, budget, side="right"))
        yield block_between(graph, order, start, start + n_own)
        start += n_own


def block_between(graph: sp.csr_matrix, order: Int[np.ndarray, " cells"], start: int, end: int) -> RowBlock:
    """Block of the cells between two positions of an order, with their neighbours in a graph."""
    in_order = order[start:end]
    own = np.sort(in_order)
    is_gathered = np.zeros(graph.shape[0], dtype=bool)
    is_gathered[graph[own].indices] = True
    is_gathered[own] = False
    return RowBlock(own, np.flatnonzero(is_gathered), end, np.searchsorted(own, in_order))


def rows_among(matrix: sp.csr_matrix, own: Int[np.ndarray, " own"], cells: Int[np.ndarray, " some"]) -> sp.csr_matrix:
    """Rows of a matrix of cells and cells, with columns for some cells: all that the rows have entries of.

    Parameters
    ----------
    matrix
        Matrix of shape (cells, cells).
    own
        Cells of the rows.
    cells
        Cells of the columns, each once; others than those of the entries, too.

    Returns
    -------
    Matrix of shape (own, some), whose entries are in the order in which they are in the whole one.
    """
    rows = matrix[own]
    place = np.empty(matrix.shape[1], dtype=matrix.indices.dtype)
    place[cells] = np.arange(len(cells), dtype=place.dtype)
    return sp.csr_matrix((rows.data, place[rows.indices], rows.indptr), shape=(len(own), len(cells)))


def _most(n_bytes: Callable[[int], Any], budget: int, limit: int) -> int:
    """Largest number up to a limit whose bytes are within the budget."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if n_bytes(middle) <= budget else (low, middle - 1)
    return low


@dataclasses.dataclass(frozen=True)
class BlockShape:
    """The shape of a block's arrays.

    Attributes
    ----------
    n_own
        Number of its cells, or more.
    n_gathered
        Number of the cells that it gathers, or more.
    n_rows
        Number of rows of each bucket.
    """

    n_own: int
    n_gathered: int
    n_rows: tuple[int, ...]


class LocalGraphs:
    """The patterns of blocks, cut out of the pattern of a graph, of few shapes.

    A row has the slots that it has in the whole graph, with the neighbours counted among those that the block gathers:
    whatever is computed of a row is computed as there.

    Parameters
    ----------
    graph
        The graph.
    blocks
        The blocks.
    """

    def __init__(self, graph: NeighborGraph, blocks: Sequence[RowBlock]):
        self._position = np.asarray(graph.position)
        self._columns = [np.asarray(columns) for columns in graph.columns]
        self._mask = [np.asarray(mask) for mask in graph.mask]
        self._block_bytes = graph.pattern.block_bytes
        self._starts = np.cumsum([0, *(len(columns) for columns in self._columns)])
        self._local = np.zeros(len(self._position), dtype=np.int32)
        self._halvings = _halvings(np.array([len(block.own) for block in blocks]))
        self._shapes = [self._together(blocks, self._halvings == k) for k in range(self._halvings.max() + 1)]
        self._shape_of = {block.end: self._shapes[k] for block, k in zip(blocks, self._halvings, strict=True)}

    def _together(self, blocks: Sequence[RowBlock], these: np.ndarray) -> BlockShape:
        """A shape for some of the blocks."""
        blocks = [block for block, is_one in zip(blocks, these, strict=True) if is_one]
        of_blocks = [np.histogram(self._position[block.own], self._starts)[0] for block in blocks]
        return BlockShape(
            next_size(max(len(block.own) for block in blocks)),
            next_size(max(len(block.own) + len(block.others) for block in blocks)),
            tuple(max(next_size(int(n)), 1) for n in np.max(of_blocks, axis=0)),
        )

    def shape(self, block: RowBlock) -> BlockShape:
        """Shape of the arrays of a block."""
        return self._shape_of[block.end]

    def pattern(self, block: RowBlock) -> tuple[Pattern, list[np.ndarray]]:
        """Pattern of a block, and which rows of the graph's buckets those of the block's are.

        The rows of a bucket are as many as the block's shape says; those that are too many have no edges.
        """
        gathered = block.gathered
        self._local[gathered] = np.arange(len(gathered), dtype=np.int32)
        rows, columns, mask, places = [], [], [], []
        for b, (n_rows, (own, place)) in enumerate(zip(self.shape(block).n_rows, self._rows_of(block), strict=True)):
            width = self._columns[b].shape[1]
            rows.append(_filled(own.astype(np.int32), (n_rows,)))
            columns.append(_filled(self._local[self._columns[b][place]], (n_rows, width)))
            mask.append(_filled(self._mask[b][place], (n_rows, width)))
            places.append(place)
        n_cells = np.asarray(len(gathered), dtype=np.int32)
        arrays: Any = tuple(rows), tuple(columns), tuple(mask), n_cells
        return Pattern(*arrays, block_bytes=self._block_bytes), places

    def places(self, block: RowBlock) -> list[np.ndarray]:
        """Which rows of the graph's buckets those of a block's are."""
        return [place for _, place in self._rows_of(block)]

    def _rows_of(self, block: RowBlock) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each bucket, the rows that are the block's: numbers of their cells in the block, and in the bucket."""
        # Rows in the order of the cells; the cells of a row are the block's own, which come first.
        position = self._position[block.own]
        bucket = np.searchsorted(self._starts, position, side="right") - 1
        of_buckets = [np.flatnonzero(bucket == b) for b in range(len(self._columns))]
        return [(own, position[own] - start) for own, start in zip(of_buckets, self._starts[:-1], strict=True)]

    def of_block(
        self, block: RowBlock, of_slots: Sequence[np.ndarray], places: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """Values of the graph's slots on those of a block, with zeros in the rows that are too many."""
        return tuple(
            _filled(values[place], (n_rows, *values.shape[1:]))
            for values, place, n_rows in zip(of_slots, places, self.shape(block).n_rows, strict=True)
        )

    def put_back(self, results: Sequence[np.ndarray], of_block: Sequence[Any], places: Sequence[np.ndarray]) -> None:
        """Bring results of a block's slots to those of the graph."""
        for result, values, place in zip(results, of_block, places, strict=True):
            result[place] = np.asarray(values)[: len(place)]

    def empty(self, dtype: Any) -> list[np.ndarray]:
        """Zeros for the slots of the graph."""
        return [np.zeros(columns.shape, dtype=dtype) for columns in self._columns]


def _halvings(sizes: Int[np.ndarray, " blocks"]) -> Int[np.ndarray, " blocks"]:
    """How often the largest size is halved for each block, twice at most.

    Blocks that are halved as often have a program of their own, and are many therefore.
    """
    halvings = np.minimum(np.log2(sizes.max() / np.maximum(sizes, 1)).astype(int), 2)
    for k in (2, 1):
        if np.count_nonzero(halvings == k) < MANY_BLOCKS:
            halvings[halvings == k] = k - 1
    return halvings


def _filled(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array, followed by zeros."""
    filled = np.zeros(shape, dtype=array.dtype)
    filled[: len(array)] = array
    return filled


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Items with what is read for them: in a thread, one after another, one item ahead of the loop."""
    with worker_threads(1) as submit:

        def begin(item: Item) -> tuple[Item, Future, list[Result]]:
            # In a list, not as the thread's result: that would be kept until the end of the loop.
            found: list[Result] = []
            return item, submit(lambda: found.append(read(item))), found

        waiting = None
        for item in items:
            following = begin(item)
            if waiting is not None:
                waiting[1].result()
                yield waiting[0], waiting[2].pop()
            waiting = following
        if waiting is not None:
            waiting[1].result()
            yield waiting[0], waiting[2].pop()
