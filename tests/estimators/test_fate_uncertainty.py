"""Intervals of fates from errors of velocities: against all derivatives, against each other, and coverage."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, logit
from scipy.stats import t as student

from jaxvelo.estimators._fate_gradient import fate_gradient
from jaxvelo.estimators._fate_uncertainty import _extrapolated, fate_uncertainty
from jaxvelo.estimators._fates_of_velocities import VelocityFates, fates_of_velocities
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from jaxvelo.markov import absorption_probabilities
from tests.bent_line import N_CELLS, N_GENES, make_cells

NAMES = ("begin", "end")
TERMINAL = np.where(np.arange(N_CELLS) < 4, 0, np.where(np.arange(N_CELLS) >= N_CELLS - 4, 1, -1))
TRANSIENT = TERMINAL < 0
SAMPLES = 40  # the same for all, so that each program is compiled once; where more are needed, of several seeds
ERRORS = 0.1 + np.random.default_rng(1).random((N_CELLS, N_GENES)) / 5


def kernel_of(adata):
    velocity = VelocityKernel(adata).compute_transition_matrix(softmax_scale=0.3)
    return 0.8 * velocity + 0.2 * ConnectivityKernel(adata).compute_transition_matrix()


@pytest.fixture(scope="module")
def kernel():
    return kernel_of(make_cells())


@pytest.mark.parametrize("shared", [False, True])
def test_the_linear_variance_is_that_of_all_derivatives(kernel, shared):
    draws = [
        fate_uncertainty(kernel, TERMINAL, NAMES, ERRORS, "linear", n_samples=SAMPLES, shared=shared, seed=seed)
        for seed in range(12)
    ]
    variance = np.mean([found.standard_deviation**2 for found in draws], axis=0)
    for cell in (10, 30):
        gradient = fate_gradient(kernel, TERMINAL, NAMES, cells=[cell], of_cells=True).of_cells[1]
        expected = np.sum((gradient * ERRORS).sum(axis=0) ** 2) if shared else np.sum((gradient * ERRORS) ** 2)
        np.testing.assert_allclose(variance[cell], expected, rtol=0.3)


@pytest.mark.parametrize("shared", [False, True])
def test_both_methods_agree_for_small_errors(kernel, shared):
    several_linear, several_redrawn = (
        [
            fate_uncertainty(kernel, TERMINAL, NAMES, ERRORS / 4, method, n_samples=SAMPLES, shared=shared, seed=seed)
            for seed in range(3)
        ]
        for method in ("linear", "monte_carlo")
    )
    linear, redrawn = several_linear[0], several_redrawn[0]
    np.testing.assert_array_equal(linear.probabilities, redrawn.probabilities)
    by_linear, by_redrawn = (
        np.sqrt(np.mean([found.standard_deviation[TRANSIENT] ** 2 for found in several], axis=0))
        for several in (several_linear, several_redrawn)
    )
    np.testing.assert_allclose(np.median(by_linear / by_redrawn), 1, atol=0.2)
    for found in (linear, redrawn):
        assert (found.lower >= 0).all()
        assert (found.upper <= 1).all()
        assert (found.lower <= found.upper).all()
        np.testing.assert_array_equal(found.lower[~TRANSIENT], found.probabilities[~TRANSIENT])
        np.testing.assert_array_equal(found.standard_deviation[~TRANSIENT], 0)
    assert ((linear.lower < linear.probabilities) & (linear.probabilities < linear.upper))[TRANSIENT].all()


@pytest.mark.parametrize("shared", [False, True])
def test_the_interval_is_that_of_simulation_and_extrapolation(kernel, shared):
    """The same draws, one by one, and parabolas fitted to them, in double precision."""
    fates = VelocityFates.of_kernel(kernel, TERMINAL, NAMES)
    solve = jax.jit(lambda v, *data: fates_of_velocities(v, *data, fates.kernel.features_name, 2).probabilities)
    v, errors = fates.features.v, fates.padded(ERRORS)

    def logits(v):
        return logit(np.asarray(solve(v, fates.features, fates.chance), float)[TRANSIENT, 1])

    draws = {0: [logits(v)], 1: [], 2: []}
    for key in jax.random.split(jax.random.key(4), SAMPLES // 2):
        noise = errors * jax.random.normal(key, (1, v.shape[1]) if shared else v.shape, v.dtype)
        for times in (1, 2):
            draws[times] += [logits(v + sign * times**0.5 * noise) for sign in (1, -1)]
    means, variances = (np.array([take(found, axis=0) for found in draws.values()]) for take in (np.mean, np.var))
    times = np.arange(3)
    middle, line = (
        (-1.0) ** times[degree::-1] @ np.polyfit(times[: degree + 1], means[: degree + 1], degree) for degree in (2, 1)
    )
    variance = np.maximum(-np.array([1, -1, 1]) @ np.polyfit(times, variances, 2), variances[1])
    half = np.sqrt(student.ppf(0.95, SAMPLES // 2) ** 2 * variance + (middle - line) ** 2)
    found = fate_uncertainty(kernel, TERMINAL, NAMES, ERRORS, n_samples=SAMPLES, shared=shared, seed=4)
    for limits, side in ((found.lower, -1), (found.upper, 1)):
        np.testing.assert_allclose(limits[TRANSIENT, 1], expit(middle + side * half), atol=2e-4)


def test_the_spread_over_neighbours_is_the_default(kernel):
    adata = kernel.adata
    member = (adata.obsp["connectivities"].toarray() > 0) + np.eye(N_CELLS)
    share = member / member.sum(axis=1, keepdims=True)
    v = adata.layers["velocity"].astype(float)
    spread = np.sqrt(share @ v**2 - (share @ v) ** 2)
    arguments = {"n_samples": SAMPLES, "seed": 0}
    found = fate_uncertainty(kernel, TERMINAL, NAMES, **arguments, method="linear")
    expected = fate_uncertainty(kernel, TERMINAL, NAMES, spread, **arguments, method="linear")
    np.testing.assert_allclose(found.standard_deviation, expected.standard_deviation, rtol=1e-3)


def test_the_same_seed_gives_the_same_and_a_layer_is_as_an_array(kernel):
    kernel.adata.layers["errors"] = sp.csr_matrix(ERRORS)
    try:
        found = fate_uncertainty(kernel, TERMINAL, NAMES, "errors", n_samples=SAMPLES, seed=3)
        again = fate_uncertainty(kernel, TERMINAL, NAMES, ERRORS, n_samples=SAMPLES, seed=3)
    finally:
        del kernel.adata.layers["errors"]
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.any_precision
def test_extrapolation_takes_away_the_shift_of_a_correlation():
    """Errors shrink a correlation: of many velocities with errors, each gets the interval of its own draws."""
    rng = np.random.default_rng(0)
    n_cells, n_genes, n_pairs, size = 1000, 40, 20, 0.5
    true, direction = rng.normal(size=n_genes), rng.normal(size=n_genes)
    direction += true

    def of(v):
        return 5 * v @ direction / np.linalg.norm(v, axis=-1) / np.linalg.norm(direction)

    given = true + size * rng.normal(size=(n_cells, n_genes))
    noise = size * rng.normal(size=(n_pairs, n_cells, n_genes))
    draws = np.stack([[of(given + sign * np.sqrt(times) * noise) for sign in (1, -1)] for times in (1, 2)])
    shift = (draws - of(given)).mean(axis=(1, 2))
    lower, upper = _extrapolated(expit(of(given)), shift, draws.var(axis=(1, 2)), student.ppf(0.95, n_pairs), 1e-12)
    assert 0.87 < np.mean((lower <= expit(of(true))) & (expit(of(true)) <= upper)) < 0.95
    # Not without the extrapolation: as wide an interval about the given one holds far less.
    half = (logit(upper) - logit(lower)) / 2
    assert np.mean(np.abs(of(given) - of(true)) < half) < 0.8


@pytest.mark.any_precision
def test_intervals_at_the_rounding_of_fates():
    """Fates that cannot be told from 0 or 1 have intervals that reach there; fates of 0 and 1 are known."""
    probabilities = np.array([[0.0, 1e-9, 1e-7, 0.5, 1 - 1e-9, 1.0]])
    none = np.zeros((2, 1, 6))
    lower, upper = _extrapolated(probabilities, none, none, 2.0, 1e-7)
    np.testing.assert_allclose(lower, [[0, 0, 0, 0.5, 1 - 1e-7, 1]], rtol=1e-12)
    np.testing.assert_allclose(upper, [[0, 1e-7, 1e-7, 0.5, 1, 1]], rtol=1e-12)


@pytest.mark.any_precision
@pytest.mark.parametrize(("method", "shared"), [("linear", True), ("monte_carlo", True), ("monte_carlo", False)])
def test_coverage_of_the_fates_of_the_true_velocities(kernel, method, shared):
    """Velocities with errors of the given size: intervals hold the fates of the velocities without."""
    errors = ERRORS if method == "monte_carlo" else ERRORS / 10  # larger ones move all fates, beyond first order
    true = absorption_probabilities(kernel.transition_matrix, TERMINAL, 2).probabilities
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(10):
        adata = kernel.adata.copy()
        noise = rng.normal(size=(1 if shared else N_CELLS, N_GENES)) * errors
        adata.layers["velocity"] = (adata.layers["velocity"] + noise).astype(np.float32)
        found = fate_uncertainty(
            kernel_of(adata), TERMINAL, NAMES, errors, method=method, n_samples=SAMPLES, shared=shared, seed=0
        )
        covered.append((found.lower <= true) & (true <= found.upper))
        # Not because they are wide: a normal interval of 90 % has 3.3 standard deviations.
        assert np.median((found.upper - found.lower)[TRANSIENT] / found.standard_deviation[TRANSIENT]) < 4
    assert np.mean(np.array(covered)[:, TRANSIENT]) >= 0.75


@pytest.mark.any_precision
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "exact"}, ValueError, "`method` to be one of"),
        ({"level": 90}, ValueError, "between 0 and 1"),
        ({"level": "a"}, ValueError, "between 0 and 1"),
        ({"n_samples": 3}, ValueError, "n_samples"),
        ({"standard_errors": "missing"}, KeyError, "missing"),
        ({"standard_errors": ERRORS[:, :5]}, ValueError, "for each of the 60 cells and 41 genes"),
        ({"standard_errors": -ERRORS}, ValueError, "not negative"),
    ],
)
def test_what_is_not_as_expected(kernel, change, error, message):
    with pytest.raises(error, match=message):
        fate_uncertainty(kernel, TERMINAL, NAMES, **change)
