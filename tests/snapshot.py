"""Everything that is in an AnnData object, to compare bit for bit."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData


def snapshot(adata: AnnData) -> dict[str, Any]:
    """Describe each part of an AnnData object by its path, such as ``"/layers/Ms"``, in order, down to the bytes."""
    found: dict[str, Any] = {}
    _describe(adata, "", found)
    return found


@contextlib.contextmanager
def unchanged(adata: AnnData, *but: str) -> Iterator[None]:
    """Check that a block leaves an AnnData object as it was, but for what is stored at the paths ``but``."""
    before = snapshot(adata)
    try:
        yield
    finally:
        after = snapshot(adata)
        changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        unexpected = [path for path in changed if not any(path == b or path.startswith(f"{b}/") for b in but)]
        assert not unexpected, f"changed: {unexpected}"
        kept = [path for path in before if path in after]
        assert [path for path in after if path in before] == kept, "the order of the keys changed"


def _describe(value: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(value, AnnData):
        found["/state"] = value.is_view, value.isbacked, str(value.filename), value.shape
        for name in ("X", "layers", "obs", "var", "obsm", "varm", "obsp", "varp", "uns"):
            _describe(getattr(value, name), f"/{name}", found)
    elif isinstance(value, pd.DataFrame):
        _describe(value.index, f"{path}/index", found)
        for name in value.columns:
            _describe(value[name], f"{path}/{name}", found)
    elif isinstance(value, Mapping):
        for name in value:
            _describe(value[name], f"{path}/{name}", found)
    elif isinstance(value, (pd.Series, pd.Index)):
        if isinstance(value.dtype, pd.CategoricalDtype):
            codes = value.cat.codes if isinstance(value, pd.Series) else pd.Series(value.codes)
            categories = list(value.cat.categories) if isinstance(value, pd.Series) else list(value.categories)
            found[path] = str(value.dtype), categories, codes.to_numpy().tobytes()
        else:
            found[path] = str(value.dtype), [repr(v) for v in value.tolist()]
    elif sp.issparse(value):
        parts = [(str(p.dtype), p.tobytes()) for p in (value.indptr, value.indices, value.data)]
        found[path] = type(value).__name__, value.shape, parts
    elif hasattr(value, "to_memory"):
        _describe(value.to_memory(), path, found)
    elif isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        array = np.asarray(value)
        content = [repr(v) for v in array.ravel()] if array.dtype.hasobject else array.tobytes()
        found[path] = str(array.dtype), array.shape, content
    else:
        found[path] = type(value).__name__, repr(value)
