"""Which column holds the clusters, what they are called, and where random walks start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.clusters import cluster_names
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from anndata import AnnData

# Names that columns of clusters have, the likeliest first, without case and punctuation.
NAMES = (
    *("clusters", "cluster", "celltype", "celltypes", "annotation", "annotations", "cellannotation", "celllabel"),
    *("celllabels", "cellclass", "cellidentity", "leiden", "louvain", "seuratclusters", "cellontologyclass"),
)
# Parts of such names: `leiden_r0.5`, `cell_type_fine`, `RNA_snn_res.0.8`.
PARTS = ("celltype", "cluster", "annotation", "leiden", "louvain", "snnres", "cellclass")
# Parts of the names of columns that say how a cell was measured, or in which state it is, but not of which kind it is.
OTHERS = (
    *("sample", "batch", "donor", "patient", "subject", "individual", "barcode", "library", "replicate", "lane"),
    *(
        "plate",
        "well",
        "phase",
        "doublet",
        "condition",
        "treatment",
        "sex",
        "gender",
        "origident",
        "dataset",
        "project",
    ),
    *("cellid", "cellname", "umi", "color"),
)
CELLS_PER_CLUSTER = 5
MOST_CLUSTERS = 100


def choose_clusters(adata: AnnData, key: str | None, time_key: str | None = None) -> str | None:
    """Return the column with the clusters, as categories: the one asked for, or the likeliest that is not the time.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If it holds numbers that are no clusters, no cluster at all, or two that have the same name as text.
    """
    if key is None:
        key = guess_clusters(adata, time_key)
        if key is None:
            logger.info("Found no clusters: name a column of obs as --cluster-key for colours")
            return None
        n_clusters = adata.obs[key].nunique()
        logger.info("Guessed that the clusters are `obs[%r]` (%d); name others as --cluster-key", key, n_clusters)
    if key not in adata.obs:
        raise KeyError(f"Expected clusters in `obs[{key!r}]`, found the columns {listed(adata.obs)}.")
    column = adata.obs[key]
    if _measures(column):
        raise ValueError(
            f"Expected clusters in `obs[{key!r}]`, found numbers of type {column.dtype}. Name a column of categories, "
            "text or whole numbers as --cluster-key."
        )
    if not column.notna().any():
        raise ValueError(f"Expected clusters in `obs[{key!r}]`, found that all values are missing.")
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    names = cluster_names(column, f"obs[{key!r}]")
    if not isinstance(adata.obs[key].dtype, pd.CategoricalDtype):
        adata.obs[key] = column.cat.rename_categories(names)
    if 2 * column.nunique() > len(column):
        logger.warning("`obs[%r]` holds %d clusters of %d cells", key, column.nunique(), len(column))
    missing = int(column.isna().sum())
    if missing:
        logger.info("%d cells are in no cluster of `obs[%r]`: they are grey, and not in the net flow", missing, key)
    return key


def guess_clusters(adata: AnnData, time_key: str | None = None) -> str | None:
    """Return the column that most likely holds the clusters: by its name, else the first of categories, else of text.

    A column is none of clusters if it has a single level, or so many that hardly any cell shares its own.
    """
    ranked = []
    for place, name in enumerate(adata.obs):
        if name == time_key:
            continue
        column = adata.obs[name]
        rank = _rank_of_name(str(name))
        is_text = not isinstance(column.dtype, pd.CategoricalDtype)
        if is_text and (
            pd.api.types.is_bool_dtype(column.dtype)
            or (pd.api.types.is_numeric_dtype(column.dtype) and (rank is None or _measures(column)))
        ):
            continue
        if rank is None and any(part in _plain(str(name)) for part in OTHERS):
            continue
        most = column.notna().sum() // CELLS_PER_CLUSTER
        if not 2 <= column.nunique() <= (most if rank is not None else min(most, MOST_CLUSTERS)):
            continue
        ranked.append((len(NAMES) + len(PARTS) + is_text if rank is None else rank, place, name))
    return min(ranked)[2] if ranked else None


def _rank_of_name(name: str) -> int | None:
    """Place of a name among those of clusters, whole names before parts of names; None if it is none."""
    name = _plain(name)
    if name in NAMES:
        return NAMES.index(name)
    if any(part in name for part in ("doublet", "batch", "sample", "color")):
        return None
    return next((len(NAMES) + i for i, part in enumerate(PARTS) if part in name), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _measures(column: pd.Series) -> bool:
    """Whether a column holds numbers with fractions; whole numbers become floats where some are missing."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return False
    known = column.dropna().to_numpy(dtype=float)
    return not np.array_equal(known, np.rint(known)) or not np.isfinite(known).all()


def starting_cells(adata: AnnData, cluster_key: str | None, start: str | None) -> np.ndarray:
    """Mask of the cells where random walks start.

    Raises
    ------
    ValueError
        If there is no such cluster, or no cell in it.
    """
    if start is None:
        return np.ones(adata.n_obs, dtype=bool)
    if cluster_key is None:
        raise ValueError(
            f"Expected --start to be a cluster, found `{start}`, and no clusters. Name a column of obs as "
            f"--cluster-key: there are {listed(adata.obs)}."
        )
    column = adata.obs[cluster_key]
    names = cluster_names(column, f"obs[{cluster_key!r}]")
    if start not in names:
        raise ValueError(
            f"Expected --start to be a cluster, found `{start}`. There are {listed(names)} in `obs[{cluster_key!r}]`."
        )
    cells = column.cat.codes.to_numpy() == names.index(start)
    if not cells.any():
        known = [names[code] for code in sorted(set(column.cat.codes) - {-1})]
        raise ValueError(
            f"Expected cells in the cluster `{start}` of --start, found none. There are cells in {listed(known)}."
        )
    return cells
