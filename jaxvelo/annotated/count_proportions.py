"""How many of the counts are spliced, unspliced and ambiguous, in all and by group of cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.disk_arrays import is_on_disk, read_in_ranges
from jaxvelo.annotated.entries import layer_names
from jaxvelo.annotated.groups import group_codes
from jaxvelo.configuration import logger

LAYERS = ("spliced", "unspliced", "ambiguous")


@dataclasses.dataclass(frozen=True)
class Proportions:
    """Shares of layers in the counts.

    Attributes
    ----------
    layers, groups
        Their names.
    n_cells
        Number of cells of each group, of shape (groups,).
    total
        Shares in all cells, of shape (layers,); they sum to 1.
    by_group
        Shares in each group, of shape (groups, layers), in the order of the categories; 0 for a group without counts.
    """

    layers: list[str]
    groups: list[str]
    n_cells: Int[np.ndarray, " groups"]
    total: Float[np.ndarray, " layers"]
    by_group: Float[np.ndarray, "groups layers"]


def read_proportions(adata: AnnData, groupby: str = "clusters", layers: Sequence[str] | None = None) -> Proportions:
    """Compute the share of each layer in the counts of all cells, and of every group of cells.

    A cell's counts of a layer are ``obs[f"initial_size_{layer}"]`` where there is that column (the sizes before
    normalisation, which would hide the proportions), else the sum of the layer. Where only some layers have it, as
    scVelo leaves ambiguous counts without, a warning says so: genes may have been left out since.

    Parameters
    ----------
    adata
        The cells.
    groupby
        Column of ``obs`` with the groups. Cells without a group count in the total only.
    layers
        Names of the layers: by default those of spliced, unspliced and ambiguous that exist.

    Raises
    ------
    KeyError
        If ``groupby`` or a layer does not exist.
    ValueError
        If there are no counts at all, or no groups.
    """
    groups, codes = group_codes(adata, groupby)
    names = _layer_names(adata, layers)
    sizes = _cell_sizes(adata, names)
    total = sizes.sum(axis=0)
    if not total.sum() > 0:
        raise ValueError(f"Expected counts in layers {names}, found none: all sums are 0 or not finite.")
    by_group = np.zeros((len(groups), len(names)))
    np.add.at(by_group, codes[codes >= 0], sizes[codes >= 0])
    sums = by_group.sum(axis=1, keepdims=True)
    by_group = np.where(sums > 0, by_group / np.where(sums > 0, sums, 1.0), 0.0)
    n_cells = np.bincount(codes[codes >= 0], minlength=len(groups))
    return Proportions(names, groups, n_cells, total / total.sum(), by_group)


def count_proportions(
    adata: AnnData, groupby: str = "clusters", layers: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, " layers"], Float[np.ndarray, "groups layers"]]:
    r"""Compute the share of each layer in the counts of all cells, and of every group of cells.

    With :math:`n_{il}` the counts of cell :math:`i` in layer :math:`l`, the shares are
    :math:`\sum_i n_{il} / \sum_{il'} n_{il'}` over the cells. The counts are ``obs[f"initial_size_{layer}"]`` where
    there is that column (the sizes before normalisation, which would hide the proportions), else the sum of the layer.

    Parameters
    ----------
    adata
        The cells.
    groupby
        Column of ``obs`` with the groups. Cells without a group count in the total only.
    layers
        Names of the layers: by default those of spliced, unspliced and ambiguous that exist.

    Returns
    -------
    array of shape (layers,)
        Shares in all cells; they sum to 1.
    array of shape (groups, layers)
        Shares in each group, in the order of the categories; 0 for a group without counts.

    Raises
    ------
    KeyError
        If ``groupby`` or a layer does not exist.
    ValueError
        If there are no counts at all, or no groups.

    Examples
    --------
    >>> of_all, of_groups = jv.pl.count_proportions(counts, "clusters")
    >>> of_all.round(2), of_groups.shape
    (array([0.81, 0.19]), (4, 2))
    """
    found = read_proportions(adata, groupby, layers)
    return found.total, found.by_group


def _layer_names(adata: AnnData, layers: Sequence[str] | None) -> list[str]:
    names = [name for name in LAYERS if name in adata.layers] if layers is None else list(layers)
    if missing := [name for name in names if name not in adata.layers]:
        raise KeyError(f"Expected layers {names}, found no {missing} among {layer_names(adata)}.")
    if not names:
        raise KeyError(
            f"Expected at least one of the layers {list(LAYERS)}, found {layer_names(adata)}. Name others in `layers`."
        )
    return names


def _cell_sizes(adata: AnnData, names: list[str]) -> Float[np.ndarray, "cells layers"]:
    stored = {name: f"initial_size_{name}" for name in names if f"initial_size_{name}" in adata.obs}
    counted = [name for name in names if name not in stored]
    if stored and counted:
        logger.warning(
            "Found stored sizes of the cells in %s only: counting %s in the genes there are", list(stored), counted
        )
    sizes = np.empty((adata.n_obs, len(names)))
    for column, name in zip(sizes.T, names, strict=True):
        column[:] = (
            adata.obs[stored[name]].to_numpy(dtype=float, na_value=np.nan)
            if name in stored
            else np.concatenate([np.ravel(rows.sum(axis=1)) for rows in _rows(adata.layers[name], name)])
        )
    known = np.asarray(np.isfinite(sizes).all(axis=1))
    if not known.all():
        logger.warning("Leaving out %d cells whose counts of %s are not finite", int((~known).sum()), names)
    return np.where(known[:, None], sizes, 0.0)


def _rows(layer: Any, name: str) -> Iterator[Any]:
    """All rows, at once where they are in memory."""
    if not is_on_disk(layer):
        return iter([layer])
    return (rows for _, rows in read_in_ranges(layer, f"adata.layers[{name!r}]"))
