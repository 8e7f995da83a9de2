"""Stream lines of the arrows in an embedding."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ._colors import Palette, cell_colors
from ._embedding import arrows, embedding
from ._figure import INK, Canvas, bare
from ._grid import (
    BACKGROUND_ALPHA,
    check_arrows,
    check_neighbors,
    draw_background,
    grid_lines,
    projection_grid,
    smooth_on_grid,
)
from ._scatter import check_legend, color_name, draw_legend

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def projection_stream(
    adata: "AnnData",
    basis: str = "umap",
    vkey: str = "T_fwd",
    *,
    color: Any = None,
    density: float = 1.5,
    smooth: float | None = None,
    min_mass: float = 5.0,
    cutoff_perc: float = 5.0,
    n_neighbors: int | None = None,
    arrow_size: float = 1.0,
    linewidth: float = 1.0,
    arrow_color: Any = INK,
    layer: str | None = None,
    palette: Palette = None,
    cmap: Any = "viridis",
    size: float | None = None,
    alpha: float = BACKGROUND_ALPHA,
    legend_loc: str | None = "on data",
    title: str | None = None,
    figsize: tuple[float, float] | None = None,
    dpi: float | None = None,
    ax: "Axes | None" = None,
    save: str | os.PathLike | None = None,
    show: bool | None = None,
) -> "Axes | None":
    """Draw stream lines along the arrows in an embedding, thicker where the arrows are longer.

    The arrows are averaged on a grid of 50 lines, fewer if there are few cells (:func:`smooth_on_grid`), and followed
    from there. Stream lines are for the plane: an embedding with three dimensions is drawn with the arrows of
    :func:`projection_grid`.

    Parameters
    ----------
    adata
        The cells, with arrows in ``obsm[f"{vkey}_{basis}"]``; not changed.
    basis
        Embedding; see :func:`scatter`.
    vkey
        Name of the arrows: ``"T_fwd"`` (default) or ``"T_bwd"`` for what a kernel's ``plot_projection`` stores.
    density
        How closely the lines lie.
    smooth, min_mass, n_neighbors
        See :func:`smooth_on_grid`; ``smooth`` is 0.8 by default, in three dimensions that of :func:`projection_grid`.
    cutoff_perc
        No lines where the averaged arrows belong to the shortest; in percent of the populated grid points.
    arrow_size, linewidth, arrow_color
        Size of the arrow heads and thickness of the lines (relative to the default), and their colour.
    color, layer, palette, cmap, size, alpha, legend_loc, title, figsize, dpi, ax, save, show
        See :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If the embedding, the arrows or ``color`` do not exist.
    ValueError
        If the arrows do not fit the embedding or an argument is out of range.
    """
    positions, vectors = embedding(adata, basis), arrows(adata, basis, vkey)
    if not 0 <= cutoff_perc < 100:
        raise ValueError(f"Expected `cutoff_perc` to be at least 0 and below 100, found `{cutoff_perc}`.")
    if not 0 < linewidth < np.inf:
        raise ValueError(f"Expected `linewidth` to be positive, found `{linewidth}`.")
    if positions.shape[1] == 3:
        return projection_grid(
            adata,
            basis,
            vkey,
            color=color,
            smooth=0.5 if smooth is None else smooth,
            min_mass=min_mass,
            n_neighbors=n_neighbors,
            arrow_size=arrow_size,
            arrow_color=arrow_color,
            layer=layer,
            palette=palette,
            cmap=cmap,
            size=size,
            alpha=alpha,
            legend_loc=legend_loc,
            title=title,
            figsize=figsize,
            dpi=dpi,
            ax=ax,
            save=save,
            show=show,
        )
    smooth = 0.8 if smooth is None else smooth
    colors = cell_colors(adata, color, palette, layer)
    check_legend(legend_loc)
    check_arrows(positions, vectors, vkey, density=density, smooth=smooth, arrow_size=arrow_size)
    check_neighbors(n_neighbors)
    canvas = Canvas(ax, figsize=figsize, dpi=dpi, save=save, show=show)
    draw_background(canvas.ax, positions, colors, cmap=cmap, size=size, alpha=alpha)
    (x, y), average = smooth_on_grid(
        positions,
        vectors,
        lines=grid_lines(len(positions), 50),
        smooth=smooth,
        min_mass=min_mass,
        n_neighbors=n_neighbors,
    )
    draw_stream(canvas.ax, x, y, average, density, cutoff_perc, arrow_size, linewidth, arrow_color)
    bare(canvas.ax, color_name(colors) if title is None else title)
    draw_legend(canvas.ax, positions, colors, legend_loc)
    return canvas.finish()


def draw_stream(
    ax: Any,
    x: np.ndarray,
    y: np.ndarray,
    average: np.ndarray,
    density: float,
    cutoff_perc: float,
    arrow_size: float,
    linewidth: float,
    color: Any,
) -> None:
    """Draw stream lines through a grid of arrows, NaN where there are none."""
    average = average.transpose(1, 0, 2)  # streamplot has y first
    speed = np.linalg.norm(average, axis=-1)
    known = np.isfinite(speed)
    if not np.any(speed[known] > 0):
        return
    drawn = known & (speed > 0) & (speed >= np.percentile(speed[known], cutoff_perc))
    field = np.where(drawn[..., None], average, np.nan)
    relative = np.where(drawn, np.minimum(speed / np.percentile(speed[drawn], 95), 1.0), 0.0)
    limits = ax.get_xlim(), ax.get_ylim()
    # The density is per side in streamplot; here the lines lie equally close along both.
    sides = np.array([np.ptp(x), np.ptp(y)])
    ax.streamplot(
        x,
        y,
        field[..., 0],
        field[..., 1],
        density=tuple(np.maximum(density * sides / sides.max(), 0.1)),
        linewidth=linewidth * (0.5 + 1.0 * relative),
        arrowsize=arrow_size,
        color=color,
        zorder=4,
    )
    # streamplot shrinks the axes to its grid, which cuts the outermost cells
    ax.set(xlim=limits[0], ylim=limits[1])
