"""Layers of results that are written to disk, rows after rows, and taken up again where they were left.

A layer is an array in an HDF5 file of its own, whole rows one after another, as h5ad files have it, in a folder beside
the file of the data (``atlas.layers/Ms.h5`` beside ``atlas.h5ad``): the data are never changed. It is written under a
temporary name and renamed when whole. What has been written is noted beside it after each block, with a checksum of
what it is computed of: the same call, made again, goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jaxvelo.annotated.disk_arrays import file_of
from jaxvelo.annotated.memory_limit import format_bytes
from jaxvelo.configuration import logger, settings

_SUFFIX = ".layers"
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
    return folder if folder.suffix == _SUFFIX else folder / f"{files[0].stem}{_SUFFIX}"


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

    def __init__(self, folder: Path, key: str, shape: tuple[int, int], dtype: Any, origin: Any):
        self._key, self._shape, self._dtype = key, shape, np.dtype(dtype)
        text = json.dumps([key, list(shape), self._dtype.str, origin], sort_keys=True)
        self._origin = hashlib.sha256(text.encode()).hexdigest()
        name = key.replace(os.sep, "_")
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
            if self.position:
                try:
                    self._file = h5py.File(self._partial, "r+")
                except OSError:
                    self.position = 0
            if self.position:
                logger.info("Going on with `layers[%r]` in `%s`, which was left unfinished", key, self._partial)
            else:
                self._begin()
        except _FAILURES as error:
            if not self.position:
                with contextlib.suppress(OSError):
                    self._partial.unlink()
            raise self._failed(error) from error

    def write(self, cells: np.ndarray, values: np.ndarray, position: int) -> None:
        """Write the rows of cells, in increasing order, and note how far this is."""
        assert self._file is not None
        try:
            whole = len(cells) and int(cells[-1]) - int(cells[0]) + 1 == len(cells)
            self._file["layers"][self._key][slice(int(cells[0]), int(cells[-1]) + 1) if whole else cells] = values
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

    def finish(self) -> h5py.Dataset:
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
        """Make a file with room for the whole layer."""
        self._record.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        create.set_layout(h5py.h5d.CONTIGUOUS)
        create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        # All that describes the array is written now, and only numbers later: whenever that ends, the file is sound.
        with h5py.File(self._partial, "w") as file:
            layers = file.create_group("layers")
            layers.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
            kind = h5py.h5t.py_create(self._dtype)
            space = h5py.h5s.create_simple(self._shape)
            made = h5py.Dataset(h5py.h5d.create(layers.id, self._key.encode(), kind, space, create))
            made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0", "origin": self._origin})
            start, size = made.id.get_offset(), made.id.get_storage_size()
        if start is not None and hasattr(os, "posix_fallocate"):
            with open(self._partial, "r+b") as opened:
                try:
                    os.posix_fallocate(opened.fileno(), start, size)
                except OSError as error:
                    if error.errno in _NO_ROOM:  # other errors: the file system cannot reserve room
                        raise
        self._file = h5py.File(self._partial, "r+")

    def _noted(self) -> int:
        """How far the unfinished file is, if it is of the same origin."""
        try:
            noted = json.loads(self._record.read_text())
            return int(noted["position"]) if noted["origin"] == self._origin and self._partial.exists() else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _finished(self) -> h5py.Dataset | None:
        """The layer, if it is there and of the same origin."""
        try:
            found = h5py.File(self._path, "r")["layers"][self._key]
        except (OSError, KeyError):
            return None
        return found if found.attrs.get("origin") == self._origin and found.shape == self._shape else None

    def _failed(self, error: Exception) -> OSError:
        """Error with what it means for the user."""
        reason = " ".join(str(error).split())
        size = format_bytes(float(np.prod(self._shape)) * self._dtype.itemsize)
        kept = "What has been written is kept: the same call goes on from there. " if self.position else ""
        return OSError(
            f"Could not write `layers[{self._key!r}]`, {size}, to the folder `{self._path.parent}`: {reason}. {kept}"
            "Make room there, or set `jaxvelo.settings.layerdir` to another folder."
        )
