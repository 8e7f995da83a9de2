"""Nearest neighbours of the cells and the connectivities between them, under scanpy's name and keys."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.arrays import dense, find_array, read_array
from jaxvelo.annotated.counts import check_finite, readable
from jaxvelo.annotated.disk_arrays import (
    check_readable,
    evenly_spaced,
    is_on_disk,
    read_in_ranges,
    read_rows,
    require_no_copy,
)
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.genes import highly_variable_genes
from jaxvelo.annotated.graphs import write_graphs
from jaxvelo.annotated.memory_limit import format_bytes, free_memory
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.graph import fuzzy_connectivities
from jaxvelo.pp._neighbor_search import find_neighbors
from jaxvelo.pp._principal_components import PrincipalComponents, principal_components, principal_components_in_blocks
from jaxvelo.pp._state_of_counts import state_of

N_PCS = 50
"""With so many genes or fewer, neighbours are those in ``adata.X``; of more, so many components are computed."""


class Neighbors(NamedTuple):
    """Neighbours that are to be written into an AnnData.

    Attributes
    ----------
    distances, connectivities
        The graphs, shape (cells, cells).
    params
        How they were computed.
    components, genes
        The principal components that had to be computed, and the mask of their genes; None if none had to be.
    """

    distances: sp.csr_matrix
    connectivities: sp.csr_matrix
    params: dict[str, Any]
    components: PrincipalComponents | None
    genes: np.ndarray | None


@accepts_data
def neighbors(
    adata: AnnData,
    n_neighbors: int = 30,
    n_pcs: int | None = None,
    use_rep: str | None = None,
    metric: str = "euclidean",
    key_added: str | None = None,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    r"""Find the nearest neighbours of each cell, and connect cells by UMAP's weights.

    The weights are those of :func:`jaxvelo.graph.fuzzy_connectivities`, and the same as scanpy's on the same
    neighbours. Nothing is compiled by numba.

    Neighbours are exact on an accelerator, and on a CPU up to 50,000 cells (scikit-learn; without it, more slowly, by
    JAX). For more cells on a CPU faiss finds at least 95 % of them, which is measured on a sample of cells in each
    call. Metrics other than ``"euclidean"``, ``"cosine"`` and ``"correlation"`` are exact for any number of cells, on
    the CPU, which may take long.

    Parameters
    ----------
    adata
        Annotated data with the representation.
    n_neighbors
        Number of neighbours, the cell itself included, as in scanpy: 30 are 29 others.
    n_pcs
        Use the first so many columns of the representation; all if None. 0 stands for ``use_rep="X"``.
    use_rep
        ``"X"`` or a key of ``adata.obsm`` (with or without ``"X_"`` in front). If None, as in scanpy: ``"X"`` if there
        are 50 genes or fewer, otherwise ``"X_pca"``. Principal components that are not there are computed and written:
        ``n_pcs`` of them (50 if None, or as many as there can be), of the highly variable genes if these are known, of
        ``adata.X``, which should hold logarithms of normalised counts. On disk, ``adata.X`` is read in blocks for them,
        twice; in memory are the covariances of the genes.
    metric
        ``"euclidean"``, ``"cosine"``, ``"correlation"``, or another metric of scikit-learn, such as ``"manhattan"``.
    key_added
        Name of the neighbours; None for ``"neighbors"``.
    random_state
        Seed of the approximate search, and of the start vector of principal components. The same seed gives the same
        neighbours.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets, and loses what was there under these keys,

        - ``.obsp["distances"]``, or ``[key_added + "_distances"]``: distances from each cell (row) to its
          ``n_neighbors - 1`` nearest others; those to duplicates are stored zeros;
        - ``.obsp["connectivities"]``, or ``[key_added + "_connectivities"]``: symmetric weights from 0 to 1, float32;
        - ``.uns["neighbors"]``, or ``[key_added]``: ``connectivities_key``, ``distances_key`` and ``params``, with the
          representation that was used as ``use_rep`` and, where columns were chosen or are principal components, their
          number as ``n_pcs``;
        - principal components that had to be computed: ``.obsm["X_pca"]``, ``.varm["PCs"]``, ``.uns["pca"]``.

    Raises
    ------
    KeyError
        If there is no such representation.
    ValueError
        If it has fewer than ``n_pcs`` columns or numbers that are not finite, there are fewer than ``n_neighbors``
        cells, the metric is unknown, or a cell has no direction and the metric needs one.
    ImportError
        If a package is needed that is not installed.
    TypeError
        If a name is none.

    References
    ----------
    McInnes, Healy & Melville (2018), UMAP.

    Examples
    --------
    >>> jv.pp.neighbors(adata, n_neighbors=10)
    >>> adata.obsp["distances"].nnz / adata.n_obs
    9.0
    """
    require_no_copy(require_anndata(adata), copy)
    if key_added is not None and (not isinstance(key_added, str) or not key_added):
        raise TypeError(f"Expected `key_added` to be a name or None, found `{key_added!r}`.")
    found = compute_neighbors(adata, n_neighbors, n_pcs, use_rep, metric, random_state)
    result = adata.copy() if copy else adata
    write_neighbors(result, found, key_added)
    return result if copy else None


def compute_neighbors(
    adata: AnnData,
    n_neighbors: int,
    n_pcs: int | None = None,
    use_rep: str | None = None,
    metric: str = "euclidean",
    random_state: int = 0,
    use_highly_variable: bool = True,
) -> Neighbors:
    """Compute what :func:`neighbors` writes; principal components of all genes unless ``use_highly_variable``."""
    check_integer("n_neighbors", n_neighbors, 2)
    check_integer("random_state", random_state, 0)
    if n_pcs is not None:
        check_integer("n_pcs", n_pcs, 0)
    if not isinstance(metric, str):
        raise TypeError(f"Expected `metric` to be the name of a metric, found `{type(metric).__name__}`.")
    if n_neighbors > adata.n_obs:
        raise ValueError(
            f"Expected at least `n_neighbors` cells, as a cell is the first of its neighbours, found {adata.n_obs} "
            f"cells and `n_neighbors={n_neighbors}`. Pass `n_neighbors={adata.n_obs}` or less."
        )
    rep = _representation(adata, n_pcs, use_rep)
    components = genes = None
    if rep == "X_pca" and rep not in adata.obsm:
        components, genes = _compute_components(adata, n_pcs, random_state, use_highly_variable)
        x = components.coordinates
    else:
        x = _coordinates(adata, rep, None if rep == "X" else n_pcs)
    params: dict[str, Any] = {"n_neighbors": int(n_neighbors), "method": "umap", "random_state": int(random_state)}
    params |= {"metric": metric, "use_rep": rep}
    if rep != "X" and (n_pcs is not None or rep in ("X_pca", "pca")):
        params["n_pcs"] = x.shape[1]
    where = "`adata.X`" if rep == "X" else f"{x.shape[1]} dimensions of `adata.obsm[{rep!r}]`"
    with timed(f"Computing {n_neighbors} neighbors in {where}"):
        others, distances = find_neighbors(x, n_neighbors - 1, metric, random_state)
        largest = distances.max()
        if not largest <= np.finfo(np.float32).max:
            raise ValueError(
                f"Expected distances within the range of single precision in {where}, found {largest:.3g}. Scale the "
                "representation."
            )
        connectivities = fuzzy_connectivities(others, distances)
        row_ends = np.arange(adata.n_obs + 1) * (n_neighbors - 1)
        graph = sp.csr_matrix((distances.ravel(), others.ravel(), row_ends), shape=(adata.n_obs, adata.n_obs))
        graph.sort_indices()
    return Neighbors(graph, connectivities, params, components, genes)


def write_neighbors(adata: AnnData, found: Neighbors, key_added: str | None) -> None:
    """Store neighbours under scanpy's keys, and the principal components that had to be computed."""
    if found.components is not None and found.genes is not None:
        loadings = np.zeros((adata.n_vars, found.components.loadings.shape[1]))
        loadings[found.genes] = found.components.loadings
        adata.obsm["X_pca"], adata.varm["PCs"] = found.components.coordinates, loadings
        is_subset = not found.genes.all()
        adata.uns["pca"] = {
            "params": {
                "zero_center": True,
                "use_highly_variable": is_subset,
                **({"mask_var": "highly_variable"} if is_subset else {}),
            },
            "variance": found.components.variance,
            "variance_ratio": found.components.variance_ratio,
        }
    write_graphs(adata, key_added, found.connectivities, found.distances, found.params)


