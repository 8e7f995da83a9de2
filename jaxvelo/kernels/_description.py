"""Kernels as nested dictionaries of plain values, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.kernels._combination import Combination, Constant, KernelAdd, KernelMul
from jaxvelo.kernels._connectivity_kernel import ConnectivityKernel
from jaxvelo.kernels._kernel import Kernel, KernelExpression
from jaxvelo.kernels._precomputed_kernel import PrecomputedKernel
from jaxvelo.kernels._velocity_kernel import VelocityKernel

KERNELS: dict[str, type[Kernel]] = {k.__name__: k for k in (VelocityKernel, ConnectivityKernel, PrecomputedKernel)}
COMBINATIONS: dict[str, type[Combination]] = {k.__name__: k for k in (KernelAdd, KernelMul)}


def describe(kernel: KernelExpression) -> dict[str, Any]:
    """Describe a kernel by strings, numbers and arrays; basic kernels are numbered as in ``kernel.kernels``."""
    numbers = {id(k): i for i, k in enumerate(kernel.kernels)}

    def walk(part: KernelExpression) -> dict[str, Any]:
        if isinstance(part, Constant):
            return {"type": "Constant", "value": part.value}
        if isinstance(part, Combination):
            parts = {str(i): walk(p) for i, p in enumerate(part.parts)}
            return {"type": type(part).__name__, "parts": parts}
        assert isinstance(part, Kernel)
        return {
            "type": type(part).__name__,
            "number": numbers[id(part)],
            "init": without_none(part.init),
            "params": without_none(part.params),
        }

    return walk(kernel)


def build(
    description: dict[str, Any], adata: AnnData, matrix_of: Callable[[int], sp.csr_matrix | None]
) -> KernelExpression:
    """Build the kernel that was described.

    Parameters
    ----------
    description
        What :func:`describe` gave.
    adata
        Annotated data.
    matrix_of
        Gives the transition matrix of a basic kernel by its number; ``None`` if it had not been computed.
    """
    known: dict[int, Kernel] = {}

    def walk(part: dict[str, Any]) -> KernelExpression:
        name = str(part["type"])
        if name == "Constant":
            return Constant(adata, np.asarray(part["value"], dtype=np.float64))
        if name in COMBINATIONS:
            parts = part["parts"]
            return COMBINATIONS[name](*(walk(parts[str(i)]) for i in range(len(parts))))
        if name not in KERNELS:
            raise ValueError(f"Expected a kernel of type {sorted(KERNELS)}, found `{name}`. Update jaxvelo to read it.")
        number = int(part["number"])
        if number not in known:
            known[number] = restore(KERNELS[name], adata, part["init"], part["params"], matrix_of(number))
        return known[number]

    return walk(description)


def restore(
    cls: type[Kernel], adata: AnnData, init: dict[str, Any], params: dict[str, Any], matrix: sp.csr_matrix | None
) -> Kernel:
    """Make a basic kernel from stored arguments, with its transition matrix."""
    init = plain(init)
    init.pop("check_symmetric", None)  # an argument of CellRank; here the check is always made
    if cls is PrecomputedKernel:
        if matrix is None:
            raise ValueError(
                "Expected the transition matrix of a `PrecomputedKernel`, found none. Write the kernel anew."
            )
        kernel: Kernel = PrecomputedKernel(matrix, adata=adata, backward=init.pop("backward", None))
        kernel.init = {**init, **kernel.init}
    else:
        kernel = cls(adata, **init)
    if matrix is not None:
        kernel.restore(matrix, plain(params))
    return kernel


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is ``None``, which not all file formats hold; it is the default of every argument."""
    return {k: without_none(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Turn NumPy scalars, as files give them back, into Python's."""
    return {
        k: plain(v) if isinstance(v, dict) else v.item() if isinstance(v, np.generic) else v for k, v in values.items()
    }
