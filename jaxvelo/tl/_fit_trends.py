"""Trends of genes along a time, by fate."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.counts import cell_sizes, check_finite, check_non_negative, stored_values
from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.annotated.expression import read_expression
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.groups import group_codes
from jaxvelo.annotated.names import places_of, text_of
from jaxvelo.annotated.q_values import q_values
from jaxvelo.annotated.stored_states import Memberships, read_fates
from jaxvelo.annotated.stored_trends import ALL_CELLS, TESTS, Comparison, Line, Trends
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.trends import TrendFit, difference_test
from jaxvelo.trends import fit_trends as fit_curves

DISTRIBUTIONS = {
    "normal": "normal",
    "gaussian": "normal",
    "poisson": "poisson",
    "nb": "negative binomial",
    "negative binomial": "negative binomial",
}
LINKS = {"normal": "identity", "poisson": "log", "negative binomial": "log"}
LAST = 0.995
"""Part of a lineage's weight that has gone by at the end of its time."""

LEAST_CELLS = 4.0
"""Cells that weights must amount to: a straight line and a variance take three."""

LEAST_SPREAD = 1e-5
"""Deviation of the cells' times, as a part of the range, below which there is one time."""

POINTS = 200
"""Times at which a curve's peak and amplitude are looked up."""


@accepts_data
def fit_trends(
    adata: AnnData,
    genes: Any = None,
    time_key: str = "latent_time",
    lineages: Any = None,
    *,
    layer: str | None = None,
    distribution: str = "normal",
    link: str | None = None,
    n_knots: int = 10,
    spline_order: int = 3,
    criterion: Literal["REML", "GCV"] = "REML",
    max_iter: int = 50,
    size_factors: Any = None,
    time_range: Any = None,
    condition_key: str | None = None,
    differences: bool = True,
    backward: bool = False,
    key_added: str = "trends",
) -> Trends:
    """Fit how genes change along a time towards each fate, for all genes and fates at once.

    Each trend is a penalised spline through all cells, weighted by their probability of the fate; its smoothness is
    chosen gene by gene. See :func:`jaxvelo.trends.fit_trends` for the model, the bands and the tests.

    Parameters
    ----------
    adata
        Annotated data with a time, and with fates as :class:`jaxvelo.estimators.GPCCA` or CellRank writes them; without
        fates, all cells are taken as one lineage, ``"all cells"``.
    genes
        Names of genes, a mask, or the key of one in ``adata.var``; all by default.
    time_key
        Column of ``adata.obs`` with the time: latent time, pseudotime, or real time as numbers. Cells without are left
        out.
    lineages
        Names of lineages, or one; all by default.
    layer
        Layer with the expression; ``adata.X`` by default. Averages over neighbours, such as ``"Ms"``, have curves as
        good as any, but no valid bands and tests: their cells say the same many times.
    distribution
        ``"normal"`` (or ``"gaussian"``) for log-normalised expression; ``"poisson"``, with a variance in proportion to
        the mean, or ``"nb"``, negative binomial, for counts.
    link
        ``"identity"`` for normal expression, ``"log"`` for counts: there are no others.
    n_knots
        Number of basis functions, more than ``spline_order`` and no more than there are cells.
    spline_order
        Order of the splines; 3 for cubic ones.
    criterion
        How smoothness is chosen: ``"REML"``, by restricted maximum likelihood, or ``"GCV"``, by generalised cross
        validation.
    max_iter
        Iterations of count models, at most.
    size_factors
        Size factors of counts: a column of ``adata.obs``, or numbers; the counts of each cell over their mean, by
        default. Unless they are a column already, they are written to ``adata.obs[f"{key_added}_size_factors"]``.
    time_range
        First and last time, the last time, or a dictionary or list of these for each lineage. By default a lineage ends
        where all but 0.5 % of its weight has gone by. Cells outside do not count.
    condition_key
        Column of ``adata.obs`` with conditions: each gets a curve of its own beside that of all cells, and is tested
        against the others.
    differences
        Whether to test each pair of lineages for different trends.
    backward
        Whether the fates are those of a process backward in time.
    key_added
        Name of the results: see :meth:`Trends.write`.

    Returns
    -------
    Trends
        The trends, with tables :meth:`~Trends.to_frame`, :meth:`~Trends.differences_to_frame` and
        :meth:`~Trends.curves`. They are written to ``adata``, from where :meth:`Trends.from_adata` and pictures read
        them.

    Raises
    ------
    KeyError
        If the time, a lineage, a gene, a layer or the conditions do not exist.
    ValueError
        If the time is constant, a lineage or one of its conditions has fewer cells than knots, or weights that amount
        to fewer than four cells, several genes have one name, expression is not finite, counts are negative or no
        integers, or an argument is out of range.

    Notes
    -----
    P-values are of cells: those of a condition are not independent repetitions of it, so that differences between its
    samples count as differences between conditions. Times and fates were found from the same expression, which makes
    tests of the genes behind them optimistic. Bands cover less than their level where the weights of a lineage amount
    to few cells (``Trends.n_effective``): in simulations, those of level 0.95 cover 0.90 with 50, and 0.82 with ten.

    Examples
    --------
    >>> trends = jv.tl.fit_trends(adata, time_key="true_time")
    >>> trends.lineages, len(trends.genes)
    (['Fate A', 'Fate B'], 40)
    """
    require_anndata(adata)
    model = _checked_model(distribution, link, n_knots, spline_order, criterion, max_iter, key_added)
    times = _read_times(adata, time_key)
    fates = _weights(adata, lineages, backward)
    expression = read_expression(adata, layer)
    chosen = None if genes is None else chosen_genes(adata, genes, "genes")
    names = adata.var_names if chosen is None else adata.var_names[chosen]
    places_of(adata.var_names, names, "adata.var_names", "genes")  # where the trends are written to
    values = expression.values if chosen is None else expression.values[:, np.flatnonzero(chosen)]
    values = sp.csr_matrix(values) if sp.issparse(values) else np.asarray(values)
    _check_values(values, expression.where, model["distribution"])
    sizes = _size_factors(adata, size_factors, expression.values) if model["distribution"] != "normal" else None
    sizes_key = (
        None if sizes is None else size_factors if isinstance(size_factors, str) else f"{key_added}_size_factors"
    )
    valid = np.isfinite(times) & np.isfinite(fates.values).all(axis=1)
    if sizes is not None:
        valid &= sizes > 0
        sizes = np.where(valid, sizes, 1.0)
    if not valid.all():
        logger.warning(
            "Leaving out %d of %d cells without a time in `adata.obs[%r]`, a fate or counts",
            np.count_nonzero(~valid), len(valid), time_key,
        )  # fmt: skip
    weights = np.where(valid[:, None], np.clip(np.nan_to_num(fates.values), 0, None), 0)
    times = np.where(valid, times, 0.0)
    if len(np.unique(times[valid])) < 2:
        raise ValueError(
            f"Expected at least two times in `adata.obs[{time_key!r}]`, found {len(np.unique(times[valid]))}. Name "
            "another column in `time_key`."
        )
    ranges = _ranges(times, weights, fates.names, time_range)
    lines, line_weights, line_ranges = _lines(adata, fates.names, weights, ranges, condition_key)
    _check_cells(times, lines, line_weights, line_ranges, n_knots)
    shared = {name: model[name] for name in ("n_knots", "spline_order", "distribution", "max_iter")}
    shared["size_factors"] = sizes
    with timed(f"Fitting trends of {values.shape[1]} genes ({len(lines)} of each)"):
        fit = fit_curves(values, times, line_weights, line_ranges, criterion=criterion, **shared)
        compared = _comparisons(times, lines, line_weights, line_ranges, differences)
        tests = _difference_tests(values, times, compared, shared)
    trends = Trends(
        names,
        lines,
        line_ranges,
        fit.n_effective,
        fit.coefficients,
        fit.covariances,
        {},
        [comparison.names for comparison in compared],
        tests,
        {
            **model,
            "time_key": time_key,
            "layer": layer,
            "condition_key": condition_key,
            "backward": bool(backward),
            "size_factors": sizes_key,
        },
    )
    trends = dataclasses.replace(trends, statistics=_statistics(trends, fit))
    if not fit.converged.all():
        logger.warning(
            "%d of %d curves did not converge within `max_iter=%d` iterations: their bands may be wrong",
            np.count_nonzero(~fit.converged), fit.converged.size, max_iter,
        )  # fmt: skip
    trends.write(adata, key_added)
    logger.info("Adding `adata.uns[%r]` and `adata.varm[%r]`", key_added, key_added)
    if sizes is not None and not isinstance(size_factors, str):
        adata.obs[sizes_key] = np.where(valid, sizes, np.nan)
        logger.info("Adding `adata.obs[%r]`", sizes_key)
    return trends


