"""The picture of the transition matrix between macrostates, and of their stationary and initial distributions."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.names import text_of
from jaxvelo.configuration import logger

from ._checks import checked_cmap
from ._figure import INK, Canvas, Sheet, text_size
from ._heat_map import draw_heat_map
from ._looks import picture

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

REMEDY = "Compute it with `GPCCA.compute_macrostates()` of two or more states."
ORDERS = ("stability", "incoming", "outgoing", "stat_dist")
BAR = "#4a7fb0"


@picture()
def coarse_T(
    adata: "AnnData",
    show_stationary_dist: bool = True,
    show_initial_dist: bool = False,
    order: Literal["stability", "incoming", "outgoing", "stat_dist"] | None = "stability",
    cmap: Any = "viridis",
    xtick_rotation: float = 45,
    annotate: bool = True,
    show_cbar: bool = True,
    title: str | None = "transitions between macrostates",
    *,
    text_kwargs: Mapping[str, Any] = MappingProxyType({}),
    backward: bool = False,
    sheet: Sheet,
) -> "Axes | None":
    """Draw the transition matrix between macrostates as a heat map, with their distributions as bars beside it.

    Parameters
    ----------
    adata
        The cells, with the matrix as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes it; not changed.
    show_stationary_dist, show_initial_dist
        Whether to draw the shares of the states in the long run and at the start.
    order
        Order of the states, smallest first: by the probability to stay (``"stability"``), by what comes from others
        (``"incoming"``) or goes to others (``"outgoing"``), or by the stationary distribution (``"stat_dist"``).
        :obj:`None` leaves the order of the macrostates.
    cmap
        Colour map.
    xtick_rotation
        Angle of the states' names below the matrix.
    annotate
        Whether to write the numbers.
    show_cbar
        Whether to draw a colour bar.
    title
        Title.
    text_kwargs
        How numbers are written; ``fontsize`` is known.
    backward
        Whether the states are those of a process backward in time.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes of the matrix if ``show=False`` or ``ax`` was given; the bars are axes in it.

    Raises
    ------
    KeyError
        If there is no coarse transition matrix.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> axes = jv.pl.coarse_T(adata, show=False)
    >>> axes.get_title()
    'transitions between macrostates'
    """
    cmap = checked_cmap("cmap", cmap)
    if order not in (None, *ORDERS):
        raise ValueError(f"Expected `order` to be None or one of {list(ORDERS)}, found `{order!r}`.")
    if set(text_kwargs) - {"fontsize"}:
        raise TypeError(f"Expected nothing but `fontsize` in `text_kwargs`, found {sorted(text_kwargs)}.")
    coarse = _read(adata, FateKeys(backward).coarse)
    shares = {"stationary": coarse.stationary} if show_stationary_dist else {}
    shares |= {"initial": coarse.initial} if show_initial_dist else {}
    absent = [name for name, values in shares.items() if values is None]
    if absent:
        logger.warning("No %s distribution of the macrostates is stored: drawing without", " and ".join(absent))
    places = _ordered(coarse, order)
    n = len(places)
    known = {name: values[places] for name, values in shares.items() if values is not None}
    matrix = coarse.matrix[np.ix_(places, places)]
    names = [coarse.names[i] for i in places]
    limits = float(np.nanmin(matrix)), float(np.nanmax(matrix))
    side = max(3.0, 0.52 * n)
    canvas = Canvas(sheet.of_size(side + 1.9 + 1.0 * len(known) + 0.6 * show_cbar, 0.86 * side + 1.5))
    with canvas:
        ax = canvas.ax
        image = draw_heat_map(
            ax, matrix, cmap, limits=limits, form=".2f" if annotate else None, fontsize=text_kwargs.get("fontsize")
        )
        size = text_size(10 if n <= 12 else 8)
        ax.set_yticks(range(n), names, fontsize=size)
        slanted: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if xtick_rotation % 90 else {}
        ax.set_xticks(range(n), names, fontsize=size, rotation=xtick_rotation, **slanted)
        ax.set_ylabel("from", color=INK, fontsize=text_size(10))
        ax.set_xlabel("to", color=INK, fontsize=text_size(10))
        if title:
            ax.set_title(title, color=INK, fontsize=text_size(13), pad=24 if known else 6)
        for k, (name, values) in enumerate(known.items()):
            _draw_bars(ax.inset_axes((1.03 + 0.27 * k, 0.0, 0.24, 1.0)), values, name, annotate, size)
        if show_cbar:
            bar = ax.inset_axes((1.05 + 0.27 * len(known), 0.15, 0.035, 0.7))
            ax.figure.colorbar(image, cax=bar).outline.set_visible(False)
            bar.tick_params(length=0, labelsize=text_size(9), labelcolor=INK)
        return canvas.finish()


@dataclasses.dataclass(frozen=True)
class _Coarse:
    """What is stored of the transitions between macrostates."""

    names: list[str]
    matrix: Float[np.ndarray, "states states"]
    stationary: Float[np.ndarray, " states"] | None
    initial: Float[np.ndarray, " states"] | None


def _read(adata: "AnnData", key: str) -> _Coarse:
    stored = require_key(adata.uns, key, "adata.uns", REMEDY)
    if not hasattr(stored, "obs_names"):
        raise ValueError(
            f"Expected an AnnData object of the macrostates in `adata.uns[{key!r}]`, found "
            f"`{type(stored).__name__}`. {REMEDY}"
        )
    columns = [
        stored.obs[name].to_numpy(dtype=float) if name in stored.obs else None
        for name in ("coarse_stat_dist", "coarse_init_dist")
    ]
    return _Coarse([text_of(name) for name in stored.obs_names], dense(stored.X).astype(float), *columns)


def _ordered(coarse: _Coarse, order: str | None) -> Int[np.ndarray, " states"]:
    """Give the states in an order, smallest first."""
    stays = np.diag(coarse.matrix)
    if order is None:
        return np.arange(len(stays))
    if order == "stat_dist" and coarse.stationary is None:
        logger.warning("No stationary distribution of the macrostates is stored: ordering by `'stability'`")
        order = "stability"
    values = {
        "stability": stays,
        "incoming": coarse.matrix.sum(axis=0) - stays,
        "outgoing": coarse.matrix.sum(axis=1) - stays,
        "stat_dist": coarse.stationary,
    }[order]
    return np.argsort(values, kind="stable")


def _draw_bars(ax: Any, values: Float[np.ndarray, " states"], name: str, annotate: bool, size: float) -> None:
    """Draw a bar for each row of the matrix beside it, with its number where it ends."""
    rows = np.arange(len(values))
    ax.barh(rows, values, height=0.7, color=BAR, linewidth=0)
    high = max(float(np.nanmax(values)), 1e-12)
    ax.set(
        ylim=(len(values) - 0.5, -0.5), xlim=(min(0.0, float(np.nanmin(values))), high * (1.7 if annotate else 1.05))
    )
    for row, value in zip(rows, values, strict=True) if annotate else ():
        ax.text(max(value, 0.0) + 0.04 * high, row, f"{value:.2f}", va="center", fontsize=0.9 * size, color=INK)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(name, color=INK, fontsize=text_size(10), pad=4)
