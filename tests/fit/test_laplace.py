"""How certain fitted parameters are, losses on grids, and whether a fit finds what the data were drawn from."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxvelo.fit import (
    DescentSetting,
    FateLikelihood,
    Parameters,
    Problem,
    laplace_covariance,
    minimize,
    standard_errors,
    sweep,
)
from jaxvelo.markov import absorption_probabilities
from jaxvelo.transitions import Connectivity, Velocity
from tests.finite_differences import value_and_gradient
from tests.fit.problems import (
    GENE_WEIGHTS,
    KEY,
    N_CELLS,
    N_FATES,
    dataset,
    functions,
    levels,
    loss,
    moved,
    parametrization_of,
    problem_of,
    terminal_cells,
)
from tests.transitions.examples import default

LBFGS = optax.lbfgs()
EVERYONE = jnp.ones(N_CELLS)
SCALE, WEIGHT = 4.0, 0.7
needs_float64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need float64")


def transition_function(scale=1.0, weight=0.5):
    return weight * Velocity(scale, GENE_WEIGHTS) + (1 - weight) * Connectivity()


@functools.cache
def true_fates():
    """Absorption probabilities of the kernel of known scale and weight."""
    matrix, graph, features = dataset("asymmetric")
    transitions = transition_function(SCALE, WEIGHT)(graph, features)
    terminal = jnp.asarray(terminal_cells(matrix))
    return np.asarray(jax.jit(absorption_probabilities, static_argnums=2)(transitions, terminal, N_FATES)[0], float)


def simulated(seed, n_items=20_000, train=("scale", "weights"), scale_cells=None, template=None, sharing=None):
    """Fates drawn from the true kernel, and a fit that starts elsewhere."""
    matrix, graph, features = dataset("asymmetric")
    rng = np.random.default_rng(seed)
    terminal = terminal_cells(matrix)
    cell = rng.choice(np.flatnonzero(terminal < 0), n_items)
    fate = (rng.random((n_items, 1)) > np.cumsum(true_fates()[cell], axis=1)[:, :-1]).sum(axis=1)
    objective = FateLikelihood(
        jnp.asarray(terminal), N_FATES, jnp.asarray(fate), jnp.asarray(cell), default(np.ones(n_items))
    )
    parametrization = parametrization_of(
        transition_function() if template is None else template, train, scale_cells, sharing=sharing
    )
    return Problem.prepare(parametrization, objective, graph, features, jax.random.key(KEY))


def fitted(problem, steps=12):
    run = DescentSetting(EVERYONE[None], EVERYONE[None], *[jnp.zeros(1)] * 4)
    starts = jax.tree.map(lambda leaf: leaf[None], problem.parametrization.start())
    state, _ = minimize(problem, starts, run, LBFGS, steps)
    return jax.tree.map(lambda leaf: leaf[0], state.best)


def z_scores(seed):
    """Errors of log scale and weight logit in standard errors."""
    problem = simulated(seed)
    best = fitted(problem)
    covariance, eigenvalues = laplace_covariance(problem, best, EVERYONE)
    assert np.all(np.asarray(eigenvalues) > 0)
    error = np.asarray(ravel_pytree(best)[0]) - [np.log(SCALE), np.log(WEIGHT / (1 - WEIGHT))]
    return error / np.sqrt(np.diag(np.asarray(covariance)))


def test_a_fit_finds_the_scale_and_weight_that_fates_were_drawn_from():
    scores = np.array([z_scores(seed) for seed in range(2)])
    assert np.all(np.abs(scores) < 4)
    # The standard errors are neither too small nor too large.
    assert 0.3 < np.sqrt(np.mean(scores**2)) < 2


def test_readable_estimates_and_their_errors():
    problem = simulated(0)
    best = fitted(problem)
    covariance, _ = laplace_covariance(problem, best, EVERYONE)
    (scale_error,), (weight_error,), _ = standard_errors(problem, best, covariance)
    (scale,), (weights,) = problem.parametrization.scales(best), problem.parametrization.weights(best)
    assert abs(float(scale) - SCALE) < 4 * float(scale_error) < 2
    assert weight_error.shape == (2,)
    assert abs(float(weights[0]) - WEIGHT) < 4 * float(weight_error[0]) < 0.3
    # Two weights that sum to one are equally uncertain.
    np.testing.assert_allclose(float(weight_error[0]), float(weight_error[1]), rtol=1e-4)


def test_a_fit_finds_a_stationary_point_inside():
    """In single precision the losses' rounding ends the search, at slopes from 1e-5 to 1e-3; these fates have 2e-4."""
    problem = simulated(3)
    best = fitted(problem)
    _, gradient = value_and_gradient(loss, best, (problem, EVERYONE))
    slope = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient))
    assert slope < (1e-6 if jax.config.jax_enable_x64 else 1e-3)


