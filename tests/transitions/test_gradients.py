"""Gradients of all transition functions against finite differences, and at the points where they could break."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Connectivity, Velocity
from tests.finite_differences import check_gradient, value_and_gradient
from tests.transitions.examples import GENE_WEIGHTS, default, example

SIMILARITIES = ["correlation", "cosine", "dot_product"]
SCALE, WEIGHTS, EXPRESSION, VELOCITY = range(4)
"""Leaves of ``(Velocity(scale, weights), x, v)``."""

needs_float64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need float64")


def outcome(argument, graph, values, key):
    """A random linear function of the transition probabilities."""
    transition_function, x, v = argument
    return jnp.sum(transition_function(graph, x, v, key=key).row_dot(values))


def problem(kind):
    """Features and the other arguments of ``outcome``."""
    matrix, x, v = example(kind)
    graph = NeighborGraph.from_csr(matrix)
    rng = np.random.default_rng(1)
    values = tuple(default(rng.normal(size=columns.shape)) for columns in graph.columns)
    return default(x), default(v), (graph, values, jax.random.key(5))


def velocity_of(model, similarity, backward_mode=None, weighted=True, scale=2.0):
    weights = default(GENE_WEIGHTS) if weighted else None
    return Velocity(
        scale, weights, model=model, similarity=similarity, backward_mode=backward_mode, n_samples=3 if weighted else 4
    )


CASES = [
    *(("deterministic", similarity, mode, True) for similarity in SIMILARITIES for mode in (None, "transpose")),
    *((model, similarity, None, True) for model in ("stochastic", "monte_carlo") for similarity in SIMILARITIES),
    *((model, "correlation", "negate", False) for model in ("deterministic", "stochastic", "monte_carlo")),
]
WEIGHTED_CASES = [case for case in CASES if case[3]]


@needs_float64
@pytest.mark.parametrize("case", CASES, ids=str)
def test_scale_gene_weights_expression_and_velocity(case):
    x, v, arguments = problem("asymmetric")
    gradient = check_gradient(outcome, (velocity_of(*case), x, v), arguments=arguments)
    # Weights of zero have a gradient too: a gene can come back.
    if gradient[0].gene_weights is not None:
        assert np.all(np.asarray(gradient[0].gene_weights) != 0)


@pytest.mark.parametrize("kind", ["zero_velocities", "constant_velocities", "duplicates", "one_neighbor", "isolated"])
@pytest.mark.parametrize("case", WEIGHTED_CASES, ids=str)
def test_singular_points_have_finite_gradients(case, kind):
    x, v, arguments = problem(kind)
    velocity = velocity_of(*case)
    _, gradient = value_and_gradient(outcome, (velocity, x, v), arguments)
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(gradient))
    if jax.config.jax_enable_x64:
        # Where a direction vanishes, probabilities jump; in all else they are smooth.
        jumps = {"duplicates": EXPRESSION, "zero_velocities": VELOCITY, "constant_velocities": VELOCITY}.get(kind)
        smooth = [leaf for leaf in (SCALE, WEIGHTS, EXPRESSION, VELOCITY) if leaf != jumps]
        check_gradient(outcome, (velocity, x, v), arguments=arguments, leaves=smooth, directions=1)


@pytest.mark.parametrize("scale", [1e4, 1e-4])
@pytest.mark.parametrize("case", WEIGHTED_CASES, ids=str)
def test_saturated_and_flat_softmax_have_finite_gradients(case, scale):
    x, v, arguments = problem("symmetric")
    velocity = velocity_of(*case, scale=scale)
    _, gradient = value_and_gradient(outcome, (velocity, x, v), arguments)
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(gradient))
    if jax.config.jax_enable_x64 and case[0] == "deterministic":
        check_gradient(outcome, (velocity, x, v), arguments=arguments, step=1e-4 * min(1, 10 / scale), rtol=1e-4)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_all_cells_alike_have_finite_gradients(model, similarity):
    x, v, arguments = problem("symmetric")
    x, v = jnp.zeros_like(x) + x[:1], jnp.zeros_like(v)
    value, gradient = value_and_gradient(outcome, (velocity_of(model, similarity), x, v), arguments)
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves((value, gradient)))


@needs_float64
@pytest.mark.parametrize(
    "combine",
    [
        lambda v, c: 0.8 * v + 0.2 * c,
        lambda v, c: v * c,
        lambda v, c: 0.5 * v + 2.0 * c + v * c,
        lambda v, c: (0.3 * v + c) * v + 3.0 * c,
    ],
    ids=["sum", "product", "bare_product", "nested"],
)
def test_combinations(combine):
    x, v, arguments = problem("asymmetric")
    transition_function = combine(Velocity(2.0), Connectivity())
    check_gradient(outcome, (transition_function, x, v), arguments=arguments)


@needs_float64
def test_only_the_ratio_of_the_weights_matters():
    x, v, arguments = problem("asymmetric")
    transition_function = 0.8 * Velocity(2.0) + 0.2 * Connectivity()
    weights = np.asarray(value_and_gradient(outcome, (transition_function, x, v), arguments)[1][0].weights)
    np.testing.assert_allclose(np.dot(weights, [0.8, 0.2]), 0, atol=1e-12)
    assert np.all(np.abs(weights) > 1e-3)


def connected(weights, graph, values):
    # Padding stays zero.
    weights = tuple(jnp.where(mask, weight, 0) for weight, mask in zip(weights, graph.mask, strict=True))
    graph = eqx.tree_at(lambda g: g.edges["connectivities"].values, graph, weights)
    return jnp.sum(Connectivity()(graph).row_dot(values))


@needs_float64
def test_connectivities():
    _, _, (graph, values, _) = problem("asymmetric")
    check_gradient(connected, graph.edges["connectivities"].values, arguments=(graph, values))


@needs_float64
@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_forward_mode_agrees_with_reverse_mode(model):
    x, v, arguments = problem("duplicates")
    argument = (velocity_of(model, "correlation"), x, v)
    _, gradient = value_and_gradient(outcome, argument, arguments)
    tangent = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), argument)
    _, slope = eqx.filter_jit(eqx.filter_jvp)(lambda a: outcome(a, *arguments), (argument,), (tangent,))
    expected = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(tangent), strict=True))
    np.testing.assert_allclose(float(slope), float(expected), rtol=1e-10)


@needs_float64
@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_hessian_of_the_softmax_scale(model):
    x, v, arguments = problem("asymmetric")

    def by_scale(log_scale, x, v, arguments):
        velocity = eqx.tree_at(lambda k: k.log_scale, velocity_of(model, "correlation"), log_scale)
        return outcome((velocity, x, v), *arguments)

    def slope(scale):
        return value_and_gradient(outcome, (velocity_of(model, "correlation", scale=scale), x, v), arguments)[1][
            0
        ].log_scale

    second = jax.jit(jax.hessian(by_scale))(jnp.log(2.0), x, v, arguments)
    step = 1e-4
    expected = (slope(2 * np.exp(step)) - slope(2 * np.exp(-step))) / (2 * step)
    np.testing.assert_allclose(float(second), float(expected), rtol=1e-6)


@needs_float64
def test_second_derivatives_by_weights_expression_and_velocity():
    """Along one direction, in both orders, for several points at once."""
    x, v, arguments = problem("asymmetric")
    rng = np.random.default_rng(2)
    at = velocity_of("deterministic", "correlation"), x, v
    along = jax.tree.map(lambda leaf: default(rng.normal(size=leaf.shape)), at)

    def moved(step):
        return outcome(jax.tree.map(lambda leaf, by: leaf + step * by, at, along), *arguments)

    functions = jax.grad(moved), jax.jacfwd(jax.grad(moved)), jax.grad(jax.jacfwd(moved))
    slopes, second, swapped = jax.jit(lambda steps: [jax.vmap(f)(steps) for f in functions])(
        jnp.array([-1e-4, 0, 1e-4])
    )
    np.testing.assert_allclose(second, swapped, rtol=1e-10)
    np.testing.assert_allclose(second[1], (slopes[2] - slopes[0]) / 2e-4, rtol=1e-5)


def test_an_ensemble_of_scales():
    x, v, (graph, _, _) = problem("symmetric")
    scales = jnp.asarray([0.5, 2.0, 7.0])
    ensemble = eqx.filter_vmap(Velocity)(scales)
    batched = eqx.filter_vmap(lambda k, graph, x, v: k(graph, x, v).values, in_axes=(eqx.if_array(0), None, None, None))
    found = batched(ensemble, graph, x, v)
    for i, scale in enumerate(scales):
        for bucket, expected in zip(found, Velocity(scale)(graph, x, v).values, strict=True):
            np.testing.assert_allclose(np.asarray(bucket[i]), np.asarray(expected), rtol=0, atol=1e-6)


def test_transition_functions_work_under_a_users_jit():
    x, v, (graph, values, _) = problem("symmetric")
    transition_function = 0.8 * Velocity(2.0) + 0.2 * Connectivity()

    @jax.jit
    def loss(transition_function, graph, x, v, values):
        return jnp.sum(transition_function(graph, x, v).row_dot(values))

    expected = jnp.sum(transition_function(graph, x, v).row_dot(values))
    np.testing.assert_allclose(float(loss(transition_function, graph, x, v, values)), float(expected), rtol=1e-5)
