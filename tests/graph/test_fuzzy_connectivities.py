"""Connectivities against umap-learn, against a plain loop in double precision, and their properties."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from jaxvelo.graph import fuzzy_connectivities

pytestmark = pytest.mark.any_precision


def nearest(x, n_others):
    """Nearest others by sorting all distances."""
    distances = cdist(x, x)
    np.fill_diagonal(distances, -1)
    order = np.argsort(distances, axis=1, kind="stable")[:, 1 : n_others + 1]
    return order, np.take_along_axis(distances, order, axis=1)


def plain(neighbors, distances):
    """The formula, cell by cell, with a bandwidth found to the last bit where there is one."""
    n_cells, n_others = neighbors.shape
    overall = distances.sum() / (n_cells * (n_others + 1))
    weights = np.zeros((n_cells, n_cells))
    for i in range(n_cells):
        positive = distances[i][distances[i] > 0]
        rho = positive.min() if len(positive) else 0.0
        excess = [max(d - rho, 0.0) for d in distances[i]]

        def total(sigma, excess=excess):
            return sum(math.exp(-e / sigma) for e in excess)

        low, high = 1e-12, 1e12
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if total(middle) > math.log2(n_others + 1) else (middle, high)
        floor = 1e-3 * (distances[i].sum() / (n_others + 1) if len(positive) else overall)
        for j, e in zip(neighbors[i], excess, strict=True):
            weights[i, j] = 1.0 if e == 0 else math.exp(-e / max(high, floor))
    return weights + weights.T - weights * weights.T


def cells(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * [3, 2, 1, 0.5, 0.1]
    if kind == "duplicates":
        x[10:16] = x[9]
        x[31] = x[30]
    if kind == "grid":  # many equal distances
        x = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    if kind == "far away":
        x[7] += 1e4
    if kind == "tiny":
        x = x * 1e-6
    if kind == "huge":
        x = x * 1e6
    return x


KINDS = ["usual", "duplicates", "grid", "far away", "tiny", "huge"]


@pytest.mark.parametrize("n_others", [1, 2, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_loop(kind, n_others):
    neighbors, distances = nearest(cells(kind), n_others)
    found = fuzzy_connectivities(neighbors, distances)
    distances = distances.astype(np.float32).astype(float)  # as it counts there
    # The bisection stops at an error of 1e-5 of the sum of the weights.
    np.testing.assert_allclose(found.toarray(), plain(neighbors, distances), atol=3e-5)


@pytest.mark.parametrize("n_neighbors", [2, 5, 15])
@pytest.mark.parametrize("kind", [*KINDS, "all equal"])
@pytest.mark.filterwarnings("ignore")
def test_equals_umap(kind, n_neighbors):
    umap_ = pytest.importorskip("umap.umap_", reason='scanpy\'s neighbours need `pip install "jaxvelo[tutorial]"`')
    x = np.ones((30, 2)) if kind == "all equal" else cells(kind)
    neighbors, distances = nearest(x, n_neighbors - 1)
    found = fuzzy_connectivities(neighbors, distances)
    n_cells = len(x)
    with_itself = np.c_[np.arange(n_cells), neighbors], np.c_[np.zeros(n_cells), distances]
    expected, *_ = umap_.fuzzy_simplicial_set(
        sp.coo_matrix((n_cells, 1)), n_neighbors, None, None, knn_indices=with_itself[0], knn_dists=with_itself[1]
    )
    assert abs(found - expected).max() < 1e-6
    assert found.nnz == expected.nnz
    assert found.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_cells=st.integers(3, 40),
    n_others=st.integers(1, 20),
    n_distinct=st.integers(1, 40),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e15]),
)
def test_properties(seed, n_cells, n_others, n_distinct, scale):
    """Symmetric, from 0 to 1, nobody is a neighbour of itself, and each cell has a neighbour of weight one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_distinct, 3))[rng.integers(0, n_distinct, n_cells)] * scale
    neighbors, distances = nearest(x, min(n_others, n_cells - 1))
    found = fuzzy_connectivities(neighbors, distances)
    assert found.has_canonical_format
    dense = found.toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert (found.data > 0).all()
    assert (found.data <= 1).all()
    assert not dense.diagonal().any()
    np.testing.assert_allclose(dense.max(axis=1), 1, atol=1e-6)
    pattern = np.zeros(dense.shape, dtype=bool)
    np.put_along_axis(pattern, neighbors, True, axis=1)
    assert not dense[~(pattern | pattern.T)].any()


def test_does_not_depend_on_the_order_of_cells():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 4))
    order = rng.permutation(50)
    found = fuzzy_connectivities(*nearest(x, 8)).toarray()
    permuted = fuzzy_connectivities(*nearest(x[order], 8)).toarray()
    np.testing.assert_allclose(permuted, found[order][:, order], atol=1e-6)


def test_blocks_do_not_show(monkeypatch):
    from jaxvelo.graph import _fuzzy_connectivities as module

    arguments = nearest(cells("duplicates"), 7)
    whole = fuzzy_connectivities(*arguments)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    assert abs(fuzzy_connectivities(*arguments) - whole).max() == 0


def test_arguments_stay_as_they_are():
    neighbors, distances = nearest(cells("usual"), 6)
    before = neighbors.copy(), distances.copy()
    fuzzy_connectivities(neighbors, distances)
    np.testing.assert_array_equal(neighbors, before[0])
    np.testing.assert_array_equal(distances, before[1])
