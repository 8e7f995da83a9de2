"""Read an embedding, and the arrows on it, from an AnnData object."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

if TYPE_CHECKING:
    from anndata import AnnData


def embedding(adata: "AnnData", basis: str) -> Float[np.ndarray, "cells dims"]:
    """Read ``obsm[f"X_{basis}"]`` or ``obsm[basis]`` in float64: three dimensions if it has exactly three, else two.

    Raises
    ------
    KeyError
        If there is no such embedding.
    ValueError
        If it has fewer than two dimensions, or no cell with finite coordinates.
    """
    key = f"X_{basis}" if f"X_{basis}" in adata.obsm else basis
    if key not in adata.obsm:
        raise KeyError(
            f"Expected an embedding in `adata.obsm['X_{basis}']` or `adata.obsm[{basis!r}]`, "
            f"found {list(adata.obsm)}. Choose one of these as `basis`, or compute it first."
        )
    positions = np.asarray(adata.obsm[key], dtype=float)
    if positions.ndim != 2 or positions.shape[1] < 2:
        raise ValueError(f"Expected `adata.obsm[{key!r}]` to have 2 or more columns, found shape {positions.shape}.")
    positions = positions[:, :3] if positions.shape[1] == 3 else positions[:, :2]
    if not finite_rows(positions).any():
        raise ValueError(f"Expected finite coordinates in `adata.obsm[{key!r}]`, found none in {len(positions)} cells.")
    return positions


def arrows(adata: "AnnData", basis: str, vkey: str) -> Float[np.ndarray, "cells dims"]:
    """Read the arrows ``obsm[f"{vkey}_{basis}"]`` that belong to an embedding.

    Raises
    ------
    KeyError
        If there are none.
    ValueError
        If there are not as many dimensions as in the embedding.
    """
    positions = embedding(adata, basis)
    key = f"{vkey}_{basis.removeprefix('X_')}" if f"{vkey}_{basis}" not in adata.obsm else f"{vkey}_{basis}"
    if key not in adata.obsm:
        raise KeyError(
            f"Expected arrows in `adata.obsm[{key!r}]`, found {list(adata.obsm)}. Compute them with "
            f"`kernel.plot_projection(basis={basis!r})`, or name others in `vkey`."
        )
    vectors = np.asarray(adata.obsm[key], dtype=float)
    if vectors.ndim != 2 or vectors.shape[1] < positions.shape[1]:
        raise ValueError(
            f"Expected `adata.obsm[{key!r}]` to have {positions.shape[1]} columns like the embedding {basis!r}, "
            f"found shape {vectors.shape}. Compute the arrows again for this embedding."
        )
    return vectors[:, : positions.shape[1]]


def finite_rows(*arrays: Float[np.ndarray, "cells dims"]) -> Bool[np.ndarray, " cells"]:
    """Tell which cells have finite numbers only."""
    return np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in arrays])
