"""Read an embedding, and the arrows on it, from an AnnData object."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.embeddings import default_basis, read_embedding
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.velocity_arrows import belong_to, velocity_arrows
from jaxvelo.annotated.velocity_graph import has_velocity_graph
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from anndata import AnnData


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Where the cells are drawn.

    Attributes
    ----------
    basis
        Its name, without ``X_``.
    positions
        Coordinates in two or three dimensions, float64.
    columns
        Which columns of the stored embedding these are.
    n_columns
        How many there are.
    """

    basis: str
    positions: Float[np.ndarray, "cells dims"]
    columns: list[int]
    n_columns: int

    @property
    def axis_labels(self) -> list[str]:
        """Names of the axes, such as UMAP1."""
        name = {"pca": "PC", "tsne": "tSNE", "umap": "UMAP"}.get(self.basis, self.basis)
        return [f"{name}{column + 1}" for column in self.columns]


def read_positions(
    adata: "AnnData", basis: str | None, components: Any = None, projection: str | None = None
) -> Embedding:
    """Read ``obsm[f"X_{basis}"]`` or ``obsm[basis]``.

    Parameters
    ----------
    adata
        The cells.
    basis
        Name of the embedding; :obj:`None` for UMAP, t-SNE or PCA, the first of these that is there.
    components
        Columns to draw, counted from 1, as ``"1,3"`` or ``(1, 3)``. By default all of an embedding with exactly three
        columns, else the first two.
    projection
        ``"2d"`` or ``"3d"``: the first two or three columns.

    Raises
    ------
    KeyError
        If there is no such embedding.
    ValueError
        If it has fewer columns, no numbers, or no cell with finite coordinates.
    """
    if basis is None:
        basis = default_basis(adata)
    if not isinstance(basis, str):
        raise TypeError(f"Expected `basis` to be the name of one embedding, found `{basis!r}`.")
    if basis in adata.var_names and not {basis, f"X_{basis}"} & set(adata.obsm):
        raise KeyError(
            f"Expected `basis` to be an embedding in `adata.obsm`, found the gene {basis!r}. For its spliced and "
            f"unspliced abundance draw `jaxvelo.pl.phase_portrait(adata, {basis!r})`."
        )
    stored = read_embedding(adata, basis)
    where = f"adata.obsm[{f'X_{basis}' if f'X_{basis}' in adata.obsm else basis!r}]"
    stored = stored.astype(float)
    columns = _columns(components, projection, stored.shape[1])
    if max(columns) >= stored.shape[1]:
        raise ValueError(
            f"Expected `{where}` to have {max(columns) + 1} or more columns, found shape {stored.shape}. Compute an "
            "embedding with as many dimensions, or name another `basis`."
        )
    positions = stored[:, columns]
    if not finite_rows(positions).any():
        raise ValueError(
            f"Expected finite coordinates in the embedding {basis!r}, found none in {len(positions)} cells. Compute it "
            "again, or name another `basis`."
        )
    return Embedding(basis.removeprefix("X_"), positions, columns, stored.shape[1])


def _columns(components: Any, projection: str | None, n_columns: int) -> list[int]:
    if projection not in (None, "2d", "3d"):
        raise ValueError(f"Expected `projection` to be '2d' or '3d', found `{projection!r}`.")
    if components is None:
        return list(range(3 if projection == "3d" or (projection is None and n_columns == 3) else 2))
    parts = components.split(",") if isinstance(components, str) else components
    try:
        columns = [int(part) - 1 for part in parts]
    except (TypeError, ValueError):
        columns = []
    if len(columns) not in (2, 3) or min(columns) < 0 or (projection and len(columns) != int(projection[0])):
        raise ValueError(
            f"Expected `components` to be two columns, or three, counted from 1, such as '1,2', found `{components!r}`."
        )
    return columns


def read_arrows(
    adata: "AnnData", embedding: Embedding, vkey: str, recompute: bool = False
) -> Float[np.ndarray, "cells dims"]:
    """Read the arrows ``obsm[f"{vkey}_{basis}"]`` that belong to an embedding.

    Where there are none, or they were stored before the velocity graph, they are computed from the velocity graph, if
    there is one, and not stored.

    Raises
    ------
    KeyError
        If there is neither.
    ValueError
        If there are not as many dimensions as in the embedding.
    """
    basis = embedding.basis
    if not isinstance(vkey, str):
        raise TypeError(f"Expected `vkey` to be the name of one kind of arrows, found `{vkey!r}`.")
    key = f"{vkey}_{basis}"
    key = next((k for k in (key, f"{vkey}_X_{basis}") if k in adata.obsm), key)
    if recompute or (has_velocity_graph(adata, vkey) and not _is_current(adata, key, vkey, basis)):
        logger.info("Computing the arrows of `%s` in `%s`; `jaxvelo.tl.velocity_embedding` stores them", vkey, basis)
        return velocity_arrows(adata, basis, vkey)[:, embedding.columns]
    remedy = (
        f"Compute arrows with `kernel.plot_projection(basis={basis!r})`, or those of velocities with "
        f"`jaxvelo.tl.velocity_graph(adata)` and `jaxvelo.tl.velocity_embedding(adata, basis={basis!r})`, or name "
        "others in `vkey`."
    )
    vectors = dense(require_key(adata.obsm, key, "adata.obsm", remedy)).astype(float)
    n_columns, n_needed = embedding.n_columns, max(embedding.columns) + 1
    if vectors.ndim != 2 or not n_needed <= vectors.shape[1] <= n_columns:
        raise ValueError(
            f"Expected `adata.obsm[{key!r}]` to have {n_columns} columns like the embedding {basis!r}, "
            f"found shape {vectors.shape}. Compute the arrows again for this embedding."
        )
    if has_velocity_graph(adata, vkey) and not belong_to(adata, vectors, basis, vkey):
        logger.warning(
            "`adata.obsm[%r]` has arrows in other directions than those of the velocity graph in the present %r: are "
            "they of an embedding before? Compute them anew with `recompute=True`, or with "
            "`jaxvelo.tl.velocity_embedding(adata, basis=%r)`",
            key, basis, basis,
        )  # fmt: skip
    return vectors[:, embedding.columns]


def _is_current(adata: "AnnData", key: str, vkey: str, basis: str) -> bool:
    """Whether there are arrows, and they are not noted to be older than the velocity graph."""
    noted = adata.uns.get(f"{vkey}_params")
    if key not in adata.obsm or not hasattr(noted, "get"):
        return key in adata.obsm
    return basis in [str(name) for name in np.atleast_1d(noted.get("embeddings", []))]


def finite_rows(*arrays: Float[np.ndarray, "cells dims"]) -> Bool[np.ndarray, " cells"]:
    """Tell which cells have finite numbers only."""
    return np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in arrays])
