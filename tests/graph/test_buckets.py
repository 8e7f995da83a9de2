import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph import NeighborGraph
from jaxvelo.graph._buckets import bucket_shapes, next_size


@given(st.integers(1, 10**7), st.sampled_from([4, 16]))
def test_sizes_are_rounded_up_by_at_most_one_rung(n, steps):
    size = next_size(n, steps)
    assert n <= size <= n + -(-n // steps)
    assert next_size(size, steps) == size


@given(st.integers(1, 10**6), st.integers(1, 1000))
def test_sizes_are_monotone(n, more):
    assert next_size(n) <= next_size(n + more)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=1500))
def test_every_row_fits_its_bucket(degrees):
    degrees = np.sort(degrees)
    shapes = bucket_shapes(degrees)
    n_rows = sum(rows for rows, _ in shapes)
    assert n_rows == next_size(len(degrees))
    widths = np.repeat([width for _, width in shapes], [rows for rows, _ in shapes])
    assert (widths[n_rows - len(degrees) :] >= degrees).all()
    assert (widths >= 1).all()


def test_hubs_stand_apart():
    degrees = np.sort(np.concatenate([np.full(99_900, 30), np.full(100, 5_000)]))
    shapes = bucket_shapes(degrees)
    slots = sum(rows * width for rows, width in shapes)
    assert slots < 3 * degrees.sum()
    assert slots < 0.02 * len(degrees) * degrees.max()


def test_similar_data_sets_share_shapes():
    rng = np.random.default_rng(0)
    degrees = np.sort(30 + rng.poisson(10, 3700))
    assert bucket_shapes(degrees) == bucket_shapes(np.sort(rng.choice(degrees, 3640, replace=False)))


def test_fill_of_a_real_graph(shared):
    import anndata

    connectivities = anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad").obsp["connectivities"]
    graph = NeighborGraph.from_csr(connectivities)
    slots = sum(columns.size for columns in graph.columns)
    assert connectivities.nnz / slots == pytest.approx(0.79, abs=0.03)


@pytest.mark.any_precision
def test_many_rows_leave_fewer_slots_empty():
    degrees = np.sort(29 + np.random.default_rng(0).gamma(0.8, 25, 1_000_000).astype(int))  # a skew as of neighbours

    def filled(degrees):
        return degrees.sum() / sum(rows * width for rows, width in bucket_shapes(degrees))

    few, many = filled(degrees[::2][: (1 << 19) - 1]), filled(degrees)
    assert many > 0.8
    assert few < many - 0.08
    assert len(bucket_shapes(degrees)) <= 16
