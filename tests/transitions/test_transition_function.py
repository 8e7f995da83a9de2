"""Sums and products, with CellRank's rules for weights and normalisation.

Weights of a sum are normalised. A product without a weight stays as it is, not normalised, beside terms that have one.
CellRank 2.0.7 gives the same matrix for 304 random transition functions, those below among them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Connectivity, Features, Precomputed, Product, Sum, Velocity
from tests.transitions import plain
from tests.transitions.examples import default, example

ATOL = 1e-13 if jax.config.jax_enable_x64 else 1e-6


def normalized(matrix):
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def matrices():
    """Three row-stochastic matrices on one pattern that holds the diagonal."""
    rng = np.random.default_rng(0)
    pattern = (rng.random((12, 12)) < 0.5) | np.eye(12, dtype=bool)
    return [normalized(rng.random((12, 12)) * pattern) for _ in range(3)]


# fmt: off
COMBINATIONS = [
    ("a + b", lambda a, b, c: a + b,
     lambda a, b, c: (a + b) / 2),
    ("0.8 a + 0.2 b", lambda a, b, c: 0.8 * a + 0.2 * b,
     lambda a, b, c: 0.8 * a + 0.2 * b),
    ("3 a + b", lambda a, b, c: 3 * a + b,
     lambda a, b, c: (3 * a + b) / 4),
    ("3 a alone", lambda a, b, c: 3 * a,
     lambda a, b, c: a),
    ("2 (3 a) + b", lambda a, b, c: 2 * (3 * a) + b,
     lambda a, b, c: (6 * a + b) / 7),
    ("a term joins a sum", lambda a, b, c: (a + b) + 2 * c,
     lambda a, b, c: (a + b + 2 * c) / 4),
    ("a sum takes a term", lambda a, b, c: 2 * c + (a + b),
     lambda a, b, c: (a + b + 2 * c) / 4),
    ("two sums", lambda a, b, c: (3 * a + b) + (b + c),
     lambda a, b, c: ((3 * a + b) / 4 + (b + c) / 2) / 2),
    ("a sum with a weight", lambda a, b, c: 3 * (a + b) + c,
     lambda a, b, c: (3 * (a + b) / 2 + c) / 4),
    ("a b", lambda a, b, c: a * b,
     lambda a, b, c: normalized(a * b)),
    ("weights in a product", lambda a, b, c: (2 * a) * (3 * b),
     lambda a, b, c: normalized(a * b)),
    ("a b c", lambda a, b, c: a * b * c,
     lambda a, b, c: normalized(a * b * c)),
    ("a sum in a product", lambda a, b, c: (a + b) * c,
     lambda a, b, c: normalized((a + b) * c)),
    ("a bare product", lambda a, b, c: a + a * b,
     lambda a, b, c: normalized(a + a * b)),
    ("a bare product beside weights", lambda a, b, c: 3 * a + a * b,
     lambda a, b, c: normalized(a + a * b)),
    ("a bare product joins", lambda a, b, c: (3 * a + b) + a * c,
     lambda a, b, c: normalized((3 * a + b) / 4 + a * c)),
    ("a bare product of a product", lambda a, b, c: 0.5 * a + (a * b) * c,
     lambda a, b, c: normalized(a + normalized(a * b) * c)),
    ("a product with a weight", lambda a, b, c: 2 * a + 3 * (a * b),
     lambda a, b, c: (2 * a + 3 * normalized(a * b)) / 5),
    ("bare products alone", lambda a, b, c: a * b + a * c,
     lambda a, b, c: (normalized(a * b) + normalized(a * c)) / 2),
    ("bare products, then a term", lambda a, b, c: (a * b + a * c) + b,
     lambda a, b, c: ((normalized(a * b) + normalized(a * c)) / 2 + b) / 2),
    ("a term after a bare product", lambda a, b, c: (a + a * b) + c,
     lambda a, b, c: (normalized(a + a * b) + c) / 2),
    ("weighted products, then a term", lambda a, b, c: (2 * (a * b) + a) + c,
     lambda a, b, c: (2 * normalized(a * b) + a + c) / 4),
]
# fmt: on


@pytest.mark.parametrize(("build", "expect"), [c[1:] for c in COMBINATIONS], ids=[c[0] for c in COMBINATIONS])
def test_combinations(build, expect, matrices):
    graph = NeighborGraph.from_csr({name: sp.csr_matrix(m) for name, m in zip("abc", matrices, strict=True)})
    with jax.disable_jit():  # nothing here is worth a compilation
        found = build(*map(Precomputed, "abc"))(graph).to_csr().toarray()
    np.testing.assert_allclose(found, expect(*matrices), rtol=0, atol=ATOL)


def test_one_graph_for_different_patterns():
    """Patterns need not agree; cells without neighbours in one stay there, and move in the other."""
    rng = np.random.default_rng(1)
    a, b = (rng.random((20, 20)) * (rng.random((20, 20)) < 0.2) for _ in range(2))
    a[3] = b[4] = a[5] = b[5] = 0
    b[6] = 0.5
    a, b = sp.csr_matrix(a), sp.csr_matrix(b)
    graph = NeighborGraph.from_csr({"a": a, "b": b})
    found = (0.25 * Precomputed("a") + 0.75 * Precomputed("b"))(graph).to_csr().toarray()
    one, other = (plain.connectivity(*plain.dense(m), False) for m in (a, b))
    np.testing.assert_allclose(found, 0.25 * one + 0.75 * other, rtol=0, atol=ATOL)
    assert found[3, 3] == pytest.approx(0.25 + 0.75 * other[3, 3])
    assert found[5, 5] == 1
    product = (Precomputed("a") * Precomputed("b"))(graph).to_csr().toarray()
    edges = (a.toarray() != 0) | (b.toarray() != 0)
    np.testing.assert_allclose(product, plain.normalize(one * other, plain.uniform(edges)), rtol=0, atol=ATOL)


def test_velocity_terms_with_their_own_features():
    matrix, x, v = example("symmetric")
    _, other_x, other_v = example("symmetric", seed=1)
    graph = NeighborGraph.from_csr(matrix)
    features = {
        "spliced": Features(default(x), default(v)),
        "protein": Features(default(other_x), default(other_v)),
    }
    transition_function = 3 * Velocity(2.0, features="spliced") + Velocity(5.0, features="protein")
    found = transition_function(graph, features).to_csr().toarray()
    pattern, _ = plain.dense(matrix)
    one = plain.deterministic(pattern, x, v, "correlation", 2.0)[0]
    other = plain.deterministic(pattern, other_x, other_v, "correlation", 5.0)[0]
    np.testing.assert_allclose(found, (3 * one + other) / 4, rtol=0, atol=max(ATOL, 3e-13 if ATOL < 1e-9 else 3e-6))


@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.int64(2), jnp.asarray(2.0)], ids=repr)
def test_numbers_of_every_kind_are_weights(number):
    for total in (number * Precomputed("a") + Precomputed("b"), Precomputed("a") * number + Precomputed("b")):
        assert isinstance(total, Sum)
        np.testing.assert_array_equal(np.asarray(total.weights), [2, 1])


def test_weights_are_leaves():
    transition_function = 0.8 * Velocity(2.0) + 0.2 * (Velocity(3.0) * Connectivity())
    assert isinstance(transition_function.children[1], Product)
    weights, first, second = jax.tree.leaves(transition_function)
    np.testing.assert_allclose(weights, [0.8, 0.2], rtol=1e-6)
    np.testing.assert_allclose([first, second], np.log([2.0, 3.0]), rtol=1e-6)


def test_adding_something_else():
    with pytest.raises(TypeError):
        Connectivity() + 1.0
