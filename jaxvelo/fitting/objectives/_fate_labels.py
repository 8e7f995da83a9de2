"""Cells with the names of their fates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.annotated.names import text_of


def terminal_fates(adata: AnnData, terminal: str | Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
    """Return the fate of each terminal cell as a number (-1 for other cells), and the names of at least two fates."""
    ends, names = fate_labels(adata, terminal, "terminal")
    if len(names) < 2:
        raise ValueError(f"Expected terminal cells of at least two fates in `terminal`, found {listed(names)}.")
    return ends, names


def fate_labels(adata: AnnData, labels: str | Mapping[str, Any], name: str) -> tuple[np.ndarray, list[str]]:
    """Return the label of each cell as a number (-1 for none), and the names of the labels."""
    if isinstance(labels, str):
        return cluster_codes(adata, labels)
    if not isinstance(labels, Mapping):
        raise TypeError(
            f"Expected `{name}` to be a key in `adata.obs` or a dictionary of cells, found `{type(labels).__name__}`."
        )
    codes = np.full(adata.n_obs, -1, dtype=np.int32)
    for number, (label, cells) in enumerate(labels.items()):
        mask = chosen_cells(adata, cells, f"{name}[{label!r}]")
        twice = np.flatnonzero(mask & (codes >= 0))
        if len(twice):
            raise ValueError(
                f"Expected each cell in one class of `{name}` at most, found {len(twice)} in {label!r} and another, "
                f"such as {listed(adata.obs_names[twice[:3]])}."
            )
        codes[mask] = number
    return codes, [text_of(label) for label in labels]
