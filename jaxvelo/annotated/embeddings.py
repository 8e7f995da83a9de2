"""Embeddings of the cells: which one, and its coordinates."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense

BASES = ("umap", "tsne", "pca")


def default_basis(adata: AnnData) -> str:
    """Name of the embedding to take if none is named: UMAP, t-SNE or PCA, the first that is there.

    Raises
    ------
    KeyError
        If there is none of them.
    """
    for basis in BASES:
        if f"X_{basis}" in adata.obsm:
            return basis
    raise KeyError(
        f"Expected one of {[f'X_{basis}' for basis in BASES]} in `adata.obsm`, found {listed(adata.obsm)}. Compute an "
        "embedding, for example `scanpy.tl.umap(adata)`, or name one in `basis`."
    )


def read_embedding(adata: AnnData, basis: str, least_columns: int = 1) -> np.ndarray:
    """Return ``adata.obsm["X_{basis}"]`` or ``adata.obsm[basis]`` as a dense array with two axes."""
    for key in (f"X_{basis}", basis):
        if key in adata.obsm:
            embedding = dense(adata.obsm[key])
            if embedding.ndim != 2 or embedding.shape[1] < least_columns:
                raise ValueError(
                    f"Expected `adata.obsm[{key!r}]` to have {least_columns} or more columns, "
                    f"found shape {embedding.shape}."
                )
            if embedding.dtype.kind not in "fiub":
                try:  # texts of numbers, as tables of other tools have them
                    embedding = embedding.astype(float)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"Expected coordinates in `adata.obsm[{key!r}]`, found values that are no numbers, of the type "
                        f"{embedding.dtype}. Keep the columns of numbers, or pass another `basis`."
                    ) from error
            return embedding
    raise KeyError(
        f"Expected an embedding in `adata.obsm['X_{basis}']` or `adata.obsm[{basis!r}]`, found the keys "
        f"{listed(adata.obsm)}. Compute one first, for example `scanpy.tl.umap(adata)`, or pass `basis`."
    )
