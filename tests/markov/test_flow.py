import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo import pl
from jaxvelo.markov import cluster_proportions, compute_flow, mass_between_clusters

pytestmark = pytest.mark.any_precision


def random_chain(n, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(size=(n, n)) * (rng.uniform(size=(n, n)) < 0.4)
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)


def loops(matrix, clusters, times, n_clusters):
    """The sum over pairs of cells, one pair at a time."""
    points = sorted(set(times))
    flow = np.zeros((len(points) - 1, n_clusters, n_clusters))
    for i in range(len(times)):
        for j in range(len(times)):
            for k in range(len(points) - 1):
                if times[i] == points[k] and times[j] == points[k + 1] and clusters[i] >= 0 and clusters[j] >= 0:
                    flow[k, clusters[i], clusters[j]] += matrix[i, j]
    for k in range(len(points) - 1):
        for a in range(n_clusters):
            if flow[k, a].sum() > 0:
                flow[k, a] /= flow[k, a].sum()
    return points, flow


@given(st.integers(2, 25), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_flow_against_loops(n, n_clusters, seed):
    rng = np.random.default_rng(seed)
    matrix = random_chain(n, seed)
    clusters, times = rng.integers(-1, n_clusters, n), rng.choice([0.0, 1.5, 4.0], n)
    points, flow = compute_flow(sp.csr_matrix(matrix), clusters, times, n_clusters)
    expected_points, expected = loops(matrix, clusters, times, n_clusters)
    np.testing.assert_array_equal(points, expected_points)
    np.testing.assert_allclose(flow, expected, atol=1e-12)
    np.testing.assert_array_equal(compute_flow(matrix, clusters, times, n_clusters)[1], flow)  # dense


def test_flow_by_hand():
    matrix = np.zeros((5, 5))
    matrix[0, [2, 3]] = 0.6, 0.4  # cell 0 (a, day 0) to cells 2 (a) and 3 (b) of day 1
    matrix[1, 1] = 1.0  # stays within its day: no flow
    matrix[2, 4] = 1.0
    clusters, times = np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    points, flow = compute_flow(matrix, clusters, times)
    np.testing.assert_array_equal(points, [0, 1, 2])
    np.testing.assert_allclose(flow[0], [[0.6, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(flow[1], [[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(cluster_proportions(clusters, times), [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])


@given(st.integers(2, 25), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_mass_of_one_step_against_loops(n, n_clusters, seed):
    rng = np.random.default_rng(seed)
    matrix = random_chain(n, seed)
    sources, targets = rng.integers(-1, n_clusters, (2, n))
    expected = np.zeros((n_clusters, n_clusters))
    for i in range(n):
        for j in range(n):
            if sources[i] >= 0 and targets[j] >= 0:
                expected[sources[i], targets[j]] += matrix[i, j]
    found = mass_between_clusters(sp.csr_matrix(matrix), sources, targets, n_clusters)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_pictures_have_the_same_functions():
    assert pl.compute_flow is compute_flow
    assert pl.cluster_proportions is cluster_proportions
