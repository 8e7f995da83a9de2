"""Arrays that are noted in a file, with what they are computed of, until all of a computation is done."""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_DAMAGED = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile)


def read_noted(path: Path, origin: str) -> dict[str, np.ndarray]:
    """Read arrays by name; none if there is no such file, or if it is damaged, or of another origin."""
    with contextlib.suppress(*_DAMAGED), open(path, "rb") as file, np.load(file, allow_pickle=False) as noted:
        if str(noted["origin"]) == origin:
            return {name: noted[name] for name in noted.files if name != "origin"}
    return {}


def write_noted(path: Path, origin: str, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays, in one step, to a file whose folder is made if it is not there.

    Raises
    ------
    OSError
        If that fails; nothing is left of it, and what was noted there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    try:
        with open(temporary, "wb") as file:
            contents: dict[str, Any] = {"origin": np.array(origin), **arrays}
            np.savez(file, **contents)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # as on a disk that is gone
            temporary.unlink(missing_ok=True)
        raise
