"""A transition matrix that is there already."""

from __future__ import annotations

from typing import Any, ClassVar, Self

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
from jaxvelo.kernels._combination import KernelExpression
from jaxvelo.kernels._graph_data import GraphData
from jaxvelo.kernels._kernel import Kernel
from jaxvelo.kernels._stochastic_matrix import stochastic
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
        Without effect: the kernel always has a copy of the matrix, which is read-only.
    backward
        Direction of the process; found out from the key if not given.

    Raises
    ------
    KeyError
        If there is no such key.
    ValueError
        If the matrix is not square, has negative or non-finite entries, or rows without any, or a table is of other
        cells. Rows that do not sum to one are normalised, with a warning.
    TypeError
        If ``object`` or ``backward`` is none of the above.

    Examples
    --------
    >>> T = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    >>> jv.kernels.PrecomputedKernel(T)
    PrecomputedKernel[n=3, origin='array']
    """

    accepts_any_matrix: ClassVar[bool] = True

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
            csr = matrix  # no copy: it is read-only
        else:
            csr = stochastic(matrix, adata.n_obs, params["origin"], copy=True)
        self._edges = f"precomputed:{checksum(csr.indptr, csr.indices, csr.data):08x}"
        init: dict[str, Any] = {} if obsp_key is None else {"obsp_key": obsp_key}
        if backward is not None:
            init["backward"] = bool(backward)
        super().__init__(adata, GraphData({self._edges: csr}), init)
        self._backward = None if backward is None else bool(backward)
        self.restore(csr, params)

    def compute_transition_matrix(self, *_: Any, **__: Any) -> PrecomputedKernel:
        """Return the kernel: there is nothing to compute."""
        return self

    @property
    def backward(self) -> bool | None:
        """Direction of the process."""
        return self._backward

    def __invert__(self) -> Self:
        if self._backward is not None:
            raise TypeError(
                "A precomputed transition matrix cannot be inverted. Pass that of the other direction to "
                "`PrecomputedKernel`, or `backward=None` for one that has no direction."
            )
        return self.copy()

    @property
    def transition_function(self) -> Precomputed:
        """The pure transition function, which reads the matrix from the graph."""
        return Precomputed(self._edges)

    def arguments_to_store(self, key: str) -> dict[str, Any]:
        """Arguments of CellRank's ``PrecomputedKernel``, which without them takes the matrix behind a default key."""
        return {**self.init, "obsp_key": key, "backward": self.backward}

    @classmethod
    def from_arguments(cls, adata: AnnData, init: dict[str, Any], matrix: sp.csr_matrix | None) -> Self:
        """Make the kernel of its transition matrix.

        Raises
        ------
        ValueError
            If there is no matrix.
        """
        if matrix is None:
            raise ValueError(
                "Expected the transition matrix of a `PrecomputedKernel`, found none. Write the kernel anew."
            )
        others = {name: value for name, value in init.items() if name != "backward"}
        kernel = cls(matrix, adata=adata, backward=init.get("backward"))
        kernel.init = {**others, **kernel.init}
        return kernel


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
