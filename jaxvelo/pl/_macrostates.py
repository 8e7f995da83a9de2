"""The picture of macrostates: the cells that stand for them, or how much every cell belongs to each."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.stored_states import Memberships, has_memberships, read_memberships
from jaxvelo.configuration import logger

from ._colors import Categorical, Colors
from ._embedding import finite_rows, read_positions
from ._figure import INK
from ._looks import Looks, picture
from ._memberships import View, draw_memberships, draw_states
from ._panels import cell_size
from ._states import assigned, some_states

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

REMEDIES = {
    "all": "Compute them with `GPCCA.compute_macrostates()`.",
    "initial": "Compute them with `GPCCA.predict_initial_states()` or `.set_initial_states()`.",
    "terminal": "Compute them with `GPCCA.predict_terminal_states()` or `.set_terminal_states()`.",
}


@picture(legend_loc="on data")
def macrostates(
    adata: "AnnData",
    which: Literal["all", "initial", "terminal", "initial_and_terminal"] = "all",
    states: Any = None,
    color: Any = None,
    discrete: bool = True,
    mode: Literal["embedding", "time"] = "embedding",
    time_key: str | None = "latent_time",
    basis: str | None = "umap",
    same_plot: bool = True,
    *,
    backward: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw macrostates in an embedding, or how much cells belong to them over a time.

    Parameters
    ----------
    adata
        The cells, with the states as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    which
        Macrostates: all, or those that are initial or terminal; both of these have names such as ``"initial: Ductal"``.
    states
        Names of the states to draw; all by default.
    color
        What cells are coloured by in further panels, before those of the states; in ``mode="time"`` in these.
    discrete
        Whether to mark the cells that stand for each state, all others grey, rather than show how much every cell
        belongs to the states.
    mode
        Whether memberships are drawn in an embedding or over a time, then in a panel for each state.
    time_key
        Column of ``obs`` with the time.
    basis
        Embedding; see :func:`scatter`.
    same_plot
        Whether all states are drawn in one panel. Memberships then give every cell the colour of the state that it
        belongs to most, the paler the closer the next state comes: grey where two are equal.
    backward
        Whether the states are those of a process backward in time.
    looks
        All other arguments that concern cells, legend and figure: see :func:`scatter`; names stand on the data by
        default.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given; a list if there is a panel for each state, or ``color``.

    Raises
    ------
    KeyError
        If the states have not been computed, or a state, the embedding, ``color`` or ``time_key`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> axes = jv.pl.macrostates(adata, which="terminal", show=False)
    >>> axes.get_title()
    'terminal states'
    """
    keys = FateKeys(backward)
    columns = {"all": keys.macrostates, "initial": keys.initial_states, "terminal": keys.terminal_states}
    parts: list[str] = ["initial", "terminal"] if which == "initial_and_terminal" else [which]
    if not set(parts) <= set(columns):
        raise ValueError(f"Expected `which` to be one of {[*columns, 'initial_and_terminal']}, found `{which!r}`.")
    title = "macrostates" if which == "all" else " and ".join(parts) + " states"
    of_parts = [assigned(adata, columns[part], REMEDIES[part], looks.palette) for part in parts]
    marked = _joined(of_parts, parts, title)
    view = View(
        title=title, quantity="membership", basis=basis, color=color, mode=mode, time_key=time_key, same_plot=same_plot
    )
    if not discrete and not all(has_memberships(adata, columns[part]) for part in parts):
        logger.warning("No memberships of the %s are stored: drawing the cells that stand for them", title)
        discrete = True
    if not discrete:
        found = [
            read_memberships(adata, columns[part], REMEDIES[part]).of(one.names)
            for part, one in zip(parts, of_parts, strict=True)
        ]
        of = Memberships(np.column_stack([one.values for one in found]), marked.names)
        return draw_memberships(adata, of.of(states), some_states(marked, states).colors, view, looks)
    marked = some_states(marked, states)
    embedding = read_positions(adata, basis, looks.components, looks.projection)
    panels = [marked] if same_plot else [_alone(marked, i) for i in range(len(marked.names))]
    if not same_plot and looks.legend.place.kind == "data":  # the titles say it
        looks = dataclasses.replace(looks, legend=dataclasses.replace(looks.legend, legend_loc="none"))
    size = 2.5 * (looks.size or cell_size(int(finite_rows(embedding.positions).sum())))

    def over(ax: Any, panel: Colors) -> None:
        if isinstance(panel, Categorical) and any(panel is one for one in panels):
            _mark(ax, embedding.positions, panel, size)

    return draw_states(adata, embedding, panels, view, looks, over=over)


def _joined(of: list[Categorical], parts: list[str], title: str) -> Categorical:
    """Join states of several kinds, whose names then say which; a cell of several stands for the first."""
    names: list[str] = []
    colors: list[str] = []
    codes = np.full(len(of[0].codes), -1)
    for states, part in zip(of, parts, strict=True):
        codes = np.where(codes >= 0, codes, np.where(states.codes >= 0, states.codes + len(names), -1))
        names += [name if len(of) == 1 else f"{part}: {name}" for name in states.names]
        colors += states.colors
    return Categorical(title, codes, names, colors, missing="")


def _alone(of: Categorical, state: int) -> Categorical:
    """Give one of the states, with a title that names it."""
    one = some_states(of, of.names[state])
    return dataclasses.replace(one, key=one.names[0])


def _mark(ax: Any, positions: Float[np.ndarray, "cells dims"], of: Categorical, size: float) -> None:
    """Draw the cells that stand for states once more, larger and with an outline: they are few among many."""
    cells = np.flatnonzero(finite_rows(positions) & (of.codes >= 0))
    cells = np.random.default_rng(0).permutation(cells)
    style: dict[str, Any] = {"depthshade": False} if ax.name == "3d" else {}
    ax.scatter(
        *positions[cells].T, c=of.rgba()[cells], s=size, edgecolors=INK, linewidths=0.4, zorder=2, gid="states", **style
    )
