"""The picture of the genes that go with a fate most, in an embedding."""

import dataclasses
import string
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.stored_states import correlations_of, read_drivers

from ._colors import Continuous, gene_values
from ._embedding import read_positions
from ._looks import Looks, picture
from ._panels import draw_panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

REMEDY = "Compute it with `GPCCA.compute_lineage_drivers()`."
FIELDS = ("gene", "corr", "pval", "qval")


@picture()
def lineage_drivers(
    adata: "AnnData",
    lineage: str,
    n_genes: int = 8,
    use_raw: bool | None = None,
    ascending: bool = False,
    basis: str | None = "umap",
    *,
    title_fmt: str = "{gene}\ncorrelation {corr:.2f}, q {qval:.1e}",
    backward: bool = False,
    looks: Looks,
) -> "Axes | list[Axes] | None":
    """Draw the genes whose expression correlates most with a fate, a panel for each.

    Parameters
    ----------
    adata
        The cells, with the drivers as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    lineage
        Name of the fate.
    n_genes
        How many genes.
    use_raw
        Whether the table and the expression are those of ``raw``; by default where they are there only.
    ascending
        Whether to draw the genes with the smallest correlations.
    basis
        Embedding; see :func:`scatter`.
    title_fmt
        Title of a panel, with ``{gene}``, ``{corr}``, ``{pval}`` and ``{qval}``.
    backward
        Whether the fates are those of a process backward in time.
    looks
        All other arguments that concern cells and figure: see :func:`scatter`.

    Returns
    -------
    list of Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If there are no drivers, or the fate or the embedding does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range or does not fit.

    Examples
    --------
    >>> table = g.compute_lineage_drivers()
    >>> axes = jv.pl.lineage_drivers(adata, "Fate A", n_genes=2, show=False)
    >>> len(axes)
    2
    """
    check_integer("n_genes", n_genes, 1)
    fields = {name for _, name, _, _ in string.Formatter().parse(title_fmt) if name is not None}
    if not fields <= set(FIELDS):
        raise ValueError(f"Expected fields among {list(FIELDS)} in `title_fmt`, found {sorted(fields - set(FIELDS))}.")
    table = read_drivers(adata, FateKeys(backward), use_raw, REMEDY)
    correlations = correlations_of(table, lineage)
    known = np.flatnonzero(np.isfinite(correlations))
    ranked = known[np.argsort(correlations[known] * (1 if ascending else -1), kind="stable")][:n_genes]
    if not len(ranked):
        raise ValueError(f"Expected genes with a correlation with {lineage!r}, found none of {len(table)}. {REMEDY}")
    embedding = read_positions(adata, basis, looks.components, looks.projection)
    panels, titles = [], []
    for place in ranked:
        gene = table.index[place]
        values = gene_values(adata, gene, looks.layer, use_raw)
        if values is None:
            raise KeyError(f"Expected the gene {gene!r} of the drivers in `adata`, found none. {REMEDY}")
        panels.append(Continuous(str(gene), values))
        titles.append(
            title_fmt.format(gene=gene, **{name: _number(table, lineage, name, place) for name in FIELDS[1:]})
        )
    if looks.title is None:
        looks = dataclasses.replace(looks, title=titles, fontsize=looks.fontsize or 11)
    return draw_panels(embedding, panels, looks, listed=True)


def _number(table: Any, lineage: str, name: str, place: int) -> float:
    column = f"{lineage}_{name}"
    return float(table[column].iloc[place]) if column in table else np.nan
