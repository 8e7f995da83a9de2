"""Gradients of all objectives in all that can be fitted, against finite differences and where they could break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.transitions import Connectivity, Velocity
from tests.finite_differences import check_gradient, value_and_gradient
from tests.fit.problems import GENE_WEIGHTS, N_CELLS, OBJECTIVES, functions, levels, loss, moved, problem_of, usual

ALL = ("scale", "weights", "gene_weights")
WAYS = {
    "one": {},
    "levels": {"scale_cells": levels(), "weight_cells": levels()},
    "functions": {"scale_cells": functions(), "weight_cells": functions()},
}
needs_float64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need float64")


def some_cells():
    return jnp.asarray(np.arange(N_CELLS) % 4 != 1, dtype=float)


def check(problem, step=1e-4, **options):
    parameters = moved(problem.parametrization.start())
    gradient = check_gradient(loss, parameters, arguments=(problem, some_cells()), step=step, **options)
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient)), "a parameter without effect"
    return gradient


@needs_float64
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_scales_and_weights(name, way):
    gradient = check(problem_of(name, **WAYS[way]))
    n_coefficients = 1 if way == "one" else 3
    assert [leaf.shape for leaf in jax.tree.leaves(gradient)] == [(n_coefficients,), (n_coefficients, 1)]


@needs_float64
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gene_weights(name):
    check(problem_of(name, train=ALL))


@needs_float64
@pytest.mark.parametrize("similarity", ["cosine", "dot_product"])
def test_gene_weights_of_other_similarities(similarity):
    check(problem_of("held_out", transition_function=usual(0.5, similarity), train=ALL))


@needs_float64
def test_all_at_once_in_a_nested_transition_function():
    velocity, other = Velocity(2.0, GENE_WEIGHTS), Velocity(1.0, GENE_WEIGHTS[::-1].copy(), similarity="cosine")
    product = (0.3 * velocity + 0.7 * Connectivity()) * other
    transition_function = 0.5 * product + 1.5 * Connectivity() + velocity * other
    ways = {"scale_cells": levels(2), "weight_cells": functions(2), "sharing": (0, 1, 0, 1)}
    problem = problem_of("future", transition_function=transition_function, train=ALL, **ways)
    gradient = check(problem)
    shapes = [leaf.shape for leaf in jax.tree.leaves(gradient)]
    assert shapes == [(2,), (2,), (2, 1), (2, 1), (6,), (6,)]


@needs_float64
@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_other_models(model):
    transition_function = 0.75 * Velocity(2.0, GENE_WEIGHTS, model=model, n_samples=3) + 0.25 * Connectivity()
    check(problem_of("future", transition_function=transition_function, train=ALL))


SINGULAR = ["zero_velocities", "constant_velocities", "duplicates", "one_neighbor", "isolated", "explicit_zeros"]


@pytest.mark.parametrize("kind", SINGULAR)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_singular_points(name, kind):
    problem = problem_of(name, kind)
    parameters = moved(problem.parametrization.start())
    value, gradient = value_and_gradient(loss, parameters, (problem, some_cells()))
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves((value, gradient)))
    if jax.config.jax_enable_x64:
        check(problem, directions=1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_singular_points_of_gene_weights(name):
    for kind in ("zero_velocities", "duplicates"):
        problem = problem_of(name, kind, train=ALL)
        parameters = moved(problem.parametrization.start())
        value, gradient = value_and_gradient(loss, parameters, (problem, some_cells()))
        assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves((value, gradient)))
        if jax.config.jax_enable_x64:
            check(problem, directions=1)


@pytest.mark.parametrize("scale", [1e3, 1e-3])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_saturated_and_flat_softmax(name, scale):
    problem = problem_of(name, "symmetric", transition_function=usual(scale))
    parameters = problem.parametrization.start()
    value, gradient = value_and_gradient(loss, parameters, (problem, some_cells()))
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves((value, gradient)))
    if jax.config.jax_enable_x64:
        check_gradient(loss, parameters, arguments=(problem, some_cells()), directions=1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_cells_without_items_have_loss_and_gradient_zero(name):
    problem = problem_of(name)
    value, gradient = value_and_gradient(loss, problem.parametrization.start(), (problem, jnp.zeros(N_CELLS)))
    assert float(value) == 0
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def test_impossible_observations_have_finite_gradients():
    # Sets of later cells that no cell reaches.
    problem = problem_of("future")
    impossible = jnp.zeros_like(problem.objective.future)
    objective = type(problem.objective)(
        impossible, problem.objective.steps, problem.objective.target, problem.objective.cell, problem.objective.weight
    )
    problem = type(problem)(
        problem.parametrization, objective, problem.graph, problem.features, problem.key, problem.fixed, problem.order
    )
    value, gradient = value_and_gradient(loss, problem.parametrization.start(), (problem, some_cells()))
    np.testing.assert_allclose(float(value), -np.log(np.finfo(value.dtype).eps), rtol=1e-6)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def test_two_sets_of_cells_at_once_are_each_alone():
    problem = problem_of("total")
    cells = jnp.stack([some_cells(), 1 - some_cells()])
    parameters = problem.parametrization.start()
    both = jax.jit(lambda p: problem.on_cells(p, cells))(parameters)
    for one, found in zip(cells, both, strict=True):
        alone, _ = value_and_gradient(loss, parameters, (problem, one))
        np.testing.assert_allclose(float(alone), float(found), rtol=1e-6)
