"""Products are as precise as their numbers on every device: the compiler is asked for that, in values and gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.dynamics import diffusion_pseudotime, local_confidence, velocity_coherence
from jaxvelo.dynamics._curve_fit import Prior, fit_curves
from jaxvelo.fit import FunctionOf, standard_errors
from jaxvelo.graph import TransitionMatrix, neighborhood_moments
from jaxvelo.graph._precision import full_precision
from jaxvelo.markov import absorption_probabilities, expected_displacement, project
from jaxvelo.transitions import BACKWARD_MODES, MODELS, SIMILARITIES, Connectivity, Velocity
from jaxvelo.trends._sums import _block_sums
from tests.fit.problems import N_FATES, OBJECTIVES, dataset, functions, problem_of, terminal_cells
from tests.transitions.examples import N_CELLS, N_GENES, default

pytestmark = pytest.mark.any_precision
GENE_WEIGHTS = np.linspace(0.5, 2.0, N_GENES)


def products(function, *arguments):
    """Lines of the program that multiply arrays."""
    arrays, static = eqx.partition(arguments, eqx.is_array)
    lowered = jax.jit(lambda arrays: function(*eqx.combine(arrays, static))).lower(arrays)
    return [line for line in lowered.as_text().splitlines() if "dot_general" in line]


def assert_precise(function, *arguments):
    found = products(function, *arguments)
    assert found
    assert [line for line in found if "precision = [HIGHEST, HIGHEST]" not in line] == []


def gradient(function, *arguments):
    """Of the sum of all results, in the first argument."""

    def total(first, *rest):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(first, *rest)) if eqx.is_inexact_array(leaf))

    return eqx.filter_grad(total)(*arguments)


def velocity_similarity(v, displacements):
    return displacements @ v


def test_other_products_are_found():
    """Those of which nothing was said; and what was said does not outlast the call."""
    x = jnp.ones((3, 3))
    assert "DEFAULT" in products(lambda x: x @ x, x)[0]
    assert_precise(full_precision(lambda x: x @ x), x)
    assert "DEFAULT" in products(lambda x: full_precision(jnp.sin)(x) @ x, x)[0]


@pytest.mark.parametrize("similarity", [*SIMILARITIES, velocity_similarity])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("backward_mode", [None, *BACKWARD_MODES])
def test_transitions(model, similarity, backward_mode):
    _, graph, features = dataset()
    velocity = Velocity(4.0, GENE_WEIGHTS, model=model, similarity=similarity, backward_mode=backward_mode, n_samples=3)
    key = jax.random.key(0)
    arguments = graph.pattern, graph.edges, features, key
    assert_precise(velocity.probabilities, *arguments)
    assert_precise(velocity.logits, graph.pattern, graph.mask, features["velocity"])
    assert_precise(lambda *a: gradient(lambda velocity: velocity.probabilities(*a[1:]), a[0]), velocity, *arguments)


def test_products_with_transitions():
    _, graph, features = dataset()
    y = default(np.ones((N_CELLS, 3)))

    def after(values, y):
        return TransitionMatrix(graph, values) @ y

    transitions = Connectivity()(graph, features)
    assert_precise(after, transitions.values, y)
    assert_precise(lambda *a: gradient(after, *a), transitions.values, y)
    assert_precise(project, transitions, y)
    assert_precise(expected_displacement, transitions, y)
    assert_precise(neighborhood_moments, graph.pattern, graph.edges["connectivities"].values, y)
    assert_precise(velocity_coherence, graph, y)


def test_absorption():
    matrix, graph, features = dataset()
    transitions = Connectivity()(graph, features)
    terminal = jnp.asarray(terminal_cells(matrix))

    def probabilities(transitions, terminal):
        return absorption_probabilities(transitions, terminal, N_FATES).probabilities

    # The probabilities themselves are solved for on the host, in double precision.
    assert_precise(lambda *a: gradient(probabilities, *a), transitions, terminal)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fits(objective):
    problem = problem_of(objective, train=("scale", "weights", "gene_weights"), scale_cells=functions())
    start = problem.parametrization.start()
    everyone = jnp.ones((2, N_CELLS))
    assert_precise(problem.on_cells, start, everyone)
    assert_precise(lambda *a: gradient(problem.on_cells, *a), start, everyone)


def test_standard_errors():
    problem = problem_of("fate", weight_cells=functions())
    start = problem.parametrization.start()
    n_numbers = sum(x.size for x in jax.tree.leaves((start.log_scales, start.weight_logits)))
    assert_precise(lambda *a: standard_errors(problem, *a), start, jnp.eye(n_numbers))


def test_losses_of_users():
    """Functions of users are as precise where items are scored as where they are fitted."""
    said = []

    def function(transitions):
        said.append(jax.config.jax_default_matmul_precision)
        return transitions.row_sums()

    problem = problem_of("function")
    problem = eqx.tree_at(lambda p: p.objective, problem, FunctionOf(function, N_CELLS))
    start = problem.parametrization.start()
    problem.on_cells(start, jnp.ones((1, N_CELLS)))
    problem.item_losses(start)
    assert said == ["highest"] * 2
    assert jax.config.jax_default_matmul_precision is None


def test_fit_of_curves():
    n_genes, n_points = 16, 20
    prior = Prior(default(np.zeros((n_genes, 4))), default(np.zeros((n_genes, 4, 4))))
    points = default(np.ones((n_genes, 2, n_points))), default(np.ones((n_genes, n_points)))
    branches = jnp.zeros((n_genes, n_points), jnp.int32)
    assert_precise(fit_curves, default(np.zeros((n_genes, 4))), *points, branches, prior, 5)


def test_times():
    _, graph, _ = dataset("symmetric")
    weights = graph.edges["connectivities"].values
    assert_precise(lambda weights: gradient(lambda w: diffusion_pseudotime(graph, w, 0), weights), weights)
    assert_precise(local_confidence, default(np.ones(N_CELLS)), default(np.ones(N_CELLS)))


@pytest.mark.parametrize("counts", [False, True])
def test_sums_of_trends(counts):
    n_cells, n_genes, n_knots = 12, 3, 6
    cells = [default(np.full(n_cells, 0.5))] * 3
    curves = default(np.ones((n_genes, n_knots)))
    genes = default(np.ones(n_genes)), curves, default(np.ones(n_genes))
    given = {"n_knots": n_knots, "spline_order": 3, "counts": counts}
    share = default(np.full(n_cells, 0.5)), curves
    values = default(np.ones((n_cells, n_genes)))
    assert_precise(lambda *a: _block_sums(*a, **given), values, *cells, *genes, *share)
