"""Files that are seen under their names only when they are whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file, which takes its name, and the place of a file that was there, at the end of the block.

    If the block ends in an error, nothing is left of it.

    Yields
    ------
    Where to write: the same name in a folder beside it, in which other files may stand until then.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)
