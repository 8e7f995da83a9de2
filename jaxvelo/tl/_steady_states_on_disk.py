"""Steady-state models of moments that stay on disk: fitted to some genes of all cells at a time, then cell by cell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arrays import place_of
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.counts import floating_type
from jaxvelo.annotated.disk_arrays import GatheredRows, identity_of
from jaxvelo.annotated.gene_records import GeneRecord
from jaxvelo.annotated.layer_files import LayerFile, layer_folder
from jaxvelo.annotated.memory_limit import for_pieces_and_blocks, within
from jaxvelo.annotated.progress_bar import watched
from jaxvelo.dynamics import (
    Percentiles,
    SteadyState,
    second_moments,
    steady_residual,
    steady_residual_of_second_moments,
    stochastic_steady_state,
)
from jaxvelo.graph._row_blocks import BudgetTooSmall, RowBlock, near_order, read_ahead, row_blocks, rows_among
from jaxvelo.tl._moment_layers import COUNTS, MOMENTS, checked_counts, moments_layer, read_genes
from jaxvelo.tl._velocity_genes import default_floats, fit_steady_state


class SteadyStateOptions(NamedTuple):
    """Arguments of the steady-state models."""

    percentiles: Percentiles
    fit_offset: bool
    fit_offset2: bool
    r2_of_all_cells: bool


def steady_states_on_disk(
    adata: AnnData,
    vkey: str,
    options: SteadyStateOptions,
    weights: sp.csr_matrix | None,
    choose: Callable[[SteadyState, np.ndarray, np.ndarray], np.ndarray],
    budget: int,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit the deterministic model to all genes and, with weights, the stochastic one to some of them.

    All moments are read as often as the genes are more than fit into memory for all cells, and once more for the
    velocities, which are written to files. The results equal those in memory to the last bit.

    Parameters
    ----------
    adata
        Annotated data.
    vkey
        Key of the velocities.
    options
        Arguments of the models.
    weights
        Weights of the means over neighbourhoods, for the stochastic model; None for the deterministic one.
    choose
        Gives the mask of the velocity genes for a deterministic fit, and the largest spliced and unspliced moments of
        each gene, of shape (1, genes).
    budget
        Bytes that may be taken.

    Returns
    -------
    Columns of ``adata.var``, without the key of the velocity; and the layers, on disk.

    Raises
    ------
    ValueError
        If the budget is too small for one gene of all cells, or one cell with its neighbours.
    """
    names = MOMENTS if weights is None else (*MOMENTS, *COUNTS)
    layers = {name: moments_layer(adata, name) for name in names}
    n_cells, n_genes = layers["Ms"].shape
    stochastic = weights is not None
    most = 1 if weights is None else 1 + int(np.diff(weights.indptr).max(initial=0))
    # Of all steps, before the first one.
    needed = max(_bytes_of_gene(n_cells, stochastic), _bytes_of_rows(n_genes, n_genes * stochastic)(1, most))
    with within(budget):
        if needed > for_pieces_and_blocks(budget)[1]:
            raise BudgetTooSmall(needed)
    folder = layer_folder(list(layers.values()))
    identities = [identity_of(layer, place_of(name, "layers")) for name, layer in layers.items()]
    origin: list[Any] = [identities, options, str(jnp.result_type(float))]
    records = [GeneRecord(folder, f"{vkey}_deterministic", origin)]
    fit, largest = deterministic_in_parts(layers, options, records[0], budget)
    genes = choose(fit, *largest)
    dtype = np.result_type(layers["Ms"].dtype.newbyteorder("="), np.float32)
    ratio = np.asarray(fit.gamma)
    columns = {"gamma": ratio.astype(dtype), "offset": np.array(fit.offset, dtype=dtype)}
    slope, offset, offset2 = np.array(ratio), np.array(fit.offset), np.zeros_like(ratio)
    fitted = np.flatnonzero(genes if genes.any() else np.ones_like(genes))
    if weights is not None:
        origin += [checksum(weights.indptr, weights.indices), checksum(fitted)]
        records.append(GeneRecord(folder, f"{vkey}_stochastic", origin))
        _stochastic(layers, fitted, weights, options, records[1], budget)
        for name, values in (("gamma", slope), ("offset", offset), ("offset2", offset2)):
            values[fitted] = records[1].columns[name]
            columns[name] = values.astype(dtype)
    columns |= {"qreg_ratio": ratio.astype(dtype), "r2": np.asarray(fit.r2).astype(np.float64), "genes": genes}
    residuals = _Residuals(layers, slope, offset, offset2, fitted, weights, dtype)
    written = residuals.write(folder, vkey, identities, budget)
    for record in records:
        record.remove()
    return columns, written


