"""Cells and fits that several files of tests look at."""

import numpy as np
import pytest

from jaxvelo import objectives, tl
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.bent_line import make_cells
from tests.fitting.fits import QUICK, dense
from tests.fitting.known_fates import make_known
from tests.snapshot import unchanged


@pytest.fixture(scope="session")
def known():
    return make_known()


@pytest.fixture(scope="session")
def velocity(known):
    return VelocityKernel(known).compute_transition_matrix()


@pytest.fixture(scope="session")
def velocity2(known):
    return VelocityKernel(known, vkey="velocity2").compute_transition_matrix(similarity="cosine", softmax_scale=3.0)


@pytest.fixture(scope="session")
def connectivity(known):
    return ConnectivityKernel(known).compute_transition_matrix()


@pytest.fixture(scope="session")
def mixed(velocity, connectivity):
    return 0.8 * velocity + 0.2 * connectivity


@pytest.fixture(scope="session")
def fates(known):
    """With certain labels, so that the loss of some cells depends on their own labels alone."""
    return objectives.FateLikelihood(known, "fate", "terminal", blind=0)


@pytest.fixture(scope="session")
def gain(known):
    return objectives.TimeGain(known, "pseudotime")


@pytest.fixture(scope="session")
def plain_fit(mixed, fates):
    """The fit of scale and weights."""
    with unchanged(mixed.adata):
        before = repr(mixed), dense(mixed)
        result = tl.fit_kernel(mixed, fates, **QUICK)
        assert repr(mixed) == before[0]
        np.testing.assert_array_equal(dense(mixed), before[1])
    return result


@pytest.fixture(scope="session")
def genes_fit(mixed, fates):
    """The fit of everything, with the penalty chosen."""
    with unchanged(mixed.adata):
        return tl.fit_kernel(mixed, fates, train=["scale", "weights", "gene_weights"], **QUICK)


@pytest.fixture(scope="session")
def cluster_fit(mixed, fates):
    return tl.fit_kernel(mixed, fates, train={"scale": "clusters", "weights": "label"}, **QUICK)


@pytest.fixture(scope="session")
def smooth_fit(mixed, fates):
    return tl.fit_kernel(mixed, fates, train={"scale": "smooth", "weights": "smooth"}, **QUICK)


@pytest.fixture(scope="session")
def unvalidated_fit(mixed, gain):
    """No cells held out, and no likelihood: scores and histories of NaNs, nothing where the errors would be."""
    return tl.fit_kernel(mixed, gain, validation=None, **QUICK)


@pytest.fixture
def cells():
    return make_cells()


@pytest.fixture(scope="module")
def kernel():
    return VelocityKernel(make_cells()).compute_transition_matrix()


@pytest.fixture(scope="module")
def matrix(kernel):
    return kernel.transition_matrix.toarray()
