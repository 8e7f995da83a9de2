"""Arrows in an embedding: smoothed onto a regular grid, or one for each cell."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from ._checks import check_color, check_positive
from ._colors import Categorical, Colors, PerCell
from ._embedding import Embedding, finite_rows, read_arrows, read_positions
from ._figure import INK
from ._looks import Looks, picture
from ._panels import draw_embedding

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

# Cells under arrows are larger and paler than cells on their own: a background, not the subject.
BACKGROUND_ALPHA = 0.35
BACKGROUND_SIZE = 2.5
LINES = {2: 34, 3: 14}  # grid lines along the longest side at density 1, by number of dimensions


def grid_lines(n_cells: int, most: int) -> int:
    """Give the number of grid lines: fewer for few cells, whose neighbourhoods would not touch on a fine grid."""
    return min(most, max(8, round(4 * n_cells**0.5)))


def smooth_on_grid(
    positions: Float[np.ndarray, "cells dims"],
    vectors: Float[np.ndarray, "cells dims"],
    *,
    lines: int = 50,
    smooth: float = 0.5,
    min_mass: float = 5.0,
    n_neighbors: int | None = None,
) -> tuple[list[Float[np.ndarray, " _"]], Float[np.ndarray, "*grid dims"]]:
    r"""Average the cells' arrows on the points of a regular grid.

    With the grid's spacing :math:`h` and :math:`d_{gi}` the distance from grid point :math:`g` to cell :math:`i`,

    .. math::
        V_g = \frac{\sum_i w_{gi} v_i}{\sum_i w_{gi}}, \qquad
        w_{gi} = \exp\left(-\frac{d_{gi}^2}{2 (\mathrm{smooth} \cdot h)^2}\right),

    summed over the cells nearest to the grid point. (scVelo divides by :math:`\max(1, \sum_i w_{gi})` with weights that
    depend on the embedding's units; this average does not.)

    Parameters
    ----------
    positions
        Coordinates of the cells. Cells that are not finite, or whose arrows are not, are left out.
    vectors
        Arrows of the cells.
    lines
        Number of grid lines along the longest side; the spacing is the same along the others.
    smooth
        Width of the Gaussian in units of the spacing.
    min_mass
        Points with less than this percentage of the weight of a densely populated point (the 99th percentile of
        :math:`\sum_i w_{gi}`) are taken as empty.
    n_neighbors
        How many cells to average over at most: 2 % of the cells by default, between 10 and 500.

    Returns
    -------
    list of arrays
        The grid's coordinates along each dimension.
    array of shape (\*lengths of these, dims)
        The averages; NaN where there are no cells.

    Examples
    --------
    >>> kernel.add_projection(basis="umap")
    >>> ticks, arrows = jv.pl.smooth_on_grid(adata.obsm["X_umap"], adata.obsm["T_fwd_umap"], lines=20)
    >>> [len(places) for places in ticks], arrows.shape
    ([20, 20], (20, 20, 2))
    """
    finite = finite_rows(positions, vectors)
    positions, vectors = positions[finite], vectors[finite]
    n_cells, n_dims = positions.shape
    low, span = positions.min(axis=0), np.ptp(positions, axis=0)
    spacing = (np.max(span) or 1.0) / (lines - 1)
    axes = []
    for start, length in zip(low, span, strict=True):
        n = max(2, int(np.ceil(length / spacing - 1e-9)) + 1)
        axes.append(start + 0.5 * length + spacing * (np.arange(n) - 0.5 * (n - 1)))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    if n_neighbors is None:
        n_neighbors = int(np.clip(n_cells // 50, 10, 500))
    n_neighbors = min(n_neighbors, n_cells)
    distances, neighbors = cKDTree(positions).query(points.reshape(-1, n_dims), k=np.arange(1, n_neighbors + 1))
    weights = np.exp(-0.5 * (distances / (smooth * spacing)) ** 2)
    mass = weights.sum(axis=1)
    populated = mass > max(0.01 * min_mass * np.percentile(mass, 99), np.finfo(float).tiny)
    average = np.full((len(mass), n_dims), np.nan)
    average[populated] = (
        np.einsum("gn,gnd->gd", weights[populated], vectors[neighbors[populated]]) / mass[populated, None]
    )
    return axes, average.reshape(points.shape)


@picture(alpha=BACKGROUND_ALPHA, legend_loc="on data")
def projection_grid(
    adata: "AnnData",
    basis: str | None = "umap",
    vkey: str = "T_fwd",
    *,
    density: float = 1.0,
    smooth: float = 0.5,
    min_mass: float = 5.0,
    n_neighbors: int | None = None,
    arrow_size: float = 1.0,
    arrow_length: float = 1.0,
    arrow_color: Any = INK,
    recompute: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw arrows in an embedding, averaged on a regular grid (:func:`smooth_on_grid`).

    Parameters
    ----------
    adata
        The cells, with arrows in ``obsm[f"{vkey}_{basis}"]``, or with a velocity graph in ``uns[f"{vkey}_graph"]`` to
        compute them from; not changed.
    basis
        Embedding with two or three dimensions; see :func:`scatter`.
    vkey
        Name of the arrows: ``"T_fwd"`` (default) or ``"T_bwd"`` for what a kernel's ``plot_projection`` stores,
        ``"velocity"`` for what :func:`jaxvelo.tl.velocity_embedding` does.
    density
        1 puts 34 grid lines along the longer side (14 in three dimensions), fewer if there are few
        cells.
    smooth, min_mass, n_neighbors
        See :func:`smooth_on_grid`.
    arrow_size, arrow_length, arrow_color
        Thickness and length (relative to the default) and colour of the arrows. Only relative lengths mean something:
        by default 95 % of the arrows are shorter than 1.3 times the grid's spacing.
    recompute
        Whether to compute the arrows from the velocity graph although there are some.
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
    >>> axes = jv.pl.projection_grid(adata, basis="umap", color="true_time", show=False)
    >>> axes.get_title()
    'true_time'
    """
    arrows = Arrows(arrow_size, arrow_length, arrow_color)
    check_positive("density", density)
    check_smoothing(smooth, n_neighbors)
    embedding, vectors = read_field(adata, basis, vkey, recompute, looks)
    positions = embedding.positions
    lines = max(2, round(grid_lines(len(positions), LINES[positions.shape[1]]) * density))
    grid, average = smooth_on_grid(
        positions, vectors, lines=lines, smooth=smooth, min_mass=min_mass, n_neighbors=n_neighbors
    )

    def over(ax: Any, _: Colors) -> None:
        draw_grid(ax, grid, average, arrows)

    return draw_embedding(adata, embedding, looks, enlarged=BACKGROUND_SIZE, over=over)


@picture(alpha=BACKGROUND_ALPHA)
def projection_cells(
    adata: "AnnData",
    basis: str | None = "umap",
    vkey: str = "T_fwd",
    *,
    density: float = 1.0,
    arrow_size: float = 1.0,
    arrow_length: float = 1.0,
    recompute: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw one arrow for each cell in an embedding, in the cell's colour.

    Parameters
    ----------
    adata, basis, vkey, recompute
        See :func:`projection_grid`.
    density
        Share of the cells whose arrows are drawn, above 0 and up to 1; chosen at random, the same each time.
    arrow_size, arrow_length
        Thickness and length of the arrows, relative to the default: 95 % of them shorter than 4 % of the picture.
    looks
        All arguments that concern cells, legend and figure: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`projection_grid`.

    Examples
    --------
    >>> kernel.add_projection(basis="umap")
    >>> axes = jv.pl.projection_cells(adata, basis="umap", show=False)
    >>> axes.get_title()
    'clusters'
    """
    arrows = Arrows(arrow_size, arrow_length)
    check_positive("density", density)
    if density > 1:
        raise ValueError(f"Expected `density` to be a share of the cells, at most 1, found `{density}`.")
    embedding, vectors = read_field(adata, basis, vkey, recompute, looks)
    positions = embedding.positions
    cells = np.flatnonzero(finite_rows(positions, vectors))
    if density < 1:
        n_drawn = max(1, round(density * len(cells)))
        cells = np.sort(np.random.default_rng(0).permutation(cells)[:n_drawn])
    longest = 0.04 * np.max(np.ptp(positions[cells], axis=0))

    def over(ax: Any, colors: Colors) -> None:
        shades: Any = INK
        if isinstance(colors, Categorical | PerCell):
            own = colors.rgba() if isinstance(colors, Categorical) else colors.colors
            shades = 0.75 * own[cells] + 0.25 * np.array([0.0, 0.0, 0.0, 1.0])  # darker than the cell under it
        draw_arrows(ax, positions[cells], vectors[cells], arrows.scaled(0.7, longest, shades))

    return draw_embedding(adata, embedding, looks, enlarged=BACKGROUND_SIZE, over=over)


def read_field(
    adata: "AnnData", basis: str | None, vkey: str, recompute: bool, looks: Looks
) -> tuple[Embedding, Float[np.ndarray, "cells dims"]]:
    """Read an embedding and the arrows on it; raise if no cell has a place and an arrow."""
    embedding = read_positions(adata, basis, looks.components, looks.projection)
    vectors = read_arrows(adata, embedding, vkey, recompute)
    if not finite_rows(embedding.positions, vectors).any():
        raise ValueError(
            f"Expected cells with a finite place and a finite arrow in `{vkey}`, found none in {len(vectors)} cells. "
            "Compute the projection again."
        )
    return embedding, vectors


def check_smoothing(smooth: float, n_neighbors: int | None) -> None:
    """Raise if an argument of :func:`smooth_on_grid` cannot be used."""
    check_positive("smooth", smooth)
    if n_neighbors is not None and (not isinstance(n_neighbors, int | np.integer) or n_neighbors < 1):
        raise ValueError(f"Expected `n_neighbors` to be a positive integer or None, found `{n_neighbors!r}`.")


@dataclasses.dataclass(frozen=True)
class Arrows:
    """How arrows look: thickness and length, as the user gives them relative to the default, and colour."""

    arrow_size: float = 1.0
    arrow_length: float = 1.0
    arrow_color: Any = INK

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_positive("arrow_size", self.arrow_size)
        check_positive("arrow_length", self.arrow_length)
        check_color("arrow_color", self.arrow_color)

    def scaled(self, width: float, length: float, color: Any = None) -> "ScaledArrows":
        """Give the arrows for a default width and length, in the user's colour or another."""
        color = self.arrow_color if color is None else color
        return ScaledArrows(width * self.arrow_size, length * self.arrow_length, color)


@dataclasses.dataclass(frozen=True)
class ScaledArrows:
    """How arrows look in a picture.

    Attributes
    ----------
    width
        In points.
    length
        Of the 95th percentile of the arrows, in the embedding's units.
    color
        A colour, or one for each arrow, of shape (arrows, 4).
    """

    width: float
    length: float
    color: Any


def draw_grid(
    ax: Any, grid: list[Float[np.ndarray, " _"]], average: Float[np.ndarray, "*grid dims"], arrows: Arrows
) -> None:
    """Draw the arrows of the populated points of a grid."""
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
    populated = np.isfinite(average).all(axis=-1)
    spacing = grid[0][1] - grid[0][0]
    draw_arrows(ax, points[populated], average[populated], arrows.scaled(1.0, 1.3 * spacing))


def draw_arrows(
    ax: Any,
    positions: Float[np.ndarray, "arrows dims"],
    vectors: Float[np.ndarray, "arrows dims"],
    look: ScaledArrows,
) -> None:
    """Draw arrows; those that would be dots, or cross the picture, are left out or cut."""
    speed = np.linalg.norm(vectors, axis=1)
    if not np.any(speed > 0):
        return
    reference = np.percentile(speed[speed > 0], 95)
    moving = speed > 0.05 * reference  # shorter ones would be dots
    vectors = vectors[moving] * (look.length / reference)
    # One arrow much longer than the rest would cross the picture: none is drawn longer than 1.5 times the reference.
    vectors = vectors * np.minimum(1.0, 1.5 * reference / speed[moving])[:, None]
    color = look.color
    color = color[moving] if isinstance(color, np.ndarray) and color.ndim == 2 else color
    if ax.name == "3d":
        # Each arrow is three lines there, and their colours are asked for in this order.
        colors = np.concatenate([color, np.repeat(color, 2, axis=0)]) if isinstance(color, np.ndarray) else color
        ax.quiver(*positions[moving].T, *vectors.T, linewidths=look.width, colors=colors, arrow_length_ratio=0.35)
        return
    ax.quiver(
        *positions[moving].T,
        *vectors.T,
        color=color,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        units="dots",
        width=look.width * ax.figure.figure.dpi / 72,
        headwidth=4.5,
        headlength=5.0,
        headaxislength=4.2,
        minlength=0.5,
        zorder=4,
    )
