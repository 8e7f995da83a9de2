"""Where a chain is that is stopped at random."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from jaxvelo.markov import _stopped_chain, closed_classes, stopped_distribution
from tests.markov.chains import messy_chain

pytestmark = pytest.mark.any_precision


def two_rooms(bridge, n=80):
    """Two rooms of cells, hard to leave: a chain with two eigenvalues of one, but for the bridge."""
    rng = np.random.default_rng(0)
    dense = np.kron(np.eye(2), rng.random((n, n)))
    dense /= dense.sum(axis=1, keepdims=True)
    dense[0] *= 1 - bridge
    dense[0, n] = bridge
    return dense


@pytest.mark.parametrize("stop", [1e-1, 1e-3])
def test_equals_a_linear_system(stop):
    _, dense, _ = messy_chain(seed=1)
    starts = np.random.default_rng(0).dirichlet(np.ones(len(dense)))
    expected = np.linalg.solve(np.eye(len(dense)) - (1 - stop) * dense.T, stop * starts)
    found = stopped_distribution(sp.csr_matrix(dense), starts, stop)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)


def test_ends_count_by_the_share_of_cells_that_come_there():
    """Where three in four cells go to one of two ends that are never left again."""
    n = 101
    dense = np.zeros((n, n))
    dense[0, 0] = dense[-1, -1] = 1
    for i in range(1, n - 1):
        dense[i, i - 1 if i <= 25 else i + 1] = 1
    assert len(closed_classes(sp.csr_matrix(dense))) == 2
    found = stopped_distribution(sp.csr_matrix(dense), np.full(n, 1 / n), 1e-6)
    np.testing.assert_allclose(found[[0, -1]], [26 / n, 75 / n], atol=1e-4)


def test_a_small_change_of_the_chain_changes_little():
    """The eigenvectors of these chains are any mixture of two; and with any bridge at all one of them is lost."""
    starts = np.full(160, 1 / 160)
    stop, bridges = 1e-3, (0.0, 1e-12, 1e-7)
    chains = [two_rooms(bridge) for bridge in bridges]
    found = [stopped_distribution(sp.csr_matrix(dense), starts, stop) for dense in chains]
    for dense, other in zip(chains[1:], found[1:], strict=True):
        change = abs(dense - chains[0]).sum(axis=1).max()
        assert abs(other - found[0]).sum() <= change / stop + 2e-8
    order = np.random.default_rng(1).permutation(160)
    shuffled = stopped_distribution(sp.csr_matrix(chains[1][order][:, order]), starts, stop)
    np.testing.assert_allclose(shuffled, found[1][order], atol=1e-8)


def test_a_long_way_from_one_end_to_the_other():
    """Where the Krylov space of a few products sees nothing of the end."""
    n = 2000
    dense = sp.diags_array([np.full(n - 1, 0.9), np.full(n - 1, 0.1)], offsets=[1, -1]).tolil()
    dense[0, 0], dense[-1, -1] = 0.1, 0.9
    chain = sp.csr_matrix(dense)
    starts = np.full(n, 1 / n)
    expected = spsolve(sp.csc_matrix(sp.eye_array(n) - 0.999 * chain.T), 1e-3 * starts)
    found = stopped_distribution(chain, starts, 1e-3)
    assert abs(found - expected).sum() < 1e-6


def test_what_is_not_known_is_an_error(monkeypatch):
    monkeypatch.setattr(_stopped_chain, "MOST_STEPS", 1)
    monkeypatch.setattr(_stopped_chain, "RESTART", 2)
    monkeypatch.setattr(_stopped_chain, "MOST_RESTARTS", 1)
    with pytest.raises(ArithmeticError, match="160 cells within 1e-06, found an error of"):
        stopped_distribution(sp.csr_matrix(two_rooms(0.1)), np.eye(1, 160)[0], 1e-5)
