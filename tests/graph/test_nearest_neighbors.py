"""The search in blocks on the device, which here is a CPU, against sorting all distances."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxvelo.graph import nearest_neighbors


def distances_to(x, neighbors):
    return np.linalg.norm(x[neighbors] - x[:, None], axis=2)


@pytest.mark.parametrize("block_bytes", [1, 3000, 10_000, 1 << 28])
def test_equals_sorting(block_bytes):
    """One row at a time, blocks with rows left over, and all at once."""
    x = np.random.default_rng(0).normal(size=(101, 6))
    found = np.asarray(nearest_neighbors(jnp.asarray(x, dtype=float), 7, block_bytes))
    assert found.shape == (101, 7)
    expected = np.sort(cdist(x, x), axis=1)[:, 1:8]
    np.testing.assert_allclose(distances_to(x, found), expected, rtol=1e-5)
    assert not (found == np.arange(101)[:, None]).any()


def test_duplicates_are_neighbours_and_not_the_cell_itself():
    x = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 5, axis=0)
    found = np.asarray(nearest_neighbors(jnp.asarray(x, dtype=float), 4))
    np.testing.assert_array_equal(np.sort(found, axis=1) // 5, np.repeat(np.arange(20) // 5, 4).reshape(20, 4))
    assert not (found == np.arange(20)[:, None]).any()


def test_all_others():
    x = np.random.default_rng(0).normal(size=(9, 2))
    found = np.asarray(nearest_neighbors(jnp.asarray(x, dtype=float), 8))
    np.testing.assert_array_equal(np.sort(np.c_[np.arange(9), found], axis=1), np.tile(np.arange(9), (9, 1)))
