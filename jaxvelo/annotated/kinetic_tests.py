"""Tests for kinetics of their own of groups of cells, as they stand in an AnnData object under scVelo's names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float

from jaxvelo.annotated.entries import stored_parameters

GROUPS, P_VALUE, P_VALUES = "fit_diff_kinetics", "fit_pval_kinetics", "fit_pvals_kinetics"


def write_kinetic_tests(
    adata: AnnData,
    genes: Bool[np.ndarray, " genes"],
    p_values: Float[np.ndarray, "tested groups"],
    groups: Sequence[str],
    groupby: str,
    significant: float,
) -> None:
    """Store the tests of some genes; those of others stay if they are of the same clustering.

    Parameters
    ----------
    adata
        Annotated data.
    genes
        Mask of the genes that were tested.
    p_values
        For each of them and each group.
    groups, groupby
        Names of the groups, and the key that they stand under in ``adata.obs``.
    significant
        P-value below which a group is named.
    """
    table = pd.DataFrame(np.nan, index=adata.var_names, columns=pd.Index(groups))
    named = np.full(adata.n_vars, None, dtype=object)
    p_value = np.full(adata.n_vars, np.nan)
    before = adata.varm.get(P_VALUES)
    stored = stored_parameters(adata, "recover_dynamics")
    # Groups of another clustering may have the same names.
    if (
        isinstance(before, pd.DataFrame)
        and stored.get(GROUPS) == groupby
        and list(before.columns) == list(groups)
        and {GROUPS, P_VALUE} <= set(adata.var)
    ):
        table[:] = before.to_numpy()
        named[:] = adata.var[GROUPS].astype(object).where(adata.var[GROUPS].notna(), None)
        p_value[:] = adata.var[P_VALUE]
    below = p_values < significant
    table.iloc[np.flatnonzero(genes)] = p_values
    named[genes] = [",".join(group for group, is_below in zip(groups, row, strict=True) if is_below) for row in below]
    p_value[genes] = np.where(below.any(axis=1), np.max(p_values, axis=1, initial=0, where=below), np.nan)
    adata.var[GROUPS] = pd.Categorical(named)
    adata.var[P_VALUE] = p_value
    adata.varm[P_VALUES] = table
    adata.uns["recover_dynamics"] = {**stored, GROUPS: groupby}


def forget_kinetic_tests(adata: AnnData, genes: Bool[np.ndarray, " genes"]) -> None:
    """Make missing what was found for genes, whose fit is another now; without any left, they have no clustering."""
    for key in (GROUPS, P_VALUE):
        if key in adata.var:
            adata.var[key] = adata.var[key].mask(genes)
    if P_VALUES in adata.varm:
        # Anyone's, such as scVelo's array of records, is no table that genes can be taken from.
        before = adata.varm[P_VALUES]
        if isinstance(before, pd.DataFrame):
            adata.varm[P_VALUES] = before.mask(np.repeat(genes[:, None], before.shape[1], axis=1))
        elif genes.any():
            del adata.varm[P_VALUES]
    stored = stored_parameters(adata, "recover_dynamics")
    if GROUPS in stored and (GROUPS not in adata.var or adata.var[GROUPS].isna().all()):
        adata.uns["recover_dynamics"] = {key: value for key, value in stored.items() if key != GROUPS}
