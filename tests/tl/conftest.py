"""Cells with known fates, times and clones to fit kernels to."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo import objectives
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.kernels.conftest import N_CELLS, closed, logged, make_cells  # noqa: F401


def make_known():
    """Cells on a line with two ends; which of them the cells in between go to is known, but for every fifth."""
    adata = make_cells()
    number = np.arange(N_CELLS)
    ends = np.where(number < 4, "begin", np.where(number >= N_CELLS - 4, "end", None))
    fate = np.where(number < 20, "begin", "end").astype(object)
    fate[number % 5 == 0] = None
    adata.obs["terminal"] = pd.Categorical(ends, ["begin", "end"])
    adata.obs["fate"] = pd.Categorical(fate, ["begin", "end"])
    return adata


@pytest.fixture(scope="session")
def known():
    return make_known()


@pytest.fixture(scope="session")
def velocity(known):
    return VelocityKernel(known).compute_transition_matrix()


@pytest.fixture(scope="session")
def connectivity(known):
    return ConnectivityKernel(known).compute_transition_matrix()


@pytest.fixture(scope="session")
def mixed(velocity, connectivity):
    return 0.8 * velocity + 0.2 * connectivity


@pytest.fixture(scope="session")
def fates(known):
    return objectives.FateLikelihood(known, "fate", "terminal")


@pytest.fixture(scope="session")
def gain(known):
    return objectives.TimeGain(known, "pseudotime")
