"""AnnData files of matrices whose rows come in blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from jaxvelo.annotated.whole_files import written_whole

if TYPE_CHECKING:
    from anndata import AnnData

FORMATS = (".h5ad", ".zarr")
# Values of one chunk of a sparse matrix, and of a dense one.
SPARSE_CHUNK, DENSE_CHUNK = 1 << 18, 1 << 18


class GrowingFile:
    """An AnnData file to which rows are added, and which never has to be in memory."""

    def __init__(self, root: Any, adata: AnnData):
        self._root, self._shape = root, adata.shape
        self._rows: dict[str, int] = {}
        # Counts are small numbers beside each other. Zarr compresses by itself; it would write a shard that holds many
        # chunks anew whenever rows are added to it.
        self._sparse_kwargs = {"compression": "lzf"} if self._is_hdf5() else {"shards": None}
        self._kwargs = {} if self._is_hdf5() else {"shards": None}
        self.write("/", adata)

    def append(self, name: str, rows: sp.csr_matrix | np.ndarray) -> None:
        """Add the next rows of a matrix, ``"X"`` or ``"layers/..."``; sparse or dense as the first ones are."""
        if sp.issparse(rows):
            self._append_sparse(name, rows)
            return
        start = self._rows.get(name)
        if start is None:
            start = 0
            self._create_dense(name, rows.dtype)
        self._root[name][start : start + len(rows)] = rows
        self._rows[name] = start + len(rows)

    def write(self, name: str, value: Any) -> None:
        """Write an entry as a whole, ``"/"`` for all of them."""
        self._write(name, value, self._kwargs)

    def _append_sparse(self, name: str, rows: sp.csr_matrix) -> None:
        from anndata.io import sparse_dataset

        if name not in self._rows:
            none = sp.csr_matrix((0, rows.shape[1]), dtype=rows.dtype)
            # So many rows may come that their entries cannot be counted in 32 bits.
            none.indptr = none.indptr.astype(np.int64)
            self._write(name, none, {"chunks": (SPARSE_CHUNK,), **self._sparse_kwargs})
            self._rows[name] = 0
        sparse_dataset(self._root[name]).append(rows)
        self._rows[name] += rows.shape[0]

    def _create_dense(self, name: str, dtype: np.dtype) -> None:
        n_cells, n_genes = self._shape
        chunks = min(max(1, DENSE_CHUNK // n_genes), n_cells), n_genes
        create = self._root.create_dataset if self._is_hdf5() else self._root.create_array
        array = create(name, shape=self._shape, dtype=dtype, chunks=chunks)
        array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def _write(self, name: str, value: Any, kwargs: dict[str, Any]) -> None:
        from anndata.io import write_elem

        parent, _, key = name.rpartition("/")
        write_elem(self._root[parent] if parent else self._root, key or "/", value, dataset_kwargs=kwargs)

    def _is_hdf5(self) -> bool:
        return not hasattr(self._root, "create_array")


@contextmanager
def growing_file(path: Path, adata: AnnData) -> Iterator[GrowingFile]:
    """Open a file of its own name only when it is complete; what was there before is replaced then.

    Parameters
    ----------
    path
        With one of the endings :data:`FORMATS`.
    adata
        What the file holds besides.
    """
    with written_whole(path) as temporary:
        with _root(temporary) as root:
            yield GrowingFile(root, adata)
        # A folder cannot be replaced in one step: what was there is removed when the new one is in its place.
        if path.is_dir() or temporary.is_dir():
            with suppress(FileNotFoundError):
                os.replace(path, temporary.parent / "former")


@contextmanager
def _root(path: Path) -> Iterator[Any]:
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="w", zarr_format=3)
        return
    import h5py

    with h5py.File(path, "w") as root:
        yield root


def checked_path(path: Any) -> Path:
    """Return where a file is to be written, or raise before anything is computed.

    Raises
    ------
    TypeError
        If it is no path.
    ValueError
        If its ending is of another format.
    OSError
        If there is no such folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"Expected `path` to be a path, found `{type(path).__name__}`.")
    path = Path(path).expanduser()
    if path.suffix not in FORMATS:
        raise ValueError(f"Expected `path` to end in {' or '.join(FORMATS)}, found `{path}`.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder `{path.parent}` to write `{path.name}` to. Make it first.")
    return path