def _checked_model(distribution, link, n_knots, spline_order, criterion, max_iter, key_added) -> dict[str, Any]:
    check_integer("spline_order", spline_order, 1)
    check_integer("n_knots", n_knots, max(spline_order + 1, 4))
    check_integer("max_iter", max_iter, 1)
    known = DISTRIBUTIONS.get(str(distribution).lower().replace("_", " "))
    if known is None:
        raise ValueError(
            f"Expected `distribution` to be one of {listed(DISTRIBUTIONS)}, found `{distribution!r}`. Use 'nb' for "
            "counts that vary more than their mean."
        )
    if link is not None and link != LINKS[known]:
        raise ValueError(f"Expected `link={LINKS[known]!r}` with `distribution={known!r}`, found `{link!r}`.")
    if criterion not in ("REML", "GCV"):
        raise ValueError(f"Expected `criterion` to be 'REML' or 'GCV', found `{criterion!r}`.")
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        raise ValueError(f"Expected `key_added` to be a name without slashes, found `{key_added!r}`.")
    return {
        "distribution": known,
        "n_knots": int(n_knots),
        "spline_order": int(spline_order),
        "criterion": criterion,
        "max_iter": int(max_iter),
    }


def _read_times(adata: AnnData, key: str) -> Float[np.ndarray, " cells"]:
    """Read the time; NaN where there is none."""
    times = read_numbers(adata.obs, key, "adata.obs", "Name the column with the cells' time in `time_key`.")
    return np.where(np.isfinite(times), times, np.nan)


