"""Groups of genes whose trends towards a fate are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.spatial.distance import cdist

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from jaxvelo.annotated.stored_trends import Trends

MOST_CLUSTERS = 8
"""Numbers of groups that are tried, at most."""

STARTS = 10
"""Starts of k-means, of which the best one counts."""

MOST_COMPARED = 1000
"""Genes whose distances to each other are taken to tell how many groups there are."""

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

    random = np.random.default_rng(seed)
    if n_clusters is not None:
        codes = _k_means(values, n_clusters, random)
    else:
        tried = [_k_means(values, n, random) for n in range(2, min(MOST_CLUSTERS, len(values) - 1) + 1)]
        compared = random.permutation(len(values))[:MOST_COMPARED]
        distances = cdist(values[compared], values[compared])
        scores = [_silhouette(distances, codes[compared]) for codes in tried]
        codes = tried[int(np.argmax(scores))] if tried else np.arange(len(values))
    numbers = np.unique(codes)
    means = np.stack([values[codes == number].mean(axis=0) for number in numbers])
    rank = np.empty(numbers.max() + 1, int)
    rank[numbers[np.lexsort((means[:, -1], means.argmax(axis=1)))]] = np.arange(len(numbers))
    return TrendClusters(trends.genes[places], rank[codes], trends.lines[curve].lineage, times, values)


def _k_means(
    values: Float[np.ndarray, "genes times"], n: int, random: np.random.Generator
) -> Int[np.ndarray, " genes"]:
    """Group rows by k-means, the best of several starts far from each other (Arthur & Vassilvitskii 2007)."""
    best, codes = np.inf, np.zeros(len(values), int)
    for _ in range(STARTS):
        centers = values[[random.integers(len(values))]]
        for _ in range(n - 1):
            squares = cdist(values, centers, "sqeuclidean").min(axis=1)
            total = squares.sum()
            chosen = random.choice(len(values), p=squares / total if total > 0 else None)
            centers = np.concatenate([centers, values[[chosen]]])
        try:
            centers, found = kmeans2(values, centers, iter=30, minit="matrix", missing="raise")
        except ClusterError:  # a group lost all of its genes
            continue
        loss = ((values - centers[found]) ** 2).sum()
        if loss < best:
            best, codes = loss, found
    return codes


def _silhouette(distances: Float[np.ndarray, "genes genes"], codes: Int[np.ndarray, " genes"]) -> float:
    """How much closer genes are to their own group than to the next one, on average (Rousseeuw 1987)."""
    numbers, own = np.unique(codes, return_inverse=True)
    if len(numbers) < 2:
        return -1.0
    sums = np.stack([distances[:, codes == number].sum(axis=1) for number in numbers], axis=1)
    sizes, rows = np.bincount(own), np.arange(len(codes))
    inside = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes[None]
    means[rows, own] = np.inf
    outside = means.min(axis=1)
    score = (outside - inside) / np.maximum(np.maximum(inside, outside), np.finfo(float).tiny)
    return float(np.where(sizes[own] > 1, score, 0).mean())
