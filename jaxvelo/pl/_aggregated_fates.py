"""The picture of the fates of clusters: bars, violins, heat maps, or a graph of the clusters."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import dendrogram, linkage

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.embeddings import default_basis
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.annotated.stored_states import Memberships, chosen_states, read_fates
from jaxvelo.graph import cluster_connectivities

from ._checks import checked_cmap
from ._cluster_graph import REST, ClusterGraph
from ._colors import Categorical, grouped
from ._embedding import finite_rows, read_positions
from ._fate_probabilities import REMEDY
from ._figure import INK, Canvas, Sheet, text_size
from ._heat_map import draw_heat_map
from ._legend import group_handles, legend_place, legend_style
from ._looks import picture
from ._panels import Points, cell_size, draw_color_bar, draw_points
from ._plain_axes import dress_axes, legend_look
from ._states import fate_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

MODES = ("bar", "paga", "paga_pie", "violin", "heatmap", "clustermap")
ALL = "all cells"


@picture()
def aggregate_fate_probabilities(
    adata: "AnnData",
    mode: Literal["bar", "paga", "paga_pie", "violin", "heatmap", "clustermap"] = "paga_pie",
    backward: bool = False,
    lineages: Any = None,
    cluster_key: str | None = "clusters",
    clusters: Any = None,
    basis: str | None = None,
    cbar: bool = True,
    ncols: int | None = None,
    sharey: bool = False,
    fmt: str = "0.2f",
    xrot: float = 90,
    legend_kwargs: Mapping[str, Any] = MappingProxyType({"loc": "right margin"}),
    *,
    cmap: Any = "viridis",
    threshold: float = 0.01,
    neighbors_key: str | None = None,
    title: str | None = None,
    sheet: Sheet,
) -> "Axes | list[Axes] | None":
    r"""Draw how probable the terminal states are as the fates of the cells of each cluster.

    The fate of a cluster is the mean over its cells, :math:`\bar F_{ak} = \frac{1}{n_a} \sum_{i \in a} F_{ik}`, cells
    whose fates are not known left out.

    Parameters
    ----------
    adata
        The cells, with the fates as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    mode
        - ``"bar"``: a panel for each cluster, a bar for each fate, whiskers of one standard error of the mean,
          :math:`s_{ak} / \sqrt{n_a}` with the standard deviation over the cells (these are neighbours of each other,
          not independent: the error is larger);
        - ``"paga"``: a panel for each fate; the clusters as a graph (Wolf et al. 2019), in the colour of their mean;
        - ``"paga_pie"``: the same in one panel, the clusters as pies of their mean fates;
        - ``"violin"``: a panel for each fate, its distribution over the cells of each cluster;
        - ``"heatmap"``: fates by clusters;
        - ``"clustermap"``: the same in the order of a hierarchical clustering (average linkage of Euclidean distances).
    backward
        Whether the fates are those of a process backward in time.
    lineages
        Names of the terminal states; all by default. Of pies, the rest is grey.
    cluster_key
        Column of ``obs`` with the clusters; :obj:`None` takes all cells together, in ``"bar"`` and ``"violin"``.
    clusters
        Names of the clusters to draw; all by default.
    basis
        Embedding whose cells are drawn behind the graph, coloured by cluster. A node lies at the median of its cells in
        this embedding; without one, of UMAP, t-SNE or PCA the first that is there, without the cells.
    cbar
        Whether to draw a colour bar.
    ncols
        Number of panels in a row.
    sharey
        Whether bars of all panels, or violins, have the same scale.
    fmt
        How the numbers of heat maps are written; an empty text for none.
    xrot
        Angle of the names below.
    legend_kwargs
        Of the legend of the fates: ``loc``, see :func:`scatter`, and further arguments of
        :meth:`matplotlib.axes.Axes.legend`.
    cmap
        Colour map of numbers.
    threshold
        Connectivity of clusters below which there is no line between them: lines are as broad as the number of edges
        between two clusters in units of what chance would make, see
        :func:`jaxvelo.graph.cluster_connectivities`, from the stored distances.
    neighbors_key
        Name of the neighbours, None for ``"neighbors"``.
    title
        Title, if there is one panel.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given; a list in the modes with a panel for each cluster or fate.

    Raises
    ------
    KeyError
        If there are no fates, or a state, a cluster, a column, the neighbours or the embedding does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> axes = jv.pl.aggregate_fate_probabilities(adata, mode="bar", cluster_key="clusters", show=False)
    >>> len(axes)
    4
    """
    if mode not in MODES:
        raise ValueError(f"Expected `mode` to be one of {list(MODES)}, found `{mode!r}`.")
    if cluster_key is None and mode not in ("bar", "violin"):
        raise ValueError(f"Expected `cluster_key` with `mode={mode!r}`, found None. Without, draw 'bar' or 'violin'.")
    if ncols is not None:
        check_integer("ncols", ncols, 1)
    if not is_number(threshold) or not threshold >= 0:
        raise ValueError(f"Expected `threshold` to be a connectivity of at least 0, found `{threshold!r}`.")
    _check_format(fmt)
    cmap = checked_cmap("cmap", cmap)
    place = legend_place(legend_kwargs.get("loc", "right margin"))
    keys = FateKeys(backward)
    everything = read_fates(adata, keys, REMEDY)
    colors = fate_colors(adata, keys, everything.names)
    fates = everything.of(lineages, "lineages")
    shades = [colors[name] for name in fates.names]
    of = _aggregated(adata, fates, cluster_key, clusters)
    towards = "from" if backward else "to"
    n_fates, n_clusters = len(fates.names), len(of.names)
    if mode == "bar":
        canvas = _panels(sheet, n_clusters, ncols, max(2.0, 0.4 * n_fates + 1.0), "clusters")
        with canvas:
            _draw_bars(canvas.axes, of, fates.names, shades, sharey, xrot, title)
            return canvas.finish(listed=True)
    if mode == "violin":
        width = 0.4 * (n_clusters if cluster_key is not None else n_fates) + 1.4
        n_panels = n_fates if cluster_key is not None else 1
        canvas = _panels(sheet, n_panels, ncols, max(2.6, width), "lineages")
        with canvas:
            _draw_violins(canvas.axes, of, fates, shades, cluster_key, sharey, xrot, towards, title)
            return canvas.finish(listed=True)
    if mode in ("heatmap", "clustermap"):
        ordered = mode == "clustermap"
        canvas = Canvas(sheet.of_size(max(3.6, 0.62 * n_clusters + 1.8 + 0.9 * cbar), max(2.6, 0.5 * n_fates + 1.9)))
        with canvas:
            heading = "mean fate probability" if title is None else title
            _draw_matrix(canvas.ax, of, fates.names, shades, cmap, ordered, cbar, fmt, xrot, heading, str(cluster_key))
            return canvas.finish()
    embedding = read_positions(adata, default_basis(adata) if basis is None else basis, (1, 2))
    inside = finite_rows(embedding.positions)
    if homeless := [n for k, n in enumerate(of.names) if not (inside & (of.codes == k)).any()]:
        raise ValueError(
            f"Expected cells with finite coordinates in each cluster, found none in {listed(homeless)}. Compute the "
            "embedding again, or leave them out of `clusters`."
        )
    neighbors = read_neighbor_graph(adata, "distances", neighbors_key)
    graph = ClusterGraph(
        of.names,
        np.array([np.median(embedding.positions[inside & (of.codes == k)], axis=0) for k in range(n_clusters)]),
        np.bincount(of.codes[of.codes >= 0], minlength=n_clusters),
        cluster_connectivities(neighbors, of.groups.codes, len(of.groups.names))[np.ix_(of.chosen, of.chosen)],
    )

    def behind(ax: Any) -> None:
        if basis is not None:
            points = Points(size=cell_size(int(inside.sum())), alpha=0.3)
            draw_points(ax, embedding.positions, dataclasses.replace(of.groups, missing=""), points)

    if mode == "paga":
        canvas = _panels(sheet, n_fates, ncols, 4.6, "lineages")
        with canvas:
            _draw_graphs(canvas.axes, graph, of.mean, fates.names, cmap, threshold, behind, cbar, towards, title)
            return canvas.finish(listed=True)
    canvas = Canvas(sheet.of_size(7.2 if place.kind == "outside" else 6.2, 5.0))
    with canvas:
        ax = canvas.ax
        behind(ax)
        rest = np.maximum(1 - of.mean.sum(axis=1), 0) if n_fates < len(everything.names) else np.zeros(n_clusters)
        graph.draw(ax, [*shades, REST], threshold, np.column_stack([of.mean, rest]))
        _without_axes(ax, str(cluster_key) if title is None else title)
        if place.kind not in ("none", "data"):
            named = Categorical("fates", np.arange(n_fates), fates.names, shades, missing="")
            handles = group_handles(named)
            if rest.any():
                handles += group_handles(Categorical("", np.zeros(1, dtype=int), ["rest"], [REST], missing=""))
            look = {**legend_look(), "handletextpad": 0.2, **legend_style(len(handles)), **place.arguments}
            ax.legend(handles=handles, **{**look, **{k: v for k, v in legend_kwargs.items() if k != "loc"}})
        return canvas.finish()


@dataclasses.dataclass(frozen=True)
class _Aggregated:
    """Fates of clusters.

    Attributes
    ----------
    names, colors
        Of the clusters that are drawn.
    codes
        Cluster of each cell whose fates are known, -1 for all others.
    mean, error
        Mean over the cells of a cluster, and its standard error, clusters by fates.
    groups, chosen
        All clusters, and which of them are drawn.
    """

    names: list[str]
    colors: list[str]
    codes: Int[np.ndarray, " cells"]
    mean: Float[np.ndarray, "clusters fates"]
    error: Float[np.ndarray, "clusters fates"]
    groups: Categorical
    chosen: list[int]


def _aggregated(adata: "AnnData", fates: Memberships, cluster_key: str | None, clusters: Any) -> _Aggregated:
    """Take the means over clusters; those without cells are left out, unless they are named."""
    if cluster_key is None:
        groups = Categorical("", np.zeros(adata.n_obs, dtype=int), [ALL], [INK])
        if clusters is not None:
            raise ValueError("Expected `cluster_key` with `clusters`, found None. Name the column that they stand in.")
    else:
        groups = grouped(adata, cluster_key)
    known = np.isfinite(fates.values).all(axis=1)
    counts = np.bincount(groups.codes[(groups.codes >= 0) & known], minlength=len(groups.names))
    chosen = chosen_states(groups.names, clusters, "clusters")
    empty = [groups.names[k] for k in chosen if not counts[k]]
    if empty and (clusters is not None or len(empty) == len(chosen)):
        raise ValueError(f"Expected cells with known fates in each cluster, found none in {listed(empty)}. {REMEDY}")
    chosen = [k for k in chosen if counts[k]]
    number = np.full(len(groups.names) + 1, -1)
    number[chosen] = np.arange(len(chosen))
    codes = np.where(known, number[groups.codes], -1)
    mean, deviation = (
        np.array([statistic(fates.values[codes == k], axis=0) for k in range(len(chosen))])
        for statistic in (np.mean, np.std)
    )
    return _Aggregated(
        names=[groups.names[k] for k in chosen],
        colors=[groups.colors[k] for k in chosen],
        codes=codes,
        mean=mean,
        error=deviation / np.sqrt(counts[chosen])[:, None],
        groups=groups,
        chosen=chosen,
    )


def _check_format(fmt: Any) -> None:
    try:
        format(0.5, fmt)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected `fmt` to be a format of numbers, such as '0.2f', found `{fmt!r}`.") from error


def _panels(sheet: Sheet, n_panels: int, ncols: int | None, width: float, what: str) -> Canvas:
    if n_panels > 1 and sheet.ax is not None:
        raise ValueError(f"Expected one of the {what} for `ax`, found {n_panels}. Draw them one by one.")
    return Canvas(sheet, n_panels=n_panels, ncols=4 if ncols is None else ncols, default_size=(width, 3.4))


def _rotated(angle: float) -> dict[str, Any]:
    """Give how names below are turned: slanted ones end at their tick."""
    return {"rotation": angle, **({"ha": "right", "rotation_mode": "anchor"} if angle % 90 else {})}


def _draw_bars(
    axes: list[Any], of: _Aggregated, fates: list[str], shades: list[str], sharey: bool, xrot: float, title: str | None
) -> None:
    highest = (of.mean + of.error).max(axis=1)
    tops = np.full(len(axes), highest.max()) if sharey else highest
    for k, (ax, top) in enumerate(zip(axes, tops, strict=True)):
        whiskers = {"ecolor": INK, "elinewidth": 1.0, "capsize": 3.0}
        ax.bar(range(len(fates)), of.mean[k], 0.8, color=shades, yerr=of.error[k], error_kw=whiskers)
        ax.set_ylim(0.0, 1.05 * top if top > 0 else 1.0)
        ax.set_xticks(range(len(fates)), fates, **_rotated(xrot))
        dress_axes(ax, of.names[k] if title is None else title, "", "fate probability", text_size(11))


def _draw_violins(
    axes: list[Any],
    of: _Aggregated,
    fates: Memberships,
    shades: list[str],
    cluster_key: str | None,
    sharey: bool,
    xrot: float,
    towards: str,
    title: str | None,
) -> None:
    if cluster_key is None:
        cells = fates.values[of.codes >= 0]
        panels = [(ALL if title is None else title, list(cells.T), fates.names, shades)]
    else:
        panels = [
            (
                f"{towards} {name}" if title is None else title,
                [column[of.codes == k] for k in range(len(of.names))],
                of.names,
                of.colors,
            )
            for name, column in zip(fates.names, fates.values.T, strict=True)
        ]
    highest = max(float(fates.values[of.codes >= 0].max()), 1e-12)
    for ax, (heading, values, names, colors) in zip(axes, panels, strict=True):
        for at, (one, color) in enumerate(zip(values, colors, strict=True)):
            _draw_violin(ax, at, one, color)
        top = highest if sharey else max(1e-12, *(float(one.max()) for one in values))
        ax.set(xlim=(-0.6, len(names) - 0.4), ylim=(-0.03 * top, 1.03 * top))
        ax.set_xticks(range(len(names)), names, **_rotated(xrot))
        dress_axes(ax, heading, "", "fate probability", text_size(11))


def _draw_violin(ax: Any, at: int, values: Float[np.ndarray, " cells"], color: str) -> None:
    """Draw a distribution, within its range, with its quartiles; a line where all values are the same."""
    if np.ptp(values) > 1e-9:
        (body,) = ax.violinplot([values], [at], widths=0.85, showextrema=False)["bodies"]
        body.set(facecolor=color, edgecolor=color, alpha=0.75, linewidth=0.8)
    low, middle, high = np.percentile(values, (25, 50, 75))
    ax.plot([at, at], [low, high], color=INK, linewidth=3.0, solid_capstyle="butt", zorder=3)
    ax.plot(at, middle, "o", color="white", markeredgecolor=INK, markeredgewidth=0.8, markersize=3.5, zorder=4)


def _draw_matrix(
    ax: Any,
    of: _Aggregated,
    fates: list[str],
    shades: list[str],
    cmap: Any,
    ordered: bool,
    cbar: bool,
    fmt: str,
    xrot: float,
    title: str,
    cluster_key: str,
) -> None:
    """Draw fates by clusters, perhaps in the order of two trees, which are drawn beside."""
    matrix = of.mean.T
    trees = [linkage(x, "average") if ordered and len(x) > 1 else None for x in (matrix, matrix.T)]
    rows, columns = (
        np.arange(n) if tree is None else np.array(dendrogram(tree, no_plot=True)["leaves"])
        for tree, n in zip(trees, matrix.shape, strict=True)
    )
    image = draw_heat_map(
        ax,
        matrix[np.ix_(rows, columns)],
        cmap,
        limits=(float(matrix.min()), float(matrix.max())),
        form=fmt or None,
    )
    size = text_size(10)
    ax.set_xticks(range(len(columns)), [of.names[i] for i in columns], fontsize=size, **_rotated(xrot))
    ax.set_yticks(range(len(rows)), [fates[i] for i in rows], fontsize=size)
    for label, i in zip(ax.get_yticklabels(), rows, strict=True):
        label.set(color=shades[i], fontweight="bold")
    ax.set_xlabel(cluster_key, color=INK, fontsize=size)
    above = 0.0
    if trees[1] is not None:
        above = 0.22
        _draw_tree(ax.inset_axes((0.0, 1.01, 1.0, above)), trees[1], "top")
    if trees[0] is not None:
        _draw_tree(ax.inset_axes((1.01, 0.0, 0.12, 1.0)), trees[0], "right")
    if title:
        ax.set_title(title, color=INK, fontsize=text_size(13), y=1.02 + above)
    if cbar:
        draw_color_bar(image, ax, label="fate probability", shrink=0.9)


def _draw_tree(ax: Any, tree: np.ndarray, side: str) -> None:
    """Draw how rows or columns are joined, each leaf at its place."""
    found = dendrogram(tree, no_plot=True)
    for along, height in zip(found["icoord"], found["dcoord"], strict=True):
        at = (np.array(along) - 5) / 10  # leaves stand at 5, 15, 25, ...
        x, y = (at, height) if side == "top" else (height, at)
        ax.plot(x, y, color="0.45", linewidth=1.0)
    n = len(found["leaves"])
    top = 1.03 * tree[-1, 2] or 1.0
    ax.set(xlim=(-0.5, n - 0.5), ylim=(0, top)) if side == "top" else ax.set(xlim=(0, top), ylim=(n - 0.5, -0.5))
    ax.set_axis_off()


def _draw_graphs(
    axes: list[Any],
    graph: ClusterGraph,
    mean: Float[np.ndarray, "clusters fates"],
    fates: list[str],
    cmap: Any,
    threshold: float,
    behind: Any,
    cbar: bool,
    towards: str,
    title: str | None,
) -> None:
    """Draw the clusters in the colours of their fates, the same colours for the same numbers in all panels."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(float(mean.min()), float(mean.max())), cmap)
    for ax, name, values in zip(axes, fates, mean.T, strict=True):
        behind(ax)
        graph.draw(ax, scale.to_rgba(values), threshold)
        _without_axes(ax, f"{towards} {name}" if title is None else title)
    if cbar:
        draw_color_bar(scale, axes if len(axes) > 1 else axes[0], label="fate probability", shrink=0.7)


def _without_axes(ax: Any, title: str) -> None:
    ax.set_axis_off()
    if title:
        ax.set_title(title, color=INK, fontsize=text_size(13))
