"""Connectivities biased by a pseudotime: against plain NumPy, gradients, single precision, functions of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import Edges, NeighborGraph
from jaxvelo.transitions import Connectivity, FixedProbabilities, Pseudotime, fix_logits, in_parts, strength_order
from tests.finite_differences import check_gradient
from tests.transitions import plain
from tests.transitions.examples import N_CELLS, default, example

DOUBLE = jax.config.jax_enable_x64
TOLERANCE = 1e-13 if DOUBLE else 5e-7
TIME = np.random.default_rng(3).permutation(N_CELLS) / N_CELLS
TIME[[3, 9, 20]] = TIME[4]  # cells of the same time are not earlier


def expected(matrix, scheme, backward=False, frac_to_keep=0.3, b=10.0, nu=0.5, time=TIME):
    pattern, weights = plain.dense(matrix)
    time = time.max() - time if backward else time
    biased = np.zeros_like(weights)
    for i in range(len(time)):
        neighbors = np.flatnonzero(pattern[i])
        w, later = weights[i, neighbors], time[neighbors] >= time[i]
        if scheme == "hard":
            closest = np.argsort(w, kind="stable")[::-1][: min(30, int(np.floor(len(w) * frac_to_keep)))]
            kept = later.copy()
            kept[closest] = True
            biased[i, neighbors] = np.where(kept, w, 0)
        else:
            loss = 2 / (1 + np.exp(b * (time[i] - time[neighbors]))) ** (1 / nu)
            biased[i, neighbors] = np.where(later, w, w * loss)
    return plain.normalize(biased, plain.uniform(pattern))


@pytest.mark.parametrize("kind", ["asymmetric", "isolated", "explicit_zeros", "one_neighbor"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("scheme", "numbers"), [("hard", (0.3, 1, 1)), ("hard", (0, 1, 1)), ("soft", (0, 4.0, 0.3))])
def test_against_plain_numpy(kind, backward, scheme, numbers):
    matrix, _, _ = example(kind)
    matrix.data = np.minimum(matrix.data, 0.3)  # many of the same strength
    found = Pseudotime(scheme, *numbers, backward=backward)(NeighborGraph.from_csr(matrix), {"time": in_parts(TIME)})
    wanted = expected(matrix, scheme, backward, *numbers)
    np.testing.assert_allclose(found.to_csr().toarray(), wanted, rtol=0, atol=TOLERANCE)


def test_order_of_strengths():
    """Where edges hold the order, it is what is gone by."""
    matrix, _, _ = example("asymmetric")
    order = strength_order(matrix)
    for row, places in zip(matrix, order, strict=True):
        np.testing.assert_array_equal(row.data[np.argsort(places.data)], np.sort(row.data)[::-1])
        np.testing.assert_array_equal(np.sort(places.data), np.arange(1, row.nnz + 1))
    order.data = matrix.data.argsort().argsort() + 1.0
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        order.data[start:end] = np.arange(1, end - start + 1)  # those of the smallest numbers first
    graph = NeighborGraph.from_csr({"connectivities": matrix, "order": order})
    found = Pseudotime("hard", 0.5, order="order")(graph, {"time": in_parts(np.zeros(N_CELLS) - np.arange(N_CELLS))})
    for i, row in enumerate(found.to_csr()):
        neighbors = matrix[i].indices
        kept = (np.arange(len(neighbors)) < len(neighbors) // 2) | (neighbors < i)
        np.testing.assert_array_equal(row.indices, neighbors[kept])


def test_rows_of_earlier_cells_alone_in_single_precision():
    """Weights too small for single precision, whose ratios are ordinary numbers."""
    matrix = sp.csr_matrix(np.array([[0, 1, 0.5, 0.25], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0.0]]))
    time = np.array([0.9, 0.5, 0.52, 0.899999999])
    found = Pseudotime("soft", b=8, nu=0.01)(NeighborGraph.from_csr(matrix), {"time": in_parts(time)})
    wanted = expected(matrix, "soft", b=8, nu=0.01, time=time)
    np.testing.assert_allclose(found.to_csr().toarray(), wanted, rtol=0, atol=TOLERANCE)
    hard = Pseudotime("hard", 0)(NeighborGraph.from_csr(matrix), {"time": in_parts(time + 1e6)})
    assert hard.to_csr()[0].nnz == 3, "nowhere to go: to each neighbour"
    np.testing.assert_array_equal(hard.to_csr()[3].indices, [0])


def outcome(argument, graph, values):
    transition_function, time = argument
    return jnp.sum(transition_function(graph, {"time": time}).row_dot(values))


def test_gradients():
    matrix, _, _ = example("explicit_zeros")
    graph = NeighborGraph.from_csr(matrix)
    values = tuple(default(np.random.default_rng(0).normal(size=c.shape)) for c in graph.columns)
    distinct = np.random.default_rng(5).permutation(N_CELLS) / N_CELLS
    argument = Pseudotime("soft", b=3.0, nu=0.4), default(distinct)
    gradient = check_gradient(outcome, argument, arguments=(graph, values), step=1e-6, rtol=1e-5)
    assert gradient[0].log_b != 0
    assert gradient[0].log_nu != 0


def test_function_of_ones_own_and_what_is_fixed():
    matrix, _, _ = example("isolated")
    graph, data = NeighborGraph.from_csr(matrix), {"time": in_parts(TIME)}
    own = Pseudotime(lambda t, others, weights: jnp.where(others < t, weights * jnp.exp(others - t), weights))
    for backward in (False, True):
        time = TIME.max() - TIME if backward else TIME
        pattern, weights = plain.dense(matrix)
        biased = np.where(time[None] < time[:, None], weights * np.exp(time[None] - time[:, None]), weights)
        own = Pseudotime(own.scheme, backward=backward)
        wanted = plain.normalize(biased, plain.uniform(pattern))
        np.testing.assert_allclose(own(graph, data).to_csr().toarray(), wanted, rtol=0, atol=TOLERANCE)
    fixed, extended = fix_logits(0.5 * own + 0.5 * Pseudotime("soft"), graph, data)
    assert [type(child) for child in fixed.children] == [FixedProbabilities, Pseudotime]
    assert isinstance(extended.edges["fixed 0"], Edges)
    with pytest.raises(ValueError, match=r"one of .*'hard', 'soft'.* or a function"):
        Pseudotime("firm")


def test_together_with_others():
    matrix, _, _ = example("symmetric")
    graph, data = NeighborGraph.from_csr(matrix), {"time": in_parts(TIME)}
    mixed = (0.7 * Pseudotime() + 0.3 * Connectivity())(graph, data).to_csr().toarray()
    parts = Pseudotime()(graph, data).to_csr().toarray(), Connectivity()(graph).to_csr().toarray()
    np.testing.assert_allclose(mixed, 0.7 * parts[0] + 0.3 * parts[1], rtol=0, atol=TOLERANCE)
