"""The optimiser loop: repeatable, resumable, stoppable, and indifferent to what happens to its neighbours."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvelo.fit import (
    DescentSetting,
    FunctionOf,
    Problem,
    begin_near,
    minimize,
    quasi_newton,
)
from tests.finite_differences import value_and_gradient
from tests.fit.problems import KEY, N_CELLS, dataset, loss, moved, parametrization_of, problem_of, usual
from tests.transitions.examples import default

QUASI_NEWTON = quasi_newton()
ADAM, SGD, NO_STEP, LBFGS = optax.adam(0.1), optax.sgd(0.2), optax.sgd(0.0), optax.lbfgs()
TRAINING = np.arange(N_CELLS) % 3 != 0
TOLERANCE = 1e-10 if jax.config.jax_enable_x64 else 1e-4


@functools.cache
def usual_problem():
    return problem_of("future")


def runs_of(training, validation=None, genes=0.0, rough=0.0, prior=0.0, outside=0.0):
    """Runs from one row of training cells each."""
    training = np.atleast_2d(training)
    validation = 1.0 - training if validation is None else np.atleast_2d(validation)
    factors = (default(np.full(len(training), factor)) for factor in (genes, rough, prior, outside))
    return DescentSetting(default(training), default(validation), *factors)


def stacked(*parameters):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parameters)


def starts_of(problem, n_runs=1):
    start = problem.parametrization.start()
    return stacked(*(moved(start, 0.5 * (i > 0), i) for i in range(n_runs)))


def run_of(tree, i):
    return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)


def assert_equal(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def assert_close(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=TOLERANCE, atol=TOLERANCE)


def test_gradient_descent_step_by_step():
    problem = usual_problem()
    state, history = minimize(problem, starts_of(problem), runs_of(TRAINING), SGD, 12)
    parameters, losses = problem.parametrization.start(), []
    for _ in range(12):
        value, gradient = value_and_gradient(loss, parameters, (problem, default(TRAINING)))
        losses.append(float(value))
        parameters = jax.tree.map(lambda p, g: p - 0.2 * g, parameters, gradient)
    assert_close(run_of(state.parameters, 0), stacked(parameters))
    np.testing.assert_allclose(history.loss[:, 0], losses, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_array_equal(history.training, history.loss)
    first = float(value_and_gradient(loss, problem.parametrization.start(), (problem, default(~TRAINING)))[0])
    np.testing.assert_allclose(history.validation[0, 0], first, rtol=TOLERANCE)
    assert int(state.step[0]) == 12
    assert losses[-1] < losses[0] - 1e-4


def test_the_same_again():
    problem = usual_problem()
    first, second = (minimize(problem, starts_of(problem), runs_of(TRAINING), ADAM, 20) for _ in range(2))
    assert_equal(first, second)


@pytest.mark.parametrize(("optimizer", "stop"), [(ADAM, 7), (ADAM, 10), (QUASI_NEWTON, 3)])
def test_stopped_and_resumed_is_one_go(optimizer, stop):
    problem = usual_problem()
    starts, runs = starts_of(problem), runs_of(TRAINING)
    whole, history = minimize(problem, starts, runs, optimizer, 25)
    state, before = minimize(problem, starts, runs, optimizer, stop)
    assert int(state.step[0]) == stop
    state, after = minimize(problem, starts, runs, optimizer, 25, state=state)
    assert_equal(state, whole)
    assert len(before.loss) == stop
    assert len(history.loss) == int(whole.step[0])
    assert_equal([np.concatenate(parts) for parts in zip(before, after, strict=True)], list(history))
    # Nothing is left to do.
    again, nothing = minimize(problem, starts, runs, optimizer, 25, state=state)
    assert_equal(again, state)
    assert nothing.loss.shape == (0, 1)


def test_several_runs_are_each_alone():
    problem = usual_problem()
    starts = starts_of(problem, 3)
    runs = runs_of([TRAINING, ~TRAINING, np.ones(N_CELLS)])
    state, history = minimize(problem, starts, runs, ADAM, 15)
    assert history.loss.shape == (15, 3)
    assert len(np.unique(history.loss[-1])) == 3
    for i in range(3):
        alone, losses = minimize(problem, run_of(starts, i), run_of(runs, i), ADAM, 15)
        assert_close(run_of(state, i), alone)
        assert_close([part[:, i : i + 1] for part in history], list(losses))


def test_the_best_is_remembered():
    problem = usual_problem()
    # Down first, and then up.
    there_and_back = optax.sgd(lambda count: jnp.where(count < 6, 0.2, -0.4))
    state, history = minimize(problem, starts_of(problem), runs_of(TRAINING), there_and_back, 20)
    best = int(np.argmin(history.loss[:, 0]))
    assert best == 6
    assert history.loss[-1, 0] > history.loss[0, 0] > history.loss[best, 0]
    assert int(state.best_step[0]) == best
    assert float(state.best_loss[0]) == history.loss[best, 0]
    parameters = jax.tree.map(lambda leaf: leaf[0], state.best)
    found, _ = value_and_gradient(loss, parameters, (problem, default(TRAINING)))
    np.testing.assert_allclose(float(found), history.loss[best, 0], rtol=TOLERANCE)


def test_validation_changes_nothing():
    problem = usual_problem()
    first, _ = minimize(problem, starts_of(problem), runs_of(TRAINING), ADAM, 10)
    second, _ = minimize(problem, starts_of(problem), runs_of(TRAINING, np.ones(N_CELLS)), ADAM, 10)
    assert_equal(first, second)


def test_penalties_are_added():
    problem = problem_of(
        "future", train=("scale", "weights", "gene_weights"), scale_cells=default(np.eye(N_CELLS, 2) + 1)
    )
    start = moved(problem.parametrization.start())
    state, history = minimize(problem, stacked(start), runs_of(TRAINING, genes=0.5, rough=3.0), SGD, 3)
    genes, rough = (float(p) for p in problem.parametrization.penalties(start))
    assert min(genes, rough) > 1e-3
    added = history.loss[0, 0] - history.training[0, 0]
    np.testing.assert_allclose(added, 0.5 * genes + 3.0 * rough, rtol=1e-5)
    assert float(state.best_loss[0]) == history.loss[2, 0] < history.loss[0, 0]


class Fragile(eqx.Module):
    """Sum of squares of the probabilities, NaN everywhere once their mean is below a limit."""

    limit: jax.Array

    def __call__(self, transitions):
        squares = transitions.row_dot(transitions.values)
        return jnp.where(jnp.mean(squares) < self.limit, jnp.nan, squares)


def fragile_problem(limit):
    _, graph, features = dataset("asymmetric")
    objective = FunctionOf(Fragile(default(limit)), N_CELLS)
    return Problem.prepare(parametrization_of(usual(), ("scale",)), objective, graph, features, jax.random.key(KEY))


def test_a_loss_that_is_not_a_number_ends_its_run_only():
    problem, everyone = fragile_problem(0.0), np.ones(N_CELLS)
    start = problem.parametrization.start()
    far = jax.tree.map(lambda leaf: leaf + 3, start)
    below = jax.tree.map(lambda leaf: leaf - 0.75, start)
    limit, _ = value_and_gradient(loss, below, (problem, default(everyone)))
    starts, runs = stacked(start, far), runs_of([everyone, everyone])
    state, history = minimize(fragile_problem(limit), starts, runs, ADAM, 25)
    healthy, expected = minimize(problem, starts, runs, ADAM, 25)
    failed = int(state.failed[0])
    assert 4 <= failed <= 15
    assert int(state.failed[1]) == -1
    assert_equal(run_of(state, 1), run_of(healthy, 1))
    assert int(state.step[0]) == failed
    assert np.all(np.isfinite(history.loss[:failed, 0]))
    assert np.all(np.isnan(history.loss[failed:, 0]))
    np.testing.assert_array_equal(history.loss[:failed, 0], expected.loss[:failed, 0])
    assert int(state.best_step[0]) == failed - 1
    assert float(state.best_loss[0]) == history.loss[failed - 1, 0]
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves((state.best, state.parameters)))
    value, _ = value_and_gradient(loss, jax.tree.map(lambda leaf: leaf[0], state.best), (problem, default(everyone)))
    assert float(value) >= float(limit)


def test_quasi_newton_steps_back_where_there_is_no_loss():
    """The way down leads over the edge; the fit ends at the edge, and not in the step that first crosses it."""
    everyone, start = np.ones(N_CELLS), fragile_problem(0.0).parametrization.start()
    limit, _ = value_and_gradient(
        loss, jax.tree.map(lambda leaf: leaf - 0.75, start), (fragile_problem(0.0), default(everyone))
    )
    state, history = minimize(fragile_problem(limit), stacked(start), runs_of(everyone), QUASI_NEWTON, 40)
    assert np.isnan(history.loss).any()
    assert int(state.failed[0]) == -1
    assert np.nanmin(history.loss) == float(state.best_loss[0])
    assert float(limit) <= float(state.best_loss[0]) < float(limit) * 1.01


def test_a_loss_that_resembles_another_needs_fewer_steps():
    problem = usual_problem()
    runs = runs_of([TRAINING])
    first, _ = minimize(problem, starts_of(problem), runs, QUASI_NEWTON, 40)
    others = runs_of([np.where(np.arange(N_CELLS) % 9 != 0, TRAINING, 0)])
    alone, long = minimize(problem, starts_of(problem), others, QUASI_NEWTON, 40)
    near, short = minimize(problem, starts_of(problem), others, QUASI_NEWTON, 40, state=begin_near(first, QUASI_NEWTON))
    np.testing.assert_allclose(near.best_loss, alone.best_loss, rtol=1e-5)
    assert len(short.loss) <= len(long.loss) - 3
    # Its own loss is at its minimum at once.
    again, history = minimize(
        problem, starts_of(problem), runs, QUASI_NEWTON, 40, state=begin_near(first, QUASI_NEWTON)
    )
    assert len(history.loss) <= 2
    assert float(again.best_loss[0]) <= float(first.best_loss[0])


def test_a_start_without_a_finite_loss():
    state, history = minimize(
        fragile_problem(2.0), starts_of(fragile_problem(2.0)), runs_of(np.ones(N_CELLS)), ADAM, 25
    )
    assert int(state.failed[0]) == 0
    assert int(state.step[0]) == 0
    assert np.isinf(float(state.best_loss[0]))
    assert len(history.loss) == 1


@pytest.mark.parametrize("patience", [1, 5, 13])
def test_patience(patience):
    problem = usual_problem()
    state, history = minimize(problem, starts_of(problem), runs_of(TRAINING), NO_STEP, 60, patience)
    assert bool(state.stalled[0])
    assert int(state.step[0]) == patience + 1
    assert np.all(np.isfinite(history.loss))
    assert len(history.loss) == patience + 1
    assert int(state.failed[0]) == -1


def test_patience_ends_one_run_and_not_the_other():
    problem = usual_problem()
    # The first has no cells: its loss is zero from the start.
    runs = runs_of([np.zeros(N_CELLS), TRAINING])
    state, history = minimize(problem, starts_of(problem, 2), runs, ADAM, 20, 4, tolerance=1e-9)
    assert np.asarray(state.stalled).tolist() == [True, False]
    assert np.asarray(state.step).tolist() == [5, 20]
    alone, losses = minimize(problem, run_of(starts_of(problem, 2), 1), run_of(runs, 1), ADAM, 20)
    assert_close(run_of(state.parameters, 1), alone.parameters)
    np.testing.assert_allclose(history.loss[:, 1], losses.loss[:, 0], rtol=TOLERANCE)


def test_an_interrupted_fit_returns_what_was_reached():
    problem = usual_problem()
    calls = []

    def report(done, history):
        calls.append((done, history.loss.shape))
        if done == 20:
            raise KeyboardInterrupt

    state, history = minimize(problem, starts_of(problem), runs_of(TRAINING), ADAM, 45, report=report)
    assert calls == [(10, (10, 1)), (20, (20, 1))]
    assert_equal((state, history), minimize(problem, starts_of(problem), runs_of(TRAINING), ADAM, 20))


def test_reports_of_a_whole_fit():
    problem, calls = usual_problem(), []
    minimize(
        problem, starts_of(problem), runs_of(TRAINING), ADAM, 25, report=lambda *arguments: calls.append(arguments)
    )
    assert [done for done, _ in calls] == [10, 20, 25]
    assert [len(history.loss) for _, history in calls] == [10, 20, 25]


@pytest.mark.parametrize("optimizer", [LBFGS, QUASI_NEWTON], ids=["optax", "own"])
def test_a_stationary_point_is_found(optimizer):
    problem = usual_problem()
    runs = runs_of([TRAINING, TRAINING], rough=0.0)
    state, history = minimize(problem, starts_of(problem, 2), runs, optimizer, 20)
    assert np.all(np.asarray(state.failed) == -1)
    best = jax.tree.map(lambda leaf: leaf[0], state.best)
    value, gradient = value_and_gradient(loss, best, (problem, default(TRAINING)))
    slope = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient))
    assert slope < (1e-6 if jax.config.jax_enable_x64 else 1e-3)
    assert float(value) < history.loss[0, 0]


def test_a_second_fit_of_the_same_shapes_compiles_nothing(compilations):
    problem = problem_of("future", seed=1)
    runs = runs_of(TRAINING)
    first, _ = minimize(problem, starts_of(problem), runs, ADAM, 15)
    other, other_runs = problem_of("future", "symmetric", seed=2), runs_of(~TRAINING, rough=2.0)
    start = stacked(moved(other.parametrization.start(), seed=4))
    compilations.clear()
    minimize(problem, starts_of(problem), runs, ADAM, 15)
    second, _ = minimize(other, start, other_runs, ADAM, 35, patience=30, tolerance=1e-3)
    assert compilations == []
    assert float(second.best_loss[0]) != float(first.best_loss[0])
