"""Cells that several files of tests look at."""

import pytest

from jaxvelo import tl
from tests.trajectory import simulated


@pytest.fixture(scope="session")
def with_velocity_graph():
    """Simulated cells with times and a velocity graph."""
    adata = simulated(150, 32)
    tl.velocity_graph(adata)
    return adata


@pytest.fixture
def adata(with_velocity_graph):
    """A copy that a test may change."""
    return with_velocity_graph.copy()
