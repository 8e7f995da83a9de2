"""Objectives of a fit, built from the keys of an AnnData object.

Each function checks what it reads, and returns an objective of :mod:`jaxvelo.fit`, a pure function of arrays.
Objectives are added, subtracted, and multiplied and divided by numbers: ``FateLikelihood(...) + 0.1 * TimeGain(...)``,
``sum(objectives) / 3``. A new one is a subclass of :class:`jaxvelo.fit.Objective`; what builds it from keys is one more
file here, and a line in this list.
"""

from jaxvelo.fitting.objectives._cross_boundary import CrossBoundary
from jaxvelo.fitting.objectives._fate_likelihood import FateLikelihood
from jaxvelo.fitting.objectives._fate_proportions import FateProportions
from jaxvelo.fitting.objectives._function_of import FunctionOf
from jaxvelo.fitting.objectives._future_likelihood import FutureLikelihood
from jaxvelo.fitting.objectives._held_out_velocity import HeldOutVelocity
from jaxvelo.fitting.objectives._time_gain import TimeGain

__all__ = [
    "CrossBoundary",
    "FateLikelihood",
    "FateProportions",
    "FunctionOf",
    "FutureLikelihood",
    "HeldOutVelocity",
    "TimeGain",
]
