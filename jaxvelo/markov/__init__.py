"""What a transition matrix tells: random walks, arrows in an embedding, agreement with known transitions."""

from jaxvelo.markov._metrics import cross_boundary_correctness
from jaxvelo.markov._projection import project
from jaxvelo.markov._walks import random_walks, sample_starts

__all__ = ["cross_boundary_correctness", "project", "random_walks", "sample_starts"]
