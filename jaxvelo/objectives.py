"""Objectives of a fit, built from the keys of an AnnData object; see :mod:`jaxvelo.fitting.objectives`."""

from jaxvelo.fitting.objectives import (
    CrossBoundary,
    FateLikelihood,
    FunctionOf,
    FutureLikelihood,
    HeldOutVelocity,
    TimeGain,
)

__all__ = [
    "CrossBoundary",
    "FateLikelihood",
    "FunctionOf",
    "FutureLikelihood",
    "HeldOutVelocity",
    "TimeGain",
]
