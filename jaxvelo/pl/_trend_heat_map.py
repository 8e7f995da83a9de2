"""The picture of many genes' trends as colours, in the order in which they peak."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.annotated.stored_states import read_fates
from jaxvelo.annotated.stored_trends import ALL_CELLS, REMEDY, Trends, fate_keys_of
from jaxvelo.configuration import logger

from ._checks import check_positive, checked_cmap
from ._colors import grouped
from ._figure import INK, Canvas, Sheet, text_size
from ._looks import picture
from ._panels import draw_color_bar
from ._plain_axes import legend_look

if TYPE_CHECKING:
    from anndata import AnnData

MOST_NAMES = 70  # genes whose names can be read
POINTS = 200


@picture()
def heatmap(
    adata: "AnnData",
    genes: Any = None,
    lineages: Any = None,
    *,
    key: str = "trends",
    mode: Literal["lineages", "genes"] = "lineages",
    keep_gene_order: bool = False,
    scale: bool = True,
    cluster_key: str | None = None,
    show_fate_probabilities: bool = False,
    show_all_genes: bool = False,
    cbar: bool = True,
    cmap: Any = "viridis",
    fontsize: float | None = None,
    title: str | None = None,
    xlabel: str | None = None,
    return_genes: bool = False,
    sheet: Sheet,
) -> Any:
    """Draw the trends of many genes as colours, sorted by the time of their peaks.

    Parameters
    ----------
    adata
        The cells, with the trends as :func:`jaxvelo.tl.fit_trends` writes them; not changed.
    genes
        Names of genes; all with trends by default.
    lineages
        Names of lineages, or one; all by default.
    key
        Name of the trends.
    mode
        ``"lineages"``: a panel for each lineage, with a row for each gene; ``"genes"``: a panel for each gene, with a
        row for each lineage.
    keep_gene_order
        Whether all lineages have the first one's order of genes.
    scale
        Whether each gene's trends are scaled from 0, their smallest value in any of the lineages, to 1.
    cluster_key
        Column of ``adata.obs`` with groups: a strip above each lineage shows which group most of its cells are in.
    show_fate_probabilities
        Whether a line above each lineage shows the cells' mean probability of that fate.
    show_all_genes
        Whether all genes have their names beside them, however small; more than 70 have none otherwise.
    cbar
        Whether to draw the colour bar.
    cmap
        Colour map.
    fontsize
        Size of the panels' titles.
    title
        Title of the figure.
    xlabel
        Name of the time; its key by default.
    return_genes
        Whether to return the genes in the order of each lineage, as a table with a column for each.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes, pandas.DataFrame or None
        The axes if ``show=False`` or ``ax`` was given, a list if there are several panels; the table if
        ``return_genes``.

    Raises
    ------
    KeyError
        If there are no trends, or a gene, a lineage or ``cluster_key`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range, or there are several panels for ``ax``.

    Examples
    --------
    >>> trends = jv.tl.fit_trends(adata, time_key="true_time")
    >>> axes = jv.pl.heatmap(adata, lineages="Fate A", show=False)
    >>> axes.get_title()
    'Fate A'
    """
    if mode not in ("lineages", "genes"):
        raise ValueError(f"Expected `mode` to be 'lineages' or 'genes', found `{mode!r}`.")
    check_positive("fontsize", fontsize)
    cmap = checked_cmap("cmap", cmap)
    trends = Trends.from_adata(require_anndata(adata), key)
    places = trends.places(genes)
    curves = trends.curves_of(lineages, conditions=False)
    values = np.stack([trends.evaluate(curve, places, POINTS)[1].values for curve in curves])
    known = np.isfinite(values).all(axis=(0, 2))
    if not known.all():
        logger.warning("Leaving out %d genes without a trend in some lineage", np.count_nonzero(~known))
        places, values = places[known], values[:, known]
    if not len(places):
        raise ValueError(f"Expected genes with trends in `adata.varm[{key!r}]`, found none. {REMEDY}")
    if scale:
        low, high = values.min(axis=(0, 2)), values.max(axis=(0, 2))
        values = (values - low[:, None]) / np.where(high > low, high - low, 1)[:, None]
    names = trends.genes[places].astype(str)
    orders = [by_peak(values[0 if keep_gene_order else i]) for i in range(len(curves))]
    label = trends.time_key.replace("_", " ") if xlabel is None else xlabel
    n_panels = len(curves) if mode == "lineages" else len(places)
    if n_panels > 1 and sheet.ax is not None:
        raise ValueError(f"Expected one panel for `ax`, found {n_panels}. Draw them one by one.")
    n_rows = len(places) if mode == "lineages" else len(curves)
    is_named = mode == "genes" or show_all_genes or n_rows <= MOST_NAMES
    strips = (cluster_key is not None) + show_fate_probabilities if mode == "lineages" else 0
    height = float(np.clip(0.17 * n_rows, 0.5 if mode == "genes" else 2.5, 12.0)) + 0.7 + 0.35 * strips
    canvas = Canvas(sheet, n_panels=n_panels, ncols=n_panels if mode == "lineages" else 1, default_size=(4.2, height))
    groups = None if cluster_key is None or not strips else grouped(adata, cluster_key)
    with canvas:
        drawn, limits = None, (values.min(), values.max())
        for i, ax in enumerate(canvas.axes):
            if mode == "lineages":
                matrix, rows = values[i, orders[i]], names[orders[i]]
                panel, extent = trends.lines[curves[i]].lineage, trends.ranges[curves[i]]
                _draw_strips(ax, adata, trends, curves[i], groups, show_fate_probabilities)
            else:
                matrix, rows = _on_one_axis(trends, curves, values[:, i])
                panel, extent = names[i], _whole(trends, curves)
            drawn = ax.imshow(
                matrix, aspect="auto", cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest",
                extent=(extent[0], extent[1], len(rows) - 0.5, -0.5),
            )  # fmt: skip
            ax.spines[:].set_visible(False)
            ax.tick_params(length=0, labelcolor=INK, labelsize=text_size(9))
            size = float(np.clip(72 * (height - 0.7) / max(n_rows, 1) * 0.8, 2.5, text_size(9)))
            ax.set_yticks(range(len(rows)) if is_named else [], rows if is_named else [], fontsize=size)
            ax.set_title(panel, color=INK, fontsize=fontsize or text_size(12), pad=6)
            if mode == "lineages" or i == n_panels - 1:
                ax.set_xlabel(label, color=INK, fontsize=text_size(10))
            else:
                ax.set_xticks([])
        if not is_named:
            canvas.ax.set_ylabel(f"{len(places)} genes", color=INK, fontsize=text_size(10))
        if cbar and drawn is not None:
            draw_color_bar(
                drawn, canvas.axes, label="scaled expression" if scale else "expression", shrink=min(0.6, 4 / height)
            )
        if groups is not None and canvas.own:
            _name_groups(canvas, groups)
        if title is not None:
            canvas.ax.figure.suptitle(title, color=INK, fontsize=text_size(13))
        axes = canvas.finish(listed=n_panels > 1)
    if return_genes:
        return pd.DataFrame({trends.lines[c].lineage: names[o] for c, o in zip(curves, orders, strict=True)})
    return axes


def by_peak(curves: Float[np.ndarray, "genes points"]) -> np.ndarray:
    """Order genes by their peak; those that peak together by the middle of what lies above their smallest value."""
    above = curves - curves.min(axis=1, keepdims=True)
    points = np.arange(curves.shape[1])
    middle = (above * points).sum(axis=1) / np.maximum(above.sum(axis=1), np.finfo(float).tiny)
    return np.lexsort((middle, curves.argmax(axis=1)))


def _whole(trends: Trends, curves: Sequence[int]) -> tuple[float, float]:
    return float(trends.ranges[curves, 0].min()), float(trends.ranges[curves, 1].max())


def _on_one_axis(trends: Trends, curves: Sequence[int], values: Float[np.ndarray, "curves points"]) -> Any:
    """Give lineages on the times of all, missing where a lineage has none."""
    times = np.linspace(*_whole(trends, curves), POINTS)
    rows = [
        np.interp(times, np.linspace(low, high, POINTS), of, left=np.nan, right=np.nan)
        for (low, high), of in zip(trends.ranges[curves], values, strict=True)
    ]
    return np.stack(rows), [trends.lines[curve].lineage for curve in curves]


def _draw_strips(ax: Any, adata: "AnnData", trends: Trends, curve: int, groups: Any, with_fates: bool) -> None:
    """Draw what the cells of a lineage are at each time, above its panel."""
    if groups is None and not with_fates:
        return
    times = read_numbers(adata.obs, trends.time_key, "adata.obs", REMEDY)
    keys, weights, lineage = fate_keys_of(trends), np.ones(adata.n_obs), trends.lines[curve].lineage
    if lineage != ALL_CELLS and keys.fate_probabilities in adata.obsm:
        weights = read_fates(adata, keys, REMEDY).of([lineage], "lineages").values[:, 0]
    low, high = trends.ranges[curve]
    points = np.linspace(low, high, 100)
    valid = np.isfinite(times) & np.isfinite(weights)
    # Two percent of the time on each side.
    near = np.exp(-0.5 * ((times[valid][None] - points[:, None]) / (0.02 * (high - low))) ** 2) + 1e-9
    if with_fates:
        strip = ax.inset_axes((0, 1.01, 1, 0.05))
        strip.plot(points, near @ weights[valid] / near.sum(axis=1), color=INK, linewidth=1.2)
        strip.set(xlim=(low, high), ylim=(-0.05, 1.05), xticks=[], yticks=[])
        strip.spines[["top", "right"]].set_visible(False)
        strip.set_gid("fate probability")
    if groups is not None:
        from matplotlib.colors import to_rgb

        codes = groups.codes[valid]
        shares = np.stack([near @ (weights[valid] * (codes == i)) for i in range(len(groups.names))], axis=1)
        strip = ax.inset_axes((0, 1.01 + 0.06 * with_fates, 1, 0.03))
        colors = np.array([to_rgb(groups.colors[i]) for i in shares.argmax(axis=1)])
        strip.imshow(colors[None], aspect="auto", extent=(low, high, 0, 1))
        strip.set_axis_off()
        strip.set_gid("groups")


def _name_groups(canvas: Canvas, groups: Any) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=name) for name, color in zip(groups.names, groups.colors, strict=True)]
    canvas.ax.figure.legend(handles=handles, loc="outside right center", title=groups.key, **legend_look(9))
