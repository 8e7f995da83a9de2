"""How genes change along the time towards each fate, as curves, a table and words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo import tl
from jaxvelo.annotated.stored_trends import Trends
from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.cli._errors import reason
from jaxvelo.cli._fates import MOST_COLUMNS, N_GENES_SHOWN, top_drivers
from jaxvelo.configuration import logger
from jaxvelo.estimators import GPCCA

TABLE = "trends.csv"
N_GENES_FITTED = 20
"""Of each fate, besides the highly variable genes."""

LEVEL = 0.05


def find_trends(estimator: GPCCA, time_key: str, backward: bool) -> Trends | None:
    """Fit the highly variable genes and those that go most with a fate; None, with a warning, if that fails.

    Without fates, genes are fitted to all cells.
    """
    adata = estimator.adata
    try:
        return tl.fit_trends(adata, _genes(adata, estimator), time_key, differences=False, backward=backward)
    except Exception as error:  # a result less, not the end of the flow
        logger.warning("Going on without trends of genes: %s", reason(error))
        logger.debug("This is where it happened:", exc_info=error)
        return None


def _genes(adata: AnnData, estimator: GPCCA) -> np.ndarray:
    """Mask of the genes to fit."""
    if "highly_variable" not in adata.var:
        return np.ones(adata.n_vars, dtype=bool)
    drivers = {gene for genes in top_drivers(estimator, N_GENES_FITTED).values() for gene, _ in genes}
    return adata.var["highly_variable"].to_numpy(dtype=bool) | adata.var_names.isin(drivers)


def leading_genes(trends: Trends, estimator: GPCCA, n_genes: int) -> dict[str, list[str]]:
    """Genes that go most with each of the first fates; where that is not known, those that change most surely."""
    drivers = top_drivers(estimator, n_genes)
    if drivers:
        return {lineage: [gene for gene, _ in genes] for lineage, genes in drivers.items()}
    changes = pd.DataFrame(trends.statistics["statistic"].T, index=trends.genes, columns=trends.lineages)
    return {lineage: list(changes[lineage].nlargest(n_genes).index) for lineage in trends.lineages[:MOST_COLUMNS]}


def report_lines(trends: Trends, estimator: GPCCA) -> list[str]:
    """Say how many genes change towards each fate, and when the leading ones are highest."""
    table, n_genes = trends.to_frame(), len(trends.genes)
    lines = []
    for lineage, genes in leading_genes(trends, estimator, N_GENES_SHOWN).items():
        of_fate = table[table["lineage"] == lineage].set_index("gene")
        n_changing = int((of_fate["qval"] < LEVEL).sum())
        peaks = ", ".join(f"{gene} at {of_fate.at[gene, 'peak_time']:.3g}" for gene in genes)
        lines.append(
            f"Towards {lineage}, {n_changing} of {n_genes} genes change (q < {LEVEL:g}); times at which the leading "
            f"ones are highest: {peaks}"
        )
    return lines


def write_table(trends: Trends, out: Path, written: list[Path]) -> None:
    """Write the table of all genes and fates, and add it to the files that were written."""
    path = out / TABLE
    try:
        with written_whole(path) as temporary:
            trends.to_frame().to_csv(temporary, index=False)
    except OSError as error:
        logger.warning("Could not write `%s`: %s", path, reason(error))
        return
    written.append(path)
