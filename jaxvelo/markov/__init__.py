"""What a transition matrix tells: random walks, arrows in an embedding, fates, flow, known transitions."""

from jaxvelo.markov._absorbing_chain import Outcome
from jaxvelo.markov._absorption import Absorption, absorption_probabilities
from jaxvelo.markov._absorption_times import AbsorptionTimes, absorption_times
from jaxvelo.markov._closed_classes import closed_classes
from jaxvelo.markov._coarse_graining import CoarseGraining, coarse_grain, min_chi
from jaxvelo.markov._fate_scores import FateScores, Reliability, fate_scores
from jaxvelo.markov._flow import cluster_proportions, compute_flow, mass_between_clusters
from jaxvelo.markov._metrics import (
    boundary_directions,
    cross_boundary_correctness,
    expected_displacement,
    row_correlation,
)
from jaxvelo.markov._projection import project
from jaxvelo.markov._reachability import cannot_reach
from jaxvelo.markov._schur import Schur, eigengap, schur
from jaxvelo.markov._stationary import stationary_distribution
from jaxvelo.markov._stopped_chain import stopped_distribution
from jaxvelo.markov._visits import expected_visits
from jaxvelo.markov._walks import random_walks, sample_starts

__all__ = [
    "Absorption",
    "AbsorptionTimes",
    "CoarseGraining",
    "FateScores",
    "Outcome",
    "Reliability",
    "Schur",
    "absorption_probabilities",
    "absorption_times",
    "boundary_directions",
    "cannot_reach",
    "closed_classes",
    "cluster_proportions",
    "coarse_grain",
    "compute_flow",
    "cross_boundary_correctness",
    "eigengap",
    "expected_displacement",
    "expected_visits",
    "fate_scores",
    "mass_between_clusters",
    "min_chi",
    "project",
    "random_walks",
    "row_correlation",
    "sample_starts",
    "schur",
    "stationary_distribution",
    "stopped_distribution",
]