def numeric_hessian(problem, parameters, cells, step=1e-4):
    flat, unravel = ravel_pytree(parameters)

    def slope(x):
        return np.asarray(ravel_pytree(value_and_gradient(loss, unravel(x), (problem, cells))[1])[0])

    rows = [(slope(flat + step * e) - slope(flat - step * e)) / (2 * step) for e in np.eye(len(flat))]
    weights = np.asarray(problem.objective.weight) * np.asarray(cells)[np.asarray(problem.objective.cell)]
    return np.array(rows) * weights.sum()


@needs_float64
@pytest.mark.parametrize(
    "ways", [{}, {"scale_cells": levels(2)}, {"scale_cells": functions(2)}], ids=["one", "levels", "functions"]
)
def test_covariance_is_the_inverse_hessian(ways):
    # Near the maximum, where the Hessian is positive definite, is enough.
    problem = simulated(0, template=transition_function(SCALE, WEIGHT), **ways)
    best = problem.parametrization.start()
    cells = jnp.asarray(np.arange(N_CELLS) % 4 != 1, dtype=float)
    covariance, eigenvalues = laplace_covariance(problem, best, cells)
    hessian = numeric_hessian(problem, best, cells)
    np.testing.assert_allclose(np.asarray(eigenvalues), np.linalg.eigvalsh(hessian), rtol=1e-5)
    assert np.all(np.asarray(eigenvalues) > 0)
    np.testing.assert_allclose(np.asarray(covariance), np.linalg.inv(hessian), rtol=1e-4)


def test_a_factor_of_the_likelihood_plays_no_part():
    problem = simulated(0, template=transition_function(SCALE, WEIGHT))
    best = problem.parametrization.start()
    tenfold = eqx.tree_at(lambda p: p.objective, problem, 10.0 * problem.objective)
    found, expected = (laplace_covariance(p, best, EVERYONE) for p in (tenfold, problem))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-4)


@needs_float64
def test_gene_weights_are_held():
    # Along a direction of gene weights there is no curvature in the covariance: its numbers are scale and weight only.
    problem = simulated(0, 500, ("scale", "weights", "gene_weights"))
    without = simulated(0, 500)
    start = problem.parametrization.start()
    found = laplace_covariance(problem, start, EVERYONE)
    expected = laplace_covariance(without, without.parametrization.start(), EVERYONE)
    assert found[1].shape == (2,)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_flat_direction_has_no_covariance(scale):
    # Two terms that are the same: their weights have no effect.
    same = 0.6 * Velocity(scale, GENE_WEIGHTS) + 0.4 * Velocity(scale, GENE_WEIGHTS)
    problem = simulated(0, template=same, sharing=(0, 0))
    start = problem.parametrization.start()
    covariance, eigenvalues = laplace_covariance(problem, start, EVERYONE)
    assert np.max(np.asarray(eigenvalues)) > 100
    assert np.min(np.abs(np.asarray(eigenvalues))) < 1e-5 * np.max(np.asarray(eigenvalues))
    assert np.all(np.isnan(np.asarray(covariance)))
    (scale_error,), (weight_errors,), _ = standard_errors(problem, start, covariance)
    assert np.isnan(float(scale_error))
    assert np.all(np.isnan(np.asarray(weight_errors)))
    # A prior is all that is known of it.
    known = np.asarray(laplace_covariance(problem, start, EVERYONE, prior=1 / (2 * 0.7**2 * 20_000))[0])
    assert known[1, 1] == pytest.approx(0.7**2, rel=1e-3)
    assert known[0, 0] < 0.1


