"""Labels of which some may be wrong: the likeliest share against SciPy, and what it does to a fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxvelo.fit._label_likelihood import LARGEST_SHARE, label_losses, likeliest_share
from tests.finite_differences import check_gradient
from tests.fit.problems import N_CELLS, loss, moved, problem_of
from tests.transitions.examples import default

TOLERANCE = 1e-10 if jax.config.jax_enable_x64 else 2e-5
N_LABELS, N_CLASSES = 400, 3


def labels(blind, seed=0):
    """Probabilities of labels, of which a share was given blindly, and weights."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(N_CLASSES, 0.3), N_LABELS)
    right = (rng.random((N_LABELS, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    label = np.where(rng.random(N_LABELS) < blind, rng.integers(0, N_CLASSES, N_LABELS), right)
    return probabilities[np.arange(N_LABELS), label], np.full(N_LABELS, 1 / N_CLASSES), rng.random(N_LABELS)


def plain_losses(share, probability, blind):
    resolution = np.finfo(jnp.result_type(float)).eps
    return -np.log((1 - share) * np.maximum(probability, resolution) + share * blind)


def plain_share(probability, blind, weight):
    found = minimize_scalar(
        lambda share: weight @ plain_losses(share, probability, blind),
        bounds=(0, LARGEST_SHARE),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return found.x


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
def test_the_likeliest_share(share):
    data = labels(share, seed=3)
    found = float(likeliest_share(*map(default, data)))
    np.testing.assert_allclose(found, plain_share(*data), atol=1e-4)
    assert abs(found - share) < 0.15
    expected = plain_losses(plain_share(*data), *data[:2])
    np.testing.assert_allclose(label_losses(*map(default, data), None), expected, rtol=0, atol=1e-3)
    given = label_losses(*map(default, data), share)
    np.testing.assert_allclose(given, plain_losses(share, *data[:2]), rtol=0, atol=TOLERANCE)


def test_shares_at_the_limits():
    """None where labels are explained, or say nothing; the largest where they are worse than blind ones."""
    one = jnp.ones(5)
    for probability, blind, expected in (
        (0.9, 0.5, 0),
        (0.5, 0.5, 0),
        (0.3, 0.5, LARGEST_SHARE),
        (0, 0.5, LARGEST_SHARE),
    ):
        share, slope = jax.value_and_grad(likeliest_share)(probability * one, blind * one, one)
        np.testing.assert_allclose(float(share), expected, rtol=1e-6)
        assert np.all(np.asarray(slope) == 0)


def total_loss(logits, blind, weight):
    return weight @ label_losses(jax.nn.sigmoid(logits), blind, weight, None)


def slope_along(logits, direction, *data):
    return jax.grad(total_loss)(logits, *data) @ direction


def part_loss(logits, blind, weight):
    """Of half of the labels, for the share of all of them: its slope by the share is not zero."""
    return weight[::2] @ label_losses(jax.nn.sigmoid(logits), blind, weight, None)[::2]


def test_derivatives_are_those_of_a_share_that_is_fitted_along():
    probability, blind, weight = map(default, labels(0.4))
    logits = jnp.log(probability + 0.01) - jnp.log(1.01 - probability)
    direction = default(np.random.default_rng(1).normal(size=N_LABELS))
    check_gradient(total_loss, logits, arguments=(blind, weight))
    check_gradient(part_loss, logits, arguments=(blind, weight))
    check_gradient(slope_along, logits, arguments=(direction, blind, weight))


@eqx.filter_jit
def item_losses(problem, parameters):
    return problem.item_losses(parameters)


@eqx.filter_jit
def share_of(problem, parameters):
    (transition_function,) = problem.transition_functions(parameters)
    return problem.objective.blind_share((transition_function(problem.graph, problem.features),))


@pytest.mark.parametrize("name", ["fate", "future"])
def test_gradients_of_objectives(name):
    problem = problem_of(name)
    # Labels at random would all be blind: those that are likely count more.
    likely = jnp.exp(-item_losses(problem, moved(problem.parametrization.start()))[0][0])
    weight = jnp.where(likely > jnp.median(likely), 1, 0.5).astype(likely.dtype)
    problem = eqx.tree_at(lambda p: p.objective.weight, problem, weight)
    fitted = eqx.tree_at(lambda p: p.objective.blind, problem, None)
    parameters = moved(problem.parametrization.start())
    share = float(share_of(fitted, parameters))
    assert 0.1 < share < 0.88
    given = eqx.tree_at(lambda p: p.objective.blind, problem, share)
    cells = jnp.ones(N_CELLS)
    both = [float(loss(parameters, p, cells)) for p in (fitted, given, problem)]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-5)
    assert both[0] < both[2]
    if jax.config.jax_enable_x64:
        check_gradient(loss, parameters, arguments=(fitted, default(np.arange(N_CELLS) % 4 != 1)))
