"""Genes whose velocity tells a group of cells from the others, under scVelo's name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.arrays import place_of, read_array
from jaxvelo.annotated.columns_on_disk import columns_on_disk
from jaxvelo.annotated.counts import check_finite, readable
from jaxvelo.annotated.disk_arrays import is_on_disk, read_in_ranges, require_no_copy
from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.annotated.genes import velocity_genes
from jaxvelo.annotated.parts import compared_groups
from jaxvelo.annotated.ranked_genes import ranked_genes, write_ranked_genes
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.dynamics import group_contrast, rank_correlation
from jaxvelo.tl._moment_layers import MOMENTS, checked_counts, read_counts

KEY, CORRELATION, SCORE = "rank_velocity_genes", "spearmans_score", "velocity_score"


@accepts_data
def rank_velocity_genes(
    adata: AnnData,
    vkey: str = "velocity",
    n_genes: int = 100,
    groupby: str | None = None,
    *,
    min_counts: float | None = None,
    min_r2: float | None = None,
    min_corr: float | None = None,
    min_dispersion: float | None = None,
    min_likelihood: float | None = None,
    memory_limit: int | float | str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Rank genes by how much larger their velocity is in a group of cells than in all others.

    With means :math:`m, m'` and variances :math:`v, v'` of the velocities of the :math:`n` cells of a group and of the
    rest, genes are ranked by

    .. math:: t = \frac{m - m'}{\sqrt{(v + v') / n}},

    Welch's statistic with the variance of the rest overestimated, as if it were of as few cells. Layers that are on
    disk stay there: some genes of all cells are read at a time.

    Parameters
    ----------
    adata
        Velocities in ``adata.layers[vkey]``, and groups of cells in ``adata.obs``.
    vkey
        Layer of the velocity.
    n_genes
        Genes in the table of each group, at most.
    groupby
        Key of the groups in ``adata.obs``; None for the first of ``"clusters"`` and ``"louvain"`` that is there. Cells
        of no group belong to the rest.
    min_counts
        Genes that are ranked have unspliced counts in more cells than this: if None, 50, or the median over the genes
        if that is less. Not looked at where there is no ``adata.layers["unspliced"]``.
    min_r2
        Least ``adata.var[vkey + "_r2"]``: 0.1 if None.
    min_corr
        Least rank correlation of spliced and unspliced moments: 0.1 if None.
    min_dispersion
        Least ``adata.var["dispersions_norm"]``: 0 if None.
    min_likelihood
        Least ``adata.var["fit_likelihood"]``: 0.1 if None. Columns of these that are not there are not looked at
        unless a limit is given. All limits are exclusive, and so is what is missing in a column; also left out are
        genes that ``adata.var[vkey + "_genes"]`` does not mark, and those whose velocity is not finite in all cells.
    memory_limit
        Memory for layers on disk: bytes, or a text such as ``"8 GiB"``; half of what is free if None. Without effect on
        layers in memory.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets

        - ``.uns["rank_velocity_genes"]``: ``"names"``, ``"scores"`` (rounded to two decimals), ``"pvals"`` and
          ``"pvals_adj"``, structured arrays with a field for each group, the highest score first, and ``"params"``.
          ``pandas.DataFrame(adata.uns["rank_velocity_genes"]["names"])`` is the table of the genes;
        - ``.var["velocity_score"]``: score of a gene in the group where it ranks first, cut to a whole number as in
          scVelo; 0 for genes of no table;
        - ``.var["spearmans_score"]``: the rank correlation of the moments, not below 0.

    Raises
    ------
    KeyError
        If velocities, groups, moments or a column with a limit are missing.
    TypeError
        If the groups are numbers.
    ValueError
        If there are fewer than two groups, one has an empty name, no gene remains, or an argument is out of range.
    OSError
        If layers on disk cannot be read.

    Notes
    -----
    Scores and names are those of scVelo 0.3.4, which has no p-values; here these are two-sided, with Welch's degrees of
    freedom, as scanpy's for ``"t-test_overestim_var"``, and adjusted (Benjamini & Hochberg) over the genes that are
    ranked. They take cells as independent. Moments are averages over neighbours and groups often come from the same
    counts, so that a p-value orders genes and does not say how often such a score arises by chance.

    What differs: scVelo computes clusters of velocities where ``groupby`` is None, and looks at the columns alone that
    are there, also where a limit is given; groups without cells have no field here. ``match_with`` and ``resolution``,
    which are for these clusters, are not there.

    References
    ----------
    Bergen et al. (2020). Benjamini & Hochberg (1995), Controlling the false discovery rate.

    Examples
    --------
    >>> jv.tl.rank_velocity_genes(adata, groupby="clusters", n_genes=3)
    >>> adata.uns["rank_velocity_genes"]["names"]["Fate A"].tolist()
    ['gene_33', 'gene_20', 'gene_26']
    """
    require_no_copy(require_anndata(adata), copy)
    check_integer("n_genes", n_genes, 1)
    limits = {
        "min_counts": min_counts,
        "min_r2": min_r2,
        "min_corr": min_corr,
        "min_dispersion": min_dispersion,
        "min_likelihood": min_likelihood,
    }
    for name, limit in limits.items():
        if limit is not None and (not is_number(limit) or np.isnan(limit)):
            raise ValueError(f"Expected `{name}` to be a number or None, found `{limit!r}`.")
    groupby, groups, codes = compared_groups(adata, groupby)
    checks: dict[str, Callable[[Any], Any]] = {name: partial(checked_counts, name=name) for name in MOMENTS}
    on_disk = columns_on_disk(adata, {vkey: partial(_checked, vkey=vkey), **checks}, memory_limit)
    velocity: Any
    spliced: Any
    unspliced: Any
    if on_disk is None:
        velocity, spliced, unspliced = _velocity(adata, vkey), *(read_counts(adata, name) for name in MOMENTS)
        finite = np.isfinite(velocity).all(axis=0)
    else:
        velocity, spliced, unspliced = (on_disk[name] for name in (vkey, *MOMENTS))
        finite = velocity.finite()
    correlation = np.maximum(rank_correlation(spliced, unspliced), 0)
    genes = _kept(adata, vkey, finite, correlation, limits)
    with timed(f"Ranking the velocities of {np.count_nonzero(genes)} genes in {len(groups)} groups"):
        contrast = group_contrast(velocity[:, genes], codes, len(groups))
        p_values = contrast.p_values(two_sided=True)
    names = adata.var_names[genes]
    tables = ranked_genes(names, groups, contrast.score, p_values, n_genes)
    score = np.zeros(adata.n_vars, dtype=int)
    score[genes] = _best_ranked(contrast.score, min(n_genes, len(names)))

    result = adata.copy() if copy else adata
    write_ranked_genes(result, KEY, tables, groupby, "t-test_overestim_var")
    result.var[SCORE] = score
    result.var[CORRELATION] = correlation
    logger.info("Adding `adata.uns[%r]`", KEY)
    return result if copy else None


