"""Shares of the fates of sets of cells, once more in plain NumPy, and where a set counts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxvelo.fit import FateLikelihood, FateProportions, Problem
from jaxvelo.markov import Outcome
from tests.finite_differences import check_gradient
from tests.fit.problems import (
    GENE_WEIGHTS,
    KEY,
    N_CELLS,
    N_FATES,
    dataset,
    loss,
    moved,
    problem_of,
    terminal_cells,
    usual,
)
from tests.fit.test_objectives import TOLERANCE, absorbed, loss_of, plain_transitions
from tests.transitions.examples import default

SETS = [np.arange(9), np.array([5, 20, 21]), np.array([30]), np.array([3, 33])]
evaluated = eqx.filter_jit(lambda transition_function, graph, features: transition_function(graph, features))
COUNTS = np.array([[8, 1, 1], [0, 2.5, 2.5], [0, 0, 1], [3, 0, 1]])


def objective_of(matrix, sets=SETS, counts=COUNTS):
    totals = counts.sum(axis=1)
    return FateProportions(
        terminal=jnp.asarray(terminal_cells(matrix)),
        n_fates=N_FATES,
        shares=default(counts / totals[:, None]),
        member=jnp.asarray(np.concatenate(sets)),
        member_of=jnp.asarray(np.repeat(np.arange(len(sets)), [len(cells) for cells in sets])),
        cell=jnp.asarray([cells[0] for cells in sets]),
        weight=default(totals),
    )


def problem():
    """The problem of known fates, with another objective."""
    matrix, graph, features = dataset()
    parametrization = problem_of("fate").parametrization
    return Problem.prepare(parametrization, objective_of(matrix), graph, features, jax.random.key(KEY))


def test_by_plain_sums():
    matrix, graph, features = dataset()
    objective = objective_of(matrix)
    fates = absorbed(plain_transitions("asymmetric", GENE_WEIGHTS), terminal_cells(matrix))
    logarithms = np.log([fates[cells].mean(axis=0) for cells in SETS])
    expected = -(COUNTS * logarithms).sum(axis=1)
    transitions = evaluated(usual(), graph, features)
    found = np.asarray(objective.item_losses((transitions,), features, None)) * COUNTS.sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=30 * TOLERANCE)
    mean = float(loss_of(objective, usual(), graph, features, jax.random.key(KEY)))
    np.testing.assert_allclose(mean, expected.sum() / COUNTS.sum(), rtol=0, atol=5 * TOLERANCE)
    # Single cells are known fates.
    one_by_one = objective_of(matrix, [np.array([c]) for c in (5, 20, 21)], np.eye(3))
    known = FateLikelihood(objective.terminal, N_FATES, jnp.arange(3), jnp.asarray([5, 20, 21]), jnp.ones(3))
    found, expected = (o.item_losses((transitions,), features, None) for o in (one_by_one, known))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradient():
    whole = problem()
    check_gradient(loss, moved(whole.parametrization.start()), arguments=(whole, jnp.ones(N_CELLS)))


def test_a_set_counts_where_more_than_half_of_its_cells_are():
    objective = objective_of(dataset()[0])
    masks = np.zeros((4, N_CELLS))
    masks[0] = 1
    masks[1, :5] = 1  # five of nine, none of three and of one, one of two
    masks[2, [20, 21, 30]] = 1
    counted = np.asarray(objective.weights_in(jnp.asarray(masks, dtype=float)))
    expected = COUNTS.sum(axis=1) * [[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(counted, expected, rtol=1e-6)
    # Never on both sides of a split.
    rng = np.random.default_rng(0)
    sides = rng.random((50, N_CELLS)) < 0.5
    both = [np.asarray(objective.weights_in(jnp.asarray(side, dtype=float))) > 0 for side in (sides, ~sides)]
    assert not (both[0] & both[1]).any()
    np.testing.assert_array_equal(objective.cells_with_items, np.unique(np.concatenate(SETS)))


def test_fates_that_are_not_known():
    matrix, graph, features = dataset()
    objective = eqx.tree_at(lambda o: o.terminal, objective_of(matrix), jnp.full(N_CELLS, -1))
    transitions = (evaluated(usual(), graph, features),)
    assert np.isnan(np.asarray(objective.item_losses(transitions, features, None))).all()
    assert objective.why_not_finite(transitions) == Outcome.UNREACHABLE.explanation
