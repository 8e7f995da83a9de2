"""Annotated data of which the large dense matrices lie where JAX takes them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.experimental import read_dispatched

from jaxvelo.annotated.feature_data import LARGE
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time
from jaxvelo.graph._aligned import empty_aligned

PIECE = 1 << 27
"""Bytes of a zarr array that are read at a time."""


def is_with_large_matrices(group: Any) -> bool:
    """Whether a file has large dense matrices, and says how it is to be read, as those of anndata 0.8 and newer do."""
    return group.attrs.get("encoding-type") == "anndata" and any(map(_is_large, _matrices(group)))


def read_aligned(group: Any) -> AnnData:
    """Read annotated data; large dense matrices go to memory from which JAX computes on a CPU without a copy.

    Parameters
    ----------
    group
        The file's root, of h5py or zarr.
    """

    def read(function: Any, name: str, element: Any, iospec: Any) -> Any:
        return _read_matrix(element) if _is_large(element) else function(element)

    return read_dispatched(group, read)


def _matrices(group: Any) -> Iterator[Any]:
    if "X" in group:
        yield group["X"]
    if "layers" in group:
        yield from (group["layers"][name] for name in group["layers"])


def _is_large(element: Any) -> bool:
    shape = getattr(element, "shape", ())  # groups, such as sparse matrices, have none
    if not shape or len(shape) != 2 or np.dtype(element.dtype).kind not in "fiu":
        return False
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(element.dtype).itemsize >= LARGE


def _read_matrix(element: Any) -> np.ndarray:
    matrix = empty_aligned(element.shape, element.dtype)
    if isinstance(element, h5py.Dataset):
        element.read_direct(matrix)
        return matrix
    # Whole chunks, each of which is unpacked once.
    n_rows = element.chunks[0]
    for chunks in rows_at_a_time(-(-len(matrix) // n_rows), n_rows * matrix.itemsize * matrix.shape[1], PIECE):
        rows = slice(chunks.start * n_rows, min(chunks.stop * n_rows, len(matrix)))
        matrix[rows] = element[rows]
    return matrix
