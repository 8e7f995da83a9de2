"""Stream lines of the arrows in an embedding."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ._checks import check_positive
from ._colors import Colors
from ._figure import INK
from ._grid import (
    BACKGROUND_ALPHA,
    BACKGROUND_SIZE,
    LINES,
    Arrows,
    check_smoothing,
    draw_grid,
    grid_lines,
    read_field,
    smooth_on_grid,
)
from ._looks import Looks, picture
from ._panels import draw_embedding

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@picture(alpha=BACKGROUND_ALPHA, legend_loc="on data")
def projection_stream(
    adata: "AnnData",
    basis: str | None = "umap",
    vkey: str = "T_fwd",
    *,
    density: float = 1.5,
    smooth: float | None = None,
    min_mass: float = 5.0,
    cutoff_perc: float = 5.0,
    n_neighbors: int | None = None,
    arrow_size: float = 1.0,
    linewidth: float = 1.0,
    arrow_color: Any = INK,
    recompute: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw stream lines along the arrows in an embedding, thicker where the arrows are longer.

    The arrows are averaged on a grid of 50 lines, fewer if there are few cells (:func:`smooth_on_grid`), and followed
    from there. Stream lines are for the plane: an embedding with three dimensions is drawn with the arrows of
    :func:`projection_grid`.

    Parameters
    ----------
    adata, basis, vkey, recompute
        See :func:`projection_grid`.
    density
        How closely the lines lie.
    smooth, min_mass, n_neighbors
        See :func:`smooth_on_grid`; ``smooth`` is 0.8 by default, in three dimensions that of :func:`projection_grid`.
    cutoff_perc
        No lines where the averaged arrows belong to the shortest; in percent of the populated grid points.
    arrow_size, linewidth, arrow_color
        Size of the arrow heads and thickness of the lines (relative to the default), and their colour.
    looks
        All arguments that concern cells, legend and figure: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one.

    Raises
    ------
    KeyError
        If the embedding, the arrows or ``color`` do not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If the arrows do not fit the embedding or an argument is out of range.

    Examples
    --------
    >>> kernel.add_projection(basis="umap")
    >>> axes = jv.pl.projection_stream(adata, basis="umap", show=False)
    >>> axes.get_title()
    'clusters'
    """
    arrows = Arrows(arrow_size, arrow_color=arrow_color)
    lines = _Lines(density, linewidth, cutoff_perc)
    check_smoothing(0.8 if smooth is None else smooth, n_neighbors)
    embedding, vectors = read_field(adata, basis, vkey, recompute, looks)
    positions, n_dims = embedding.positions, embedding.positions.shape[1]
    smooth = (0.8 if n_dims == 2 else 0.5) if smooth is None else smooth
    grid, average = smooth_on_grid(
        positions,
        vectors,
        lines=grid_lines(len(positions), 50 if n_dims == 2 else LINES[n_dims]),
        smooth=smooth,
        min_mass=min_mass,
        n_neighbors=n_neighbors,
    )

    def over(ax: Any, _: Colors) -> None:
        if n_dims == 3:
            draw_grid(ax, grid, average, arrows)
        else:
            draw_stream(ax, grid, average, lines, arrows)

    return draw_embedding(adata, embedding, looks, enlarged=BACKGROUND_SIZE, over=over)


@dataclasses.dataclass(frozen=True)
class _Lines:
    """How stream lines look, in the user's words."""

    density: float
    linewidth: float
    cutoff_perc: float

    def __post_init__(self) -> None:
        check_positive("density", self.density)
        check_positive("linewidth", self.linewidth)
        if not isinstance(self.cutoff_perc, int | float | np.number) or not 0 <= self.cutoff_perc < 100:
            raise ValueError(f"Expected `cutoff_perc` to be at least 0 and below 100, found `{self.cutoff_perc}`.")


def draw_stream(
    ax: Any, grid: list[Float[np.ndarray, " _"]], average: Float[np.ndarray, "x y 2"], lines: _Lines, arrows: Arrows
) -> None:
    """Draw stream lines through a grid of arrows, NaN where there are none."""
    x, y = grid
    average = average.transpose(1, 0, 2)  # streamplot has y first
    speed = np.linalg.norm(average, axis=-1)
    known = np.isfinite(speed)
    if not np.any(speed[known] > 0):
        return
    drawn = known & (speed > 0) & (speed >= np.percentile(speed[known], lines.cutoff_perc))
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
        density=tuple(np.maximum(lines.density * sides / sides.max(), 0.1)),
        linewidth=lines.linewidth * (0.5 + 1.0 * relative),
        arrowsize=arrows.arrow_size,
        color=arrows.arrow_color,
        zorder=4,
    )
    # streamplot shrinks the axes to its grid, which cuts the outermost cells
    ax.set(xlim=limits[0], ylim=limits[1])
