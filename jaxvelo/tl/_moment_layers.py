"""Layers of moments, and of the counts behind them: read and checked, in memory or on disk."""

from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arrays import place_of
from jaxvelo.annotated.counts import check_non_negative, readable
from jaxvelo.annotated.disk_arrays import check_readable, is_on_disk, read_columns
from jaxvelo.annotated.entries import require_key

MOMENTS, COUNTS = ("Ms", "Mu"), ("spliced", "unspliced")


def read_counts(adata: AnnData, name: str) -> np.ndarray:
    """Return a layer as a dense array of finite numbers of at least zero, or say what is wrong with it."""
    layer = checked_counts(_find(adata, name), name)
    return layer.toarray() if sp.issparse(layer) else np.asarray(layer)


def checked_counts(matrix: Any, name: str) -> Any:
    """Values of a layer, as they can be calculated with, or an error that says what is wrong with them."""
    where = place_of(name, "layers")
    matrix = readable(where, matrix)
    remedy = f"{_origin(name)} Leave out the genes or cells that are not finite or negative."
    check_non_negative(where, matrix, remedy)
    return matrix


def moments_on_disk(adata: AnnData, with_counts: bool) -> bool:
    """Whether moments, or counts that are needed too, are to be read in blocks."""
    names = (*MOMENTS, *COUNTS) if with_counts else MOMENTS
    return any(name in adata.layers and is_on_disk(adata.layers[name]) for name in names)


def moments_layer(adata: AnnData, name: str) -> Any:
    """Layer of moments or counts, of which rows can be read."""
    layer = _find(adata, name)
    check_readable(layer, place_of(name, "layers"))
    return layer


def read_genes(
    layers: dict[str, Any], name: str, genes: Int[np.ndarray, " some"], piece: int
) -> Float[np.ndarray, "cells some"]:
    """Some genes of one of the layers, in increasing order, checked, read so many bytes at a time."""
    return read_columns(layers[name], genes, place_of(name, "layers"), partial(checked_counts, name=name), piece)


def _find(adata: AnnData, name: str) -> Any:
    return require_key(adata.layers, name, "adata.layers", _origin(name))


def _origin(name: str) -> str:
    return "Compute it with `jaxvelo.pp.moments(adata)`." if name in MOMENTS else "Store the counts there."
