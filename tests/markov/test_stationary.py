import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.markov import closed_classes, stationary_distributions
from tests.dynamics import plain


def drift(n_cells, up=0.6, seed=0):
    """A walk along a line that drifts to its end."""
    rng = np.random.default_rng(seed)
    dense = np.diag(rng.uniform(up - 0.1, up + 0.1, n_cells - 1), 1)
    dense += np.diag(1 - up - 0.1 + 0.2 * rng.random(n_cells - 1), -1)
    return dense / dense.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_cells", [2, 5, 60, 300])
def test_equals_a_linear_system(n_cells):
    dense = drift(n_cells)
    found = stationary_distributions(sp.csr_matrix(dense), tolerance=1e-9)
    np.testing.assert_allclose(found, plain.stationary(dense)[:, None], atol=1e-10)
    np.testing.assert_allclose(found.sum(axis=0), 1)


def test_each_closed_class_has_its_own_distribution():
    """Two parts, and cells in between that leave for both of them."""
    a, b = drift(40), drift(250, seed=1)
    dense = np.zeros((295, 295))
    dense[:40, :40], dense[45:, 45:] = a, b
    for i in range(40, 45):
        dense[i, [i - 1, i + 1]] = 0.5
    classes = closed_classes(sp.csr_matrix(dense))
    assert [c.tolist() for c in classes] == [list(range(40)), list(range(45, 295))]
    found = stationary_distributions(sp.csr_matrix(dense))
    assert found.shape == (295, 2)
    np.testing.assert_allclose(found[:40, 0], plain.stationary(a), atol=1e-9)
    np.testing.assert_allclose(found[45:, 1], plain.stationary(b), atol=1e-9)
    assert not found[40:, 0].any()
    assert not found[:45, 1].any()


def test_almost_stationary_states_count_within_the_tolerance():
    """Two halves with a narrow bridge: one stationary distribution, and one state that takes long to decay."""
    dense = np.kron(np.eye(2), np.full((120, 120), 1 / 120))
    dense[0, 120] = dense[120, 0] = 1e-2
    dense /= dense.sum(axis=1, keepdims=True)
    matrix = sp.csr_matrix(dense)
    gap = 1 - np.sort(np.linalg.eigvals(dense).real)[-2]
    assert 0 < gap < 1e-3
    assert stationary_distributions(matrix, tolerance=gap / 2).shape == (240, 1)
    assert stationary_distributions(matrix, tolerance=2 * gap).shape == (240, 2)


def test_stored_zeros_are_no_edges_and_the_argument_is_not_changed():
    dense = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    matrix = sp.csr_matrix(np.ones((3, 3)))
    matrix.data[:] = dense.ravel()
    np.testing.assert_allclose(stationary_distributions(matrix), [[0.5], [0.5], [0.0]], atol=1e-12)
    assert matrix.nnz == 9


def test_repeatable():
    matrix = sp.csr_matrix(drift(400))
    np.testing.assert_array_equal(stationary_distributions(matrix), stationary_distributions(matrix))
