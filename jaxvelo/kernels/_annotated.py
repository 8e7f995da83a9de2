"""Kernels in AnnData objects, with the keys that CellRank uses."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.entries import require_anndata, require_key, stored_parameters
from jaxvelo.annotated.transition_keys import DIRECTIONS, default_key
from jaxvelo.kernels._combination import Combination
from jaxvelo.kernels._description import KERNELS, build, describe, plain, restore, without_none
from jaxvelo.kernels._kernel import Kernel, KernelExpression
from jaxvelo.kernels._precomputed_kernel import PrecomputedKernel, stochastic, sums_to_one

AnyKernel = TypeVar("AnyKernel", bound=Kernel)


def write_to_adata(kernel: KernelExpression, key: str | None, copy: bool) -> None:
    """Write matrix and parameters to ``obsp[key]`` and ``uns[f"{key}_params"]``.

    See :meth:`KernelExpression.write_to_adata`.
    A combination also writes the matrices of its kernels, to ``obsp[f"{key}_kernel{i}"]``.
    """
    matrix = kernel.require_transitions()
    key = default_key(kernel.backward) if key is None else key
    adata = kernel.adata
    init: dict[str, Any] = {}
    matrices = {key: matrix}
    if isinstance(kernel, Kernel):
        init = without_none(kernel.init)
    else:
        matrices |= {f"{key}_kernel{i}": k.require_transitions() for i, k in enumerate(kernel.kernels)}
    if isinstance(kernel, PrecomputedKernel) or not isinstance(kernel, Kernel):
        # Arguments of CellRank's `PrecomputedKernel`, which without them takes the matrix behind a default key.
        init |= without_none({"obsp_key": key, "backward": kernel.backward})
    known = stored_parameters(adata, f"{key}_params")
    # CellRank, writing to the same key, would leave our description in place: the checksum tells whose matrix it is.
    description = {**describe(kernel), "checksum": checksum(matrix.data)}
    params = {"params": without_none(kernel.params), "init": init, "kernel": description}
    for name, values in matrices.items():
        adata.obsp[name] = values.copy() if copy else values
    adata.uns[f"{key}_params"] = {**known, **params}


def from_adata(adata: AnnData, key: str, copy: bool = False) -> KernelExpression:
    """Read whatever kernel was written to an AnnData object, here or in CellRank.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Key that it was written with, such as ``"T_fwd"``.
    copy
        Whether to copy the matrices.

    Returns
    -------
    The kernel, a combination included: with its transition matrix to the last bit, its parameters and its weights. What
    CellRank wrote without saying how it was made is a :class:`PrecomputedKernel`; so is, with a warning, a matrix whose
    rows do not sum to one, as when cells were chosen since.

    Raises
    ------
    KeyError
        If there is no such kernel.
    """
    stored = _stored(adata, key)
    if not _is_whole(adata, key):
        return kernel_from_adata(PrecomputedKernel, adata, key, copy)
    matrix = _matrix(adata, key, copy)
    if _is_described(stored, matrix):
        description = stored["kernel"]
        single = str(description["type"]) in KERNELS

        def matrix_of(number: int) -> sp.csr_matrix:
            return matrix if single else _matrix(adata, f"{key}_kernel{number}", copy)

        kernel = build(description, adata, matrix_of)
        if isinstance(kernel, Combination):
            kernel.restore(matrix)
        return kernel
    return kernel_from_adata(KERNELS[_kind(stored, matrix)], adata, key, copy)


def kernel_from_adata(cls: type[AnyKernel], adata: AnnData, key: str, copy: bool) -> AnyKernel:
    """Read a kernel of a known class; see :meth:`Kernel.from_adata`."""
    stored = _stored(adata, key)
    if cls is not PrecomputedKernel and not _is_whole(adata, key):
        raise ValueError(
            f"Expected rows of `adata.obsp[{key!r}]` that sum to one, as they were written, found others: perhaps "
            "cells have been chosen since. Compute the kernel anew, or take the matrix with its rows normalised, by "
            f"`PrecomputedKernel(adata, obsp_key={key!r})`."
        )
    matrix = _matrix(adata, key, copy)
    kind = _kind(stored, matrix)
    init, params = stored.get("init", {}), stored.get("params", {})
    if cls is PrecomputedKernel:
        # Any matrix will do; how it was made stays in the parameters.
        init = {"obsp_key": key, "backward": init.get("backward", DIRECTIONS.get(key))}
        params = {"origin": f"adata.obsp[{key!r}]", **params}
    elif kind != cls.__name__:
        raise TypeError(
            f"Expected a `{cls.__name__}` in `adata.obsp[{key!r}]`, found a `{kind}`. "
            "Read it as `jaxvelo.kernels.from_adata(adata, key)`."
        )
    elif "kernel" in stored and not _is_described(stored, matrix):
        by_cell = [name for name, value in params.items() if np.ndim(value) == 1 and name == "softmax_scale"]
        if by_cell:
            raise ValueError(
                f"Expected the matrix that was written to `adata.obsp[{key!r}]`, found another: perhaps cells are in "
                f"another order since, and {by_cell} of each cell does not follow. Compute it anew, or take the "
                f"matrix by `PrecomputedKernel(adata, obsp_key={key!r})`."
            )
    kernel = restore(cls, adata, init, params, matrix)
    assert isinstance(kernel, cls)
    return kernel


def _is_described(stored: dict[str, Any], matrix: sp.csr_matrix) -> bool:
    return "kernel" in stored and stored["kernel"].get("checksum") == checksum(matrix.data)


def _kind(stored: dict[str, Any], matrix: sp.csr_matrix) -> str:
    """Name of the class; CellRank does not write it, but its arguments tell the class."""
    if _is_described(stored, matrix):
        return str(stored["kernel"]["type"])
    init = set(stored.get("init", {}))
    if "vkey" in init:
        return "VelocityKernel"
    return "ConnectivityKernel" if init == {"conn_key", "check_connectivity"} else "PrecomputedKernel"


def _is_whole(adata: AnnData, key: str) -> bool:
    """Whether all rows of a stored matrix sum to one, as they do when it is written."""
    sums = np.asarray(sp.csr_matrix(adata.obsp[key]).sum(axis=1)).ravel()
    return bool(sums_to_one(sums).all())


def _stored(adata: AnnData, key: str) -> dict[str, Any]:
    require_anndata(adata)
    require_key(adata.obsp, key, "adata.obsp", "Pass the key that the kernel was written with.")
    remedy = f"Read a matrix without parameters as `PrecomputedKernel(adata, obsp_key={key!r})`."
    return plain(dict(require_key(adata.uns, f"{key}_params", "adata.uns", remedy)))


def _matrix(adata: AnnData, key: str, copy: bool) -> sp.csr_matrix:
    matrix = require_key(adata.obsp, key, "adata.obsp", "Part of the kernel is missing; write it anew.")
    return stochastic(matrix, adata.n_obs, f"adata.obsp[{key!r}]", copy)
