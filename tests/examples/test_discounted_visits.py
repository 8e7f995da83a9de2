"""The solver of one's own solves its equation, bounds its error, and has derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvelo as jv
from tests.bent_line import N_CELLS, make_cells
from tests.examples.discounted_visits import discounted_visits
from tests.finite_differences import check_gradient


@pytest.fixture(scope="module")
def kernel():
    return jv.kernels.VelocityKernel(make_cells()).compute_transition_matrix(softmax_scale=2.0)


@pytest.fixture(scope="module")
def start():
    return jnp.zeros(N_CELLS).at[:5].set(0.2)


def test_equation(kernel, start):
    found = discounted_visits(kernel.transitions, start)
    matrix = kernel.transition_matrix.toarray()
    expected = np.linalg.solve((np.eye(N_CELLS) - 0.9 * matrix).T, 0.1 * np.asarray(start, dtype=float))
    assert np.abs(found.distribution - expected).sum() <= found.error <= 1e-4
    np.testing.assert_allclose(found.distribution.sum(), 1, rtol=1e-5)


@pytest.mark.any_precision
def test_what_is_not_known_is_nan(kernel, start):
    found = discounted_visits(kernel.transitions, start, 0.999, max_steps=3)
    assert found.error > 0.1
    assert np.isnan(found.distribution).all()


def test_gradient(kernel, start):
    def share_of_late_cells(function, graph, features, start):
        mu = discounted_visits(function(graph, features), start, tolerance=1e-12).distribution
        return jnp.sum(mu[N_CELLS // 2 :])

    check_gradient(
        share_of_late_cells,
        kernel.transition_function,
        arguments=(kernel.graph, kernel.features, start),
    )


@pytest.mark.any_precision
def test_no_memory_of_the_steps(kernel, start):
    """Derivatives do not go through the iteration: a reverse pass through a loop of unknown length would fail."""
    jax.grad(lambda eta: discounted_visits(kernel.transitions, eta).distribution[-1])(start)
