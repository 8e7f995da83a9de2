"""Velocity kernels against plain NumPy, on graphs and data of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.transitions import Features, Velocity, automatic_softmax_scale, evaluate_velocity
from tests.transitions import plain
from tests.transitions.examples import BUCKETS, GENE_WEIGHTS, KINDS, default, example

SIMILARITIES = ["correlation", "cosine", "dot_product"]
UNCERTAIN_CASES = [
    *(pytest.param(kind, None, id=kind) for kind in KINDS),
    *(pytest.param(kind, GENE_WEIGHTS, id=f"{kind}-weights") for kind in ("asymmetric", "duplicates", "isolated")),
]


def dense_of(graph, values):
    """Slots as a dense matrix."""
    return TransitionMatrix(graph, values).to_csr().toarray()


def tolerance(at_64, at_32):
    return at_64 if jax.config.jax_enable_x64 else at_32


@pytest.mark.parametrize("kind", KINDS)
def test_examples_share_their_shapes(kind):
    graph = NeighborGraph.from_csr(example(kind)[0])
    assert [columns.shape for columns in graph.columns] == BUCKETS
    assert graph.n_unused_rows == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward_mode", [None, "transpose", "negate"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_deterministic(similarity, backward_mode, kind):
    matrix, x, v = example(kind)
    graph = NeighborGraph.from_csr(matrix)
    velocity = Velocity(similarity=similarity, backward_mode=backward_mode)
    found, found_logits, found_scale = evaluate_velocity(velocity, graph, Features(default(x), default(v)))
    pattern, _ = plain.dense(matrix)
    expected, logits, scale = plain.deterministic(pattern, x, v, similarity, backward_mode=backward_mode)
    np.testing.assert_allclose(dense_of(graph, found), expected, rtol=0, atol=tolerance(1e-13, 3e-6))
    np.testing.assert_allclose(dense_of(graph, found_logits), logits, rtol=0, atol=tolerance(1e-13, 3e-6))
    np.testing.assert_allclose(float(found_scale), scale, rtol=tolerance(1e-13, 2e-6))


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric", "duplicates", "zero_velocities", "constant_velocities"])
@pytest.mark.parametrize("backward_mode", [None, "transpose", "negate"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gene_weights(similarity, backward_mode, kind):
    matrix, x, v = example(kind)
    graph = NeighborGraph.from_csr(matrix)
    velocity = Velocity(3.0, default(GENE_WEIGHTS), similarity=similarity, backward_mode=backward_mode)
    found = velocity(graph, default(x), default(v)).to_csr().toarray()
    pattern, _ = plain.dense(matrix)
    expected, _, _ = plain.deterministic(pattern, x, v, similarity, 3.0, GENE_WEIGHTS, backward_mode)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(1e-13, 1e-5))


@pytest.mark.parametrize(("kind", "weights"), UNCERTAIN_CASES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_stochastic(similarity, kind, weights):
    matrix, x, v = example(kind)
    graph = NeighborGraph.from_csr(matrix)
    velocity = Velocity(2.5, None if weights is None else default(weights), model="stochastic", similarity=similarity)
    found = velocity(graph, default(x), default(v)).to_csr().toarray()
    pattern, values = plain.dense(matrix)
    expected = plain.stochastic(pattern, values, x, v, similarity, 2.5, weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(1e-9, 2e-5))


@pytest.mark.parametrize(("kind", "weights"), UNCERTAIN_CASES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_monte_carlo_with_the_same_noise(similarity, kind, weights):
    matrix, x, v = example(kind)
    graph = NeighborGraph.from_csr(matrix)
    key = jax.random.key(3)
    velocity = Velocity(
        2.5, None if weights is None else default(weights), model="monte_carlo", similarity=similarity, n_samples=4
    )
    found = velocity(graph, default(x), default(v), key=key).to_csr().toarray()
    noise = np.asarray(jax.random.normal(key, (4, x.shape[1]), float), dtype=float)
    pattern, values = plain.dense(matrix)
    expected = plain.monte_carlo(pattern, values, x, v, similarity, 2.5, noise, weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(1e-12, 2e-5))


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_negated_uncertain_velocities(model):
    matrix, x, v = example("symmetric")
    graph = NeighborGraph.from_csr(matrix)
    key = jax.random.key(3)
    velocity = Velocity(2.5, model=model, backward_mode="negate", n_samples=4)
    found = velocity(graph, default(x), default(v), key=key).to_csr().toarray()
    arguments = (*plain.dense(matrix), x, v, "correlation", 2.5)
    if model == "stochastic":
        expected = plain.stochastic(*arguments, backward_mode="negate")
    else:
        noise = np.asarray(jax.random.normal(key, (4, x.shape[1]), float), dtype=float)
        expected = plain.monte_carlo(*arguments, noise, backward_mode="negate")
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(1e-9, 2e-5))


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_uncertain_models_take_the_deterministic_scale(model):
    matrix, x, v = example("zero_velocities")
    graph = NeighborGraph.from_csr(matrix)
    velocity = Velocity(model=model, n_samples=4)
    _, _, scale = evaluate_velocity(velocity, graph, Features(default(x), default(v)), jax.random.key(0))
    logits, _ = plain.all_logits(plain.dense(matrix)[0], x, v, "correlation")
    np.testing.assert_allclose(float(scale), plain.automatic_scale(logits), rtol=tolerance(1e-13, 2e-6))


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_transposed_models_are_deterministic(model):
    assert Velocity(model=model, backward_mode="transpose").model == "deterministic"


def test_monte_carlo_is_unbiased_in_each_cell():
    """Noise shared by all cells gives, cell by cell, the same expectation as noise of the cell's own."""
    matrix, x, v = example("symmetric")
    graph = NeighborGraph.from_csr(matrix)
    velocity = Velocity(2.5, model="monte_carlo", n_samples=4_000)
    found = velocity(graph, default(x), default(v), key=jax.random.key(0)).to_csr().toarray()
    pattern, values = plain.dense(matrix)
    for cell in (0, 7, 30):
        noise = np.random.default_rng(cell).normal(size=(1_000, x.shape[1]))
        only = np.zeros_like(pattern)
        only[cell] = pattern[cell]
        expected = plain.monte_carlo(only, values, x, v, "correlation", 2.5, noise)
        np.testing.assert_allclose(found[cell], expected[cell], rtol=0, atol=0.03)


