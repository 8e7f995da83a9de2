"""Weights of kernels: numbers of any library, one for all cells or one for each."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.order import aligned


class Constant:
    """A weight in a combination.

    Parameters
    ----------
    adata
        Annotated data of the kernel that it weighs.
    value
        The positive weight, one for all cells or one for each, shape ``(cells,)``.

    Attributes
    ----------
    adata, value
        The same.

    Raises
    ------
    TypeError
        If the weight is no number.
    ValueError
        If it is not positive and finite, or there are as many as there are not cells.

    Examples
    --------
    >>> (2 * vk)[0]
    2.0
    """

    def __init__(self, adata: AnnData, value: float | np.ndarray):
        array = np.array(value)  # a copy: the caller's array may change later
        if array.dtype.kind not in "iuf":
            raise TypeError(
                f"Expected a weight to be a number, or one for each cell, found `{type(value).__name__}` of the type "
                f"{array.dtype}. Convert it, as by `.astype(float)`, with a small positive number in place of 0."
            )
        array = array.astype(np.float64)
        if array.shape not in ((), (adata.n_obs,)):
            raise ValueError(f"Expected one weight, or one for each of the {adata.n_obs} cells, found {array.shape}.")
        if not (np.isfinite(array).all() and (array > 0).all()):
            bad = array[~(np.isfinite(array) & (array > 0))]
            raise ValueError(f"Expected the scalar to be positive and finite, found {listed(np.atleast_1d(bad), 3)}.")
        self.adata = adata
        array.flags.writeable = False  # else a change of what is handed out would not reach a matrix computed with it
        self.value: float | np.ndarray = float(array) if array.ndim == 0 else array

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.adata.n_obs, self.adata.n_obs

    def copy(self) -> Constant:
        """Copy the weight, not the annotated data.

        Examples
        --------
        >>> (2 * vk)[0].copy()
        2.0
        """
        return Constant(self.adata, self.value)

    def format(self, full: bool, computed: bool = False) -> str:
        """Write the weight.

        Parameters
        ----------
        full, computed
            Without effect: a weight has no parameters, and stands for itself.

        Returns
        -------
        The number; of one that differs among cells, its mean and its range.

        Examples
        --------
        >>> (0.25 * vk)[0].format(full=True)
        '0.25'
        """
        return format_weight(self.value)

    def __repr__(self) -> str:
        return format_weight(self.value)


def read_weight(value: Any, adata: AnnData) -> float | np.ndarray | None:
    """Return a weight of any library as a number or as one for each cell; ``None`` if it is none."""
    if isinstance(value, Constant):
        return value.value
    if isinstance(value, pd.Series):
        values = aligned(value, adata.obs_names, "weight")
        is_numeric = pd.api.types.is_numeric_dtype(value.dtype) and not pd.api.types.is_bool_dtype(value.dtype)
        return values.astype(np.float64) if is_numeric else values
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number, np.ndarray, jax.Array)):
        return None
    array = np.asarray(value)
    return float(array) if array.ndim == 0 and array.dtype.kind in "iuf" else array


def format_weight(weight: float | np.ndarray) -> str:
    """Write a weight; of one that differs among cells, its mean and its range."""
    if isinstance(weight, np.ndarray):
        return f"{weight.mean():.3f} ({weight.min():.3f} to {weight.max():.3f})"
    return repr(round(weight, 3))
