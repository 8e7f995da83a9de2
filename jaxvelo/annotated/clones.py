"""Which clones cells are of, as an AnnData object tells it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import require_key


def read_clones(adata: AnnData, key: str) -> sp.csr_matrix:
    """Read which clones each cell is of: a matrix of ones, cells by clones.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Key of a matrix (cells × clones) in ``adata.obsm``, or of a column of ``adata.obs`` with the clone of each cell,
        missing where unknown.

    Raises
    ------
    KeyError
        If there is neither.
    ValueError
        If the entries of a matrix are no numbers, or not finite.
    """
    if key in adata.obsm:
        stored = adata.obsm[key]
        table = stored if sp.issparse(stored) else dense(stored)
        if table.dtype.kind not in "fiub":
            raise ValueError(
                f"Expected numbers in `adata.obsm[{key!r}]`, found the type {table.dtype}. Store a matrix of cells and "
                "clones."
            )
        clones = sp.csr_matrix(table, copy=True)
        bad = int(np.count_nonzero(~np.isfinite(clones.data)))
        if bad:
            raise ValueError(
                f"Expected finite entries in `adata.obsm[{key!r}]`, found {bad} that are not. Set these to zero."
            )
        clones.eliminate_zeros()
        return sp.csr_matrix((np.ones(clones.nnz, dtype=np.int32), clones.indices, clones.indptr), clones.shape)
    remedy = "Pass the key of clones in `adata.obsm` (cells × clones) or in `adata.obs` (one for each cell)."
    labels = require_key(adata.obs, key, "adata.obs", remedy).astype("category").cat
    codes = labels.codes.to_numpy()
    known = np.flatnonzero(codes >= 0)
    ones = np.ones(len(known), dtype=np.int32)
    return sp.csr_matrix((ones, (known, codes[known])), shape=(adata.n_obs, len(labels.categories)))
