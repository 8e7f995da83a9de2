"""The layers of counts, and the sizes of the cells in them."""

from typing import Any

import numpy as np
from anndata import AnnData

from jaxvelo.annotations import require_key
from jaxvelo.counts import cell_sizes, check_non_negative

LAYERS = ("spliced", "unspliced")
MEND_COUNTS = "Put counts there, from before any scaling or centering, with zeros for what is missing."


def count_layer(adata: AnnData, name: str) -> Any:
    """Return a layer, or say that it is missing."""
    remedy = "Read the data from a file with spliced and unspliced counts, or store them under that key."
    return require_key(adata.layers, name, "adata.layers", remedy)


def initial_size(adata: AnnData, key: str, matrix: Any) -> np.ndarray:
    """Sizes of the cells as they are stored, or counted if they are not."""
    if key not in adata.obs:
        return cell_sizes(matrix)
    sizes = adata.obs[key].to_numpy()
    remedy = f"It is used where present; delete it with `del adata.obs[{key!r}]`, and it is computed."
    check_non_negative(f"adata.obs[{key!r}]", sizes, remedy)
    return sizes