def _representation(adata: AnnData, n_pcs: int | None, use_rep: str | None) -> str:
    """Choose as scanpy does: ``"X"`` or a key of ``adata.obsm``, or ``"X_pca"`` that is to be computed."""
    if use_rep is not None and not isinstance(use_rep, str):
        raise TypeError(f"Expected `use_rep` to be a name or None, found `{use_rep!r}`.")
    if use_rep is None:
        if n_pcs == 0 or adata.n_vars <= N_PCS:
            use_rep = "X"
        else:
            use_rep = next((key for key in ("pca", "X_pca") if key in adata.obsm), "X_pca")
    elif use_rep not in adata.obsm and use_rep != "X":
        use_rep = use_rep if use_rep.startswith("X_") else f"X_{use_rep}"
        if use_rep not in adata.obsm and use_rep != "X_pca":
            raise KeyError(
                f"Expected `use_rep` to be 'X' or a key of `adata.obsm`, found `{use_rep.removeprefix('X_')!r}`. There "
                f"are {listed(adata.obsm)}. Compute it first, or leave `use_rep` out for principal components."
            )
    if use_rep == "X" and n_pcs:
        logger.warning(
            "`n_pcs=%d` has no effect, as neighbors are computed in `adata.X`, which has %d genes. For principal "
            "components pass `use_rep='X_pca'`.",
            n_pcs,
            adata.n_vars,
        )
    return use_rep


