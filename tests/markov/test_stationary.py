import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import TransitionMatrix
from jaxvelo.markov import (
    _krylov_schur,
    _slow_long_run,
    _stationary,
    closed_classes,
    stationary_distribution,
)
from tests.dynamics import plain
from tests.finite_differences import check_gradient
from tests.markov.chains import chain, messy_chain


def drift(n_cells, up=0.6, seed=0):
    """A walk along a line that drifts to its end."""
    rng = np.random.default_rng(seed)
    dense = np.diag(rng.uniform(up - 0.1, up + 0.1, n_cells - 1), 1)
    dense += np.diag(1 - up - 0.1 + 0.2 * rng.random(n_cells - 1), -1)
    return dense / dense.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_cells", [2, 5, 60, 300])
def test_equals_a_linear_system(n_cells):
    dense = drift(n_cells)
    found = stationary_distribution(sp.csr_matrix(dense))
    np.testing.assert_allclose(found, plain.stationary(dense), atol=1e-10)
    np.testing.assert_array_equal(found, stationary_distribution(sp.csr_matrix(dense)))


def test_stored_zeros_are_no_edges_and_the_argument_is_not_changed():
    dense = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    matrix = sp.csr_matrix(np.ones((3, 3)))
    matrix.data[:] = dense.ravel()
    np.testing.assert_allclose(stationary_distribution(matrix), [0.5, 0.5, 0.0], atol=1e-12)
    assert matrix.nnz == 9


def long_run(dense, eta):
    """By brute force; half of the steps stay, so that nothing is periodic."""
    return eta @ np.linalg.matrix_power((dense + np.eye(len(dense))) / 2, 2**24)


@pytest.mark.parametrize("seed", range(3))
def test_many_closed_classes_weighted_by_the_probability_to_end_there(seed):
    matrix, dense, _ = messy_chain(seed=seed)
    eta = np.random.default_rng(seed).random(len(dense))
    eta /= eta.sum()
    assert len(closed_classes(sp.csr_matrix(dense))) > 2
    found = stationary_distribution(sp.csr_matrix(dense), eta)
    np.testing.assert_allclose(found, long_run(dense, eta), atol=1e-12)
    np.testing.assert_allclose(stationary_distribution(sp.csr_matrix(dense)), long_run(dense, np.full(40, 1 / 40)))
    of_graph = stationary_distribution(matrix, eta)
    assert of_graph.dtype == matrix.values[0].dtype
    np.testing.assert_allclose(of_graph, found, atol=1e-12 if jax.config.jax_enable_x64 else 1e-6)


@pytest.mark.parametrize("n_cells", [1, 2, 60, 700])
def test_one_class_does_not_depend_on_the_start(n_cells):
    """By the dense and by the iterative way; also where all moves go to and fro."""
    dense = drift(n_cells) if n_cells > 1 else np.ones((1, 1))
    eta = np.random.default_rng(0).random(n_cells)
    found = stationary_distribution(sp.csr_matrix(dense), eta)
    np.testing.assert_allclose(found, plain.stationary(dense), atol=1e-10)
    assert (found >= 0).all()


def test_slow_line_is_solved():
    """The 3,000 cells of a symmetric walk are equally likely, but for the ends; the gap is 1e-6."""
    step = np.full(2999, 0.5)
    dense = sp.diags_array([step, step], offsets=[-1, 1]).tolil()
    dense[0, 1] = dense[2999, 2998] = 1
    found = stationary_distribution(sp.csr_matrix(dense))
    expected = np.full(3000, 1 / 2999)
    expected[[0, -1]] /= 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_is_not_known_is_an_error_with_a_remedy():
    """The flow between two halves is below the last digit of single steps; elimination finds it, if it is allowed."""
    dense = np.kron(np.eye(2), np.full((50, 50), 1 / 50))
    dense[0, 50] = dense[50, 0] = 1e-15
    np.testing.assert_allclose(stationary_distribution(sp.csr_matrix(dense)), 1 / 100, rtol=1e-6)
    with pytest.raises(ArithmeticError, match=r"stationary distribution of 100 cells within .*use more neighbours"):
        stationary_distribution(sp.csr_matrix(dense), direct_cells=0)
    assert np.isnan(stationary_distribution(chain(dense), direct_cells=0)).all()


def test_gradient_with_many_classes():
    matrix, dense, _ = messy_chain()
    matrix = chain(dense)
    rng = np.random.default_rng(0)
    weight, eta = (jnp.asarray(x, float) for x in (rng.normal(size=40), rng.random(40)))
    free = tuple(jnp.asarray(rng.normal(size=w.shape) / 10, w.dtype) for w in matrix.values)

    def function(free, weights, graph, weight, eta):
        values = tuple(w * jnp.exp(f) for w, f in zip(weights, free, strict=True))
        return jnp.sum(weight * stationary_distribution(TransitionMatrix(graph, values).normalize(), eta))

    arguments = (matrix.values, matrix.graph, weight, eta)
    gradient = check_gradient(function, free, arguments=arguments, step=1e-2)
    along = jax.jvp(lambda free: function(free, *arguments), (free,), (free,))[1]
    np.testing.assert_allclose(along, sum(jnp.sum(g * f) for g, f in zip(gradient, free, strict=True)), rtol=1e-9)


@pytest.mark.any_precision
class TestOfALargeChain:
    """As if few cells were many: the equations are not factorised."""

    @staticmethod
    def parts(leak):
        rng = np.random.default_rng(0)
        dense = np.kron(np.eye(4), np.ones((150, 150))) * (rng.random((600, 600)) ** 8 + 1e-9)
        for here in (0, 150, 300):
            dense[here, here + 150], dense[here + 150, here] = leak * (rng.random(2) + 0.1)
        return dense / dense.sum(axis=1, keepdims=True)

    def test_parts_that_hardly_hang_together(self, monkeypatch):
        """Flows between neighbouring parts balance, as there is no way round: small numbers are known well."""
        dense, size, n_parts = self.parts(2e-3), 150, 4
        monkeypatch.setattr(_stationary, "QUICK", 1000)
        found = stationary_distribution(sp.csr_matrix(dense), direct_cells=0)
        flows = (found[:, None] * dense).reshape(n_parts, size, n_parts, size).sum(axis=(1, 3))
        for part in range(n_parts - 1):
            np.testing.assert_allclose(flows[part, part + 1], flows[part + 1, part], rtol=1e-5)
        np.testing.assert_allclose(found @ dense, found, atol=1e-15)
        np.testing.assert_allclose(found.sum(), 1)

    def test_parts_that_nothing_comes_out_of(self, monkeypatch):
        """Less than one in a billion, in a chain with one closed class: not taken for four classes."""
        monkeypatch.setattr(_stationary, "QUICK", 1000)
        with pytest.raises(ArithmeticError, match="take its parts by themselves"):
            stationary_distribution(sp.csr_matrix(self.parts(1e-8)), direct_cells=0)

    def test_a_slow_line_is_an_error_if_its_vectors_are_not_found(self, monkeypatch):
        monkeypatch.setattr(_slow_long_run, "MAX_RESTARTS", 1)
        monkeypatch.setattr(_krylov_schur, "DENSE_AT_LAST", 0)
        step = np.full(599, 0.5)
        line = sp.diags_array([step, step], offsets=[-1, 1]).tolil()
        line[0, 1] = line[599, 598] = 1
        with pytest.raises(ArithmeticError, match="take its parts by themselves"):
            stationary_distribution(sp.csr_matrix(line), max_steps=20, direct_cells=0)
