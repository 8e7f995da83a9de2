"""Genes whose expression goes with the fates of the cells: correlations, and how sure they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.expression import Expression, read_expression
from jaxvelo.annotated.progress_bar import progress_bar
from jaxvelo.annotated.q_values import q_values
from jaxvelo.configuration import logger

STATISTICS = ("corr", "pval", "qval", "ci_low", "ci_high")
"""What is said of each lineage, in the order of the columns ``"<lineage>_<statistic>"``."""

BLOCK = 2**24
"""Numbers of double precision, 128 MB, that an array of a block may have."""

LEAST_SPREAD = 1e-13
"""Standard deviation, as a part of the largest absolute value, below which a variable is constant up to rounding."""


def find_lineage_drivers(
    adata: AnnData,
    fates: Float[np.ndarray, "cells lineages"],
    lineages: Sequence[str],
    *,
    method: Literal["fisher", "perm_test"] = "fisher",
    cluster_key: str | None = None,
    clusters: Any = None,
    layer: str | None = None,
    use_raw: bool = False,
    confidence_level: float = 0.95,
    n_perms: int = 1000,
    seed: int | None = None,
    nan_policy: Literal["propagate", "omit"] = "propagate",
    show_progress_bar: bool = True,
) -> tuple[pd.DataFrame, Expression]:
    """Correlate the expression of genes with the fates of cells: :func:`lineage_drivers`, from AnnData.

    Parameters
    ----------
    adata
        Annotated data; nothing is written there.
    fates, lineages
        Fate probabilities, and the names of their columns.
    cluster_key, clusters
        Column of ``adata.obs``, and one or several of its values: cells of others are left out. All cells by default.
    layer, use_raw
        Where the expression stands, see :func:`jaxvelo.annotated.expression.read_expression`.
    method, confidence_level, n_perms, seed, nan_policy, show_progress_bar
        See :func:`lineage_drivers`.

    Returns
    -------
    table
        One row a gene, in the order of the genes: what belongs in ``varm``. :func:`most_correlated_first` sorts it.
    expression
        What was read; ``expression.use_raw`` says whether the table belongs in ``adata.raw.varm``.

    Raises
    ------
    KeyError
        If a column or a layer is not there.
    ValueError
        If an argument is out of range, a name is unknown, or fewer than 4 cells are left.
    """
    _check(method, confidence_level, n_perms, seed, nan_policy)
    if clusters is not None and cluster_key is None:
        raise ValueError("Expected `cluster_key` with `clusters`, found None. Name the column that they stand in.")
    chosen = chosen_cells(adata, None if clusters is None else {cluster_key: clusters}, "clusters")
    if chosen.sum() < 4:
        raise ValueError(f"Expected at least 4 cells to correlate, found {chosen.sum()}. Name more `clusters`.")
    expression = read_expression(adata, layer, use_raw)
    if not len(expression.genes):
        raise ValueError("Expected the expression of genes to correlate, found none. Keep some genes in `adata`.")
    values = expression.values if chosen.all() else expression.values[chosen]
    fates = np.asarray(fates, dtype=np.float64)[chosen]
    table = lineage_drivers(
        values,
        fates,
        expression.genes,
        lineages,
        method=method,
        confidence_level=confidence_level,
        n_perms=n_perms,
        seed=seed,
        nan_policy=nan_policy,
        show_progress_bar=show_progress_bar,
    )
    _warn_of_missing(table, values, fates, lineages, expression.where, nan_policy)
    return table, expression


def _check(method: Any, confidence_level: Any, n_perms: Any, seed: Any, nan_policy: Any) -> None:
    for name, value, known in (
        ("method", method, ("fisher", "perm_test")),
        ("nan_policy", nan_policy, ("propagate", "omit")),
    ):
        if value not in known:
            raise ValueError(f"Expected `{name}` to be one of {listed(known)}, found `{value!r}`.")
    if not is_number(confidence_level) or not 0 <= confidence_level <= 1:
        raise ValueError(f"Expected `confidence_level` to be a number from 0 to 1, found `{confidence_level!r}`.")
    check_integer("n_perms", n_perms, 1)
    if seed is not None:
        check_integer("seed", seed, 0)
    if method == "perm_test" and nan_policy == "omit":
        raise ValueError(
            "Expected `nan_policy='propagate'` with `method='perm_test'`, found 'omit'. Use `method='fisher'`, or "
            "leave out the cells or genes with missing values."
        )


def _warn_of_missing(
    table: pd.DataFrame, values: Any, fates: np.ndarray, lineages: Sequence[str], where: str, nan_policy: str
) -> None:
    """Say for which genes and lineages there is no correlation, and why."""
    undefined = np.isnan(table[[f"{lineage}_corr" for lineage in lineages]].to_numpy())
    nowhere = undefined.all(axis=0)
    if nowhere.any():
        without = [lineage for lineage, missing in zip(lineages, nowhere, strict=True) if missing]
        logger.warning(
            "No gene correlates with the lineages %s: their fate probabilities are not finite or the same in all "
            "chosen cells. All that is said of them is NaN", listed(without),
        )  # fmt: skip
    missing = undefined[:, ~nowhere].any(axis=1)
    if not missing.any():
        return
    not_finite = missing & ~_finite_genes(values) if nan_policy == "propagate" else np.zeros_like(missing)
    if not_finite.any():
        logger.warning(
            "Correlations of %d genes are NaN: not all values in `%s` are finite. Pass `nan_policy='omit'` to leave "
            "out the cells where they are not", not_finite.sum(), where,
        )  # fmt: skip
    if (missing & ~not_finite).any():
        logger.warning(
            "Correlations of %d genes are NaN: their expression in `%s` is the same in all chosen cells. They do not "
            "count for q-values", (missing & ~not_finite).sum(), where,
        )  # fmt: skip


def most_correlated_first(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the genes by falling correlation with the first lineage, then with the next; NaN is last."""
    return table.sort_values([name for name in table.columns if name.endswith("_corr")], ascending=False)


