"""Name the groups: where a legend stands, how many names fit, and names on the cells that do not overlap."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxvelo.configuration import logger

from ._checks import check_positive
from ._colors import MISSING, MOST_GROUPS, Categorical, Colors
from ._embedding import finite_rows
from ._figure import INK, text_size

# Up to so many names: size of their text in points, and how many stand one below the other.
LEGEND_SIZES = ((16, 10.0, 16), (32, 10.0, 16), (60, 8.0, 20), (MOST_GROUPS, 6.5, 30))
NAME_SIZES = ((25, 10.0), (60, 8.0), (MOST_GROUPS, 6.0))
ROWS = {"top": "upper", "bottom": "lower"}
ROUNDS = 3  # of moving names apart: the picture may shrink to make room for moved ones


@dataclasses.dataclass(frozen=True)
class Place:
    """Where groups are named, and the arguments of matplotlib's ``legend`` that bring it there."""

    kind: Literal["none", "data", "inside", "outside"]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


def legend_place(place: Any, argument: str = "legend_loc", *, right_is_outside: bool = False) -> Place:
    """Translate a place in the words of CellRank, scVelo or matplotlib.

    Parameters
    ----------
    place
        :obj:`None` or ``"none"``; ``"on data"``; ``"right margin"`` or ``"left margin"``; one of matplotlib's places,
        its number, or two numbers; or one of these with ``" in"`` or ``" out"`` behind it, with ``"top"`` for
        ``"upper"`` and ``"bottom"`` for ``"lower"``.
    argument
        Its name, for messages.
    right_is_outside
        Whether places on the right are beside the picture unless ``" in"`` is said, as in scVelo's pictures of cells.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    from matplotlib.legend import Legend

    if place is None or place is False or place == "none":
        return Place("none")
    if isinstance(place, tuple | list) and len(place) == 2 and all(isinstance(x, int | float) for x in place):
        return Place("inside", {"loc": tuple(place)})
    if isinstance(place, int) and not isinstance(place, bool) and place in Legend.codes.values():
        place = next(name for name, code in Legend.codes.items() if code == place)
    words = place.split() if isinstance(place, str) else []
    if words == ["on", "data"]:
        return Place("data")
    where = words[1:] and words[-1]
    if where == "margin":
        words, where = words[:-1], "out"
    elif where in ("in", "out"):
        words = words[:-1]
    else:
        where = ""
    words = [ROWS.get(word, word) for word in words]
    if words in (["upper"], ["lower"]):
        words.append("right" if words == ["upper"] else "left")
    inside = " ".join(words)
    outside = where == "out" or (right_is_outside and where != "in" and words[-1:] == ["right"])
    known = inside in Legend.codes or (inside == "left" and outside)
    if not known or (outside and inside in ("best", "center")):
        raise ValueError(
            f"Expected `{argument}` to be one of {['none', 'on data', 'right margin', *Legend.codes]}, or a corner or "
            f"side followed by ' out' for beside the picture, found `{place!r}`."
        )
    return _outside(words) if outside else Place("inside", {"loc": inside})


def _outside(words: list[str]) -> Place:
    """Give the place beside the axes, or above or below them."""
    row, side = (words[0], words[1]) if len(words) == 2 else ("upper", words[0])
    if side == "center":  # a title stands above, too
        height, gap = (1.0, 2.6) if row == "upper" else (-0.02, 0.0)
        loc = "lower center" if row == "upper" else "upper center"
        return Place("outside", {"loc": loc, "bbox_to_anchor": (0.5, height), "borderaxespad": gap})
    height = {"upper": 1.0, "center": 0.5, "lower": 0.0}[row]
    left = side == "left"
    anchor = (-0.01 if left else 1.01, height)
    loc = f"{row} {'right' if left else 'left'}"
    return Place("outside", {"loc": loc, "bbox_to_anchor": anchor, "borderaxespad": 0.0})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Legend:
    """Where and how groups are named; explained in :func:`jaxvelo.pl.scatter`."""

    legend_loc: Any = "right margin"
    legend_fontsize: float | None = None
    legend_fontweight: Any = None
    legend_fontoutline: float | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name in ("legend_fontsize", "legend_fontoutline"):
            check_positive(name, getattr(self, name))
        _ = self.place

    @property
    def place(self) -> Place:
        """Where the groups are named."""
        return legend_place(self.legend_loc, right_is_outside=True)


def legend_style(n_names: int, size: float | None = None) -> dict[str, Any]:
    """Give size of the text and number of columns of a legend: smaller and closer for many names."""
    usual, n_rows = next(((s, rows) for most, s, rows in LEGEND_SIZES if n_names <= most), LEGEND_SIZES[-1][1:])
    return {"fontsize": text_size(usual) if size is None else size, "ncols": 1 + (n_names - 1) // n_rows}


def legend_width(names: list[str], size: float | None = None) -> float:
    """Estimate the width of a legend in inches."""
    if not names:
        return 0.0
    style = legend_style(len(names), size)
    return style["ncols"] * style["fontsize"] * (2.6 + 0.58 * max(map(len, names))) / 72


def room_beside(colors: Sequence[Colors], legend: Legend) -> float:
    """Give the width in inches that a figure needs beyond its usual one for the legends beside it."""
    place = legend.place
    if place.kind != "outside" or place.arguments["loc"].endswith("center"):
        return 0.0
    widths = [legend_width(entry_names(c), legend.legend_fontsize) for c in colors if isinstance(c, Categorical)]
    return max(0.0, max(widths, default=0.0) - 1.6)


def entries(colors: Categorical) -> list[tuple[str, str]]:
    """Give name and colour of the groups that have cells, and of the missing; none if they are too many to read."""
    counts = colors.counts()
    found = [(colors.names[i], colors.colors[i]) for i in np.flatnonzero(counts)]
    if len(found) > MOST_GROUPS:
        return []
    if colors.missing and np.any(colors.codes < 0):
        found.append((colors.missing, MISSING))
    return found


def entry_names(colors: Categorical) -> list[str]:
    """Give the names in a legend."""
    return [name for name, _ in entries(colors)]


def warn_about_many(colors: Categorical, argument: str = "legend_loc") -> None:
    """Say that names are left out if they are too many."""
    n_groups = int(np.count_nonzero(colors.counts()))
    if n_groups > MOST_GROUPS:
        logger.warning(
            "`%s` has %d groups: drawing without their names, as no more than %d can be read. "
            "`%s='none'` avoids this message",
            colors.key or "color",
            n_groups,
            MOST_GROUPS,
            argument,
        )


def group_handles(colors: Categorical) -> list[Any]:
    """Give the entries of a legend of the groups that have cells."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], marker="o", linestyle="", markersize=7, color=color, label=name)
        for name, color in entries(colors)
    ]


