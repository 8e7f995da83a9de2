import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import cluster_connectivities

pytestmark = pytest.mark.any_precision


def one_edge_after_the_other(graph, codes, n_clusters):
    entries = graph.tocoo()
    edges = np.zeros((n_clusters, n_clusters))
    for i, j in zip(entries.row, entries.col, strict=True):
        if i != j and codes[i] >= 0 and codes[j] >= 0:
            edges[codes[i], codes[j]] += 1
    sizes = np.array([(codes == a).sum() for a in range(n_clusters)])
    found = np.zeros((n_clusters, n_clusters))
    for a in range(n_clusters):
        for b in range(n_clusters):
            chance = (edges[a].sum() * sizes[b] + edges[b].sum() * sizes[a]) / (sizes.sum() - 1)
            if a != b and chance:
                found[a, b] = min(1.0, (edges[a, b] + edges[b, a]) / chance)
    return found


def test_edges_in_units_of_chance():
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 4, 80)
    distances = np.abs(place[:, None] - place)
    nearest = np.argsort(distances, axis=1)[:, :6]
    rows = np.repeat(np.arange(80), 6)
    graph = sp.csr_matrix((distances[rows, nearest.ravel()], (rows, nearest.ravel())), shape=(80, 80))
    codes = place.astype(int)
    codes[rng.choice(80, 8, replace=False)] = -1
    found = cluster_connectivities(graph, codes, 5)
    np.testing.assert_allclose(found, one_edge_after_the_other(graph, codes, 5), atol=1e-12)
    np.testing.assert_array_equal(found, found.T)
    assert found[0, 1] > 0
    assert found[0, 3] == 0
    assert not found[4].any()  # a cluster without cells


def test_clusters_of_cells_at_random_are_connected_as_by_chance():
    rng = np.random.default_rng(1)
    n = 600
    graph = sp.csr_matrix((np.ones(n * 20), (np.repeat(np.arange(n), 20), rng.integers(0, n, n * 20))), shape=(n, n))
    found = cluster_connectivities(graph, rng.integers(0, 3, n), 3)
    np.testing.assert_allclose(found[~np.eye(3, dtype=bool)], 1, atol=0.05)
