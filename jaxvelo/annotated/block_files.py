"""Results of a computation in blocks of cells, noted in files until all of them are there."""

from __future__ import annotations

import contextlib
import glob
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxvelo.annotated.checksums import digest
from jaxvelo.annotated.layer_files import SUFFIX
from jaxvelo.annotated.noted_arrays import read_noted, write_noted
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
        noted = read_noted(self._file(part, start), self._origin)
        if not noted:
            return None
        if start == 0:
            logger.info("Going on with the %s of `%s`, noted in `%s`", part, self._name, self._folder)
        return int(noted.pop("end")), list(noted.values())

    def note(self, part: str, start: int, end: int, results: list[np.ndarray]) -> None:
        """Note the results of a block, in one step; where that fails, say so, and note no more."""
        if self._failed:
            return
        arrays = {"end": np.array(end), **{f"result {i}": result for i, result in enumerate(results)}}
        try:
            write_noted(self._file(part, start), self._origin, arrays)
        except OSError as error:
            self._failed = True
            logger.warning(
                "Could not note finished blocks of cells in the folder `%s`: %s. All else goes on; but if it is "
                "interrupted, it starts anew. Make room there, or set `jaxvelo.settings.layerdir` to another folder",
                self._folder,
                error,
            )

    def remove(self) -> None:
        """Remove the files, as all is done, and those that others left under this name."""
        for path in glob.glob(f"{glob.escape(str(self._folder / self._prefix))}*"):
            with contextlib.suppress(OSError):  # as on a disk that is gone
                Path(path).unlink(missing_ok=True)
        if self._folder.suffix == SUFFIX:
            with contextlib.suppress(OSError):  # there is something else in it
                self._folder.rmdir()

    @property
    def _prefix(self) -> str:
        return f".{self._name}.blocks."

    def _file(self, part: str, start: int) -> Path:
        return self._folder / f"{self._prefix}{self._origin[:12]}.{part}.{start}.npz"
