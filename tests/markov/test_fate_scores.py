"""Scores of fate probabilities: by hand, proper, and small where the probabilities are true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from jaxvelo.markov import fate_scores

pytestmark = pytest.mark.any_precision


def drawn(n_cells, n_fates, seed=0):
    """Probabilities, and fates that are drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(n_fates), size=n_cells)
    return probabilities, (probabilities.cumsum(axis=1) < rng.random((n_cells, 1))).sum(axis=1)


def test_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [1.0, 0.0], [0.2, 0.8]])
    scores = fate_scores(probabilities, np.array([0, 0, 1, 1, -1]), n_bins=2)
    eps = np.finfo(float).eps
    np.testing.assert_allclose(scores.log_score, np.log([0.9, 0.3, 0.5, eps]).mean())
    np.testing.assert_allclose(scores.accuracy, (1 + 0 + 0.5 + 0) / 4)
    np.testing.assert_allclose(scores.brier, 2 * np.mean([0.1**2, 0.7**2, 0.5**2, 1]))
    assert scores.n_cells == 4
    # Of the first fate: 0.3 | 0.9, 0.5, 1.0. Of the second: 0.1, 0.0 | 0.7, 0.5.
    np.testing.assert_array_equal(scores.reliability.n_cells, [[1, 3], [2, 2]])
    np.testing.assert_allclose(scores.reliability.predicted, [[0.3, 0.8], [0.05, 0.6]])
    np.testing.assert_allclose(scores.reliability.observed, [[1, 1 / 3], [0.5, 0.5]])
    expected = (0.7 + 3 * (0.8 - 1 / 3) + 2 * 0.45 + 2 * 0.1) / 8
    np.testing.assert_allclose(scores.calibration_error, expected)


@pytest.mark.parametrize("n_fates", [2, 5])
def test_true_probabilities_are_calibrated_and_score_best(n_fates):
    probabilities, truth = drawn(20_000, n_fates)
    scores = fate_scores(probabilities, truth)
    assert scores.calibration_error < 0.01
    for power in (0.5, 2.0):  # too timid, too bold
        other = probabilities**power / (probabilities**power).sum(axis=1, keepdims=True)
        worse = fate_scores(other, truth)
        assert worse.calibration_error > 0.03
        assert worse.log_score < scores.log_score
        assert worse.brier > scores.brier
        np.testing.assert_allclose(worse.accuracy, scores.accuracy)


def test_errors_of_two_fates_do_not_cancel():
    """One fate is always expected too often, another one too rarely, at the same probability."""
    scores = fate_scores(np.full((100, 2), 0.5), np.zeros(100, dtype=int))
    np.testing.assert_allclose(scores.calibration_error, 0.5)
    np.testing.assert_allclose(scores.accuracy, 0.5)


@settings(max_examples=30, deadline=None)
@given(hs.integers(1, 40), hs.integers(1, 5), hs.integers(1, 20), hs.integers(0, 1000))
def test_bounds_and_order(n_cells, n_fates, n_bins, seed):
    probabilities, truth = drawn(n_cells, n_fates, seed)
    scores = fate_scores(probabilities, truth, n_bins)
    assert scores.log_score <= 0
    assert 0 <= scores.accuracy <= 1
    assert 0 <= scores.brier <= 2
    assert 0 <= scores.calibration_error <= 1
    assert (scores.reliability.n_cells.sum(axis=1) == n_cells).all()
    turned = fate_scores(probabilities[::-1, ::-1], n_fates - 1 - truth[::-1], n_bins)
    np.testing.assert_allclose(turned[:4], scores[:4], rtol=1e-12, atol=1e-15)


def test_no_known_fate_and_single_precision():
    scores = fate_scores(np.ones((3, 2)) / 2, np.full(3, -1))
    assert np.isnan(scores[:4]).all()
    assert scores.n_cells == 0
    single = fate_scores(np.array([[1, 0]], dtype=np.float32), np.array([1]))
    np.testing.assert_allclose(single.log_score, np.log(np.finfo(np.float32).eps))