def _weights(adata: AnnData, lineages: Any, backward: bool) -> Memberships:
    """Read the fates; all cells are one lineage where there are none."""
    keys = FateKeys(backward)
    if lineages is None and keys.fate_probabilities not in adata.obsm:
        logger.warning(
            "Fitting one trend through all cells: there are no fates in `adata.obsm[%r]`. Compute them with "
            "`GPCCA.compute_fate_probabilities()` for a trend towards each", keys.fate_probabilities,
        )  # fmt: skip
        return Memberships(np.ones((adata.n_obs, 1)), [ALL_CELLS])
    fates = read_fates(adata, keys, "Compute fates with `GPCCA.compute_fate_probabilities()`.").of(lineages, "lineages")
    nowhere = [name for name, column in zip(fates.names, fates.values.T, strict=True) if not np.nansum(column) > 0]
    if nowhere:
        raise ValueError(
            f"Expected cells with a probability of each lineage, found none for {listed(nowhere)}. Leave them out: "
            "name others in `lineages`."
        )
    return fates


def _check_values(values: Any, where: str, distribution: str) -> None:
    if not values.shape[1]:
        raise ValueError("Expected genes to fit trends of, found none. Keep some genes in `adata`.")
    remedy = "Remove these cells or genes, or name another `layer`."
    stored = stored_values(values)
    if distribution == "normal":
        check_finite(where, values, remedy)
        if stored.size and stored.max() > 1 and stored.min() >= 0 and (stored == np.rint(stored)).all():
            logger.warning(
                "Fitting normal trends to integers in `%s`: are these counts? Pass `distribution='nb'`, or name a "
                "layer with logarithms of normalised counts", where,
            )  # fmt: skip
        return
    check_non_negative(where, values, f"Counts are none: {remedy}")
    n_broken = np.count_nonzero(stored != np.rint(stored))
    if n_broken:
        raise ValueError(
            f"Expected counts in `{where}` with `distribution={distribution!r}`, found {n_broken} numbers that are no "
            "integers. Name the layer with the raw counts in `layer`, or pass `distribution='normal'`."
        )


def _size_factors(adata: AnnData, given: Any, counts: Any) -> Float[np.ndarray, " cells"]:
    remedy = "Name a column of positive numbers in `size_factors`, or leave it out."
    if given is None:
        sizes = cell_sizes(counts).astype(float)
        return sizes / max(sizes.mean(), np.finfo(float).tiny)
    if isinstance(given, str):
        sizes = read_numbers(adata.obs, given, "adata.obs", remedy)
    else:
        sizes = np.asarray(given, float)
    if sizes.shape != (adata.n_obs,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            f"Expected {adata.n_obs} positive numbers as `size_factors`, found the shape {sizes.shape} with "
            f"{np.count_nonzero(~(np.isfinite(sizes) & (sizes > 0)))} that are none. {remedy}"
        )
    return sizes


