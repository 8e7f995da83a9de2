"""Kernels on AnnData objects, with CellRank's names.

A new kernel is one file with a subclass of :class:`Kernel`, or of :class:`NeighborKernel` if its steps follow
neighbours, and one line here.
"""

from jaxvelo.kernels._combination import Combination, KernelAdd, KernelExpression, KernelMul
from jaxvelo.kernels._connectivity_kernel import ConnectivityKernel
from jaxvelo.kernels._cytotrace_kernel import CytoTRACEKernel
from jaxvelo.kernels._kernel import Kernel, from_adata, read
from jaxvelo.kernels._neighbor_kernel import NeighborKernel
from jaxvelo.kernels._precomputed_kernel import PrecomputedKernel
from jaxvelo.kernels._pseudotime_kernel import PseudotimeKernel
from jaxvelo.kernels._real_time_kernel import RealTimeKernel
from jaxvelo.kernels._velocity_kernel import VelocityKernel
from jaxvelo.kernels._weights import Constant

__all__ = [
    "Combination",
    "ConnectivityKernel",
    "Constant",
    "CytoTRACEKernel",
    "Kernel",
    "KernelAdd",
    "KernelExpression",
    "KernelMul",
    "NeighborKernel",
    "PrecomputedKernel",
    "PseudotimeKernel",
    "RealTimeKernel",
    "VelocityKernel",
    "from_adata",
    "read",
]
