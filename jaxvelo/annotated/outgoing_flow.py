"""Flow out of a cluster over experimental time, of cells with clusters and times in ``obs``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Float

from jaxvelo.annotated.clusters import chosen_groups
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.groups import group_codes, group_values
from jaxvelo.configuration import logger
from jaxvelo.markov import cluster_proportions, compute_flow


@dataclasses.dataclass(frozen=True)
class OutgoingFlow:
    """Where the cells of one cluster go from each time point to the next.

    Attributes
    ----------
    names
        Names of all clusters.
    source
        Number of the cluster.
    clusters
        Numbers of the clusters that are looked at and have cells; the source is first if the user listed them.
    times
        Time points, sorted.
    outgoing
        Flow from the source to each cluster, of shape (points - 1, all clusters); rows sum to 1, or are 0.
    shares
        Share of the cells of each time point in each cluster, of shape (points, all clusters).
    """

    names: list[str]
    source: int
    clusters: list[int]
    times: Float[np.ndarray, " points"]
    outgoing: Float[np.ndarray, "steps clusters"]
    shares: Float[np.ndarray, "points clusters"]


def outgoing_flow(
    adata: AnnData,
    transition_matrix: sp.spmatrix | sp.sparray | np.ndarray,
    cluster: Any,
    cluster_key: str,
    time_key: str,
    clusters: Sequence[Any] | None = None,
    time_points: Sequence[float] | None = None,
) -> OutgoingFlow:
    """Compute the flow out of a cluster; see :func:`jaxvelo.markov.compute_flow`.

    Parameters
    ----------
    adata
        The cells; not changed.
    transition_matrix
        Transition matrix of shape (cells, cells).
    cluster
        The cluster.
    cluster_key
        Column of ``obs`` with the clusters.
    time_key
        Column of ``obs`` with the experimental time: numbers, or categories that are numbers.
    clusters, time_points
        What to look at; all by default. Others are left out before flow and shares are computed.

    Raises
    ------
    KeyError
        If a column of ``obs`` does not exist.
    TypeError
        If the time is not numeric.
    ValueError
        If ``cluster`` does not exist, fewer than two clusters or time points are left, or the transition matrix does
        not fit the cells.
    """
    names, codes = group_codes(adata, cluster_key)
    times = _checked_times(adata, time_key)
    if transition_matrix.shape != (adata.n_obs, adata.n_obs):
        raise ValueError(
            f"Expected a transition matrix of shape {(adata.n_obs, adata.n_obs)}, found {transition_matrix.shape}."
        )
    source, kept = _checked_clusters(group_values(adata, cluster_key), cluster, cluster_key, clusters)
    cells = np.isin(codes, kept) & np.isfinite(times)
    if time_points is not None:
        cells &= _at_times(times, cells, time_points, time_key)
    if len(np.unique(times[cells])) < 2:
        raise ValueError(
            f"Expected at least 2 time points in `adata.obs[{time_key!r}]`, found {np.unique(times[cells]).tolist()}."
        )
    index = np.flatnonzero(cells)
    matrix = sp.csr_array(transition_matrix)[index][:, index]
    points, flow = compute_flow(matrix, codes[index], times[index], len(names))
    shares = cluster_proportions(codes[index], times[index], len(names))
    kept = [i for i in kept if np.any(shares[:, i] > 0)]
    return OutgoingFlow(names, source, kept, points, flow[:, source], shares)


def _checked_times(adata: AnnData, key: str) -> Float[np.ndarray, " cells"]:
    """Read the experimental time as numbers, NaN where it is missing."""
    found = require_key(adata.obs, key, "adata.obs", "Name the column with the experimental time in `time_key`.")
    try:
        return found.astype(object).where(found.notna(), np.nan).astype(float).to_numpy()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected `adata.obs[{key!r}]` to hold numbers, or categories that are numbers, found type "
            f"{found.dtype}. Write the time as a number, such as 7.5 for 'E7.5'."
        ) from error


def _checked_clusters(
    values: pd.Series, cluster: Any, key: str, clusters: Sequence[Any] | None
) -> tuple[int, list[int]]:
    """Give the number of the source, and those of the clusters to look at, the source first if they are listed."""
    where = f"adata.obs[{key!r}]"
    names = list(values.cat.categories)
    (source,) = chosen_groups(values, [cluster], where, "cluster")
    kept = names if clusters is None else [source, *chosen_groups(values, clusters, where, "clusters")]
    places = list(dict.fromkeys(names.index(name) for name in kept))
    if len(places) < 2:
        raise ValueError(f"Expected at least 2 clusters of `{where}`, found {[names[i] for i in places]}.")
    return names.index(source), places


def _at_times(
    times: Float[np.ndarray, " cells"], cells: Bool[np.ndarray, " cells"], time_points: Sequence[float], key: str
) -> Bool[np.ndarray, " cells"]:
    """Tell which cells are at the time points that the user lists; absent ones are left out with a warning."""
    existing = np.unique(times[cells])
    wanted = np.array([float(point) for point in time_points])
    absent = wanted[~np.isin(wanted, existing)].tolist()
    if absent and np.isin(existing, wanted).sum() < 2:
        raise ValueError(
            f"Expected at least 2 `time_points` among {existing.tolist()} of `adata.obs[{key!r}]`, found {absent}, "
            "which are not there."
        )
    if absent:
        logger.warning(
            "Leaving out %s of `time_points`: no such times in `adata.obs[%r]`, which has %s", absent, key, existing
        )
    return np.isin(times, wanted)