def draw_legend(ax: Any, positions: Float[np.ndarray, "cells dims"], colors: Colors, legend: Legend) -> None:
    """Name the groups, beside the picture, in it or on the cells."""
    place, size = legend.place, legend.legend_fontsize
    if not isinstance(colors, Categorical) or place.kind == "none":
        return
    warn_about_many(colors)
    if place.kind == "data" and ax.name != "3d":  # names on a cloud that can be turned would lie about its depth
        _names_on_data(ax, positions, colors, legend)
        return
    handles = group_handles(colors)
    if not handles:
        return
    arguments = place.arguments or _outside(["right"]).arguments
    figure = ax.figure.figure
    names = entry_names(colors)
    is_beside = "bbox_to_anchor" in arguments and not arguments["loc"].endswith("center")
    if is_beside and figure.get_layout_engine() is not None:
        spec = ax.get_subplotspec()
        width = figure.get_figwidth() / (1 if spec is None else spec.get_gridspec().ncols)
        if legend_width(names, size) > 0.75 * width:
            logger.warning(
                "No room for the legend of the %d groups of `%s` in a picture %.2g inches wide: leaving it out. Choose "
                "a wider `figsize`, or another `legend_loc`",
                len(names),
                colors.key or "color",
                width,
            )
            return
    style: dict[str, Any] = {"frameon": False, "labelcolor": INK, "handletextpad": 0.2, "labelspacing": 0.45}
    style.update(legend_style(len(handles), size))
    if len(handles) > 32:
        style.update(labelspacing=0.25, columnspacing=0.8, markerscale=0.7)
    if "bbox_to_anchor" in arguments and arguments["loc"].endswith("center"):  # above or below: wide rather than high
        style["ncols"] = max(1, int(0.8 * figure.get_figwidth() * style["ncols"] / legend_width(names, size)))
    other = ax.get_legend()
    drawn = ax.legend(handles=handles, **style, **arguments)
    drawn.set_gid("groups")
    if other is not None and other.get_gid() == "ends":
        ax.add_artist(other)  # a second legend would replace the first
        other.set_clip_on(False)  # which that turns on
    if legend.legend_fontweight is not None:
        for text in drawn.get_texts():
            text.set_fontweight(legend.legend_fontweight)


