"""Timing of functions and of whole processes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def first_cells(adata: Any, n_cells: int) -> Any:
    """The first cells with the edges among them, without those that have none left: CellRank fails on these."""
    part = adata[:n_cells].copy()
    return part[part.obsp["connectivities"].getnnz(axis=1) > 0].copy()


def seconds(function: Callable[[], Any], repeats: int, warm_up: int = 1) -> dict[str, float]:
    """Median, smallest and largest time of some calls, after others that are not counted; and the processor's least."""
    for _ in range(warm_up):
        function()
    times, of_processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        function()
        times.append(time.perf_counter() - start)
        of_processor.append(time.process_time() - used)
    of_all = {"median": statistics.median(times), "min": min(times), "max": max(times), "repeats": repeats}
    return {**of_all, "cpu": min(of_processor)}
