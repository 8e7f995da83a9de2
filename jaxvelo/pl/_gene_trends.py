"""The picture of genes along a time, towards each fate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.annotated.stored_states import read_fates
from jaxvelo.annotated.stored_trends import ALL_CELLS, REMEDY, Trends, check_level, fate_keys_of

from ._checks import check_opacity, check_positive
from ._colors import MISSING, Categorical, Colors, Continuous, Palette, Uniform, cell_colors, gene_values
from ._figure import INK, Canvas, Sheet, text_size
from ._legend import group_handles
from ._looks import picture
from ._panels import Points, cell_size, color_name, draw_color_bar, draw_points
from ._plain_axes import dress_axes, legend_look
from ._states import fate_colors, state_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
"""Of conditions, in their order."""


@picture()
def gene_trends(
    adata: "AnnData",
    genes: Any,
    lineages: Any = None,
    *,
    key: str = "trends",
    same_plot: bool = True,
    conditions: bool = True,
    conf_int: bool | float = True,
    hide_cells: bool = False,
    cell_color: Any = None,
    cell_alpha: float = 0.6,
    lineage_alpha: float = 0.2,
    size: float | None = None,
    lw: float = 2.0,
    palette: Palette = None,
    cmap: Any = "viridis",
    ncols: int = 3,
    title: str | None = None,
    xlabel: str | None = None,
    ylabel: str = "expression",
    sheet: Sheet,
) -> "Axes | list[Axes] | None":
    """Draw genes along a time, with the bands of their trends and the cells behind them.

    Parameters
    ----------
    adata
        The cells, with the trends as :func:`jaxvelo.tl.fit_trends` writes them; not changed.
    genes
        Names of genes, or one.
    lineages
        Names of lineages, or one; all by default.
    key
        Name of the trends.
    same_plot
        Whether all lineages of a gene are drawn in one panel; otherwise each has its own, with the cells coloured by
        their probability of that fate.
    conditions
        Whether to draw the trends of each condition, in lines of its own, where there are conditions; otherwise those
        of all cells together.
    conf_int
        Whether to draw bands, or their level; 0.95 by default.
    hide_cells
        Whether to leave out the cells.
    cell_color
        What cells are coloured by; see :func:`scatter`. Grey by default if all lineages are in one panel.
    cell_alpha, lineage_alpha
        Opacity of cells and bands.
    size, lw
        Area of a cell in points², and width of the lines in points.
    palette
        Colours of the lineages; those of the terminal states by default.
    cmap
        Colour map of numbers.
    ncols
        Panels in a row, if all lineages are in one.
    title
        Title of the figure.
    xlabel, ylabel
        Names of the axes; the time's key, and ``"expression"``.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given; a list if there are several panels.

    Raises
    ------
    KeyError
        If there are no trends, or a gene, a lineage or ``cell_color`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range, or there are several panels for ``ax``.

    Examples
    --------
    >>> trends = jv.tl.fit_trends(adata, ["gene_20", "gene_33"], time_key="true_time")
    >>> axes = jv.pl.gene_trends(adata, ["gene_20", "gene_33"], show=False)
    >>> [panel.get_title() for panel in axes]
    ['gene_20', 'gene_33']
    """
    check_integer("ncols", ncols, 1)
    for name, value in (("size", size), ("lw", lw)):
        check_positive(name, value)
    for name, value in (("cell_alpha", cell_alpha), ("lineage_alpha", lineage_alpha)):
        check_opacity(name, value)
    level = conf_int if is_number(conf_int) else 0.95
    check_level(level)
    trends = Trends.from_adata(require_anndata(adata), key)
    places = trends.places(genes)
    curves = trends.curves_of(lineages, conditions=conditions and bool(trends.conditions))
    names = list(dict.fromkeys(trends.lines[curve].lineage for curve in curves))
    colors = lineage_colors(adata, trends, palette)
    rows = [names] if same_plot else [[name] for name in names]
    panels = [(place, row) for place in places for row in rows]
    if len(panels) > 1 and sheet.ax is not None:
        raise ValueError(f"Expected one gene and one panel for `ax`, found {len(panels)} panels. Draw them one by one.")
    times = read_numbers(adata.obs, trends.time_key, "adata.obs", REMEDY)
    canvas = Canvas(sheet, n_panels=len(panels), ncols=ncols if same_plot else len(names), default_size=(3.7, 2.9))
    of_cells = _Cells(adata, trends, names, cell_color, same_plot)
    with canvas:
        for number, (ax, (place, row)) in enumerate(zip(canvas.axes, panels, strict=True)):
            limits: list[np.ndarray] = []
            gene = str(trends.genes[place])
            if not hide_cells:
                values, shades = of_cells.values(place), of_cells.colors(row)
                points = Points(
                    size=size or 0.5 * cell_size(adata.n_obs), alpha=cell_alpha, cmap=cmap, norm=of_cells.norm(shades)
                )
                drawn = draw_points(ax, np.stack([times, values], axis=1), shades, points)
                limits.append(np.nanpercentile(values, [0, 99.5]))
                is_last = number == len(panels) - 1 or not same_plot
                if drawn is not None and is_last:
                    draw_color_bar(drawn, ax, label=color_name(shades))
            for curve in curves:
                line = trends.lines[curve]
                if line.lineage not in row:
                    continue
                at, found = trends.evaluate(curve, np.array([place]), level=level)
                style = DASHES[trends.conditions.index(line.condition) % len(DASHES) if line.condition else 0]
                color = colors[line.lineage]
                ax.plot(at, found.values[0], color=color, linewidth=lw, linestyle=style, zorder=3, gid=line.label)
                limits.append(np.array([found.values.min(), found.values.max()]))
                if conf_int is not False:
                    ax.fill_between(
                        at, found.lower[0], found.upper[0], color=color, alpha=lineage_alpha, linewidth=0, zorder=2
                    )
                    limits.append(np.clip([found.lower.min(), found.upper.max()], *_room(limits)))
            _set_limits(ax, limits)
            is_left = number % (min(ncols, len(panels)) if same_plot else len(names)) == 0
            dress_axes(
                ax,
                gene if same_plot or len(names) == 1 else f"{gene}, {row[0]}",
                trends.time_key.replace("_", " ") if xlabel is None else xlabel,
                ylabel if is_left else "",
                text_size(12),
            )
        _draw_legend(canvas, trends, curves, colors, same_plot, lw, None if hide_cells else of_cells.shared)
        if title is not None:
            canvas.ax.figure.suptitle(title, color=INK, fontsize=text_size(13))
        return canvas.finish(listed=len(panels) > 1)


def lineage_colors(adata: "AnnData", trends: Trends, palette: Palette = None) -> dict[str, str]:
    """Give each lineage the colour of its terminal state."""
    keys, names = fate_keys_of(trends), trends.lineages
    every: list[str] = []
    if keys.fate_probabilities in adata.obsm and palette is None:
        every = read_fates(adata, keys, REMEDY).names
    if not set(names) <= set(every):
        return dict(zip(names, state_colors(adata, "", names, palette), strict=True))
    colors = fate_colors(adata, keys, every)
    return {name: colors[name] for name in names}


class _Cells:
    """What cells are drawn at, and coloured by."""

    def __init__(self, adata: "AnnData", trends: Trends, names: Sequence[str], color: Any, same_plot: bool):
        self.adata, self.trends = adata, trends
        self.layer = trends.parameters.get("layer")
        self.sizes = None
        if trends.is_of_counts:
            self.sizes = read_numbers(adata.obs, trends.parameters["size_factors"], "adata.obs", REMEDY)
        self.shared = None if color is None else cell_colors(adata, color)
        self.fates = None
        keys = fate_keys_of(trends)
        if color is None and not same_plot and names != [ALL_CELLS] and keys.fate_probabilities in adata.obsm:
            fates = read_fates(adata, keys, REMEDY).of(names, "lineages")
            self.fates = dict(zip(fates.names, fates.values.T, strict=True))

    def values(self, place: int) -> Float[np.ndarray, " cells"]:
        gene = self.trends.genes[place]
        values = gene_values(self.adata, gene, self.layer, False)
        if values is None:
            raise KeyError(f"Expected the gene {gene!r} of the trends in `adata`, found none. {REMEDY}")
        return values if self.sizes is None else values / self.sizes

    def colors(self, row: Sequence[str]) -> Colors:
        if self.shared is not None:
            return self.shared
        if self.fates is None:
            return Uniform(MISSING)
        return Continuous("fate probability", self.fates[row[0]], (0.0, 1.0))

    def norm(self, colors: Colors) -> Any:
        from matplotlib.colors import Normalize

        return Normalize(*colors.limits) if isinstance(colors, Continuous) and colors.limits is not None else None


def _room(limits: Sequence[np.ndarray]) -> tuple[float, float]:
    """Give how far a band may widen the picture: half of what cells and curves take."""
    low, high = min(one[0] for one in limits), max(one[1] for one in limits)
    return low - 0.5 * (high - low), high + 0.5 * (high - low)


def _set_limits(ax: Any, limits: Sequence[np.ndarray]) -> None:
    low, high = np.nanmin([one[0] for one in limits]), np.nanmax([one[1] for one in limits])
    if np.isfinite(low) and np.isfinite(high):
        room = 0.04 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)


def _draw_legend(
    canvas: Canvas,
    trends: Trends,
    curves: Sequence[int],
    colors: dict[str, str],
    same_plot: bool,
    lw: float,
    cells: Any,
) -> None:
    """Say which line is of what: lineages where they share a panel, and conditions; and which cells are which."""
    from matplotlib.lines import Line2D

    lines = [trends.lines[curve] for curve in curves]
    names = list(dict.fromkeys(line.lineage for line in lines)) if same_plot else []
    conditions = list(dict.fromkeys(line.condition for line in lines if line.condition))
    handles = [Line2D([], [], color=colors[name], linewidth=lw, label=name) for name in names]
    handles += [
        Line2D(
            [], [], color=INK, linewidth=lw, label=name, linestyle=DASHES[trends.conditions.index(name) % len(DASHES)]
        )
        for name in conditions
    ]
    if isinstance(cells, Categorical):
        handles += group_handles(cells)
    if not handles:
        return
    if canvas.own:
        canvas.ax.figure.legend(handles=handles, loc="outside right center", **legend_look())
    else:
        canvas.ax.legend(handles=handles, loc="best", **legend_look())
