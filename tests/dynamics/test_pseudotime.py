import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from jaxvelo.dynamics import diffusion_pseudotime
from tests.dynamics import plain


def line(n_cells, seed=0, width=3):
    """Weights of neighbours along a line."""
    rng = np.random.default_rng(seed)
    dense = sum(np.diag(rng.uniform(0.5, 1.5, n_cells - k), k) for k in range(1, width + 1))
    return dense + dense.T


@pytest.mark.parametrize("n_cells", [3, 8, 40, 150])
def test_equals_numpy(n_cells):
    weights = line(n_cells)
    count = min(10, n_cells - 1)
    expected = plain.diffusion_pseudotime(weights, 2, count)
    found = diffusion_pseudotime(sp.csr_matrix(weights), 2)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert found[2] == 0
    assert found.max() == 1


def test_with_an_end_point():
    weights = line(60)
    first, last = (plain.diffusion_pseudotime(weights, cell) for cell in (0, 59))
    mean = (first + 1 - last) / 2
    expected = (mean - mean.min()) / (mean.max() - mean.min())
    found = diffusion_pseudotime(sp.csr_matrix(weights), 0, 59)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert spearmanr(found, np.arange(60))[0] > 0.99


def test_disconnected_parts():
    """Each part as if alone; what is connected to neither root nor end has no pseudotime."""
    a, b = line(30), line(25, seed=1)
    weights = sp.csr_matrix(sp.block_diag([a, b, np.zeros((1, 1))]))
    only_root = diffusion_pseudotime(weights, 4)
    np.testing.assert_allclose(only_root[:30], diffusion_pseudotime(sp.csr_matrix(a), 4), atol=1e-8)
    assert np.isnan(only_root[30:]).all()
    both = diffusion_pseudotime(weights, 4, 30 + 24)
    np.testing.assert_allclose(both[30:55], 1 - diffusion_pseudotime(sp.csr_matrix(b), 24), atol=1e-8)
    assert np.isnan(both[55])


def test_a_root_without_neighbours():
    weights = sp.csr_matrix(sp.block_diag([line(5), np.zeros((1, 1))]))
    np.testing.assert_array_equal(diffusion_pseudotime(weights, 5), [np.nan] * 5 + [0])


def test_repeatable_and_the_argument_is_not_changed():
    weights = sp.csr_matrix(line(200))
    before = weights.copy()
    np.testing.assert_array_equal(diffusion_pseudotime(weights, 0), diffusion_pseudotime(weights, 0))
    assert (weights != before).nnz == 0
