"""Loom files, as velocyto writes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.configuration import logger

# Attributes with the names: of velocyto and loompy first, then of scanpy and others.
_CELLS = ("CellID", "obs_names", "cell_names", "Cell", "barcode", "barcodes")
_GENES = ("Gene", "var_names", "gene_names", "Accession", "gene_ids")


def read_loom(path: Path) -> AnnData:
    """Read a loom file by loompy.

    Not by anndata's reader, which is to be removed and reads counts as double precision. What goes where is the same:
    ``X`` are the spliced counts and ``layers["matrix"]`` the file's main matrix, or ``X`` is the main matrix if there
    are no spliced counts; attributes of one number for each cell or gene are columns of ``obs`` and ``var``, those of
    several stand in ``obsm`` and ``varm``. Counts are CSR, single precision unless the file has double precision.
    Graphs and the attributes of the file as a whole are not read.

    Raises
    ------
    ImportError
        If loompy is not installed.
    """
    try:
        import loompy
    except ImportError as error:
        raise ImportError(
            f'Reading the loom file `{path}` needs loompy. Install it: pip install "jaxvelo[loom]". Or convert the '
            "file where loompy and scanpy are installed: "
            f"python -c \"import scanpy; scanpy.read_loom('{path}').write_h5ad('{path.stem}.h5ad')\""
        ) from error

    # What a file has beyond the specification does not keep it from being read.
    with loompy.connect(str(path), mode="r", validate=False) as file:
        layers = {name or "matrix": _cells_by_genes(layer) for name, layer in file.layers.items()}
        x = layers["spliced"].copy() if "spliced" in layers else layers.pop("matrix")
        obs, obsm = _annotation(dict(file.ca.items()), _CELLS, "cells", x.shape[0])
        var, varm = _annotation(dict(file.ra.items()), _GENES, "genes", x.shape[1])
    return AnnData(x, obs=obs, var=var, layers=layers, obsm=obsm, varm=varm)


def _cells_by_genes(layer: Any) -> Any:
    """CSR of a layer, which a loom file stores as genes by cells."""
    return layer.sparse(dtype=np.float64 if layer.dtype == np.float64 else np.float32).T.tocsr()


def _annotation(
    attributes: dict[str, np.ndarray], names: tuple[str, ...], what: str, length: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Columns by name, in a frame indexed by the names of the cells or genes, and what has more than one axis."""
    key = next((name for name in names if name in attributes), None)
    if key is None:
        logger.warning("Found no names of %s among %s: numbering them", what, sorted(attributes))
        index = pd.Index([str(i) for i in range(length)])
    else:
        index = pd.Index(np.asarray(attributes.pop(key)).astype(str), name=key, dtype=object)
    columns = {name: value for name, value in attributes.items() if value.ndim == 1 and value.dtype.names is None}
    others: dict[str, Any] = {name: value for name, value in attributes.items() if name not in columns}
    for name, value in others.items():
        if value.dtype.names is not None:  # tables, as SCope's embeddings
            others[name] = pd.DataFrame({field: value[field] for field in value.dtype.names}, index=index)
    return pd.DataFrame(columns, index=index), others
