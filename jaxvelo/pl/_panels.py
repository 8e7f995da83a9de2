"""Cells in an embedding: points, colour bar, legend and axes, on one panel or several."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxvelo.configuration import settings

from ._checks import checked_cmap
from ._colors import MISSING, Categorical, Colors, Continuous, PerCell, Uniform, cell_colors
from ._embedding import Embedding, finite_rows
from ._figure import INK, Canvas, text_size
from ._legend import draw_legend, room_beside
from ._looks import Looks

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

MANY_CELLS = 2000  # circles that a vector file is slow to open with


def draw_embedding(
    adata: "AnnData",
    embedding: Embedding,
    looks: Looks,
    *,
    enlarged: float = 1.0,
    over: Callable[[Any, Colors], None] | None = None,
) -> "Axes | list[Axes] | None":
    """Draw the cells, and what lies over them, in a panel for each thing that they are coloured by.

    Parameters
    ----------
    adata, embedding, looks
        The cells, their places, and the user's arguments.
    enlarged
        How much larger than usual the cells are where the user gave no size.
    over
        Draws on the axes of a panel, given its colours.

    Returns
    -------
    Axes, list of Axes or None
        The axes if the caller wants them; a list if ``looks.color`` is a list.
    """
    several = _panels(adata, looks.color)
    colors = colors_of_panels(adata, [looks.color] if several is None else several, looks)
    return draw_panels(embedding, colors, looks, listed=several is not None, enlarged=enlarged, over=over)


def colors_of_panels(adata: "AnnData", listed: list[Any], looks: Looks) -> list[Colors]:
    """Find out what each of several things to colour by means."""
    return [cell_colors(adata, color, looks.palette, looks.layer, looks.use_raw, looks.groups) for color in listed]


def draw_panels(
    embedding: Embedding,
    colors: Sequence[Colors],
    looks: Looks,
    *,
    listed: bool,
    enlarged: float = 1.0,
    over: Callable[[Any, Colors], None] | None = None,
) -> "Axes | list[Axes] | None":
    """Draw the cells in a panel for each of ``colors``; the axes are given as a list if ``listed``.

    The other arguments are those of :func:`draw_embedding`.
    """
    if len(colors) > 1 and looks.sheet.ax is not None:
        raise ValueError(
            f"Expected one thing to colour by for `ax`, found {len(colors)} in `color`. Draw them one by one, or "
            "leave out `ax` for a figure with a panel for each."
        )
    for panel in colors:
        if isinstance(panel, Continuous):
            looks.scale.limits(panel)  # before anything is opened
    titles = titles_of(looks.title, list(map(color_name, colors)))
    canvas = Canvas(
        looks.sheet,
        n_dims=embedding.positions.shape[1],
        n_panels=len(colors),
        ncols=looks.ncols,
        default_size=None if len(colors) == 1 else (4.8, 4.0),
        room=room_beside(colors, looks.legend),
    )
    size = looks.size or enlarged * cell_size(int(finite_rows(embedding.positions).sum()))
    with canvas:
        for ax, panel, title in zip(canvas.axes, colors, titles, strict=True):
            draw_cells(ax, embedding.positions, panel, looks, size=size)
            if over is not None:
                over(ax, panel)
            dress(ax, embedding, looks, title)
            draw_legend(ax, embedding.positions, panel, looks.legend)
        return canvas.finish(listed)


def _panels(adata: "AnnData", color: Any) -> list[Any] | None:
    """Give what each panel is coloured by if ``color`` lists several things; :obj:`None` if it is one thing."""
    from matplotlib.colors import is_color_like

    is_text = isinstance(color, np.ndarray) and color.ndim == 1 and color.dtype.kind in "UO"
    if not isinstance(color, list | tuple | pd.Index) and not is_text:
        return None
    color = list(color)
    if not color:
        raise ValueError("Expected at least one name in `color`, found none.")
    raw = [] if adata.raw is None else adata.raw.var_names
    names = {str(name) for known in (adata.obs.columns, adata.var_names, raw) for name in known}
    if not any(isinstance(one, str | int | np.integer) and str(one) in names for one in color):
        are_numbers = all(isinstance(one, int | float | np.number | type(None)) for one in color)
        if is_color_like(tuple(color)) or len(color) == adata.n_obs or are_numbers:
            return None
    return color


def titles_of(title: Any, names: Sequence[str]) -> list[str]:
    """Give each panel's title: its name where the user gave none."""
    if title is None:
        return list(names)
    if isinstance(title, str):
        return [title] * len(names)
    titles = [str(one) for one in title]
    if len(titles) != len(names):
        raise ValueError(
            f"Expected `title` to be a text, or a list of one for each of the {len(names)} panels, found {titles}."
        )
    return titles


def color_name(colors: Colors) -> str:
    """Give the title that says what the colours mean."""
    return colors.key if isinstance(colors, Categorical | Continuous) else ""


def cell_size(n_cells: int) -> float:
    """Give the area of a cell in points²: the more cells the smaller, within limits."""
    return float(np.clip(2200 * max(n_cells, 1) ** -0.6, 0.5, 80.0))


