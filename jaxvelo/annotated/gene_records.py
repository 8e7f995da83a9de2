"""Numbers of the genes that are computed some genes at a time, noted in a file until all is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxvelo.annotated.checksums import digest
from jaxvelo.annotated.noted_arrays import read_noted, write_noted


class GeneRecord:
    """Numbers of the genes that are done, the first ones.

    A file beside the layers that are computed of them holds them, so that an interrupted call goes on from there.

    Parameters
    ----------
    folder
        Folder of the layers; it is made if it is not there.
    name
        Name of the record.
    origin
        What the numbers are computed of, as JSON takes it.

    Attributes
    ----------
    columns
        The numbers by name: arrays whose first axis are the genes that are done, none before the first ones.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str, origin: Any):
        self._path = folder / f".{name.replace(os.sep, '_')}.partial.npz"
        self._origin = digest(origin)
        self.columns = read_noted(self._path, self._origin)

    @property
    def n_done(self) -> int:
        """Number of genes that are done."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def keep(self, n_genes: int) -> None:
        """Forget all but the first genes."""
        self.columns = {name: column[:n_genes] for name, column in self.columns.items()}

    def add(self, columns: dict[str, np.ndarray]) -> None:
        """Note the numbers of the next genes, in one step."""
        self.columns = {
            name: np.concatenate([self.columns[name], column]) if self.columns else column
            for name, column in columns.items()
        }
        try:
            write_noted(self._path, self._origin, self.columns)
        except OSError as error:
            raise OSError(
                f"Could not note the fits of genes in the folder `{self._path.parent}`: {error}. Make room there, or "
                "set `jaxvelo.settings.layerdir` to another folder."
            ) from error

    def remove(self) -> None:
        """Remove the file, as all is done."""
        self._path.unlink(missing_ok=True)
