"""Expression and velocity that stay where they are, and are read in blocks of cells."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arrays import dense, find_array, in_memory, place_of
from jaxvelo.annotated.block_files import BlockFiles
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.disk_arrays import (
    PIECE,
    GatheredRows,
    check_readable,
    file_of,
    identity_of,
    is_on_disk,
    read_in_ranges,
)
from jaxvelo.annotated.feature_data import (
    FeatureData,
    check_together,
    check_valid,
    in_type,
    is_large_copy,
    name_of_features,
    selected_genes,
    surely_finite,
)
from jaxvelo.annotated.layer_files import layer_folder
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time
from jaxvelo.configuration import settings
from jaxvelo.graph import NeighborGraph
from jaxvelo.graph._aligned import empty_aligned
from jaxvelo.graph._blocks import on_cpu
from jaxvelo.graph._buckets import next_size
from jaxvelo.graph._row_blocks import RowBlock
from jaxvelo.transitions import Features

Result = TypeVar("Result")


def come_in_blocks(adata: AnnData, attr: str, xkey: str | None, vkey: str | None, gene_subset: Any) -> bool:
    """Whether expression and velocity are to be read in blocks of cells: from disk, or to spare a large copy.

    Other devices than a CPU, and meshes, get copies in any case.
    """
    if attr != "layers":
        return False
    arrays = [find_array(adata, key, attr) for key in (xkey, vkey)]
    if any(map(is_on_disk, arrays)):
        return True
    if not on_cpu() or settings.mesh is not None or any(array.ndim != 2 for array in arrays):
        return False
    chosen = selected_genes(adata, vkey, gene_subset, arrays[1].shape[1])
    n_genes = arrays[1].shape[1] if chosen is None else int(np.count_nonzero(chosen))
    return any(is_large_copy(array, n_genes, np.dtype(jnp.result_type(float))) for array in arrays)


class FeaturesInBlocks:
    """Expression and velocity on the genes that are used, read in blocks of cells.

    Whether all genes have finite velocities is seen where they are read: a first reading of all cells takes as long as
    the rest, and nearly always finds that all have.

    Parameters
    ----------
    adata, xkey, vkey, gene_subset
        As of :class:`~jaxvelo.annotated.feature_data.FeatureData`.

    Attributes
    ----------
    name
        Name that tells these features from others of the same data.
    on_disk
        Whether some of them are not in memory.
    """

    def __init__(
        self,
        adata: AnnData,
        xkey: str | None = "Ms",
        vkey: str | None = "velocity",
        gene_subset: str | Sequence[str] | np.ndarray | None = None,
    ):
        self._keys = xkey, vkey
        self._arrays = [find_array(adata, key, "layers") for key in self._keys]
        self._places = place_of(xkey, "layers"), place_of(vkey, "layers")
        for array, place in zip(self._arrays, self._places, strict=True):
            check_readable(array, place)
        check_together(self._arrays[0], self._arrays[1], *self._places)
        self.on_disk = any(map(is_on_disk, self._arrays))
        self._n_cells, n_genes = self._arrays[0].shape
        chosen = selected_genes(adata, vkey, gene_subset, n_genes)
        self._names = adata.var_names.to_numpy()
        self._columns = np.arange(n_genes) if chosen is None else np.flatnonzero(chosen)
        self._checked = False
        self.dtype = np.dtype(jnp.result_type(float))
        self.name = name_of_features("layers", xkey, vkey, gene_subset, chosen)

    @property
    def genes(self) -> np.ndarray:
        """Names of the genes; where they have not been used yet, all velocities are read to find them."""
        if not self._checked:
            self._leave_out_genes()
        return self._names[self._columns]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self._columns)

    @property
    def row_bytes(self) -> int:
        """Bytes of the expression of one cell in memory."""
        return next_size(self.n_genes) * self.dtype.itemsize

    def features(self, pad: bool = True, graph: NeighborGraph | None = None, shared: bool = False) -> Features:
        """All of them, in memory, for tools that need them at once."""
        return self._in_memory.features(pad, graph, shared)

    @functools.cached_property
    def _in_memory(self) -> FeatureData:
        x, v = (in_memory(array, place) for array, place in zip(self._arrays, self._places, strict=True))
        return FeatureData.of_arrays(x, v, self._columns, self._names, self._places, self.name)

    def use(self, function: Callable[[FeatureReader], Result], pad: bool, piece: int) -> Result:
        """Result of a function of what reads all of them in blocks, in pieces of so many bytes.

        If some velocities are not finite, it is called once more, with the genes that are left.
        """
        if self.n_genes < 2:
            self._leave_out_genes(piece)
        while True:
            reader = FeatureReader(self._arrays, self._places, self._columns, self.dtype, pad, piece)
            try:
                result = function(reader)
            except _NotFinite:
                self._leave_out_genes(piece)
            else:
                self._checked = True
                return result

    def notes(self, origin: Callable[[], Any]) -> BlockFiles | None:
        """Files for results that are computed of these features, and of more; None where no file holds the features."""
        stored = [array for array in self._arrays if is_on_disk(array)]
        if not stored or any(file_of(array) is None for array in stored):
            return None  # to know them again, they would have to be read twice
        identities = [identity_of(array, place) for array, place in zip(self._arrays, self._places, strict=True)]
        what = [identities, checksum(self._columns), origin()]
        return BlockFiles(layer_folder(self._arrays), str(self._keys[1]), what)

    def _leave_out_genes(self, piece: int = PIECE) -> None:
        """Keep the genes whose velocities are finite in all cells, by reading all of them."""
        valid, empty = np.ones(len(self._columns), dtype=bool), np.zeros(self._n_cells, dtype=bool)
        for rows, found in read_in_ranges(self._arrays[1], self._places[1], piece):
            finite = np.isfinite(in_type(dense(found[:, self._columns]), self.dtype))
            valid &= finite.all(axis=0)
            empty[rows] = ~finite.any(axis=1)
        check_valid(valid, empty, self._places[1])
        self._columns, self._checked = self._columns[valid], True


class _NotFinite(Exception):
    """Some velocities are not finite."""


class FeatureReader:
    """Reads features block after block, as long as they are finite."""

    def __init__(
        self, arrays: Sequence[Any], places: Sequence[str], columns: np.ndarray, dtype: np.dtype, pad: bool, piece: int
    ):
        self._dtype, self._n_genes, self._pad = dtype, len(columns), pad
        self._x, self._v = (
            GatheredRows(array, place, dtype, None if len(columns) == array.shape[1] else columns, check, piece)
            for array, place, check in zip(arrays, places, (self._check_expression, self._in_type), strict=True)
        )
        self._x_place = places[0]

    def __call__(self, block: RowBlock, n_gathered: int, n_velocities: int) -> Features:
        """Features of a block: expression of all cells that it gathers, velocities of all or of its own alone."""
        gathered = block.gathered
        n_genes = next_size(self._n_genes) if self._pad else self._n_genes
        x = self._padded(n_gathered, n_genes, len(gathered))
        v_cells = gathered if n_velocities >= len(gathered) else block.own
        v = self._padded(n_velocities, n_genes, len(v_cells))
        self._x.read(gathered, x)
        self._v.read(v_cells, v)
        for rows in rows_at_a_time(len(block.own), v.itemsize * n_genes, PIECE):
            if _n_not_finite(v[: len(block.own)][rows, : self._n_genes]):
                raise _NotFinite
        return Features(x, v, np.asarray(self._n_genes, np.int32) if self._pad else None)  # type: ignore[arg-type]

    def _padded(self, n_rows: int, n_genes: int, n_used: int) -> np.ndarray:
        """Array for rows, which the device can use as it is, zero where it is not filled."""
        array = empty_aligned((n_rows, n_genes), self._dtype)
        array[n_used:] = 0
        array[:, self._n_genes :] = 0
        return array

    def _in_type(self, piece: Any) -> Any:
        return in_type(piece, self._dtype)

    def _check_expression(self, piece: Any) -> Any:
        piece = self._in_type(piece)
        bad = _n_not_finite(piece)
        if bad:
            raise ValueError(
                f"Expected finite expression in `{self._x_place}`, found {bad} values that are not among the first "
                f"{piece.shape[0] * piece.shape[1]} read. Compute the moments anew, or remove these genes or cells."
            )
        return piece


def _n_not_finite(piece: Any) -> int:
    values = piece.data if sp.issparse(piece) else piece
    return 0 if surely_finite(values) else int(np.count_nonzero(~np.isfinite(values)))
