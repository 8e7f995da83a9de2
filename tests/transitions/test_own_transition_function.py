"""A kernel of one's own that needs more than graph and velocity: a time of each cell, by name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from jaxvelo.graph import Edges, NeighborGraph
from jaxvelo.transitions import Features, FixedLogits, TransitionFunction, Velocity, fix_logits
from tests.transitions.examples import N_CELLS, default, example

TIME = np.linspace(0, 1, N_CELLS)[np.random.default_rng(0).permutation(N_CELLS)]
TOLERANCE = 1e-12 if jax.config.jax_enable_x64 else 2e-6


class TowardsLater(TransitionFunction):
    """Softmax of the differences of time along the edges; from a cell without neighbours, to itself."""

    log_scale: Float[Array, ""]
    time_name: str = eqx.field(static=True, default="time")

    def probabilities(self, pattern, edges, data, key):
        logits, support = self._logits(pattern, edges["connectivities"].mask, data[self.time_name])
        return tuple(
            jax.nn.softmax(jnp.where(where, jnp.exp(self.log_scale) * logit, -jnp.inf), axis=1)
            for logit, where in zip(logits, support, strict=True)
        )

    def reads(self):
        return frozenset(("connectivities", self.time_name))

    def fix(self, graph, data, name):
        logits, support = self._logits(graph.pattern, graph.edges["connectivities"].mask, data[self.time_name])
        return FixedLogits(self.log_scale, name), Edges(logits, support)

    def _logits(self, pattern, mask, time):
        logits = tuple(time[c] - time[r][:, None] for r, c in zip(pattern.rows, pattern.columns, strict=True))
        support = tuple(
            m | (~jnp.any(m, axis=1, keepdims=True) & (jnp.cumsum(c == r[:, None], axis=1) == 1) & (c == r[:, None]))
            for r, c, m in zip(pattern.rows, pattern.columns, mask, strict=True)
        )
        return logits, support


def problem(kind):
    matrix, x, v = example(kind)
    data = {"velocity": Features(default(x), default(v)), "time": default(TIME)}
    return NeighborGraph.from_csr(matrix), matrix, data


def expected(matrix, scale):
    dense = np.zeros(matrix.shape)
    for i in range(N_CELLS):
        neighbors = matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]]
        weights = np.exp(scale * (TIME[neighbors] - TIME[i]))
        dense[i, neighbors] = weights / weights.sum() if len(neighbors) else 0
        dense[i, i] += not len(neighbors)
    return dense


@pytest.mark.parametrize("kind", ["asymmetric", "isolated", "one_neighbor"])
def test_alone_and_in_a_sum(kind):
    graph, matrix, data = problem(kind)
    own = TowardsLater(default(np.log(3.0)))
    alone = own(graph, data).to_csr().toarray()
    np.testing.assert_allclose(alone, expected(matrix, 3.0), rtol=0, atol=1e-6)
    velocity = Velocity(2.0)
    mixed = (0.8 * velocity + 0.2 * own)(graph, data).to_csr().toarray()
    np.testing.assert_allclose(mixed, 0.8 * velocity(graph, data).to_csr().toarray() + 0.2 * alone, rtol=0, atol=1e-6)


def test_what_is_fixed_of_it():
    graph, _, data = problem("isolated")
    transition_function = 0.8 * Velocity(2.0) + 0.2 * TowardsLater(default(0.5))
    fixed, extended = fix_logits(transition_function, graph, data)
    assert [type(child) for child in fixed.children] == [FixedLogits, FixedLogits]

    def outcome(transition_function, graph, data):
        return jnp.sum((transition_function(graph, data) @ default(TIME)) ** 2)

    for scale in (0.5, 1.5):
        moved, moved_fixed = (
            eqx.tree_at(lambda e: e.children[1].log_scale, e, default(scale)) for e in (transition_function, fixed)
        )
        value, gradient = eqx.filter_value_and_grad(outcome)(moved, graph, data)
        found, fixed_gradient = eqx.filter_value_and_grad(outcome)(moved_fixed, extended, {})
        np.testing.assert_allclose(found, value, rtol=10 * TOLERANCE)
        slopes = (g.children[1].log_scale for g in (fixed_gradient, gradient))
        np.testing.assert_allclose(*slopes, rtol=100 * TOLERANCE, atol=10 * TOLERANCE)


def test_one_that_says_nothing_reads_all_and_stays():
    class Silent(TransitionFunction):
        def probabilities(self, pattern, edges, data, key):
            assert set(edges) == {"connectivities"}
            assert set(data) == {"velocity", "time"}
            return tuple(values / jnp.sum(values, axis=1, keepdims=True) for values in edges["connectivities"].values)

    graph, _, data = problem("symmetric")
    silent = Silent()
    assert (0.5 * silent + 0.5 * Velocity(2.0)).reads() is None
    fixed, _ = fix_logits(0.5 * silent + 0.5 * Velocity(2.0), graph, data)
    assert isinstance(fixed.children[0], Silent)
    assert silent(graph, data).shape == graph.shape
