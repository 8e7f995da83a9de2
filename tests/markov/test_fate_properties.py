"""What fates, long run, slow subspace and memberships are for every chain, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag, subspace_angles
from scipy.linalg import schur as dense_schur

from jaxvelo.markov import (
    Outcome,
    absorption_probabilities,
    absorption_times,
    closed_classes,
    coarse_grain,
    schur,
    stationary_distribution,
)
from tests.markov.chains import chain

X64 = jax.config.jax_enable_x64
N_CELLS, N_FATES, N_STATES = 45, 3, 3
ROUNDING = 1e-12 if X64 else 2e-6

few = settings(max_examples=6, deadline=None, derandomize=True)
seeds = st.integers(0, 50)


def three_blocks(rng, between=2e-2):
    """Cells of three blocks that are hardly left."""
    third = N_CELLS // 3
    inside = [rng.uniform(0.5, 1.5, (third, third)) for _ in range(3)]
    return block_diag(*inside) + between * (rng.random((N_CELLS, N_CELLS)) < 0.1)


def several_classes(rng):
    """Two blocks that are never left, and one that leads to both."""
    weights, third = three_blocks(rng, 0), N_CELLS // 3
    weights[-third:, [0, third]] = rng.uniform(0.1, 0.5, (third, 2))
    return weights


def slow_line(rng):
    steps = rng.uniform(0.5, 1.5, (2, N_CELLS - 1))
    return np.diag(steps[0], 1) + np.diag(steps[1], -1) + 20 * np.eye(N_CELLS)


def ring(rng):
    """All cells come back after as many steps as there are cells."""
    return np.roll(np.eye(N_CELLS), 1, axis=1)


KINDS = {
    "blocks": three_blocks,
    "nearly uncoupled": lambda rng: three_blocks(rng, 1e-6),
    "several classes": several_classes,
    "slow line": slow_line,
    "periodic": ring,
}
# Of these, the leading three eigenvalues are apart from the rest.
SLOW_KINDS = ["blocks", "nearly uncoupled", "several classes"]


def example(kind, seed):
    """A chain as dense float64 probabilities that both precisions know exactly, and terminal cells of three classes."""
    rng = np.random.default_rng(seed)
    weights = KINDS[kind](rng)
    dense = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    np.fill_diagonal(dense, 0)
    np.fill_diagonal(dense, 1 - dense.sum(axis=1))  # what is moved is known, what stays is the rest
    terminal = np.full(N_CELLS, -1)
    terminal[[0, N_CELLS // 3, N_CELLS - 1]] = [0, 1, 2]
    return dense, terminal


def chances(dense, terminal):
    """Fates by a dense solve."""
    free = terminal < 0
    left = np.diag(dense.sum(axis=1)) - dense  # what leaves, also from cells with rounded probabilities
    np.fill_diagonal(left, 0)
    np.fill_diagonal(left, -left.sum(axis=1))
    into = np.stack([dense[:, terminal == k].sum(axis=1) for k in range(N_FATES)], axis=1)
    fates = (terminal[:, None] == np.arange(N_FATES)).astype(float)
    fates[free] = np.linalg.solve(left[np.ix_(free, free)], into[free])
    return fates


def stationary(dense):
    """Long run of a chain of one class by elimination without subtractions (Grassmann, Taksar & Heyman 1985)."""
    rest = dense.copy()
    for n in range(len(dense) - 1, 0, -1):
        rest[:n, n] /= rest[n, :n].sum()
        rest[:n, :n] += np.outer(rest[:n, n], rest[n, :n])
    found = np.ones(len(dense))
    for n in range(1, len(dense)):
        found[n] = found[:n] @ rest[:n, n]
    return found / found.sum()


def long_run(dense):
    """Each closed class has its own; all cells are equally likely at the start."""
    label, mixture = np.full(len(dense), -1), np.zeros(len(dense))
    classes = closed_classes(sp.csr_matrix(dense))
    for number, cells in enumerate(classes):
        label[cells] = number
    free = label < 0
    for number, cells in enumerate(classes):
        ends = (label == number).astype(float)
        ends[free] = np.linalg.solve(np.eye(free.sum()) - dense[np.ix_(free, free)], dense[free] @ (ends * ~free))
        mixture[cells] = ends.mean() * stationary(dense[np.ix_(cells, cells)])
    return mixture


def slow_subspace(dense):
    """Basis of the invariant subspace of the eigenvalues with the largest real parts."""
    real = np.sort(np.linalg.eigvals(dense).real)[::-1]
    limit = (real[N_STATES - 1] + real[N_STATES]) / 2
    _, vectors, count = dense_schur(dense, sort=lambda x, y=0.0: np.real(x) > limit)
    assert count == N_STATES
    return vectors[:, :count]


def results(transitions, terminal):
    """Fates, times, long run and Schur vectors."""
    return (
        absorption_probabilities(transitions, terminal, N_FATES),
        absorption_times(transitions, terminal, N_FATES),
        stationary_distribution(transitions),
        schur(transitions, N_STATES),
    )


def check(found, dense, terminal, rounding):
    fates, times, distribution, vectors = found
    probabilities = np.asarray(fates.probabilities)
    assert int(fates.outcome) == int(times.outcome) == Outcome.SOLVED
    assert probabilities.min() >= -rounding
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=rounding)
    np.testing.assert_allclose(probabilities, chances(dense, terminal), rtol=0, atol=rounding)
    np.testing.assert_allclose(np.asarray(distribution), long_run(dense), rtol=0, atol=rounding)
    assert np.asarray(distribution).min() >= 0
    # Whatever way a cell goes, it takes the mean of the times of the ways, by the law of total expectation.
    mean = np.where(probabilities > 0, np.asarray(times.mean), 0)
    np.testing.assert_allclose((probabilities * mean).sum(axis=1), np.asarray(fates.times), rtol=1e3 * rounding)
    assert np.nanmin(times.variance) >= 0
    x = np.asarray(vectors.vectors, dtype=np.float64)
    assert subspace_angles(x, slow_subspace(dense)).max() < (1e-7 if rounding < 1e-9 else 1e-4)


@few
@given(kind=st.sampled_from(sorted(KINDS)), seed=seeds)
def test_equal_to_plain_double_precision(kind, seed):
    dense, terminal = example(kind, seed)
    check(results(sp.csr_matrix(dense), terminal), dense, terminal, 1e-9)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_graph_and_a_sparse_matrix_agree(kind):
    dense, terminal = example(kind, 0)
    found = results(chain(dense), jnp.asarray(terminal))
    check(found, dense, terminal, max(ROUNDING, 1e-9))
    expected = results(sp.csr_matrix(dense), terminal)
    np.testing.assert_allclose(found[0].probabilities, expected[0].probabilities, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found[1].mean, expected[1].mean, rtol=10 * ROUNDING)
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found[3].eigenvalues, expected[3].eigenvalues, rtol=0, atol=ROUNDING)


def answers(transitions, terminal):
    """Fates, long run and memberships of each cell, and by themselves the Schur vectors, of any basis."""
    fates, _, distribution, vectors = results(transitions, terminal)
    memberships = coarse_grain(vectors, N_STATES).memberships
    of_cells = [np.asarray(part) for part in (fates.probabilities, distribution, memberships)]
    return of_cells, np.asarray(vectors.vectors, dtype=np.float64)


@pytest.mark.parametrize("kind", SLOW_KINDS)
@few
@given(order=st.permutations(range(N_CELLS)), seed=seeds)
def test_order_of_the_cells(kind, order, seed):
    dense, terminal = example(kind, seed)
    before, vectors = answers(sp.csr_matrix(dense), terminal)
    after, others = answers(sp.csr_matrix(dense[np.ix_(order, order)]), terminal[order])
    for x, y in zip(before, after, strict=True):
        np.testing.assert_allclose(x[order], y, rtol=0, atol=1e-7)
    assert subspace_angles(vectors[order], others).max() < 1e-7


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_width_of_the_padding(kind):
    dense, terminal = example(kind, 1)
    stored = (dense != 0) | (np.random.default_rng(0).random(dense.shape) < 0.3)
    stored[4] = True
    before, vectors = answers(chain(dense), jnp.asarray(terminal))
    after, others = answers(chain(dense, stored), jnp.asarray(terminal))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=10 * ROUNDING)
    assert subspace_angles(vectors, others).max() < 1e3 * ROUNDING


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_memberships_are_shares(kind):
    dense, _ = example(kind, 2)
    for transitions, rounding in ((sp.csr_matrix(dense), 1e-9), (chain(dense), max(ROUNDING, 1e-9))):
        found = coarse_grain(schur(transitions, N_STATES), N_STATES)
        memberships = np.asarray(found.memberships)
        assert memberships.min() >= -rounding
        np.testing.assert_allclose(memberships.sum(axis=1), 1, rtol=0, atol=rounding)
        for share in (found.stationary, found.initial, *found.transition_matrix):
            np.testing.assert_allclose(np.asarray(share).sum(), 1, rtol=0, atol=10 * rounding)
        assert 0 < float(found.crispness) <= 1 + rounding


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_single_macrostate_holds_all_cells(kind):
    dense, _ = example(kind, 0)
    found = coarse_grain(schur(sp.csr_matrix(dense), 1), 1)
    np.testing.assert_allclose(found.memberships, np.ones((N_CELLS, 1)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.transition_matrix, [[1]], rtol=0, atol=1e-12)
