"""Fits of genes that are there already, and new ones next to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import read_numbers
from jaxvelo.annotated.fit_columns import COVARIANCE, FIT_COLUMNS, FIT_LAYERS, LOSS, R2, STATUS, read_covariances

NOT_FITTED, FITTED_BEFORE = "not fitted", "fitted before"


class EarlierFit:
    """What earlier fits have left, and where the new one goes; read first, so that writing does not fail halfway.

    Parameters
    ----------
    adata
        Annotated data.
    genes
        Places of the genes of the new fit.
    """

    def __init__(self, adata: AnnData, genes: np.ndarray) -> None:
        self.genes = genes
        self.shape = adata.shape
        self.columns = {
            name: read_numbers(adata.var, name, "adata.var", "Delete the column first.")
            for name in adata.var
            if name in FIT_COLUMNS
        }
        self.layers = {name: dense(adata.layers[name]) for name in FIT_LAYERS if name in adata.layers}
        self.covariance = read_covariances(adata, "Delete it first.")
        # Anyone's, unless there is a fit; of which it is no number.
        self.loss = adata.varm[LOSS] if LOSS in adata.varm and "fit_alpha" in adata.var else None
        if self.loss is not None:
            self.loss = dense(self.loss)
            if self.loss.dtype.kind not in "fiu":
                raise ValueError(
                    f"Expected numbers in `adata.varm[{LOSS!r}]`, found the type {self.loss.dtype}. Delete it first."
                )
        if STATUS in adata.var:
            status = adata.var[STATUS]
            self.status = np.where(status.isna(), NOT_FITTED, status.astype(str)).astype(object)
        else:
            has_rates = np.isfinite(self.columns.get("fit_alpha", np.full(adata.n_vars, np.nan)))
            self.status = np.where(has_rates, FITTED_BEFORE, NOT_FITTED).astype(object)

    def column(self, name: str, values: np.ndarray | float) -> np.ndarray:
        """Values of the genes next to what was there; NaN where nothing was."""
        return _placed(self.columns.get(name, np.full(self.shape[1], np.nan)), self.genes, values)

    def layer(self, name: str, values: np.ndarray) -> np.ndarray:
        """The same for a layer."""
        if len(self.genes) == self.shape[1]:
            return values
        before = self.layers.get(name)
        before = np.full(self.shape, np.nan, dtype=values.dtype) if before is None else before
        return _placed(before, (slice(None), self.genes), values)

    def rows(self, before: np.ndarray | None, values: np.ndarray | float) -> np.ndarray:
        """The same for an array whose first axis are the genes."""
        before = np.full((self.shape[1], *np.shape(values)[1:]), np.nan) if before is None else before
        return _placed(before, self.genes, values)

    def write(
        self,
        adata: AnnData,
        columns: dict[str, np.ndarray],
        layers: dict[str, np.ndarray],
        covariance: Float[np.ndarray, "fitted 4 4"] | None,
        status: np.ndarray,
        r2: Float[np.ndarray, " genes"],
    ) -> None:
        """Write a new fit of the genes next to what was there.

        Parameters
        ----------
        adata
            Annotated data, of the same cells and genes.
        columns, layers
            Numbers of the genes of the new fit, by their names.
        covariance
            Covariance of each of these; None if it is not known.
        status
            What became of each.
        r2
            Coefficient of determination of a line through the cells, of all genes.
        """
        # What is not known of the new fit must not be that of the old one.
        unknown = {name: np.nan for name in self.columns if name not in columns}
        new_columns = {name: self.column(name, values) for name, values in (columns | unknown).items()}
        new_layers = {name: self.layer(name, values) for name, values in layers.items()}
        rows = {}
        if covariance is not None or self.covariance is not None:
            rows[COVARIANCE] = self.rows(self.covariance, np.nan if covariance is None else covariance)
        if self.loss is not None:
            rows[LOSS] = self.rows(self.loss, np.nan)
        new_status = self.status.copy()
        new_status[self.genes] = status
        table = {**new_columns, R2: r2, STATUS: pd.Categorical(new_status)}
        for slot, values_by_name in ((adata.var, table), (adata.layers, new_layers), (adata.varm, rows)):
            for name, values in values_by_name.items():
                slot[name] = values


def _placed(before: np.ndarray, where: Any, values: np.ndarray | float) -> np.ndarray:
    """Copy of an array of floats with other values in some places."""
    result = np.array(before) if before.dtype.kind == "f" else before.astype(float)
    result[where] = values
    return result
