import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import ArpackNoConvergence

from jaxvelo import leading_eigenvectors as module
from jaxvelo.leading_eigenvectors import DENSE_ROWS, leading_eigenvectors

pytestmark = pytest.mark.any_precision


def example(n_rows, symmetric):
    """A sparse random walk, made symmetric or not, with eigenvalues of both signs."""
    rng = np.random.default_rng(n_rows)
    dense = rng.random((n_rows, n_rows)) * (rng.random((n_rows, n_rows)) < 0.3) + 0.1 * np.eye(n_rows)
    return dense + dense.T - 1.5 * dense.mean() if symmetric else dense / dense.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("largest", ["real", "magnitude"])
@pytest.mark.parametrize("n_rows", [3, DENSE_ROWS, DENSE_ROWS + 1, 300])
def test_equals_all_eigenvalues_of_the_dense_matrix(n_rows, largest, symmetric):
    """Where it iterates and where it does not, the largest come first, each with its vector."""
    dense = example(n_rows, symmetric)
    values, vectors = leading_eigenvectors(sp.csr_matrix(dense), 3, largest, symmetric=symmetric)
    size = np.real if largest == "real" else np.abs
    expected = np.sort(size(np.linalg.eigvals(dense)))[::-1][:3]
    np.testing.assert_allclose(size(values), expected, rtol=1e-8)
    np.testing.assert_allclose(dense @ vectors, vectors * values, atol=1e-8 * abs(values[0]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1)
    assert np.isrealobj(values) == symmetric or np.isrealobj(np.linalg.eigvals(dense))


def test_single_precision_is_computed_in_double():
    dense = example(250, True).astype(np.float32)
    values, vectors = leading_eigenvectors(sp.csr_matrix(dense), 4, "real", symmetric=True)
    np.testing.assert_allclose(dense.astype(float) @ vectors, vectors * values, atol=1e-9 * values[0])


def test_the_same_each_time():
    matrix = sp.csr_matrix(example(300, False))
    first, second = (leading_eigenvectors(matrix, 4, "real", symmetric=False) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_those_found_come_with_the_error_in_order(monkeypatch):
    def give_up(matrix, k, which, v0):
        raise ArpackNoConvergence("no convergence", np.array([0.2, 0.9]), np.eye(300)[:, :2])

    monkeypatch.setattr(module, "eigs", give_up)
    with pytest.raises(ArpackNoConvergence, match="no convergence") as caught:
        leading_eigenvectors(sp.csr_matrix(example(300, False)), 4, "real", symmetric=False)
    assert caught.value.eigenvalues.tolist() == [0.9, 0.2]
    assert caught.value.eigenvectors[:2].tolist() == [[0, 1], [1, 0]]
