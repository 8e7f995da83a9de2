"""Rows that several devices can share equally."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph import EdgeMatrix, NeighborGraph
from jaxvelo.graph._buckets import bucket_shapes
from tests.graph.graphs import messy_graphs

GRAPHS = messy_graphs()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=1500), st.integers(2, 64))
def test_rows_of_a_bucket(degrees, n_devices):
    degrees = np.sort(degrees)
    shapes = bucket_shapes(degrees, n_devices)
    assert all(count % n_devices == 0 for count, _ in shapes)
    n_rows = sum(count for count, _ in shapes)
    one = sum(count for count, _ in bucket_shapes(degrees))
    assert one <= n_rows < one + n_devices
    # Rows left over stand in the first bucket, and it holds a cell.
    assert n_rows - len(degrees) < shapes[0][0]
    widths = np.repeat([width for _, width in shapes], [count for count, _ in shapes])
    assert (widths[n_rows - len(degrees) :] >= degrees).all()


def test_one_device_changes_nothing():
    degrees = np.sort(np.random.default_rng(0).poisson(30, 5000))
    assert bucket_shapes(degrees, 1) == bucket_shapes(degrees)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_graph_is_the_same(name):
    matrix = GRAPHS[name]
    graph = NeighborGraph.from_csr(matrix, n_devices=8)
    assert all(len(rows) % 8 == 0 for rows in graph.rows)
    found, expected = graph.to_csr(), NeighborGraph.from_csr(matrix).to_csr()
    assert np.array_equal(found.indptr, expected.indptr)
    assert np.array_equal(found.indices, expected.indices)
    assert np.array_equal(found.data, expected.data)
    weights = EdgeMatrix(graph, graph.edges["connectivities"].values)
    y = np.arange(matrix.shape[0], dtype=weights.values[0].dtype)
    np.testing.assert_allclose(weights @ y, matrix @ y, rtol=1e-5)
    np.testing.assert_allclose(y @ weights, matrix.T @ y, rtol=1e-5)
