"""Quantities that pictures show, computed elsewhere and known as names of :mod:`jaxvelo.pl` too."""

from jaxvelo.annotated.count_proportions import count_proportions
from jaxvelo.markov import cluster_proportions, compute_flow

__all__ = ["cluster_proportions", "compute_flow", "count_proportions"]
