"""The optimiser alone, on functions whose minima are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxvelo.fit import quasi_newton
from tests.transitions.examples import default

DOUBLE = jax.config.jax_enable_x64


def rosenbrock(x):
    return 1 + jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def bowl(x):
    return 1 + jnp.sum(jnp.logspace(0, 3, 30, dtype=x.dtype) * (x - 1) ** 2)


def edged(x):
    """Nothing beyond three, where a first large step leads."""
    return jnp.where(jnp.abs(x[0]) < 3, 2 + jnp.sum((x - 2.9) ** 4), jnp.nan)


def hill(x):
    """Concave at the start."""
    return 2 - jnp.sum(jnp.exp(-((x - 4) ** 2) / 2))


def descend(function, start, limit=300):
    """Parameters, losses and whether the optimiser says that it has ended."""
    optimizer, parameters, losses = quasi_newton(), {"a": start}, []
    state = optimizer.init(parameters)
    update = jax.jit(lambda g, s, p, v: optimizer.update(g, s, p, value=v))
    evaluate = jax.jit(jax.value_and_grad(lambda p: function(p["a"])))
    while not state.ended and len(losses) < limit:
        value, gradient = evaluate(parameters)
        losses.append(float(value))
        updates, state = update(gradient, state, parameters, value)
        parameters = optax.apply_updates(parameters, updates)
    return parameters["a"], losses, bool(state.ended)


@pytest.mark.parametrize(
    ("function", "start", "minimum", "most"),
    [
        (rosenbrock, [-1.2, 1.0], 1, 80),
        (bowl, np.zeros(30), 1, 140),
        (edged, [-2.0], 2, 60),
        (hill, [1.0], 1, 25),
        (lambda x: jnp.sum(0 * x), [1.0], 0, 1),
    ],
    ids=["rosenbrock", "bowl", "edged", "hill", "flat"],
)
def test_minima_are_found_in_few_steps(function, start, minimum, most):
    found, losses, ended = descend(function, default(start))
    assert ended
    assert len(losses) <= most
    np.testing.assert_allclose(np.nanmin(losses), minimum, rtol=1e-5)
    assert jnp.isfinite(function(found))


@pytest.mark.skipif(not DOUBLE, reason="single precision ends earlier")
def test_as_few_steps_as_scipy_takes():
    start = np.tile([-1.2, 1.0], 10)
    _, losses, ended = descend(rosenbrock, default(start))
    other = scipy.optimize.minimize(jax.jit(jax.value_and_grad(rosenbrock)), start, jac=True, method="L-BFGS-B")
    assert ended
    assert len(losses) < 1.5 * other.nfev
    np.testing.assert_allclose(min(losses), 1, rtol=1e-6)


@pytest.mark.cpu_only(reason="to the last bit, of two programs")
def test_units_of_the_loss_play_no_part():
    one, losses, _ = descend(rosenbrock, default([-1.2, 1.0]), 20)
    other, scaled, _ = descend(lambda x: 1024 * rosenbrock(x), default([-1.2, 1.0]), 20)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(1024 * np.array(losses), scaled)
