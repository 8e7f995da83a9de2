"""What each step of a process costs: time, time of the processor, largest memory. Runs in any environment, on Linux."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def step(name: str, function: Callable[[], Any]) -> Any:
    """Call a function, and print what it costs as a line of JSON.

    That is its name, seconds, seconds of the processor (those of child processes that have ended included) and the
    largest resident memory of the whole process meanwhile, in bytes.
    """
    CLEAR.write_text("5")  # the largest memory is counted from here
    wall, processor = time.perf_counter(), _processor()
    result = function()
    cost = {"wall": time.perf_counter() - wall, "cpu": _processor() - processor, "peak": _largest_memory()}
    print(json.dumps({"step": name, **cost}), flush=True)
    return result


def _processor() -> float:
    return sum(os.times()[:4])


def _largest_memory() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