def _ranges(times: np.ndarray, weights: np.ndarray, names: list[str], given: Any) -> Float[np.ndarray, "lineages 2"]:
    """Give first and last time of each lineage."""
    if isinstance(given, Mapping):
        given = {text_of(name): limits for name, limits in given.items()}
        unknown = [name for name in given if name not in names]
        if unknown:
            raise KeyError(f"Expected lineages among {listed(names)} in `time_range`, found {listed(unknown)}.")
        limits = [given.get(name) for name in names]
    elif isinstance(given, list) and not all(is_number(one) for one in given):
        limits = given
        if len(limits) != len(names):
            raise ValueError(f"Expected {len(names)} ranges in `time_range`, one a lineage, found {len(limits)}.")
    else:
        limits = [given] * len(names)
    order = np.argsort(times, kind="stable")
    ranges = []
    for column, limit in zip(weights.T, limits, strict=True):
        passed = np.cumsum(column[order])
        if not passed[-1] > 0:
            raise ValueError(f"Expected cells with a time and a probability of each of {listed(names)}, found none.")
        low = times[column > 0].min()
        high = times[order][min(np.searchsorted(passed, LAST * passed[-1]), len(order) - 1)]
        if limit is not None:
            pair = [low, limit] if is_number(limit) else list(limit)
            if len(pair) != 2 or not all(one is None or (is_number(one) and np.isfinite(one)) for one in pair):
                raise ValueError(f"Expected a finite first and last time in `time_range`, found `{limit!r}`.")
            low, high = (own if one is None else float(one) for own, one in zip((low, high), pair, strict=True))
            if not low < high:
                raise ValueError(
                    f"Expected the first time in `time_range` before the last, found {low:g} and {high:g}."
                )
        elif not low < high:
            high = times[column > 0].max()
        ranges.append((low, high))
    return np.array(ranges, dtype=float)


def _lines(
    adata: AnnData, names: list[str], weights: np.ndarray, ranges: np.ndarray, condition_key: str | None
) -> tuple[list[Line], Float[np.ndarray, "cells lines"], Float[np.ndarray, "lines 2"]]:
    """Give the curves: one for each lineage, and one for each condition in it."""
    lines = [Line(name, "") for name in names]
    if condition_key is None:
        return lines, weights, ranges
    conditions, codes = group_codes(adata, condition_key)
    used = [i for i in range(len(conditions)) if (codes == i).any()]
    if len(used) < 2:
        raise ValueError(
            f"Expected at least two conditions in `adata.obs[{condition_key!r}]`, found "
            f"{listed(conditions[i] for i in used)}. Name another column, or leave out `condition_key`."
        )
    columns, all_ranges = [weights], [ranges]
    for i in used:
        lines += [Line(name, conditions[i]) for name in names]
        columns.append(weights * (codes == i)[:, None])
        all_ranges.append(ranges)
    return lines, np.concatenate(columns, axis=1), np.concatenate(all_ranges)


def _check_cells(times: np.ndarray, lines: list[Line], weights: np.ndarray, ranges: np.ndarray, n_knots: int) -> None:
    for line, column, (low, high) in zip(lines, weights.T, ranges, strict=True):
        cells = (column > 0) & (times >= low) & (times <= high)
        n_cells, n_times = np.count_nonzero(cells), len(np.unique(times[cells]))
        if n_cells < n_knots:
            raise ValueError(
                f"Expected at least `n_knots={n_knots}` cells for {line.label!r} from time {low:g} to {high:g}, found "
                f"{n_cells}. Take fewer knots, a wider `time_range`, or leave out what has so few cells."
            )
        if n_times < 2:
            raise ValueError(
                f"Expected at least two times of the cells for {line.label!r}, found {n_times}. Leave it out, or name "
                "another `time_key`."
            )
        n_effective, spread = _extent(times, column, (low, high))
        if n_effective < LEAST_CELLS:
            raise ValueError(
                f"Expected weights for {line.label!r} that amount to at least {LEAST_CELLS:g} cells, found "
                f"{n_effective:.2g}: few cells have nearly all of its probability. Leave it out, or compute fates anew."
            )
        if spread < LEAST_SPREAD:
            raise ValueError(
                f"Expected weights for {line.label!r} at different times, found nearly all of them at one. Leave it "
                "out, or name another `time_key`."
            )


