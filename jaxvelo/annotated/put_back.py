"""What stood in an AnnData object before something that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def put_back_on_failure(*places: tuple[Any, str]) -> Iterator[None]:
    """Put back what stood in mappings, such as ``adata.obsm``, at some keys, if the block fails."""
    before = [mapping.get(key) for mapping, key in places]
    try:
        yield
    except BaseException:
        for (mapping, key), value in zip(places, before, strict=True):
            if value is not None:
                mapping[key] = value
            elif key in mapping:
                del mapping[key]
        raise