def _coordinates(adata: AnnData, rep: str, n_pcs: int | None) -> Float[np.ndarray, "cells dims"]:
    """Return the columns of a representation as a dense array of floating type, checked."""
    where = "adata.X" if rep == "X" else f"adata.obsm[{rep!r}]"
    array = dense(read_array(adata, "X", "layers") if rep == "X" else adata.obsm[rep])
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"Expected `{where}` to have columns, found shape {array.shape}. Pass another `use_rep`.")
    if n_pcs is not None and not 0 < n_pcs <= array.shape[1]:
        raise ValueError(
            f"Expected `n_pcs` to be from 1 to {array.shape[1]}, the columns of `{where}`, found `{n_pcs}`. Choose "
            "fewer, or compute more."
        )
    array = array[:, :n_pcs]
    check_finite(where, array, "Compute it anew, or remove these cells.")
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _compute_components(
    adata: AnnData, n_pcs: int | None, seed: int, use_highly_variable: bool
) -> tuple[PrincipalComponents, np.ndarray]:
    """Compute principal components of ``adata.X``, and say so."""
    x = find_array(adata, "X", "layers")
    if is_on_disk(x):
        check_readable(x, "adata.X")
        matrix = _checked(read_rows(x, evenly_spaced(adata.n_obs), "adata.X"))
    else:
        matrix = _checked(read_array(adata, "X", "layers"))
    genes = np.ones(adata.n_vars, dtype=bool)
    if use_highly_variable:
        marked = highly_variable_genes(adata, "Mark genes by booleans, or delete the column.")
        genes = genes if marked is None else marked
    most = min(adata.n_obs, int(genes.sum())) - 1
    n_components = min(N_PCS, most) if n_pcs is None else n_pcs
    if not 0 < n_components <= most:
        raise ValueError(
            f"Expected `n_pcs` to be from 1 to {most}, less than the {adata.n_obs} cells and {int(genes.sum())} genes "
            f"of the principal components, found `{n_components}`. Choose fewer, or other genes."
        )
    if state_of(matrix).kind == "raw":
        logger.warning(
            "Computing principal components of `adata.X`, which looks like raw counts: they say more of the sizes of "
            "the cells than of what cells are like. Normalize first as `jaxvelo.pp.filter_and_normalize(adata)`."
        )
    n_genes = int(genes.sum())
    with timed(f"Found no principal components: computing {n_components} of {n_genes} genes"):
        if is_on_disk(x):
            _check_covariances(n_genes)
            return principal_components_in_blocks(partial(_blocks, x, genes), adata.n_obs, n_genes, n_components), genes
        chosen = matrix if genes.all() else matrix[:, genes]
        return principal_components(chosen, n_components, seed), genes


def _check_covariances(n_genes: int) -> None:
    """Raise a ValueError if there is no memory for covariances of the genes, those of a block, and eigenvectors."""
    needed, free = 3 * 8 * n_genes**2, free_memory()
    if needed > free:
        raise ValueError(
            f"Expected memory for the covariances of {n_genes} genes of `adata.X` on disk, {format_bytes(needed)}, "
            f"found {format_bytes(free)} free. Mark fewer genes in `adata.var['highly_variable']`, as by "
            "`jaxvelo.pp.filter_and_normalize(adata, n_top_genes=2000)`."
        )


def _blocks(x: Any, genes: np.ndarray) -> Iterator[tuple[slice, Any]]:
    """Rows of ``adata.X`` on disk, one block after another, of some genes."""
    for rows, found in read_in_ranges(x, "adata.X"):
        yield rows, _checked(found[:, genes])


def _checked(matrix: Any) -> Any:
    """Expression that can be calculated with."""
    matrix = readable("adata.X", matrix)
    check_finite("adata.X", matrix, "Put normalised and logarithmised counts there.")
    return matrix