def _names_on_data(ax: Any, positions: Float[np.ndarray, "cells dims"], colors: Categorical, legend: Legend) -> None:
    """Write each group's name at its median, moved until no two overlap."""
    from matplotlib.patheffects import withStroke

    codes = np.where(finite_rows(positions), colors.typical_codes(), -1)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes + 1, minlength=len(colors.names) + 1))
    cells = [order[ends[i] : ends[i + 1]] for i in range(len(colors.names))]
    present = [i for i, group in enumerate(cells) if len(group)]
    if not present or len(present) > MOST_GROUPS:
        return
    weight, outline = legend.legend_fontweight, legend.legend_fontoutline
    size = legend.legend_fontsize or text_size(next(s for most, s in NAME_SIZES if len(present) <= most))
    halo = [withStroke(linewidth=0.3 * size if outline is None else outline, foreground="white")]
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size, "color": INK}
    style["fontweight"] = "bold" if weight is None else weight
    medians = np.array([np.median(positions[cells[i]], axis=0) for i in present])
    texts = [
        ax.text(*median, colors.names[i], path_effects=halo, zorder=10, **style)
        for i, median in zip(present, medians, strict=True)
    ]
    # The names of large groups stay where they are, those of small ones give way.
    part_names(ax, texts, medians, np.argsort([-len(cells[i]) for i in present], kind="stable"))


def part_names(
    ax: Any, texts: list[Any], places: Float[np.ndarray, "names 2"], order: np.ndarray, above: float | None = None
) -> None:
    """Move names apart, each as near to its place as there is room.

    With ``above``, each stands this many points above its place, and none stands on one of the places.
    """
    figure = ax.figure.figure
    before = None
    for _ in range(ROUNDS):
        figure.draw_without_rendering()  # sizes of texts are known only once the axes have their place
        frame = ax.get_window_extent().bounds
        if frame == before:
            return
        before = frame
        boxes = [text.get_window_extent() for text in texts]
        # Side by side, names need a wide gap: else two of them read as one.
        em = texts[0].get_fontsize() * figure.dpi / 72
        gaps = em, 0.15 * em
        sizes = np.array([(box.width + gaps[0], box.height + gaps[1]) for box in boxes])
        centers = ax.transData.transform(places)
        if above is None:
            moved = parted(centers, sizes, order)
        else:
            points = np.full(centers.shape, 0.6 * em)
            moved = parted(centers + np.array([0.0, above * figure.dpi / 72]), sizes, order, centers, points)
        for text, place in zip(texts, ax.transData.inverted().transform(moved), strict=True):
            text.set_position(place)


def parted(
    centers: Float[np.ndarray, "boxes 2"],
    sizes: Float[np.ndarray, "boxes 2"],
    order: np.ndarray,
    taken: Float[np.ndarray, "obstacles 2"] | None = None,
    taken_sizes: Float[np.ndarray, "obstacles 2"] | None = None,
) -> Float[np.ndarray, "boxes 2"]:
    """Move boxes until no two overlap.

    One after the other takes its place if it is free, else the nearest that is next to another box, in its column or
    its row. Above or below all others in the column is always one, so that it ends however many boxes there are.

    Parameters
    ----------
    centers, sizes
        Of the boxes.
    order
        In which they choose.
    taken, taken_sizes
        Centers and sizes of obstacles, which stay where they are.
    """
    placed = centers.copy()
    obstacles = np.empty((0, 2)) if taken is None else taken
    obstacle_sizes = np.empty((0, 2)) if taken_sizes is None else taken_sizes
    for k, box in enumerate(order):
        others = np.concatenate([obstacles, placed[order[:k]]])
        apart = 0.5 * (np.concatenate([obstacle_sizes, sizes[order[:k]]]) + sizes[box])
        wanted = centers[box]
        candidates = [wanted[None]]
        for axis in (0, 1):
            # Along one axis, past the boxes that it meets when moved along this axis.
            met = np.abs(others - wanted)[:, 1 - axis] < apart[:, 1 - axis]
            for sign in (-1, 1):
                moved = np.repeat(wanted[None], met.sum(), axis=0)
                moved[:, axis] = others[met, axis] + sign * apart[met, axis]
                candidates.append(moved)
        places = np.concatenate(candidates)
        # Rounding must not make a box overlap the one that it was moved away from.
        overlaps = np.abs(places[:, None] - others) < apart * (1 - 1e-9)
        free = places[~overlaps.all(axis=2).any(axis=1)]
        placed[box] = free[np.argmin(np.linalg.norm(free - wanted, axis=1))]
    return placed