def lineage_drivers(
    expression: np.ndarray | sp.spmatrix | sp.sparray,
    fates: Float[np.ndarray, "cells lineages"],
    genes: Sequence[str] | pd.Index,
    lineages: Sequence[str],
    *,
    method: Literal["fisher", "perm_test"] = "fisher",
    confidence_level: float = 0.95,
    n_perms: int = 1000,
    seed: int | None = None,
    nan_policy: Literal["propagate", "omit"] = "propagate",
    show_progress_bar: bool = True,
) -> pd.DataFrame:
    r"""Pearson correlation of each gene's expression with each fate probability, with p-values and intervals.

    With ``method="fisher"`` (Fisher 1921), for a correlation :math:`r` over :math:`n` cells,

    .. math:: z = \operatorname{artanh}(r) \sqrt{n - 3}, \quad p = 2 \Phi(-|z|), \quad
        \text{interval} = \tanh\left(\operatorname{artanh}(r) \pm \frac{\Phi^{-1}((1 + c)/2)}{\sqrt{n - 3}}\right)

    with the confidence level :math:`c`. With ``method="perm_test"``, :math:`p = (1 + b)/(1 + B)`, where :math:`b` of
    :math:`B` permutations of the cells' fates have an absolute correlation at least as large (Phipson & Smyth 2010: a
    p-value of zero would be a claim that no number of permutations supports), and the interval holds the middle part
    :math:`c` of the correlations over as many samples of the cells with replacement; samples without variation do not
    count. Cells are taken to be independent of each other, which neighbours in a graph are not: the p-values order
    genes, and are too small as probabilities.

    All numbers are in double precision, whatever the type of the data. Memory beside these is bounded.

    Parameters
    ----------
    expression
        Expression, cells by genes, dense or sparse.
    fates
        Fate probabilities.
    genes, lineages
        Names of genes and lineages.
    method, confidence_level, n_perms
        See above.
    seed
        Of the permutations and samples; other ones each time if ``None``. What is found for a gene does not depend on
        the other genes.
    nan_policy
        ``"propagate"``: a value that is not finite makes NaN of all that is said of the gene, or of the lineage.
        ``"omit"``: the correlation is over those cells where both are finite (``method="fisher"`` alone).
    show_progress_bar
        Whether permutations show a bar.

    Returns
    -------
    One row a gene, columns ``"<lineage>_corr"``, ``"_pval"``, ``"_qval"`` (Benjamini & Hochberg over the genes of one
    lineage), ``"_ci_low"``, ``"_ci_high"``. All are NaN where gene or lineage do not vary, and such genes do not count
    for the q-values. Over 3 cells or fewer, Fisher's p-value and interval are NaN.

    Examples
    --------
    >>> fates = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.0, 1.0]])
    >>> expression = np.array([[5.0, 1.0], [4.0, 0.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> table = jv.estimators.lineage_drivers(expression, fates, ["marker", "other"], ["Alpha", "Beta"])
    >>> table["Alpha_corr"].round(2).tolist()
    [1.0, -0.03]
    """
    fates = np.asarray(fates, dtype=np.float64)
    correlation, n_cells = _correlate(expression, fates, nan_policy)
    if method == "fisher":
        p, low, high = _fisher(correlation, n_cells, confidence_level)
    else:
        p, low, high = _permute(expression, fates, correlation, confidence_level, n_perms, seed, show_progress_bar)
    q = np.stack([q_values(column) for column in p.T], axis=1)
    statistics = np.stack([correlation, p, q, low, high], axis=2).reshape(len(genes), -1)
    columns = [f"{lineage}_{statistic}" for lineage in lineages for statistic in STATISTICS]
    return pd.DataFrame(statistics, index=pd.Index(genes), columns=columns)


