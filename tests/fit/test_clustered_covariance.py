"""Standard errors where items of one group depend on each other: against the formula, by finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxvelo.fit import clustered_covariance
from tests.fit.problems import N_CELLS, moved, problem_of

needs_float64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need float64")
CELLS, GROUPS = np.arange(N_CELLS) % 3 > 0, np.arange(N_CELLS) // 7


@pytest.fixture(scope="module")
def problem():
    return problem_of("fate")


@eqx.filter_jit
def item_losses(problem, flat, unravel):
    return problem.item_losses(unravel(flat))[0][0]


@needs_float64
def test_sandwich(problem):
    parameters = moved(problem.parametrization.start())
    flat, unravel = ravel_pytree(parameters)
    step, gradients = 1e-5, []
    for direction in np.eye(len(flat)):
        ahead, behind = (item_losses(problem, flat + sign * step * direction, unravel) for sign in (1, -1))
        gradients.append((np.asarray(ahead) - np.asarray(behind)) / (2 * step))
    gradients = np.stack(gradients, axis=1)
    cell, weight = np.asarray(problem.objective.cell), np.asarray(problem.objective.weight)
    sums = [
        sum(weight[i] * gradients[i] for i in np.flatnonzero(CELLS[cell] & (GROUPS[cell] == group)))
        for group in sorted(set(GROUPS[cell[CELLS[cell]]]))
    ]
    deviations = np.array(sums) - np.mean(sums, axis=0)
    middle = sum(np.outer(deviation, deviation) for deviation in deviations) * len(sums) / (len(sums) - 1)
    inverse = np.array([[0.5, 0.1], [0.1, 0.2]])
    found = clustered_covariance(problem, parameters, CELLS, GROUPS, jnp.asarray(inverse))
    np.testing.assert_allclose(found, inverse @ middle @ inverse, rtol=1e-6)


def test_one_group_says_nothing(problem):
    parameters = problem.parametrization.start()
    found = clustered_covariance(problem, parameters, CELLS, np.zeros(N_CELLS, int), jnp.eye(2))
    assert np.isnan(found).all()
