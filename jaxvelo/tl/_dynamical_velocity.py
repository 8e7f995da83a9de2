"""Velocities of the dynamical model, of what a fit has left: of moments in memory, or on disk some cells at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float, Int

from jaxvelo.annotated.arrays import dense, place_of
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.disk_arrays import PIECE, identity_of, read_rows
from jaxvelo.annotated.entries import read_numbers
from jaxvelo.annotated.fit_columns import FIT_FIRST, FIT_LAYERS, MODEL, R2, read_kinetics
from jaxvelo.annotated.fitted_cells import FittedCells
from jaxvelo.annotated.gene_records import GeneRecord
from jaxvelo.annotated.layer_files import LayerFile, layer_folder
from jaxvelo.annotated.memory_limit import bytes_of, for_pieces_and_blocks, within
from jaxvelo.annotated.progress_bar import watched
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time
from jaxvelo.configuration import logger, timed
from jaxvelo.dynamics import GRADUAL, Percentiles, SplicingKinetics, standard_deviations, velocities_in_blocks
from jaxvelo.graph._row_blocks import BudgetTooSmall
from jaxvelo.tl._moment_layers import (
    MOMENTS,
    checked_counts,
    moments_layer,
    moments_on_disk,
    read_counts,
    read_genes,
)
from jaxvelo.tl._steady_states_on_disk import SteadyStateOptions, deterministic_in_parts
from jaxvelo.tl._velocity_genes import fit_steady_state

LEAST_GENES = 10
OTHER_UNIT, SPREAD = 1.25, 0.1
"""Factor between standard deviations, and range of its logarithm over half of the genes, that mark another unit."""
_ARRAYS = 16
"""Arrays of the size of the cells that are computed at a time, of doubles, that are held."""


class Limits(NamedTuple):
    """Which genes are velocity genes, and the steady states that say so where the fit does not."""

    percentiles: Percentiles
    fit_offset: bool
    min_r2: float
    min_likelihood: float | None


def write_dynamical_velocity(
    adata: AnnData,
    vkey: str,
    limits: Limits,
    by_evidence: bool,
    others: Sequence[tuple[Int[np.ndarray, " some"], Int[np.ndarray, " some"]]],
    memory_limit: Any,
) -> None:
    """Compute and write the velocities.

    Parameters
    ----------
    adata, vkey, memory_limit
        As of :func:`jaxvelo.tl.velocity`.
    limits
        Which genes are velocity genes.
    by_evidence
        Whether velocities are those of the models with evidence, where there are any.
    others
        Cells and genes with kinetics of their own, whose velocity by a curve is zero.
    """
    kinetics, fitted = read_kinetics(adata)
    likelihood = read_numbers(adata.var, "fit_likelihood", "adata.var", FIT_FIRST)
    moments: _MomentsInMemory | _MomentsOnDisk
    if moments_on_disk(adata, with_counts=False):
        moments = _MomentsOnDisk(adata, vkey, bytes_of(memory_limit))
    else:
        moments = _MomentsInMemory(adata)
    _check_units(adata, fitted, moments.deviations(fitted))
    # One type: that of the moments.
    kinetics = jax.tree.map(lambda rate: np.asarray(rate, dtype=moments.dtype), kinetics)
    cells = FittedCells(adata, fitted, by_evidence, moments.piece)
    with timed("Computing velocities (dynamical)"):
        if R2 in adata.var:
            r2 = read_numbers(adata.var, R2, "adata.var", FIT_FIRST)
        else:
            r2 = moments.r2(limits)
        genes = _velocity_genes(kinetics, fitted, likelihood, r2, limits)
        of_curve = np.ones(adata.n_vars, dtype=bool)
        if by_evidence and MODEL in adata.var:
            of_curve[fitted] = ~(cells.has_velocity & (adata.var[MODEL] == GRADUAL).to_numpy()[fitted])
        others = [(some, of_group[of_curve[of_group]]) for some, of_group in others]
        rows = partial(_of_cells, moments, cells, kinetics, fitted, others)
        keys = vkey, f"{vkey}_u"
        numbers = [fitted, cells.has_velocity, *jax.tree.leaves(kinetics), *(x for pair in others for x in pair)]
        layers = moments.layers(keys, rows, checksum(*numbers))

    if genes.sum() < 10:
        logger.warning(
            "Found only %d velocity genes. Consider a lower `min_r2` or `min_likelihood`, or more genes in "
            "`jaxvelo.tl.recover_dynamics`.",
            genes.sum(),
        )
    for key, layer in zip(keys, layers, strict=True):
        adata.layers[key] = layer
    adata.var[f"{vkey}_genes"] = genes
    percentiles = limits.percentiles
    perc = list(percentiles) if isinstance(percentiles, tuple) else percentiles
    adata.uns[f"{vkey}_params"] = {"mode": "dynamical", "fit_offset": limits.fit_offset, "perc": perc}


def _velocity_genes(
    kinetics: SplicingKinetics,
    fitted: Bool[np.ndarray, " genes"],
    likelihood: Float[np.ndarray, " genes"],
    r2: Float[np.ndarray, " genes"],
    limits: Limits,
) -> Bool[np.ndarray, " genes"]:
    slope = np.full(len(fitted), np.nan)
    slope[fitted] = kinetics.scaling * kinetics.gamma / kinetics.beta
    lower, upper = np.nanpercentile(slope, [10, 90])
    least = -np.inf if limits.min_likelihood is None else limits.min_likelihood
    genes = fitted & (likelihood > least) & (r2 > limits.min_r2)
    return genes & (slope > min(lower, 0.03)) & (slope < max(upper, 3))


def _of_cells(
    moments: _MomentsInMemory | _MomentsOnDisk,
    cells: FittedCells,
    kinetics: SplicingKinetics,
    fitted: Bool[np.ndarray, " genes"],
    others: Sequence[tuple[Int[np.ndarray, " some"], Int[np.ndarray, " some"]]],
    some: slice,
) -> list[Float[np.ndarray, "some genes"]]:
    """Velocities of spliced and unspliced counts of some cells; NaN for genes without a fit."""
    changes = velocities_in_blocks(kinetics, *cells.times(some, kinetics.switching_time))
    if cells.has_velocity.any():
        changes[0][:, cells.has_velocity] = cells.velocities(some, moments.dtype)
    result = []
    for change, name in zip(changes, MOMENTS, strict=True):
        layer = np.full((len(change), len(fitted)), np.nan, dtype=change.dtype)
        # As scVelo: no more can be lost than is there.
        layer[:, fitted] = np.maximum(change, -moments.rows(name, some)[:, fitted])
        for of_group, genes in others:
            place = np.ix_(of_group[(of_group >= some.start) & (of_group < some.stop)] - some.start, genes)
            layer[place] = np.where(np.isnan(layer[place]), np.nan, 0)
        result.append(layer)
    return result


class _MomentsInMemory:
    """Moments in memory, and what is computed of them."""

    piece = PIECE

    def __init__(self, adata: AnnData):
        self._moments = {name: read_counts(adata, name) for name in MOMENTS}
        self.dtype = np.result_type(self._moments["Ms"].dtype, np.float32)

    def deviations(self, genes: Bool[np.ndarray, " genes"]) -> Float[np.ndarray, "2 some"]:
        """Standard deviations of unspliced and spliced counts of some genes."""
        return standard_deviations(*(self._moments[name][:, genes] for name in ("Mu", "Ms")))[0]

    def r2(self, limits: Limits) -> Float[np.ndarray, " genes"]:
        """How well a line through all cells fits each gene."""
        spliced, unspliced = (self._moments[name] for name in MOMENTS)
        fit = fit_steady_state(spliced, unspliced, limits.percentiles, limits.fit_offset, r2_adjusted=True)
        return np.asarray(fit.r2)

    def rows(self, name: str, cells: slice) -> Float[np.ndarray, "some genes"]:
        """Moments of some cells."""
        return self._moments[name][cells]

    def layers(
        self, keys: Sequence[str], of_cells: Callable[[slice], list[np.ndarray]], origin: int
    ) -> list[Float[np.ndarray, "cells genes"]]:
        """Layers of what a function gives of some cells."""
        shape = self._moments["Ms"].shape
        layers = [np.empty(shape, dtype=self.dtype) for _ in keys]
        for cells in rows_at_a_time(shape[0], shape[1] * _ARRAYS * 8, 4 * PIECE):
            for layer, rows in zip(layers, of_cells(cells), strict=True):
                layer[cells] = rows
        return layers


class _MomentsOnDisk:
    """Moments that stay on disk, and the same; layers are written there."""

    def __init__(self, adata: AnnData, vkey: str, budget: int):
        self._layers = {name: moments_layer(adata, name) for name in MOMENTS}
        self._vkey, self._budget, self._shape = vkey, budget, adata.shape
        self.piece, self._for_blocks = for_pieces_and_blocks(budget)
        self.dtype = np.result_type(self.rows("Ms", slice(0, 1)).dtype, np.float32)
        # Of a gene, moments as they are read, those of the cells that have both, and what is partitioned.
        self._of_gene, self._of_cell = 8 * 8 * adata.n_obs, _ARRAYS * 8 * adata.n_vars
        with within(budget):
            if max(self._of_gene, self._of_cell) > self._for_blocks:
                raise BudgetTooSmall(max(self._of_gene, self._of_cell))
        used = [*MOMENTS, *(name for name in FIT_LAYERS if name in adata.layers)]
        self._folder = layer_folder([adata.layers[name] for name in used])
        self._origin = [identity_of(adata.layers[name], place_of(name, "layers")) for name in used]

    def deviations(self, genes: Bool[np.ndarray, " genes"]) -> Float[np.ndarray, "2 some"]:
        """Standard deviations of unspliced and spliced counts of some genes."""
        places, found = np.flatnonzero(genes), []
        for some in rows_at_a_time(len(places), self._of_gene, self._for_blocks):
            u, s = (read_genes(self._layers, name, places[some], self.piece) for name in ("Mu", "Ms"))
            found.append(standard_deviations(u, s)[0])
        return np.concatenate(found, axis=1)

    def r2(self, limits: Limits) -> Float[np.ndarray, " genes"]:
        """How well a line through all cells fits each gene."""
        options = SteadyStateOptions(limits.percentiles, limits.fit_offset, False, True)
        record = GeneRecord(self._folder, f"{self._vkey}_r2", [self._origin, options])
        fit, _ = deterministic_in_parts(self._layers, options, record, self._budget)
        record.remove()
        return np.asarray(fit.r2)

    def rows(self, name: str, cells: slice) -> Float[np.ndarray, "some genes"]:
        """Moments of some cells."""
        rows = np.arange(*cells.indices(self._shape[0]))
        return dense(checked_counts(read_rows(self._layers[name], rows, place_of(name, "layers")), name))

    def layers(self, keys: Sequence[str], of_cells: Callable[[slice], list[np.ndarray]], origin: int) -> list[Any]:
        """Layers of what a function gives of some cells, in files."""
        what = ["dynamical velocity", self._origin, origin]
        files = [LayerFile(self._folder, key, self._shape, self.dtype, what) for key in keys]
        try:
            start = min((file.position for file in files if not file.is_whole), default=self._shape[0])
            n_cells = self._shape[0]
            pieces = rows_at_a_time(n_cells, self._of_cell, self._for_blocks)
            for cells in watched(pieces, n_cells, "Velocities", "cells", lambda cells: cells.stop - cells.start):
                if cells.stop <= start:
                    continue
                for file, rows in zip(files, of_cells(cells), strict=True):
                    if not file.is_whole:
                        file.write(np.arange(cells.start, cells.stop), rows, cells.stop)
        finally:
            for file in files:
                file.close()
        return [file.finish() for file in files]


def _check_units(adata: AnnData, fitted: Bool[np.ndarray, " genes"], now: Float[np.ndarray, "2 fitted"]) -> None:
    """Raise a ValueError if moments are in another unit than those of the fit, such as of another normalisation.

    Then the standard deviations of all genes differ from those that the fit has noted by the same factor. Where cells
    have been chosen since they differ, too, but each by its own.
    """
    for deviation, key, layer in zip(now, ("fit_std_u", "fit_std_s"), ("Mu", "Ms"), strict=True):
        if key not in adata.var:
            continue
        before = read_numbers(adata.var, key, "adata.var", FIT_FIRST)[fitted]
        known = (before > 0) & (deviation > 0)
        if int(known.sum()) < LEAST_GENES:
            continue
        low, middle, high = np.percentile(np.log(deviation[known] / before[known]), [25, 50, 75])
        if abs(middle) > np.log(OTHER_UNIT) and high - low < SPREAD:
            raise ValueError(
                f"Expected `adata.layers[{layer!r}]` to be the moments that the dynamical model was fitted to, found "
                f"standard deviations {np.exp(middle):.3g} times those in `adata.var[{key!r}]`: they are in another "
                f"unit, as of another normalisation. {FIT_FIRST}"
            )
