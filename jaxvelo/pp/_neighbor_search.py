"""Nearest neighbours of cells, by the library that fits their number, the metric and the device."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxvelo.configuration import logger
from jaxvelo.graph import nearest_neighbors
from jaxvelo.graph._blocks import on_cpu

MOST_EXACT = 50_000
"""Up to so many cells, and on an accelerator always, each cell is compared with all others."""
LEAST_RECALL = 0.97
"""Share of the true neighbours that must be found of a sample of the cells; of all, a percent less may be."""
N_SAMPLE, N_SPARE, N_CELLS_PER_LIST_LEAST = 512, 8, 39
EUCLIDEAN, ANGULAR = ("euclidean", "l2"), ("cosine", "correlation")
INSTALL = 'Install it: pip install "jaxvelo[tutorial]"'


def find_neighbors(
    x: Float[np.ndarray, "cells dims"], n_others: int, metric: str, seed: int
) -> tuple[Int[np.ndarray, "cells {n_others}"], Float[np.ndarray, "cells {n_others}"]]:
    r"""Find the nearest other cells of each cell, and the distances to them.

    Distances are those of explicit differences in double precision, so that duplicates have distance zero. Of cells at
    the same distance, those with smaller numbers come first; which of more than a few that compete for the last places
    is up to the search. Cosine and correlation are one half of the squared Euclidean
    distance of normalised rows.

    Parameters
    ----------
    x
        Finite coordinates.
    n_others
        Number of neighbours without the cell itself, less than that of all cells.
    metric
        ``"euclidean"``, ``"cosine"``, ``"correlation"``, or another one of scikit-learn's.
    seed
        Seed of the approximate search.

    Raises
    ------
    ValueError
        If the metric is unknown, or a cell has no direction and the metric needs one.
    ImportError
        If the library that is needed is not installed.
    """
    if metric not in EUCLIDEAN + ANGULAR:
        return _by_scikit_learn(x, n_others, metric)
    if metric in ANGULAR:
        x = _directions(x, metric)
    n_candidates = min(n_others + N_SPARE, len(x) - 1)
    # Around zero, where products of rows lose least.
    centred = x - x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    if not on_cpu():
        candidates = np.asarray(nearest_neighbors(jnp.asarray(centred, dtype=float), n_candidates))
    elif len(x) > MOST_EXACT:
        candidates = approximate_neighbors(centred, n_candidates, seed)
    else:
        candidates = exact_neighbors(centred, n_candidates)
    neighbors, distances = _nearest_of(x, candidates, n_others)
    return neighbors, distances**2 / 2 if metric in ANGULAR else distances


def exact_neighbors(x: Float[np.ndarray, "cells dims"], n_candidates: int) -> Int[np.ndarray, "cells {n_candidates}"]:
    """Find nearest other cells on the CPU, by comparing all with all; by scikit-learn if it is there."""
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        logger.debug("Found no scikit-learn: comparing cells in blocks of JAX, which takes longer on a CPU")
        return np.asarray(nearest_neighbors(jnp.asarray(x, dtype=float), n_candidates, block_bytes=1 << 24))
    # Without an argument, the cells are their own queries, and not their own neighbours.
    search = NearestNeighbors(n_neighbors=n_candidates, algorithm="brute").fit(x)
    return search.kneighbors(return_distance=False)


def approximate_neighbors(
    x: Float[np.ndarray, "cells dims"], n_candidates: int, seed: int
) -> Int[np.ndarray, "cells {n_candidates}"]:
    """Find most of the nearest other cells, by faiss.

    Cells are listed by the nearest of as many centres (k-means) as the square root of their number, and a cell is
    compared with those of the lists around it. How many lists that must be is measured on a sample of the cells whose
    neighbours are also found exactly. The result depends on the seed, and not on the number of threads.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"Neighbours of more than {MOST_EXACT:,} cells are found by faiss, which is not installed. {INSTALL}"
        ) from error
    x = np.ascontiguousarray(x, dtype=np.float32)
    n_cells, n_dims = x.shape
    sample = np.sort(np.random.default_rng(seed).choice(n_cells, min(N_SAMPLE, n_cells), replace=False))
    exact = faiss.IndexFlatL2(n_dims)
    exact.add(x)
    truth = exact.search(x[sample], n_candidates + 1)[1]

    # Fewer cells for each centre, and faiss warns that they are too few for its k-means.
    n_lists = max(1, min(round(np.sqrt(n_cells)), n_cells // N_CELLS_PER_LIST_LEAST))
    centres = faiss.IndexFlatL2(n_dims)
    index = faiss.IndexIVFFlat(centres, n_dims, n_lists)
    index.cp.seed = int(seed) % (1 << 31)
    index.train(x)
    index.add(x)
    index.nprobe = min(8, n_lists)
    while (recall := _share_found(truth, index.search(x[sample], n_candidates + 1)[1])) < LEAST_RECALL:
        if index.nprobe == n_lists:
            break
        index.nprobe = min(2 * index.nprobe, n_lists)
    logger.debug(
        "Comparing each cell with those of %d in %d lists: of %d cells, %.1f%% of the neighbours are found",
        index.nprobe,
        n_lists,
        len(sample),
        100 * recall,
    )
    found = index.search(x, n_candidates + 1)[1]
    return _without_itself(found)


def _share_found(truth: Int[np.ndarray, "cells k"], found: Int[np.ndarray, "cells k"]) -> float:
    """Share of the true neighbours that were found: the recall."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def _without_itself(found: Int[np.ndarray, "cells more"]) -> Int[np.ndarray, "cells others"]:
    """Take each cell out of its own neighbours; where duplicates have driven it out, the last of them instead."""
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return found[~itself].reshape(len(found), -1)


def _nearest_of(
    x: Float[np.ndarray, "cells dims"], candidates: Int[np.ndarray, "cells more"], n_others: int
) -> tuple[Int[np.ndarray, "cells {n_others}"], Float[np.ndarray, "cells {n_others}"]]:
    """The nearest of the candidates by explicit differences, and their distances."""
    n_cells, n_candidates = candidates.shape
    candidates = np.sort(candidates, axis=1)
    neighbors = np.empty((n_cells, n_others), dtype=np.int64)
    distances = np.empty((n_cells, n_others))
    block = max(1, (1 << 22) // (n_candidates * x.shape[1]))
    for start in range(0, n_cells, block):
        rows = slice(start, start + block)
        others = candidates[rows]
        difference = x[others].astype(np.float64) - x[rows, None]
        distance = np.sqrt(np.einsum("rkd,rkd->rk", difference, difference))
        distance[others < 0] = np.inf  # faiss found fewer
        order = np.argsort(distance, axis=1, kind="stable")[:, :n_others]
        neighbors[rows] = np.take_along_axis(others, order, axis=1)
        distances[rows] = np.take_along_axis(distance, order, axis=1)
    return neighbors, distances


def _directions(x: Float[np.ndarray, "cells dims"], metric: str) -> Float[np.ndarray, "cells dims"]:
    """Rows of length one, for the cosine; centred first, for the correlation."""
    rows = x.astype(np.float64)
    size = np.abs(rows).max(axis=1)
    if metric == "correlation":
        rows -= rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1)
    # What rounding leaves of equal values is no direction.
    undirected = ~(length > 8 * np.finfo(np.float64).eps * size)
    if undirected.any():
        what = "are zero" if metric == "cosine" else "have the same value everywhere"
        raise ValueError(
            f"Expected cells with a direction for `metric={metric!r}`, found {int(undirected.sum())} that {what}, such "
            f"as cell {int(np.flatnonzero(undirected)[0])}. Remove these cells, or use `metric='euclidean'`."
        )
    return rows / length[:, None]


def _by_scikit_learn(
    x: Float[np.ndarray, "cells dims"], n_others: int, metric: str
) -> tuple[Int[np.ndarray, "cells {n_others}"], Float[np.ndarray, "cells {n_others}"]]:
    """Nearest other cells by any metric that scikit-learn knows, exactly."""
    try:
        from sklearn.neighbors import VALID_METRICS, NearestNeighbors
    except ImportError as error:
        raise ImportError(f"`metric={metric!r}` needs scikit-learn, which is not installed. {INSTALL}") from error
    # Of these, nearest neighbours need more than the coordinates.
    known = sorted(set(VALID_METRICS["brute"]) - {"precomputed", "mahalanobis", "seuclidean", "wminkowski"})
    if metric not in known:
        raise ValueError(f"Expected `metric` to be one of {', '.join(known)}, found `{metric!r}`.")
    if len(x) > MOST_EXACT:
        logger.warning(
            "Comparing all of %d cells with each other, as `metric=%r` has no approximate search: this may take long. "
            "'euclidean', 'cosine' and 'correlation' have one.",
            len(x),
            metric,
        )
    search = NearestNeighbors(n_neighbors=n_others, algorithm="brute", metric=metric, n_jobs=-1)
    try:
        distances, neighbors = search.fit(x).kneighbors()
    except ValueError as error:  # some are for two dimensions, some for truth values
        raise ValueError(
            f"Expected coordinates that `metric={metric!r}` is for, found {x.shape[1]} dimensions of which "
            f"scikit-learn says: {error}. Use another metric, such as 'euclidean'."
        ) from error
    order = np.lexsort((neighbors, distances), axis=1)
    return np.take_along_axis(neighbors, order, axis=1), np.take_along_axis(distances, order, axis=1)
