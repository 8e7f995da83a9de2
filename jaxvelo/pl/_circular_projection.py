"""The picture of fates on a circle: terminal states around it, cells inside it by how probable each of these is."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.spatial.distance import pdist, squareform

from jaxvelo.annotated.arguments import is_number, listed
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.lineage_priming import find_lineage_priming
from jaxvelo.annotated.order import square_in_order
from jaxvelo.annotated.stored_states import Memberships, read_fates
from jaxvelo.configuration import logger

from ._checks import check_positive
from ._colors import Colors, Continuous
from ._embedding import Embedding
from ._fate_probabilities import REMEDY
from ._figure import text_size
from ._looks import Looks, picture
from ._panels import colors_of_panels, draw_panels
from ._shortest_tour import shortest_tour
from ._states import fate_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

PRIMING = ("kl_divergence", "entropy")
MOST_ORDERED = 20  # fates whose shortest tour is looked for: 80 MB, and seconds
EDGE = 1.04  # radius of the circle around the cells
METRICS = {"manhattan": "cityblock", "l1": "cityblock", "l2": "euclidean"}  # scikit-learn's words for SciPy's


@picture(legend_loc="right margin")
def circular_projection(
    adata: "AnnData",
    keys: Any,
    backward: bool = False,
    lineages: Any = None,
    early_cells: Any = None,
    lineage_order: Literal["default", "optimal"] | None = None,
    metric: "str | Callable[..., float] | np.ndarray | pd.DataFrame" = "correlation",
    normalize_by_mean: bool = True,
    ncols: int = 4,
    space: float | None = None,
    use_raw: bool = False,
    text_kwargs: Mapping[str, Any] = MappingProxyType({}),
    label_distance: float = 1.25,
    label_rot: Literal["default", "best"] | float | None = "best",
    show_edges: bool = True,
    key_added: str | None = None,
    *,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    r"""Draw the cells inside a circle, each the nearer to a terminal state the more probable that is as its fate.

    The K terminal states stand on the circle, evenly spaced, and cell i lies at the mean of their places, weighted by
    its fates (Velten et al. 2017),

    .. math:: x_i = \sum_k w_{ik} \cos \frac{2 \pi k}{K}, \qquad y_i = \sum_k w_{ik} \sin \frac{2 \pi k}{K},

    where :math:`w_{ik}` are the fate probabilities :math:`F_{ik}`, or with ``normalize_by_mean``
    :math:`F_{ik} / \bar F_k`, the mean taken over the cells, scaled to a sum of one: else a state that most cells reach
    would draw all of them to it. A cell without probability of any of the chosen states lies in the middle.

    Parameters
    ----------
    adata
        The cells, with the fates as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them.
    keys
        What the cells are coloured by: columns of ``obs`` or genes, a panel for each, or how far they are committed,
        ``"kl_divergence"`` or ``"entropy"``, over all fates: see :func:`jaxvelo.estimators.lineage_priming`.
    backward
        Whether the fates are those of a process backward in time.
    lineages
        Names of the terminal states, at least three; all by default.
    early_cells
        Cells whose mean fates ``"kl_divergence"`` compares with: names, a mask, or ``{"clusters": ["Ductal"]}``; all by
        default.
    lineage_order
        ``"default"``: as in ``lineages``; ``"optimal"``: such that the distances of neighbours on the circle have the
        smallest sum. By default optimal for 4 to 20 states.
    metric
        Distance of two columns of :math:`w`: a name or a function for :func:`scipy.spatial.distance.pdist`, or the
        matrix of all distances, in the order of ``lineages`` (a table may have their names).
    normalize_by_mean
        See above.
    ncols
        Number of panels in a row.
    space
        Room between panels, as a part of one; as little as fits by default.
    use_raw
        Whether genes are taken from ``raw``.
    text_kwargs
        Further arguments of :meth:`matplotlib.axes.Axes.text` for the names of the states.
    label_distance
        Distance of the names from the middle.
    label_rot
        How the names are turned: along the circle (``"best"``), away from its middle (``"default"`` or None), or by
        this many degrees.
    show_edges
        Whether to draw the circle, each part between two states in their colours.
    key_added
        Where to store the places of the cells in ``adata.obsm``; they are not stored by default.
    looks
        All other arguments that concern cells, legend and figure: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given; a list if ``keys`` is one.

    Raises
    ------
    KeyError
        If there are no fates, or a state or a key does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If there are fewer than three states, or an argument is out of range or does not fit.

    Examples
    --------
    >>> g = g.set_terminal_states().compute_fate_probabilities()  # all three macrostates
    >>> axes = jv.pl.circular_projection(adata, keys="clusters", show=False)
    >>> axes.get_title()
    'clusters'
    """
    check_positive("label_distance", label_distance)
    check_positive("space", space)
    turned = label_rot is None or is_number(label_rot)
    if not turned and label_rot not in ("best", "default"):
        raise ValueError(f"Expected `label_rot` to be 'best', 'default', None or an angle, found `{label_rot!r}`.")
    if lineage_order not in (None, "default", "optimal"):
        raise ValueError(f"Expected `lineage_order` to be 'default', 'optimal' or None, found `{lineage_order!r}`.")
    fate_keys = FateKeys(backward)
    everything = read_fates(adata, fate_keys, REMEDY)
    fates = everything.of(lineages, "lineages")
    if len(fates.names) < 3:
        raise ValueError(
            f"Expected at least 3 lineages around the circle, found {listed(fates.names)}. Draw two of them by "
            "`jaxvelo.pl.log_odds`, or one by `jaxvelo.pl.fate_probabilities`."
        )
    weights = _weights(fates, normalize_by_mean)
    order = _order(weights, fates.names, lineage_order, metric)
    positions = weights[:, order] @ _corners(len(order))
    names = [fates.names[i] for i in order]
    shades = fate_colors(adata, fate_keys, everything.names)
    colors = [shades[name] for name in names]
    several = isinstance(keys, list | tuple)
    looks = dataclasses.replace(looks, use_raw=True if use_raw else None, ncols=ncols)
    panels = _panels(adata, list(keys) if several else [keys], everything, early_cells, looks)

    def over(ax: Any, _: Colors) -> None:
        if show_edges:
            _draw_circle(ax, colors)
        _write_names(ax, names, colors, label_distance, label_rot, text_kwargs)
        if space is not None and looks.sheet.ax is None:
            ax.figure.get_layout_engine().set(wspace=space, hspace=space)

    embedding = Embedding("fates", positions, [0, 1], 2)
    if looks.sheet.figsize is None and looks.sheet.ax is None:
        n_columns = min(ncols, len(panels))
        sheet = looks.sheet.of_size(5.2 * n_columns, 4.6 * -(-len(panels) // n_columns))
        looks = dataclasses.replace(looks, sheet=sheet)
    drawn = draw_panels(embedding, panels, looks, listed=several, over=over)
    if key_added is not None:
        adata.obsm[key_added] = positions
    return drawn


def _weights(fates: Memberships, normalize_by_mean: bool) -> Float[np.ndarray, "cells states"]:
    """Give what the places of the states are weighted by; NaN for cells whose fates are not known."""
    if not normalize_by_mean:
        return fates.values
    known = np.isfinite(fates.values).all(axis=1)
    if not known.any():
        raise ValueError(f"Expected fates of the cells, found none that are finite. {REMEDY}")
    mean = fates.values[known].mean(axis=0)
    absent = [name for name, weight in zip(fates.names, mean, strict=True) if weight <= 0]
    if absent:
        raise ValueError(
            f"Expected cells that may end in each of the lineages, found none for {listed(absent)}. Leave them out of "
            "`lineages`, or pass `normalize_by_mean=False`."
        )
    relative = fates.values / mean
    total = relative.sum(axis=1, keepdims=True)
    return np.where(
        total > 0, relative / np.where(total > 0, total, 1), np.where(known[:, None], 1 / len(mean), np.nan)
    )


def _order(
    weights: Float[np.ndarray, "cells states"], names: list[str], order: str | None, metric: Any
) -> Int[np.ndarray, " states"]:
    """Give the order of the states around the circle."""
    n = len(names)
    if order == "default" or (order is None and not 3 < n <= MOST_ORDERED):
        return np.arange(n)
    if n > MOST_ORDERED:
        raise ValueError(
            f"Expected at most {MOST_ORDERED} lineages with `lineage_order='optimal'`, found {n}. Pass 'default'."
        )
    if isinstance(metric, str) or callable(metric):
        known = weights[np.isfinite(weights).all(axis=1)]
        try:
            distances = squareform(pdist(known.T, METRICS.get(metric, metric) if isinstance(metric, str) else metric))
        except ValueError as error:
            raise ValueError(f"Expected `metric` to be one that SciPy knows, found `{metric!r}`: {error}") from error
    else:
        distances = np.asarray(square_in_order(metric, pd.Index(names), "metric"), dtype=float)
    if not np.isfinite(distances).all():
        raise ValueError(
            "Expected finite distances between the lineages, found some that are not: is one of them the same in all "
            "cells? Pass another `metric`, or `lineage_order='default'`."
        )
    return shortest_tour(distances)


def _panels(adata: "AnnData", keys: Sequence[Any], fates: Memberships, early_cells: Any, looks: Looks) -> list[Colors]:
    """Find out what the cells of each panel are coloured by."""
    if not keys:
        raise ValueError("Expected at least one name in `keys`, found none.")
    panels: list[Colors] = []
    for key in keys:
        if isinstance(key, str) and key in PRIMING and key not in adata.obs:
            degree = find_lineage_priming(adata, fates.values, key, early_cells)  # type: ignore[arg-type]
            panels.append(Continuous(f"priming ({key})", degree))
        else:
            panels += colors_of_panels(adata, [key], looks)
    if early_cells is not None and "kl_divergence" not in keys:
        logger.warning("`early_cells` have no effect without 'kl_divergence' in `keys`")
    return panels


def _corners(n: int) -> Float[np.ndarray, "states 2"]:
    """Give the places of the states."""
    angles = 2 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _draw_circle(ax: Any, colors: list[str]) -> None:
    """Draw the circle, from the colour of each state to that of the next."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba_array

    steps = 100
    shades = to_rgba_array([*colors, colors[0]])
    at = np.arange(len(colors) * steps + 1) / steps
    angles = 2 * np.pi * at / len(colors)
    line = EDGE * np.column_stack([np.cos(angles), np.sin(angles)])
    middles = (at[1:] + at[:-1]) / 2
    between = np.column_stack([np.interp(middles, np.arange(len(shades)), channel) for channel in shades.T])
    # Cut square, the ends of the pieces would show as gaps.
    pieces = LineCollection(
        list(np.stack([line[:-1], line[1:]], axis=1)), colors=between, linewidths=2.0, capstyle="round"
    )
    pieces.set_zorder(0.5)
    pieces.set_gid("circle")
    ax.add_collection(pieces)


def _write_names(
    ax: Any, names: list[str], colors: list[str], distance: float, rotation: Any, style: Mapping[str, Any]
) -> None:
    """Write the name of each state beside its place, and leave room for it."""
    n = len(names)
    look = {"ha": "center", "va": "center", "fontsize": text_size(11), "fontweight": "bold", **style}
    for k, (name, color, place) in enumerate(zip(names, colors, _corners(n), strict=True)):
        angle = 360 * k / n
        if rotation == "best":  # along the circle, and never upside down
            turn = angle - 90 if angle <= 180 else angle + 90
        elif is_number(rotation):
            turn = rotation
        else:
            turn = angle if angle <= 90 or angle >= 270 else angle + 180
        ax.text(*(distance * place), name, **{"color": color, "rotation": turn, "rotation_mode": "anchor", **look})
    reach = max(distance, EDGE) + 0.12
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
