"""First moments of counts that stay on disk."""

from __future__ import annotations

from functools import partial
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arrays import place_of
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.counts import floating_type
from jaxvelo.annotated.disk_arrays import (
    GatheredRows,
    check_readable,
    evenly_spaced,
    identity_of,
    is_on_disk,
    read_rows,
)
from jaxvelo.annotated.layer_files import LayerFile, layer_folder
from jaxvelo.annotated.memory_limit import for_pieces_and_blocks, within
from jaxvelo.annotated.progress_bar import watched
from jaxvelo.dynamics import first_moments
from jaxvelo.graph._row_blocks import RowBlock, near_order, read_ahead, row_blocks, rows_among
from jaxvelo.pp._count_layers import LAYERS, checked_layer, report, states_of_layers


def counts_on_disk(adata: AnnData) -> bool:
    """Whether spliced or unspliced counts are to be read in blocks."""
    return any(name in adata.layers and is_on_disk(adata.layers[name]) for name in LAYERS)


def require_normalized(adata: AnnData, enforce: bool | None) -> None:
    """Raise a ValueError if counts on disk are raw, as far as evenly spaced cells tell."""
    cells = evenly_spaced(adata.n_obs)
    found = {name: read_rows(adata.layers[name], cells, place_of(name, "layers")) for name in LAYERS}
    layers = {name: checked_layer(rows, name) for name, rows in found.items()}
    if enforce is None:
        states = states_of_layers(adata, layers, cells)
        if any(state.kind != "normalized" for state in states.values()):
            report(states)
    raw = list(LAYERS) if enforce else []
    if enforce is None:
        raw = [name for name, state in states.items() if state.kind == "raw"]
    if raw:
        raise ValueError(
            f"Expected normalized counts on disk, found raw ones in {' and '.join(raw)}. Normalize them first: "
            "`jaxvelo.pp.filter_and_normalize(adata)`. To take them as they are, pass `enforce=False`."
        )


def moments_to_disk(
    folder_of: list[Any], weights: sp.csr_matrix, counts: Any, name: str, key: str, budget: int
) -> h5py.Dataset:
    """Compute the first moments of one layer block by block, and write them to a file.

    Parameters
    ----------
    folder_of
        Layers beside whose file to write.
    weights
        Weights of the means over the neighbourhoods.
    counts
        The layer, on disk.
    name, key
        Keys of the layer and of the result.
    budget
        Bytes that may be taken besides the graph.

    Raises
    ------
    OSError
        If it cannot be read or written.
    ValueError
        If the budget is too small, or counts are negative or not finite.
    """
    where = place_of(name, "layers")
    check_readable(counts, where)
    n_genes = counts.shape[1]
    dtype = floating_type(counts.dtype)
    origin = ["moments", identity_of(counts, where), checksum(weights.indptr, weights.indices)]
    layer = LayerFile(layer_folder(folder_of), key, counts.shape, np.float32, origin)
    if layer.is_whole:
        return layer.finish()
    piece, for_blocks = for_pieces_and_blocks(budget)
    rows = GatheredRows(counts, where, dtype, check=partial(checked_layer, name=name), piece=piece)

    def n_bytes(n_own, n_gathered):
        # The rows of two blocks, one of which is being read; the means, in the type of the counts and in single
        # precision; and the block's part of the weights.
        return n_genes * (2 * n_gathered * dtype.itemsize + n_own * (dtype.itemsize + 4)) + 200 * n_own

    def read(block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        cells = np.sort(block.gathered)
        return cells, rows.read(cells, rows.empty(len(cells)))

    blocks = row_blocks(weights, near_order(weights), n_bytes, for_blocks, layer.position)
    try:
        with within(budget):
            found = watched(
                read_ahead(read, blocks),
                weights.shape[0],
                f"Moments, {where}",
                "cells",
                lambda item: len(item[0].own),
                initial=layer.position,
            )
            for block, (cells, gathered) in found:
                means = first_moments(rows_among(weights, block.own, cells), gathered, block.order)
                layer.write(block.own, means, block.end)
    finally:
        layer.close()
    return layer.finish()
