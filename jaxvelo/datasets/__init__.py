"""Data to start with: a simulation whose truth is known, and the pancreas data of the tutorial."""

from jaxvelo.datasets._pancreas import PANCREAS_COLORS, pancreas
from jaxvelo.datasets._simulate import simulate
from jaxvelo.datasets._simulate_network import simulate_network
from jaxvelo.datasets._splicing_state import splicing_state

__all__ = ["PANCREAS_COLORS", "pancreas", "simulate", "simulate_network", "splicing_state"]
