"""The long run of few states, without that of the cells."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import TransitionMatrix
from jaxvelo.markov import coarse_grain, schur, stationary_distribution
from tests.finite_differences import check_gradient
from tests.markov.chains import chain
from tests.markov.test_schur import side_by_side


def closed_and_open(n_closed, seed=0, size=8, n_open=30):
    """Closed classes, and cells that lead to them and to each other."""
    rng = np.random.default_rng(seed)
    dense = side_by_side(*[rng.random((size, size)) + 0.1 for _ in range(n_closed)], np.zeros((n_open, n_open)))
    dense[-n_open:] = rng.random((n_open, len(dense))) ** 8
    return dense / dense.sum(axis=1, keepdims=True)


@pytest.mark.any_precision
class TestOfAMatrixOfScipy:
    @pytest.mark.parametrize("n_closed", [1, 2, 5, 20])
    def test_equals_the_long_run_of_the_cells(self, n_closed):
        """Also with fewer vectors than closed classes: the means of harmonic functions do not change."""
        dense = closed_and_open(n_closed)
        eta = np.random.default_rng(1).random(len(dense)) + 0.1
        eta /= eta.sum()
        distribution = stationary_distribution(sp.csr_matrix(dense), eta)
        for count in {2, n_closed + 1, n_closed + 6}:
            found = schur(sp.csr_matrix(dense), count, initial_distribution=eta)
            np.testing.assert_allclose(found.long_run, distribution @ found.vectors, atol=1e-10)
        states = coarse_grain(found, min(n_closed + 1, 4))
        np.testing.assert_allclose(states.stationary, distribution @ states.memberships, atol=1e-8)
        np.testing.assert_allclose(states.stationary.sum(), 1, atol=1e-10)

    @pytest.mark.parametrize("which", ["LR", "LM"])
    def test_periods_and_cells_that_lead_to_them(self, which):
        """Two rings of three groups each: six eigenvalues of magnitude one, of which two are one, not the first two."""
        rng = np.random.default_rng(0)
        ring = np.roll(side_by_side(*[rng.random((5, 5)) + 0.1] * 3), 5, axis=1)
        dense = side_by_side(ring, ring, np.zeros((10, 10)))
        dense[-10:] = rng.random((10, 40)) ** 8
        dense /= dense.sum(axis=1, keepdims=True)
        found = schur(sp.csr_matrix(dense), 9, which=which)
        expected = stationary_distribution(sp.csr_matrix(dense)) @ found.vectors
        np.testing.assert_allclose(found.long_run, expected, atol=1e-10)

    @pytest.mark.parametrize("leak", [1e-6, 1e-8, 1e-13])
    def test_nearly_uncoupled_parts(self, leak):
        """Two parts of which one leaks twice as much; in a billion steps nothing comes through where so little does."""
        dense = side_by_side(np.full((300, 300), 1 / 300), np.full((100, 100), 1 / 100))
        dense[0, 300], dense[300, 0] = 300 * leak, 200 * leak  # from each part as a whole: leak and twice the leak
        dense[0, 1] -= 300 * leak
        dense[300, 301] -= 200 * leak
        states = coarse_grain(schur(sp.csr_matrix(dense), 2), 2)
        expected = [2 / 3, 1 / 3] if leak > 1e-9 else [3 / 4, 1 / 4]
        np.testing.assert_allclose(states.stationary, expected, atol=100 * leak + 1e-14 / leak if leak > 1e-9 else 1e-9)

    def test_of_cellrank(self, shared):
        with np.load(shared / "reference/pancreas_kernels.npz") as stored:
            parts = tuple(stored[f"combined/0.8v+0.2c.{part}"] for part in ("data", "indices", "indptr"))
        found = schur(sp.csr_matrix(parts, shape=(3696, 3696)), 12)
        with np.load(shared / "reference/pancreas_estimators.npz") as stored:
            for count in (4, 5, 7, 9):
                memberships, expected = (stored[f"macro{count}/{key}"] for key in ("memberships", "stationary"))
                # Their combination of our vectors; they are orthonormal in the mean over the cells.
                rotation = found.vectors[:, :count].T @ memberships / 3696
                np.testing.assert_allclose(found.vectors[:, :count] @ rotation, memberships, atol=1e-6)
                np.testing.assert_allclose(found.long_run[:count] @ rotation, expected, atol=1e-6)


@pytest.mark.parametrize("n_closed", [1, 3])
def test_gradients(n_closed):
    """Of shares of the long run, with one closed class and with some."""
    matrix = chain(closed_and_open(n_closed))
    rng = np.random.default_rng(1)  # of which the last eigenvalue is not the first of a pair
    changes = rng.normal(size=matrix.shape) / 10  # of pairs of cells: the same wherever their edges stand
    free = tuple(
        jnp.asarray(changes)[r[:, None], c] for r, c in zip(matrix.graph.rows, matrix.graph.columns, strict=True)
    )
    mix, eta = (jnp.asarray(x, float) for x in (rng.normal(size=n_closed + 2), rng.random(matrix.shape[0]) + 0.2))

    def function(free, weights, graph, mix, eta):
        values = tuple(w * jnp.exp(f) for w, f in zip(weights, free, strict=True))
        found = schur(TransitionMatrix(graph, values).normalize(), n_closed + 2, initial_distribution=eta)
        # As of memberships, a function of the vectors on some cells: it does not depend on the basis.
        on_cells = found.vectors[-n_closed - 2 :]
        return jnp.linalg.solve(on_cells.T, found.long_run) @ mix

    check_gradient(function, free, arguments=(matrix.values, matrix.graph, mix, eta), step=1e-3, directions=1)
