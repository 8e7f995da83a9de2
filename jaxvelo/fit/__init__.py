"""Kernel parameters by gradient descent: objectives over arrays, and the optimiser loop."""

from jaxvelo.fit._clustered_covariance import clustered_covariance
from jaxvelo.fit._cross_boundary import CrossBoundary
from jaxvelo.fit._evaluation import DescentSetting
from jaxvelo.fit._fate_likelihood import FateLikelihood
from jaxvelo.fit._fate_proportions import FateProportions
from jaxvelo.fit._future_likelihood import FutureLikelihood
from jaxvelo.fit._held_out_velocity import HeldOutVelocity
from jaxvelo.fit._laplace import laplace_covariance, standard_errors
from jaxvelo.fit._minimize import DescentState, LossHistory, minimize
from jaxvelo.fit._objective import FunctionOf, LinearCombination, Loss, Objective, coefficients_of, terms_of
from jaxvelo.fit._parameters import (
    GENE_WEIGHT_PENALTIES,
    TRAINABLE,
    LevelsOrFunctions,
    Parameters,
    Parametrization,
    free_leaves,
    readable_name,
    velocity_terms,
    weighted_sums,
)
from jaxvelo.fit._problem import Problem, with_scales
from jaxvelo.fit._quasi_newton import quasi_newton
from jaxvelo.fit._smooth_functions import smooth_functions
from jaxvelo.fit._sweep import sweep
from jaxvelo.fit._time_gain import TimeGain

__all__ = [
    "GENE_WEIGHT_PENALTIES",
    "TRAINABLE",
    "CrossBoundary",
    "DescentSetting",
    "DescentState",
    "FateLikelihood",
    "FateProportions",
    "FunctionOf",
    "FutureLikelihood",
    "HeldOutVelocity",
    "LevelsOrFunctions",
    "LinearCombination",
    "Loss",
    "LossHistory",
    "Objective",
    "Parameters",
    "Parametrization",
    "Problem",
    "TimeGain",
    "clustered_covariance",
    "coefficients_of",
    "free_leaves",
    "laplace_covariance",
    "minimize",
    "quasi_newton",
    "readable_name",
    "smooth_functions",
    "standard_errors",
    "sweep",
    "terms_of",
    "velocity_terms",
    "weighted_sums",
    "with_scales",
]
