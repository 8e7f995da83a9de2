"""Velocities of genes that are held out, by the keys of expression and velocity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.feature_data import FeatureData


def HeldOutVelocity(
    adata: AnnData,
    xkey: str | None = "Ms",
    vkey: str | None = "velocity",
    attr: str = "layers",
    gene_subset: str | Sequence[str] | np.ndarray | None = None,
    n_splits: int = 4,
    cells: Any = None,
) -> fit.HeldOutVelocity:
    """How well transitions from one half of the genes predict the velocities of the other half: needs no labels.

    Parameters
    ----------
    adata
        Annotated data.
    xkey, vkey, attr, gene_subset
        Expression and velocity to predict, as of the :class:`~jaxvelo.kernels.VelocityKernel` that is fitted.
    n_splits
        Number of random halves.
    cells
        Cells that count; all if ``None``.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.HeldOutVelocity`.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If there are fewer than four genes, or an argument is out of range.

    Examples
    --------
    >>> objective = jv.objectives.HeldOutVelocity(adata, n_splits=2)
    >>> objective.n_splits, len(objective.cell)
    (2, 150)
    """
    check_integer("n_splits", n_splits, least=1)
    xkey, vkey = ("X" if key is None else key for key in (xkey, vkey))
    data = FeatureData(require_anndata(adata), attr, xkey, vkey, gene_subset)
    if len(data.genes) < 4:
        raise ValueError(f"Expected at least 4 genes to split in halves, found {len(data.genes)}.")
    cell = np.flatnonzero(chosen_cells(adata, cells, "cells"))
    return fit.HeldOutVelocity(
        features_name=data.name, n_splits=int(n_splits), cell=jnp.asarray(cell), weight=jnp.ones(len(cell))
    )