def test_a_level_without_items_has_no_covariance():
    problem = simulated(0, scale_cells=levels(2))
    cells = jnp.asarray(np.arange(N_CELLS) % 2 == 0, dtype=float)
    found = laplace_covariance(problem, problem.parametrization.start(), cells)[0]
    assert found.shape == (3, 3)
    # All cells of one level: the other level's scale has no effect.
    nowhere = eqx.tree_at(lambda p: p.parametrization.scale_cells, problem, 0 * levels(2))
    covariance, eigenvalues = laplace_covariance(nowhere, problem.parametrization.start(), EVERYONE)
    assert np.min(np.abs(eigenvalues)) < 1e-9 * np.max(np.abs(eigenvalues))
    assert np.all(np.isnan(np.asarray(covariance)))


def test_away_from_the_maximum_there_is_no_covariance():
    problem = simulated(0)
    start = jax.tree.map(lambda leaf: leaf - 3, problem.parametrization.start())
    covariance, eigenvalues = laplace_covariance(problem, start, EVERYONE)
    assert np.min(np.asarray(eigenvalues)) < 0
    assert np.all(np.isnan(np.asarray(covariance)))


@needs_float64
@pytest.mark.parametrize("way", [{}, {"scale_cells": functions(2), "weight_cells": levels(2)}], ids=["one", "cells"])
def test_standard_errors_are_those_of_a_numeric_jacobian(way):
    three = 0.5 * Velocity(2.0) + 0.2 * Velocity(1.0, similarity="cosine") + 0.3 * Connectivity()
    problem = problem_of("future", transition_function=three, **way)
    parameters = moved(problem.parametrization.start())
    flat, unravel = ravel_pytree(parameters)
    root = np.random.default_rng(0).normal(size=(len(flat), len(flat)))
    covariance = root @ root.T
    found = standard_errors(problem, parameters, jnp.asarray(covariance))

    def readable(x):
        return problem.parametrization.scales(unravel(x)), problem.parametrization.weights(unravel(x))

    step = 1e-5
    moves = [(readable(flat + step * e), readable(flat - step * e)) for e in np.eye(len(flat))]
    for position, errors in enumerate(jax.tree.leaves(found)):
        slopes = np.stack(
            [np.asarray(jax.tree.leaves(a)[position] - jax.tree.leaves(b)[position]) / (2 * step) for a, b in moves], -1
        )
        expected = np.sqrt(np.einsum("...i,ij,...j->...", slopes, covariance, slopes))
        assert errors.shape == expected.shape
        np.testing.assert_allclose(np.asarray(errors), expected, rtol=1e-6)


def test_a_sweep_is_point_by_point():
    problem = problem_of("total")
    scales, logits = np.meshgrid(np.log([0.5, 2, 8, 100]), [-1.0, 0, 2], indexing="ij")
    grid = Parameters((default(scales.reshape(-1, 1)),), (default(logits.reshape(-1, 1, 1)),))
    cells = jnp.stack([EVERYONE, default(np.arange(N_CELLS) % 2)])
    found = np.asarray(sweep(problem, grid, cells))
    assert found.shape == (12, 2)
    for i in range(12):
        point = jax.tree.map(lambda leaf, i=i: leaf[i], grid)
        for j in range(2):
            alone, _ = value_and_gradient(loss, point, (problem, cells[j]))
            np.testing.assert_allclose(found[i, j], float(alone), rtol=1e-5)
    assert len(np.unique(found)) == 24


def test_item_losses_are_those_of_the_mean():
    problem = problem_of("total")
    parameters = moved(problem.parametrization.start())
    items = eqx.filter_jit(lambda problem, parameters: problem.item_losses(parameters)[0])(problem, parameters)
    expected = 0
    for coefficient, term, losses in zip((2.0, 0.5, 1.0), problem.objective.terms, items, strict=True):
        weights = np.asarray(term.weight, float)
        expected += coefficient * (weights @ np.asarray(losses, float)) / weights.sum()
    found, _ = value_and_gradient(loss, parameters, (problem, EVERYONE))
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)
