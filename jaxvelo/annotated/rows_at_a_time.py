"""Rows of a matrix in ranges of a given size, for what is not to be in memory at once."""

from collections.abc import Iterator


def rows_at_a_time(n_rows: int, row_size: int, size: int) -> Iterator[slice]:
    """Rows one after another, as many at a time as have a size together, or one; sizes are in bytes, or in numbers."""
    step = max(size // max(row_size, 1), 1)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))
