"""A transition matrix that is there already."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.entries import require_anndata, require_key
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.order import square_in_order
from jaxvelo.annotated.transition_keys import DIRECTIONS
from jaxvelo.configuration import logger
from jaxvelo.kernels._graph_data import GraphData, normalize_rows
from jaxvelo.kernels._kernel import Kernel, KernelExpression
from jaxvelo.transitions import Precomputed

_UNKNOWN = object()


class PrecomputedKernel(Kernel):
    """Kernel of a given transition matrix.

    Parameters
    ----------
    object
        An AnnData object, a matrix (dense or sparse, of NumPy, SciPy or JAX, or a table with the names of the cells), a
        kernel, a key in ``adata.obsp``, or a direction (``bool`` or ``None``), whose default key is used.
    adata
        Annotated data, for matrices, keys and directions. An empty one is made for a matrix without.
    obsp_key
        Key in ``adata.obsp``, if ``object`` is an AnnData object; ``"T_fwd"`` or ``"T_bwd"`` if ``None``.
    copy
        Whether to copy the matrix.
    backward
        Direction of the process; found out from the key if not given.

    Raises
    ------
    KeyError
        If there is no such key.
    ValueError
        If the matrix is not square, has negative or non-finite entries, or rows without any, or a table is of other
        cells. Rows that do not sum to one are normalised, with a warning if they stand in ``adata.obsp``: perhaps cells
        have been chosen since.
    """

    def __init__(
        self,
        object: Any,
        adata: AnnData | None = None,
        obsp_key: str | None = None,
        copy: bool = False,
        backward: Any = _UNKNOWN,
    ):
        params: dict[str, Any]
        if isinstance(object, KernelExpression):
            matrix, params = object.require_transitions(), {**object.params, "origin": repr(object)}
            adata = object.adata
            backward = object.backward if backward is _UNKNOWN else backward
        elif isinstance(object, (np.ndarray, jax.Array, sp.spmatrix, sp.sparray, pd.DataFrame)):
            params = {"origin": "array"}
            matrix, names = np.asarray(object) if isinstance(object, jax.Array) else object, None
            if isinstance(object, pd.DataFrame):
                names = None if object.index.equals(pd.RangeIndex(len(object))) else object.index
                matrix = square_in_order(
                    object, object.index if adata is None else require_anndata(adata).obs_names, "table"
                )
            if adata is None:
                logger.warning("Creating empty `AnnData` object of shape `%s`", (matrix.shape[0], 1))
                adata = AnnData(sp.csr_matrix((matrix.shape[0], 1)))
                if names is not None:
                    adata.obs_names = names.map(text_of)
        else:
            adata, obsp_key, backward = _locate(object, adata, obsp_key, backward)
            remedy = "Pass the key of a transition matrix as `obsp_key`."
            matrix = require_key(adata.obsp, obsp_key, "adata.obsp", remedy)
            params = {"origin": f"adata.obsp[{obsp_key!r}]"}
        require_anndata(adata)
        backward = None if backward is _UNKNOWN else backward
        if backward is not None and not isinstance(backward, (bool, np.bool_)):
            raise TypeError(f"Expected `backward` to be `bool` or None, found `{type(backward).__name__}`.")
        if isinstance(object, KernelExpression):
            csr = matrix.copy() if copy else matrix
        else:
            csr = stochastic(matrix, adata.n_obs, params["origin"], copy)
        self._edges = f"precomputed:{_checksum(csr):08x}"
        init: dict[str, Any] = {} if obsp_key is None else {"obsp_key": obsp_key}
        if backward is not None:
            init["backward"] = bool(backward)
        super().__init__(adata, GraphData({self._edges: csr}), init)
        self._backward = None if backward is None else bool(backward)
        self._matrix, self._params = csr, params

    def compute_transition_matrix(self, *_: Any, **__: Any) -> PrecomputedKernel:
        """Return the kernel: there is nothing to compute."""
        return self

    @property
    def backward(self) -> bool | None:
        """Direction of the process."""
        return self._backward

    def __invert__(self) -> Kernel:
        if self._backward is not None:
            raise TypeError(
                "A precomputed transition matrix cannot be inverted. Pass that of the other direction to "
                "`PrecomputedKernel`, or `backward=None` for one that has no direction."
            )
        return self.copy()

    @property
    def expression(self) -> Precomputed:
        """The pure expression, which reads the matrix from the graph."""
        return Precomputed(self._edges)


def _locate(object: Any, adata: AnnData | None, obsp_key: str | None, backward: Any) -> tuple[AnnData, str, Any]:
    """Find AnnData object, key and direction."""
    if isinstance(object, AnnData):
        adata = object
    elif isinstance(object, str):
        obsp_key = object
    elif object is None or isinstance(object, (bool, np.bool_)):
        backward = object
    else:
        raise TypeError(
            "Expected `object` to be an AnnData object, a matrix, a kernel, a key in `adata.obsp` or a direction, "
            f"found `{type(object).__name__}`."
        )
    require_anndata(adata)
    assert adata is not None
    if obsp_key is None:
        wanted = [k for k, direction in DIRECTIONS.items() if backward is _UNKNOWN or bool(backward) == direction]
        found = [k for k in wanted if k in adata.obsp]
        if not found:
            raise KeyError(
                f"Expected a transition matrix in `adata.obsp` at {' or '.join(map(repr, wanted))}, found the keys "
                f"{list(adata.obsp)}. Pass its key as `obsp_key`."
            )
        obsp_key = found[0]
        logger.info("Using transition matrix from `adata.obsp[%r]`", obsp_key)
    if backward is _UNKNOWN:
        backward = DIRECTIONS.get(obsp_key)
        logger.info("Setting directionality `backward=%s`", backward)
    return adata, obsp_key, backward


def _checksum(matrix: sp.csr_matrix) -> int:
    """Number that tells matrices apart, those of equal values at other entries included."""
    return checksum(matrix.indptr, matrix.indices, matrix.data)


def sums_to_one(sums: np.ndarray) -> np.ndarray:
    """Whether the sum of each row is one, but for rounding in single precision."""
    return np.abs(sums - 1) <= 1e-3


def stochastic(matrix: Any, n_cells: int, where: str, copy: bool) -> sp.csr_matrix:
    """Return a row-stochastic CSR matrix of float64; rows that do not sum to one are normalised in a copy."""
    if matrix.shape != (n_cells, n_cells):
        raise ValueError(
            f"Expected a transition matrix of shape {(n_cells, n_cells)} in `{where}`, found {matrix.shape}."
        )
    if np.dtype(matrix.dtype).kind not in "fiub":
        raise TypeError(f"Expected numbers in `{where}`, found the type {matrix.dtype}. Convert them first.")
    csr = sp.csr_matrix(matrix).astype(np.float64, copy=copy)
    if not csr.has_sorted_indices:
        csr = csr.sorted_indices()
    if not np.isfinite(csr.data).all():
        bad = int(np.count_nonzero(~np.isfinite(csr.data)))
        raise ValueError(f"Expected finite probabilities in `{where}`, found {bad} that are not. Remove them first.")
    if csr.nnz and csr.data.min() < 0:
        bad = int(np.count_nonzero(csr.data < 0))
        raise ValueError(f"Expected non-negative probabilities in `{where}`, found {bad} negative ones.")
    sums = np.asarray(csr.sum(axis=1)).ravel()
    if (sums == 0).any():
        empty = np.flatnonzero(sums == 0)
        raise ValueError(
            f"Expected each row in `{where}` to have a positive sum, found {len(empty)} rows without, the first for "
            f"cell {empty[0]}. Give these cells a probability to stay, or remove them."
        )
    n_off = int(np.count_nonzero(~sums_to_one(sums)))
    if n_off and where.startswith("adata."):
        logger.warning(
            "%d of %d rows in `%s` do not sum to one (smallest sum %.3g): perhaps cells have been chosen since it was "
            "written. Normalizing them; compute the kernel anew for the transition matrix of these cells",
            n_off, len(sums), where, sums.min(),
        )  # fmt: skip
    if not np.allclose(sums, 1, rtol=1e-12, atol=0):
        csr = normalize_rows(csr.copy())
    return csr
