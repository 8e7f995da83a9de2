"""Fits of kernels on AnnData: the best parameters, losses over a grid, and what to make small."""

from jaxvelo.fitting._fit_kernel import fit_kernel
from jaxvelo.fitting._fit_result import FitResult
from jaxvelo.fitting._sweep_kernel import SweepResult, sweep_kernel

__all__ = ["FitResult", "SweepResult", "fit_kernel", "sweep_kernel"]