def _bytes_of_gene(n_cells: int, stochastic: bool) -> int:
    """Memory for one gene of all cells while it is fitted: moments as they are read, in the default type, residuals."""
    return n_cells * (14 if stochastic else 6) * jnp.dtype(jnp.result_type(float)).itemsize


def _bytes_of_rows(n_genes: int, n_fitted: int) -> Callable[[Any, Any], Any]:
    """Memory for a block of cells, by the numbers of its own and of those that it gathers.

    Of each cell both moments, twice, and in the default type, and what is computed of them; of the genes with a
    stochastic fit also the second moments; and for each cell that is gathered both counts, twice, and their products.
    """
    return lambda n_own, n_gathered: 8 * (n_own * (7 * n_genes + 6 * n_fitted) + n_gathered * 6 * n_fitted)


def _gene_blocks(first: int, n_genes: int, of_gene: int, budget: int) -> Iterator[slice]:
    """Genes, from the first one that is not done, of as many as fit, as evenly spread as that goes."""
    n_blocks = -(-(n_genes - first) // (for_pieces_and_blocks(budget)[1] // of_gene))
    ends = np.linspace(first, n_genes, n_blocks + 1).astype(int)
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(ends))


def deterministic_in_parts(
    layers: dict[str, Any], options: SteadyStateOptions, record: GeneRecord, budget: int
) -> tuple[SteadyState, tuple[np.ndarray, np.ndarray]]:
    """Fit of all genes, without its velocities, and the largest spliced and unspliced moments of each.

    Parameters
    ----------
    layers
        Moments, by their keys.
    options
        Arguments of the model.
    record
        Of the genes that are done, as far as they are.
    budget
        Bytes that may be taken.
    """
    n_cells, n_genes = layers["Ms"].shape
    piece = for_pieces_and_blocks(budget)[0]
    blocks = _gene_blocks(record.n_done, n_genes, _bytes_of_gene(n_cells, False), budget)
    for genes in watched(blocks, n_genes, "Slopes", "genes", _length, initial=record.n_done):
        s, u = (read_genes(layers, name, np.arange(genes.start, genes.stop), piece) for name in MOMENTS)
        fit = fit_steady_state(s, u, options.percentiles, options.fit_offset, options.r2_of_all_cells)
        found = {name: np.array(getattr(fit, name)) for name in ("gamma", "offset", "r2")}
        record.add({**found, "largest_s": s.max(axis=0), "largest_u": u.max(axis=0)})
        del s, u, fit
    found = record.columns
    fit = SteadyState(found["gamma"], found["offset"], found["r2"], None)
    return fit, (found["largest_s"][None], found["largest_u"][None])


def _stochastic(
    layers: dict[str, Any],
    fitted: np.ndarray,
    weights: sp.csr_matrix,
    options: SteadyStateOptions,
    record: GeneRecord,
    budget: int,
) -> None:
    """Note the slopes and both offsets of some genes."""
    of_gene, piece = _bytes_of_gene(layers["Ms"].shape[0], True), for_pieces_and_blocks(budget)[0]
    blocks = _gene_blocks(record.n_done, len(fitted), of_gene, budget)
    for block in watched(blocks, len(fitted), "Slopes of both moments", "genes", _length, initial=record.n_done):
        s, u, spliced, unspliced = (read_genes(layers, name, fitted[block], piece) for name in (*MOMENTS, *COUNTS))
        second = second_moments(weights, spliced, unspliced)
        del spliced, unspliced
        fit = stochastic_steady_state(
            *(default_floats(moment) for moment in (s, u, *second)),
            percentiles=options.percentiles,
            fit_offset=options.fit_offset,
            fit_offset2=options.fit_offset2,
        )
        record.add({name: np.array(getattr(fit, name)) for name in ("gamma", "offset", "offset2")})
        del s, u, second, fit


