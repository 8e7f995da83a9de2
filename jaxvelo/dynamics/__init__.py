"""From counts to velocities: moments over neighbourhoods and the steady-state models of splicing.

Pure functions over arrays; :func:`jaxvelo.pp.moments` and :func:`jaxvelo.tl.velocity` apply them to an AnnData.
"""

from jaxvelo.dynamics.moments import first_moments, neighborhood_weights, second_moments
from jaxvelo.dynamics.steady_state import (
    SteadyState,
    StochasticSteadyState,
    steady_state,
    stochastic_steady_state,
)

__all__ = [
    "SteadyState",
    "StochasticSteadyState",
    "first_moments",
    "neighborhood_weights",
    "second_moments",
    "steady_state",
    "stochastic_steady_state",
]
