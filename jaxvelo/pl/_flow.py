"""The picture of the flow out of a cluster over experimental time: a vein plot."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.annotated.outgoing_flow import OutgoingFlow, outgoing_flow
from jaxvelo.configuration import logger

from ._checks import check_opacity
from ._colors import MOST_GROUPS, Palette, grouped
from ._figure import INK, Canvas, Sheet, text_size
from ._legend import legend_place, legend_style, legend_width
from ._looks import picture

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

GAP = 0.16  # between the bands, in units of a band that holds all cells


@picture()
def single_flow(
    adata: "AnnData",
    transition_matrix: sp.spmatrix | sp.sparray | np.ndarray,
    cluster: str,
    cluster_key: str,
    time_key: str,
    clusters: Sequence[Any] | None = None,
    time_points: Sequence[float] | None = None,
    *,
    min_flow: float = 0.0,
    remove_empty_clusters: bool = True,
    ascending: bool | None = False,
    legend_loc: str | None = "upper right out",
    alpha: float = 0.8,
    xticks_step_size: int | None = 1,
    palette: Palette = None,
    title: str | None = None,
    sheet: Sheet,
) -> "Axes | None":
    """Draw the flow out of one cluster over time as a vein plot.

    Every cluster is a band whose thickness is its share of the cells at each time point. From the band of ``cluster``
    ribbons lead to the clusters that its cells go to between one time point and the next
    (:func:`jaxvelo.markov.compute_flow`). A ribbon is as thick as the share of all cells that takes this way: flow
    times share of ``cluster``.

    Parameters
    ----------
    adata
        The cells; not changed.
    transition_matrix
        Transition matrix of shape (cells, cells).
    cluster
        The cluster whose outgoing flow is drawn.
    cluster_key
        Categorical column of ``obs`` with the clusters.
    time_key
        Column of ``obs`` with the experimental time: numbers, or categories that are numbers.
    clusters
        Clusters to look at; all by default. Others are left out before flow and shares are computed. Names that do not
        exist are left out with a warning.
    time_points
        Time points to look at, likewise; all by default.
    min_flow
        Draw flows above this value only, from 0 to 1.
    remove_empty_clusters
        Whether to leave out clusters that nothing flows to.
    ascending
        Order of the clusters by the flow to them, from the middle outwards: largest first by default, smallest first if
        :obj:`True`; :obj:`None` keeps the order of the categories.
    legend_loc
        Place of the legend: one of matplotlib's places, one of these followed by ``" out"`` for outside, such as
        ``"bottom right out"``, or ``"none"``. More than 120 clusters are drawn without a legend.
    alpha
        Opacity of the bands.
    xticks_step_size
        Name every n-th time point; :obj:`None` names none.
    palette, title
        See :func:`scatter`; the title is ``cluster`` by default.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If a column of ``obs`` does not exist.
    TypeError
        If the time is not numeric, or an argument does not exist.
    ValueError
        If ``cluster`` does not exist, fewer than two clusters or time points are left, nothing flows, or the
        transition matrix does not fit the cells.

    Examples
    --------
    >>> adata.obs["day"] = np.digitize(adata.obs["true_time"], [6.0, 12.0, 18.0])
    >>> axes = jv.pl.single_flow(adata, kernel.transition_matrix, "Intermediate", "clusters", "day", show=False)
    >>> axes.get_xlabel()
    'day'
    """
    check_opacity("alpha", alpha)
    place = legend_place(legend_loc)
    if place.kind == "data":
        raise ValueError("Expected `legend_loc` to be 'none' or a place of a legend, found 'on data'.")
    if xticks_step_size is not None and (not isinstance(xticks_step_size, int | np.integer) or xticks_step_size < 1):
        raise ValueError(f"Expected `xticks_step_size` to be None or at least 1, found `{xticks_step_size}`.")
    groups = grouped(adata, cluster_key, palette)
    flow = outgoing_flow(adata, transition_matrix, cluster, cluster_key, time_key, clusters, time_points)
    kept = flow.clusters
    if remove_empty_clusters:
        kept = [i for i in kept if i == flow.source or np.any(flow.outgoing[:, i] > min_flow)]
        if len(kept) < 2:
            raise ValueError(
                f"Expected flow from `{cluster}` to another cluster above `min_flow={min_flow}`, found none. Lower "
                "`min_flow`, or draw the clusters alone with `remove_empty_clusters=False`."
            )

    bands = _order_bands(kept, flow.source, flow.outgoing, ascending)
    names = [groups.names[i] for i in reversed(bands)] if place.kind != "none" else []
    if len(names) > MOST_GROUPS:
        logger.warning("Drawing without a legend: %d clusters are more than the %d that fit", len(names), MOST_GROUPS)
        names = []
    room = max(0.0, legend_width(names) - 1.6) if place.kind == "outside" else 0.0
    canvas = Canvas(sheet, default_size=(8.0, 4.8), room=room)
    colors = [groups.colors[i] for i in bands]
    veins = _Veins(flow, bands, colors, min_flow, alpha)
    with canvas:
        _draw_veins(canvas.ax, veins)
        _label(canvas.ax, veins, xticks_step_size)
        canvas.ax.set_xlabel(time_key, color=INK, fontsize=text_size(11))
        canvas.ax.set_title(str(cluster) if title is None else title, color=INK, fontsize=text_size(13))
        if names:
            from matplotlib.patches import Patch

            handles = [
                Patch(color=color, alpha=alpha, label=name) for color, name in zip(reversed(colors), names, strict=True)
            ]
            style = {"frameon": False, "labelcolor": INK, "handlelength": 1.0, **legend_style(len(names))}
            canvas.ax.legend(handles=handles, **style, **place.arguments)
        return canvas.finish()


def _order_bands(
    kept: list[int], source: int, outgoing: Float[np.ndarray, "steps clusters"], ascending: bool | None
) -> list[int]:
    """Order the bands from bottom to top: the source in the middle, the others alternately below and above."""
    others = [i for i in kept if i != source]
    if ascending is None:
        half = len(others) // 2
        return [*others[:half], source, *others[half:]]
    total = outgoing.sum(axis=0)
    others.sort(key=lambda i: total[i] if ascending else -total[i])
    return [*others[0::2][::-1], source, *others[1::2]]


@dataclasses.dataclass(frozen=True)
class _Veins:
    """What is drawn: the clusters of ``bands``, from bottom to top, each in its colour."""

    flow: OutgoingFlow
    bands: list[int]
    colors: list[str]
    min_flow: float
    alpha: float

    @property
    def x(self) -> Float[np.ndarray, " points"]:
        """The time points; the closest are one unit apart."""
        times = self.flow.times
        return (times - times[0]) / np.min(np.diff(times))


def _draw_veins(ax: Any, veins: _Veins) -> None:
    """Draw the bands, stacked from bottom to top, and the ribbons between them."""
    from scipy.interpolate import PchipInterpolator

    x, colors, alpha, min_flow = veins.x, veins.colors, veins.alpha, veins.min_flow
    shares, outgoing = veins.flow.shares[:, veins.bands], veins.flow.outgoing[:, veins.bands]
    source = veins.bands.index(veins.flow.source)
    # Monotone between the points: a band never gets thicker than its neighbours in time, nor negative.
    half = PchipInterpolator(x, 0.5 * shares, axis=0)
    fine = np.linspace(x[0], x[-1], 60 * len(x))
    halves = half(fine)
    middle = np.concatenate([[0.0], np.cumsum(GAP + (halves[:, 1:] + halves[:, :-1]).max(axis=0))])
    for band, color in enumerate(colors):
        low, high = middle[band] - halves[:, band], middle[band] + halves[:, band]
        ax.fill_between(fine, low, high, color=color, alpha=alpha, linewidth=0, zorder=2)
    ax.margins(0.02)
    limits = ax.get_xlim(), ax.get_ylim()

    for k in range(len(outgoing)):
        for side in (-1, 1):
            reach = [band for band in range(len(colors)) if (band - source) * side > 0 and outgoing[k, band] > min_flow]
            edge = 0.5 * shares[k, source]
            # The farthest target takes the outermost strip of the source, so that no two ribbons cross.
            for band in sorted(reach, key=lambda band: -abs(band - source)):
                width = outgoing[k, band] * shares[k, source]
                start = middle[source] + side * np.array([edge - width, edge])
                edge -= width
                outer = middle[band] - side * 0.5 * shares[k + 1, band]
                stop = outer + side * np.array([0.0, min(width, shares[k + 1, band])])
                shades = colors[source], colors[band]
                _draw_ribbon(ax, _Ribbon((x[k], x[k + 1]), start, stop, shades, alpha))
    ax.set(xlim=limits[0], ylim=limits[1])


@dataclasses.dataclass(frozen=True)
class _Ribbon:
    """From one place to another, both from the inner to the outer edge: where, and in which colours."""

    span: tuple[float, float]
    start: Float[np.ndarray, " 2"]
    stop: Float[np.ndarray, " 2"]
    colors: tuple[str, str]
    alpha: float


def _draw_ribbon(ax: Any, ribbon: _Ribbon) -> None:
    """Draw a band that bends from one place to another and changes its colour on the way."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Polygon

    way = np.linspace(0.0, 1.0, 80)
    span = ribbon.span
    x = span[0] + way * (span[1] - span[0])
    bend = (way**3 * (10 - 15 * way + 6 * way**2))[:, None]  # flat at both ends
    inner, outer = ((1 - bend) * ribbon.start + bend * ribbon.stop).T
    outline = np.concatenate([np.stack([x, inner], axis=1), np.stack([x, outer], axis=1)[::-1]])
    shape = Polygon(outline, closed=True, transform=ax.transData, facecolor="none", edgecolor="none")
    ax.add_artist(shape)  # not as a patch: finding out how far each reaches takes longer than all the rest
    before, after = map(to_rgb, ribbon.colors)
    shade = (1 - way[:, None]) * before + way[:, None] * np.array(after)
    # It grows out of one band and melts into the other, without an edge in either.
    opacity = 0.9 * ribbon.alpha * np.minimum(1.0, np.minimum(way / 0.3, (1 - way) / 0.15))
    shade = np.concatenate([shade, opacity[:, None]], axis=1)
    image = ax.imshow(
        shade[None],
        extent=(*span, outline[:, 1].min(), outline[:, 1].max()),
        aspect="auto",
        origin="lower",
        interpolation="bilinear",
        zorder=3,
    )
    image.set_clip_path(shape)


def _label(ax: Any, veins: _Veins, step: int | None) -> None:
    """Name the time points below the picture."""
    shown = slice(0, 0) if step is None else slice(None, None, step)
    ax.set_xticks(veins.x[shown], [f"{point:g}" for point in veins.flow.times[shown]])
    ax.set_yticks([])
    ax.tick_params(length=0, labelcolor=INK, labelsize=text_size(10))
    ax.spines[:].set_visible(False)
