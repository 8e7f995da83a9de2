"""Tools on AnnData objects and kernels: velocities under scVelo's names, and fits of kernels."""

from jaxvelo.tl._fit_kernel import fit_kernel
from jaxvelo.tl._fit_result import FitResult
from jaxvelo.tl._sweep_kernel import SweepResult, sweep_kernel
from jaxvelo.tl._velocity import velocity

__all__ = ["FitResult", "SweepResult", "fit_kernel", "sweep_kernel", "velocity"]
