"""Cells in an embedding, coloured by cluster, by a number or by a gene."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ._colors import MISSING, Categorical, Continuous, Palette, Uniform, cell_colors
from ._embedding import embedding, finite_rows
from ._figure import INK, Canvas, bare

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def scatter(
    adata: "AnnData",
    basis: str = "umap",
    color: Any = None,
    *,
    layer: str | None = None,
    palette: Palette = None,
    cmap: Any = "viridis",
    size: float | None = None,
    alpha: float = 1.0,
    legend_loc: str | None = "right margin",
    title: str | None = None,
    figsize: tuple[float, float] | None = None,
    dpi: float | None = None,
    ax: "Axes | None" = None,
    save: str | os.PathLike | None = None,
    show: bool | None = None,
) -> "Axes | None":
    """Draw the cells in an embedding.

    Parameters
    ----------
    adata
        The cells; not changed.
    basis
        Embedding, in ``obsm[f"X_{basis}"]`` or ``obsm[basis]``. One with exactly three columns is drawn in three
        dimensions, of any other the first two columns are drawn. Cells whose coordinates are not finite are left out.
    color
        Column of ``obs`` (groups or numbers), gene, or one colour for all cells. By default ``obs["clusters"]``, or the
        first categorical column.
    layer
        Layer of a gene's values; ``X`` by default.
    palette
        Colours of the groups: mapping from names, sequence, or name of a colour map. By default
        ``uns[f"{color}_colors"]``, or a built-in palette; nothing is written to ``adata``.
    cmap
        Colour map of numbers.
    size
        Area of a cell in points²; fewer cells are drawn larger by default.
    alpha
        Opacity of the cells.
    legend_loc
        ``"right margin"`` or ``"right"``, ``"on data"`` (names at the groups' medians), ``"none"``, or a place of
        matplotlib such as ``"lower left"``. As in scVelo, all places on the right are beside the picture.
    title
        Title; the name of ``color`` by default, ``""`` for none.
    figsize, dpi
        Size of a new figure in inches, and its resolution.
    ax
        Axes to draw on instead of a new figure.
    save
        File to write (any format of matplotlib; ``.png`` without an ending). It appears complete or not at all.
    show
        Whether to show the figure; by default if it is neither saved nor drawn on ``ax``.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given; otherwise the figure is done with.

    Raises
    ------
    KeyError
        If the embedding, ``color`` or ``layer`` does not exist.
    ValueError
        If the palette, ``legend_loc``, ``ax`` or the ending of ``save`` does not fit.
    """
    positions = embedding(adata, basis)
    colors = cell_colors(adata, color, palette, layer)
    check_legend(legend_loc)
    canvas = Canvas(ax, n_dims=positions.shape[1], figsize=figsize, dpi=dpi, save=save, show=show)
    draw_cells(canvas.ax, positions, colors, cmap=cmap, size=size, alpha=alpha)
    bare(canvas.ax, color_name(colors) if title is None else title)
    draw_legend(canvas.ax, positions, colors, legend_loc)
    return canvas.finish()


def check_legend(legend_loc: str | None) -> None:
    """Raise if the place of the legend is not known."""
    from matplotlib.legend import Legend

    known = ["right margin", "on data", "none", *Legend.codes]
    if legend_loc is not None and legend_loc not in known:
        raise ValueError(f"Expected `legend_loc` to be one of {known}, found `{legend_loc!r}`.")


def color_name(colors: Categorical | Continuous | Uniform) -> str:
    """Give the title that says what the colours mean."""
    return "" if isinstance(colors, Uniform) else colors.key


def cell_size(n_cells: int) -> float:
    """Give the area of a cell in points²: the more cells the smaller, within limits."""
    return float(np.clip(2200 * max(n_cells, 1) ** -0.6, 0.5, 80.0))


def draw_cells(
    ax: Any,
    positions: Float[np.ndarray, "cells dims"],
    colors: Categorical | Continuous | Uniform,
    *,
    cmap: Any = "viridis",
    size: float | None = None,
    alpha: float = 1.0,
    zorder: float = 1.0,
) -> None:
    """Draw the cells that have a place, and a colour bar if they are coloured by numbers."""
    drawn = draw_points(ax, positions, colors, cmap=cmap, size=size, alpha=alpha, zorder=zorder)
    if drawn is not None:
        draw_color_bar(drawn, ax)


def draw_points(
    ax: Any,
    positions: Float[np.ndarray, "cells dims"],
    colors: Categorical | Continuous | Uniform,
    *,
    cmap: Any = "viridis",
    norm: Any = None,
    size: float | None = None,
    alpha: float = 1.0,
    zorder: float = 1.0,
    rasterized: bool | None = None,
) -> Any:
    """Draw the cells that have a place, no group systematically on top of another; missing values at the bottom.

    Returns what a colour bar is made from, or :obj:`None` if the colours are no numbers.
    """
    cells = np.random.default_rng(0).permutation(np.flatnonzero(finite_rows(positions)))
    style: dict[str, Any] = {
        "s": cell_size(len(cells)) if size is None else size,
        "alpha": alpha,
        "linewidths": 0,
        "zorder": zorder,
        # A vector file with so many circles is slow to open.
        "rasterized": len(cells) > 2000 if rasterized is None else rasterized,
    }
    if ax.name == "3d":
        style["depthshade"] = False
    if isinstance(colors, Uniform):
        ax.scatter(*positions[cells].T, color=colors.color, **style)
        return None
    if isinstance(colors, Categorical):
        cells = cells[np.argsort(colors.codes[cells] >= 0, kind="stable")]
        ax.scatter(*positions[cells].T, c=colors.rgba()[cells], **style)
        return None
    known = np.isfinite(colors.values[cells])
    ax.scatter(*positions[cells[~known]].T, color=MISSING, **style)
    cells = cells[known]
    cells = cells[np.argsort(colors.values[cells], kind="stable")]
    return ax.scatter(*positions[cells].T, c=colors.values[cells], cmap=cmap, norm=norm, **style)


def draw_color_bar(drawn: Any, ax: Any, *, label: str = "", shrink: float = 0.6, extend: str | None = None) -> None:
    """Draw the colour bar of one or several axes beside them."""
    figure = np.ravel(ax)[0].figure
    bar = figure.colorbar(drawn, ax=ax, shrink=shrink, aspect=18, pad=0.02, extend=extend)
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1.0)
    bar.ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    if label:
        bar.set_label(label, color=INK, fontsize=9, rotation=270, va="bottom")  # unlike the label of axes to the right


def group_handles(colors: Categorical) -> list[Any]:
    """Give the entries of a legend of the groups that have cells."""
    from matplotlib.lines import Line2D

    entries = [(colors.names[i], colors.colors[i]) for i in range(len(colors.names)) if np.any(colors.codes == i)]
    if np.any(colors.codes < 0):
        entries.append(("NA", MISSING))
    return [Line2D([], [], marker="o", linestyle="", markersize=7, color=color, label=name) for name, color in entries]


def draw_legend(
    ax: Any,
    positions: Float[np.ndarray, "cells dims"],
    colors: Categorical | Continuous | Uniform,
    legend_loc: str | None,
) -> None:
    """Name the groups, beside the picture, in it or on the cells."""
    if not isinstance(colors, Categorical) or legend_loc in (None, "none"):
        return
    if legend_loc == "on data" and ax.name != "3d":  # names on a cloud that can be turned would lie about its depth
        _names_on_data(ax, positions, colors)
        return
    handles = group_handles(colors)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    if legend_loc != "on data" and "right" not in str(legend_loc):
        place = {"loc": legend_loc}
    legend = ax.legend(
        handles=handles,
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        handletextpad=0.2,
        labelspacing=0.45,
        ncols=1 + (len(handles) - 1) // 16,
        **place,
    )
    legend.set_gid("groups")


def _names_on_data(ax: Any, positions: Float[np.ndarray, "cells dims"], colors: Categorical) -> None:
    """Write each group's name at its median, moved up or down until no two overlap."""
    from matplotlib.patheffects import withStroke

    finite = finite_rows(positions)
    texts = []
    for i in range(len(colors.names)):
        cells = finite & (colors.codes == i)
        if not cells.any():
            continue
        x, y = np.median(positions[cells], axis=0)
        texts.append(
            ax.text(
                x,
                y,
                colors.names[i],
                ha="center",
                va="center",
                fontsize=10,
                fontweight="bold",
                color=INK,
                path_effects=[withStroke(linewidth=3.0, foreground="white")],
                zorder=10,
            )
        )
    _part(ax, texts)


def _part(ax: Any, texts: list[Any]) -> None:
    """Move names apart along y, pair by pair, half of the overlap each."""
    ax.figure.figure.draw_without_rendering()  # sizes of texts are known only once the axes have their place
    to_data = ax.transData.inverted()
    gap = 0.4 * texts[0].get_fontsize() if texts else 0.0
    for _ in range(50):
        moved = False
        boxes = [text.get_window_extent() for text in texts]
        for i in range(len(texts)):
            for j in range(i):
                overlap_x = min(boxes[i].x1, boxes[j].x1) - max(boxes[i].x0, boxes[j].x0) + gap
                overlap_y = min(boxes[i].y1, boxes[j].y1) - max(boxes[i].y0, boxes[j].y0)
                if overlap_x <= 0 or overlap_y <= 0:
                    continue
                lower, upper = (i, j) if texts[i].get_position()[1] < texts[j].get_position()[1] else (j, i)
                for k, step in ((lower, -1.0), (upper, 1.0)):
                    x, y = ax.transData.transform(texts[k].get_position())
                    texts[k].set_position(to_data.transform((x, y + step * (0.5 * overlap_y + 1.0))))
                    boxes[k] = texts[k].get_window_extent()
                moved = True
        if not moved:
            return
