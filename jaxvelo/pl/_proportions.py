"""The picture of how many of the counts are spliced, unspliced and ambiguous, in all and by cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxvelo.annotated.count_proportions import read_proportions
from jaxvelo.configuration import logger

from ._checks import check_color
from ._colors import MOST_GROUPS
from ._figure import INK, Canvas, Sheet, text_size
from ._heat_map import ink_on
from ._looks import picture

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

COLORS = ("#4a7fb0", "#f2b36d", "#b9b9b9", "#8fb996", "#c8553d", "#7a5195")
LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": INK, "handlelength": 0.9, "handleheight": 0.9}
MOST_HEIGHT = 20.0  # inches; more groups have thinner bars


@picture()
def proportions(
    adata: "AnnData",
    groupby: str = "clusters",
    *,
    layers: Sequence[str] | None = None,
    colors: Sequence[Any] | None = None,
    title: str | None = None,
    sheet: Sheet,
) -> "Axes | None":
    """Draw the shares of spliced, unspliced and ambiguous counts: a pie of all cells, and a bar for each group.

    Parameters
    ----------
    adata, groupby, layers
        See :func:`count_proportions`.
    colors
        One colour for each layer.
    title
        Title.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`. With many groups the bars become thin,
        and more than 120 have no names. On the caller's ``ax`` there is no room for the pie: a legend takes its place.

    Returns
    -------
    Axes or None
        The axes of the bars if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If ``groupby`` or a layer does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If there are no counts, or too few colours.

    Examples
    --------
    >>> axes = jv.pl.proportions(counts, groupby="clusters", show=False)
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['Progenitor', 'Intermediate', 'Fate A', 'Fate B']
    """
    shares = read_proportions(adata, groupby, layers)
    shades = list(COLORS if colors is None else colors)
    if len(shades) < len(shares.layers):
        raise ValueError(
            f"Expected `colors` to hold {len(shares.layers)} colours for {shares.layers}, found {len(shades)}."
        )
    for shade in shades:
        check_color("colors", shade)
    present = np.flatnonzero(shares.n_cells)
    groups = [shares.groups[i] for i in present]
    thickness = min(0.34, (MOST_HEIGHT if len(present) <= MOST_GROUPS else 8.0) / len(present))
    canvas = Canvas(sheet, default_size=(8.0, max(2.4, thickness * len(present) + 0.7)))
    with canvas:
        _draw_bars(canvas.ax, shares.by_group[present], shares.layers, shades, groups, thickness)
        if canvas.own:
            # Left of the bars, at most as high as they are and half as wide; the pie keeps its circle in there.
            high = min(1.0, 5.0 / canvas.ax.figure.get_figheight())
            _draw_pie(canvas.ax.inset_axes((-0.62, 1.0 - high, 0.55, high)), shares.total, shares.layers, shades)
        else:
            legend = {**LEGEND, "fontsize": text_size(10)}
            canvas.ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(shares.layers), **legend)
        if title is not None:
            canvas.ax.set_title(title, color=INK, fontsize=text_size(13))
        return canvas.finish()


def _draw_bars(
    ax: Any,
    shares: Float[np.ndarray, "groups layers"],
    names: list[str],
    shades: list[Any],
    groups: list[str],
    thickness: float,
) -> None:
    """Draw one stacked bar for each group, the first at the top, with percentages in the parts that have room."""
    from matplotlib.colors import to_rgb

    rows = np.arange(len(groups))
    left = np.zeros(len(groups))
    largest = 72 * 0.7 * thickness  # of a text in a row, in points
    named = len(groups) <= MOST_GROUPS
    for part, name, shade in zip(shares.T, names, shades, strict=False):
        ink = ink_on(to_rgb(shade))
        ax.barh(rows, part, left=left, color=shade, height=0.78 if named else 1.0, label=name, linewidth=0)
        for row in np.flatnonzero(part >= 0.06) if largest >= 7 else ():
            ax.text(
                left[row] + part[row] / 2, row, f"{part[row]:.0%}", ha="center", va="center", color=ink,
                fontsize=min(text_size(9), largest),
            )  # fmt: skip
        left = left + part
    ax.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5), xticks=[])
    ax.yaxis.tick_right()
    ax.set_yticks(rows if named else [], groups if named else [], fontsize=min(text_size(10), largest), color=INK)
    if not named:
        logger.warning("Drawing %d groups without their names: no more than %d fit", len(groups), MOST_GROUPS)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _draw_pie(ax: Any, total: Float[np.ndarray, " layers"], names: list[str], shades: list[Any]) -> None:
    """Draw the shares of all cells, named and with percentages."""
    wedges, _ = ax.pie(
        total,
        colors=shades[: len(names)],
        startangle=90,
        counterclock=False,
        wedgeprops={"linewidth": 1.5, "edgecolor": "white"},
    )
    ax.legend(
        wedges,
        [f"{name} {share:.0%}" for name, share in zip(names, total, strict=True)],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.04),
        fontsize=text_size(10),
        **LEGEND,
    )
