"""Shapes of the degree buckets: how many rows of which width.

Compiled programs belong to shapes. So the shapes come from short ladders and depend on a data set only through its
number of cells (rounded up by at most 1/16) and the degrees at a few fixed quantiles (rounded up likewise). Two data
sets of similar size then share all their shapes, and nothing is compiled for the second.
"""

from typing import Any

import numpy as np

MANY_ROWS = 1 << 19
"""From so many rows on, empty slots cost more than twice as many buckets to compile: of a million cells with 30
neighbours, 82 % of the slots are filled in place of 69 %."""


def next_size(n: int, steps: int = 16) -> int:
    """Round ``n`` up on a ladder of ``steps`` rungs per doubling, i.e. by at most the fraction ``1 / steps``.

    Parameters
    ----------
    n
        A count of rows, cells or genes.
    steps
        Rungs per doubling.

    Returns
    -------
    The smallest ``q * 2**a >= n`` with ``steps <= q <= 2 * steps``; ``n`` itself up to ``steps``.
    """
    if n <= steps:
        return n
    rung = 1 << max((n - 1).bit_length() - (2 * steps - 1).bit_length(), 0)
    return -(-n // rung) * rung


def _next_width(degree: int, is_last: bool) -> int:
    """Round a degree up: powers of two to 8, multiples of 8 to 64, then four rungs per doubling.

    The last bucket has few rows, and its largest degree varies most between data sets: two rungs per doubling.
    """
    if degree <= 8:
        return 1 << max(degree - 1, 0).bit_length()
    if is_last:
        return next_size(degree, steps=2)
    return -(-degree // 8) * 8 if degree <= 64 else next_size(degree, steps=4)


def _row_counts(n_rows: int) -> list[int]:
    """Split the rows, in order of degree, at fixed quantiles that grow finer towards the hubs."""
    if n_rows <= 64:
        return [n_rows]
    if n_rows <= 512:
        quarter = n_rows // 4
        return [n_rows - quarter, quarter]
    part = n_rows // 32
    shares, share_of_hubs = ([8, 8, 3], 4) if n_rows < MANY_ROWS else ([6, *[2] * 8, 1, 1, 1], 2)
    counts = [share * part for share in shares]
    tail = part
    # Hubs grow with the number of cells: split the last part as long as it has many rows.
    while tail >= 1024:
        hubs = tail // share_of_hubs
        counts.append(tail - hubs)
        tail = hubs
    return [n_rows - sum(counts) - tail, *counts, tail]


def _multiples(counts: list[int], divisor: int) -> list[int]:
    """Make all counts multiples of a number; the first takes what the others lose, so that rows left over stand there.

    A count below the number vanishes.
    """
    others = [count // divisor * divisor for count in counts[1:]]
    first = sum(counts) - sum(others)
    return [-(-first // divisor) * divisor, *(count for count in others if count)]


def is_unused(n_rows: int, n_unused: Any, n_devices: int, xp: Any = np) -> Any:
    """Which rows of the first bucket are no cell's: the first ones of each device, equally many but for one.

    Parameters
    ----------
    n_rows
        Rows of the first bucket.
    n_unused
        Number of unused rows.
    n_devices
        Number of devices that share the rows.
    xp
        NumPy, or :mod:`jax.numpy` in programs.
    """
    number, on_each = xp.arange(n_rows, dtype=xp.int32), n_rows // n_devices
    device, place = number // on_each, number % on_each
    return place * n_devices + device < n_unused


def row_count(n_cells: int, n_devices: int = 1) -> int:
    """Number of rows for so many cells, a multiple of the number of devices."""
    return sum(_multiples(_row_counts(next_size(n_cells)), n_devices))


def bucket_shapes(degrees: np.ndarray, n_devices: int = 1) -> list[tuple[int, int]]:
    """Choose the buckets for rows of the given degrees.

    Parameters
    ----------
    degrees
        Number of stored neighbours of each cell, in increasing order, shape ``(cells,)``.
    n_devices
        The rows of each bucket are a multiple of this number of devices.

    Returns
    -------
    ``(rows, width)`` of each bucket. The rows, :func:`row_count` in all, are filled in order of degree from the last
    bucket backwards, so that rows left over stand first, where they are narrow.
    """
    n_cells = len(degrees)
    counts = _multiples(_row_counts(next_size(n_cells)), n_devices)
    ends = np.clip(np.cumsum(counts) - (sum(counts) - n_cells), 0, n_cells)
    largest = [int(degrees[end - 1]) if end else 0 for end in ends]
    last = len(counts) - 1
    shapes: list[tuple[int, int]] = []
    for i, (count, degree) in enumerate(zip(counts, largest, strict=True)):
        width = _next_width(degree, i == last)
        # Neighbouring buckets of one width are one: every bucket costs a fraction of a second of compilation.
        if shapes and shapes[-1][1] == width:
            count += shapes.pop()[0]
        shapes.append((count, width))
    return shapes
