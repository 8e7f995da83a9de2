"""Expression of genes: in ``X``, a layer or ``raw``, with the names of its genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arrays import in_memory, place_of, read_array
from jaxvelo.configuration import logger


@dataclass(frozen=True)
class Expression:
    """Cells by genes, in memory, dense or sparse, in the type in which they stand there.

    Attributes
    ----------
    values
        The numbers.
    genes
        Names of the columns.
    where
        Where they stand, for messages.
    use_raw
        Whether that is in ``raw``, which may have other genes than ``adata``.
    """

    values: np.ndarray | sp.csr_matrix
    genes: pd.Index
    where: str
    use_raw: bool


def read_expression(adata: AnnData, layer: str | None = None, use_raw: bool = False) -> Expression:
    """Read the expression of genes.

    Parameters
    ----------
    adata
        Annotated data.
    layer
        Key of ``adata.layers``; ``None`` or ``"X"`` for ``adata.X``.
    use_raw
        Whether to read ``adata.raw`` instead of ``adata.X``. Without effect, with a warning, if there is none or if a
        layer is named.

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If there is no matrix, or it does not hold numbers.
    """
    if use_raw and layer not in (None, "X"):
        logger.warning("Reading the layer %r: `use_raw=True` is for `layer=None` alone", layer)
        use_raw = False
    if use_raw and adata.raw is None:
        logger.warning("Reading `adata.X`: there is no `adata.raw`")
        use_raw = False
    if use_raw:
        where, genes, values = "adata.raw.X", adata.raw.var_names, in_memory(adata.raw.X, "adata.raw.X")
    else:
        where, genes, values = place_of(layer, "layers"), adata.var_names, read_array(adata, layer, "layers")
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected numbers in `{where}`, found the type {values.dtype}. Convert them, or name another `layer`."
        )
    return Expression(values, genes, where, use_raw)
