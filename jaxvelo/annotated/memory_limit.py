"""How much memory a step may take for what it reads from disk."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxvelo.annotated.arguments import is_number
from jaxvelo.annotated.disk_arrays import PIECE
from jaxvelo.configuration import logger
from jaxvelo.graph._row_blocks import BudgetTooSmall

SHARE = 0.5
"""Share of the free memory that a step takes if it is not told."""
_UNITS = {"": 1, **{f"{p}{b}": 1024**k for k, p in enumerate("KMGT", 1) for b in ("", "IB")}}
_UNITS |= {"B": 1, **{f"{p}B": 1000**k for k, p in enumerate("KMGT", 1)}}


def bytes_of(memory_limit: Any) -> int:
    """Turn the user's limit into bytes.

    Parameters
    ----------
    memory_limit
        Bytes, a text such as ``"8 GiB"`` or ``"500 MB"``, or None for half of the memory that is free.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if memory_limit is None:
        free = free_memory()
        logger.info("Taking up to %s of the %s of memory that are free", format_bytes(SHARE * free), format_bytes(free))
        return int(SHARE * free)
    number: Any = memory_limit
    if isinstance(memory_limit, str):
        found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([A-Za-z]*)\s*", memory_limit)
        number = None
        if found and found[2].upper() in _UNITS and found[1].count(".") < 2 and found[1] != ".":
            number = float(found[1]) * _UNITS[found[2].upper()]
    if not is_number(number) or not 0 < number < 2**62:
        raise ValueError(
            "Expected `memory_limit` to be a number of bytes, a text such as '8 GiB' or None, found "
            f"`{memory_limit!r}`."
        )
    return int(number)


def free_memory() -> int:
    """Bytes that can be taken without swapping, as far as the machine tells, within the limit of a container."""
    found = []
    information = Path("/proc/meminfo")
    if information.exists():
        available = re.search(r"^MemAvailable:\s+([0-9]+) kB", information.read_text(), re.MULTILINE)
        if available:
            found.append(int(available[1]) * 1024)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        found.append(int(limit.read_text()) - int(used.read_text()))
    # Where nothing is known of what is free, a half of what there is.
    return max(min(found), 0) if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def give_back_memory() -> None:
    """Give the system back what the process has freed, where the C library tells how.

    That of GNU keeps what threads have freed for what they take next: of arrays of other sizes, part after part, nearly
    four times as much was held as was used.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def format_bytes(n_bytes: float) -> str:
    """Write a number of bytes as a text that ``memory_limit`` takes."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}" if n_bytes < 1000 * size else f"{n_bytes / size:.0f} {unit}"
    return f"{n_bytes:.0f} B"


def for_pieces_and_blocks(budget: int) -> tuple[int, int]:
    """Part a budget: bytes of a piece of a file, of which up to three are held at a time, and bytes for blocks."""
    piece = max(min(PIECE, budget // 16), 1)
    return piece, budget - 3 * piece


@contextlib.contextmanager
def within(budget: int) -> Iterator[None]:
    """Tell the user what is needed where blocks do not fit into their part of the budget.

    Raises
    ------
    ValueError
        In place of :class:`~jaxvelo.graph._row_blocks.BudgetTooSmall`.
    """
    try:
        yield
    except BudgetTooSmall as error:
        needed = error.needed + 3 * min(PIECE, error.needed // 13 + 1)
        enough = format_bytes(needed * 1.01)
        raise ValueError(
            f"Expected `memory_limit` to hold one block, which needs {format_bytes(needed)}, found "
            f"{format_bytes(budget)}. Pass `memory_limit={enough!r}` or more (the more, the faster)."
        ) from error
