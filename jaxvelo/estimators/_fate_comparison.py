"""Do cells of one condition end elsewhere than those of another? With samples, not cells, as what was repeated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.groups import group_codes
from jaxvelo.annotated.names import places_by_name
from jaxvelo.annotated.q_values import q_values
from jaxvelo.annotated.stored_states import read_fates
from jaxvelo.configuration import logger


def compare_fates(
    adata: AnnData,
    condition_key: str,
    sample_key: str,
    lineages: str | Sequence[str] | None = None,
    groupby: str | None = None,
    *,
    conditions: Sequence[Any] | None = None,
    confidence_level: float = 0.95,
    n_perms: int = 10_000,
    seed: int | None = None,
    backward: bool = False,
) -> pd.DataFrame:
    r"""Compare the fates of cells between two conditions.

    Cells of one sample share what befell the sample, so that samples are the units of the comparison: fate
    probabilities are averaged over the cells of each sample, and the difference of a lineage is

    .. math:: \Delta = \frac{1}{|B|} \sum_{s \in B} \bar F_s - \frac{1}{|A|} \sum_{s \in A} \bar F_s

    between the samples of the second condition :math:`B` and the first one :math:`A`. Its p-value is the part of the
    arrangements of the samples into conditions of these sizes whose :math:`|\Delta|` is at least as large: of all of
    them if there are no more than ``n_perms``, otherwise :math:`(1 + b)/(1 + B)` of ``n_perms`` random ones (Phipson &
    Smyth 2010). It is exact if samples could be exchanged without the condition. With few samples it cannot be small.

    Averages over all cells also change when a condition has more cells of one type: ``groupby`` compares like with
    like.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["lineages_fwd"]``, as :class:`jaxvelo.estimators.GPCCA` or CellRank writes it, and
        with the names of its columns in ``obs["term_states_fwd"]``; nothing is written there.
    condition_key
        Column of ``adata.obs`` with the conditions.
    sample_key
        Column of ``adata.obs`` with the samples, each of one condition.
    lineages
        Names of one or several lineages; all by default.
    groupby
        Column of ``adata.obs`` with groups of cells, such as clusters, that are compared each for itself.
    conditions
        The two conditions, the one to compare with first; by default all in the column, in its order.
    confidence_level
        Of the intervals.
    n_perms
        Most arrangements that are looked at.
    seed
        Of random arrangements; others each time if ``None``.
    backward
        Whether the fates are those of a process backward in time.

    Returns
    -------
    A row for each group and lineage, with the columns ``"group"`` (with ``groupby`` alone), ``"lineage"``,
    ``"mean_<condition>"`` and ``"n_samples_<condition>"`` of both conditions, ``"difference"``, ``"ci_low"``,
    ``"ci_high"`` (of Welch's t over samples), ``"effect_size"`` (Hedges' g: the difference over the standard deviation
    between samples, corrected for their number), ``"pval"``, ``"qval"`` (Benjamini & Hochberg over all rows). Samples
    without cells in a group do not count there; with fewer than 2 left in a condition, the row has no test (NaN).

    Raises
    ------
    KeyError
        If fates, a column, a condition or a lineage are not there.
    ValueError
        If there are not two conditions, a sample has cells of both, a condition has fewer than 2 samples, fates are not
        finite, or an argument is out of range.

    Examples
    --------
    >>> adata.obs["sample"] = [f"sample {i % 6}" for i in range(adata.n_obs)]
    >>> adata.obs["condition"] = ["treated" if i % 2 else "control" for i in range(adata.n_obs)]
    >>> table = jv.estimators.compare_fates(adata, "condition", "sample", conditions=["control", "treated"])
    >>> sorted(table["lineage"]), bool(table["pval"].min() < 0.05)
    (['Fate A', 'Fate B'], False)
    """
    require_anndata(adata)
    check_integer("n_perms", n_perms, 1)
    if seed is not None:
        check_integer("seed", seed, 0)
    if not is_number(confidence_level) or not 0 <= confidence_level < 1:
        raise ValueError(f"Expected `confidence_level` to be a number from 0 to below 1, found `{confidence_level!r}`.")
    keys = FateKeys(backward)
    fates = read_fates(adata, keys, "Compute them with `GPCCA.compute_fate_probabilities()`.").of(lineages, "lineages")
    condition, names = _two_conditions(adata, condition_key, conditions)
    samples, sample = group_codes(adata, sample_key)
    used = (condition >= 0) & (sample >= 0)
    _check_finite(fates.values[used], keys.fate_probabilities)
    in_second = _condition_of_samples(condition[used], sample[used], samples, condition_key, sample_key)
    _check_sizes(in_second, names, condition_key, sample_key)

    groups, group = ([""], np.zeros(adata.n_obs, dtype=int)) if groupby is None else group_codes(adata, groupby)
    tables = []
    for number, name in enumerate(groups):
        cells = used & (group == number)
        table = _of_group(fates.values[cells], sample[cells], in_second, confidence_level, n_perms, seed)
        table.insert(0, "lineage", fates.names)
        if groupby is not None:
            table.insert(0, "group", name)
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    result["qval"] = q_values(result["pval"].to_numpy())
    untested = result.loc[result["pval"].isna(), "group"].unique() if groupby is not None else []
    if len(untested):
        logger.warning(
            "No test in the groups %s of `adata.obs[%r]`: fewer than 2 samples of a condition have cells there",
            listed(untested),
            groupby,
        )
    first, second = names
    return result.rename(
        columns={
            "mean_first": f"mean_{first}",
            "mean_second": f"mean_{second}",
            "n_first": f"n_samples_{first}",
            "n_second": f"n_samples_{second}",
        }
    )


def _two_conditions(adata: AnnData, key: str, conditions: Any) -> tuple[Int[np.ndarray, " cells"], list[str]]:
    """Read which of two conditions each cell has (0 and 1, -1 for none), and their names."""
    names, codes = group_codes(adata, key)
    with_cells = [place for place in range(len(names)) if (codes == place).any()]
    if conditions is None:
        chosen = with_cells
    else:
        wanted = [conditions] if isinstance(conditions, str) else list(conditions)
        places = places_by_name(pd.Index([names[place] for place in with_cells], dtype=object), wanted)
        absent = [want for want, found in places if not found]
        if absent:
            there = listed(names[place] for place in with_cells)
            raise KeyError(f"Expected conditions of `adata.obs[{key!r}]`, found {listed(absent)}. There are {there}.")
        chosen = [with_cells[found[0]] for _, found in places]
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        raise ValueError(
            f"Expected two conditions in `adata.obs[{key!r}]`, found {listed(names[place] for place in chosen)}. Name "
            "two with `conditions=`, the one to compare with first."
        )
    return np.where(codes == chosen[1], 1, np.where(codes == chosen[0], 0, -1)), [names[place] for place in chosen]


def _check_finite(fates: np.ndarray, key: str) -> None:
    bad = ~np.isfinite(fates).all(axis=1)
    if bad.any():
        raise ValueError(
            f"Expected finite fate probabilities in `adata.obsm[{key!r}]`, found {bad.sum()} of {len(bad)} cells "
            "without. Compute them anew, or remove these cells."
        )


def _condition_of_samples(
    condition: np.ndarray, sample: np.ndarray, samples: list[str], condition_key: str, sample_key: str
) -> Int[np.ndarray, " samples"]:
    """Give each sample its condition, -1 for samples without cells of either."""
    cells = np.stack([np.bincount(sample[condition == place], minlength=len(samples)) for place in (0, 1)])
    mixed = np.flatnonzero((cells > 0).all(axis=0))
    if len(mixed):
        raise ValueError(
            f"Expected each sample of `adata.obs[{sample_key!r}]` in one condition of `adata.obs[{condition_key!r}]`, "
            f"found {listed((samples[place] for place in mixed), 5)} in both. Name the samples apart, as by "
            f"`adata.obs[{sample_key!r}].astype(str) + '_' + adata.obs[{condition_key!r}].astype(str)`, if their "
            "cells were prepared apart; cells of one preparation cannot be compared."
        )
    return np.where(cells[1] > 0, 1, np.where(cells[0] > 0, 0, -1))


def smallest_p_value(n_first: int, n_second: int) -> float:
    """Smallest p-value that so many samples can give: with equal numbers, a swap has the same absolute difference."""
    return (2 if n_first == n_second else 1) / math.comb(n_first + n_second, n_first)


def _check_sizes(in_second: np.ndarray, names: list[str], condition_key: str, sample_key: str) -> None:
    n_first, n_second = (int((in_second == place).sum()) for place in (0, 1))
    found = f"{n_first} of {names[0]!r} and {n_second} of {names[1]!r}"
    smallest = smallest_p_value(n_first, n_second)
    if min(n_first, n_second) < 2:
        raise ValueError(
            f"Expected at least 2 samples of each condition of `adata.obs[{condition_key!r}]` in "
            f"`adata.obs[{sample_key!r}]`, found {found}: no p-value could be below {smallest:.3g}, and nothing would "
            "tell a difference between conditions from one between samples. Add samples; cells of one sample are none."
        )
    if smallest > 0.05:
        logger.warning("With %s samples, no p-value can be below %.3g", found, smallest)


def _of_group(
    fates: Float[np.ndarray, "cells lineages"],
    sample: Int[np.ndarray, " cells"],
    in_second: Int[np.ndarray, " samples"],
    confidence_level: float,
    n_perms: int,
    seed: int | None,
) -> pd.DataFrame:
    n_cells = np.bincount(sample, minlength=len(in_second))
    present = (n_cells > 0) & (in_second >= 0)
    sums = np.zeros((len(in_second), fates.shape[1]))
    np.add.at(sums, sample, fates)
    means = sums[present] / n_cells[present, None]
    return pd.DataFrame(compare_samples(means, in_second[present] == 1, confidence_level, n_perms, seed)._asdict())


class Comparison(NamedTuple):
    """A comparison of two sets of samples; one entry for each quantity, NaN where a set has fewer than 2."""

    mean_first: Float[np.ndarray, " quantities"]
    mean_second: Float[np.ndarray, " quantities"]
    n_first: int
    n_second: int
    difference: Float[np.ndarray, " quantities"]
    ci_low: Float[np.ndarray, " quantities"]
    ci_high: Float[np.ndarray, " quantities"]
    effect_size: Float[np.ndarray, " quantities"]
    pval: Float[np.ndarray, " quantities"]


def compare_samples(
    values: Float[np.ndarray, "samples quantities"],
    second: Bool[np.ndarray, " samples"],
    confidence_level: float = 0.95,
    n_perms: int = 10_000,
    seed: int | None = None,
) -> Comparison:
    """Compare the means of two sets of samples, see :func:`compare_fates`; ``second`` tells which are in the second."""
    n_first, n_second = int((~second).sum()), int(second.sum())
    missing = np.full(values.shape[1], np.nan)
    sets = (values[~second], values[second])
    first, last = (part.mean(axis=0) if len(part) else missing for part in sets)
    if min(n_first, n_second) < 2:
        return Comparison(first, last, n_first, n_second, last - first, missing, missing, missing, missing)
    difference = last - first
    variances = [part.var(axis=0, ddof=1) for part in sets]
    low, high = _interval(difference, variances, (n_first, n_second), confidence_level)
    freedom = n_first + n_second - 2
    pooled = np.sqrt(((n_first - 1) * variances[0] + (n_second - 1) * variances[1]) / freedom)
    correction = 1 - 3 / (4 * freedom - 1)
    effect = np.where(pooled > 0, correction * difference / np.where(pooled > 0, pooled, 1), np.nan)
    p = _p_values(values, second, np.abs(difference), n_perms, seed)
    return Comparison(first, last, n_first, n_second, difference, low, high, effect, p)


def _interval(
    difference: np.ndarray, variances: Sequence[np.ndarray], sizes: tuple[int, int], confidence_level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Welch's interval; of width zero where samples of a condition do not differ."""
    parts = [variance / size for variance, size in zip(variances, sizes, strict=True)]
    squared = parts[0] + parts[1]
    varies = squared > 0
    weights = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    freedom = np.where(varies, squared**2 / np.where(varies, weights, 1), 1)
    half = stdtrit(freedom, (1 + confidence_level) / 2) * np.sqrt(squared)
    return difference - half, difference + half


def _p_values(
    values: np.ndarray, second: np.ndarray, observed: np.ndarray, n_perms: int, seed: int | None
) -> Float[np.ndarray, " quantities"]:
    n, n_second = len(second), int(second.sum())
    is_exact = math.comb(n, n_second) <= n_perms
    if is_exact:
        chosen = np.array(list(itertools.combinations(range(n), n_second)))
    else:
        chosen = np.random.default_rng(seed).random((n_perms, n)).argsort(axis=1)[:, :n_second]
    # The weights of the samples in the difference of the two means.
    weights = np.full((len(chosen), n), -1 / (n - n_second))
    np.put_along_axis(weights, chosen, 1 / n_second, axis=1)
    scale = np.abs(values).max(axis=0, initial=0)
    extreme = np.abs(weights @ values) >= (observed - 1e-12 * scale)[None]  # equal up to rounding is as large
    if is_exact:
        return extreme.mean(axis=0)  # the arrangement that was observed is one of them
    return (1 + extreme.sum(axis=0)) / (1 + n_perms)
