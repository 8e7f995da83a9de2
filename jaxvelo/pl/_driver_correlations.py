"""The picture of how genes go with one fate and with another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.groups import as_groups, coded
from jaxvelo.annotated.names import places_by_name
from jaxvelo.annotated.stored_states import correlations_of, known_states, read_drivers
from jaxvelo.configuration import logger

from ._checks import check_color, check_opacity, check_positive, checked_cmap
from ._colors import Categorical, Colors, Continuous, Uniform
from ._driver_genes import REMEDY
from ._figure import Canvas, Sheet, text_size
from ._legend import group_handles, legend_place, legend_style, part_names
from ._looks import picture
from ._panels import Points, draw_color_bar, draw_points
from ._plain_axes import dress_axes, legend_look
from ._states import fate_colors, state_palette

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@picture()
def lineage_drivers_correlation(
    adata: "AnnData",
    lineage_x: str,
    lineage_y: str,
    color: str | None = None,
    gene_sets: Mapping[str, Sequence[str]] | None = None,
    gene_sets_colors: Sequence[Any] | None = None,
    use_raw: bool | None = None,
    cmap: Any = "RdYlBu_r",
    fontsize: float | None = None,
    adjust_text: bool = True,
    legend_loc: Any = "best",
    *,
    title: str | None = None,
    size: float = 14.0,
    alpha: float = 0.8,
    backward: bool = False,
    sheet: Sheet,
) -> "Axes | None":
    """Draw each gene at its correlations with two fates, and name genes.

    Parameters
    ----------
    adata
        The cells, with the drivers as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    lineage_x, lineage_y
        Names of the fates.
    color
        What genes are coloured by: a column of ``var``, or of the table of drivers, such as ``"Alpha_qval"``.
    gene_sets
        Names of genes to mark, by the name of their set. Genes that are not there are left out with a warning.
    gene_sets_colors
        A colour for each set; by default those of the fates of these names, if there are such.
    use_raw
        Whether the table is that of ``raw``; by default if it is there only.
    cmap
        Colour map of numbers.
    fontsize
        Size of the genes' names.
    adjust_text
        Whether names are moved until no two overlap, each with a line to its gene.
    legend_loc
        Place of the legend of the sets; see :func:`scatter`.
    title
        Title; ``color`` by default.
    size, alpha
        Area in points² and opacity of the genes.
    backward
        Whether the fates are those of a process backward in time.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If there are no drivers, or a fate or ``color`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> table = g.compute_lineage_drivers()
    >>> axes = jv.pl.lineage_drivers_correlation(adata, "Fate A", "Fate B", show=False)
    >>> axes.get_ylabel()
    'correlation with Fate B'
    """
    place = legend_place(legend_loc)
    if place.kind == "data":
        raise ValueError("Expected `legend_loc` to be 'none' or a place of a legend, found 'on data'.")
    check_positive("fontsize", fontsize)
    check_positive("size", size)
    check_opacity("alpha", alpha)
    keys = FateKeys(backward)
    table = read_drivers(adata, keys, use_raw, REMEDY)
    positions = np.column_stack([correlations_of(table, lineage) for lineage in (lineage_x, lineage_y)])
    colors = _gene_colors(adata.var if table.shape[0] == adata.n_vars else adata.raw.var, table, color)
    sets = _marked_genes(adata, keys, table.index, gene_sets or {}, gene_sets_colors)
    points = Points(size=size, cmap=checked_cmap("cmap", cmap), alpha=alpha)
    canvas = Canvas(sheet.of_size(5.4 if isinstance(colors, Uniform) else 6.2, 4.8))
    with canvas:
        ax = canvas.ax
        for line in (ax.axhline, ax.axvline):
            line(0, color="0.8", linewidth=0.9, zorder=0)
        drawn = draw_points(ax, positions, colors, points)
        if drawn is not None:
            draw_color_bar(drawn, ax)
        ax.margins(0.08)
        dress_axes(
            ax, color if title is None else title, f"correlation with {lineage_x}", f"correlation with {lineage_y}"
        )
        handles = group_handles(colors) if isinstance(colors, Categorical) else []
        handles += [_mark(ax, positions, one, size) for one in sets if len(one.places)]
        if handles and place.kind != "none":
            look = {**legend_look(), "handletextpad": 0.2, **legend_style(len(handles))}
            ax.legend(handles=handles, **look, **place.arguments)
        _name(ax, positions, table.index, sets, text_size(9) if fontsize is None else fontsize, adjust_text)
        return canvas.finish()


@dataclasses.dataclass(frozen=True)
class _GeneSet:
    """Genes that are marked: name and colour of the set, and the places of its genes."""

    name: str
    color: Any
    places: list[int]


def _gene_colors(var: pd.DataFrame, table: pd.DataFrame, color: str | None) -> Colors:
    """Give what genes are coloured by."""
    if color is None:
        return Uniform("0.7")
    if color not in var and color not in table:
        raise KeyError(
            f"Expected `color` to be a column of `adata.var` or of the drivers, found {color!r}. They are "
            f"{listed(var)} and {listed(table)}."
        )
    column = var[color] if color in var else table[color]
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return Continuous(color, column.to_numpy(dtype=float, na_value=np.nan))
    names, codes = coded(as_groups(column, color), color)
    return Categorical(color, codes, names, state_palette(len(names)))


def _marked_genes(
    adata: "AnnData", keys: FateKeys, genes: pd.Index, sets: Mapping[str, Sequence[str]], colors: Any
) -> list[_GeneSet]:
    """Find the genes of the user's sets."""
    names = [str(name) for name in sets]
    if colors is None:
        are_fates = set(names) <= set(known_states(adata, keys.terminal_states))
        colors = list(fate_colors(adata, keys, names).values()) if are_fates else state_palette(len(names))
    if len(colors) != len(names):
        raise ValueError(f"Expected {len(names)} colours in `gene_sets_colors`, one for each set, found {len(colors)}.")
    marked = []
    for (name, wanted), color in zip(sets.items(), colors, strict=True):
        check_color("gene_sets_colors", color)
        found = places_by_name(genes, [wanted] if isinstance(wanted, str) else list(wanted))
        absent = [want for want, places in found if not places]
        if absent:
            logger.warning("Leaving out %s of the set `%s`: no genes of the drivers", listed(absent), name)
        marked.append(_GeneSet(str(name), color, list(dict.fromkeys(places[0] for _, places in found if places))))
    return marked


def _mark(ax: Any, positions: np.ndarray, of: _GeneSet, size: float) -> Any:
    """Draw the genes of a set larger, and give its entry of the legend."""
    x, y = positions[of.places].T
    return ax.scatter(x, y, color=of.color, s=2 * size, edgecolors="white", linewidths=0.6, zorder=3, label=of.name)


def _name(ax: Any, positions: np.ndarray, genes: pd.Index, sets: list[_GeneSet], size: float, adjust: bool) -> None:
    """Write the names of marked genes above them, and lead a line to each that had to move."""
    from matplotlib.patheffects import withStroke

    marked = [(place, one.color) for one in sets for place in one.places if np.isfinite(positions[place]).all()]
    if not marked:
        return
    halo = [withStroke(linewidth=0.25 * size, foreground="white")]
    places = positions[[place for place, _ in marked]]
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size, "path_effects": halo, "zorder": 6}
    if not adjust:
        for place, color in marked:
            above: dict[str, Any] = {"xytext": (0, size), "textcoords": "offset points"}
            ax.annotate(str(genes[place]), positions[place], color=color, **above, **style)
        return
    texts = [ax.text(*positions[place], str(genes[place]), color=color, **style) for place, color in marked]
    part_names(ax, texts, places, np.arange(len(texts)), above=size)
    for text, place, (_, color) in zip(texts, places, marked, strict=True):
        ax.plot(*np.array([place, text.get_position()]).T, color=color, linewidth=0.7, zorder=5, gid="leader")
