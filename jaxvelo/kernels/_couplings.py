"""Couplings of the cells of two time points: read, checked, made sparse, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import is_number, listed
from jaxvelo.annotated.names import places_of
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time
from jaxvelo.configuration import logger
from jaxvelo.kernels._time_points import TimePoints

Coupling = np.ndarray | sp.csr_matrix
"""Dense or CSR, rows and columns in the order of the cells."""
Couplings = dict[tuple[int, int], Coupling]

THRESHOLDS = ("auto", "auto_local")
_PIECE = 1 << 22
"""Numbers of a dense coupling that are looked at together."""


def check_pairs(pairs: list[tuple[int, int]], times: TimePoints) -> None:
    """Raise a ValueError unless pairs of time points lead from each one but the last to a later one."""
    for source, target in pairs:
        if source >= target:
            raise ValueError(
                f"Expected couplings to later time points, found {times.pair(source, target)}. Turn it round, or put "
                f"the categories of `adata.obs[{times.key!r}]` in order."
            )
    without = [times.names[i] for i in range(len(times.names) - 1) if i not in {source for source, _ in pairs}]
    last = len(times.names) - 1
    if without or last not in {target for _, target in pairs}:
        where = f"found none from {listed(without)}" if without else f"found none to the last, {times.names[last]}"
        raise ValueError(
            f"Expected couplings from each time point of `adata.obs[{times.key!r}]` but the last to a later one, "
            f"{where}. Add them, or remove the cells of these time points."
        )


def read_couplings(couplings: Mapping[Any, Any], adata: AnnData, times: TimePoints) -> Couplings:
    """Read couplings by pairs of time points, with rows and columns in the order of the cells.

    Raises
    ------
    TypeError
        If the keys are no pairs, or a coupling is no matrix of numbers.
    ValueError
        If a time point is unknown, a shape is not that of the cells, cells are others, or a number is negative or not
        finite.
    """
    found: Couplings = {}
    for key, coupling in couplings.items():
        if not (isinstance(key, tuple) and len(key) == 2):
            raise TypeError(f"Expected pairs of time points as the keys of `couplings`, found `{key!r}`.")
        source, target = (times.find(name) for name in key)
        names = [adata.obs_names[times.cells[time]] for time in (source, target)]
        found[source, target] = _read(coupling, names, f"couplings[{times.pair(source, target)}]")
    check_pairs(list(found), times)
    return dict(sorted(found.items()))


def _read(coupling: Any, names: list[pd.Index], where: str) -> Coupling:
    """A coupling as CSR or as a dense array, checked, in the order of ``names``."""
    places: list[np.ndarray | None] = [None, None]
    if isinstance(coupling, AnnData):
        places = [
            _order(own, wanted, where)
            for own, wanted in zip((coupling.obs_names, coupling.var_names), names, strict=True)
        ]
        coupling = coupling.X
    elif isinstance(coupling, pd.DataFrame):
        axes = (coupling.index, coupling.columns)
        places = [
            None if own.equals(pd.RangeIndex(len(own))) else _order(own, wanted, where)
            for own, wanted in zip(axes, names, strict=True)
        ]
        coupling = coupling.to_numpy()
    if hasattr(coupling, "to_memory"):
        coupling = coupling.to_memory()
    matrix = sp.csr_matrix(coupling) if sp.issparse(coupling) else np.asarray(coupling)
    if isinstance(coupling, jax.Array):
        matrix = np.array(matrix)
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"Expected a matrix of numbers as `{where}`, found the type {matrix.dtype}.")
    shape = tuple(map(len, names))
    if matrix.shape != shape:
        raise ValueError(
            f"Expected `{where}` of shape {shape}, the cells of the first time point by those of the second, found "
            f"{matrix.shape}. Compute it of the cells of `adata`."
        )
    stored: np.ndarray = matrix.data if isinstance(matrix, sp.csr_matrix) else matrix
    for values in (
        stored[rows] for rows in rows_at_a_time(len(stored), max(stored.size // max(len(stored), 1), 1), _PIECE)
    ):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise ValueError(
                f"Expected finite numbers in `{where}`, found at least {bad} that are not. Compute it anew."
            )
        if (values < 0).any():
            raise ValueError(
                f"Expected no negative numbers in `{where}`, found {values.min():.3g}: masses are positive."
            )
    rows, columns = places
    matrix = matrix if rows is None else matrix[rows]
    return matrix if columns is None else matrix[:, columns]


def _order(own: pd.Index, wanted: pd.Index, where: str) -> np.ndarray | None:
    """Places of the cells among the names of a coupling; ``None`` if they are the same."""
    if own.equals(wanted):
        return None
    if len(own) != len(wanted):
        raise ValueError(
            f"Expected `{where}` of the {len(wanted)} cells {listed(wanted[:2])}, ... of that time point, found "
            f"{len(own)} like {listed(own[:2])}."
        )
    try:
        return places_of(own, wanted, where, "couplings")
    except KeyError as error:
        raise ValueError(
            f"Expected `{where}` of the cells of `adata`, such as {listed(wanted[:2])}, found others, such as "
            f"{listed(own[:2])}. Compute it of these cells."
        ) from error


def check_threshold(threshold: Any) -> None:
    """Raise a ValueError unless this is a threshold."""
    if threshold is None or (isinstance(threshold, str) and threshold in THRESHOLDS):
        return
    if not (is_number(threshold) and 0 <= threshold <= 100):
        raise ValueError(
            f"Expected `threshold` to be in `[0, 100]`, one of {THRESHOLDS} or None, found `{threshold!r}`."
        )


def sparse_couplings(couplings: Couplings, threshold: Any, times: TimePoints) -> dict[tuple[int, int], sp.csr_matrix]:
    """Make dense couplings sparse, by leaving out numbers below a threshold; sparse ones stay as they are.

    Parameters
    ----------
    couplings
        The couplings.
    threshold
        ``"auto"``: the largest that leaves each row of all couplings a number. ``"auto_local"``: the same of each
        coupling by itself. A number from 0 to 100: the percentage of all numbers of a coupling that is left out.
        ``None``: zero.
    times
        The time points, for messages.

    Returns
    -------
    The couplings as CSR, float64. Rows without a number become uniform, with a warning.
    """
    least = 0.0
    if isinstance(threshold, str) and threshold == "auto":
        least = min(float(_row_maxima(coupling).min()) for coupling in couplings.values())
        logger.info("Using automatic `threshold=%.4g`", least)
    elif threshold == "auto_local":
        logger.info("Using automatic `threshold` for each coupling separately")
    result = {}
    for (source, target), coupling in couplings.items():
        if not isinstance(coupling, sp.csr_matrix):
            if isinstance(threshold, str) and threshold == "auto_local":
                least = float(_row_maxima(coupling).min())
            elif is_number(threshold):
                least = float(np.percentile(coupling, threshold))
            coupling = _at_least(coupling, least)
        result[source, target] = _filled(sp.csr_matrix(coupling, dtype=np.float64), times.pair(source, target))
    return result


def _row_maxima(coupling: Any) -> np.ndarray:
    if isinstance(coupling, sp.csr_matrix):
        return coupling.max(axis=1).toarray().ravel()
    return coupling.max(axis=1)


def _at_least(coupling: np.ndarray, least: float) -> sp.csr_matrix:
    """Numbers of at least a threshold, a few rows at a time: no second array of that size."""
    pieces = []
    for rows in rows_at_a_time(len(coupling), coupling.shape[1], _PIECE):
        piece = coupling[rows]
        pieces.append(sp.csr_matrix(np.where(piece >= least, piece, 0)))
    return sp.vstack(pieces, format="csr")


def _filled(coupling: sp.csr_matrix, pair: str) -> sp.csr_matrix:
    """Give rows without a number the same probability of all targets."""
    if not (coupling.has_canonical_format and coupling.data.all()):
        coupling = coupling.copy()
        coupling.sum_duplicates()
        coupling.eliminate_zeros()
    empty = np.flatnonzero(np.diff(coupling.indptr) == 0)
    if not len(empty):
        return coupling
    logger.warning(
        "In the coupling `%s`, %d cells go nowhere: taking them to go to all cells of the later time point alike",
        pair,
        len(empty),
    )
    n_targets = coupling.shape[1]
    rows = np.repeat(empty, n_targets)
    columns = np.tile(np.arange(n_targets), len(empty))
    return coupling + sp.csr_matrix((np.full(len(rows), 1 / n_targets), (rows, columns)), shape=coupling.shape)


def stitched(
    couplings: Mapping[tuple[int, int], sp.csr_matrix], times: TimePoints, mixed: frozenset[int]
) -> sp.csr_matrix:
    """Put couplings together into one matrix of all cells.

    Rows sum to one; those of time points in ``mixed``, where each coupling counts as much as the steps within the time
    point, sum to the number of couplings, each of which is normalised.
    """
    n_cells = len(times.number)
    total = sp.csr_matrix((n_cells, n_cells))
    for (source, target), coupling in couplings.items():
        part = _with_row_sums_of_one(coupling).tocoo() if source in mixed else coupling.tocoo()
        rows, columns = times.cells[source][part.row], times.cells[target][part.col]
        total = total + sp.csr_matrix((part.data, (rows, columns)), shape=total.shape)
    is_mixed = np.isin(times.number, list(mixed))
    sums = np.asarray(total.sum(axis=1)).ravel()
    factors = np.where(is_mixed | (sums == 0), 1, 1 / np.where(sums == 0, 1, sums))
    total.data *= np.repeat(factors, np.diff(total.indptr))
    return total


def _with_row_sums_of_one(matrix: sp.csr_matrix) -> sp.csr_matrix:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sp.csr_matrix(
        (matrix.data / np.repeat(sums, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), shape=matrix.shape
    )
