"""Kernel parameters by gradient descent: objectives over arrays, and the optimiser loop."""

from jaxvelo.fit._cross_boundary import CrossBoundary
from jaxvelo.fit._fate_likelihood import FateLikelihood
from jaxvelo.fit._future_likelihood import FutureLikelihood
from jaxvelo.fit._held_out_velocity import HeldOutVelocity
from jaxvelo.fit._laplace import laplace_covariance, standard_errors
from jaxvelo.fit._minimize import History, Run, State, minimize
from jaxvelo.fit._objective import FunctionOf, Loss, Objective, Total
from jaxvelo.fit._parameters import PENALTIES, TRAINABLE, Parameters, Parametrization, velocity_terms, weighted_sums
from jaxvelo.fit._problem import Problem, with_scales
from jaxvelo.fit._sweep import sweep
from jaxvelo.fit._time_gain import TimeGain

__all__ = [
    "PENALTIES",
    "TRAINABLE",
    "CrossBoundary",
    "FateLikelihood",
    "FunctionOf",
    "FutureLikelihood",
    "HeldOutVelocity",
    "History",
    "Loss",
    "Objective",
    "Parameters",
    "Parametrization",
    "Problem",
    "Run",
    "State",
    "TimeGain",
    "Total",
    "laplace_covariance",
    "minimize",
    "standard_errors",
    "sweep",
    "velocity_terms",
    "weighted_sums",
    "with_scales",
]
