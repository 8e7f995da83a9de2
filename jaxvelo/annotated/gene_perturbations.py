"""What the velocities of genes do to fates, as it stands in an AnnData object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.put_back import put_back_on_failure
from jaxvelo.annotated.storable_columns import with_named_columns, with_storable_columns

EVERYWHERE = "all cells"
"""Stands for the cells that are not terminal, beside the names of clusters."""
COLUMNS = ("gene", "cluster", "lineage", "effect", "exact", "consistency", "score", "pval", "qval")
REMEDY = "Compute it with `jaxvelo.tl.perturb_genes(kernel)`."


def write_perturbations(
    adata: AnnData, keys: FateKeys, table: pd.DataFrame, changes: pd.DataFrame | None, params: dict[str, Any]
) -> list[str]:
    """Write effects of genes on fates, all or nothing, and return where; former ones are replaced.

    Parameters
    ----------
    adata, keys
        Where to write.
    table
        One row for each gene, cluster and lineage.
    changes
        Change of each cell's fates, columns ``"<gene>_<lineage>"``; None without exact effects.
    params
        What was computed.
    """
    with put_back_on_failure((adata.uns, keys.gene_perturbations), (adata.obsm, keys.perturbed_fates)):
        adata.uns[keys.gene_perturbations] = {"table": table.copy(), "params": dict(params)}
        if changes is not None:
            adata.obsm[keys.perturbed_fates] = with_storable_columns(changes)
        elif keys.perturbed_fates in adata.obsm:
            del adata.obsm[keys.perturbed_fates]
    places = [f"adata.uns[{keys.gene_perturbations!r}]"]
    return places if changes is None else [*places, f"adata.obsm[{keys.perturbed_fates!r}]"]


def read_effects(adata: AnnData, keys: FateKeys) -> pd.DataFrame:
    """Read the table of effects.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        If it lacks columns.
    """
    stored = require_key(adata.uns, keys.gene_perturbations, "adata.uns", REMEDY)
    table = stored.get("table") if hasattr(stored, "get") else None
    table = table if isinstance(table, pd.DataFrame) else pd.DataFrame()
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise ValueError(
            f"Expected a table with the columns {listed(COLUMNS)} in `adata.uns[{keys.gene_perturbations!r}]['table']`,"
            f" found none of {listed(absent)}. {REMEDY}"
        )
    names = {name: table[name].astype(str) for name in ("gene", "cluster", "lineage")}
    return table.assign(**names)


def read_change(adata: AnnData, keys: FateKeys, gene: str, lineage: str) -> np.ndarray:
    """Read by how much the probability of a lineage changes in each cell.

    Raises
    ------
    KeyError
        If that is not there for the gene.
    """
    remedy = f"Compute it with `jaxvelo.tl.perturb_genes(kernel, genes=[{gene!r}])`."
    table = require_key(adata.obsm, keys.perturbed_fates, "adata.obsm", remedy)
    table = with_named_columns(pd.DataFrame(table))
    column = f"{gene}_{lineage}"
    if column not in table:
        raise KeyError(
            f"Expected the column {column!r} in `adata.obsm[{keys.perturbed_fates!r}]`, found {listed(table)}. {remedy}"
        )
    return table[column].to_numpy(dtype=float)
