"""The picture of what the velocities of genes do to fates: a heat map, or cells in an embedding."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.gene_perturbations import EVERYWHERE, read_change, read_effects
from jaxvelo.annotated.stored_states import chosen_states

from ._checks import checked_cmap
from ._colors import Continuous
from ._embedding import read_positions
from ._figure import INK, Canvas, text_size
from ._heat_map import draw_heat_map, ink_on
from ._looks import Looks, picture
from ._panels import draw_color_bar, draw_panels, titles_of
from ._states import fate_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

DIVERGING = "RdBu_r"  # what makes a fate likelier is red
EXACT = "exact"
LABEL = "change of the fate probability"


@picture()
def perturbed_fates(
    adata: "AnnData",
    genes: Any = None,
    mode: Literal["heatmap", "embedding"] = "heatmap",
    lineages: Any = None,
    clusters: Any = EVERYWHERE,
    n_genes: int = 5,
    sort_by: Literal["effect", "exact", "consistency", "score", "pval"] = "effect",
    basis: str | None = "umap",
    *,
    max_qval: float = 0.05,
    fmt: str = "+.3f",
    backward: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw by how much the fates change if genes are silenced, or raised, in the velocities.

    Parameters
    ----------
    adata
        The cells, with what :func:`jaxvelo.tl.perturb_genes` has written; not changed.
    genes
        Names of genes, in this order; by default, in heat maps those with the largest effects on each lineage, and in
        embeddings all with exact effects.
    mode
        ``"heatmap"``: genes by lineages, a panel for each cluster; the mean effect on its cells, exact where it was
        computed (bold), of first order otherwise. ``"embedding"``: the exact change of every cell's fate, a panel for
        each gene and lineage.
    lineages
        Names of the terminal states; all by default.
    clusters
        One or several names of clusters that effects were summarised by; ``"all cells"`` for all that are not terminal.
    n_genes
        How many genes for each lineage, where ``genes`` are not named.
    sort_by
        By the absolute value of which column of the table they are chosen, or the smallest p-value.
    basis
        Embedding; see :func:`scatter`.
    max_qval
        Genes with a q-value up to this have a star in heat maps.
    fmt
        How numbers are written in heat maps; an empty text for none.
    backward
        Whether the fates are those of a process backward in time.
    looks
        All other arguments that concern cells, legend and figure: see :func:`scatter`. Colours are symmetric around
        zero, the same in all panels.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given; a list if ``clusters`` is one, or of an embedding.

    Raises
    ------
    KeyError
        If there are no effects, or a gene, lineage, cluster or embedding does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> table = jv.tl.perturb_genes(kernel, n_shuffles=20)
    >>> axes = jv.pl.perturbed_fates(adata, n_genes=3, show=False)
    >>> axes.get_title()
    'all cells'
    """
    if mode not in ("heatmap", "embedding"):
        raise ValueError(f"Expected `mode` to be 'heatmap' or 'embedding', found `{mode!r}`.")
    if sort_by not in (known := ("effect", EXACT, "consistency", "score", "pval")):
        raise ValueError(f"Expected `sort_by` to be one of {list(known)}, found `{sort_by!r}`.")
    check_integer("n_genes", n_genes, 1)
    if not is_number(max_qval):
        raise ValueError(f"Expected `max_qval` to be a number, found `{max_qval!r}`.")
    keys = FateKeys(backward)
    table = read_effects(adata, keys)
    everything = list(dict.fromkeys(table["lineage"]))
    chosen = [everything[i] for i in chosen_states(everything, lineages, "lineages")]
    if mode == "embedding":
        return _draw_cells(adata, keys, _exact_genes(table, genes), chosen, basis, looks)
    known_clusters = list(dict.fromkeys(table["cluster"]))
    panels = [known_clusters[i] for i in chosen_states(known_clusters, clusters, "clusters")]
    table = table[table["cluster"].isin(panels) & table["lineage"].isin(chosen)]
    named = _named_genes(table, genes) if genes is not None else _largest(table, panels, chosen, n_genes, sort_by)
    matrices = [_Effects.of(table[table["cluster"] == name], named, chosen) for name in panels]
    colors = fate_colors(adata, keys, everything)
    several = isinstance(clusters, list | tuple)
    if len(panels) > 1 and looks.sheet.ax is not None:
        raise ValueError(f"Expected one of the `clusters` for `ax`, found {len(panels)}. Draw them one by one.")
    titles = titles_of(looks.title, panels)
    cmap = checked_cmap("cmap", DIVERGING if looks.scale.cmap is None else looks.scale.cmap)
    largest = max((float(np.nanmax(np.abs(one.values), initial=0.0)) for one in matrices), default=0.0) or 1e-12
    low, high = looks.scale.limits(Continuous("", np.zeros(1), (-largest, largest)))
    canvas = Canvas(
        looks.sheet,
        n_panels=len(panels),
        ncols=looks.ncols,
        default_size=(max(2.6, 0.72 * len(chosen) + 1.8), max(2.6, 0.27 * len(named) + 1.3)),
    )
    with canvas:
        for ax, one, title in zip(canvas.axes, matrices, titles, strict=True):
            image = draw_heat_map(ax, one.values, cmap, limits=(low, high), form=None)
            size = text_size(9 if len(named) <= 40 else 6)
            one.write(ax, image, fmt, max_qval, size)
            ax.set_yticks(range(len(named)), named, fontsize=size)
            ax.set_xticks(range(len(chosen)), chosen, fontsize=text_size(9), rotation=45, ha="right")
            for label, lineage in zip(ax.get_xticklabels(), chosen, strict=True):
                label.set(color=colors[lineage], fontweight="bold", rotation_mode="anchor")
            if title:
                ax.set_title(title, color=INK, fontsize=looks.fontsize or text_size(11))
        if looks.scale.colorbar:
            bar_beside = canvas.axes if len(canvas.axes) > 1 else canvas.ax
            draw_color_bar(image, bar_beside, label=LABEL, shrink=0.8)
        return canvas.finish(listed=several)


