"""The dynamical model of moments that stay on disk: curves of some genes of all cells at a time, then their models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float, Int, Shaped

from jaxvelo.annotated.arrays import dense, place_of
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.disk_arrays import identity_of, read_columns, read_in_ranges, read_rows
from jaxvelo.annotated.dynamical_fit import StoredFit
from jaxvelo.annotated.fit_columns import (
    CURVE_LAYERS,
    EVIDENCE,
    FIT_LAYERS,
    OWN_LAYERS,
    RATES,
    VELOCITY,
    of_other_rates,
)
from jaxvelo.annotated.gene_records import GeneRecord
from jaxvelo.annotated.layer_files import LayerFile, layer_folder
from jaxvelo.annotated.memory_limit import for_pieces_and_blocks, give_back_memory, within
from jaxvelo.annotated.progress_bar import progress_bar
from jaxvelo.configuration import timed
from jaxvelo.dynamics import (
    DynamicalFit,
    GeneModels,
    SplicingKinetics,
    fit_dynamics,
    fit_gene_models_in_parts,
    steady_slopes,
)
from jaxvelo.graph._row_blocks import BudgetTooSmall
from jaxvelo.tl._moment_layers import MOMENTS, checked_counts, moments_layer, read_genes
from jaxvelo.tl._steady_states_on_disk import SteadyStateOptions, deterministic_in_parts
from jaxvelo.tl._stored_curves import (
    Inputs,
    Options,
    genes_to_fit,
    has_curve,
    in_time_unit,
    kinetics_of,
    report,
    stored_curves,
    with_evidence,
    with_r2,
)

_BLOCK = 1024, 32
"""Cells and genes that are stored together: of whole genes, or whole rows, much is read at once."""
_NUMBERS = ("deviation", "residual", "likelihood", "variance", "covariance", "steady_p_value", "status")
_KINETICS = tuple(field.name for field in dataclasses.fields(SplicingKinetics))
_TIMES = ("time", "time_on", "time_off", "probability_on")


def recover_on_disk(adata: AnnData, inputs: Inputs, options: Options, budget: int) -> StoredFit:
    """Fit the genes, write what is of cells and genes to files, and put the fit beside what earlier ones have left.

    The results equal those of moments in memory.

    Parameters
    ----------
    adata
        Annotated data.
    inputs, options
        What is read besides the moments, and what the user asks for.
    budget
        Bytes that may be taken, besides the graph and a few numbers for each of its edges.

    Raises
    ------
    ValueError
        If the budget is too small for one gene of all cells.
    OSError
        If layers cannot be read or written.
    """
    layers = {name: moments_layer(adata, name) for name in MOMENTS}
    example = checked_counts(read_rows(layers["Mu"], np.arange(1), place_of("Mu", "layers")), "Mu")
    sizes = _Sizes(len(adata), np.result_type(example.dtype, np.float32), budget)
    folder = layer_folder(list(layers.values()))
    weights = inputs.neighborhoods
    identities = [identity_of(layer, place_of(name, "layers")) for name, layer in layers.items()]
    origin = [identities, checksum(weights.indptr, weights.indices), str(jnp.result_type(float))]
    record = GeneRecord(folder, "dynamics_steady", origin)
    all_cells = SteadyStateOptions((5, 95), fit_offset=False, fit_offset2=False, r2_of_all_cells=True)
    steady, largest = deterministic_in_parts(layers, all_cells, record, budget)
    genes = genes_to_fit(inputs, steady, largest, options.n_top_genes, partial(_totals, layers["Ms"]))
    fit = _FitOnDisk(adata, layers, inputs, options, genes, folder, sizes, origin)
    with timed(f"Recovering dynamics of {len(genes)} genes"):
        stored = fit.curves()
        stored = fit.models(stored)
    report(stored, genes)
    record.remove()
    return with_r2(stored, steady)


class _Sizes:
    """How many genes of all cells fit into the memory.

    One half is for arrays of genes that are read and written together; the other for what is computed of a few of them
    at a time: for the curves, 24 arrays and one of 30 numbers for each cell; for the models, 20 and 12 doubles.

    Attributes
    ----------
    dtype
        Type of what is fitted.
    piece
        Bytes that are read at a time.
    half
        Bytes for each half.
    of_curves, of_models
        Genes that are read together.
    at_once
        Genes of which models may be computed at a time.
    """

    def __init__(self, n_cells: int, dtype: np.dtype, budget: int):
        unit = n_cells * dtype.itemsize
        of_curve, of_model, p_value = 8 * unit, 7 * unit, 250 * n_cells
        of_model_at_once = 20 * unit + 96 * n_cells
        self.dtype = dtype
        self.piece, for_blocks = for_pieces_and_blocks(budget)
        self.half = for_blocks // 2
        needed = 2 * max(24 * unit, of_curve + p_value, of_model_at_once)
        with within(budget):
            if needed > for_blocks:
                raise BudgetTooSmall(needed)
        self.of_curves, self.of_models = (self.half - p_value) // of_curve, self.half // of_model
        self.at_once = self.half // of_model_at_once


def _totals(spliced: Any, genes: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
    totals = np.zeros(len(genes))
    for _, rows in read_in_ranges(spliced, place_of("Ms", "layers")):
        totals += dense(rows[:, genes]).sum(axis=0, dtype=float)
    return totals


def _parts(genes: Int[np.ndarray, " some"], n_genes: int, start: int, most: int) -> Iterator[slice]:
    """Columns one after another, from one on, each part with as many of some genes as may be; of whole blocks.

    Parameters
    ----------
    genes
        Places of the genes, in increasing order.
    n_genes
        Number of columns.
    start
        The first one.
    most
        Number of genes of a part.
    """
    width = min(most, _BLOCK[1])
    while start < n_genes:
        first = int(np.searchsorted(genes, start))
        # The first gene that is too many, and the beginning of its block.
        stop = int(genes[first + most]) // width * width if first + most < len(genes) else n_genes
        yield slice(start, stop)
        start = stop


class _FitOnDisk:
    """The steps of a fit.

    Parameters
    ----------
    adata, inputs, options
        As of :func:`recover_on_disk`.
    layers
        Moments by their keys.
    genes
        Places of the genes to fit.
    folder
        Folder for the layers that are written.
    sizes
        How many genes fit into the memory.
    origin
        What moments and neighbours are.
    """

    def __init__(
        self,
        adata: AnnData,
        layers: dict[str, Any],
        inputs: Inputs,
        options: Options,
        genes: Int[np.ndarray, " fitted"],
        folder: Path,
        sizes: _Sizes,
        origin: Sequence[Any],
    ):
        self._adata, self._layers, self._inputs, self._options = adata, layers, inputs, options
        self._genes, self._folder, self._sizes = genes, folder, sizes
        self._of_other_rates = of_other_rates(adata)
        before = [name for name in FIT_LAYERS if name in adata.layers and len(genes) < adata.n_vars]
        self._before = {name: adata.layers[name] for name in before}
        identities = [identity_of(layer, place_of(name, "layers")) for name, layer in self._before.items()]
        asked = [options.iterations, options.total_time, options.scaling]
        self._origin = [*origin, asked, checksum(genes), before, identities, checksum(self._of_other_rates)]

    def curves(self) -> StoredFit:
        """Fit the curves, and write times and probabilities of the cells."""
        n_genes, genes, options = self._adata.n_vars, self._genes, self._options
        record = GeneRecord(self._folder, "dynamics_curves", self._origin)
        files = [self._file(name, self._dtype(name), self._origin) for name in FIT_LAYERS[: len(_TIMES)]]
        try:
            start = int(record.columns["end"][-1]) if record.n_done else 0
            start = min([start, *(file.position for file in files if not file.is_whole)])
            record.keep(int(np.searchsorted(record.columns.get("end", []), start, side="right")))
            start = int(record.columns["end"][-1]) if record.n_done else 0
            with progress_bar(len(genes), "Fits", "genes", initial=record.n_done) as bar:
                for part in _parts(genes, n_genes, start, self._sizes.of_curves):
                    places = genes[(genes >= part.start) & (genes < part.stop)]
                    times, numbers = self._curves_of(places, bar)
                    for file, name, values in zip(files, FIT_LAYERS, times, strict=False):
                        self._write(file, name, part, places, values)
                    record.add({**numbers, "end": np.full(len(places), part.stop)})
        finally:
            for file in files:
                file.close()
        found = record.columns
        fit = DynamicalFit(
            kinetics=SplicingKinetics(*(found[name] for name in _KINETICS)),
            **{name: np.empty((0, len(genes)), dtype=self._sizes.dtype) for name in _TIMES},
            **{name: found[name].T if name == "deviation" else found[name] for name in _NUMBERS},
        )
        new = stored_curves(fit, found["factor"], found["slope"], options.scaling, options.standard_errors)
        stored = self._inputs.before.with_genes(genes, new)
        layers = {name: file.finish() for name, file in zip(FIT_LAYERS, files, strict=False)}
        return dataclasses.replace(stored, layers=layers)

    def _curves_of(
        self, genes: Int[np.ndarray, " some"], bar: Any
    ) -> tuple[list[Float[np.ndarray, "cells some"]], dict[str, Shaped[np.ndarray, "some ..."]]]:
        """Fit of some genes: times and probabilities, and numbers of each gene."""
        options = self._options
        give_back_memory()
        u, s = self._moments(genes)
        fit = fit_dynamics(
            u,
            s,
            self._inputs.neighborhoods,
            iterations=options.iterations,
            scaling=options.scaling,
            memory=self._sizes.half,
            report=bar.update,
        )
        fit, factor = in_time_unit(fit, options.total_time)
        times = [getattr(fit, name) for name in _TIMES]
        numbers = {name: getattr(fit.kinetics, name) for name in _KINETICS}
        numbers |= {name: getattr(fit, name) for name in _NUMBERS}
        numbers |= {
            "deviation": fit.deviation.T,
            "status": fit.status.astype(str),
            "factor": factor,
            "slope": steady_slopes(u, s),
            "finite": np.all([np.isfinite(values).all(axis=0) for values in times[1:]], axis=0),
        }
        return times, numbers

    def models(self, stored: StoredFit) -> StoredFit:
        """Weigh the models of all genes with a curve, and write their velocities."""
        adata, sizes = self._adata, self._sizes
        finite = self._finite(stored)
        known = has_curve(stored, self._genes, finite)
        genes = np.flatnonzero(known)
        rates = [stored.columns[name] for name in RATES]
        origin = ["models", self._origin, checksum(known, *rates)]
        dtype = stored.layers["fit_t"].dtype
        models: GeneModels | None = None
        if len(genes):
            parts = [self._among(genes, part) for part in _parts(genes, adata.n_vars, 0, sizes.of_models)]

            def read(part: slice) -> list[np.ndarray]:
                give_back_memory()
                times = [self._columns(stored.layers[name], name, genes[part]) for name in CURVE_LAYERS]
                return [x.astype(dtype, copy=False) for x in (*times, *self._moments(genes[part]))]

            kinetics = kinetics_of(stored, known, dtype)
            models, velocity_of = fit_gene_models_in_parts(
                kinetics, parts, read, self._inputs.neighborhoods, sizes.at_once
            )
        file = self._file(VELOCITY, dtype, origin)
        try:
            if not file.is_whole:
                for part in _parts(genes, adata.n_vars, file.position, sizes.of_models):
                    some = self._among(genes, part)
                    values = velocity_of(some) if len(genes[some]) else np.empty((len(adata), 0), dtype=dtype)
                    self._write(file, VELOCITY, part, genes[some], values)
        finally:
            file.close()
        stored = with_evidence(stored, self._inputs.before.arrays.get(EVIDENCE), self._genes, known, models)
        return dataclasses.replace(stored, layers={**stored.layers, VELOCITY: file.finish()})

    def _finite(self, stored: StoredFit) -> Bool[np.ndarray, " genes"]:
        """Mask of the genes whose times are finite in all cells."""
        finite = np.ones(self._adata.n_vars, dtype=bool)
        known = np.flatnonzero(has_curve(stored, self._genes, finite))
        for part in _parts(known, len(finite), 0, self._sizes.of_models):
            genes = known[self._among(known, part)]
            for name in CURVE_LAYERS:
                finite[genes] &= np.isfinite(self._columns(stored.layers[name], name, genes)).all(axis=0)
        return finite

    @staticmethod
    def _among(genes: Int[np.ndarray, " some"], part: slice) -> slice:
        """Which of some genes are in a part of all columns."""
        return slice(*(int(i) for i in np.searchsorted(genes, [part.start, part.stop])))

    def _dtype(self, name: str) -> np.dtype:
        """Type of a layer: that of an earlier fit, if it stays for other genes."""
        if name not in self._before:
            return self._sizes.dtype
        dtype = np.dtype(self._before[name].dtype)
        return dtype if dtype.kind == "f" else np.dtype(float)

    def _file(self, name: str, dtype: np.dtype, origin: Sequence[Any]) -> LayerFile:
        width = min(_BLOCK[1], self._sizes.of_curves)
        return LayerFile(self._folder, name, self._adata.shape, dtype, origin, block=(_BLOCK[0], width))

    def _write(
        self, file: LayerFile, name: str, part: slice, genes: Int[np.ndarray, " some"], values: np.ndarray
    ) -> None:
        """Write columns of a layer: values of some genes, and of the others what an earlier fit has left."""
        if file.is_whole:
            return
        for start in range(part.start, part.stop, _BLOCK[1]):
            columns = np.arange(start, min(start + _BLOCK[1], part.stop))
            if name in self._before:
                block = self._columns(self._before[name], name, columns).astype(self._dtype(name))
                if name in OWN_LAYERS:
                    block[:, self._of_other_rates[columns]] = np.nan
                block[:, np.isin(columns, self._genes)] = np.nan
            else:
                block = np.full((len(self._adata), len(columns)), np.nan, dtype=values.dtype)
            some = self._among(genes, slice(start, int(columns[-1]) + 1))
            block[:, genes[some] - start] = values[:, some]
            file.write_genes(slice(start, int(columns[-1]) + 1), block, int(columns[-1]) + 1)

    def _columns(self, layer: Any, name: str, genes: Int[np.ndarray, " some"]) -> np.ndarray:
        return read_columns(layer, genes, place_of(name, "layers"), lambda found: found, self._sizes.piece)

    def _moments(self, genes: Int[np.ndarray, " some"]) -> list[np.ndarray]:
        """Unspliced and spliced moments of some genes."""
        return [read_genes(self._layers, name, genes, self._sizes.piece) for name in ("Mu", "Ms")]