def _fisher(r: np.ndarray, n: Any, confidence_level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P-values and the ends of the intervals by Fisher's transformation."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.where(np.asarray(n) > 3, np.sqrt(np.asarray(n, dtype=float) - 3), np.nan)
        transformed, half = np.arctanh(r), ndtri((1 + confidence_level) / 2) / root
        # The tail itself, not one minus the rest: it keeps its relative accuracy down to 1e-308.
        p = 2 * ndtr(-np.abs(transformed) * root)
        return p, np.tanh(transformed - half), np.tanh(transformed + half)


def _correlate(expression: Any, fates: np.ndarray, nan_policy: str) -> tuple[np.ndarray, np.ndarray]:
    """Correlations, and the number of cells that each is over."""
    if sp.issparse(expression) and np.isfinite(expression.data).all() and np.isfinite(fates).all():
        return _correlate_sparse(sp.csr_matrix(expression), fates)
    blocks = _dense_blocks(expression, max(1, BLOCK // len(fates)))
    pairs = _correlate_finite if nan_policy == "omit" else _correlate_all
    found = [pairs(block, fates) for block in blocks]
    return np.concatenate([r for r, _ in found]), np.concatenate([n for _, n in found])


def _correlate_sparse(expression: sp.csr_matrix, fates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlate without dense expression: entries beside the many zeros, some rows at a time."""
    n_cells, n_genes = expression.shape
    unit, y_varies = _unit(fates)
    step = max(1, BLOCK * n_cells // max(expression.nnz, 1))
    mean, largest, n_entries = np.zeros(n_genes), np.zeros(n_genes), np.zeros(n_genes)
    parts = [slice(start, start + step) for start in range(0, n_cells, step)]
    for rows in parts:
        part = expression[rows].astype(np.float64)
        mean += np.asarray(part.sum(axis=0)).ravel() / n_cells
        largest = np.maximum(largest, abs(part).max(axis=0).toarray().ravel())
        n_entries += np.bincount(part.indices, minlength=n_genes)
    squares = (n_cells - n_entries) * mean**2
    products = np.zeros((n_genes, fates.shape[1]))
    for rows in parts:
        part = expression[rows].astype(np.float64)
        squares += np.bincount(part.indices, (part.data - mean[part.indices]) ** 2, minlength=n_genes)
        products += part.T @ unit[rows]  # centred fates: the mean of the expression does not matter
    norm, varies = _norm(squares, largest, n_cells)
    r = np.clip(products / norm[:, None], -1, 1)
    return np.where(varies[:, None] & y_varies[None], r, np.nan), np.full(r.shape, n_cells)


def _correlate_all(expression: np.ndarray, fates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlate over all cells."""
    x, x_varies = _unit(expression)
    y, y_varies = _unit(fates)
    r = np.where(x_varies[:, None] & y_varies[None], np.clip(x.T @ y, -1, 1), np.nan)
    return r, np.full(r.shape, len(fates))


def _correlate_finite(expression: np.ndarray, fates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlate each gene and lineage over the cells where both are finite."""
    r, n = np.empty((expression.shape[1], fates.shape[1])), np.empty((expression.shape[1], fates.shape[1]), dtype=int)
    known = np.isfinite(expression)
    complete = known.all(axis=0)
    for lineage, y in enumerate(fates.T):
        there = np.isfinite(y)
        r[:, lineage] = _correlate_all(expression[there], y[there, None])[0][:, 0]
        n[:, lineage] = there.sum()
        for gene in np.flatnonzero(~complete):
            both = there & known[:, gene]
            n[gene, lineage] = both.sum()
            if both.any():
                r[gene, lineage] = _correlate_all(expression[both, gene, None], y[both, None])[0][0, 0]
    return r, n


def _unit(values: Float[np.ndarray, "cells n"]) -> tuple[Float[np.ndarray, "cells n"], Bool[np.ndarray, " n"]]:
    """Columns with mean zero and norm one, so that a correlation is a product; zero where they do not vary."""
    usable = np.isfinite(values).all(axis=0)
    values = np.where(usable[None], values, 0.0)
    centred = values - values.mean(axis=0, keepdims=True)
    norm, varies = _norm((centred**2).sum(axis=0), np.abs(values).max(axis=0, initial=0), len(values))
    return centred * np.where(varies, 1 / norm, 0)[None], varies


def _norm(squares: np.ndarray, largest: np.ndarray, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Norms of centred columns (one where these are constant), and which are not."""
    varies = np.sqrt(squares / n_cells) > LEAST_SPREAD * largest
    return np.sqrt(np.where(varies, squares, 1)), varies


def _dense_blocks(expression: Any, n_genes: int) -> Iterator[Float[np.ndarray, "cells genes"]]:
    """Some genes at a time, dense, in double precision."""
    for start in range(0, expression.shape[1], n_genes):
        block = expression[:, start : start + n_genes]
        yield np.asarray(block.toarray() if sp.issparse(block) else block, dtype=np.float64)


def _finite_genes(expression: Any) -> Bool[np.ndarray, " genes"]:
    if sp.issparse(expression):
        entries, finite = expression.tocoo(), np.ones(expression.shape[1], dtype=bool)
        finite[entries.col[~np.isfinite(entries.data)]] = False
        return finite
    return np.isfinite(expression).all(axis=0)


def _permute(
    expression: Any,
    fates: np.ndarray,
    correlation: np.ndarray,
    confidence_level: float,
    n_perms: int,
    seed: int | None,
    show_progress_bar: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P-values by permutations of the cells' fates, and intervals by samples of the cells with replacement."""
    n_cells, n_lineages = fates.shape
    y = _unit(fates)[0]
    entropy = np.random.SeedSequence(seed).entropy
    # Few genes at a time, and then few permutations: all genes see the same ones, which are drawn anew for each block
    # (cheap beside the products) rather than held.
    genes = min(max(1, BLOCK // n_cells), max(1, BLOCK // (n_perms * n_lineages)))
    together = min(n_perms, max(1, BLOCK // 4 // (n_cells * (n_lineages + 1))))
    starts = range(0, n_perms, together)
    levels = [(1 - confidence_level) / 2, (1 + confidence_level) / 2]
    n_genes = expression.shape[1]
    exceeded = np.zeros((n_genes, n_lineages))
    low, high = np.full((n_genes, n_lineages), np.nan), np.full((n_genes, n_lineages), np.nan)
    n_all = n_perms * -(-n_genes // genes)
    with progress_bar(n_all, "Tests", "permutations", show_progress_bar) as bar:
        for place, block in enumerate(_dense_blocks(expression, genes)):
            chosen = slice(place * genes, (place + 1) * genes)
            x = _unit(block)[0]
            least = np.abs(correlation[chosen])[None] - 1e-12  # equal up to rounding is as large
            resampled = np.empty((n_perms, x.shape[1], n_lineages))
            for number, start in enumerate(starts):
                n = min(together, n_perms - start)
                random = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(number,)))
                exceeded[chosen] += (np.abs(_permuted(x, y, n, random)) >= least).sum(axis=0)
                resampled[start : start + n] = _resampled(x, y, n, random)
                bar.update(n)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of genes that vary in no sample: these stay NaN
                low[chosen], high[chosen] = np.nanquantile(resampled, levels, axis=0)
    undefined = np.isnan(correlation)
    p = np.where(undefined, np.nan, (1 + exceeded) / (1 + n_perms))
    return p, np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def _permuted(x: np.ndarray, y: np.ndarray, n: int, random: np.random.Generator) -> Float[np.ndarray, "n genes k"]:
    """Correlations with permuted fates."""
    columns = np.stack([y[random.permutation(len(y))] for _ in range(n)], axis=1)
    return np.moveaxis((x.T @ columns.reshape(len(y), -1)).reshape(x.shape[1], n, -1), 1, 0)


def _resampled(x: np.ndarray, y: np.ndarray, n: int, random: np.random.Generator) -> Float[np.ndarray, "n genes k"]:
    """Correlations over samples of the cells with replacement; NaN where gene or lineage do not vary in one."""
    n_cells, n_lineages = y.shape
    draws = [np.bincount(random.integers(n_cells, size=n_cells), minlength=n_cells) for _ in range(n)]
    weights = np.stack(draws, axis=1) / n_cells
    x_mean, x_square = x.T @ weights, (x**2).T @ weights
    y_mean, y_square = weights.T @ y, weights.T @ y**2
    weighted = (weights[:, :, None] * y[:, None, :]).reshape(n_cells, -1)
    covariance = (x.T @ weighted).reshape(-1, n, n_lineages) - x_mean[:, :, None] * y_mean[None]
    x_variance, y_variance = x_square - x_mean**2, y_square - y_mean**2
    varies = (x_variance > 1e-12 * x_square)[:, :, None] & (y_variance > 1e-12 * y_square)[None]
    norm = np.sqrt(np.maximum(x_variance, 0))[:, :, None] * np.sqrt(np.maximum(y_variance, 0))[None]
    return np.moveaxis(np.where(varies, covariance / np.where(varies, norm, 1), np.nan), 1, 0)