@dataclasses.dataclass(frozen=True)
class _Effects:
    """Effects on one cluster, genes by lineages, which of them are exact, and their q-values."""

    values: Float[np.ndarray, "genes lineages"]
    exact: np.ndarray
    qval: Float[np.ndarray, "genes lineages"]

    @classmethod
    def of(cls, table: pd.DataFrame, genes: list[str], lineages: list[str]) -> "_Effects":
        first, exact, qval = (
            table.drop_duplicates(["gene", "lineage"])
            .pivot(index="gene", columns="lineage", values=name)
            .reindex(index=genes, columns=lineages)
            .to_numpy(dtype=float)
            for name in ("effect", EXACT, "qval")
        )
        computed = np.isfinite(exact)
        return cls(np.where(computed, exact, first), computed, qval)

    def write(self, ax: Any, image: Any, fmt: str, max_qval: float, size: float) -> None:
        """Write the numbers, bold where exact, with a star where they are significant."""
        for place in np.ndindex(self.values.shape):
            value = self.values[place]
            star = "*" if self.qval[place] <= max_qval else ""
            text = (format(value, fmt) if fmt and np.isfinite(value) else "") + star
            if text:
                weight = "bold" if self.exact[place] else "normal"
                shade = ink_on(image.to_rgba(value))
                style: dict[str, Any] = {"fontsize": 0.85 * size, "fontweight": weight, "color": shade}
                ax.text(place[1], place[0], text, ha="center", va="center", **style)


def _named_genes(table: pd.DataFrame, genes: Any) -> list[str]:
    """Give the genes that a user names."""
    known = list(dict.fromkeys(table["gene"]))
    wanted = list(dict.fromkeys(map(str, genes if pd.api.types.is_list_like(genes) else [genes])))
    if not wanted:
        raise ValueError("Expected at least one name in `genes`, found none.")
    if absent := [gene for gene in wanted if gene not in set(known)]:
        raise KeyError(f"Expected genes with effects in `genes`, found {listed(absent, 5)}. There are {listed(known)}.")
    return wanted


def _largest(table: pd.DataFrame, clusters: list[str], lineages: list[str], n: int, sort_by: str) -> list[str]:
    """Give the genes that matter most for each lineage in any of the clusters, lineage by lineage."""
    found: dict[str, None] = {}
    for cluster in clusters:
        for lineage in lineages:
            rows = table[(table["cluster"] == cluster) & (table["lineage"] == lineage)].dropna(subset=[sort_by])
            by = rows[sort_by] if sort_by == "pval" else -rows[sort_by].abs()
            found |= dict.fromkeys(rows["gene"].iloc[np.argsort(by.to_numpy(), kind="stable")[:n]])
    if not found:
        raise ValueError(
            f"Expected genes with `{sort_by}`, found none. Name exact effects by `jaxvelo.tl.perturb_genes(kernel, "
            "genes=...)`, or another column in `sort_by`."
        )
    return list(found)


def _exact_genes(table: pd.DataFrame, genes: Any) -> list[str]:
    """Give the genes to draw in an embedding."""
    if genes is not None:
        return _named_genes(table, genes)
    found = list(dict.fromkeys(table.loc[np.isfinite(table[EXACT].to_numpy(dtype=float)), "gene"]))
    if not found:
        raise ValueError(
            "Expected genes with exact effects to draw in an embedding, found none. Compute them by "
            "`jaxvelo.tl.perturb_genes(kernel, genes=...)`."
        )
    return found


def _draw_cells(
    adata: "AnnData", keys: FateKeys, genes: list[str], lineages: list[str], basis: str | None, looks: Looks
) -> Any:
    """Draw the change of every cell's fates, a row of panels for each gene."""
    changes = {f"{gene}: {lineage}": read_change(adata, keys, gene, lineage) for gene in genes for lineage in lineages}
    largest = max(float(np.nanmax(np.abs(values), initial=0.0)) for values in changes.values()) or 1e-12
    panels = [Continuous(title, values, (-largest, largest)) for title, values in changes.items()]
    if looks.scale.cmap is None:
        looks = dataclasses.replace(looks, scale=dataclasses.replace(looks.scale, cmap=DIVERGING, sort_order=False))
    if looks.ncols == 4 and len(genes) > 1:
        looks = dataclasses.replace(looks, ncols=len(lineages))
    return draw_panels(read_positions(adata, basis, looks.components, looks.projection), panels, looks, listed=True)
