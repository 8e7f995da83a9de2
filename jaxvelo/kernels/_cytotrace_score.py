"""How many genes each cell expresses, and the expression of the genes that go along with it: CytoTRACE."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.disk_arrays import is_on_disk, read_in_ranges
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time

AGGREGATIONS = ("mean", "median", "hmean", "gmean")
_PIECE = 1 << 22
"""Numbers that are worked on at a time."""


def correlations_with_expressed_genes(
    matrix: Any, where: str
) -> tuple[Int[np.ndarray, " cells"], Float[np.ndarray, " genes"]]:
    r"""Count the genes that each cell expresses, and correlate each gene with that over the cells.

    In one pass over the rows, some at a time, so that sparse matrices stay sparse and those on disk stay there: from
    the sums over the cells of :math:`x`, :math:`x^2` and :math:`x (n - n_0)`, where :math:`n` is the number of genes of
    a cell and :math:`n_0` that of the first one.

    Parameters
    ----------
    matrix
        Expression, cells by genes, in memory or on disk, dense or sparse.
    where
        Where it stands, for messages.

    Returns
    -------
    The numbers, and Pearson's correlations; NaN for genes of constant expression.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    n_cells, n_genes = matrix.shape
    counts = np.zeros(n_cells, dtype=np.int64)
    sums, squares, products = np.zeros((3, n_genes))
    first = None
    for rows, piece in _in_ranges(matrix, where):
        values = piece.data if sp.issparse(piece) else piece
        if not np.isfinite(values).all():
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise ValueError(f"Expected finite numbers in `{where}`, found at least {bad} that are not. Fill them in.")
        if sp.issparse(piece):
            expressed = sp.csr_matrix((values > 0, piece.indices, piece.indptr), shape=piece.shape)
            counts[rows] = np.asarray(expressed.sum(axis=1, dtype=np.int64)).ravel()
        else:
            counts[rows] = np.count_nonzero(piece > 0, axis=1)
        first = int(counts[0]) if first is None else first
        both = np.stack([np.ones(rows.stop - rows.start), counts[rows] - float(first)])
        if sp.issparse(piece):
            # By its columns: each number is multiplied where it stands.
            own = np.bincount(piece.indices, values, minlength=n_genes)
            weights = np.repeat(both[1], np.diff(piece.indptr))
            sums += own
            products += np.bincount(piece.indices, values * weights, minlength=n_genes)
            squares += np.bincount(piece.indices, np.square(values, dtype=np.float64), minlength=n_genes)
        else:
            piece = piece.astype(np.float64)
            own, with_counts = both @ piece
            sums, products = sums + own, products + with_counts
            squares += np.einsum("cg,cg->g", piece, piece)
    shifted = counts - float(first or 0)
    covariances = products - sums * shifted.mean()
    variances = squares - sums**2 / n_cells
    # What rounding leaves of a gene that all cells express alike.
    constant = variances <= 1e-12 * squares
    deviation = np.sqrt(np.where(constant, np.nan, variances) * np.sum((shifted - shifted.mean()) ** 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts, covariances / np.where(deviation == 0, np.nan, deviation)


def _in_ranges(matrix: Any, where: str):
    """Rows of a matrix, some at a time, dense or CSR without duplicates."""
    if is_on_disk(matrix):
        for rows, piece in read_in_ranges(matrix, where):
            yield rows, piece if not sp.issparse(piece) else _canonical(piece)
        return
    matrix = matrix if not sp.issparse(matrix) or matrix.format == "csr" else sp.csr_matrix(matrix)
    row_size = -(-matrix.nnz // max(matrix.shape[0], 1)) if sp.issparse(matrix) else matrix.shape[1]
    for rows in rows_at_a_time(matrix.shape[0], row_size, _PIECE):
        piece = matrix[rows]
        yield rows, _canonical(piece) if sp.issparse(piece) else piece


def _canonical(piece: sp.csr_matrix) -> sp.csr_matrix:
    piece.sum_duplicates()
    return piece


def aggregated(
    matrix: Any, genes: Bool[np.ndarray, " genes"], aggregation: str, where: str
) -> Float[np.ndarray, " cells"]:
    """Aggregate the expression of some genes in each cell.

    Parameters
    ----------
    matrix
        Expression, cells by genes, in memory or on disk, dense or sparse.
    genes
        Which genes.
    aggregation
        ``"mean"``, ``"median"``, ``"hmean"`` (harmonic) or ``"gmean"`` (geometric); the last two are zero where one of
        the genes is.
    where
        Where it stands, for messages.

    Raises
    ------
    ValueError
        If a number is not finite, or negative where the aggregation has no value for it.
    """
    columns = np.flatnonzero(genes)
    result = np.empty(matrix.shape[0])
    for rows, found in _in_ranges(matrix, where):
        piece = dense(found[:, columns]).astype(np.float64)
        if not np.isfinite(piece).all():
            raise ValueError(f"Expected finite numbers in `{where}`, found some that are not. Fill them in.")
        if aggregation in ("hmean", "gmean") and (piece < 0).any():
            raise ValueError(
                f"Expected no negative numbers in `{where}` with `aggregation={aggregation!r}`, found "
                f"{piece.min():.3g}. Use 'mean' or 'median'."
            )
        result[rows] = _AGGREGATE[aggregation](piece)
    return result


def _harmonic_mean(piece: np.ndarray) -> np.ndarray:
    positive: np.ndarray = np.all(piece > 0, axis=1)
    reciprocals = np.divide(1, piece, out=np.ones_like(piece), where=positive[:, None])
    return np.where(positive, piece.shape[1] / reciprocals.sum(axis=1), 0)


def _geometric_mean(piece: np.ndarray) -> np.ndarray:
    positive: np.ndarray = np.all(piece > 0, axis=1)
    logarithms = np.log(piece, out=np.zeros_like(piece), where=positive[:, None])
    return np.where(positive, np.exp(logarithms.mean(axis=1)), 0)


_AGGREGATE = {
    "mean": lambda piece: piece.mean(axis=1),
    "median": lambda piece: np.median(piece, axis=1),
    "hmean": _harmonic_mean,
    "gmean": _geometric_mean,
}
