"""Expected visits against the fundamental matrix."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.markov import expected_visits

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize("n_cells", [12, 700])
def test_fundamental_matrix(n_cells):
    rng = np.random.default_rng(n_cells)
    dense = rng.random((n_cells, n_cells)) * (rng.random((n_cells, n_cells)) < 8 / n_cells)
    dense[np.arange(n_cells), (np.arange(n_cells) + 1) % n_cells] += 0.1
    dense /= dense.sum(axis=1, keepdims=True)
    terminal = np.full(n_cells, -1)
    terminal[[0, 5]] = [1, 0]
    starts = rng.integers(0, 3, n_cells).astype(float)
    free = terminal < 0
    expected = np.zeros(n_cells)
    expected[free] = starts[free] @ np.linalg.inv(np.eye(free.sum()) - dense[np.ix_(free, free)])
    found = expected_visits(sp.csr_matrix(dense), terminal, starts)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_not_known_where_no_end_is_reached():
    chain = sp.csr_matrix(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    assert np.isnan(expected_visits(chain, np.array([-1, -1, 0]), np.ones(3))[:2]).all()
