"""Fates that are not known make no loss that could be taken for one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvelo.fit import FateLikelihood, minimize
from jaxvelo.markov import Outcome
from tests.finite_differences import value_and_gradient
from tests.fit.problems import N_CELLS, loss, problem_of
from tests.fit.test_minimize import runs_of, stacked
from tests.markov.test_absorption import line


def test_cells_that_reach_no_end():
    """The loss, whatever the cells that it is of, and so the fit; the reason is told."""
    problem = problem_of("fate")
    start, everyone = problem.parametrization.start(), np.ones(N_CELLS)
    assert problem.why_not_finite(start) == ""
    broken = eqx.tree_at(lambda p: p.objective.terminal, problem, jnp.full(N_CELLS, -1))
    value, _ = value_and_gradient(loss, start, (broken, jnp.asarray(everyone, dtype=float)))
    assert np.isnan(float(value))
    assert broken.why_not_finite(start) == Outcome.UNREACHABLE.explanation
    state, history = minimize(broken, stacked(start), runs_of(everyone), optax.adam(0.1), 5)
    assert int(state.failed[0]) == 0
    assert np.isnan(history.loss).all()


def test_why_a_sum_is_not_finite():
    problem = problem_of("total")
    start = problem.parametrization.start()
    assert problem.why_not_finite(start) == ""
    broken = eqx.tree_at(lambda p: p.objective.terms[0].terminal, problem, jnp.full(N_CELLS, -1))
    assert broken.why_not_finite(start) == Outcome.UNREACHABLE.explanation


def test_fates_that_are_not_accurate():
    n = 12_000
    transitions, terminal = line(n)
    items = jnp.arange(3) + 1
    objective = FateLikelihood(terminal, 2, jnp.zeros(3, jnp.int32), items, jnp.ones(3))
    assert np.isnan(np.asarray(objective.item_losses((transitions,), {}, jax.random.key(0)))).all()
    assert objective.why_not_finite((transitions,)) == Outcome.INACCURATE.explanation
    transitions, terminal = line(n // 10)
    objective = FateLikelihood(terminal, 2, jnp.zeros(3, jnp.int32), items, jnp.ones(3))
    found = np.asarray(objective.item_losses((transitions,), {}, jax.random.key(0)))
    np.testing.assert_allclose(found, -np.log(1 - np.arange(1, 4) / (n // 10 - 1)), rtol=0, atol=2e-7)
