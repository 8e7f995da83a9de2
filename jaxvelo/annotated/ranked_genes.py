"""Tables of the genes that rank first in each group of cells, in the form in which scanpy and scVelo store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from scipy.stats import false_discovery_control


def ranked_genes(
    genes: pd.Index,
    groups: Sequence[str],
    scores: Float[np.ndarray, "groups genes"],
    p_values: Float[np.ndarray, "groups genes"],
    n_genes: int,
) -> dict[str, np.ndarray]:
    """Give the genes with the highest scores of each group.

    Parameters
    ----------
    genes
        Their names.
    groups
        Names of the groups.
    scores, p_values
        Of shape (groups, genes).
    n_genes
        Length of the tables, at most.

    Returns
    -------
    dict
        Arrays of shape (rank,) with a field for each group: ``"names"``; ``"scores"``, rounded to two decimals as in
        scVelo; ``"pvals"``; ``"pvals_adj"``, the smallest false discovery rate at which a gene is called, among all
        genes of the group (Benjamini & Hochberg 1995).
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_genes]
    tables = {
        "names": genes.to_numpy().astype(str)[order],
        "scores": np.take_along_axis(scores, order, axis=1).round(2),
        "pvals": np.take_along_axis(p_values, order, axis=1),
        "pvals_adj": np.take_along_axis(false_discovery_control(p_values, axis=1), order, axis=1),
    }
    types = {"names": tables["names"].dtype, "scores": "f4", "pvals": "f8", "pvals_adj": "f8"}
    return {
        name: np.rec.fromarrays(list(rows), dtype=[(group, types[name]) for group in groups])
        for name, rows in tables.items()
    }


def write_ranked_genes(adata: AnnData, key: str, tables: Mapping[str, np.ndarray], groupby: str, method: str) -> None:
    """Store tables of genes, and how they came about."""
    params: dict[str, Any] = {"groupby": groupby, "reference": "rest", "method": method, "use_raw": False}
    adata.uns[key] = {**tables, "params": params}
