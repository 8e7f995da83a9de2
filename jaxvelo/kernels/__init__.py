"""Kernels on AnnData objects, with CellRank's names.

A new kernel is one file with a subclass of :class:`Kernel`, and one line here.
"""

from jaxvelo.kernels._combination import Combination, Constant, KernelAdd, KernelExpression, KernelMul
from jaxvelo.kernels._connectivity_kernel import ConnectivityKernel
from jaxvelo.kernels._kernel import Kernel, from_adata, read
from jaxvelo.kernels._precomputed_kernel import PrecomputedKernel
from jaxvelo.kernels._velocity_kernel import VelocityKernel

__all__ = [
    "Combination",
    "ConnectivityKernel",
    "Constant",
    "Kernel",
    "KernelAdd",
    "KernelExpression",
    "KernelMul",
    "PrecomputedKernel",
    "VelocityKernel",
    "from_adata",
    "read",
]
