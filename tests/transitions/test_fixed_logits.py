"""Transition functions with logits computed once: the same matrices and gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.fit import weighted_sums
from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import (
    Connectivity,
    Features,
    FixedLogits,
    FixedProbabilities,
    Precomputed,
    Sum,
    Velocity,
    fix_logits,
)
from tests.transitions.examples import GENE_WEIGHTS, N_CELLS, default, example

PER_CELL = np.linspace(0.5, 4, N_CELLS)
TOLERANCE = 1e-12 if jax.config.jax_enable_x64 else 2e-6

TRANSITION_FUNCTIONS = {
    "velocity": lambda: Velocity(2.0),
    "automatic": lambda: Velocity(),
    "cosine": lambda: Velocity(2.0, GENE_WEIGHTS, similarity="cosine"),
    "dot_product": lambda: Velocity(0.5, GENE_WEIGHTS, similarity="dot_product"),
    "transpose": lambda: Velocity(2.0, backward_mode="transpose"),
    "negate": lambda: Velocity(2.0, backward_mode="negate"),
    "per_cell": lambda: Velocity(PER_CELL),
    "sum": lambda: 0.8 * Velocity(2.0) + 0.2 * Connectivity(),
    "weights_per_cell": lambda: PER_CELL * Velocity(PER_CELL) + 0.2 * Connectivity(),
    "product": lambda: Velocity(2.0) * Connectivity(),
    "bare_product": lambda: 0.5 * Velocity(2.0) + 2.0 * Connectivity() + Velocity(3.0) * Connectivity(False),
    "nested": lambda: (
        (0.3 * Velocity(2.0) + 0.7 * Connectivity()) * Velocity(1.0, similarity="cosine")
        + 3.0 * (0.5 * Velocity(1.0, backward_mode="transpose") + 0.5 * Precomputed("given"))
    ),
    "saturated": lambda: 0.9 * Velocity(1e3) + 0.1 * Connectivity(),
}
KINDS = ["asymmetric", "isolated", "zero_velocities", "duplicates", "one_neighbor", "explicit_zeros", "diagonal"]


def problem(kind):
    """Graph with further edges, features and values for a linear function."""
    matrix, x, v = example(kind)
    graph = NeighborGraph.from_csr(matrix)
    given = Connectivity(False)(graph).values
    mask = graph.edges["connectivities"].mask
    edges = type(graph.edges["connectivities"])(given, mask)
    graph = graph.with_edges({"given": edges})
    rng = np.random.default_rng(1)
    values = tuple(default(rng.normal(size=columns.shape)) for columns in graph.columns)
    return graph, {"velocity": Features(default(x), default(v))}, values


def leaves(transition_function):
    """Scales and weights."""
    terms = jax.tree.leaves(transition_function, is_leaf=lambda node: isinstance(node, Velocity | FixedLogits))
    scales = [t.log_scale for t in terms if isinstance(t, Velocity | FixedLogits) and t.log_scale is not None]
    return [*scales, *(node.weights for node in weighted_sums(transition_function))]


@eqx.filter_jit
def values_and_gradients(transition_function, graph, features, values):
    def outcome(moved):
        changed = eqx.tree_at(leaves, transition_function, moved) if moved else transition_function
        matrix = changed(graph, features)
        return jnp.sum(matrix.row_dot(values)), matrix.values

    return jax.value_and_grad(outcome, has_aux=True)(leaves(transition_function))


def assert_close(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        size = max(1, float(jnp.max(jnp.abs(other))))
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=10 * TOLERANCE * size)


@pytest.mark.parametrize("name", TRANSITION_FUNCTIONS)
def test_same_matrix_and_gradients(name):
    for kind in KINDS:
        graph, features, values = problem(kind)
        transition_function = TRANSITION_FUNCTIONS[name]()
        fixed, extended = fix_logits(transition_function, graph, features)
        (_, expected), gradient = values_and_gradients(transition_function, graph, features, values)
        # Fixed, the automatic scale is a leaf like any other.
        (_, found), other_gradient = values_and_gradients(fixed, extended, {}, values)
        assert_close(found, expected)
        if name == "automatic":
            assert len(other_gradient) == 1
            continue
        assert len(leaves(fixed)) == len(leaves(transition_function)) > 0
        assert_close(other_gradient, gradient)


@pytest.mark.parametrize("name", ["nested", "weights_per_cell"])
def test_another_scale_and_other_weights_afterwards(name):
    graph, features, values = problem("isolated")
    transition_function = TRANSITION_FUNCTIONS[name]()
    fixed, extended = fix_logits(transition_function, graph, features)
    moved = [leaf * 1.7 + 0.3 for leaf in leaves(transition_function)]
    expected = values_and_gradients(eqx.tree_at(leaves, transition_function, moved), graph, features, values)
    found = values_and_gradients(eqx.tree_at(leaves, fixed, moved), extended, {}, values)
    assert_close(found, expected)


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_terms_with_variances_stay(model):
    graph, features, _ = problem("isolated")
    term = Velocity(2.0, model=model, n_samples=3)
    transition_function = 0.8 * term + 0.2 * Connectivity()
    fixed, extended = fix_logits(transition_function, graph, features)
    assert isinstance(fixed, Sum)
    assert eqx.tree_equal(fixed.children[0], term)
    assert isinstance(fixed.children[1], FixedProbabilities)
    key = jax.random.key(0)
    found, expected = fixed(extended, features, key=key), transition_function(graph, features, key=key)
    assert_close(found.values, expected.values)
    # But a backward process by transposition knows no variances.
    transposed, _ = fix_logits(Velocity(2.0, model=model, backward_mode="transpose"), graph, features)
    assert isinstance(transposed, FixedLogits)


def test_two_transition_functions_on_one_graph():
    graph, features, values = problem("asymmetric")
    first, second = TRANSITION_FUNCTIONS["sum"](), 0.5 * Connectivity(False) + 0.5 * Velocity(7.0, similarity="cosine")
    fixed_first, extended = fix_logits(first, graph, features, prefix="a: ")
    fixed_second, extended = fix_logits(second, extended, features, prefix="b: ")
    for transition_function, fixed in ((first, fixed_first), (second, fixed_second)):
        found = values_and_gradients(fixed, extended, {}, values)
        assert_close(found, values_and_gradients(transition_function, graph, features, values))
    assert set(graph.edges) < set(extended.edges)
    # The graph that was given is as it was.
    assert set(graph.edges) == {"connectivities", "given"}
