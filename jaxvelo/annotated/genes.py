"""Genes that a user, or a tool before, has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.masks import read_mask
from jaxvelo.annotated.names import places_by_name
from jaxvelo.annotated.selection import selected


def chosen_genes(adata: AnnData, chosen: Any, name: str) -> np.ndarray:
    """Boolean mask of the genes that a user names.

    Parameters
    ----------
    adata
        Annotated data.
    chosen
        Key of a mask in ``adata.var``, a gene, names of genes, or a mask (what :func:`read_mask` takes).
    name
        Name of the user's argument, for messages.

    Raises
    ------
    KeyError
        If a name is that of no gene.
    ValueError
        If a name is that of several genes, a mask is of another length or has missing values, or no gene is chosen.
    TypeError
        If it is none of these.
    """
    remedy = "Pass the key of a boolean column, a boolean mask or names of genes."
    if isinstance(chosen, str):
        is_gene = bool(places_by_name(adata.var_names, [chosen])[0][1])
        if is_gene and chosen in adata.var:
            raise ValueError(
                f"Expected `{name}` to be a gene or a column of `adata.var`, found that {chosen!r} is both. Pass "
                f"`[{chosen!r}]` for the gene, or `adata.var[{chosen!r}]`."
            )
        if is_gene:
            mask = selected(adata.var_names, [chosen], "adata.var_names", name, takes_numbers=False)
        else:
            column = require_key(adata.var, chosen, "adata.var", remedy)
            mask = read_mask(column, f"adata.var[{chosen!r}]", remedy)
    elif pd.api.types.is_list_like(chosen) and not isinstance(chosen, Mapping):
        mask = selected(adata.var_names, chosen, "adata.var_names", name, takes_numbers=False)
    else:
        raise TypeError(f"Expected names, a mask or a column of `adata.var` as `{name}`, found `{chosen!r}`. {remedy}")
    if not mask.any():
        shown = f"`adata.var[{chosen!r}]`" if isinstance(chosen, str) else f"`{name}`"
        raise ValueError(
            f"Expected {shown} to choose some of the {adata.n_vars} genes, found none. The genes are named like "
            f"{listed(adata.var_names[:3])}."
        )
    return mask


def velocity_genes(adata: AnnData, vkey: str | None, remedy: str) -> np.ndarray | None:
    """Mask of the genes that tools have chosen for a velocity, ``adata.var["{vkey}_genes"]``; None if there is none.

    ``remedy`` says what the user is to do if it is no mask.
    """
    return _marked(adata, f"{vkey}_genes", remedy)


def highly_variable_genes(
    adata: AnnData, remedy: str, where: str = "adata.var['highly_variable']"
) -> np.ndarray | None:
    """Mask of the highly variable genes; None if there is none."""
    return _marked(adata, "highly_variable", remedy, where)


def _marked(adata: AnnData, key: str, remedy: str, where: str | None = None) -> np.ndarray | None:
    """The mask in a column, which may be missing."""
    if key not in adata.var:
        return None
    return read_mask(require_key(adata.var, key, "adata.var", remedy), where or f"adata.var[{key!r}]", remedy)
