"""Genes whose curve explains a group of cells best, under scVelo's name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.columns_on_disk import columns_on_disk
from jaxvelo.annotated.counts import stored_values
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import read_numbers, require_anndata, require_key
from jaxvelo.annotated.fit_columns import FIT_FIRST, read_kinetics
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.annotated.parts import compared_groups
from jaxvelo.annotated.ranked_genes import ranked_genes, write_ranked_genes
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.dynamics import group_likelihoods, neighborhood_weights
from jaxvelo.tl._moment_layers import checked_counts, read_counts

KEY = "rank_dynamical_genes"
TIMES = ("fit_tau", "fit_tau_")


@accepts_data
def rank_dynamical_genes(
    adata: AnnData,
    n_genes: int = 100,
    groupby: str | None = None,
    copy: bool = False,
    *,
    neighbors_key: str | None = None,
    memory_limit: int | float | str | None = None,
) -> AnnData | None:
    r"""Rank genes by the likelihood of the dynamical model in each group of cells.

    With the squared distances :math:`d^2_i` of the cells to the curve, over the :math:`m_c` of the :math:`n_c` cells of
    group :math:`c` with more than a fifth of the largest unspliced and of the largest spliced counts,

    .. math:: L_c = \frac{1}{\sqrt{2 \pi \sigma^2}}
                    \exp\Big(-\frac{\sum_{i \in c} d_i^2}{2 \sigma^2 \max(m_c - 0.01 n_c, 2)}\Big),

    where :math:`\sigma^2` is the variance of the signed distances over such cells of all groups. Layers on disk stay
    there: some genes of all cells are read at a time.

    Parameters
    ----------
    adata
        A fit of the dynamical model (:func:`jaxvelo.tl.recover_dynamics`, or scVelo's), the moments that it was fitted
        to in ``adata.layers["Ms"]`` and ``["Mu"]``, the neighbour graph, and groups of cells in ``adata.obs``.
    n_genes
        Genes in the table of each group, at most.
    groupby
        Key of the groups in ``adata.obs``; None for the first of ``"clusters"`` and ``"louvain"`` that is there.
    copy
        Return a copy and leave ``adata`` as it is.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    memory_limit
        Memory for layers on disk: bytes, or a text such as ``"8 GiB"``; half of what is free if None. Without effect on
        layers in memory.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets ``.uns["rank_dynamical_genes"]`` with ``"names"``,
        ``"scores"`` (the likelihoods, rounded to two decimals), ``"pvals"`` and ``"pvals_adj"``, structured arrays with
        a field for each group, the highest likelihood first, and ``"params"``.
        ``pandas.DataFrame(adata.uns["rank_dynamical_genes"]["names"])`` is the table of the genes.

    Raises
    ------
    KeyError
        If the fit, moments, neighbours or groups are missing.
    TypeError
        If the groups are numbers.
    ValueError
        If there are fewer than two groups, one has an empty name, no gene has a fit, data are negative or not finite,
        or ``n_genes`` is no positive integer.
    OSError
        If layers on disk cannot be read.

    Notes
    -----
    Likelihoods are those of scVelo 0.3.4 for the same fit; it has no p-values, and takes clusters of velocities where
    there are no others. A p-value here is that of the mean squared distance to the curve being no smaller in the group
    than among all other cells (Welch's test, one-sided, with the variance of the rest overestimated): it says whether
    the gene is explained better there than elsewhere, not whether it is explained. Genes rank by likelihood all the
    same, and may do so in a group where their p-value is large. P-values take cells as independent, which averages over
    neighbours are not.

    References
    ----------
    Bergen et al. (2020). Benjamini & Hochberg (1995), Controlling the false discovery rate.

    Examples
    --------
    >>> jv.tl.rank_dynamical_genes(fitted, groupby="clusters", n_genes=3)
    >>> fitted.uns["rank_dynamical_genes"]["names"]["Fate A"].tolist()
    ['gene_13', 'gene_33', 'gene_20']
    """
    require_no_copy(require_anndata(adata), copy)
    check_integer("n_genes", n_genes, 1)
    groupby, groups, codes = compared_groups(adata, groupby)
    kinetics, fitted = read_kinetics(adata)
    for name in TIMES:
        require_key(adata.layers, name, "adata.layers", FIT_FIRST)
    checks: dict[str, Callable[[Any], Any]] = {name: partial(checked_counts, name=name) for name in ("Mu", "Ms")}
    times: dict[str, Callable[[Any], Any]] = {name: partial(_checked_times, name=name) for name in TIMES}
    on_disk = columns_on_disk(adata, {**times, **checks}, memory_limit)
    if on_disk is None:
        time_on, time_off = (_checked_times(dense(adata.layers[name])[:, fitted], name) for name in TIMES)
    else:
        time_on, time_off = (on_disk[name][:, fitted] for name in TIMES)
    deviation = np.stack([_deviations(adata, name, fitted) for name in ("fit_std_u", "fit_std_s")])
    unspliced, spliced = (
        (read_counts(adata, name) if on_disk is None else on_disk[name])[:, fitted] for name in ("Mu", "Ms")
    )
    weights = neighborhood_weights(read_neighbor_graph(adata, "connectivities", neighbors_key))
    with timed(f"Ranking the likelihoods of {np.count_nonzero(fitted)} genes in {len(groups)} groups"):
        likelihoods, p_values = group_likelihoods(
            jax.tree.map(np.asarray, kinetics),
            time_on,
            time_off,
            unspliced,
            spliced,
            deviation,
            weights,
            codes,
            len(groups),
        )
    tables = ranked_genes(adata.var_names[fitted], groups, likelihoods, p_values, n_genes)
    result = adata.copy() if copy else adata
    write_ranked_genes(result, KEY, tables, groupby, "likelihood")
    logger.info("Adding `adata.uns[%r]`", KEY)
    return result if copy else None


def _checked_times(times: Any, name: str) -> Any:
    """Times on a branch of genes with a fit."""
    values = stored_values(times)
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        n_bad = np.count_nonzero(~np.isfinite(values)) if values.dtype.kind == "f" else values.size
        raise ValueError(
            f"Expected finite numbers in `adata.layers[{name!r}]` for the genes with rates in `adata.var`, found "
            f"{n_bad} that are not. {FIT_FIRST}"
        )
    return times


def _deviations(adata: AnnData, name: str, fitted: np.ndarray) -> Float[np.ndarray, " genes"]:
    """Standard deviations of the genes with a fit."""
    deviations = read_numbers(adata.var, name, "adata.var", FIT_FIRST)[fitted]
    n_bad = np.count_nonzero(~(np.isfinite(deviations) & (deviations > 0)))
    if n_bad:
        raise ValueError(
            f"Expected positive numbers in `adata.var[{name!r}]` for the genes with rates there, found {n_bad} that "
            f"are not. {FIT_FIRST}"
        )
    return deviations
