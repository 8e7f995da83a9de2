"""Cells are parted so that neighbours stay together, in parts of the sizes that are asked for."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph._device_cells import parts_of_cells

pytestmark = pytest.mark.any_precision


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 100))
def test_parts(n_cells, n_parts, degree, seed):
    """Of any graph, without edges too, and with more parts than cells."""
    rng = np.random.default_rng(seed)
    graph = sp.csr_matrix(sp.random_array((n_cells, n_cells), density=min(1, degree / n_cells), rng=rng))
    sizes = rng.multinomial(n_cells, np.full(n_parts, 1 / n_parts)).tolist()
    parts = parts_of_cells(graph, sizes)
    assert [len(part) for part in parts] == sizes
    assert all((np.diff(part) > 0).all() for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n_cells))


def n_cut(graph, parts):
    part_of = np.empty(graph.shape[0], int)
    for number, part in enumerate(parts):
        part_of[part] = number
    entries = graph.tocoo()
    return np.count_nonzero(part_of[entries.row] != part_of[entries.col])


def test_a_line_is_cut_at_its_points():
    """In any order of the cells, with edges in one direction only: each of three cuts crosses the fewest edges."""
    n_cells, reach = 400, 3
    line = sp.csr_matrix(sum(sp.eye_array(n_cells, k=k) for k in range(1, reach + 1)))
    order = np.random.default_rng(0).permutation(n_cells)
    parts = parts_of_cells(sp.csr_matrix(line[order][:, order]), [100] * 4)
    assert n_cut(line[order][:, order], parts) <= 3 * (1 + 2 + 3)


def test_two_islands():
    rng = np.random.default_rng(0)
    island = sp.random_array((50, 50), density=0.2, rng=rng)
    both = sp.csr_matrix(sp.block_diag([island, island]))
    order = rng.permutation(100)
    both = sp.csr_matrix(both[order][:, order])
    assert n_cut(both, parts_of_cells(both, [50, 50])) == 0
