"""Names and colours of states, from the clusters that their cells belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.clusters import cluster_names, read_clusters
from jaxvelo.annotated.entries import read_numbers, require_key
from jaxvelo.annotated.fate_keys import colors_of
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.palette import default_palette
from jaxvelo.estimators._state_colors import colors_of_groups, shades

SUM_TOLERANCE = 1e-3


class NamedColors(NamedTuple):
    """Names, and a colour for each."""

    names: list[str]
    colors: list[str]


class Composition(NamedTuple):
    """Clusters, and how much some cells belong to each of them.

    Attributes
    ----------
    names
        Names of the clusters.
    colors
        Their colours.
    shares
        Shares of shape ``(used, clusters)``: 1 for the cluster of a cell, or proportions, times the weight of the
        cell.
    """

    names: list[str]
    colors: list[str]
    shares: Float[np.ndarray, "used clusters"]


def named_states(
    adata: AnnData,
    codes: Int[np.ndarray, " cells"],
    names: list[str],
    cluster_key: str | Mapping[str, str] | None,
    weight_key: str | None,
) -> NamedColors:
    """Name each state after the cluster that most of its cells belong to, and colour it likewise.

    Where several states would have the same name, they are numbered, ``"Alpha_1"`` and ``"Alpha_2"``, and get shades of
    its colour.

    Parameters
    ----------
    adata
        Annotated data.
    codes
        Number of the state of each cell, -1 for none.
    names
        Names to use without clusters.
    cluster_key
        Key of clusters in ``adata.obs``, or ``{"obs": key}``, or ``{"obsm": key}`` of a data frame with the proportions
        of clusters in each cell; ``None`` to leave the names as they are.
    weight_key
        Key in ``adata.obs`` of the weights of the cells, for proportions.
    """
    if cluster_key is None:
        if weight_key is not None:
            raise ValueError("Expected no `weight_key` without `cluster_key`, found one. Leave it out.")
        return NamedColors(names, default_palette(len(names)))
    source, key = _source(cluster_key)
    if source == "obs" and weight_key is not None:
        raise ValueError(
            "Expected `weight_key` only where `cluster_key` names proportions, as `{'obsm': key}`, found it beside "
            f"`adata.obs[{key!r}]`. Leave it out."
        )
    used = np.flatnonzero(codes >= 0)
    clusters = _of_clusters(adata, key, used) if source == "obs" else _of_proportions(adata, key, weight_key, used)
    totals = np.stack([clusters.shares[codes[used] == state].sum(axis=0) for state in range(len(names))])
    lost = [name for name, total in zip(names, totals, strict=True) if not total.any()]
    if lost:
        raise ValueError(
            f"Expected cells with a cluster in each state, found none in {listed(lost)}: `adata.{source}[{key!r}]` is "
            "missing there. Fill it, or leave `cluster_key` out."
        )
    return _distinct(totals.argmax(axis=1), clusters)


def check_clusters(adata: AnnData, names: list[str], cluster_key: Any) -> None:
    """Raise a ValueError unless there are clusters of these names; ``cluster_key`` as of :func:`named_states`."""
    source, key = _source(cluster_key)
    none = np.zeros(0, dtype=int)
    known = (_of_clusters(adata, key, none) if source == "obs" else _of_proportions(adata, key, None, none)).names
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"Expected names of clusters in `adata.{source}[{key!r}]`, found {listed(unknown)}. There are "
            f"{listed(known)}."
        )


def _source(cluster_key: Any) -> tuple[str, str]:
    """Where clusters stand, in ``obs`` or ``obsm``, and their key."""
    if isinstance(cluster_key, str):
        return "obs", cluster_key
    if isinstance(cluster_key, Mapping) and len(cluster_key) == 1:
        ((source, key),) = cluster_key.items()
        if source in ("obs", "obsm"):
            return source, key
    raise TypeError(
        f"Expected `cluster_key` to be a key in `adata.obs`, `{{'obs': key}}` or `{{'obsm': key}}`, found "
        f"`{cluster_key!r}`."
    )


def _of_clusters(adata: AnnData, key: str, used: Int[np.ndarray, " used"]) -> Composition:
    values = read_clusters(adata, key)
    names = cluster_names(values, f"adata.obs[{key!r}]")
    codes = values.cat.codes.to_numpy()[used]
    shares = (codes[:, None] == np.arange(len(names))).astype(float)
    return Composition(names, colors_of_groups(adata.uns.get(colors_of(key)), names), shares)


def _of_proportions(adata: AnnData, key: str, weight_key: str | None, used: Int[np.ndarray, " used"]) -> Composition:
    where = f"adata.obsm[{key!r}]"
    table = require_key(adata.obsm, key, "adata.obsm", "Pass the key of a data frame with proportions.")
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"Expected `{where}` to be a data frame with a column for each cluster, found `{type(table).__name__}`."
        )
    shares = table.iloc[used].to_numpy(dtype=float)
    sums = shares.sum(axis=1)
    if not (np.abs(sums - 1) <= SUM_TOLERANCE).all():
        raise ValueError(
            f"Expected rows of `{where}` that sum to one, found sums from {sums.min():.3g} to {sums.max():.3g}. "
            "Divide each row by its sum."
        )
    if weight_key is not None:
        remedy = "Pass the key of a column with the weight of each cell."
        shares = shares * read_numbers(adata.obs, weight_key, "adata.obs", remedy)[used, None]
    names = [text_of(column) for column in table.columns]
    return Composition(names, colors_of_groups(adata.uns.get(colors_of(key)), names), shares)


def _distinct(chosen: Int[np.ndarray, " states"], clusters: Composition) -> NamedColors:
    """Name and colour states by their clusters; number those of the same cluster."""
    names = [clusters.names[cluster] for cluster in chosen]
    colors = [clusters.colors[cluster] for cluster in chosen]
    for cluster in np.unique(chosen):
        same = np.flatnonzero(chosen == cluster)
        if len(same) > 1:
            for number, (state, color) in enumerate(
                zip(same, shades(clusters.colors[cluster], len(same)), strict=True)
            ):
                names[state], colors[state] = f"{clusters.names[cluster]}_{number + 1}", color
    return NamedColors(names, colors)
