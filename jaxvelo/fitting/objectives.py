"""Objectives of a fit, built from the keys of an AnnData object.

Each function checks what it reads, and returns an objective of :mod:`jaxvelo.fit`, a pure function of arrays.
Objectives are added and multiplied by numbers: ``FateLikelihood(...) + 0.1 * TimeGain(...)``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.arrays import check_finite_rows, dense, read_representation
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import cluster_codes, read_clusters, require_cluster
from jaxvelo.annotated.entries import read_numbers, require_anndata, require_key
from jaxvelo.annotated.feature_data import FeatureData
from jaxvelo.annotated.graphs import read_graph
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.order import square_in_order
from jaxvelo.graph import NeighborGraph
from jaxvelo.markov import boundary_directions

__all__ = [
    "CrossBoundary",
    "FateLikelihood",
    "FunctionOf",
    "FutureLikelihood",
    "HeldOutVelocity",
    "TimeGain",
]


def CrossBoundary(
    adata: AnnData,
    transitions: Sequence[tuple[str, str]],
    cluster_key: str,
    rep: str = "X_pca",
    graph_key: str = "distances",
) -> fit.CrossBoundary:
    """Cross-boundary correctness of known transitions between clusters.

    The items are the cells of a source cluster with neighbours in its target, as in :meth:`KernelExpression.cbc`; all
    transitions count the same.

    Parameters
    ----------
    adata
        Annotated data.
    transitions
        Pairs of source and target, such as ``[("Ngn3 high EP", "Pre-endocrine")]``.
    cluster_key
        Key in ``adata.obs`` with the clusters.
    rep
        Key in ``adata.obsm`` with the representation of the cells.
    graph_key
        Key in ``adata.obsp`` of the graph, or name in ``adata.uns`` of the neighbours, that decides which source cells
        are at the boundary.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.CrossBoundary`.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If a cluster does not exist, or a transition has no cell at the boundary.
    TypeError
        If ``transitions`` is no list.
    """
    require_anndata(adata)
    clusters = read_clusters(adata, cluster_key)
    graph = NeighborGraph.from_csr({"distances": read_graph(adata, graph_key, "distances", "graph_key")})
    remedy = "Pass the key of a representation as `rep`, for example after `scanpy.pp.pca(adata)`."
    x = jnp.asarray(read_representation(adata, rep, remedy), dtype=float)
    if not isinstance(transitions, Iterable):
        raise TypeError(
            f"Expected a list of pairs of source and target as `transitions`, found `{type(transitions).__name__}`."
        )
    transitions = list(transitions)
    if len(transitions) == 0:
        raise ValueError("Expected at least one pair of source and target in `transitions`, found none.")
    cells, towards, item_weights = [], [], []
    for pair in transitions:
        if np.shape(pair) != (2,):
            raise ValueError(f"Expected pairs of source and target in `transitions`, found `{pair!r}`.")
        source, target = pair
        in_source, in_target = (require_cluster(clusters, name, cluster_key) for name in (source, target))
        direction, boundary = boundary_directions(x, jnp.asarray(in_source), jnp.asarray(in_target), graph)
        moves = np.ptp(np.asarray(direction), axis=1) > 0
        cell = np.flatnonzero(np.asarray(boundary) & moves)
        if not len(cell):
            raise ValueError(
                f"Expected cells of {source!r} with neighbours in {target!r} in `adata.obsp[{graph_key!r}]`, found "
                "none. Leave this transition out, or compute more neighbours."
            )
        cells.append(cell)
        towards.append(np.asarray(direction)[cell])
        item_weights.append(np.full(len(cell), 1 / len(cell)))
    return fit.CrossBoundary(
        x=x,
        towards=jnp.asarray(np.concatenate(towards), dtype=float),
        cell=jnp.asarray(np.concatenate(cells)),
        weight=jnp.asarray(np.concatenate(item_weights), dtype=float),
    )


def FateLikelihood(
    adata: AnnData, fates: str | Mapping[str, Any], terminal: str | Mapping[str, Any]
) -> fit.FateLikelihood:
    """Negative log-likelihood of the known fates of some cells, given terminal cells.

    Parameters
    ----------
    adata
        Annotated data.
    fates
        Known fates: key of a categorical column in ``adata.obs``, missing where the fate is not known; or, for each
        fate, its cells, as indices, names, a mask or ``{"clusters": ["Alpha", "Beta"]}``.
    terminal
        Terminal cells of each fate, likewise. A terminal cell's own fate is certain: it makes no item.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FateLikelihood`. Its fates are those of ``terminal``, in that order.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If a fate has no terminal cells, a cell has two fates, or no fate is known.
    """
    require_anndata(adata)
    ends, names = _labels(adata, terminal, "terminal")
    known, fate_names = _labels(adata, fates, "fates")
    if len(names) < 2:
        raise ValueError(f"Expected terminal cells of at least two fates in `terminal`, found {listed(names)}.")
    unknown = [name for name in fate_names if name not in names]
    if unknown:
        raise ValueError(
            f"Expected each fate in `fates` to have terminal cells, found none for {listed(unknown)}. "
            f"`terminal` has {listed(names)}."
        )
    fate = np.array([names.index(name) for name in fate_names] + [-1])[known]
    cell = np.flatnonzero((fate >= 0) & (ends < 0))
    if not len(cell):
        raise ValueError("Expected some cells with a known fate that are not terminal themselves, found none.")
    return fit.FateLikelihood(
        terminal=jnp.asarray(ends),
        n_fates=len(names),
        fate=jnp.asarray(fate[cell]),
        cell=jnp.asarray(cell),
        weight=jnp.ones(len(cell)),
    )


def FutureLikelihood(
    adata: AnnData,
    time_key: str | None = None,
    clone_key: str | None = None,
    future: Any = None,
    steps: int = 1,
) -> fit.FutureLikelihood:
    """Negative log-likelihood to be among the known later cells after some steps.

    Parameters
    ----------
    adata
        Annotated data.
    time_key
        Key in ``adata.obs`` of the experimental time: numbers, as categories or texts too, or ordered
        categories. The later cells of a cell are those of the next time point.
    clone_key
        Restricts them to the cell's own clones: key in ``adata.obsm`` of a matrix (cells × clones), or key in
        ``adata.obs`` of one clone (or lineage) for each cell, missing where unknown.
    future
        The later cells themselves, as a matrix of shape ``(cells, cells)``, in place of the keys; cells with an empty
        row make no item.
    steps
        Number of steps.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FutureLikelihood`.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If neither or both of ``time_key`` and ``future`` are given, there are fewer than two time points, clones are
        not finite, or no cell has a known future.
    TypeError
        If the time is names without an order.
    """
    require_anndata(adata)
    check_integer("steps", steps, least=1)
    if (time_key is None) == (future is None):
        raise ValueError("Expected one of `time_key` and `future`.")
    if future is not None:
        if clone_key is not None:
            raise ValueError(
                "Expected `clone_key` with `time_key` only, found it with `future`. Leave one of them out."
            )
        known = sp.csr_matrix(square_in_order(future, adata.obs_names, "future"))
        if not np.isfinite(known.data).all():
            bad = int(np.count_nonzero(~np.isfinite(known.data)))
            raise ValueError(f"Expected finite entries in `future`, found {bad} that are not. Set these to zero.")
        later = known.astype(bool)
    else:
        assert time_key is not None
        later = _next_cells(adata, time_key, clone_key)
    later.eliminate_zeros()
    later.sort_indices()
    cell = np.flatnonzero(np.diff(later.indptr) > 0)
    if not len(cell):
        raise ValueError(
            "Expected cells with known later cells, found none. Check `clone_key`: do clones occur at two time points?"
        )
    # One column for each distinct set: cells of one clone and time share theirs.
    sets: dict[bytes, int] = {}
    target = np.array(
        [sets.setdefault(later.indices[later.indptr[i] : later.indptr[i + 1]].tobytes(), len(sets)) for i in cell]
    )
    _, representative = np.unique(target, return_index=True)
    return fit.FutureLikelihood(
        future=jnp.asarray(later[cell[representative]].toarray().T, dtype=float),
        steps=int(steps),
        target=jnp.asarray(target),
        cell=jnp.asarray(cell),
        weight=jnp.ones(len(cell)),
    )


def TimeGain(adata: AnnData, time_key: str, cells: Any = None) -> fit.TimeGain:
    """Expected gain of time along one step, against the spread of the step.

    Parameters
    ----------
    adata
        Annotated data.
    time_key
        Key in ``adata.obs`` of a pseudotime or real time.
    cells
        Cells that count: indices, names, a mask or ``{"clusters": "Beta"}``; all if ``None``.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.TimeGain`.

    Raises
    ------
    KeyError
        If the key is missing.
    TypeError
        If the time is truth values.
    ValueError
        If it is no numbers, nor categories or texts that are numbers, or not finite.
    """
    require_anndata(adata)
    remedy = "Pass the key of a time or pseudotime."
    time = require_key(adata.obs, time_key, "adata.obs", remedy)
    if pd.api.types.is_bool_dtype(time.dtype):
        raise TypeError(f"Expected `adata.obs[{time_key!r}]` to be numeric, found {time.dtype}. {remedy}")
    values = read_numbers(adata.obs, time_key, "adata.obs", remedy)
    check_finite_rows(values[:, None], f"adata.obs[{time_key!r}]")
    cell = np.flatnonzero(chosen_cells(adata, cells, "cells"))
    return fit.TimeGain(
        time=jnp.asarray(values - values.mean(), dtype=float), cell=jnp.asarray(cell), weight=jnp.ones(len(cell))
    )


def HeldOutVelocity(
    adata: AnnData,
    xkey: str | None = "Ms",
    vkey: str | None = "velocity",
    attr: str = "layers",
    gene_subset: str | Sequence[str] | np.ndarray | None = None,
    n_splits: int = 4,
    cells: Any = None,
) -> fit.HeldOutVelocity:
    """How well transitions from one half of the genes predict the velocities of the other half: needs no labels.

    Parameters
    ----------
    adata
        Annotated data.
    xkey, vkey, attr, gene_subset
        Expression and velocity to predict, as of the :class:`~jaxvelo.kernels.VelocityKernel` that is fitted.
    n_splits
        Number of random halves.
    cells
        Cells that count; all if ``None``.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.HeldOutVelocity`.
    """
    check_integer("n_splits", n_splits, least=1)
    xkey, vkey = ("X" if key is None else key for key in (xkey, vkey))
    data = FeatureData(require_anndata(adata), attr, xkey, vkey, gene_subset)
    if len(data.genes) < 4:
        raise ValueError(f"Expected at least 4 genes to split in halves, found {len(data.genes)}.")
    cell = np.flatnonzero(chosen_cells(adata, cells, "cells"))
    return fit.HeldOutVelocity(
        features=data.name, n_splits=int(n_splits), cell=jnp.asarray(cell), weight=jnp.ones(len(cell))
    )


def FunctionOf(adata: AnnData, function: Callable[[Any], Any]) -> fit.FunctionOf:
    """Any JAX function of the transition matrix.

    Parameters
    ----------
    adata
        Annotated data.
    function
        Takes the transition matrix, a :class:`jaxvelo.graph.TransitionMatrix`, and returns one loss for each cell,
        shape ``(cells,)``; for example ``lambda T: (T @ time - target) ** 2``.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FunctionOf`.
    """
    require_anndata(adata)
    if not callable(function):
        raise TypeError(f"Expected a function of the transition matrix, found `{type(function).__name__}`.")
    return fit.FunctionOf(function, adata.n_obs)


def _labels(adata: AnnData, labels: str | Mapping[str, Any], name: str) -> tuple[np.ndarray, list[str]]:
    """Return the label of each cell as a number (-1 for none), and the names of the labels."""
    if isinstance(labels, str):
        return cluster_codes(adata, labels)
    if not isinstance(labels, Mapping):
        raise TypeError(
            f"Expected `{name}` to be a key in `adata.obs` or a dictionary of cells, found `{type(labels).__name__}`."
        )
    codes = np.full(adata.n_obs, -1, dtype=np.int32)
    for number, (label, cells) in enumerate(labels.items()):
        mask = chosen_cells(adata, cells, f"{name}[{label!r}]")
        twice = np.flatnonzero(mask & (codes >= 0))
        if len(twice):
            raise ValueError(
                f"Expected each cell in one class of `{name}` at most, found {len(twice)} in {label!r} and another, "
                f"such as {listed(adata.obs_names[twice[:3]])}."
            )
        codes[mask] = number
    return codes, [text_of(label) for label in labels]


def _next_cells(adata: AnnData, time_key: str, clone_key: str | None) -> sp.csr_matrix:
    """Matrix of the cells of the next time point, of the same clones if there is a key of these."""
    time = require_key(adata.obs, time_key, "adata.obs", "Pass the key of an experimental time.")
    codes, n_times = _time_points(time, time_key)
    if not 2 <= n_times <= max(adata.n_obs // 2, 2):
        raise ValueError(
            f"Expected `adata.obs[{time_key!r}]` to have at least two time points with several cells each, found "
            f"{n_times} values for {adata.n_obs} cells. Cut a continuous time into bins, or pass `future`."
        )
    at = sp.csr_matrix(
        (np.ones((codes >= 0).sum(), dtype=np.int32), (np.flatnonzero(codes >= 0), codes[codes >= 0])),
        shape=(adata.n_obs, n_times),
    )
    following = sp.csr_matrix(at @ sp.eye(n_times, k=1, dtype=np.int32, format="csr"))
    if clone_key is None:
        return sp.csr_matrix(following @ at.T, dtype=bool)
    if clone_key in adata.obsm:
        stored = adata.obsm[clone_key]
        table = stored if sp.issparse(stored) else dense(stored)
        if table.dtype.kind not in "fiub":
            raise ValueError(
                f"Expected numbers in `adata.obsm[{clone_key!r}]`, found the type {table.dtype}. Store a matrix of "
                "cells and clones."
            )
        clones = sp.csr_matrix(table, copy=True)
        bad = int(np.count_nonzero(~np.isfinite(clones.data)))
        if bad:
            raise ValueError(
                f"Expected finite entries in `adata.obsm[{clone_key!r}]`, found {bad} that are not. Set these to zero."
            )
        clones.eliminate_zeros()
        clones = sp.csr_matrix((np.ones(clones.nnz, dtype=np.int32), clones.indices, clones.indptr), clones.shape)
    else:
        remedy = "Pass the key of clones in `adata.obsm` (cells × clones) or in `adata.obs` (one for each cell)."
        labels = require_key(adata.obs, clone_key, "adata.obs", remedy).astype("category").cat
        known = labels.codes.to_numpy() >= 0
        clones = sp.csr_matrix(
            (np.ones(known.sum(), dtype=np.int32), (np.flatnonzero(known), labels.codes.to_numpy()[known])),
            shape=(adata.n_obs, len(labels.categories)),
        )
    return sp.csr_matrix((clones @ clones.T).multiply(following @ at.T), dtype=bool)


def _time_points(time: pd.Series, time_key: str) -> tuple[np.ndarray, int]:
    """Number of the time point of each cell, -1 if missing, and how many there are."""
    points = time.astype("category").cat.remove_unused_categories()
    categories = points.cat.categories
    if not points.cat.ordered:
        with contextlib.suppress(TypeError, ValueError):  # as texts, 10 would stand before 2
            numbers = categories.astype(float)
            if numbers.is_unique:
                points = points.cat.rename_categories(numbers)
                categories = points.cat.categories
        if categories.inferred_type == "string" or categories.inferred_type.startswith("mixed"):
            raise TypeError(
                f"Expected `adata.obs[{time_key!r}]` to be numbers or ordered categories, found {listed(categories)}. "
                f"Put them in order as `adata.obs[{time_key!r}] = pandas.Categorical(adata.obs[{time_key!r}], "
                "['first', 'second', ...], ordered=True)`."
            )
        points = points.cat.reorder_categories(categories.sort_values())
    return points.cat.codes.to_numpy(), len(categories)
