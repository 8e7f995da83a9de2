"""The picture of fate probabilities: in an embedding, or over a time."""

from typing import TYPE_CHECKING, Any, Literal

from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.stored_states import read_fates

from ._looks import Looks, picture
from ._memberships import View, draw_memberships
from ._states import fate_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

REMEDY = "Compute them with `GPCCA.compute_fate_probabilities()`."


@picture(legend_loc="on data")
def fate_probabilities(
    adata: "AnnData",
    states: Any = None,
    color: Any = None,
    mode: Literal["embedding", "time"] = "embedding",
    time_key: str | None = None,
    basis: str | None = "umap",
    same_plot: bool = True,
    *,
    backward: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw how probable the terminal states are as the cells' fates.

    Parameters
    ----------
    adata
        The cells, with the fates as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    states
        Names of the terminal states to draw; all by default.
    color, mode, time_key, basis
        See :func:`macrostates`.
    same_plot
        Whether all fates are drawn in one panel: every cell in the colour of its most probable fate, the paler the
        closer the next comes, grey where two are equal. Otherwise there is a panel for each, with a colour bar that
        ends at the most probable cell that is no terminal one.
    backward
        Whether the fates are those of a process backward in time.
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
        If there are no fates, or a state, the embedding, ``color`` or ``time_key`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> axes = jv.pl.fate_probabilities(adata, same_plot=False, show=False)
    >>> [panel.get_title() for panel in axes]
    ['fate probability: Fate A', 'fate probability: Fate B']
    """
    keys = FateKeys(backward)
    fates = read_fates(adata, keys, REMEDY)
    colors = fate_colors(adata, keys, fates.names, looks.palette)
    fates = fates.of(states)
    names = {"title": "fate probabilities", "quantity": "fate probability"}
    view = View(**names, basis=basis, color=color, mode=mode, time_key=time_key, same_plot=same_plot)
    return draw_memberships(adata, fates, [colors[name] for name in fates.names], view, looks)