def draw_cells(
    ax: Any, positions: Float[np.ndarray, "cells dims"], colors: Colors, looks: Looks, *, size: float
) -> None:
    """Draw the cells that have a place, and a colour bar if they are coloured by numbers."""
    from matplotlib.colors import Normalize

    scale = looks.scale
    norm, extend = None, None
    if isinstance(colors, Continuous):
        low, high = scale.limits(colors)
        norm = Normalize(low, high)
        known = colors.values[np.isfinite(colors.values)]
        below, above = bool(np.any(known < low)), bool(np.any(known > high))
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above))
    cmap = checked_cmap("cmap", scale.cmap)
    points = Points(size=size, cmap=cmap, norm=norm, alpha=looks.alpha, sort_order=scale.sort_order)
    drawn = draw_points(ax, positions, colors, points)
    if drawn is not None and scale.colorbar:
        draw_color_bar(drawn, ax, extend=extend)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
    """How cells are drawn.

    Attributes
    ----------
    size
        Area in points².
    cmap, norm
        Colour map of numbers, and what brings them to the range from 0 to 1.
    alpha
        Opacity.
    sort_order
        Whether high numbers are drawn on top.
    rasterized
        Whether a vector file holds the cells as an image; by default if there are many.
    """

    size: float
    cmap: Any = None
    norm: Any = None
    alpha: float = 1.0
    sort_order: bool = True
    rasterized: bool | None = None


def draw_points(ax: Any, positions: Float[np.ndarray, "cells dims"], colors: Colors, points: Points) -> Any:
    """Draw the cells that have a place, no group systematically on top of another; missing values at the bottom.

    Returns what a colour bar is made from, or :obj:`None` if the colours are no numbers or none is known.
    """
    cells = np.random.default_rng(0).permutation(np.flatnonzero(finite_rows(positions)))
    many = len(cells) > MANY_CELLS if points.rasterized is None else points.rasterized
    style: dict[str, Any] = {
        "s": points.size,
        "alpha": points.alpha,
        "linewidths": 0,
        "zorder": 1.0,
        # A vector file with so many circles is slow to open.
        "rasterized": many and settings.figure_params.vector_friendly,
    }
    if ax.name == "3d":
        style["depthshade"] = False
    if isinstance(colors, Uniform):
        ax.scatter(*positions[cells].T, color=colors.color, **style)
        return None
    if isinstance(colors, Categorical | PerCell):
        if isinstance(colors, Categorical):
            cells = cells[np.argsort(colors.depths()[cells], kind="stable")]
        shades = (colors.rgba() if isinstance(colors, Categorical) else colors.colors)[cells]
        if np.any(shades[:, 3] < 1):  # matplotlib would put `alpha` in the place of the opacity of the colours
            shades = shades * [1.0, 1.0, 1.0, points.alpha]
            style["alpha"] = None
        ax.scatter(*positions[cells].T, c=shades, **style)
        return None
    known = np.isfinite(colors.values[cells])
    ax.scatter(*positions[cells[~known]].T, color=MISSING, **style)
    cells = cells[known]
    if not len(cells):
        return None
    if points.sort_order:
        cells = cells[np.argsort(colors.values[cells], kind="stable")]
    return ax.scatter(*positions[cells].T, c=colors.values[cells], cmap=points.cmap, norm=points.norm, **style)


def draw_color_bar(drawn: Any, ax: Any, *, label: str = "", shrink: float = 0.6, extend: str | None = None) -> None:
    """Draw the colour bar of one or several axes beside them."""
    figure = np.ravel(ax)[0].figure
    bar = figure.colorbar(drawn, ax=ax, shrink=shrink, aspect=18, pad=0.02, extend=extend)
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1.0)
    bar.ax.tick_params(length=0, labelsize=text_size(9), labelcolor=INK)
    if label:  # turned unlike the label of axes to the right
        bar.set_label(label, color=INK, fontsize=text_size(9), rotation=270, va="bottom")


def dress(ax: Any, embedding: Embedding, looks: Looks, title: str) -> None:
    """Leave nothing but the picture and its title, as an embedding's axes have no units, unless the user wants more."""
    frame = settings.figure_params.frameon if looks.frameon is None else bool(looks.frameon)
    names = [looks.xlabel, looks.ylabel]
    if frame:
        names = [given or usual for given, usual in zip(names, embedding.axis_labels, strict=False)]
    label = {"color": INK, "fontsize": text_size(10)}
    if ax.name == "3d":
        # In three dimensions the panes stay, without ticks: they tell how the picture is turned.
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_ticks([])
            axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
            axis.line.set_color("0.8")
        spans = [abs(high - low) for low, high in (ax.get_xlim(), ax.get_ylim(), ax.get_zlim())]
        ax.set_box_aspect(spans, zoom=1.15)  # equal units, and less of the empty room around
        for artist in ax.collections:  # which the corners of the box may reach into
            artist.set_clip_on(False)
        if frame:
            ax.set_zlabel(embedding.axis_labels[2], **label)
    else:
        ax.set_aspect("equal")
        if not any(names):
            ax.set_axis_off()
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(frame)
        ax.spines[:].set_color("0.6")
    if names[0]:
        ax.set_xlabel(names[0], **label)
    if names[1]:
        ax.set_ylabel(names[1], **label)
    if title:
        ax.set_title(title, color=INK, fontsize=text_size(13) if looks.fontsize is None else looks.fontsize)
