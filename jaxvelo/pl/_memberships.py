"""How much cells belong to states: all states in one embedding, a panel for each, or over a time."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxvelo.annotated.entries import read_numbers
from jaxvelo.annotated.stored_states import Memberships

from ._colors import Categorical, Colors, Continuous, Uniform
from ._embedding import finite_rows, read_positions
from ._figure import Canvas
from ._legend import draw_legend, group_handles, legend_style, room_beside
from ._looks import Looks
from ._panels import cell_size, color_name, colors_of_panels, draw_cells, draw_panels, titles_of
from ._plain_axes import dress_axes, legend_look
from ._states import shaded

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """What is drawn along what, and what beside it; explained in :func:`jaxvelo.pl.macrostates`."""

    title: str
    quantity: str = ""
    basis: str | None
    color: Any
    mode: str
    time_key: str | None
    same_plot: bool

    def __post_init__(self) -> None:
        """Check what can be checked without the cells."""
        if self.mode not in ("embedding", "time"):
            raise ValueError(f"Expected `mode` to be 'embedding' or 'time', found `{self.mode!r}`.")

    def beside(self, adata: "AnnData", looks: Looks) -> list[Colors]:
        """Give what the cells are coloured by in further panels."""
        if self.color is None:
            return []
        several = isinstance(self.color, list | tuple)
        return colors_of_panels(adata, list(self.color) if several else [self.color], looks)


def draw_memberships(
    adata: "AnnData", of: Memberships, colors: list[str], view: View, looks: Looks
) -> "Axes | list[Axes] | None":
    """Draw how much cells belong to states."""
    if view.mode == "time":
        return _draw_over_time(adata, of, colors, view, looks)
    embedding = read_positions(adata, view.basis, looks.components, looks.projection)
    if view.same_plot and len(of.names) > 1:
        panels: list[Colors] = [shaded(view.title, of, colors)]
        looks = looks if looks.xlabel else dataclasses.replace(looks, xlabel="the paler, the less decided")
    else:
        panels = [
            Continuous(f"{view.quantity}: {name}", column, _limits(column))
            for name, column in zip(of.names, of.values.T, strict=True)
        ]
    return draw_states(adata, embedding, panels, view, looks)


def draw_states(
    adata: "AnnData", embedding: Any, panels: Sequence[Colors], view: View, looks: Looks, over: Any = None
) -> "Axes | list[Axes] | None":
    """Draw panels of states, and before them those of what else the user wants to see.

    Titles that the user gives are those of the states' panels, or of all.
    """
    beside = view.beside(adata, looks)
    title = looks.title
    if title is not None and beside and (isinstance(title, str) or len(title) == len(panels)):
        titles = titles_of(title, list(map(color_name, panels)))
        looks = dataclasses.replace(looks, title=[*map(color_name, beside), *titles])
    listed = bool(beside) or not view.same_plot
    return draw_panels(embedding, [*beside, *panels], looks, listed=listed, over=over)


def _limits(values: Float[np.ndarray, " cells"]) -> tuple[float, float] | None:
    """Give the ends of the colours: the cells that stand for a state, all at 1, would take them from all others."""
    others = values[np.isfinite(values) & ~np.isclose(values, 1.0)]
    return (min(0.0, float(others.min())), float(others.max())) if len(others) and others.max() > 0 else None


def _draw_over_time(
    adata: "AnnData", of: Memberships, colors: list[str], view: View, looks: Looks
) -> "Axes | list[Axes] | None":
    """Draw memberships over a time, a panel for each state."""
    remedy = "Compute a pseudotime, or name the column of one in `time_key`."
    if view.time_key is None:
        raise ValueError(f"Expected `time_key` with `mode='time'`, found None. {remedy}")
    time = read_numbers(adata.obs, view.time_key, "adata.obs", remedy)
    n_panels = len(of.names)
    shades: list[Colors] = view.beside(adata, looks) or [Uniform(color) for color in colors]
    shades = shades * n_panels if len(shades) == 1 else shades
    if len(shades) != n_panels:
        raise ValueError(
            f"Expected `color` to name one thing, or one for each of the {n_panels} states, found {len(shades)}."
        )
    if n_panels > 1 and looks.sheet.ax is not None:
        raise ValueError(f"Expected one of `states` for `ax`, found {n_panels}. Draw them one by one.")
    titles = titles_of(looks.title, of.names)
    legend = looks.legend
    if legend.place.kind == "data":  # along a time, groups lie on top of each other
        legend = dataclasses.replace(legend, legend_loc="right margin")
    together = n_panels > 1 and all(one is shades[0] for one in shades) and legend.place.kind == "outside"
    canvas = Canvas(
        looks.sheet,
        n_panels=n_panels,
        ncols=looks.ncols,
        default_size=(4.2, 3.4) if n_panels > 1 else (6.0, 4.0),
        room=0.0 if together else room_beside(shades, legend),
    )
    # The same for all states, so that they can be compared.
    low, high = np.nanmin(of.values, initial=0.0), np.nanmax(of.values, initial=1e-6)
    with canvas:
        for ax, values, color, title in zip(canvas.axes, of.values.T, shades, titles, strict=True):
            positions = np.column_stack([time, values])
            size = looks.size or 0.6 * cell_size(int(finite_rows(positions).sum()))
            draw_cells(ax, positions, color, looks, size=size)
            ax.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            dress_axes(ax, title, looks.xlabel or view.time_key, looks.ylabel or view.quantity, looks.fontsize)
            if not together:
                draw_legend(ax, positions, color, legend)
        if together and isinstance(shades[0], Categorical):
            handles = group_handles(shades[0])
            look = {**legend_look(), "handletextpad": 0.2, **legend_style(len(handles), legend.legend_fontsize)}
            canvas.ax.figure.legend(handles=handles, loc="outside right upper", **look)
        return canvas.finish(listed=n_panels > 1)
