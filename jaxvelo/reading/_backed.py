"""Annotated data of which the large matrices stay on disk."""

from __future__ import annotations

from typing import Any

import anndata
from anndata import AnnData

from jaxvelo.configuration import logger


def read_backed(group: Any) -> AnnData:
    """Make annotated data of an open file: ``X`` and the layers stay there, all else is read.

    :func:`anndata.read_h5ad` with ``backed="r"`` leaves ``X`` alone on disk, and :func:`anndata.experimental.read_lazy`
    needs dask and xarray; the object is made of anndata's own parts here.

    Parameters
    ----------
    group
        The file's root, of h5py or zarr.
    """
    in_memory = {
        name: anndata.io.read_elem(group[name])
        for name in ("obs", "var", "obsm", "varm", "obsp", "varp", "uns")
        if name in group
    }
    # Sparse matrices first come as groups.
    layers = {name: _on_disk(group["layers"][name]) for name in group["layers"]} if "layers" in group else {}
    x = _on_disk(group["X"]) if "X" in group else None
    if "raw" in group and group["raw"].attrs.get("encoding-type") != "null":
        logger.info("Leaving out `raw`: it is not read with `backed=True`")
    adata = AnnData(x, **in_memory)
    for name, layer in layers.items():
        adata.layers[name] = layer
    return adata


def _on_disk(element: Any) -> Any:
    return element if hasattr(element, "shape") else anndata.io.sparse_dataset(element)
