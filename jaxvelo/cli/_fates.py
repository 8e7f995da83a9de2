"""Terminal states, fates and the genes that go with them: a step that fails is a warning, and ends these steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxvelo.annotated.clusters import cluster_names
from jaxvelo.cli._errors import reason
from jaxvelo.configuration import logger
from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import KernelExpression

N_GENES_SHOWN, MOST_ROWS, MOST_COLUMNS = 5, 20, 8


def find_fates(kernel: KernelExpression, cluster_key: str | None, n_states: int | None, layer: str | None) -> GPCCA:
    """Find macrostates, which of them are terminal, fates and drivers; those that cannot be found are missing.

    Parameters
    ----------
    kernel
        Kernel with a transition matrix; its cells get the results.
    cluster_key
        Clusters to name states after.
    n_states
        Number of macrostates; from the eigengap if None.
    layer
        Expression for the drivers; X if None.
    """
    estimator = GPCCA(kernel)
    steps: list[tuple[str, Callable[[], object]]] = [
        (
            "macrostates and fates",
            lambda: estimator.compute_macrostates(n_states, cluster_key=cluster_key),
        ),
        ("terminal states and fates", estimator.predict_terminal_states),
        ("fate probabilities", estimator.compute_fate_probabilities),
        ("lineage drivers", lambda: estimator.compute_lineage_drivers(layer=layer)),
    ]
    for what, compute in steps:
        try:
            compute()
        except Exception as error:  # results less, not the end of the flow
            logger.warning("Going on without %s: %s", what, reason(error))
            logger.debug("This is where it happened:", exc_info=error)
            break
        if what.startswith("macrostates"):
            report_eigenvalues(estimator)
    return estimator


def report_eigenvalues(estimator: GPCCA) -> None:
    """Tell the eigenvalues that the number of macrostates is to be judged by."""
    if estimator.eigendecomposition is None or estimator.macrostates is None:
        return
    values = np.real(estimator.eigendecomposition["D"])
    gap = int(estimator.eigendecomposition["eigengap"]) + 1
    before, after = (", ".join(f"{value:.3f}" for value in part) for part in (values[:gap], values[gap : gap + 3]))
    logger.info("    eigenvalues before the gap: %s; after it: %s", before, after)


def mean_fates(estimator: GPCCA, cluster_key: str | None) -> tuple[list[str], list[tuple[str, np.ndarray]]] | None:
    """Names of the first fates, and their mean probabilities in the first clusters and in all cells; None without."""
    fates = estimator.fate_probabilities
    if fates is None:
        return None
    rows = [("all cells", fates.X.mean(axis=0)[:MOST_COLUMNS])]
    if cluster_key is not None:
        column = estimator.adata.obs[cluster_key]
        codes = column.cat.codes.to_numpy()
        clusters = enumerate(cluster_names(column, cluster_key))
        present = [(name, fates.X[codes == i].mean(axis=0)) for i, name in clusters if (codes == i).any()]
        rows = [*((name, means[:MOST_COLUMNS]) for name, means in present[:MOST_ROWS]), *rows]
    return [str(name) for name in fates.names[:MOST_COLUMNS]], rows


def report_fates(estimator: GPCCA, cluster_key: str | None) -> None:
    """Tell the mean fates of the cells, and those of each cluster."""
    found = mean_fates(estimator, cluster_key)
    if found is None:
        return
    names, rows = found
    width = max(len(name) for name, _ in rows)
    widths = [max(len(name), 5) for name in names]
    lines = [" " * width + "".join(f"  {name:>{w}}" for name, w in zip(names, widths, strict=True))]
    for label, means in rows:
        shown = zip(means, widths, strict=True)
        lines.append(f"{label:<{width}}" + "".join(f"  {value:>{w}.2f}" for value, w in shown))
    logger.info("Mean fate probabilities:\n%s", "\n".join(f"    {line}" for line in lines))


def report_drivers(estimator: GPCCA) -> None:
    """Tell which genes go with each fate most."""
    for lineage, genes in top_drivers(estimator, N_GENES_SHOWN).items():
        shown = ", ".join(f"{gene} {correlation:.2f}" for gene, correlation in genes)
        logger.info("Genes that go most with %s, by their correlation: %s", lineage, shown)


def top_drivers(estimator: GPCCA, n_genes: int) -> dict[str, list[tuple[str, float]]]:
    """Genes with the largest correlations with each fate; none if there are no drivers."""
    fates, drivers = estimator.fate_probabilities, estimator.lineage_drivers
    if fates is None or drivers is None:
        return {}
    columns = {str(lineage): drivers[f"{lineage}_corr"].nlargest(n_genes) for lineage in fates.names[:MOST_COLUMNS]}
    return {lineage: list(zip(map(str, column.index), column, strict=True)) for lineage, column in columns.items()}
