"""Random walks in an embedding."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from ._colors import Palette, cell_colors
from ._embedding import embedding, finite_rows
from ._figure import INK, Canvas, bare
from ._scatter import cell_size, check_legend, color_name, draw_cells, draw_legend

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def random_walks(
    adata: "AnnData",
    walks: Sequence[Int[np.ndarray, " _"]],
    basis: str = "umap",
    *,
    cmap: Any = "gnuplot",
    linewidth: float = 1.0,
    linealpha: float = 0.3,
    ixs_legend_loc: str | None = None,
    color: Any = None,
    layer: str | None = None,
    palette: Palette = None,
    size: float | None = None,
    alpha: float = 0.3,
    legend_loc: str | None = "right margin",
    title: str | None = None,
    figsize: tuple[float, float] | None = None,
    dpi: float | None = None,
    ax: "Axes | None" = None,
    save: str | os.PathLike | None = None,
    show: bool | None = None,
) -> "Axes | None":
    """Draw random walks as lines that change colour from start to stop, over pale cells.

    Parameters
    ----------
    adata
        The cells; not changed.
    walks
        For each walk the indices of the cells that it visited, in order.
    basis
        Embedding with two or three dimensions; see :func:`scatter`. Visits to cells that have no finite coordinates
        are left out.
    cmap
        Colour map of the lines: its first colour marks where the walks start, its last where they stop.
    linewidth, linealpha
        Width in points and opacity of the lines.
    ixs_legend_loc
        Place of the legend that explains start and stop: beside the picture by default, ``"none"`` for no legend, or
        any of matplotlib's places inside, such as ``"lower left"``.
    color, layer, palette, size, alpha, legend_loc, title, figsize, dpi, ax, save, show
        See :func:`scatter`; they concern the cells.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If the embedding or ``color`` does not exist.
    IndexError
        If a walk visits a cell that does not exist.
    ValueError
        If there are no walks, or a walk is empty or no one-dimensional array of integers.
    """
    positions = embedding(adata, basis)
    colors = cell_colors(adata, color, palette, layer)
    from matplotlib import colormaps
    from matplotlib.legend import Legend

    check_legend(legend_loc)
    paths = _checked_walks(walks, adata.n_obs)
    if ixs_legend_loc not in (None, "none", *Legend.codes):
        raise ValueError(
            f"Expected `ixs_legend_loc` to be None, 'none' or one of {list(Legend.codes)}, found `{ixs_legend_loc!r}`."
        )
    if isinstance(cmap, str) and cmap not in colormaps:
        raise ValueError(f"Expected `cmap` to be a colour map of matplotlib, found `{cmap!r}`.")
    cmap = colormaps[cmap] if isinstance(cmap, str) else cmap

    canvas = Canvas(ax, n_dims=positions.shape[1], figsize=figsize, dpi=dpi, save=save, show=show)
    draw_cells(canvas.ax, positions, colors, size=size, alpha=alpha)
    finite = finite_rows(positions)
    paths = [path[finite[path]] for path in paths]
    paths = [path for path in paths if len(path)]
    if paths:
        _draw_lines(canvas.ax, positions, paths, cmap, linewidth, linealpha)
        marker = 1.6 * (cell_size(int(finite.sum())) if size is None else size) + 8.0
        _draw_ends(canvas.ax, positions, paths, cmap, marker)
    bare(canvas.ax, color_name(colors) if title is None else title)
    draw_legend(canvas.ax, positions, colors, legend_loc)
    _draw_ends_legend(canvas.ax, cmap, ixs_legend_loc)
    return canvas.finish()


def _checked_walks(walks: Sequence[Any], n_cells: int) -> list[Int[np.ndarray, " _"]]:
    paths = [np.asarray(walk) for walk in walks]
    if not paths:
        raise ValueError("Expected at least one walk in `walks`, found none.")
    for i, path in enumerate(paths):
        if path.ndim != 1 or not len(path) or not np.issubdtype(path.dtype, np.integer):
            raise ValueError(
                f"Expected `walks[{i}]` to be a non-empty one-dimensional array of integers, "
                f"found shape {path.shape} of type {path.dtype}."
            )
        if path.min() < 0 or path.max() >= n_cells:
            raise IndexError(
                f"Expected `walks[{i}]` to visit cells 0 to {n_cells - 1}, found {path.min()} to {path.max()}."
            )
    return paths


def _draw_lines(
    ax: Any,
    positions: Float[np.ndarray, "cells dims"],
    paths: list[Int[np.ndarray, " _"]],
    cmap: Any,
    linewidth: float,
    linealpha: float,
) -> None:
    """Draw all walks as one collection of segments, coloured by how much of its walk lies behind each."""
    from matplotlib.collections import LineCollection
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    segments = [np.stack([positions[path[:-1]], positions[path[1:]]], axis=1) for path in paths]
    progress = np.concatenate([np.linspace(0.0, 1.0, len(steps)) for steps in segments])
    style: dict[str, Any] = {"cmap": cmap, "linewidths": linewidth, "alpha": linealpha, "zorder": 3}
    lines: Any = Line3DCollection if ax.name == "3d" else LineCollection
    collection = lines(np.concatenate(segments), **style)
    collection.set_array(progress)
    collection.set_clim(0.0, 1.0)
    collection.set_rasterized(len(progress) > 2000)
    ax.add_collection(collection)


def _draw_ends(
    ax: Any, positions: Float[np.ndarray, "cells dims"], paths: list[Int[np.ndarray, " _"]], cmap: Any, size: float
) -> None:
    """Mark the cells where walks start, and above them those where walks stop."""
    style: dict[str, Any] = {"depthshade": False} if ax.name == "3d" else {}
    for end, shade, edge in ((0, cmap(0.0), "white"), (-1, cmap(1.0), INK)):
        ends = np.unique([path[end] for path in paths])
        ax.scatter(*positions[ends].T, s=size, color=shade, edgecolors=edge, linewidths=0.8, zorder=5, **style)


def _draw_ends_legend(ax: Any, cmap: Any, place: str | None) -> None:
    """Explain the marks of start and stop, in a legend of its own."""
    if place == "none":
        return
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 7, "markeredgewidth": 0.8}
    handles = [
        Line2D([], [], markerfacecolor=cmap(0.0), markeredgecolor="white", label="start", **style),
        Line2D([], [], markerfacecolor=cmap(1.0), markeredgecolor=INK, label="stop", **style),
    ]
    groups = ax.get_legend()
    where: dict[str, Any] = {"loc": place}
    if place is None:
        where = {"loc": "lower left", "bbox_to_anchor": (1.01, 0.0), "borderaxespad": 0.0}
    ax.legend(handles=handles, frameon=False, fontsize=10, labelcolor=INK, handletextpad=0.2, **where).set_gid("ends")
    if groups is not None:
        ax.add_artist(groups)  # a second legend would replace the first
        groups.set_clip_on(False)  # which that turns on
