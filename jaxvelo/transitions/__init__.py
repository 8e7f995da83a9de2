"""Transition matrices from graph and features, as differentiable expressions."""

from jaxvelo.transitions._algebra import Role, factors_of_product, terms_of_sum, with_weight
from jaxvelo.transitions._connectivity import Connectivity, Precomputed
from jaxvelo.transitions._expression import Expression, Product, Scaled, Sum
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._fixed_logits import FixedLogits, FixedProbabilities, fix_logits
from jaxvelo.transitions._similarity import SIMILARITIES
from jaxvelo.transitions._softmax_scale import automatic_softmax_scale
from jaxvelo.transitions.velocity import BACKWARD_MODES, MODELS, Velocity, evaluate_logits, evaluate_velocity

__all__ = [
    "BACKWARD_MODES",
    "MODELS",
    "SIMILARITIES",
    "Connectivity",
    "Expression",
    "Features",
    "FixedLogits",
    "FixedProbabilities",
    "Precomputed",
    "Product",
    "Role",
    "Scaled",
    "Sum",
    "Velocity",
    "automatic_softmax_scale",
    "evaluate_logits",
    "evaluate_velocity",
    "factors_of_product",
    "fix_logits",
    "terms_of_sum",
    "with_weight",
]
