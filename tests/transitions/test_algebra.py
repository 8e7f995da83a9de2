"""CellRank's rules of adding and multiplying: who joins whom, with which weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.transitions import Connectivity, Product, Scaled, Velocity
from jaxvelo.transitions._algebra import Role

V, C = Velocity(2.0), Connectivity()

ROLES = {
    "basic": (V, Role.BASIC),
    "weighted": (2 * V, Role.WEIGHTED),
    "weighted sum": (2 * (V + C), Role.WEIGHTED),
    "product": (V * C, Role.PRODUCT),
    "sum": (V + C, Role.SUM_OF_WEIGHTED),
    "sum with a product": (V * C + C, Role.SUM),
    "sum of products": (V * C + C * C, Role.SUM),
}


@pytest.mark.parametrize("name", ROLES)
def test_roles(name):
    transition_function, role = ROLES[name]
    assert transition_function.role is role


TERMS = {
    "two": (V + C, [1, 1], [Velocity, Connectivity]),
    "a term joins a sum": ((V + 2 * C) + 3 * V, [1, 2, 3], [Velocity, Connectivity, Velocity]),
    "from either side, as the last": (3 * V + (V + 2 * C), [1, 2, 3], [Velocity, Connectivity, Velocity]),
    "without a weight, with the weight one": ((2 * V + 2 * C) + C, [2, 2, 1], [Velocity, Connectivity, Connectivity]),
    "a product does not join": ((V + C) + V * C, [1, 1], [type(V + C), Product]),
    "nor does a sum": ((V + C) + (V + C), [1, 1], [type(V + C)] * 2),
    "no one joins a sum with a product": ((V * C + C) + C, [1, 1], [type(V + C), Connectivity]),
}


@pytest.mark.parametrize("name", TERMS)
def test_terms_of_sums(name):
    total, weights, kinds = TERMS[name]
    np.testing.assert_array_equal(np.asarray(total.weights), weights)
    assert [type(child) for child in total.children] == kinds


def test_weights_in_front():
    twice = 2 * (3 * V)
    assert isinstance(twice, Scaled)
    assert float(twice.weight) == 6
    assert twice.child is V
    product = (2 * V) * (3 * C)
    assert product.children == (V, C)
    assert product.normalized
    bare, _ = (V * C + C).children
    assert not bare.normalized
    first, second = (V * C + C * C).children
    assert first.normalized
    assert second.normalized


def test_sums_of_lists():
    total = sum([0.3 * V, 0.5 * C, 0.2 * V])
    np.testing.assert_allclose(np.asarray(total.weights), [0.3, 0.5, 0.2], rtol=1e-6)
    assert total.children == (V, C, V)
    assert sum([V]) is V
    assert sum([V, C]).children == (V + C).children
    for other in (1, 0.5, True, False, None, []):
        with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
            other + V


def test_quotients():
    for divisor in (4, 4.0, np.float32(4), np.int64(4), jnp.asarray(4), jnp.asarray(4.0)):
        quotient = V / divisor
        assert isinstance(quotient, Scaled)
        assert quotient.child is V
        assert float(quotient.weight) == 0.25
        assert quotient.weight.dtype == jnp.asarray(0.5).dtype
    assert float(((3 * V) / 2).weight) == 1.5
    assert ((V + C) / 2).child.children == (V, C)
    for divisors in (np.array([1, 2, 4]), np.array([1.0, 2.0, 4.0], dtype=np.float32), jnp.asarray([1.0, 2.0, 4.0])):
        np.testing.assert_array_equal(np.asarray((V / divisors).weight), [1, 0.5, 0.25])
    slope = jax.grad(lambda divisor: (V / divisor).weight)(2.0)
    assert float(slope) == -0.25
    for divisor in (0, 0.0, np.float64(0), jnp.asarray(0.0), np.array([1.0, 0.0])):
        with pytest.raises(ValueError, match="divided by positive numbers, found 0"):
            V / divisor
    for quotient in (lambda: V / C, lambda: 2 / V, lambda: np.ones(3) / V, lambda: V / "2", lambda: V / True):
        with pytest.raises(TypeError, match="unsupported operand"):
            quotient()


def test_no_differences():
    for difference in (
        lambda: V - C,
        lambda: -V,
        lambda: V - 0.5 * C,
        lambda: V - 1,
        lambda: 1 - V,
        lambda: np.ones(3) - V,
    ):
        with pytest.raises(TypeError, match=r"found a difference: weights are positive.*`0.8 \* a \+ 0.2 \* b`"):
            difference()
