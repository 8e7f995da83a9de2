"""The picture of how early known terminal states are found, as the number of macrostates grows."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import check_integer, listed

from ._figure import Canvas, Sheet
from ._looks import picture
from ._plain_axes import dress_axes, legend_look
from ._states import SAFE_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ["number_of_macrostates", "identified_terminal_states", "optimal_identification"]


@picture()
def tsi(
    curve: Any,
    n_macrostates: int | None = None,
    x_offset: tuple[float, float] = (0.2, 0.2),
    y_offset: tuple[float, float] = (0.1, 0.1),
    *,
    title: str | None = "terminal state identification",
    sheet: Sheet,
) -> "Axes | None":
    """Draw how many known terminal states are among so many macrostates, beside as many as could be.

    The score in the legend is the share of the area under the best curve that is reached.

    Parameters
    ----------
    curve
        Table of :meth:`jaxvelo.estimators.GPCCA.tsi`, or CellRank's, as a data frame or in an AnnData object, with the
        columns ``"number_of_macrostates"``, ``"identified_terminal_states"`` and ``"optimal_identification"``.
    n_macrostates
        Largest number of macrostates; all by default.
    x_offset, y_offset
        Room before the first and behind the last number, along both axes.
    title
        Title.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If the table lacks a column.
    TypeError
        If it is no table, or an argument does not exist.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> score = g.tsi(3, terminal_states=["Fate A", "Fate B"], cluster_key="clusters")
    >>> axes = jv.pl.tsi(adata.uns["tsi_fwd"], show=False)
    >>> axes.get_title()
    'terminal state identification'
    """
    if n_macrostates is not None:
        check_integer("n_macrostates", n_macrostates, 1)
    table = curve if isinstance(curve, pd.DataFrame) or not hasattr(curve, "to_df") else curve.to_df()
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"Expected `curve` to be the table of `GPCCA.tsi()`, found `{type(curve).__name__}`.")
    if absent := [name for name in COLUMNS if name not in table]:
        raise KeyError(f"Expected the columns {COLUMNS} in `curve`, found none of {absent} among {listed(table)}.")
    table = table.sort_values(COLUMNS[0])
    if n_macrostates is not None:
        table = table[table[COLUMNS[0]] <= n_macrostates]
    numbers, found, best = (table[name].to_numpy(dtype=float) for name in COLUMNS)
    score = found.sum() / best.sum() if best.sum() else np.nan
    canvas = Canvas(sheet.of_size(max(5.0, 0.25 * len(numbers) + 1.5), 3.6))
    with canvas:
        ax = canvas.ax
        ax.fill_between(numbers, found, best, step="mid", color=SAFE_COLORS[0], alpha=0.12, linewidth=0)
        label = f"identified, score {score:.2f}"
        ax.step(numbers, found, "o-", where="mid", color=SAFE_COLORS[0], linewidth=2, markersize=4, label=label)
        ax.step(numbers, best, where="mid", color=SAFE_COLORS[3], linestyle="--", linewidth=1.5, label="at best")
        every = 1 if len(numbers) <= 20 else 5
        ax.set_xticks(numbers[::every], [f"{number:.0f}" for number in numbers[::every]])
        ax.set_yticks(np.arange(int(np.max(best, initial=0)) + 1))
        low, high = np.min(numbers, initial=1), np.max(numbers, initial=1)
        ax.set_xlim(low - 0.3 - x_offset[0], high + 0.3 + x_offset[1])
        ax.set_ylim(-y_offset[0], max(np.max(best, initial=0), np.max(found, initial=0)) + y_offset[1])
        dress_axes(ax, title, "number of macrostates", "terminal states")
        ax.legend(loc="best", **legend_look())
        return canvas.finish()
