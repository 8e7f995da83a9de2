"""The picture of groups of genes that change alike along a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.stored_trends import Trends

from ._figure import INK, Canvas, Sheet, text_size
from ._gene_trends import lineage_colors
from ._looks import picture
from ._plain_axes import dress_axes

if TYPE_CHECKING:
    from anndata import AnnData

MOST_LINES = 300  # of single genes in a panel


@picture()
def cluster_trends(
    adata: "AnnData",
    genes: Any = None,
    lineage: str | None = None,
    *,
    key: str = "trends",
    n_clusters: int | None = None,
    clusters: Sequence[int] | int | None = None,
    norm: bool = True,
    random_state: int = 0,
    sharey: bool = True,
    ncols: int = 3,
    title: str | None = None,
    xlabel: str | None = None,
    return_clusters: bool = False,
    sheet: Sheet,
) -> Any:
    """Draw the trends of genes towards a fate, those that change alike in a panel together.

    Parameters
    ----------
    adata
        The cells, with the trends as :func:`jaxvelo.tl.fit_trends` writes them; not changed.
    genes
        Names of genes; all with trends by default.
    lineage
        Name of the lineage; may be left out if there is one alone.
    key
        Name of the trends.
    n_clusters
        Number of groups; by default that of the best separated ones (by the mean silhouette), from 2 to 8.
    clusters
        Numbers of the groups to draw, from 0, in the order of their peaks; all by default.
    norm
        Whether each trend is scaled to mean 0 and variance 1 before.
    random_state
        Seed of the groups' start values.
    sharey
        Whether all panels have the same limits.
    ncols
        Panels in a row.
    title
        Title of the figure.
    xlabel
        Name of the time; its key by default.
    return_clusters
        Whether to return the number of each gene's group, as :meth:`jaxvelo.tl.Trends.clusters` does.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes, pandas.Series or None
        The axes if ``show=False`` or ``ax`` was given, a list if there are several panels; the groups if
        ``return_clusters``.

    Raises
    ------
    KeyError
        If there are no trends, or a gene or the lineage does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range, or there are fewer genes than groups.

    Examples
    --------
    >>> trends = jv.tl.fit_trends(adata, time_key="true_time")
    >>> axes = jv.pl.cluster_trends(adata, lineage="Fate A", n_clusters=3, show=False)
    >>> len(axes)
    3
    """
    check_integer("ncols", ncols, 1)
    trends = Trends.from_adata(require_anndata(adata), key)
    found = trends.grouped(lineage, genes, n_clusters, norm, random_state)
    codes, n_found = found.codes, int(found.codes.max()) + 1
    chosen = list(range(n_found)) if clusters is None else np.atleast_1d(clusters).tolist()
    if not chosen or not set(chosen) <= set(range(n_found)):
        raise ValueError(f"Expected `clusters` among {listed(range(n_found))}, found `{clusters!r}`.")
    if len(chosen) > 1 and sheet.ax is not None:
        raise ValueError(f"Expected one group for `ax`, found {len(chosen)}. Name one in `clusters`.")
    color = lineage_colors(adata, trends)[found.lineage]
    canvas = Canvas(sheet, n_panels=len(chosen), ncols=ncols, default_size=(3.3, 2.6))
    with canvas:
        for number, (ax, cluster) in enumerate(zip(canvas.axes, chosen, strict=True)):
            curves = found.curves[codes == cluster]
            shown = np.random.default_rng(0).permutation(len(curves))[:MOST_LINES]
            ax.plot(found.times, curves[shown].T, color="0.6", linewidth=0.5, alpha=0.5, rasterized=True)
            mean, deviation = curves.mean(axis=0), curves.std(axis=0)
            ax.fill_between(found.times, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
            for line in (mean - deviation, mean + deviation):
                ax.plot(found.times, line, color=color, linewidth=1.0, linestyle="--")
            ax.plot(found.times, mean, color=color, linewidth=2.2)
            name = f"{cluster}: {len(curves)} genes" if len(curves) > 1 else f"{cluster}: 1 gene"
            is_low = number + min(ncols, len(chosen)) >= len(chosen)
            label = trends.time_key.replace("_", " ") if xlabel is None else xlabel
            is_left = number % min(ncols, len(chosen)) == 0
            dress_axes(
                ax, name, label if is_low else "", ("scaled " * norm + "expression") if is_left else "", text_size(12)
            )
            ax.set_xlim(found.times[0], found.times[-1])
        if sharey:
            limits = np.array([ax.get_ylim() for ax in canvas.axes])
            for ax in canvas.axes:
                ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        if canvas.own:
            heading = f"genes towards {found.lineage}" if title is None else title
            canvas.ax.figure.suptitle(heading, color=INK, fontsize=text_size(13))
        axes = canvas.finish(listed=len(chosen) > 1)
    return found.to_series() if return_clusters else axes
