"""Read an embedding, and the arrows on it, from an AnnData object."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from jaxvelo.annotations import dense, read_embedding, require_key

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
    positions = read_embedding(adata, basis, least_columns=2).astype(float)
    positions = positions[:, :3] if positions.shape[1] == 3 else positions[:, :2]
    if not finite_rows(positions).any():
        raise ValueError(
            f"Expected finite coordinates in the embedding {basis!r}, found none in {len(positions)} cells."
        )
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
    remedy = f"Compute arrows with `kernel.plot_projection(basis={basis!r})`, or name others in `vkey`."
    vectors = dense(require_key(adata.obsm, key, "adata.obsm", remedy)).astype(float)
    if vectors.ndim != 2 or vectors.shape[1] < positions.shape[1]:
        raise ValueError(
            f"Expected `adata.obsm[{key!r}]` to have {positions.shape[1]} columns like the embedding {basis!r}, "
            f"found shape {vectors.shape}. Compute the arrows again for this embedding."
        )
    return vectors[:, : positions.shape[1]]


def finite_rows(*arrays: Float[np.ndarray, "cells dims"]) -> Bool[np.ndarray, " cells"]:
    """Tell which cells have finite numbers only."""
    return np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in arrays])
