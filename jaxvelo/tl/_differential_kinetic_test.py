"""Groups of cells with kinetics of their own, under scVelo's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from anndata import AnnData
from jaxtyping import Bool

from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.fit_columns import FIT_FIRST, read_kinetics
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.annotated.kinetic_tests import write_kinetic_tests
from jaxvelo.annotated.parts import compared_groups
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.dynamics import SIGNIFICANT, kinetic_p_values, neighborhood_weights
from jaxvelo.tl._moment_layers import read_counts


@accepts_data
def differential_kinetic_test(
    adata: AnnData,
    var_names: str | Sequence[str] = "velocity_genes",
    groupby: str | None = None,
    *,
    neighbors_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Test which groups of cells have kinetics that the curve of all cells does not explain.

    The cells of the group that is farthest from the curve of a gene give a line :math:`u = k s`, by orthogonal
    regression: the steady states of other rates of splicing and degradation. Each group is tested for being nearer to
    that line than to the curve, by the ratio of both likelihoods,

    .. math:: z = \frac{\sum_i d_i^2 / 2 - \sum_i l_i^2}{\sigma^2 \sqrt{8 n}}, \qquad p = 1 - \Phi(z),

    with squared distances :math:`d^2_i` to the curve and :math:`l^2_i` to the line of :math:`n` cells, and the variance
    :math:`\sigma^2` of those to the curve. Cells count that are outside of the curve; if these do not tell, those with
    large counts (:func:`jaxvelo.dynamics.kinetic_p_values` has the steps).

    Parameters
    ----------
    adata
        A fit of the dynamical model (:func:`jaxvelo.tl.recover_dynamics`, or scVelo's), the moments that it was fitted
        to in ``adata.layers["Ms"]`` and ``["Mu"]``, the neighbour graph, and groups of cells in ``adata.obs``.
    var_names
        Genes to test: names, a mask, the name of a mask in ``adata.var``, or ``"all"``, which is also what
        ``"velocity_genes"`` stands for if there is no such column. Genes without a fit are left out, with a warning.
    groupby
        Key of the groups in ``adata.obs``; None for the first of ``"clusters"`` and ``"louvain"`` that is there.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets

        - ``.var["fit_diff_kinetics"]``: names of the groups with :math:`p < 0.01`, joined by commas; empty where there
          are none, missing for genes that were not tested;
        - ``.var["fit_pval_kinetics"]``: the largest p-value of these groups;
        - ``.varm["fit_pvals_kinetics"]``: table of the p-values, a column for each group; 1 for groups of fewer than 10
          cells, NaN where no cell of the group counts. Names that no file can hold stand there under one that looks the
          same: a slash as the sign of division (U+2215), the low line of ``"_index"`` as U+02CD;
        - ``.uns["recover_dynamics"]["fit_diff_kinetics"]``: the key of the groups, and
          ``["fit_diff_kinetics_sizes"]``, how many cells they had; ``.var["fit_kinetics_of"]``: a number of the rates
          that were tested. By these a test is known to be of other groups, or another fit.

        Genes tested before and not asked for now keep their results if key, groups and rates are the same. A new fit by
        :func:`jaxvelo.tl.recover_dynamics` makes those of its genes missing. What to do with the groups that are found
        is for :func:`jaxvelo.tl.velocity` to say, with ``diff_kinetics=True``.

    Raises
    ------
    KeyError
        If the fit, moments, neighbours, groups or genes are missing.
    TypeError
        If ``var_names`` is neither of what is named above, or the groups are numbers.
    ValueError
        If there are fewer than two groups, one has an empty name, no gene to test, or data are negative or not finite.

    Notes
    -----
    Equal to scVelo 0.3.4, but for genes with :math:`\gamma \geq \beta` in which cells lie outside of one branch alone:
    their times are found from the unspliced counts, and scVelo takes what rounding leaves of the difference of these
    for a side of the curve, so that its result there is by chance. Further, scVelo fits the genes that have no fit, and
    stores the p-values as records. As there, a gene has no p-values if no cell of the group that is farthest from the
    curve is outside of it; this may be half of the genes.

    The p-values take cells as independent, which averages over neighbours are not.

    References
    ----------
    Bergen et al. (2020), Methods: testing for differential kinetics.

    Examples
    --------
    >>> jv.tl.differential_kinetic_test(fitted, groupby="clusters")
    >>> list(fitted.varm["fit_pvals_kinetics"].columns)
    ['Progenitor', 'Intermediate', 'Fate A', 'Fate B']
    """
    require_no_copy(require_anndata(adata), copy)
    groupby, groups, codes = compared_groups(adata, groupby)
    kinetics, fitted = read_kinetics(adata)
    genes = _tested(adata, var_names, fitted)
    unspliced, spliced = (read_counts(adata, name)[:, genes] for name in ("Mu", "Ms"))
    weights = neighborhood_weights(read_neighbor_graph(adata, "connectivities", neighbors_key))
    with timed(f"Testing the kinetics of {np.count_nonzero(genes)} genes in {len(groups)} groups"):
        of_genes = jax.tree.map(lambda rate: np.asarray(rate)[genes[fitted]], kinetics)
        p_values = kinetic_p_values(of_genes, unspliced, spliced, weights, codes, len(groups))
    n_found = np.count_nonzero((p_values < SIGNIFICANT).any(axis=1))
    n_empty = np.count_nonzero(~(p_values < 1).any(axis=1))
    logger.info(
        "    Genes with groups that have kinetics of their own: %d of %d; %d without cells to tell by",
        n_found,
        len(p_values),
        n_empty,
    )
    result = adata.copy() if copy else adata
    sizes = np.bincount(codes[codes >= 0], minlength=len(groups))
    write_kinetic_tests(result, genes, p_values, groups, sizes, groupby, SIGNIFICANT)
    return result if copy else None


def _tested(adata: AnnData, var_names: Any, fitted: Bool[np.ndarray, " genes"]) -> Bool[np.ndarray, " genes"]:
    """Mask of the genes that are asked for and have a fit."""
    is_word = isinstance(var_names, str) and var_names not in adata.var_names and var_names not in adata.var
    if is_word and var_names in ("all", "velocity_genes"):
        return fitted
    asked = chosen_genes(adata, var_names, "var_names")
    genes = asked & fitted
    if not genes.any():
        raise ValueError(f"Expected genes with a fit, found none with `var_names={var_names!r}`. {FIT_FIRST}")
    n_without = np.count_nonzero(asked & ~fitted)
    if n_without:
        logger.warning("Leaving out %d genes without a fit", n_without)
    return genes
