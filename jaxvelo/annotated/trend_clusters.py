"""Groups of genes whose trends towards a fate are alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.spatial.distance import cdist

MOST_CLUSTERS = 8
"""Numbers of groups that are tried, at most."""

STARTS = 10
"""Starts of k-means, of which the best one counts."""

MOST_COMPARED = 1000
"""Genes whose distances to each other are taken to tell how many groups there are."""


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


def cluster_curves(
    values: Float[np.ndarray, "genes times"], n_clusters: int | None, seed: int
) -> Int[np.ndarray, " genes"]:
    """Group curves by k-means: give the number of each one's group, in the order of the peaks of their means.

    Parameters
    ----------
    values
        The curves.
    n_clusters
        Number of groups, no more than curves; that of the best separated ones if :obj:`None`.
    seed
        Seed of the start values.
    """
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
    return rank[codes]


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
