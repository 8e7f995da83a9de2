"""What a fit of the dynamical model has left of cells and genes, in memory or on disk, read some cells at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense, place_of
from jaxvelo.annotated.disk_arrays import PIECE, read_in_ranges, read_rows
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.fit_columns import CURVE_LAYERS, FIT_FIRST, VELOCITY, of_other_rates
from jaxvelo.configuration import logger


class FittedCells:
    """Times of cells on both branches, probabilities of the first, and velocities, of the genes with a fit.

    Genes that have no probabilities, such as of scVelo's fit, or those of other rates
    (:func:`~jaxvelo.annotated.fit_columns.of_other_rates`), have the times in ``fit_t``; velocities that are missing or
    of other rates are NaN.

    Parameters
    ----------
    adata
        Annotated data.
    fitted
        Mask of the genes.
    with_velocity
        Whether to read velocities.
    piece
        Bytes that are read at a time.

    Attributes
    ----------
    has_velocity
        Mask of these genes that have velocities.

    Raises
    ------
    KeyError
        If there are no times.
    ValueError
        If some times are not finite, or those of the velocities of a gene are neither all finite nor all NaN.
    """

    def __init__(self, adata: AnnData, fitted: Bool[np.ndarray, " genes"], with_velocity: bool, piece: int = PIECE):
        self._adata, self._genes, self._piece = adata, np.flatnonzero(fitted), piece
        others = of_other_rates(adata)[fitted]
        names = ("fit_on", VELOCITY) if with_velocity else ("fit_on",)
        empty = {name: self._is_empty(name) for name in names}
        _warn_of_other_rates({name: ~mask & others for name, mask in empty.items()})
        self._has_one_time = empty["fit_on"] | others
        if not self._has_one_time.all():
            for name in CURVE_LAYERS:
                require_key(adata.layers, name, "adata.layers", FIT_FIRST)
        if self._has_one_time.any():
            require_key(adata.layers, "fit_t", "adata.layers", FIT_FIRST)
            self._check_finite("fit_t", self._has_one_time)
        for name in CURVE_LAYERS:
            self._check_finite(name, ~self._has_one_time)
        self.has_velocity = np.zeros_like(others) if not with_velocity else ~(empty[VELOCITY] | others)
        self._check_finite(VELOCITY, self.has_velocity)

    def times(self, cells: slice, switch: Float[np.ndarray, " fitted"]) -> list[Float[np.ndarray, "cells fitted"]]:
        """Times on both branches and probabilities, of some cells, of the type of the switching times."""
        shape = len(range(*cells.indices(self._adata.n_obs))), len(self._genes)
        both = not self._has_one_time.all()
        layers = [
            self._rows(name, cells).astype(switch.dtype) if both else np.empty(shape, switch.dtype)
            for name in CURVE_LAYERS
        ]
        one = self._has_one_time
        if one.any():
            time, end = self._rows("fit_t", cells)[:, one].astype(switch.dtype), switch[one]
            times = np.minimum(time, end), np.maximum(time - end, 0), time < end
            for layer, values in zip(layers, times, strict=True):
                layer[:, one] = values
        return layers

    def velocities(self, cells: slice, dtype: np.dtype) -> Float[np.ndarray, "cells known"]:
        """Velocities of some cells, of the genes that have some."""
        return self._rows(VELOCITY, cells)[:, self.has_velocity].astype(dtype)

    def _rows(self, name: str, cells: slice) -> Any:
        rows = np.arange(*cells.indices(self._adata.n_obs))
        return dense(read_rows(self._adata.layers[name], rows, place_of(name, "layers"))[:, self._genes])

    def _is_empty(self, name: str) -> Bool[np.ndarray, " fitted"]:
        """Mask of the genes that are NaN in all cells; all, if there is no such layer."""
        empty = np.ones(len(self._genes), dtype=bool)
        if name in self._adata.layers:
            for _, rows in read_in_ranges(self._adata.layers[name], place_of(name, "layers"), self._piece):
                empty &= np.isnan(dense(rows[:, self._genes])).all(axis=0)
        return empty

    def _check_finite(self, name: str, genes: Bool[np.ndarray, " fitted"]) -> None:
        if not genes.any():
            return
        bad = 0
        for _, rows in read_in_ranges(self._adata.layers[name], place_of(name, "layers"), self._piece):
            bad += int(np.count_nonzero(~np.isfinite(dense(rows[:, self._genes[genes]]))))
        if bad:
            raise ValueError(
                f"Expected finite numbers in `adata.layers[{name!r}]` for the genes with rates in `adata.var`, found "
                f"{bad} that are not. {FIT_FIRST}"
            )


def _warn_of_other_rates(left: dict[str, Bool[np.ndarray, " genes"]]) -> None:
    """Say of how many genes layers are not used, as they are of other rates."""
    if found := [name for name, genes in left.items() if genes.any()]:
        logger.warning(
            "Leaving out what `adata.layers` has in %s for %d genes: it is not of the rates in `adata.var`, which "
            "another fit has changed since. Their velocities are those of the curves. For others, fit these genes "
            "again: `jaxvelo.tl.recover_dynamics(adata, ...)`",
            listed(found),
            np.count_nonzero(np.any([left[name] for name in found], axis=0)),
        )
