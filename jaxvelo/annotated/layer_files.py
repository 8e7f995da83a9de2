"""Layers of results that are written to disk, rows after rows or genes after genes, and taken up where they were left.

A layer is an array in an HDF5 file of its own, in a folder beside the file of the data (``atlas.layers/Ms.h5`` beside
``atlas.h5ad``): the data are never changed. It has whole rows one after another, as h5ad files have it, or, if it is
written some genes at a time, blocks of cells and genes. It is written under a temporary name and renamed when whole.
What has been written is noted beside it after each block, with a checksum of what it is computed of: the same call,
made again, goes on from there.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from anndata.io import sparse_dataset

from jaxvelo.annotated.checksums import digest
from jaxvelo.annotated.disk_arrays import file_of
from jaxvelo.annotated.memory_limit import format_bytes
from jaxvelo.configuration import logger, settings

SUFFIX = ".layers"
"""Of the folders beside the files of the data."""
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_FAILURES = (OSError, RuntimeError)  # HDF5 raises the latter where a file cannot be closed


def layer_folder(arrays: Sequence[Any]) -> Path:
    """Folder for layers that are computed of others: beside the file of the first of them that has one, or with it.

    Raises
    ------
    ValueError
        If none has, and ``jaxvelo.settings.layerdir`` names none.
    """
    if settings.layerdir is not None:
        return settings.layerdir
    files = [path for path in map(file_of, arrays) if path is not None]
    if not files:
        raise ValueError(
            "Expected layers in a file, found arrays that name none, so that it is not known where to write results. "
            "Set `jaxvelo.settings.layerdir` to a folder for them."
        )
    folder = files[0].parent
    return folder if folder.suffix == SUFFIX else folder / f"{files[0].stem}{SUFFIX}"


class LayerFile:
    """A layer that is written block after block.

    Parameters
    ----------
    folder
        Where to write; it is made if it is not there.
    key
        Key of the layer.
    shape, dtype
        Its shape and type.
    origin
        What it is computed of, as JSON takes it: two layers of the same key and origin are equal.
    n_stored
        Number of values that are stored of a sparse layer, which is written as CSR, from the first row to the last;
        None for a dense one.
    block
        Cells and genes that are stored together, of a dense layer that is written some genes at a time; None for rows.

    Attributes
    ----------
    position
        How much has been written, as the caller counts; 0 in the beginning.
    is_whole
        Whether the layer is there already.

    Raises
    ------
    OSError
        If the folder cannot be written, or the disk has no room for the layer.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        shape: tuple[int, int],
        dtype: Any,
        origin: Any,
        n_stored: int | None = None,
        block: tuple[int, int] | None = None,
    ):
        self._n_stored, self._block = n_stored, block
        self._key, self._shape, self._dtype = key, shape, np.dtype(dtype)
        self._origin = digest(key, list(shape), self._dtype.str, origin)
        self._name = name = key.replace("/", "_")  # which would be a folder, and a group in the file
        self._path = folder / f"{name}.h5"
        self._partial, self._record = folder / f".{name}.partial.h5", folder / f".{name}.partial.json"
        self._file: h5py.File | None = None
        self.position = 0
        self.is_whole = self._finished() is not None
        if self.is_whole:
            logger.info("Found `layers[%r]` of the same data, whole, in `%s`", key, self._path)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.position = self._noted()
            try:
                self._file = h5py.File(self._partial, "r+")
            except BlockingIOError as error:
                raise OSError("another process is writing it") from error
            except OSError:  # there is none, or it is damaged
                self.position = 0
            if self.position:
                logger.info("Going on with `layers[%r]` in `%s`, which was left unfinished", key, self._partial)
            else:
                self.close()
                self._begin()
        except _FAILURES as error:
            raise self._failed(error) from error

    def write(self, cells: np.ndarray, values: Any, position: int) -> None:
        """Write the rows of cells, in increasing order, and note how far this is; of a sparse layer, the next rows."""
        assert self._file is not None
        stored, first = self._file["layers"][self._name], int(cells[0])
        try:
            if self._n_stored is None:
                whole = int(cells[-1]) - first + 1 == len(cells)
                stored[slice(first, int(cells[-1]) + 1) if whole else cells] = values
            else:
                begin = int(stored["indptr"][first]) if first else 0
                stored["indptr"][first : first + len(cells) + 1] = begin + values.indptr
                stored["data"][begin : begin + values.nnz] = values.data
                stored["indices"][begin : begin + values.nnz] = values.indices
            self._file.flush()
            self.note(position)
        except _FAILURES as error:
            raise self._failed(error) from error

    def write_genes(self, genes: slice, values: Any, position: int) -> None:
        """Write genes of all cells, and note how far this is."""
        assert self._file is not None
        try:
            self._file["layers"][self._name][:, genes] = values
            self._file.flush()
            self.note(position)
        except _FAILURES as error:
            raise self._failed(error) from error

    def note(self, position: int) -> None:
        """Note how far this is, in one step."""
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps({"origin": self._origin, "position": position}))
        os.replace(temporary, self._record)
        self.position = position

    def close(self) -> None:
        """Leave off; what has been written stays."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except _FAILURES as error:
                raise self._failed(error) from error

    def finish(self) -> Any:
        """Give the file its name, and return the layer on disk."""
        if not self.is_whole:
            self.close()
            with open(self._partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self._partial, self._path)
            self._record.unlink(missing_ok=True)
        found = self._finished()
        if found is None:
            raise OSError(f"Expected the layer {self._key!r} in `{self._path}`, but the file was changed meanwhile.")
        return found

    def _begin(self) -> None:
        """Make a file with room for the whole layer, or none."""
        self._record.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if self._block is None:
            create.set_layout(h5py.h5d.CONTIGUOUS)
        else:
            create.set_chunk(tuple(map(min, self._block, self._shape)))
        create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        n_rows, n_columns = self._shape
        parts: dict[str, tuple[tuple[int, ...], Any]] = {self._name: (self._shape, self._dtype)}
        if self._n_stored is not None:
            indices = np.int32 if n_columns < 2**31 else np.int64
            parts = {
                "data": ((self._n_stored,), self._dtype),
                "indices": ((self._n_stored,), indices),
                "indptr": ((n_rows + 1,), np.int64),
            }
        try:
            # What describes the array is written now, and only numbers later: whenever that ends, the file is sound.
            with h5py.File(self._partial, "w") as file:
                group = file.create_group("layers")
                group.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
                if self._n_stored is not None:
                    group = group.create_group(self._name)
                    encoding = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": self._shape}
                    group.attrs.update({**encoding, "origin": self._origin})
                for name, (shape, dtype) in parts.items():
                    kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
                    made = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, create))
                    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0", "origin": self._origin})
            _reserve(self._partial)
        except _FAILURES:
            self._partial.unlink(missing_ok=True)
            raise
        self._file = h5py.File(self._partial, "r+")

    def _noted(self) -> int:
        """How far the unfinished file is, if it is of the same origin."""
        try:
            noted = json.loads(self._record.read_text())
            return int(noted["position"]) if noted["origin"] == self._origin and self._partial.exists() else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _finished(self) -> Any:
        """The layer, if it is there and of the same origin."""
        try:
            found = h5py.File(self._path, "r")["layers"][self._name]
        except (OSError, KeyError):
            return None
        if found.attrs.get("origin") != self._origin:
            return None
        return found if isinstance(found, h5py.Dataset) else sparse_dataset(found)

    def _failed(self, error: Exception) -> OSError:
        """Error with what it means for the user."""
        reason = " ".join(str(error).split())
        size = format_bytes(float(np.prod(self._shape)) * self._dtype.itemsize)
        kept = "What has been written is kept: the same call goes on from there. " if self.position else ""
        return OSError(
            f"Could not write `layers[{self._key!r}]`, {size}, to the folder `{self._path.parent}`: {reason}. {kept}"
            "Make room there, or set `jaxvelo.settings.layerdir` to another folder."
        )


def _reserve(path: Path) -> None:
    """Reserve room on the disk for all of a file, where the file system can."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with open(path, "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
