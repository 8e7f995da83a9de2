"""Genes of layers that stay on disk, for functions that take some genes of all cells at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Int

from jaxvelo.annotated.arrays import dense, find_array, place_of
from jaxvelo.annotated.disk_arrays import check_readable, is_on_disk, read_columns, read_in_ranges
from jaxvelo.annotated.memory_limit import bytes_of, for_pieces_and_blocks, within
from jaxvelo.dynamics._gene_blocks import N_NUMBERS
from jaxvelo.graph._row_blocks import BudgetTooSmall

_ARRAYS = 16
"""Doubles for each cell that are held of a gene, of those that are computed at a time."""


class ColumnsOnDisk:
    """A matrix on disk, of which genes are read: ``[:, first:last]`` gives an array, ``[:, genes]`` the matrix of some.

    More genes are read than are asked for, as many as may be: of rows one after another, all is read for any.

    Parameters
    ----------
    array
        The matrix.
    where
        Where it stands, for messages.
    check
        What to make of each piece that is read.
    genes
        Places of the genes.
    n_at_once
        Genes that are held.
    piece
        Bytes that are read at a time.
    """

    def __init__(
        self,
        array: Any,
        where: str,
        check: Callable[[Any], Any],
        genes: Int[np.ndarray, " genes"],
        n_at_once: int,
        piece: int,
    ):
        self._array, self._where, self._check = array, where, check
        self._genes, self._n_at_once, self._piece = genes, n_at_once, piece
        self._first, self._held = 0, np.empty((array.shape[0], 0))
        self.shape = array.shape[0], len(genes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: tuple[slice, Any]) -> Any:
        genes = index[1]
        if not isinstance(genes, slice):
            return ColumnsOnDisk(
                self._array, self._where, self._check, self._genes[genes], self._n_at_once, self._piece
            )
        first, last, _ = genes.indices(self.shape[1])
        if first < self._first or last > self._first + self._held.shape[1]:
            self._held = np.empty((self.shape[0], 0))
            places = self._genes[first : max(last, first + self._n_at_once)]
            self._held = read_columns(self._array, places, self._where, self._check, self._piece)
            self._first = first
        return self._held[:, first - self._first : last - self._first]

    def finite(self) -> Bool[np.ndarray, " genes"]:
        """Mask of the genes that are finite in all cells."""
        finite = np.ones(self.shape[1], dtype=bool)
        for _, rows in read_in_ranges(self._array, self._where, self._piece):
            finite &= np.isfinite(dense(rows[:, self._genes])).all(axis=0)
        return finite


def columns_on_disk(
    adata: AnnData, checks: dict[str, Callable[[Any], Any]], memory_limit: Any
) -> dict[str, ColumnsOnDisk] | None:
    """Layers of which some genes are to be read at a time; None if none of them is on disk.

    Parameters
    ----------
    adata
        Annotated data.
    checks
        What to make of the pieces that are read of each layer.
    memory_limit
        As of :func:`~jaxvelo.annotated.memory_limit.bytes_of`.

    Raises
    ------
    KeyError
        If a layer is missing.
    ValueError
        If the budget is too small for one gene of all cells, or a layer cannot be read.
    """
    arrays = {name: find_array(adata, name, "layers") for name in checks}
    if not any(map(is_on_disk, arrays.values())):
        return None
    budget = bytes_of(memory_limit)
    piece, for_blocks = for_pieces_and_blocks(budget)
    for name, array in arrays.items():
        check_readable(array, place_of(name, "layers"))
    of_gene = 8 * adata.n_obs * len(arrays)
    computed = 8 * _ARRAYS * max(adata.n_obs, min(N_NUMBERS, adata.n_obs * adata.n_vars))
    n_at_once = (for_blocks - computed) // of_gene
    with within(budget):
        if n_at_once < 1:
            raise BudgetTooSmall(computed + of_gene)
    every = np.arange(adata.n_vars)
    return {
        name: ColumnsOnDisk(array, place_of(name, "layers"), checks[name], every, n_at_once, piece)
        for name, array in arrays.items()
    }
