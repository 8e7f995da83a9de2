"""The objective of one's own has the loss that its formula says, a gradient, and is fitted."""

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxvelo as jv
from tests.bent_line import make_cells
from tests.examples.staying_objective import StayingInClusters
from tests.finite_differences import check_gradient


@pytest.fixture(scope="module")
def kernel():
    adata = make_cells()
    velocity = jv.kernels.VelocityKernel(adata).compute_transition_matrix(softmax_scale=2.0)
    return 0.8 * velocity + 0.2 * jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()


@pytest.fixture(scope="module")
def objective(kernel):
    return StayingInClusters(kernel.adata, ["late"], "clusters")


def loss(transition_function, objective, graph, features):
    return objective(transition_function, graph, features, jax.random.key(0))


def test_formula(kernel, objective):
    late = (kernel.adata.obs["clusters"] == "late").to_numpy()
    staying = kernel.transition_matrix.toarray()[late][:, late].sum(axis=1)
    found = eqx.filter_jit(loss)(kernel.transition_function, objective, kernel.graph, kernel.features)
    np.testing.assert_allclose(found, -np.log(staying).mean(), rtol=1e-5)


def test_gradient(kernel, objective):
    check_gradient(loss, kernel.transition_function, arguments=(objective, kernel.graph, kernel.features))


@pytest.mark.any_precision
def test_it_is_fitted(kernel, objective):
    result = jv.tl.fit_kernel(kernel, objective, steps=5, validation=None, progress=False)
    assert result.scores["training"] < result.scores["training_convention"]


@pytest.mark.any_precision
def test_clusters_that_are_not_there(kernel):
    with pytest.raises(ValueError, match=r"found \['Late'\]. There are \['early', 'middle', 'late'\]"):
        StayingInClusters(kernel.adata, ["Late"], "clusters")
