"""Timing of functions and of whole processes, ours and those of the peers."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


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


def run(command: list[str], **kwargs: Any) -> dict[str, Any]:
    """Run a process that prints JSON; adds the time that the whole process took."""
    start = time.perf_counter()
    result = subprocess.run(command, cwd=FOLDER.parent, check=True, stdout=subprocess.PIPE, text=True, **kwargs)
    return {**json.loads(result.stdout.strip().splitlines()[-1]), "process": time.perf_counter() - start}


def of_peers(peers: Path, script: str, *arguments: Any) -> list[str]:
    """Command that runs a script of this folder in the peers' environment."""
    return [str(peers / "bin" / "python"), str(FOLDER / script), *map(str, arguments)]


def text(seconds: float) -> str:
    """Format a time."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
