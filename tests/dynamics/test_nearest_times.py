import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.dynamics import SplicingKinetics, align_total_time, gene_likelihood, latent_time, nearest_times
from tests.dynamics import simulated
from tests.finite_differences import check_gradient

N_CELLS = 30
RATES = simulated.Rates(
    alpha=np.array([3.0, 0.8, 2.0, 5.0]),
    g=np.array([0.4, 1.0, 2.5, 0.7]),
    switch=np.array([2.5, 3.0, 1.5, 0.8]),
    scaling=np.array([0.5, 1.0, 2.0, 0.7]),
)
BETA = np.array([0.5, 1.0, 2.0, 0.1])
DEVIATION = np.array([[0.4, 0.2, 0.5, 1.0], [1.5, 0.2, 0.3, 1.2]])


def kinetics():
    rates = (RATES.alpha * BETA, BETA, RATES.g * BETA, RATES.switch / BETA, RATES.scaling)
    return SplicingKinetics(*(jnp.asarray(x, dtype=float) for x in rates))


def cells(noise=0.1, seed=0):
    """Cells around the curves, their true times, and the numbers of standard deviations that they are off."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0.05, 0.9, N_CELLS)[:, None] * (RATES.switch + 3 / np.minimum(RATES.g, 1))
    u, s = simulated.curve(time, *RATES[:3])
    off = noise * rng.normal(size=(2, *u.shape))
    return (u * RATES.scaling + off[0] * DEVIATION[0], s + off[1] * DEVIATION[1]), time / BETA


def as_jax(*arrays):
    return [jnp.asarray(x, dtype=float) for x in arrays]


def brute_force(u, s, gene, on, n=40_001):
    """Nearest times of one gene on a dense grid, in units of 1/beta, and squared distances."""
    level_u, level_s = RATES.alpha * RATES.scaling / DEVIATION[0], RATES.alpha / RATES.g / DEVIATION[1]
    end = RATES.switch[gene] if on else simulated.decay_time(level_u[gene], level_s[gene], RATES.g[gene])
    times = np.linspace(0, end, n)
    x, y = simulated.curve(times if on else RATES.switch[gene] + times, *(rate[gene] for rate in RATES[:3]))
    squared = (u[:, None] / DEVIATION[0, gene] - x * RATES.scaling[gene] / DEVIATION[0, gene]) ** 2
    squared += ((s[:, None] - y) / DEVIATION[1, gene]) ** 2
    return times[squared.argmin(axis=1)], squared.min(axis=1)


def test_times_equal_brute_force():
    (u, s), _ = cells(noise=0.3)
    found = nearest_times(kinetics(), *as_jax(u, s, DEVIATION))
    for gene in range(4):
        for times, on in zip(found, (True, False), strict=True):
            expected, squared = brute_force(u[:, gene], s[:, gene], gene, on)
            times = np.asarray(times)[:, gene] * BETA[gene]
            place = times if on else RATES.switch[gene] + times
            x, y = simulated.curve(place, *(rate[gene] for rate in RATES[:3]))
            distance = ((u[:, gene] - x * RATES.scaling[gene]) / DEVIATION[0, gene]) ** 2
            distance += ((s[:, gene] - y) / DEVIATION[1, gene]) ** 2
            np.testing.assert_allclose(np.sqrt(distance), np.sqrt(squared), atol=2e-3)
            same = abs(times - expected) < 1e-2 * (1 + expected)
            # A few have two places that are equally near.
            assert same.mean() > 0.9, (gene, on)


def test_cells_on_the_curve_get_their_times_back():
    (u, s), time = cells(noise=0)
    on, off = (np.asarray(x) for x in nearest_times(kinetics(), *as_jax(u, s, DEVIATION)))
    switch = RATES.switch / BETA
    # In single precision, distances on the curve are rounding errors.
    tolerance = 1e-9 if jax.config.jax_enable_x64 else 5e-3
    is_on = time < switch
    np.testing.assert_allclose(on[is_on], time[is_on], rtol=tolerance)
    np.testing.assert_allclose(off[~is_on], (time - switch)[~is_on], rtol=tolerance, atol=tolerance)
    assert (on <= switch * (1 + 1e-6)).all()
    assert min(on.min(), off.min()) >= 0


def test_beyond_the_ends():
    """Cells before the beginning and after the end of a branch get its ends, with their derivatives."""
    rates = kinetics()
    corner = [np.asarray(x) for x in rates.state(rates.switching_time[None])]
    u, s = (np.concatenate([0 * x, 2 * x]) for x in corner)
    arguments = as_jax(u, s, DEVIATION)
    on, off = nearest_times(rates, *arguments)
    np.testing.assert_allclose(on[0], 0, atol=1e-6)
    gradient = jax.grad(lambda k: jnp.sum(nearest_times(k, *arguments)[0][0]))(rates)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
    # Beyond the corner most have the switch as the nearest of the first branch, and move with it.
    last = np.asarray(on[1] >= rates.switching_time * (1 - 1e-6))
    assert last.sum() >= 2
    gradient = jax.grad(lambda k: jnp.sum(nearest_times(k, *arguments)[0][1]))(rates)
    np.testing.assert_allclose(gradient.switching_time, last.astype(float), atol=1e-5)
    assert np.isfinite(off).all()


def chosen_times(rates, u, s, deviation):
    """Times of the nearer branch, which is held fixed under differentiation."""
    on, off = nearest_times(rates, u, s, deviation)
    off = rates.switching_time[None] + off
    nearer = abs(rates.signed_distances(on, u, s, deviation)) <= abs(rates.signed_distances(off, u, s, deviation))
    return jnp.where(nearer, on, off)


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_gradients_of_times_equal_finite_differences(noise):
    (u, s), _ = cells(noise=noise)
    weights = np.random.default_rng(1).normal(size=(2, *u.shape))

    def objective(argument, weights):
        times = nearest_times(*argument)
        return sum(jnp.sum(w * jnp.tanh(t)) for w, t in zip(weights, times, strict=True))

    argument = (kinetics(), *as_jax(u, s, DEVIATION))
    gradient = check_gradient(objective, argument, rtol=2e-6, step=1e-6, arguments=(jnp.asarray(weights),))
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient))


def test_gradients_of_likelihood_and_variance_equal_finite_differences():
    """Through the times, and with the rates of equal splicing and degradation."""
    (u, s), _ = cells(noise=0.3)

    def objective(rates, u, s, deviation):
        distances = rates.signed_distances(chosen_times(rates, u, s, deviation), u, s, deviation)
        variance, likelihood = gene_likelihood(distances, u, s)
        return jnp.sum(jnp.log(likelihood)) + jnp.sum(variance)

    gradient = check_gradient(objective, kinetics(), rtol=1e-5, step=1e-6, arguments=as_jax(u, s, DEVIATION))
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient))


def test_gradients_of_aligned_latent_time_equal_finite_differences():
    """From rates to the times of the cells, to one unit of time, to the time that genes share."""
    (u, s), _ = cells(noise=0.3)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=N_CELLS), dtype=float)

    def objective(rates, weights, u, s, deviation):
        times = chosen_times(rates, u, s, deviation)
        factors = align_total_time(times, rates.switching_time, 20.0)
        return weights @ latent_time(times * factors[None], jnp.asarray([0])) + jnp.sum(jnp.log(factors))

    arguments = (weights, *as_jax(u, s, DEVIATION))
    gradient = check_gradient(objective, kinetics(), rtol=1e-5, step=1e-6, arguments=arguments)
    assert np.all(np.asarray(gradient.gamma) != 0)


def test_gradients_are_finite_at_singular_points():
    """Cells on the curve, at its origin, at its corner, and counts that are all zero."""
    rates = kinetics()
    corner = [np.asarray(x) for x in rates.state(rates.switching_time[None])]
    (u, s), _ = cells(noise=0)
    u, s = (np.concatenate([x, np.zeros((2, 4)), y, 5 * y]) for x, y in zip((u, s), corner, strict=True))

    def objective(rates, u, s, deviation):
        times = chosen_times(rates, u, s, deviation)
        variance, likelihood = gene_likelihood(rates.signed_distances(times, u, s, deviation), u, s)
        return (
            jnp.sum(times)
            + jnp.sum(variance)
            + jnp.sum(likelihood)
            + jnp.sum(align_total_time(times, rates.switching_time, 20.0))
        )

    for x, y in ((u, s), (0 * u, 0 * s)):
        gradient = jax.grad(objective)(rates, *as_jax(x, y, DEVIATION))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_order_of_cells_and_genes_does_not_matter():
    (u, s), _ = cells()
    rng = np.random.default_rng(0)
    order, genes = rng.permutation(N_CELLS), rng.permutation(4)
    rates = kinetics()
    shuffled = jax.tree.map(lambda x: x[genes], rates)
    expected = nearest_times(rates, *as_jax(u, s, DEVIATION))
    found = nearest_times(shuffled, *as_jax(u[order][:, genes], s[order][:, genes], DEVIATION[:, genes]))
    tolerance = 1e-10 if jax.config.jax_enable_x64 else 2e-3
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, np.asarray(y)[order][:, genes], rtol=tolerance, atol=tolerance)
