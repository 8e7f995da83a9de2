import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.markov import cross_boundary_correctness
from tests.finite_differences import check_gradient
from tests.markov.chains import chain, csr, messy_chain, permuted, with_lone_cells

PAIRS = [
    ("Ngn3 low EP", "Ngn3 high EP"),
    ("Ngn3 high EP", "Pre-endocrine"),
    ("Pre-endocrine", "Alpha"),
    ("Pre-endocrine", "Beta"),
]


def tolerance():
    return 1e-10 if jax.config.jax_enable_x64 else 1e-5


def scores_of(dense, weights, features, source, target):
    """The scores, cell by cell in float64."""
    scores = np.full(len(dense), np.nan)
    boundary = source & ((weights != 0) & target[None, :]).any(axis=1)
    for i in np.flatnonzero(boundary):
        displacement = features - features[i]
        expected, observed = dense[i] @ displacement, (weights[i] * target) @ displacement
        if np.ptp(expected) > 0 and np.ptp(observed) > 0:
            scores[i] = np.corrcoef(expected, observed)[0, 1]
    return scores, boundary


def distances(n_cells, seed=0, n_neighbors=5):
    """Distances to a few neighbours: asymmetric, with zeros stored for duplicates, and two cells without any."""
    rng = np.random.default_rng(seed)
    stored = np.zeros((n_cells, n_cells), dtype=bool)
    for i in range(n_cells):
        stored[i, rng.choice(np.delete(np.arange(n_cells), i), n_neighbors, replace=False)] = True
    stored[[4, 9]] = False
    weights = np.where(stored & (rng.random(stored.shape) < 0.8), 0.1 + rng.random(stored.shape), 0)
    return weights, stored


def problem(n_cells=40, seed=0, n_features=6):
    matrix, dense, _ = messy_chain(n_cells, seed)
    weights, stored = distances(n_cells, seed)
    rng = np.random.default_rng(seed + 1)
    label = rng.integers(0, 3, n_cells)
    graph = NeighborGraph.from_csr({"distances": csr(weights, stored)})
    return matrix, dense, graph, weights, rng.normal(size=(n_cells, n_features)), label == 0, label == 1


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_reference(pancreas, source, target):
    adata = pancreas.adata
    graph = NeighborGraph.from_csr({"distances": adata.obsp["distances"]})
    clusters = adata.obs["clusters"].to_numpy()
    scores, boundary = cross_boundary_correctness(
        pancreas.transitions["combined"], adata.obsm["X_pca"], clusters == source, clusters == target, graph
    )
    expected = pancreas.results[f"cbc/{source}->{target}/X_pca"]
    np.testing.assert_allclose(np.asarray(scores)[np.asarray(boundary)], expected, atol=tolerance())
    assert np.all(np.isnan(np.asarray(scores)[~np.asarray(boundary)]))


@pytest.mark.parametrize("n_cells", [20, 100])
@pytest.mark.parametrize("n_features", [2, 7])
def test_messy_graphs(n_cells, n_features):
    matrix, dense, graph, weights, features, source, target = problem(n_cells, n_features=n_features)
    expected, expected_boundary = scores_of(dense, weights, features, source, target)
    scores, boundary = cross_boundary_correctness(
        matrix, jnp.asarray(features, dtype=float), source, target, graph, edges="distances"
    )
    np.testing.assert_array_equal(boundary, expected_boundary)
    assert boundary.any()
    np.testing.assert_allclose(scores, expected, atol=tolerance())


def test_one_step_along_and_against_the_boundary():
    # The target is cell 2, a neighbour of 0 and 1. Cell 0 goes there, 1 the other way; 3 has distance zero from it.
    matrix = chain(np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], dtype=float))
    weights = np.zeros((4, 4))
    weights[:2, 2] = 2.0
    stored = weights > 0
    stored[3, 2] = True
    features = jnp.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    graph = NeighborGraph.from_csr({"distances": csr(weights, stored)})
    source = np.array([True, True, False, True])
    scores, boundary = cross_boundary_correctness(matrix, features, source, ~source, graph)
    assert boundary.tolist() == [True, True, False, False]
    np.testing.assert_allclose(scores, [1, -1, np.nan, np.nan], atol=1e-6)


def test_no_correlation_without_variation():
    matrix, _, graph, _, features, source, target = problem()
    lonely = TransitionMatrix(matrix.graph, tuple(jnp.zeros_like(v) for v in matrix.values))
    scores, boundary = cross_boundary_correctness(lonely, jnp.asarray(features, dtype=float), source, target, graph)
    assert boundary.any()
    assert np.all(np.isnan(scores))
    scores, _ = cross_boundary_correctness(matrix, jnp.asarray(features[:, :1], dtype=float), source, target, graph)
    assert np.all(np.isnan(scores))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_cells_padding_and_frame_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    _, dense, stored = messy_chain(24, seed)
    matrix, _, graph, weights, features, source, target = problem(24, seed)
    expected, _ = scores_of(dense, weights, features, source, target)
    order = rng.permutation(24)
    _, stored_distances = distances(24, seed)
    shuffled, _ = cross_boundary_correctness(
        permuted(dense, stored, order),
        jnp.asarray(features[order], dtype=float),
        source[order],
        target[order],
        NeighborGraph.from_csr(
            {"distances": csr(weights[np.ix_(order, order)], stored_distances[np.ix_(order, order)])}
        ),
    )
    np.testing.assert_allclose(shuffled, expected[order], atol=tolerance())
    n_more = 70
    pad = ((0, n_more), (0, n_more))
    larger, _ = cross_boundary_correctness(
        with_lone_cells(dense, stored, n_more),
        jnp.asarray(np.pad(features, ((0, n_more), (0, 0))), dtype=float),
        np.pad(source, (0, n_more)),
        np.pad(target, (0, n_more)),
        NeighborGraph.from_csr({"distances": csr(np.pad(weights, pad), np.pad(stored_distances, pad))}),
    )
    np.testing.assert_allclose(larger[:24], expected, atol=tolerance())
    moved, _ = cross_boundary_correctness(matrix, jnp.asarray(3 * features + 1, dtype=float), source, target, graph)
    np.testing.assert_allclose(moved, expected, atol=tolerance())


def total(scores):
    return jnp.nansum(jnp.asarray(np.random.default_rng(0).normal(size=scores.shape)) * scores)


def stays(matrix, cell):
    """Let a cell stay: an expected step of length zero, whose norm has no derivative."""
    graph = matrix.graph
    position, values, start = int(graph.position[cell]), [], 0
    for columns, value in zip(graph.columns, matrix.values, strict=True):
        if start <= position < start + len(value):
            value = value.at[position - start].set(0)
        values.append(value)
        start += len(columns)
    return tuple(values)


@pytest.mark.parametrize("staying", [False, True])
def test_gradient(staying):
    matrix, _, graph, _, features, source, target = problem()
    boundary = np.flatnonzero(cross_boundary_correctness(matrix, features, source, target, graph)[1])
    values = stays(matrix, boundary[0]) if staying else matrix.values

    def in_features(x):
        scores, _ = cross_boundary_correctness(TransitionMatrix(matrix.graph, values), x, source, target, graph)
        return total(scores)

    def in_probabilities(v):
        scores, _ = cross_boundary_correctness(TransitionMatrix(matrix.graph, v), features, source, target, graph)
        # Moved by a little, a cell that stayed has a correlation of one sign or the other.
        return total(scores.at[boundary[0]].set(jnp.nan))

    check_gradient(in_features, features)
    check_gradient(in_probabilities, values)
