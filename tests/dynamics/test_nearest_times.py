import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.dynamics import SplicingKinetics, align_total_time, gene_likelihood, latent_time, nearest_times
from tests.dynamics import simulated
from tests.finite_differences import check_gradient

X64 = jax.config.jax_enable_x64
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
            assert same.mean() > 0.96, (gene, on)


def test_cells_on_the_curve_get_their_times_back():
    (u, s), time = cells(noise=0)
    on, off = (np.asarray(x) for x in nearest_times(kinetics(), *as_jax(u, s, DEVIATION)))
    switch = RATES.switch / BETA
    # In single precision, distances on the curve are rounding errors.
    tolerance = 1e-9 if X64 else 5e-3
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
    assert not np.any(on[0])
    gradient = jax.grad(lambda k: jnp.sum(nearest_times(k, *arguments)[0][0]))(rates)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
    # With the gene off the end is that of the decay, which moves with the rates.
    level_u, level_s = RATES.alpha * RATES.scaling / DEVIATION[0], RATES.alpha / RATES.g / DEVIATION[1]
    end = [simulated.decay_time(*levels) for levels in zip(level_u, level_s, RATES.g, strict=True)]
    np.testing.assert_allclose(off[0] * BETA, end, rtol=1e-3)
    # Beyond the corner most have the switch as the nearest of the first branch, and move with it.
    last = np.asarray(on[1] >= rates.switching_time * (1 - 1e-6))
    assert last.sum() >= 2
    gradient = jax.grad(lambda k: jnp.sum(nearest_times(k, *arguments)[0][1]))(rates)
    np.testing.assert_allclose(gradient.switching_time, last.astype(float), atol=1e-5)
    assert np.isfinite(off).all()


def test_gradient_of_the_end_of_the_decay():
    """It moves with the rates; with a kink where they are equal."""
    arguments = as_jax(np.zeros((1, 3)), np.zeros((1, 3)), DEVIATION[:, [0, 2, 3]])
    rates = jax.tree.map(lambda x: x[jnp.asarray([0, 2, 3])], kinetics())
    gradient = check_gradient(lambda k, *a: jnp.sum(nearest_times(k, *a)[1]), rates, arguments=arguments)
    assert np.any(np.asarray(gradient.gamma) != 0)


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
    tolerance = 1e-10 if X64 else 2e-3
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, np.asarray(y)[order][:, genes], rtol=tolerance, atol=tolerance)


def near_critical(ratio, n_cells=600, seed=0):
    """One gene with rates of splicing and degradation close to each other, and cells all around its curve."""
    rates = SplicingKinetics(*(jnp.asarray([x], dtype=float) for x in (5.0, 1.0, ratio, 15.0, 0.7)))
    rng = np.random.default_rng(seed)
    corner = np.array([5 * 0.7, 5 / ratio])
    u, s = (rng.random((n_cells, 1)) * 1.4 * level for level in corner)
    return rates, as_jax(u, s, 0.3 * corner[:, None])


@pytest.mark.parametrize("ratio", [0.3, 0.9, 1.0, 1.1, 3.0])
def test_times_inside_a_branch_are_at_a_right_angle(ratio):
    """Where rates are close, there are bends in which Newton's steps alone go astray."""
    rates, (u, s, deviation) = near_critical(ratio)
    switch = rates.switching_time[None]
    times = nearest_times(rates, u, s, deviation)
    for is_on, time in zip((True, False), times, strict=True):
        place = time if is_on else switch + time
        inside = np.asarray((time > 0) & (time < 0.999 * (switch if is_on else jnp.max(time))))
        fit_u, fit_s = rates.state(place)
        du = (float(is_on) * rates.alpha[None] * rates.scaling[None] - rates.beta[None] * fit_u) / deviation[0][None]
        ds = (rates.beta[None] * fit_u / rates.scaling[None] - rates.gamma[None] * fit_s) / deviation[1][None]
        off_u, off_s = (u - fit_u) / deviation[0][None], (s - fit_s) / deviation[1][None]
        along = (off_u * du + off_s * ds) / jnp.sqrt((off_u**2 + off_s**2) * (du**2 + ds**2) + 1e-30)
        right = np.abs(np.asarray(along)) < (1e-6 if X64 else 2e-2)
        # Close to the steady state, where all stands still, single precision does not tell one time from another.
        assert right[inside].mean() > (0.998 if X64 else 0.9), (is_on, right[inside].mean())


@pytest.mark.parametrize("cell", [(2.60, 4.90), (2.75, 5.05), (2.95, 4.90)])
def test_gradient_where_newton_goes_astray(cell):
    rates, _ = near_critical(1.0)
    u, s = as_jax([[cell[0]]], [[cell[1]]])
    deviation = jnp.asarray([[1.15], [1.44]], dtype=float)
    check_gradient(
        lambda k, *a: nearest_times(k, *a)[0][0, 0], rates, rtol=1e-5, step=1e-6, arguments=(u, s, deviation)
    )


def test_the_beginning_may_be_the_farthest_point():
    """A cell without unspliced counts: the curve leaves the origin at a right angle, and then comes closer."""
    rates = SplicingKinetics(*(jnp.asarray([x], dtype=float) for x in (1.0, 1.0, 10.0, 0.5, 1.0)))
    arguments = as_jax([[0.0]], [[0.0894]], [[1.0], [0.1]])
    on, _ = nearest_times(rates, *arguments)
    times = np.linspace(0, 0.5, 200_001)
    u, s = simulated.curve(times, 1.0, 10.0, 0.5)
    nearest = times[np.argmin(u**2 + (0.894 - s / 0.1) ** 2)]
    assert nearest > 1e-3
    np.testing.assert_allclose(on[0, 0], nearest, atol=1e-5)


def test_second_derivatives():
    (u, s), _ = cells(noise=0.1)
    arguments = as_jax(u, s, DEVIATION)

    def slope(factor):
        rates = kinetics()
        moved = lambda f: SplicingKinetics(f * rates.alpha, *jax.tree.leaves(rates)[1:])  # noqa: E731
        return jax.grad(lambda f: sum(jnp.sum(t) for t in nearest_times(moved(f), *arguments)))(factor)

    check_gradient(slope, jnp.asarray(1.0), rtol=1e-4, step=1e-6)


def test_variance_of_nearly_equal_distances():
    """In single precision too, and zero is a policy, not an accident."""
    rng = np.random.default_rng(0)
    distance = 3 + 1e-3 * rng.normal(size=(100, 2))
    counts = np.ones((100, 2))
    for dtype, rtol in ((np.float64, 1e-10), (np.float32, 1e-3)):
        variance, _ = gene_likelihood(distance.astype(dtype), counts.astype(dtype), counts.astype(dtype))
        np.testing.assert_allclose(variance, distance.var(axis=0), rtol=rtol)
    variance, likelihood = gene_likelihood(np.full((100, 2), 0.25), counts, counts)
    np.testing.assert_array_equal(variance, 1)
    np.testing.assert_allclose(likelihood, np.exp(-0.5 * 6.25 / 99) / np.sqrt(2 * np.pi))
