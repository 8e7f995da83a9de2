"""The picture of what macrostates are made of: the clusters of the cells that stand for them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxvelo.annotated.entries import read_numbers, require_key
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.names import text_of

from ._colors import Categorical, Palette, group_colors, grouped
from ._figure import Canvas, Sheet
from ._legend import legend_place, legend_style, legend_width
from ._looks import picture
from ._macrostates import REMEDIES
from ._plain_axes import dress_axes, legend_look
from ._states import assigned, some_states

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@picture()
def macrostate_composition(
    adata: "AnnData",
    key: "str | Mapping[str, str]",
    weight_key: str | None = None,
    width: float = 0.8,
    title: str | None = None,
    labelrot: float = 45,
    legend_loc: Any = "upper right out",
    *,
    states: Any = None,
    palette: Palette = None,
    backward: bool = False,
    sheet: Sheet,
) -> "Axes | None":
    """Draw for each macrostate how many of the cells that stand for it are of which group, as stacked bars.

    Parameters
    ----------
    adata
        The cells, with the macrostates as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    key
        Categorical column of ``obs``, or ``{"obsm": ...}`` with a data frame of ``obsm``, whose columns are groups and
        whose rows are the shares of each cell (or sample) in these.
    weight_key
        Column of ``obs`` with a weight of each cell, for shares in ``obsm``; 1 by default.
    width
        Width of the bars, from 0 to 1.
    title
        Title; names ``key`` by default.
    labelrot
        Angle of the states' names.
    legend_loc
        Place of the legend; see :func:`scatter`.
    states
        Names of the macrostates to draw; all by default.
    palette
        Colours of the groups; see :func:`scatter`.
    backward
        Whether the states are those of a process backward in time.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If there are no macrostates, or ``key``, ``weight_key`` or a state does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> axes = jv.pl.macrostate_composition(adata, "clusters", show=False)
    >>> axes.get_title()
    'macrostates by clusters'
    """
    place = legend_place(legend_loc)
    if place.kind == "data":
        raise ValueError("Expected `legend_loc` to be 'none' or a place of a legend, found 'on data'.")
    if not 0 < width <= 1:
        raise ValueError(f"Expected `width` above 0 and up to 1, found `{width!r}`.")
    of = some_states(assigned(adata, FateKeys(backward).macrostates, REMEDIES["all"]), states)
    source, name = _source(key)
    if weight_key is not None and source == "obs":
        raise ValueError("Expected `weight_key` with shares in `obsm` alone, found a column of `obs` in `key`.")
    if source == "obs":
        groups = grouped(adata, name, palette)
        names, colors = groups.names, groups.colors
        amounts = _counts(of, groups)
    else:
        names, values = _shares(adata, name, weight_key)
        colors = group_colors(adata, name, names, palette)
        amounts = np.array([values[of.codes == state].sum(axis=0) for state in range(len(of.names))])
    present = np.flatnonzero(amounts.sum(axis=0) > 0)
    room = max(0.0, legend_width([names[i] for i in present])) if place.kind == "outside" else 0.0
    canvas = Canvas(sheet.of_size(max(4.0, 0.5 * len(of.names) + 1.2) + room, 4.2))
    with canvas:
        ax = canvas.ax
        bottom = np.zeros(len(of.names))
        for group in present:
            style: dict[str, Any] = {"color": colors[group], "edgecolor": "white", "linewidth": 0.6}
            ax.bar(range(len(of.names)), amounts[:, group], width, bottom, label=names[group], **style)
            bottom += amounts[:, group]
        dress_axes(ax, f"macrostates by {name}" if title is None else title, "", "cells")
        slanted: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if labelrot % 90 else {}
        ax.set_xticks(range(len(of.names)), of.names, rotation=labelrot, **slanted)
        ax.set_xlim(-0.6, len(of.names) - 0.4)
        if place.kind != "none":
            handles, labels = ax.get_legend_handles_labels()
            look = {**legend_look(), "handlelength": 1.0, "handleheight": 1.0, **legend_style(len(present))}
            ax.legend(handles[::-1], labels[::-1], **look, **place.arguments)  # in the order of the bars
        return canvas.finish()


def _source(key: "str | Mapping[str, str]") -> tuple[str, str]:
    """Give the part of the AnnData object that the groups are in, and their name there."""
    if not isinstance(key, Mapping):
        return "obs", key
    if len(key) != 1 or not set(key) <= {"obs", "obsm"}:
        raise ValueError(f"Expected `key` to be a column, or a dictionary with 'obs' or 'obsm', found `{dict(key)!r}`.")
    return next(iter(key.items()))


def _counts(of: Categorical, groups: Categorical) -> Int[np.ndarray, "states groups"]:
    counts = np.zeros((len(of.names), len(groups.names)), dtype=int)
    both = (of.codes >= 0) & (groups.codes >= 0)
    np.add.at(counts, (of.codes[both], groups.codes[both]), 1)
    return counts


def _shares(adata: "AnnData", key: str, weight_key: str | None) -> tuple[list[str], Float[np.ndarray, "cells groups"]]:
    """Read the shares of each cell in groups, times its weight."""
    remedy = "Name a data frame whose columns are groups."
    table = require_key(adata.obsm, key, "adata.obsm", remedy)
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"Expected a data frame in `adata.obsm[{key!r}]`, found `{type(table).__name__}`. {remedy}")
    weights = np.ones(len(table))
    if weight_key is not None:
        weights = read_numbers(adata.obs, weight_key, "adata.obs", "Name a column of weights in `weight_key`.")
    return [text_of(name) for name in table.columns], table.to_numpy(dtype=float) * weights[:, None]
