"""What a transition matrix tells: random walks, arrows in an embedding, fates, agreement with known transitions."""

from jaxvelo.markov._absorbing_chain import Outcome
from jaxvelo.markov._absorption import Absorption, absorption_probabilities
from jaxvelo.markov._metrics import (
    boundary_directions,
    cross_boundary_correctness,
    expected_displacement,
    row_correlation,
)
from jaxvelo.markov._projection import project
from jaxvelo.markov._reachability import cannot_reach
from jaxvelo.markov._stationary import closed_classes, stationary_distributions
from jaxvelo.markov._walks import random_walks, sample_starts

__all__ = [
    "Absorption",
    "Outcome",
    "absorption_probabilities",
    "boundary_directions",
    "cannot_reach",
    "closed_classes",
    "cross_boundary_correctness",
    "expected_displacement",
    "project",
    "random_walks",
    "row_correlation",
    "sample_starts",
    "stationary_distributions",
]
