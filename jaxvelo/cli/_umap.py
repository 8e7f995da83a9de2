"""The embedding to draw in, where a file has none: a UMAP of the neighbours, or else principal components."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.graphs import read_graph
from jaxvelo.cli._errors import described, message_of
from jaxvelo.cli._plan import Graph
from jaxvelo.configuration import logger, timed

PCA = "pca"


def require_umap() -> None:
    """Raise an ImportError if there is nothing to compute a UMAP with; importing it would take seconds."""
    for package, name in (("scanpy", "scanpy"), ("umap", "umap-learn")):
        if find_spec(package) is None:
            raise ImportError(
                f'A UMAP needs {name}. Install it: pip install "jaxvelo[tutorial]"; or name an embedding of the file '
                "as --basis."
            )


def add_umap(adata: AnnData, graph: Graph, features: np.ndarray, seed: int) -> str:
    """Compute a UMAP, and return the name of the embedding: another one if that fails.

    Parameters
    ----------
    adata
        The cells; their ``X_umap`` is written.
    graph
        Neighbours.
    features
        What stands for each cell where there are no principal components, shape ``(cells, features)``.
    seed
        Seed.
    """
    if "X_pca" in adata.obsm and dense(adata.obsm["X_pca"]).ndim == 2:
        components = dense(adata.obsm["X_pca"]).astype(float)
    else:
        components = _principal_components(features)
    try:
        with timed("Computing the embedding `umap`"):
            coordinates = compute_umap(read_graph(adata, graph.connectivities), components, seed)
        if not np.isfinite(coordinates).all():
            raise ValueError("found coordinates that are not finite")
    except Exception as error:  # a picture of another kind, not the end of the flow
        text = message_of(error) if isinstance(error, ImportError) else described(error)
        logger.warning("The UMAP failed: drawing in the first principal components instead. %s", text)
        if "X_pca" not in adata.obsm or adata.obsm["X_pca"].shape[1] < 2:
            adata.obsm[f"X_{PCA}"] = components[:, :2]
        return PCA
    adata.obsm["X_umap"] = coordinates
    return "umap"


def compute_umap(connectivities, components: np.ndarray, seed: int) -> np.ndarray:
    """UMAP of a graph by scanpy, on an object of its own: scanpy asks for notes on how the graph was made.

    A file may hold the graph alone, or the notes of another tool, and these are the user's.
    """
    import scanpy as sc

    cells = AnnData(obsm={"X_components": components}, obsp={"connectivities": connectivities})
    cells.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "params": {"method": "umap", "use_rep": "X_components", "n_neighbors": 2},
    }
    sc.tl.umap(cells, random_state=seed)
    return cells.obsm["X_umap"]


def _principal_components(features: np.ndarray, n: int = 10) -> np.ndarray:
    """First principal components of a dense array, of the cells in its rows."""
    centred = np.asarray(features, dtype=float) - np.mean(features, axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, ::-1][:, : max(2, min(n, centred.shape[1]))]
