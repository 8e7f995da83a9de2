"""Transition matrices from graph and features, as differentiable transition functions."""

from jaxvelo.transitions._along_pseudotime import SCHEMES, Pseudotime, in_parts, strength_order
from jaxvelo.transitions._between_times import RealTime
from jaxvelo.transitions._connectivity import Connectivity, Precomputed
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._fixed_logits import FixedLogits, FixedProbabilities, fix_logits
from jaxvelo.transitions._similarity import SIMILARITIES
from jaxvelo.transitions._softmax_scale import automatic_softmax_scale
from jaxvelo.transitions._transition_function import Product, Scaled, Sum, TransitionFunction
from jaxvelo.transitions.velocity import BACKWARD_MODES, MODELS, Velocity, evaluate_logits, evaluate_velocity

__all__ = [
    "BACKWARD_MODES",
    "MODELS",
    "SCHEMES",
    "SIMILARITIES",
    "Connectivity",
    "Features",
    "FixedLogits",
    "FixedProbabilities",
    "Precomputed",
    "Product",
    "Pseudotime",
    "RealTime",
    "Scaled",
    "Sum",
    "TransitionFunction",
    "Velocity",
    "automatic_softmax_scale",
    "evaluate_logits",
    "evaluate_velocity",
    "fix_logits",
    "in_parts",
    "strength_order",
]
