"""Softmax scales and weights for each cell: each row is that of the one scale and weight of its cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Connectivity, Scaled, Sum, Velocity
from tests.finite_differences import check_gradient
from tests.transitions.examples import GENE_WEIGHTS, N_CELLS, default, example

ATOL = 1e-12 if jax.config.jax_enable_x64 else 1e-5
KEY = jax.random.key(0)
LEVELS = np.arange(N_CELLS) % 3
SCALES = np.array([0.5, 2.0, 9.0])
WEIGHTS = np.array([0.9, 0.5, 2.0])


def softplus(v, displacements):
    """A user's similarity."""
    return jnp.log1p(jnp.exp(displacements @ v))


def matrix_of(transition_function, kind="asymmetric"):
    graph, x, v = example(kind)
    return transition_function(NeighborGraph.from_csr(graph), default(x), default(v), key=KEY).to_csr().toarray()


def by_level(transition_function_of, kind="asymmetric"):
    """Rows of the cells of each level from the matrix of this level's transition function."""
    expected = np.zeros((N_CELLS, N_CELLS))
    for level in range(3):
        expected[level == LEVELS] = matrix_of(transition_function_of(level), kind)[level == LEVELS]
    return expected


CASES = [
    *(("deterministic", similarity, mode) for similarity in ("correlation", softplus) for mode in (None, "transpose")),
    ("deterministic", "dot_product", "negate"),
    ("stochastic", "correlation", None),
    ("stochastic", "dot_product", "negate"),
    ("stochastic", softplus, None),
    ("monte_carlo", "correlation", None),
    ("monte_carlo", softplus, None),
]


@pytest.mark.parametrize(("model", "similarity", "backward_mode"), CASES)
def test_scale_for_each_cell(model, similarity, backward_mode):
    def velocity(scale):
        return Velocity(
            scale,
            default(GENE_WEIGHTS),
            model=model,
            similarity=similarity,
            backward_mode=backward_mode,
            n_samples=4,
        )

    found = matrix_of(velocity(default(SCALES[LEVELS])))
    expected = by_level(lambda level: velocity(SCALES[level]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)
    assert np.abs(expected - matrix_of(velocity(2.0))).max() > 0.01


@pytest.mark.parametrize("kind", ["isolated", "diagonal", "zero_velocities"])
def test_weights_for_each_cell(kind):
    weights = default(WEIGHTS[LEVELS])
    found = matrix_of(Velocity(2.0) * weights + 0.5 * Connectivity(), kind)
    expected = by_level(lambda level: WEIGHTS[level] * Velocity(2.0) + 0.5 * Connectivity(), kind)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("times", [lambda w, e: w * e, lambda w, e: e * w], ids=["left", "right"])
@pytest.mark.parametrize("array", [np.array, default], ids=["numpy", "jax"])
def test_arrays_are_weights(times, array):
    product = times(array(WEIGHTS[LEVELS]), Velocity(2.0))
    assert isinstance(product, Scaled)
    np.testing.assert_allclose(np.asarray(product.weight), WEIGHTS[LEVELS], rtol=1e-6)
    total = product + Connectivity()
    assert isinstance(total, Sum)
    assert total.weights.shape == (2, N_CELLS)
    shares = np.asarray(total.normalized_weights())
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(shares[0], WEIGHTS[LEVELS] / (WEIGHTS[LEVELS] + 1), rtol=1e-6)


def test_a_weight_for_each_cell_alone_is_normalised_away():
    np.testing.assert_allclose(
        matrix_of(Velocity(2.0) * default(WEIGHTS[LEVELS])), matrix_of(Velocity(2.0)), rtol=0, atol=ATOL
    )


COMBINATIONS = {
    "a term joins": lambda v, w, c: (v * w + c) + 2 * v * c,
    "a sum takes a term": lambda v, w, c: 2 * c + (v * w + c),
    "a sum with a weight": lambda v, w, c: (v + 3 * c) * w + c,
    "weights in a product": lambda v, w, c: (v * w) * (c * w),
    "a bare product": lambda v, w, c: v * w + v * c,
    "two sums": lambda v, w, c: (v * w + c) + (c * w + 2 * v),
    "in a product": lambda v, w, c: (v * w + c) * c,
}


@pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
def test_combinations(combine):
    with jax.disable_jit():
        found = matrix_of(combine(Velocity(2.0), default(WEIGHTS[LEVELS]), Connectivity()))
        expected = by_level(lambda level: combine(Velocity(2.0), default(WEIGHTS[level]), Connectivity()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_layout_of_the_buckets(monkeypatch):
    graph, x, v = example("asymmetric")
    transition_function = Velocity(default(SCALES[LEVELS])) * default(WEIGHTS[LEVELS]) + Connectivity()
    expected = matrix_of(transition_function)
    monkeypatch.setattr("jaxvelo.graph._neighbor_graph.bucket_shapes", lambda degrees, n_devices: [(9, 5), (31, 19)])
    other = NeighborGraph.from_csr(graph)
    assert len(other.rows) == 2
    found = transition_function(other, default(x), default(v)).to_csr().toarray()
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_gradient(model):
    graph, x, v = example("asymmetric")
    graph = NeighborGraph.from_csr(graph)
    rng = np.random.default_rng(0)
    values = tuple(default(rng.normal(size=c.shape)) for c in graph.columns)
    velocity = Velocity(default(rng.uniform(1, 3, N_CELLS)), model=model, n_samples=4)
    transition_function = velocity * default(rng.uniform(0.5, 2, N_CELLS)) + Connectivity()

    def outcome(transition_function, graph, x, v, values, key):
        return jnp.sum(transition_function(graph, x, v, key=key).row_dot(values))

    gradient = check_gradient(outcome, transition_function, arguments=(graph, default(x), default(v), values, KEY))
    assert gradient.weights.shape == (2, N_CELLS)
    assert np.all(np.asarray(gradient.children[0].log_scale) != 0)
