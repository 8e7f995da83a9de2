"""Kernels on AnnData objects, with CellRank's names."""

from jaxvelo.kernels._annotated import from_adata
from jaxvelo.kernels._combination import Combination, Constant, KernelAdd, KernelMul
from jaxvelo.kernels._connectivity_kernel import ConnectivityKernel
from jaxvelo.kernels._files import read
from jaxvelo.kernels._kernel import Kernel, KernelExpression
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