def _extent(times: np.ndarray, weights: np.ndarray, limits: Any) -> tuple[float, float]:
    """Give how many cells weights amount to, and the deviation of their times as a part of the range."""
    low, high = limits
    inside = (times >= low) & (times <= high)
    weights, places = weights[inside], (times[inside] - low) / (high - low)
    total = weights.sum()
    if not total > 0:
        return 0.0, 0.0
    weights = weights / total
    return float(1 / (weights**2).sum()), float(np.sqrt(weights @ (places - weights @ places) ** 2))


class _Compared(NamedTuple):
    """A comparison, with what its test needs."""

    names: Comparison
    weights: Float[np.ndarray, " cells"]
    shares: Float[np.ndarray, " cells"]
    limits: Float[np.ndarray, " 2"]


def _comparisons(
    times: np.ndarray, lines: list[Line], weights: np.ndarray, ranges: np.ndarray, differences: bool
) -> list[_Compared]:
    """Pairs of lineages where both have a time and cells, and each condition of a lineage beside the others."""
    compared = []
    place = {line: i for i, line in enumerate(lines)}
    whole = [line for line in lines if not line.condition]
    for a, b in itertools.combinations(whole, 2) if differences else ():
        first, second = weights[:, place[a]], weights[:, place[b]]
        limits = np.array(
            [max(ranges[place[line], 0] for line in (a, b)), min(ranges[place[line], 1] for line in (a, b))]
        )
        if not limits[0] < limits[1]:
            continue
        n_effective, spread = _extent(times, first + second, limits)
        if n_effective < LEAST_CELLS or spread < LEAST_SPREAD:
            logger.warning(
                "Not comparing %r with %r: there are too few cells from time %g to %g, where both have a trend",
                a.lineage, b.lineage, *limits,
            )  # fmt: skip
        else:
            compared.append(_compared(Comparison(a.lineage, b.lineage, ""), first, first + second, limits))
    conditions = list(dict.fromkeys(line.condition for line in lines if line.condition))
    for line in whole:
        # Of two conditions, each differs from the other if the other differs from it.
        for condition in conditions if len(conditions) > 2 else conditions[1:]:
            of_condition = weights[:, place[Line(line.lineage, condition)]]
            of_all = weights[:, [place[Line(line.lineage, name)] for name in conditions]].sum(axis=1)
            names = Comparison(line.lineage, "", condition)
            compared.append(_compared(names, of_condition, of_all, ranges[place[line]]))
    return compared


def _compared(names: Comparison, part: np.ndarray, whole: np.ndarray, limits: np.ndarray) -> _Compared:
    return _Compared(names, whole, np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0), limits)


def _difference_tests(
    values: Any, times: np.ndarray, compared: Sequence[_Compared], shared: dict[str, Any]
) -> dict[str, np.ndarray]:
    if not compared:
        return {name: np.empty((0, values.shape[1])) for name in TESTS}
    weights, shares = (np.stack(of, axis=1) for of in ([c.weights for c in compared], [c.shares for c in compared]))
    limits = np.stack([c.limits for c in compared])
    statistic, p = difference_test(values, times, weights, shares, limits, **shared)
    return {"statistic": statistic, "pval": p, "qval": np.stack([q_values(row) for row in p])}


def _statistics(trends: Trends, fit: TrendFit) -> dict[str, np.ndarray]:
    everything = np.arange(len(trends.genes))
    peaks, amplitudes = np.full(fit.p_value.shape, np.nan), np.full(fit.p_value.shape, np.nan)
    for curve in range(len(trends.lines)):
        times, found = trends.evaluate(curve, everything, POINTS)
        known = np.isfinite(found.values).all(axis=1)
        peaks[curve, known] = times[found.values[known].argmax(axis=1)]
        amplitudes[curve] = np.ptp(found.values, axis=1)
    return {
        "statistic": fit.statistic,
        "pval": fit.p_value,
        "qval": np.stack([q_values(row) for row in fit.p_value]),
        "peak_time": peaks,
        "amplitude": amplitudes,
        "degrees_of_freedom": fit.degrees,
        "scale": fit.scale,
        "dispersion": fit.dispersion,
        "converged": fit.converged.astype(float),
    }
