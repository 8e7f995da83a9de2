"""Work on ranges of rows in threads, and products with a sparse matrix so."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import scipy.sparse as sp

FEWEST_ROWS = 20_000
"""A thread has so many rows to work on, or more: with fewer, waking it takes as long as the work."""
Result = TypeVar("Result")


def ranges_of(n_rows: int) -> list[slice]:
    """As many ranges of equal size as there are threads for."""
    bounds = np.linspace(0, n_rows, max(1, min(os.cpu_count() or 1, n_rows // FEWEST_ROWS)) + 1).astype(int).tolist()
    return [slice(*pair) for pair in zip(bounds[:-1], bounds[1:], strict=True)]


def on_ranges(function: Callable[[slice], Result], ranges: list[slice]) -> list[Result]:
    """Call a function that spends its time in NumPy or SciPy, which let other threads run, on all ranges at once."""
    return [function(ranges[0])] if len(ranges) == 1 else list(_threads().map(function, ranges))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


class RowRanges:
    """Products of a matrix with vectors, by threads on ranges of its rows.

    Parameters
    ----------
    matrix
        Its values and indices are shared, not copied.
    """

    def __init__(self, matrix: sp.csr_matrix):
        self.ranges = ranges_of(matrix.shape[0])
        self.parts = {}
        for rows in self.ranges:
            indptr = matrix.indptr[rows.start : rows.stop + 1]
            entries = slice(indptr[0], indptr[-1])
            part = (matrix.data[entries], matrix.indices[entries], indptr - indptr[0])
            self.parts[rows.start] = sp.csr_matrix(part, shape=(rows.stop - rows.start, matrix.shape[1]))

    def product(self, x: np.ndarray) -> np.ndarray:
        """Multiply a vector, or the columns of a matrix."""
        found = np.empty(x.shape)

        def multiply(rows: slice) -> None:
            found[rows] = self.parts[rows.start] @ x

        on_ranges(multiply, self.ranges)
        return found
