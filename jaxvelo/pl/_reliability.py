"""The picture of whether probabilities mean what they say: predicted against observed shares."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxvelo.annotated.arguments import listed

from ._figure import INK, Canvas, Sheet, text_size
from ._looks import picture
from ._plain_axes import dress_axes, legend_look
from ._states import state_palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ["predicted", "observed", "count"]
Z = 1.96  # of the normal distribution, for intervals of 95 %


@picture()
def reliability(
    tables: "pd.DataFrame | Mapping[str, pd.DataFrame]",
    title: str | None = "reliability",
    *,
    colors: Any = None,
    sheet: Sheet,
) -> "Axes | None":
    r"""Draw how often what was predicted with a probability came true: on the diagonal, as often as predicted.

    Above stands how many predictions each point is made of; the bars at the points are Wilson's (1927) intervals of
    95 % of the observed shares. The legend has the expected calibration error,
    :math:`\sum_b n_b |o_b - p_b| / \sum_b n_b` over bins :math:`b` of :math:`n_b` predictions, of mean :math:`p_b`, of
    which the share :math:`o_b` came true.

    Parameters
    ----------
    tables
        For each bin of probabilities the mean ``"predicted"``, the share ``"observed"`` and the ``"count"``; or several
        such tables by name.
    title
        Title.
    colors
        A colour for each table.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If a table lacks a column.
    TypeError
        If there is no table, or an argument does not exist.
    ValueError
        If shares are not between 0 and 1, or there are too few colours.

    Examples
    --------
    >>> table = pd.DataFrame({"predicted": [0.1, 0.5, 0.9], "observed": [0.2, 0.5, 1.0], "count": [30, 20, 40]})
    >>> axes = jv.pl.reliability(table, show=False)
    >>> axes.get_xlabel()
    'predicted probability'
    """
    named = dict(tables) if isinstance(tables, Mapping) else {"": tables}
    bins = {str(name): _read(table) for name, table in named.items()}
    shades = list(state_palette(len(bins)) if colors is None else colors)
    if len(shades) < len(bins) or not bins:
        raise ValueError(f"Expected a table, and a colour for each, found {len(bins)} and {len(shades)} colours.")
    canvas = Canvas(sheet.of_size(4.6, 5.0))
    with canvas:
        ax = canvas.ax
        ax.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1.0, zorder=1)
        strip = ax.inset_axes((0.0, 1.02, 1.0, 0.16), sharex=ax)
        for shade, (name, (predicted, observed, count)) in zip(shades, bins.items(), strict=False):
            error = np.sum(count * np.abs(observed - predicted)) / count.sum()
            label = f"{name}, error {error:.3f}" if name else f"expected calibration error {error:.3f}"
            bars = np.abs(_wilson(observed, count) - observed)
            ax.errorbar(
                predicted, observed, yerr=bars, fmt="o-", color=shade, linewidth=1.6, markersize=5, capsize=2,
                elinewidth=1.0, label=label, zorder=3,
            )  # fmt: skip
            strip.vlines(predicted, 0, count, color=shade, linewidth=4, alpha=0.8)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        dress_axes(ax, None, "predicted probability", "observed share")
        dress_axes(strip, title, "", "count")
        strip.tick_params(labelbottom=False)
        strip.set_ylim(0, None)
        strip.set_yticks([max(count.max() for _, _, count in bins.values())])
        strip.yaxis.label.set(color=INK, fontsize=text_size(9))
        ax.legend(loc="best", **legend_look(9))
        return canvas.finish()


def _read(table: Any) -> tuple[Float[np.ndarray, " bins"], ...]:
    """Read the bins that hold predictions, from small to large probabilities."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"Expected data frames with the columns {COLUMNS}, found `{type(table).__name__}`.")
    if absent := [name for name in COLUMNS if name not in table]:
        raise KeyError(f"Expected the columns {COLUMNS}, found none of {absent} among {listed(table)}.")
    table = table[table["count"] > 0].sort_values("predicted")
    predicted, observed, count = (table[name].to_numpy(dtype=float) for name in COLUMNS)
    shares = np.concatenate([predicted, observed])
    if not len(shares) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"Expected shares from 0 to 1 of one bin or more, found {listed(shares)}.")
    return predicted, observed, count


def _wilson(share: Float[np.ndarray, " bins"], n: Float[np.ndarray, " bins"]) -> Float[np.ndarray, "2 bins"]:
    """Give the ends of Wilson's interval of a share of ``n``."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return np.stack([middle - half, middle + half])
