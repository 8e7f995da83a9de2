"""Results of a computation in blocks of cells, noted in files until all of them are there."""

from __future__ import annotations

import contextlib
import glob
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxvelo.annotated.checksums import digest
from jaxvelo.annotated.layer_files import SUFFIX
from jaxvelo.configuration import logger


class BlockFiles:
    """Results of the blocks that are done, a file for each, so that an interrupted call goes on from there.

    They stand beside the layers that they are computed of; others of the same name, of other data or parameters, are
    left alone. A file that is damaged is as none.

    Parameters
    ----------
    folder
        Folder of the layers; it is made if it is not there.
    name
        Name of what is computed.
    origin
        What it is computed of, as JSON takes it.
    """

    def __init__(self, folder: Path, name: str, origin: Any):
        self._folder, self._name, self._origin = folder, name.replace(os.sep, "_"), digest(origin)
        self._failed = False

    def known(self, part: str, start: int) -> tuple[int, list[np.ndarray]] | None:
        """Where the block ends, in a part of the computation, that starts at a position, and its results; if known."""
        try:
            with open(self._file(part, start), "rb") as file, np.load(file, allow_pickle=False) as noted:
                if str(noted["origin"]) != self._origin:
                    return None
                found = int(noted["end"]), [noted[f"result {i}"] for i in range(len(noted.files) - 2)]
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
            return None
        if start == 0:
            logger.info("Going on with the %s of `%s`, noted in `%s`", part, self._name, self._folder)
        return found

    def note(self, part: str, start: int, end: int, results: list[np.ndarray]) -> None:
        """Note the results of a block, in one step; where that fails, say so, and note no more."""
        if self._failed:
            return
        path = self._file(part, start)
        temporary = path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                arrays: dict[str, Any] = {f"result {i}": result for i, result in enumerate(results)}
                np.savez(file, origin=np.array(self._origin), end=np.array(end), **arrays)
            os.replace(temporary, path)
        except OSError as error:
            self._failed = True
            self._unlink(temporary)
            logger.warning(
                "Could not note finished blocks of cells in the folder `%s`: %s. All else goes on; but if it is "
                "interrupted, it starts anew. Make room there, or set `jaxvelo.settings.layerdir` to another folder",
                self._folder,
                error,
            )

    def remove(self) -> None:
        """Remove the files, as all is done, and those that others left under this name."""
        for path in glob.glob(f"{glob.escape(str(self._folder / self._prefix))}*"):
            self._unlink(Path(path))
        if self._folder.suffix == SUFFIX:
            with contextlib.suppress(OSError):  # there is something else in it
                self._folder.rmdir()

    @property
    def _prefix(self) -> str:
        return f".{self._name}.blocks."

    def _file(self, part: str, start: int) -> Path:
        return self._folder / f"{self._prefix}{self._origin[:12]}.{part}.{start}.npz"

    @staticmethod
    def _unlink(path: Path) -> None:
        with contextlib.suppress(OSError):  # as on a disk that is gone
            path.unlink(missing_ok=True)
