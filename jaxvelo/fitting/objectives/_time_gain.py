"""A time that transitions are to follow, by its name."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arrays import check_finite_rows
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.entries import read_numbers, require_anndata, require_key


def TimeGain(adata: AnnData, time_key: str, cells: Any = None) -> fit.TimeGain:
    """How far a step is from going to later neighbours in proportion to the time that they gain.

    Parameters
    ----------
    adata
        Annotated data.
    time_key
        Key in ``adata.obs`` of a pseudotime or real time.
    cells
        Cells that count: indices, names, a mask or ``{"clusters": "Beta"}``; all if ``None``.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.TimeGain`.

    Raises
    ------
    KeyError
        If the key is missing.
    TypeError
        If the time is truth values.
    ValueError
        If it is no numbers, nor categories or texts that are numbers, or not finite.

    Examples
    --------
    >>> objective = jv.objectives.TimeGain(adata, "true_time")
    >>> jv.tl.sweep_kernel(kernel, objective, softmax_scales=[1.0, 4.0], weights=[0.8]).losses.shape
    (2, 1)
    """
    require_anndata(adata)
    remedy = "Pass the key of a time or pseudotime."
    time = require_key(adata.obs, time_key, "adata.obs", remedy)
    if pd.api.types.is_bool_dtype(time.dtype):
        raise TypeError(f"Expected `adata.obs[{time_key!r}]` to be numeric, found {time.dtype}. {remedy}")
    values = read_numbers(adata.obs, time_key, "adata.obs", remedy)
    check_finite_rows(values[:, None], f"adata.obs[{time_key!r}]")
    cell = np.flatnonzero(chosen_cells(adata, cells, "cells"))
    return fit.TimeGain(
        time=jnp.asarray(values - values.mean(), dtype=float), cell=jnp.asarray(cell), weight=jnp.ones(len(cell))
    )
