"""Matrices of cells and genes that stay on disk: what they are, their rows and their columns.

A layer may be an array of HDF5 or zarr, a sparse matrix of either (:func:`anndata.io.sparse_dataset`), or an array of
dask. What is read of them is dense, or CSR where they are sparse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.entries import layer_names
from jaxvelo.annotated.progress_bar import watched
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time
from jaxvelo.configuration import logger

PIECE = 1 << 25
"""Bytes that are read at a time."""
GAP = 1 << 18
"""Bytes of a sparse matrix that are read rather than what is before and after them by itself."""
UNPACKED = 1 << 30
"""Bytes of chunks that are read before it is said that they are read again and again."""


def is_on_disk(array: Any) -> bool:
    """Whether a matrix is to be read in pieces."""
    return isinstance(array, h5py.Dataset | CSRDataset | CSCDataset) or _is_zarr(array) or _is_dask(array)


def _is_zarr(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "zarr"


def _is_dask(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "dask"


def file_of(array: Any) -> Path | None:
    """File, or folder, in which a matrix is; None where that is not known."""
    array = _stored(array)
    if hasattr(array, "file"):  # of HDF5
        found: Any = os.fsdecode(array.file.filename)
    else:  # of zarr: a folder, or a zip file
        store = getattr(array, "store", None)
        found = getattr(store, "root", None) or getattr(store, "path", None)
    # What is read from elsewhere, as from an address, has a name that is no path.
    return Path(found) if isinstance(found, str | os.PathLike) and os.path.exists(found) else None


def _stored(array: Any) -> Any:
    """The array, or the group of a sparse matrix, in its file."""
    return array.group if isinstance(array, CSRDataset | CSCDataset | _SparseRows) else array


def identity_of(array: Any, where: str) -> list[Any]:
    """What tells a matrix from another, or from itself before it was changed; as JSON takes it.

    Of a matrix in a file that is its place, the time and size of the file, and the origin that a layer of
    :mod:`jaxvelo.annotated.layer_files` bears. All others are read, and told by their values: the name of an array of
    dask stays what it is where the file changes that the array reads.
    """
    what = [list(array.shape), str(array.dtype)]
    path, stored = file_of(array), _stored(array)
    if path is None:
        return [*what, [checksum(*_parts(piece)) for _, piece in read_in_ranges(array, where)]]
    what += [str(stored.name), str(stored.attrs.get("origin")), str(path.resolve())]
    if path.is_dir():  # zarr: the description of the array changes with it, and chunks by their times
        files = [entry.stat() for entry in sorted((path / stored.path).rglob("*")) if entry.is_file()]
        return [*what, checksum(np.array([[status.st_size, status.st_mtime_ns] for status in files], dtype=np.int64))]
    status = path.stat()
    if hasattr(stored, "file"):
        if stored.file.mode != "r":
            stored.file.flush()  # what has been changed shows in the file's time then
        if stored.file.driver == "sec2":
            # Of the file that is read: another may have taken its name since it was opened.
            status = os.fstat(stored.file.id.get_vfd_handle())
    return [*what, status.st_size, status.st_mtime_ns]


def _parts(matrix: Any) -> tuple[Any, ...]:
    """Arrays that make a matrix."""
    return (matrix.data, matrix.indices, matrix.indptr) if sp.issparse(matrix) else (np.asarray(matrix),)


def require_no_copy(adata: AnnData, copy: bool) -> None:
    """Raise a ValueError if a copy is asked for of an object with layers on disk."""
    if not copy:
        return
    on_disk = [name for name in layer_names(adata) if is_on_disk(adata.layers[name])]
    on_disk += ["X"] if is_on_disk(adata.X) else []
    if on_disk:
        raise ValueError(
            f"Expected `adata` in memory to copy it, found {on_disk} on disk. Leave the copy out, or load all as "
            "`adata.to_memory()`."
        )


def check_readable(array: Any, where: str) -> None:
    """Raise a ValueError for a matrix of two axes that holds no numbers, or whose rows are scattered over its file."""
    if isinstance(array, CSCDataset):
        raise ValueError(
            f"Expected `{where}` by rows, found a sparse matrix by columns (CSC) on disk, of which the rows of some "
            "cells cannot be read without all others. Store it as CSR, as by `adata.layers[key] = matrix.tocsr()`."
        )
    if np.dtype(array.dtype).kind not in "fiub":
        raise ValueError(f"Expected numbers in `{where}`, found the type {array.dtype}. Convert them.")


def read_rows(array: Any, cells: np.ndarray, where: str) -> np.ndarray | sp.csr_matrix:
    """Return the rows of some cells, in increasing order, of a matrix on disk or in memory.

    Raises
    ------
    OSError
        If the file cannot be read, as where it was cut off.
    """
    whole = len(cells) and int(cells[-1]) - int(cells[0]) + 1 == len(cells)
    return _read(_opened(array), slice(int(cells[0]), int(cells[-1]) + 1) if whole else cells, len(cells), where)


def _read(array: Any, index: Any, n_rows: int, where: str) -> np.ndarray | sp.csr_matrix:
    """Part of a matrix: rows in increasing order or a range of them, or ranges of rows and columns."""
    try:
        if _is_zarr(array):
            return np.asarray(array.oindex[index] if isinstance(index, np.ndarray) else array[index])
        return array[index].compute() if _is_dask(array) else array[index]
    except MemoryError:
        raise
    except Exception as error:  # h5py, zarr and their codecs raise of many kinds for damaged files
        raise OSError(
            f"Could not read {n_rows} rows of `{where}` from `{file_of(array)}`: {' '.join(str(error).split())}. The "
            "file is damaged or was cut off, or its disk is gone: copy it anew. What was computed is kept."
        ) from error


def read_any_rows(array: Any, cells: np.ndarray, where: str) -> np.ndarray:
    """Return the rows of some cells, in any order and as often as they are named, dense."""
    sorted_cells, places = np.unique(cells, return_inverse=True)
    return dense(read_rows(array, sorted_cells, where))[places]


class _SparseRows:
    """Rows of a sparse matrix on disk: where they begin is in memory, and is not looked up again for each piece."""

    def __init__(self, matrix: Any):
        self.shape, self.dtype, self.group = matrix.shape, np.dtype(matrix.dtype), matrix.group
        self._indptr = self.group["indptr"][:]
        self._indices, self._data = self.group["indices"], self.group["data"]

    def __getitem__(self, rows: slice | np.ndarray) -> sp.csr_matrix:
        if isinstance(rows, slice):
            return self._range(rows.start, rows.stop)
        if not len(rows):
            return sp.csr_matrix((0, self.shape[1]), dtype=self.dtype)
        gaps = (self._indptr[rows[1:]] - self._indptr[rows[:-1] + 1]) * (
            self.dtype.itemsize + self._indices.dtype.itemsize
        )
        parts = np.split(rows, np.flatnonzero(gaps > GAP) + 1)
        return sp.vstack([self._range(int(p[0]), int(p[-1]) + 1)[p - p[0]] for p in parts], format="csr")

    def _range(self, start: int, stop: int) -> sp.csr_matrix:
        indptr = self._indptr[start : stop + 1]
        stored = slice(int(indptr[0]), int(indptr[-1]))
        parts = self._data[stored], self._indices[stored], indptr - indptr[0]
        return sp.csr_matrix(parts, shape=(len(indptr) - 1, self.shape[1]))


def _opened(array: Any) -> Any:
    """What many pieces are read of: rows of a sparse matrix by columns would be looked for in all of it each time."""
    if sp.issparse(array):
        return array.tocsr()
    return _SparseRows(array) if isinstance(array, CSRDataset) else array


def read_in_ranges(array: Any, where: str, piece: int = PIECE) -> Iterator[tuple[slice, np.ndarray | sp.csr_matrix]]:
    """All rows of a matrix, some at a time: which they are, and the rows."""
    array = _opened(array)
    n_rows = array.shape[0]
    pieces = rows_at_a_time(n_rows, 8 * array.shape[1], piece)
    for rows in watched(pieces, n_rows, f"Reading {where}", "cells", lambda rows: rows.stop - rows.start):
        yield rows, _read(array, rows, rows.stop - rows.start, where)


def evenly_spaced(n_cells: int, most: int = 2000) -> np.ndarray:
    """Some cells, by which one can tell what a matrix holds."""
    return np.arange(0, n_cells, max(-(-n_cells // most), 1))


def read_columns(
    array: Any, columns: np.ndarray, where: str, check: Callable[[Any], Any], piece: int = PIECE
) -> np.ndarray:
    """Return some columns, in increasing order, of all rows, dense, each piece checked as by :class:`GatheredRows`."""
    result: np.ndarray | None = None
    array = _opened(array)
    # Arrays can be read from one column to another; of sparse rows, all is read.
    narrow = not (sp.issparse(array) or isinstance(array, _SparseRows))
    first, last = (int(columns[0]), int(columns[-1]) + 1) if narrow else (0, array.shape[1])
    for rows in rows_at_a_time(array.shape[0], 8 * (last - first), piece):
        found = _read(array, (rows, slice(first, last)) if narrow else rows, rows.stop - rows.start, where)
        found = check(found[:, columns - first])
        found = found.toarray() if sp.issparse(found) else found
        if result is None:
            result = np.empty((array.shape[0], len(columns)), dtype=found.dtype)
        result[rows] = found
    return np.empty((0, len(columns)), dtype=array.dtype) if result is None else result


class _Unpacking:
    """Counts what is read of a matrix in chunks: each that holds a row is read, and perhaps decompressed, as a whole.

    Of 25,000 x 2,000 numbers, 200 MB, eight blocks of cells in a random order took 0.4 s where rows stood one after
    another in the file, 3 s in chunks as h5py makes them, 6 s compressed, and 6 s in chunks of 5,000 x 10.
    """

    def __init__(self, where: str, stored: Any, begin: np.ndarray | None):
        self._where, self._stored, self._begin = where, stored, begin
        self._n_bytes = int(np.prod(stored.shape)) * stored.dtype.itemsize
        self._n_rows = int(stored.chunks[0])
        self._chunk_bytes = self._n_rows * self._n_bytes / max(stored.shape[0], 1)
        self._n_unpacked, self._said = 0.0, False

    @classmethod
    def of(cls, array: Any, where: str) -> _Unpacking | None:
        """What counts for a matrix, if it is in chunks."""
        stored, begin = (array._data, array._indptr) if isinstance(array, _SparseRows) else (array, None)
        return None if _is_dask(array) or not getattr(stored, "chunks", None) else cls(where, stored, begin)

    def count(self, cells: np.ndarray) -> None:
        """Count the chunks of rows, in increasing order; say, once, if all were read more than four times."""
        first = cells if self._begin is None else self._begin[cells]
        self._n_unpacked += len(np.unique(first // self._n_rows)) * self._chunk_bytes
        if not self._said and self._n_unpacked > max(4 * self._n_bytes, UNPACKED):
            self._said = True
            in_one_piece = "in one piece, as `h5repack -f NONE -l CONTI old.h5ad new.h5ad` does"
            logger.warning(
                "Reading `%s` is slow: it is stored in chunks of %s, each of which is read for many blocks of cells. "
                "Raise `memory_limit`, so that there are fewer blocks, or store it %s",
                self._where,
                " x ".join(map(str, self._stored.chunks)),
                "in chunks of fewer cells" if _is_zarr(self._stored) else in_one_piece,
            )


class GatheredRows:
    """Dense rows of cells, block after block: those that were in the block before are not read again.

    Parameters
    ----------
    array
        Matrix on disk or in memory.
    where
        Where it stands, for messages.
    dtype
        Type of the rows that are given.
    columns
        The columns that are given; all if None.
    check
        What to make of the columns of each piece that was read, which may be sparse, before they are used.
    piece
        Bytes that are read at a time.
    """

    def __init__(
        self,
        array: Any,
        where: str,
        dtype: np.dtype,
        columns: np.ndarray | None = None,
        check: Callable[[Any], Any] = lambda found: found,
        piece: int = PIECE,
    ):
        self._piece = piece
        self._array, self._where, self._dtype, self._columns = _opened(array), where, dtype, columns
        self._check = check
        self._unpacking: _Unpacking | None = _Unpacking.of(self._array, where)
        self._rows = np.zeros((0, 0), dtype=dtype)
        self._place = np.full(array.shape[0], -1)
        self._cells = np.arange(0)
        self.n_columns = array.shape[1] if columns is None else len(columns)

    def empty(self, n_rows: int) -> np.ndarray:
        """Array to read so many rows into."""
        return np.empty((n_rows, self.n_columns), dtype=self._dtype)

    def read(self, cells: np.ndarray, into: np.ndarray) -> np.ndarray:
        """Fill the first rows and columns of an array with those of cells, each once, in any order."""
        if isinstance(self._array, np.ndarray):
            self._take(self._array, cells, into)
            return into
        n = self.n_columns
        place = self._place[cells]
        row_bytes = max(n, self._array.shape[1]) * 8
        known = np.flatnonzero(place >= 0)
        for piece in rows_at_a_time(len(known), row_bytes, self._piece):
            into[known[piece], :n] = self._rows[place[known[piece]], :n]
        new = np.flatnonzero(place < 0)
        new = new[np.argsort(cells[new], kind="stable")]
        if self._unpacking is not None:
            self._unpacking.count(cells[new])
        for piece in rows_at_a_time(len(new), row_bytes, self._piece):
            found = read_rows(self._array, cells[new[piece]], self._where)
            if self._columns is not None:
                found = found[:, self._columns]
            found = self._check(found)
            into[new[piece], :n] = found.toarray() if sp.issparse(found) else found
        self._place[self._cells] = -1
        self._place[cells] = np.arange(len(cells))
        self._cells, self._rows = cells, into
        return into

    def _take(self, array: np.ndarray, cells: np.ndarray, into: np.ndarray) -> None:
        """The same of a matrix in memory: as fast to read as the rows that were read before, which are not kept."""
        n, as_it_is = self.n_columns, self._columns is None and array.dtype == into.dtype
        for piece in rows_at_a_time(len(cells), array.shape[1] * 8, self._piece):
            out = into[piece] if as_it_is and into.shape[1] == n else None
            found = np.take(
                array, cells[piece], axis=0, out=out, mode="clip"
            )  # cells exist: no copy to check them first
            found = self._check(found if self._columns is None else found[:, self._columns])
            if found is not out:
                into[piece, :n] = found
