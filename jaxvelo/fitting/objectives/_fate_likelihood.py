"""Known fates, by the names of the cells or of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.names import text_of


def FateLikelihood(
    adata: AnnData, fates: str | Mapping[str, Any], terminal: str | Mapping[str, Any]
) -> fit.FateLikelihood:
    """Negative log-likelihood of the known fates of some cells, given terminal cells.

    Parameters
    ----------
    adata
        Annotated data.
    fates
        Known fates: key of a categorical column in ``adata.obs``, missing where the fate is not known; or, for each
        fate, its cells, as indices, names, a mask or ``{"clusters": ["Alpha", "Beta"]}``.
    terminal
        Terminal cells of each fate, likewise. A terminal cell's own fate is certain: it makes no item.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FateLikelihood`. Its fates are those of ``terminal``, in that order.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If a fate has no terminal cells, a cell has two fates, or no fate is known.
    """
    require_anndata(adata)
    ends, names = _labels(adata, terminal, "terminal")
    known, fate_names = _labels(adata, fates, "fates")
    if len(names) < 2:
        raise ValueError(f"Expected terminal cells of at least two fates in `terminal`, found {listed(names)}.")
    unknown = [name for name in fate_names if name not in names]
    if unknown:
        raise ValueError(
            f"Expected each fate in `fates` to have terminal cells, found none for {listed(unknown)}. "
            f"`terminal` has {listed(names)}."
        )
    fate = np.array([names.index(name) for name in fate_names] + [-1])[known]
    cell = np.flatnonzero((fate >= 0) & (ends < 0))
    if not len(cell):
        raise ValueError("Expected some cells with a known fate that are not terminal themselves, found none.")
    return fit.FateLikelihood(
        terminal=jnp.asarray(ends),
        n_fates=len(names),
        fate=jnp.asarray(fate[cell]),
        cell=jnp.asarray(cell),
        weight=jnp.ones(len(cell)),
        names=tuple(names),
    )


def _labels(adata: AnnData, labels: str | Mapping[str, Any], name: str) -> tuple[np.ndarray, list[str]]:
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
