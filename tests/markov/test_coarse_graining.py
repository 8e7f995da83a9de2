"""Macrostates against stored results, the enumeration of all simplices, and chains whose states are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from jaxvelo.markov import Schur, coarse_grain, min_chi, schur, stationary_distribution
from jaxvelo.markov._enclosing_simplex import _Corners
from jaxvelo.markov._long_run_means import LongRunMeans
from tests.finite_differences import check_gradient

X64 = jax.config.jax_enable_x64


def uncoupled(sizes, leak, seed=0):
    """Chain of groups of cells that the chain rarely leaves."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    weights = rng.uniform(0.5, 1.5, (len(group), len(group))) * np.where(group[:, None] == group, 1, leak)
    return weights / weights.sum(axis=1, keepdims=True), group


def cloud(n_cells, n_vectors, seed=0):
    """Random vectors like those of a chain: orthonormal for random weights, the first one constant."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_cells, 10.0))
    corners = rng.dirichlet(np.full(n_vectors, 0.5), n_cells)
    raw = np.column_stack([np.ones(n_cells), corners[:, 1:]]) * np.sqrt(weights)[:, None]
    vectors = np.linalg.qr(raw)[0] / np.sqrt(weights)[:, None]
    vectors *= np.sign(vectors[0, 0])
    matrix = np.triu(rng.normal(0, 0.1, (n_vectors, n_vectors)), 1) + np.diag(np.linspace(1, 0.4, n_vectors))
    return Schur(matrix, vectors, np.diag(matrix), weights, 0.0, 0.1, LongRunMeans(matrix).means)


def on_device(found):
    return Schur(*(jnp.asarray(np.real(part), dtype=float) for part in found))


def check_memberships(found, tolerance=1e-9):
    assert found.smallest_membership > -tolerance
    assert found.row_sum_defect < tolerance
    assert found.memberships.min() >= 0
    np.testing.assert_allclose(found.transition_matrix.sum(axis=1), 1, atol=1e3 * tolerance)


@pytest.fixture(scope="module")
def stored(shared):
    with np.load(shared / "reference/pancreas_estimators.npz") as results:
        kept = {key: results[key] for key in results if key.startswith(("schur/", "macro"))}
    n_cells = len(kept["schur/vectors"])
    weights = np.full(n_cells, 1 / n_cells)
    matrix = kept["schur/matrix"]
    means = LongRunMeans(matrix).means
    found = Schur(matrix, kept["schur/vectors"], kept["schur/eigenvalues"], weights, 0.0, 0.0, means)
    return kept, found


@pytest.mark.any_precision
@pytest.mark.parametrize("n_states", [4, 5])
def test_nelder_mead_ends_where_the_stored_states_are(stored, n_states):
    results, vectors = stored
    found = coarse_grain(vectors, n_states, method="nelder-mead")
    expected = {key: results[f"macro{n_states}/{key}"] for key in ("memberships", "coarse_T", "initial", "crispness")}
    order = (found.memberships.T @ expected["memberships"]).argmax(axis=0)
    assert sorted(order) == list(range(n_states))
    np.testing.assert_allclose(found.memberships[:, order], expected["memberships"], atol=1e-6)
    np.testing.assert_allclose(found.transition_matrix[np.ix_(order, order)], expected["coarse_T"], atol=1e-6)
    np.testing.assert_allclose(found.initial[order], expected["initial"], atol=1e-6)
    np.testing.assert_allclose(found.crispness, expected["crispness"], atol=1e-6)
    check_memberships(found)


@pytest.mark.any_precision
@pytest.mark.parametrize(("n_states", "least"), [(4, 0.541), (5, 0.5485), (7, 0.42), (9, 0.375), (12, 0.32)])
def test_memberships_of_real_data_are_crisp(stored, n_states, least):
    found = coarse_grain(stored[1], n_states)
    assert found.crispness >= least
    check_memberships(found)


def crispest_of_all(vectors):
    """Largest crispness, by all faces of the hull at once: a linear programme for their weights."""
    faces = ConvexHull(vectors[:, 1:]).equations
    corners = faces[:, :-1] / faces[:, -1:]
    columns = np.column_stack([np.ones(len(corners)), corners])
    first = np.eye(vectors.shape[1])[0]
    return -linprog(-(columns**2).sum(axis=1), A_eq=columns.T, b_eq=first).fun / vectors.shape[1]


@pytest.mark.any_precision
@pytest.mark.parametrize(("n_states", "seed"), list(itertools.product([3, 4, 5], [0, 1])))
def test_crispness_is_the_largest_there_is(n_states, seed):
    vectors = cloud(80, n_states, seed)
    found = coarse_grain(vectors, n_states)
    assert found.crispness == pytest.approx(crispest_of_all(vectors.vectors), rel=1e-5)
    overlap = found.memberships.T @ (vectors.initial_distribution[:, None] * found.memberships)
    np.testing.assert_allclose(found.crispness, np.mean(np.diag(overlap) / overlap.sum(axis=1)), rtol=1e-9)
    check_memberships(found)


@pytest.mark.any_precision
def test_coarse_chain_is_the_projected_one():
    transitions, _ = uncoupled([10, 15, 12], 0.05)
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.full(37, 5.0))
    stationary = stationary_distribution(sp.csr_matrix(transitions))
    found = schur(sp.csr_matrix(transitions), 3, initial_distribution=weights)
    states = coarse_grain(found, 3)
    chi = states.memberships
    overlap, moved = (chi.T @ (weights[:, None] * x) for x in (chi, transitions @ chi))
    np.testing.assert_allclose(states.transition_matrix, np.linalg.solve(overlap, moved), atol=1e-9)
    np.testing.assert_allclose(states.stationary, stationary @ chi, atol=1e-9)
    np.testing.assert_allclose(states.initial, weights @ chi, atol=1e-12)
    np.testing.assert_allclose(chi, found.vectors @ states.rotation, atol=1e-9)
    assert (np.diff(states.initial) < 0).all()


@pytest.mark.any_precision
def test_closed_classes_are_the_states():
    transitions, group = uncoupled([9, 7, 5], 0.0)
    found = coarse_grain(schur(sp.csr_matrix(transitions), 3), 3)
    np.testing.assert_allclose(found.memberships, np.eye(3)[group], atol=1e-9)
    np.testing.assert_allclose(found.transition_matrix, np.eye(3), atol=1e-9)
    assert found.crispness == pytest.approx(1)
    assert found.min_chi == pytest.approx(0, abs=1e-9)


@pytest.mark.any_precision
def test_groups_that_the_chain_rarely_leaves_are_the_states():
    transitions, group = uncoupled([20, 15, 12, 9], 1e-3)
    found = schur(sp.csr_matrix(transitions), 6)
    states = coarse_grain(found, 4)
    np.testing.assert_array_equal(states.memberships.argmax(axis=1), group)
    assert states.crispness > 0.98
    values = min_chi(found, [2, 3, 4])
    assert values[2] == states.min_chi
    assert -0.01 < states.min_chi <= 1e-12


@pytest.mark.any_precision
def test_one_state_holds_all_cells():
    found = coarse_grain(cloud(30, 3), 1)
    np.testing.assert_allclose(found.memberships, 1, rtol=1e-9)
    np.testing.assert_allclose([found.crispness, found.min_chi, *found.transition_matrix[0]], 1, rtol=1e-9)


@pytest.mark.any_precision
def test_order_of_cells_and_signs_of_vectors_change_nothing():
    vectors = cloud(120, 4)
    expected = coarse_grain(vectors, 4)
    order, signs = np.random.default_rng(0).permutation(120), np.array([1, -1, 1, -1])
    moved = vectors._replace(
        vectors=vectors.vectors[order] * signs,
        matrix=vectors.matrix * np.outer(signs, signs),
        initial_distribution=vectors.initial_distribution[order],
    )
    found = coarse_grain(moved, 4)
    np.testing.assert_allclose(found.memberships, expected.memberships[order], atol=1e-9)
    np.testing.assert_allclose(found.transition_matrix, expected.transition_matrix, atol=1e-9)


@pytest.mark.any_precision
def test_duplicates_of_cells_change_nothing():
    vectors = cloud(60, 4)
    twice = vectors._replace(
        vectors=np.repeat(vectors.vectors, 2, axis=0),
        initial_distribution=np.repeat(vectors.initial_distribution, 2) / 2,
    )
    expected, found = (coarse_grain(x, 4).memberships for x in (vectors, twice))
    np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), atol=1e-9)


compiled = jax.jit(coarse_grain, static_argnums=1)


def test_compiled_program_finds_the_same():
    vectors = cloud(60, 3)
    expected = coarse_grain(vectors, 3)
    found = compiled(on_device(vectors), 3)
    for name, value in found._asdict().items():
        assert value.dtype == jnp.zeros(()).dtype
        np.testing.assert_allclose(value, getattr(expected, name), atol=1e-9 if X64 else 2e-5, err_msg=name)
    assert found.memberships.min() >= 0


def loss(parts, vectors):
    x, matrix, weights, long_run = parts
    vectors = vectors._replace(vectors=x, matrix=matrix, initial_distribution=weights, long_run=long_run)
    found = compiled(vectors, 3)
    numbers = jax.tree.leaves(found._replace(smallest_membership=None, row_sum_defect=None))
    return sum(jnp.sum(jnp.sin(jnp.arange(1.0, x.size + 1).reshape(x.shape) * x)) for x in numbers)


def test_gradient():
    vectors = on_device(cloud(60, 3))
    parts = vectors.vectors, vectors.matrix, vectors.initial_distribution, vectors.long_run
    check_gradient(loss, parts, step=1e-5, arguments=(vectors,))


def test_second_derivative():
    vectors = on_device(cloud(40, 3))

    def slope(x):
        return jnp.sum(jax.grad(lambda x: coarse_grain(vectors._replace(vectors=x), 3).crispness)(x) ** 2)

    check_gradient(slope, vectors.vectors, rtol=1e-5, step=1e-5)


def test_a_pair_of_eigenvalues_is_not_split():
    rotation = 0.5 * np.eye(5) + 0.5 * np.roll(np.eye(5), 1, axis=1)
    found = schur(sp.csr_matrix(rotation), 5)
    with pytest.raises(ValueError, match="2 states would split a pair of conjugate eigenvalues"):
        coarse_grain(found, 2)
    np.testing.assert_array_equal(np.isnan(min_chi(found, [1, 2, 3, 4, 5])), [False, True, False, True, False])
    assert np.isnan(compiled(on_device(found), 2).memberships).all()


@pytest.mark.any_precision
def test_what_cannot_be_is_refused():
    vectors = cloud(30, 3)
    with pytest.raises(ValueError, match="from 1 to 3 states"):
        coarse_grain(vectors, 4)
    with pytest.raises(ValueError, match=r"'nelder-mead'.*found `'newton'`"):
        coarse_grain(vectors, 3, method="newton")
    with pytest.raises(ValueError, match="no derivatives"):
        coarse_grain(on_device(vectors), 3, method="nelder-mead")
    half = np.array([[0.9, 0.1], [0.1, 0.9]])
    square = schur(sp.csr_matrix(np.kron(half, half)), 4)
    with pytest.raises(ValueError, match="leave a state without cells"):
        coarse_grain(square, 3)
    assert coarse_grain(square, 4).crispness == pytest.approx(1)
    few = vectors._replace(vectors=np.repeat(vectors.vectors[:2], 15, axis=0))
    with pytest.raises(ValueError, match="lower dimension"):
        coarse_grain(few, 3)


@pytest.mark.any_precision
def test_cells_of_one_place_span_no_face():
    """As cells of one closed class: such a corner is given up, not an error."""
    points = np.array([[1.0, 1], [1, 1], [-1, 1], [-1, -1], [1, -1]])
    corners = _Corners(points)
    degenerate = corners._add(np.array([0, 1]), np.zeros(2), np.inf, -1)
    assert not corners.confirm(degenerate)
    assert corners.values[degenerate] == -np.inf
    n_seen = corners.n_seen
    corners.expand(degenerate)
    assert corners.n_seen == n_seen
    side = corners._add(np.array([1, 2]), np.zeros(2), np.inf, -1)
    assert corners.confirm(side)
    np.testing.assert_allclose(corners.columns[side], [1, 0, -1])


@pytest.mark.any_precision
def test_cells_in_fewer_places_than_states():
    """No search ends in a singular matrix: the number of states is named, or has no score."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.column_stack([np.ones(3), rng.normal(size=(3, 3))]), 20, axis=0)
    vectors[:, 3] = vectors[:, 1]
    found = schur(sp.csr_matrix(uncoupled([20, 20, 20], 0.1)[0]), 4)._replace(vectors=vectors)
    if found.matrix[3, 2] != 0:
        found = found._replace(matrix=np.triu(found.matrix))
    for method in ("gradient", "nelder-mead"):
        with pytest.raises(ValueError, match="told apart into 4 states"):
            coarse_grain(found, 4, method=method)
    scores = min_chi(found, [2, 4])
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])
