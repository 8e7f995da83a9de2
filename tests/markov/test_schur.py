import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import block_diag

from jaxvelo.graph import TransitionMatrix
from jaxvelo.markov import _krylov_schur, _sylvester, eigengap, schur
from tests.finite_differences import check_gradient, value_and_gradient
from tests.markov.chains import chain

SIZE = {"LR": np.real, "LM": np.abs}


def line_with_drift(n_cells, seed=0, reach=6):
    """Cells along a line with some neighbours on both sides, drawn to one end; eigenvalues are nearly all real."""
    rng = np.random.default_rng(seed)
    apart = np.arange(n_cells)[None] - np.arange(n_cells)[:, None]
    dense = np.where(np.abs(apart) <= reach, rng.random((n_cells, n_cells)) + 0.1, 0)
    dense *= np.exp(0.1 * apart / reach)
    return dense / dense.sum(axis=1, keepdims=True)


def ring_with_drift(n_cells, seed=0):
    """Cells along a ring, more steps forward than backward; eigenvalues are pairs."""
    rng = np.random.default_rng(seed)
    apart = (np.arange(n_cells)[None] - np.arange(n_cells)[:, None] + n_cells // 2) % n_cells - n_cells // 2
    dense = np.where((apart >= -n_cells // 20) & (apart <= n_cells // 10), rng.random((n_cells, n_cells)) + 0.1, 0)
    return dense / dense.sum(axis=1, keepdims=True)


def side_by_side(*blocks):
    return block_diag(*blocks)


def check(dense, n_components, which="LR", eta=None):
    """All that defines the Schur vectors, and all eigenvalues of the dense matrix; gives the result."""
    n_cells = len(dense)
    found = schur(sp.csr_matrix(dense), n_components, which=which, initial_distribution=eta)
    x, r = found.vectors, found.matrix
    assert n_components <= x.shape[1] <= n_components + 1
    weights = np.full(n_cells, 1 / n_cells) if eta is None else eta / eta.sum()
    np.testing.assert_allclose(x.T @ (weights[:, None] * x), np.eye(x.shape[1]), atol=1e-10)
    np.testing.assert_array_equal(x[:, 0], 1)
    difference = np.sqrt(weights @ (dense @ x - x @ r) ** 2)
    assert difference.max() < 1e-10
    assert found.residual < 1e-10
    assert (np.abs(np.tril(r, -2)) == 0).all()
    all_sizes = np.sort(SIZE[which](np.linalg.eigvals(dense)))[::-1]
    sizes = SIZE[which](found.eigenvalues)
    np.testing.assert_allclose(sizes, all_sizes[: len(sizes)], atol=1e-7)
    assert (np.diff(sizes) <= 1e-12).all()
    assert (found.eigenvalues.imag.cumsum() > -1e-12).all()
    np.testing.assert_allclose(found.eigenvalues.sum().imag, 0, atol=1e-12)
    if len(sizes) < n_cells:
        np.testing.assert_allclose(found.gap, all_sizes[len(sizes) - 1] - all_sizes[len(sizes)], atol=1e-5)
    else:
        assert found.gap == np.inf
    assert (x[np.abs(x).argmax(axis=0), np.arange(x.shape[1])] > 0).all()
    return found


@pytest.mark.any_precision
class TestOfAMatrixOfScipy:
    @pytest.mark.parametrize("which", ["LR", "LM"])
    @pytest.mark.parametrize("make", [line_with_drift, ring_with_drift])
    @pytest.mark.parametrize(("n_cells", "n_components"), [(1, 1), (2, 2), (3, 2), (60, 6), (60, 60), (400, 9)])
    def test_defining_equations_and_all_eigenvalues(self, make, n_cells, n_components, which):
        eta = np.random.default_rng(1).random(n_cells) + 0.1
        check(make(n_cells), n_components, which, eta)

    def test_a_pair_is_never_split(self):
        found = [check(ring_with_drift(300), count).vectors.shape[1] for count in range(1, 8)]
        assert found == [1, 3, 3, 5, 5, 7, 7]

    @pytest.mark.parametrize("count", [2, 4, 6, 9])
    def test_copies_of_a_chain_are_all_found(self, count):
        """With one start vector, an iteration finds one eigenvector only where there are several."""
        dense = side_by_side(*[line_with_drift(90)] * 5)
        found = check(dense, count)
        assert np.count_nonzero(np.abs(found.eigenvalues - 1) < 1e-9) == min(count, 5)

    def test_closed_classes_and_cells_that_lead_to_them(self):
        dense = side_by_side(line_with_drift(150, 1), line_with_drift(180, 2), np.zeros((20, 20)), np.eye(3))
        dense[330:350] = np.random.default_rng(0).random((20, 353)) ** 40
        dense /= dense.sum(axis=1, keepdims=True)
        assert np.count_nonzero(np.abs(check(dense, 7).eigenvalues - 1) < 1e-9) == 5

    def test_nearly_uncoupled_parts(self):
        dense = side_by_side(*[line_with_drift(100, seed) for seed in range(4)])
        dense[::100, 50::100] += 1e-9
        dense /= dense.sum(axis=1, keepdims=True)
        check(dense, 4)

    def test_periods_by_magnitude(self):
        """From one of six groups to the next: the sixth roots of one, and everywhere else nearly nothing."""
        rng = np.random.default_rng(0)
        dense = np.roll(side_by_side(*[rng.random((50, 50)) + 1] * 6), 50, axis=1)
        found = check(dense / dense.sum(axis=1, keepdims=True), 6, "LM")
        np.testing.assert_allclose(found.eigenvalues**6, 1, atol=1e-10)

    def test_more_of_the_same_magnitude_than_the_iteration_can_part(self, monkeypatch):
        """All eigenvalues of a rotation have magnitude one: few cells are left to the dense solver."""
        monkeypatch.setattr(_krylov_schur, "MAX_RESTARTS", 10)
        check(np.roll(np.eye(401), 1, axis=1), 5, "LM")

    def test_no_convergence_names_cause_and_remedy(self, monkeypatch):
        monkeypatch.setattr(_krylov_schur, "MAX_RESTARTS", 10)
        monkeypatch.setattr(_krylov_schur, "DENSE_AT_LAST", 0)
        with pytest.raises(ArithmeticError, match=r"Expected 5 Schur vectors of 401 cells, found 1 .*another number"):
            schur(sp.csr_matrix(np.roll(np.eye(401), 1, axis=1)), 5, which="LM")

    def test_defective_eigenvalues(self):
        """A cascade of equal steps has one eigenvector for all of its eigenvalues 0.9."""
        n_steps = 8
        dense = side_by_side(0.9 * np.eye(n_steps) + 0.1 * np.eye(n_steps, k=1), line_with_drift(300, reach=100))
        dense[n_steps - 1, n_steps] = 0.1
        found = schur(sp.csr_matrix(dense), 1 + n_steps)
        assert found.residual < 1e-11
        # A block of eight multiplies errors to their eighth root; the mean of the eight is well conditioned.
        np.testing.assert_allclose(found.eigenvalues[1:].mean(), 0.9, atol=1e-10)

    def test_initial_distribution_must_be_positive(self):
        with pytest.raises(ValueError, match=r"positive for each cell, found 1 cells .* Mix it"):
            schur(sp.csr_matrix(np.full((3, 3), 1 / 3)), 2, initial_distribution=np.array([0.5, 0.5, 0]))

    def test_single_precision_and_the_argument_stays(self):
        matrix = sp.csr_matrix(line_with_drift(300)).astype(np.float32)
        before = matrix.copy()
        found = schur(matrix, 5)
        assert found.vectors.dtype == np.float64
        assert found.residual < 1e-10
        np.testing.assert_array_equal(matrix.data, before.data)

    def test_pancreas(self, shared):
        with np.load(shared / "reference/pancreas_kernels.npz") as kernels:
            parts = (kernels[f"combined/0.8v+0.2c.{part}"] for part in ("data", "indices", "indptr"))
            matrix = sp.csr_matrix(tuple(parts))
        with np.load(shared / "reference/pancreas_estimators.npz") as stored:
            vectors, eigenvalues = stored["schur/vectors"], stored["schur/eigenvalues"]
        found = schur(matrix, 20)
        np.testing.assert_allclose(found.eigenvalues, eigenvalues, atol=1e-8)
        assert found.residual < 1e-11
        a, b = (x[:, :12] / np.sqrt(len(x)) for x in (found.vectors, vectors))
        assert np.linalg.norm(b - a @ (a.T @ b), 2) < 1e-6
        few = schur(matrix, 12)
        assert few.vectors.shape[1] == 12
        np.testing.assert_allclose(few.gap, eigenvalues[11].real - eigenvalues[12].real, atol=1e-7)


@pytest.mark.any_precision
def test_eigengap():
    values = np.array([1.0, 0.99, 0.97, 0.6, 0.1])
    assert eigengap(values) == 3
    assert eigengap(values, alpha=0) == 4
    assert eigengap(values[::-1] + 0j) == 3
    assert eigengap(np.array([1.0, 0.2])) == 1


def transitions_of(free, weights, graph):
    return TransitionMatrix(graph, tuple(w * jnp.exp(f) for w, f in zip(weights, free, strict=True))).normalize()


def projection(free, weights, graph, mix, eta, n_components, cut):
    found = schur(transitions_of(free, weights, graph), n_components, initial_distribution=eta)
    x = found.vectors[:, :cut]
    return jnp.sum(mix * (x @ found.matrix[:cut, :cut] @ x.T)) + jnp.sum(mix * (x @ x.T))


def spectrum(free, weights, graph, mix, eta, n_components):
    found = schur(transitions_of(free, weights, graph), n_components, initial_distribution=eta).eigenvalues
    weight = mix[0, : len(found)]
    return jnp.sum(weight * found.real) + jnp.sum(weight * jnp.abs(found.imag))


def gradient_example(dense, seed=0):
    matrix = chain(dense)
    rng = np.random.default_rng(seed)
    free = tuple(jnp.asarray(rng.normal(size=w.shape) / 10, w.dtype) for w in matrix.values)
    mix, eta = (jnp.asarray(x, float) for x in (rng.normal(size=dense.shape), rng.random(len(dense)) + 0.2))
    return free, (matrix.values, matrix.graph, mix, eta)


@pytest.mark.parametrize(
    ("make", "n_cells", "n_components", "cut"), [(line_with_drift, 60, 5, 3), (ring_with_drift, 240, 5, 3)]
)
class TestOfAGraph:
    def test_equals_the_matrix_of_scipy(self, make, n_cells, n_components, cut):
        matrix = chain(make(n_cells))
        found = schur(matrix, n_components)
        expected = schur(matrix.to_csr(), n_components)
        tolerance = 1e-12 if jax.config.jax_enable_x64 else 2e-6
        for value, other in zip(found, expected, strict=True):
            assert value.dtype in (matrix.values[0].dtype, jnp.complex64, jnp.complex128)
            np.testing.assert_allclose(value, other, atol=tolerance)

    def test_gradients_of_subspaces(self, make, n_cells, n_components, cut):
        free, arguments = gradient_example(make(n_cells))

        def function(free, *arguments):
            return projection(free, *arguments, n_components, cut)

        check_gradient(function, free, arguments=arguments, step=1e-3, directions=1)

    def test_gradients_of_eigenvalues(self, make, n_cells, n_components, cut):
        free, arguments = gradient_example(make(n_cells))

        def function(free, *arguments):
            return spectrum(free, *arguments, n_components)

        check_gradient(function, free, arguments=arguments, step=1e-3, directions=1)


def test_forward_and_backward_agree():
    free, arguments = gradient_example(ring_with_drift(60))
    _, gradient = value_and_gradient(lambda free, *rest: projection(free, *rest, 5, 5), free, arguments)
    along = jax.jvp(lambda free: projection(free, *arguments, 5, 5), (free,), (free,))[1]
    total = sum(float(jnp.sum(g * f)) for g, f in zip(gradient, free, strict=True))
    np.testing.assert_allclose(along, total, rtol=1e-8 if jax.config.jax_enable_x64 else 1e-3)


def test_a_split_pair_is_not_a_number():
    found = schur(chain(ring_with_drift(60)), 4)
    assert np.isnan(found.vectors).all()
    assert found.gap == 0


@pytest.mark.any_precision
@pytest.mark.parametrize("dense_rows", [0, 1000])
def test_sylvester_equation(dense_rows, monkeypatch):
    """Both ways, and with a small matrix that has one eigenvector only."""
    monkeypatch.setattr(_sylvester, "DENSE_ROWS", dense_rows)
    rng = np.random.default_rng(0)
    large = rng.normal(size=(300, 300)) / 40
    small = np.diag([2.0, 2, 2, 1, 1, 1.5]) + np.diag([1, 1, 0.3, 0.5, 0.1], 1)
    small[4, 3] = -0.5
    right_side = rng.normal(size=(300, 6))
    found = _sylvester.solve_sylvester(lambda x: large @ x, small, right_side, 1e-9)
    np.testing.assert_allclose(large @ found - found @ small, right_side, atol=1e-9)


@pytest.mark.any_precision
def test_sylvester_equation_without_a_solution_is_not_a_number(monkeypatch):
    monkeypatch.setattr(_sylvester, "DENSE_ROWS", 0)
    monkeypatch.setattr(_sylvester, "DENSE_AT_LAST", 0)
    found = _sylvester.solve_sylvester(lambda x: x, np.eye(2), np.ones((5, 2)), 1e-9)
    assert np.isnan(found).all()
