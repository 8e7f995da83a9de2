"""Cells that several files of tests look at."""

import pytest

from jaxvelo import tl
from tests.tl.come_and_go import moments
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


@pytest.fixture(scope="module")
def untouched():
    """Cells whose genes come and go."""
    return moments()


@pytest.fixture(scope="module")
def fitted(untouched):
    """Half of these genes fitted."""
    adata = untouched.copy()
    tl.recover_dynamics(adata, "chosen", standard_errors=True, show_progress_bar=False)
    return adata
