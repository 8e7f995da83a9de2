"""Fits of the dynamical model as they stand in an AnnData object: read, put together gene by gene, written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float, Int, Shaped

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import read_numbers, stored_parameters
from jaxvelo.annotated.fit_columns import (
    COVARIANCE,
    EVIDENCE,
    FIT_COLUMNS,
    FIT_LAYERS,
    LOSS,
    MODEL,
    OWN_ARRAYS,
    OWN_COLUMNS,
    OWN_LAYERS,
    STATUS,
    of_other_rates,
    read_covariances,
)
from jaxvelo.annotated.kinetic_tests import forget_kinetic_tests

NOT_FITTED, FITTED_BEFORE = "not fitted", "fitted before"


@dataclasses.dataclass(frozen=True)
class StoredFit:
    """What stands of the genes in an AnnData object.

    Attributes
    ----------
    columns
        Numbers of ``adata.var``, each of shape (genes,).
    layers
        Times and probabilities of ``adata.layers``, each of shape (cells, genes).
    arrays
        Those of ``adata.varm``, whose first axis are the genes.
    status
        How the fit of each gene went, as text, of shape (genes,).
    model
        Name of the model that each gene follows, None where it is not known, of shape (genes,).
    """

    columns: dict[str, Float[np.ndarray, " genes"]]
    layers: dict[str, Float[np.ndarray, "cells genes"]]
    arrays: dict[str, Float[np.ndarray, "genes ..."]]
    status: Shaped[np.ndarray, " genes"]
    model: Shaped[np.ndarray, " genes"]

    def with_genes(self, genes: Int[np.ndarray, " fitted"], fit: StoredFit) -> StoredFit:
        """Put the fit of some genes in the place of theirs; what it does not say of them becomes NaN.

        Parameters
        ----------
        genes
            Their places.
        fit
            Their fit, with all layers.
        """
        n_genes = len(self.status)
        status, model = self.status.copy(), self.model.copy()
        status[genes], model[genes] = fit.status, fit.model
        columns, arrays = (
            {
                name: _placed(before.get(name), (n_genes, *np.shape(values)[1:]), genes, values)
                for name, values in (new | {name: np.nan for name in before if name not in new}).items()
            }
            for before, new in ((self.columns, fit.columns), (self.arrays, fit.arrays))
        )
        layers = fit.layers
        if len(genes) < n_genes:
            layers = {
                name: _placed(self.layers.get(name), (len(values), n_genes), (slice(None), genes), values)
                for name, values in fit.layers.items()
            }
        return StoredFit(columns, layers, arrays, status, model)


def _placed(before: np.ndarray | None, shape: tuple[int, ...], places: Any, values: Any) -> np.ndarray:
    """Copy of an array of floats, row by row in memory, with other values in some places; NaN where nothing was."""
    if before is None:
        result = np.full(shape, np.nan, dtype=np.asarray(values).dtype)
    else:
        result = np.array(before, dtype=before.dtype if before.dtype.kind == "f" else float, order="C")
    result[places] = values
    return result


def read_stored_fit(adata: AnnData, with_layers: bool = True) -> StoredFit:
    """Read what earlier fits have left, jaxvelo's or scVelo's; of genes with other rates since, what these are not of.

    Parameters
    ----------
    adata
        Annotated data.
    with_layers
        Whether to read what is of cells and genes; without, there are no layers.

    Raises
    ------
    ValueError
        If it is not of numbers, or of another shape.
    """
    columns = {
        name: read_numbers(adata.var, name, "adata.var", "Delete the column first.")
        for name in adata.var
        if name in FIT_COLUMNS
    }
    present = [name for name in FIT_LAYERS if with_layers and name in adata.layers]
    layers = {name: dense(adata.layers[name]) for name in present}
    covariances = read_covariances(adata, "Delete it first.")
    arrays = {} if covariances is None else {COVARIANCE: covariances}
    # Anyone's, unless there is a fit; of which it is no number.
    for name in (LOSS, EVIDENCE) if "fit_alpha" in adata.var else ():
        if name not in adata.varm:
            continue
        arrays[name] = dense(adata.varm[name])
        if arrays[name].dtype.kind not in "fiu":
            raise ValueError(
                f"Expected numbers in `adata.varm[{name!r}]`, found the type {arrays[name].dtype}. Delete it first."
            )
    if STATUS in adata.var:
        status = adata.var[STATUS]
        names = np.where(status.isna(), NOT_FITTED, status.astype(str)).astype(object)
    else:
        has_rates = np.isfinite(columns.get("fit_alpha", np.full(adata.n_vars, np.nan)))
        names = np.where(has_rates, FITTED_BEFORE, NOT_FITTED).astype(object)
    model = np.full(adata.n_vars, None, dtype=object)
    if MODEL in adata.var:
        known = adata.var[MODEL].notna().to_numpy()
        model[known] = adata.var[MODEL].astype(str).to_numpy()[known]
    fit = StoredFit(columns, layers, arrays, names, model)
    others = of_other_rates(adata)
    return _without(fit, others) if others.any() else fit


def _without(fit: StoredFit, genes: Bool[np.ndarray, " genes"]) -> StoredFit:
    """Leave out of some genes what only this fit writes, and not the one that has changed their rates."""

    def emptied(values: np.ndarray, axis: int) -> np.ndarray:
        places = (slice(None),) * axis + (genes,)
        if np.isnan(values[places]).all():
            return values
        result = values.astype(values.dtype if values.dtype.kind == "f" else float)  # a copy
        result[places] = np.nan
        return result

    status, model = fit.status.copy(), fit.model.copy()
    status[genes], model[genes] = FITTED_BEFORE, None
    return StoredFit(
        {name: emptied(x, 0) if name in OWN_COLUMNS else x for name, x in fit.columns.items()},
        {name: emptied(x, 1) if name in OWN_LAYERS else x for name, x in fit.layers.items()},
        {name: emptied(x, 0) if name in OWN_ARRAYS else x for name, x in fit.arrays.items()},
        status,
        model,
    )


def write_fit(adata: AnnData, fit: StoredFit) -> None:
    """Write a fit where :func:`read_stored_fit` and scVelo's functions find it."""
    others: Mapping[str, Any] = {}
    if "fit_alpha" in adata.var:
        # NaN, of genes without a fit before or now, differs from all.
        before = read_numbers(adata.var, "fit_alpha", "adata.var", "Delete the column first.")
        forget_kinetic_tests(adata, before != fit.columns["fit_alpha"])
        others = stored_parameters(adata, "recover_dynamics")
    for name, values in fit.columns.items():
        adata.var[name] = values
    adata.var[STATUS] = pd.Categorical(fit.status)
    adata.var[MODEL] = pd.Categorical(fit.model)
    for name, values in fit.layers.items():
        adata.layers[name] = values
    for name, values in fit.arrays.items():
        adata.varm[name] = values
    adata.uns["recover_dynamics"] = {**others, "fit_connected_states": True, "use_raw": False}