def _length(genes: slice) -> int:
    return genes.stop - genes.start


class _Residuals:
    """Velocities of all cells by fits of the genes: deterministic ones, and for some genes stochastic ones."""

    def __init__(
        self,
        layers: dict[str, Any],
        slope: np.ndarray,
        offset: np.ndarray,
        offset2: np.ndarray,
        fitted: np.ndarray,
        weights: sp.csr_matrix | None,
        dtype: Any,
    ):
        self._layers, self._slope, self._offset, self._dtype = layers, slope[None], offset[None], dtype
        self._of_fitted = slope[None, fitted], offset[None, fitted], offset2[None, fitted]
        self._fitted, self._weights = fitted, weights

    def write(self, folder: Path, vkey: str, identities: list[Any], budget: int) -> dict[str, Any]:
        """Write the velocities, and of the second moments those, to files; identities tell the layers."""
        keys = [vkey] if self._weights is None else [vkey, f"variance_{vkey}"]
        fit = [checksum(self._slope, self._offset, self._of_fitted[2], self._fitted)]
        graph = [] if self._weights is None else [checksum(self._weights.indptr, self._weights.indices)]
        origin = ["velocity", *fit, *graph, identities]
        shape = self._layers["Ms"].shape
        files = [LayerFile(folder, key, shape, self._dtype, origin) for key in keys]
        if not all(file.is_whole for file in files):
            try:
                self._write_rows(files, budget)
            finally:
                for file in files:
                    file.close()
        return {key: file.finish() for key, file in zip(keys, files, strict=True)}

    def _write_rows(self, files: list[LayerFile], budget: int) -> None:
        """Write those of the files that are not whole, of the velocities and, if they are there, of the second ones."""
        n_cells, n_genes = self._layers["Ms"].shape
        piece, for_blocks = for_pieces_and_blocks(budget)
        readers = {
            name: GatheredRows(
                layer,
                place_of(name, "layers"),
                floating_type(layer.dtype) if name in COUNTS else layer.dtype.newbyteorder("="),
                self._fitted if name in COUNTS else None,
                partial(checked_counts, name=name),
                piece,
            )
            for name, layer in self._layers.items()
        }

        def read(block: RowBlock) -> dict[str, np.ndarray]:
            cells = {name: block.own if name in MOMENTS else np.sort(block.gathered) for name in readers}
            return {name: reader.read(cells[name], reader.empty(len(cells[name]))) for name, reader in readers.items()}

        if self._weights is None:
            graph, order = sp.csr_matrix((n_cells, n_cells)), np.arange(n_cells)
        else:
            graph, order = self._weights, near_order(self._weights)
        start = min(file.position for file in files if not file.is_whole)
        n_bytes = _bytes_of_rows(n_genes, 0 if self._weights is None else len(self._fitted))
        blocks = read_ahead(read, row_blocks(graph, order, n_bytes, for_blocks, start))
        for block, rows in watched(
            blocks, n_cells, "Velocities", "cells", lambda item: len(item[0].own), initial=start
        ):
            for file, values in zip(files, self._of_block(block, rows), strict=True):
                if not file.is_whole:
                    file.write(block.own, values, block.end)

    def _of_block(self, block: RowBlock, rows: dict[str, np.ndarray]) -> list[np.ndarray]:
        s, u = (default_floats(rows[name]) for name in MOMENTS)
        residual = steady_residual(s, u, self._slope, self._offset).astype(self._dtype)
        if self._weights is None:
            return [residual]
        local = rows_among(self._weights, block.own, np.sort(block.gathered))
        ss, us = map(default_floats, second_moments(local, rows["spliced"], rows["unspliced"], block.order))
        slope, offset, offset2 = self._of_fitted
        s, u = s[:, self._fitted], u[:, self._fitted]
        residual[:, self._fitted] = steady_residual(s, u, slope, offset)
        residual2 = np.zeros(residual.shape, dtype=self._dtype)
        residual2[:, self._fitted] = steady_residual_of_second_moments(s, u, ss, us, slope, offset, offset2)
        return [residual, residual2]
