"""Data that kernels read beside the graph, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import numpy as np

from jaxvelo.transitions import Features


def joined_data(sources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join data from several sources; what has one name must be the same.

    Raises
    ------
    ValueError
        If it is not.
    """
    joined: dict[str, Any] = {}
    for source in sources:
        for name, data in source.items():
            known = joined.get(name)
            if known is not None and not _same_data(known, data):
                what = "expressions or velocities" if isinstance(data, Features) else "data"
                raise ValueError(
                    f"Expected kernels on the same data, found two different {what} named {name!r}. "
                    "Make the kernels anew, all after the last change of the AnnData object."
                )
            # A user's similarity must not see padding; all others work with or without.
            if known is None or (isinstance(data, Features) and data.n_genes is None):
                joined[name] = data
    return joined


def _same_data(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Features) and isinstance(b, Features):
        return _same_features(a, b)
    return bool(eqx.tree_equal(a, b))


def _same_features(a: Features, b: Features) -> bool:
    n_genes = [features.x.shape[1] if features.n_genes is None else int(features.n_genes) for features in (a, b)]
    n_cells = min(a.x.shape[0], b.x.shape[0])
    return n_genes[0] == n_genes[1] and all(
        np.array_equal(np.asarray(left)[:n_cells, : n_genes[0]], np.asarray(right)[:n_cells, : n_genes[0]])
        for left, right in ((a.x, b.x), (a.v, b.v))
    )
