"""Random walks in an embedding."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from ._checks import check_opacity, check_positive, checked_cmap
from ._colors import Colors
from ._embedding import finite_rows, read_positions
from ._figure import INK, text_size
from ._legend import Place, legend_place
from ._looks import Looks, picture
from ._panels import cell_size, draw_embedding

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

BESIDE = {"loc": "lower left", "bbox_to_anchor": (1.01, 0.0), "borderaxespad": 0.0}


@picture(alpha=0.3)
def random_walks(
    adata: "AnnData",
    walks: Sequence[Int[np.ndarray, " _"]],
    basis: str | None = "umap",
    *,
    cmap: Any = "gnuplot",
    linewidth: float = 1.0,
    linealpha: float = 0.3,
    ixs_legend_loc: Any = None,
    color_map: Any = None,
    looks: Looks,
) -> "Axes | list[Axes] | None":
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
        any of matplotlib's places inside, such as ``"lower left"``; as in CellRank, with ``" out"`` behind it for
        beside the picture, such as ``"top right out"``.
    color_map
        Colour map of the cells, if they are coloured by numbers.
    looks
        All other arguments that concern cells, legend and figure: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one.

    Raises
    ------
    KeyError
        If the embedding or ``color`` does not exist.
    IndexError
        If a walk visits a cell that does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If there are no walks, or a walk is empty, no one-dimensional array of integers, or a mask of cells.

    Examples
    --------
    >>> walks = kernel.random_walks(n_sims=5, max_iter=20, seed=0)
    >>> axes = jv.pl.random_walks(adata, walks, show=False)
    >>> axes.get_title()
    'clusters'
    """
    embedding = read_positions(adata, basis, looks.components, looks.projection)
    positions = embedding.positions
    looks = dataclasses.replace(looks, scale=dataclasses.replace(looks.scale, cmap=color_map))
    paths = _checked_walks(walks, adata.n_obs)
    ends_place = legend_place(ixs_legend_loc, "ixs_legend_loc") if ixs_legend_loc is not None else None
    if ends_place is not None and ends_place.kind == "data":
        raise ValueError("Expected `ixs_legend_loc` to be None, 'none' or a place of a legend, found 'on data'.")
    lines = _Lines(checked_cmap("cmap", cmap), linewidth, linealpha)
    finite = finite_rows(positions)
    paths = [path[finite[path]] for path in paths]
    paths = [path for path in paths if len(path)]
    marker = 1.6 * (cell_size(int(finite.sum())) if looks.size is None else looks.size) + 8.0

    def over(ax: Any, _: Colors) -> None:
        if paths:
            _draw_lines(ax, positions, paths, lines)
            _draw_ends(ax, positions, paths, lines.cmap, marker)
        _draw_ends_legend(ax, lines.cmap, ends_place)

    return draw_embedding(adata, embedding, looks, over=over)


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
        if len(path) == n_cells and set(np.unique(path)) == {0, 1}:
            raise ValueError(
                f"Expected `walks[{i}]` to hold the indices of cells, found as many numbers as there are cells, all of "
                "them 0 or 1. If this is a mask, pass `np.flatnonzero(mask)`."
            )
        if path.min() < 0 or path.max() >= n_cells:
            raise IndexError(
                f"Expected `walks[{i}]` to visit cells 0 to {n_cells - 1}, found {path.min()} to {path.max()}."
            )
    return paths


@dataclasses.dataclass(frozen=True)
class _Lines:
    """How walks are drawn."""

    cmap: Any
    linewidth: float
    linealpha: float

    def __post_init__(self) -> None:
        check_positive("linewidth", self.linewidth)
        check_opacity("linealpha", self.linealpha)


def _draw_lines(
    ax: Any, positions: Float[np.ndarray, "cells dims"], paths: list[Int[np.ndarray, " _"]], look: _Lines
) -> None:
    """Draw all walks as one collection of segments, coloured by how much of its walk lies behind each."""
    from matplotlib.collections import LineCollection
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    segments = [np.stack([positions[path[:-1]], positions[path[1:]]], axis=1) for path in paths]
    progress = np.concatenate([np.linspace(0.0, 1.0, len(steps)) for steps in segments])
    style: dict[str, Any] = {"cmap": look.cmap, "linewidths": look.linewidth, "alpha": look.linealpha, "zorder": 3}
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


def _draw_ends_legend(ax: Any, cmap: Any, place: Place | None) -> None:
    """Explain the marks of start and stop, in a legend of its own."""
    if place is not None and place.kind == "none":
        return
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 7, "markeredgewidth": 0.8}
    handles = [
        Line2D([], [], markerfacecolor=cmap(0.0), markeredgecolor="white", label="start", **style),
        Line2D([], [], markerfacecolor=cmap(1.0), markeredgecolor=INK, label="stop", **style),
    ]
    where: dict[str, Any] = BESIDE if place is None else place.arguments
    look: dict[str, Any] = {"frameon": False, "fontsize": text_size(10), "labelcolor": INK, "handletextpad": 0.2}
    ax.legend(handles=handles, **look, **where).set_gid("ends")
