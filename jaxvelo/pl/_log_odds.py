"""The picture of the odds of one fate against another over time."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.entries import read_numbers
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.stored_states import read_fates
from jaxvelo.configuration import logger

from ._checks import check_color
from ._colors import MOST_GROUPS, Categorical, Colors, Continuous, Uniform, gene_values
from ._fate_probabilities import REMEDY
from ._figure import Canvas
from ._legend import draw_legend, room_beside
from ._looks import Looks, picture
from ._panels import cell_size, color_name, colors_of_panels, draw_cells, titles_of
from ._plain_axes import dress_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

DARK = "#404040"
SPREAD = 0.3  # of the cells of one time, to both sides, where those of the next are at a distance of one
TIME_REMEDY = "Name a column of `adata.obs` with the days of an experiment in `time_key`."


@picture(legend_loc="right margin")
def log_odds(
    adata: "AnnData",
    lineage_1: str,
    lineage_2: str | None = None,
    time_key: str = "exp_time",
    backward: bool = False,
    keys: Any = None,
    threshold: "float | Sequence[float | None] | None" = None,
    threshold_color: Any = "red",
    layer: str | None = None,
    use_raw: bool = False,
    size: float | None = None,
    cmap: Any = "viridis",
    alpha: float = 0.8,
    ncols: int = 4,
    fontsize: float | None = None,
    xticks_step_size: int | None = 1,
    legend_loc: Any = "right margin",
    jitter: "bool | float" = True,
    seed: int | None = 0,
    *,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    r"""Draw for the cells of each time how much likelier one fate is than another.

    The height of cell i is :math:`\log (F_{ia} / F_{ib})`, with its probabilities of two fates; without a second one
    :math:`\log (F_{ia} / (1 - F_{ia}))`. Cells that can reach one of the two alone, such as terminal ones, have no
    odds, and are left out, as are cells without a time.

    Parameters
    ----------
    adata
        The cells, with the fates as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    lineage_1, lineage_2
        Names of the fates; against all others together without the second.
    time_key
        Column of ``obs`` with the time of each cell: numbers, or categories that read as such. Each of its values has
        its place, at equal distances, in rising order (falling with ``backward``).
    backward
        Whether the fates are those of a process backward in time.
    keys
        Columns of ``obs`` or genes that cells are coloured by, a panel for each; one dark colour by default.
    threshold
        Expression above which cells are marked in ``threshold_color``, instead of colours for all values: for all genes
        in ``keys``, or one for each (None for those that have none).
    threshold_color
        See there.
    layer, use_raw
        Where expression is taken from: ``X`` by default.
    size, alpha, cmap
        Area of a cell in points², opacity, colour map of numbers.
    ncols
        Number of panels in a row.
    fontsize
        Size of titles and names of the axes.
    xticks_step_size
        Times are written below at every so many of them; :obj:`None` for none.
    legend_loc
        Place of the legend of groups; see :func:`scatter`.
    jitter
        How far cells of one time are spread to both sides, where those of the next are at a distance of one; True for
        0.3.
    seed
        Of the spread.
    looks
        All other arguments that concern cells, legend and figure: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given; a list if ``keys`` is one.

    Raises
    ------
    KeyError
        If there are no fates, or a fate, a key or ``time_key`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If no cell has odds, or an argument is out of range or does not fit.

    Examples
    --------
    >>> adata.obs["day"] = np.digitize(adata.obs["true_time"], [6.0, 12.0, 18.0])
    >>> axes = jv.pl.log_odds(adata, "Fate A", "Fate B", time_key="day", keys="clusters", show=False)
    >>> axes.get_xlabel()
    'day'
    """
    if xticks_step_size is not None:
        check_integer("xticks_step_size", xticks_step_size, 1)
    spread = SPREAD if jitter is True else float(jitter)
    if not 0 <= spread <= 0.5:
        raise ValueError(f"Expected `jitter` to be True, False or from 0 to 0.5, found `{jitter!r}`.")
    check_color("threshold_color", threshold_color)
    if seed is not None:
        check_integer("seed", seed, 0)
    odds, label = _log_odds(adata, FateKeys(backward), lineage_1, lineage_2)
    places, times = _places(adata, time_key, backward)
    shown = np.isfinite(odds) & (places >= 0)
    if not shown.any():
        raise ValueError(
            f"Expected cells with a time that may reach {label.replace(' / ', ' and ')}, found none. Name other "
            "lineages, or compute the fates anew."
        )
    if use_raw and adata.raw is None:
        logger.warning("Drawing expression of `adata.X`: there is no `adata.raw`")
        use_raw = False
    if use_raw and layer is not None:
        logger.warning("Drawing expression of `adata.raw`, which has no layers: leaving out `layer=%r`", layer)
        layer = None
    looks = dataclasses.replace(
        looks,
        layer=layer,
        use_raw=True if use_raw else None,
        size=size,
        alpha=alpha,
        ncols=ncols,
        fontsize=fontsize,
        legend=dataclasses.replace(looks.legend, legend_loc=_beside(legend_loc)),
        scale=dataclasses.replace(looks.scale, cmap=cmap),
    )
    several = isinstance(keys, list | tuple)
    panels = _panels(adata, keys if several else [keys], threshold, threshold_color, looks)
    sideways = np.random.default_rng(seed).uniform(-spread, spread, adata.n_obs)
    positions = np.column_stack([places + sideways, odds])
    positions[~shown] = np.nan
    titles = titles_of(looks.title, [panel.title for panel in panels])
    if len(panels) > 1 and looks.sheet.ax is not None:
        raise ValueError(f"Expected one of `keys` for `ax`, found {len(panels)}. Draw them one by one.")
    width = float(np.clip(0.45 * len(times) + 1.6, 3.4, 9.0))
    canvas = Canvas(
        looks.sheet,
        n_panels=len(panels),
        ncols=ncols,
        default_size=(width, 3.6),
        room=room_beside([panel.colors for panel in panels], looks.legend),
    )
    with canvas:
        for number, (ax, panel, title) in enumerate(zip(canvas.axes, panels, titles, strict=True)):
            area = size or 0.5 * cell_size(int(shown.sum()))
            ax.axhline(0, color="0.8", linewidth=0.9, zorder=0)
            draw_cells(ax, positions, panel.colors, looks, size=area)
            if panel.marked is not None:
                above = positions[panel.marked & shown]
                ax.scatter(*above.T, s=2.5 * area, color=threshold_color, linewidths=0, alpha=0.9, zorder=2)
            ax.set_xlim(-0.7, len(times) - 0.3)
            every = 1 if xticks_step_size is None else xticks_step_size
            marks = np.arange(0, len(times), every) if xticks_step_size is not None else np.array([], dtype=int)
            ax.set_xticks(marks, [times[i] for i in marks])
            ylabel = f"log {label}" if number % ncols == 0 else ""
            dress_axes(ax, title, looks.xlabel or time_key, looks.ylabel or ylabel, fontsize)
            if fontsize is not None:
                for axis in (ax.xaxis, ax.yaxis):
                    axis.label.set_fontsize(fontsize)
            draw_legend(ax, positions, panel.colors, looks.legend)
        return canvas.finish(listed=several)


@dataclasses.dataclass(frozen=True)
class _Panel:
    """What cells are coloured by, which of them are marked, and the title."""

    colors: Colors
    title: str = ""
    marked: Bool[np.ndarray, " cells"] | None = None


def _log_odds(adata: "AnnData", keys: FateKeys, first: Any, second: Any) -> tuple[Float[np.ndarray, " cells"], str]:
    """Give the logarithm of the odds, NaN where a probability is zero or not known, and what they are odds of."""
    fates = read_fates(adata, keys, REMEDY)
    one = fates.of([first], "lineage_1")
    p = one.values[:, 0]
    q = 1 - p if second is None else fates.of([second], "lineage_2").values[:, 0]
    known = (p > 0) & (q > 0)
    odds = np.full(len(p), np.nan)
    odds[known] = np.log(p[known] / q[known])
    return odds, f"{one.names[0]} / {'rest' if second is None else text_of(second)}"


def _places(adata: "AnnData", key: str, backward: bool) -> tuple[Int[np.ndarray, " cells"], list[str]]:
    """Give the place of each cell's time among the times, -1 where it is missing, and how these are written."""
    time = read_numbers(adata.obs, key, "adata.obs", TIME_REMEDY)
    known = np.isfinite(time)
    if not known.any():
        raise ValueError(f"Expected times in `adata.obs[{key!r}]`, found none that are finite. {TIME_REMEDY}")
    if not known.all():
        logger.warning("Leaving out %d cells: their time in `adata.obs[%r]` is not finite", (~known).sum(), key)
    times, at = np.unique(time[known], return_inverse=True)
    if len(times) > MOST_GROUPS:
        raise ValueError(
            f"Expected at most {MOST_GROUPS} times in `adata.obs[{key!r}]`, found {len(times)}. {TIME_REMEDY} A "
            "pseudotime can be rounded, as by `.round(1)`."
        )
    if backward:
        times, at = times[::-1], len(times) - 1 - at
    places = np.full(len(time), -1)
    places[known] = at
    return places, [f"{one:g}" for one in times]


def _panels(adata: "AnnData", keys: Any, threshold: Any, color: Any, looks: Looks) -> list[_Panel]:
    """Find out what the cells of each panel are coloured by."""
    if not len(keys):
        raise ValueError("Expected at least one name in `keys`, found none.")
    thresholds = list(threshold) if np.ndim(threshold) else [threshold] * len(keys)
    if len(thresholds) != len(keys):
        raise ValueError(
            f"Expected `threshold` to be one number, or one for each of the {len(keys)} `keys`, found "
            f"{len(thresholds)}."
        )
    for one in thresholds:
        if one is not None and not is_number(one):
            raise ValueError(f"Expected `threshold` to be a number, found `{one!r}`.")
    panels = []
    for key, one in zip(keys, thresholds, strict=True):
        if key is None:
            panels.append(_Panel(Uniform(DARK)))
            continue
        values = None if one is None or key in adata.obs else gene_values(adata, key, looks.layer, looks.use_raw)
        if values is not None:
            panels.append(_Panel(Uniform(DARK), f"{text_of(key)} > {one:g}", values > one))
            continue
        (colors,) = colors_of_panels(adata, [key], looks)
        if not isinstance(colors, Categorical | Continuous):
            raise KeyError(f"Expected `keys` to name columns of `adata.obs` or genes, found {key!r}.")
        panels.append(_Panel(colors, color_name(colors)))
    return panels


def _beside(place: Any) -> Any:
    """Give the place of a legend; along a time, groups lie on top of each other."""
    return "right margin" if place == "on data" else place