def test_monte_carlo_needs_a_key_and_repeats_itself():
    matrix, x, v = example("symmetric")
    graph, x, v = NeighborGraph.from_csr(matrix), default(x), default(v)
    velocity = Velocity(2.5, model="monte_carlo", n_samples=4)
    with pytest.raises(ValueError, match=r"key=jax\.random\.key"):
        velocity(graph, x, v)
    one, again, other = (velocity(graph, x, v, key=jax.random.key(seed)).to_csr().toarray() for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert np.max(np.abs(one - other)) > 1e-3


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 0])
def test_automatic_scale_is_the_inverse_median_of_nonzero_magnitudes(count, shared):
    rng = np.random.default_rng(count)
    logits = np.zeros((4, 5))
    logits.flat[rng.choice(20, count, replace=False)] = rng.normal(size=count)
    mask = np.ones((4, 5), dtype=bool)
    off = np.zeros((4, 5), dtype=bool)
    # Values outside the mask do not count.
    buckets = default(logits), default(np.full((4, 5), 9.0))
    found = automatic_softmax_scale(buckets, (jnp.asarray(mask), off), shared)
    np.testing.assert_allclose(float(found), plain.automatic_scale(logits), rtol=tolerance(1e-15, 1e-6))


def test_gene_weights_of_any_type():
    matrix, x, v = example("symmetric")
    graph = NeighborGraph.from_csr(matrix)
    expected = Velocity(2.0, default([1, 0, 0, 1, 1, 1]))(graph, default(x), default(v)).to_csr().toarray()
    found = Velocity(2.0, np.array([1, 0, 0, 1, 1, 1]))(graph, default(x), default(v)).to_csr().toarray()
    np.testing.assert_array_equal(found, expected)
    # Single precision beside double: parameters follow the data.
    single = (jnp.asarray(x, jnp.float32), jnp.asarray(v, jnp.float32))
    transitions = Velocity(2.0, [1, 0, 0, 1, 1, 1])(graph, *single)
    assert transitions.values[0].dtype == jnp.float32
    np.testing.assert_allclose(transitions.to_csr().toarray(), expected, rtol=0, atol=1e-5)


def test_the_softmax_does_not_overflow():
    matrix, x, v = example("symmetric")
    graph = NeighborGraph.from_csr(matrix)
    found = Velocity(1e30)(graph, default(x), default(v)).to_csr().toarray()
    pattern, _ = plain.dense(matrix)
    logits, _ = plain.all_logits(pattern, x, v, "correlation")
    best = np.where(pattern, logits, -np.inf).argmax(axis=1)
    np.testing.assert_array_equal(found, np.eye(len(x))[best])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "exact"}, r"`model`.*monte_carlo.*exact"),
        ({"similarity": "l2"}, r"`similarity`.*dot_product.*l2"),
        ({"backward_mode": "reverse"}, r"`backward_mode`.*transpose.*reverse"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Velocity(**arguments)


def test_transition_function_without_velocity():
    matrix, x, _ = example("symmetric")
    with pytest.raises(ValueError, match="Pass the velocity as `v`"):
        Velocity()(NeighborGraph.from_csr(matrix), default(x))