def _velocity(adata: AnnData, vkey: str) -> Any:
    layer = _checked(read_array(adata, vkey, "layers"), vkey)
    return layer.toarray() if sp.issparse(layer) else layer


def _checked(layer: Any, vkey: str) -> Any:
    if layer.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected numbers in `adata.layers[{vkey!r}]`, found the type {layer.dtype}. Compute velocities anew."
        )
    return layer


def _kept(
    adata: AnnData,
    vkey: str,
    finite: Bool[np.ndarray, " genes"],
    correlation: Float[np.ndarray, " genes"],
    limits: dict[str, Any],
) -> Bool[np.ndarray, " genes"]:
    """Mask of the genes that are ranked; an error says how many each condition leaves."""
    conditions = {"finite velocities": finite}
    marked = velocity_genes(adata, vkey, "Compute velocities anew, or delete the column.")
    if marked is not None:
        conditions[f"adata.var['{vkey}_genes']"] = marked
    if "unspliced" in adata.layers:
        n_cells = _cells_with_counts(adata.layers["unspliced"])
        least = limits["min_counts"]
        conditions["min_counts"] = n_cells > (min(50, np.percentile(n_cells, 50)) if least is None else least)
    elif limits["min_counts"] is not None:
        read_counts(adata, "unspliced")
    columns = {
        "min_r2": (f"{vkey}_r2", 0.1),
        "min_dispersion": ("dispersions_norm", 0),
        "min_likelihood": ("fit_likelihood", 0.1),
    }
    for name, (key, default) in columns.items():
        least = limits[name]
        if key in adata.var or least is not None:
            values = read_numbers(adata.var, key, "adata.var", f"Compute it, or leave out `{name}`.")
            conditions[name] = values > (default if least is None else least)
    conditions["min_corr"] = correlation > (0.1 if limits["min_corr"] is None else limits["min_corr"])
    kept = np.all(list(conditions.values()), axis=0)
    if not kept.any():
        found = ", ".join(f"{np.count_nonzero(mask)} by {name}" for name, mask in conditions.items())
        raise ValueError(f"Expected genes to rank, found none of {adata.n_vars}: {found}. Lower the limits.")
    return kept


def _cells_with_counts(counts: Any) -> Int[np.ndarray, " genes"]:
    """Number of cells in which each gene has unspliced counts."""
    where = place_of("unspliced", "layers")
    n_cells = np.zeros(counts.shape[1], dtype=np.int64)
    for _, found in read_in_ranges(counts, where) if is_on_disk(counts) else [(None, counts)]:
        piece = readable(where, found)
        check_finite(where, piece, "Leave out these genes or cells.")
        n_cells += np.asarray((piece > 0).sum(axis=0)).ravel()
    return n_cells


def _best_ranked(scores: Float[np.ndarray, "groups genes"], n_genes: int) -> np.ndarray:
    """Whole score of each gene in the group where it ranks first, 0 below the first ``n_genes`` of all groups."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(scores.shape[1])[None], axis=1)
    best = np.argmin(ranks, axis=0)[None]
    rank, score = (np.take_along_axis(x, best, axis=0)[0] for x in (ranks, scores))
    most = np.iinfo(np.int32).max
    return np.where(rank < n_genes, np.clip(np.trunc(score), -most, most), 0).astype(int)
