"""CellRank's rules of adding and multiplying: who joins whom, with which weight."""

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
