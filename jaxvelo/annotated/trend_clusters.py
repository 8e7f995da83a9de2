"""Groups of genes whose trends towards a fate are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from jaxvelo.annotated.stored_trends import Trends

MOST_CLUSTERS = 8
"""Numbers of groups that are tried, at most."""

POINTS = 100
"""Times at which trends are compared."""


class TrendClusters(NamedTuple):
    """Genes in groups, numbered in the order of the peaks of their mean trends.

    Attributes
    ----------
    genes
        Names of the genes.
    codes
        Number of each gene's group.
    lineage
        Name of the lineage.
    times, curves
        Times, and the trends there, as they were compared.
    """

    genes: pd.Index
    codes: Int[np.ndarray, " genes"]
    lineage: str
    times: Float[np.ndarray, " times"]
    curves: Float[np.ndarray, "genes times"]

    def to_series(self) -> pd.Series:
        """Give the number of each gene's group, by the gene's name."""
        return pd.Series(self.codes, index=self.genes, name=f"cluster towards {self.lineage}")


def cluster_genes(
    trends: Trends, lineage: Any, genes: Any, n_clusters: int | None, norm: bool, seed: int
) -> TrendClusters:
    """Group genes by k-means of their trends; the arguments are those of :meth:`Trends.clusters`."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ImportError as error:
        raise ImportError('Groups of genes need scikit-learn: pip install "jaxvelo[tutorial]".') from error

    if n_clusters is not None:
        check_integer("n_clusters", n_clusters, 1)
    check_integer("random_state", seed, 0)
    if lineage is None and len(trends.lineages) > 1:
        raise ValueError(
            f"Expected the name of one lineage as `lineage`, found None. There are {listed(trends.lineages)}."
        )
    curves_of = trends.curves_of(lineage, conditions=False)
    if len(curves_of) != 1:
        raise ValueError(f"Expected the name of one lineage as `lineage`, found `{lineage!r}`.")
    (curve,) = curves_of
    places = trends.places(genes)
    times, found = trends.evaluate(curve, places, POINTS)
    values = found.values
    spread = values.std(axis=1)
    known = np.isfinite(values).all(axis=1) & (spread > 1e-6 * np.maximum(np.abs(values).max(axis=1), 1e-12))
    if not known.all():
        logger.warning("Leaving out %d genes without a trend, or with a constant one", np.count_nonzero(~known))
        places, values, spread = places[known], values[known], spread[known]
    least = 2 if n_clusters is None else n_clusters
    if len(values) < max(least, 1):
        raise ValueError(f"Expected at least {least} genes to group, found {len(values)} with a trend that changes.")
    if norm:
        values = (values - values.mean(axis=1, keepdims=True)) / spread[:, None]

    def grouped(n: int) -> np.ndarray:
        return KMeans(n, n_init=10, random_state=seed).fit_predict(values)

    if n_clusters is not None:
        codes = grouped(n_clusters)
    else:
        tried = [grouped(n) for n in range(2, min(MOST_CLUSTERS, len(values) - 1) + 1)] or [grouped(len(values))]
        scores = [
            silhouette_score(values, codes, sample_size=min(len(values), 2000), random_state=seed)
            for codes in tried
            if len(values) > 2
        ]
        codes = tried[int(np.argmax(scores)) if scores else 0]
    numbers = np.unique(codes)
    means = np.stack([values[codes == number].mean(axis=0) for number in numbers])
    rank = np.empty(numbers.max() + 1, int)
    rank[numbers[np.lexsort((means[:, -1], means.argmax(axis=1)))]] = np.arange(len(numbers))
    return TrendClusters(trends.genes[places], rank[codes], trends.lines[curve].lineage, times, values)
