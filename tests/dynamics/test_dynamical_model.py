import os
import tracemalloc

import anndata as ad
import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxvelo.dynamics import (
    _blocks,
    _cell_times,
    _dynamical_model,
    align_total_time,
    fit_dynamics,
    genes_per_batch,
    neighborhood_weights,
)
from jaxvelo.dynamics._cell_times import _nearest_block
from jaxvelo.dynamics._curve_fit import fit_curves
from tests.dynamics import simulated

X64 = jax.config.jax_enable_x64
N_CELLS = 400
STATUSES = {"converged", "at a bound", "not converged", "too few cells", "failed"}
DTYPES = [np.float32, np.float64]


@pytest.fixture(autouse=True, scope="module")
def optimised():
    """The fit is all running and little compiling, unlike the rest of the suite (see conftest.py)."""
    options = {"xla_backend_optimization_level": 1}
    programs = [jax.jit(program.__wrapped__, compiler_options=options) for program in (fit_curves, _nearest_block)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_dynamical_model, "fit_curves", programs[0])
        patch.setattr(_cell_times, "_nearest_block", programs[1])
        # Few genes at a time are padded less.
        patch.setattr(_dynamical_model, "N_PROBLEMS", 8)
        patch.setattr(_blocks, "N_GENES", 4)
        patch.setattr(_dynamical_model, "N_GENES", 4)
        patch.setattr(_blocks, "N_CELLS", 512)
        yield programs


def fitted(cells, **options):
    return fit_dynamics(cells.unspliced, cells.spliced, cells.weights, **options)


def of_genes(cells, genes):
    return cells._replace(**{name: getattr(cells, name)[:, genes] for name in cells._fields if name != "weights"})


def per_gene(fit):
    """Everything that has one row per gene, by name."""
    values = {name: getattr(fit.kinetics, name) for name in ("alpha", "beta", "gamma", "switching_time", "scaling")}
    values |= {name: getattr(fit, name) for name in ("residual", "likelihood", "variance", "covariance")}
    return values | {"deviation": fit.deviation.T}


def per_cell(fit):
    return {name: getattr(fit, name) for name in ("time", "time_on", "time_off", "probability_on")}


def close(found, expected, genes=slice(None), cells=slice(None), rates=2e-2, times=2e-2):
    """Equal but for sums rounded in another order, which the choice of the nearest point on a grid amplifies."""
    np.testing.assert_array_equal(found.status, expected.status[genes])
    for name, value in per_gene(found).items():
        known = per_gene(expected)[name][genes]
        size = np.maximum(abs(known), abs(known).max(axis=tuple(range(1, known.ndim)), keepdims=True))
        np.testing.assert_allclose(value / size, known / size, atol=rates, rtol=0, err_msg=name)
    for name, value in per_cell(found).items():
        known = per_cell(expected)[name][cells][:, genes]
        off = np.abs(value - known) / np.maximum(known.max(axis=0), 1)
        assert np.mean(off) < times / 10, name
        assert np.mean(off < times) > 0.99, name


@pytest.fixture(scope="module")
def rates():
    return simulated.random_rates(24, 0)


@pytest.fixture(scope="module")
def cells(rates):
    return simulated.simulate(rates, N_CELLS)


@pytest.fixture(scope="module")
def fit(cells):
    return fitted(cells)


def log_errors(fit, rates):
    kinetics = fit.kinetics
    pairs = ((kinetics.alpha, rates.alpha), (kinetics.gamma, rates.g), (kinetics.switching_time, rates.switch),
             (kinetics.scaling, rates.scaling))  # fmt: skip
    return np.array([np.log(found / known) for found, known in pairs])


def log_curves(fit):
    """Logarithms of both levels, of the ratio and of the switching time times the rate of splicing."""
    k = fit.kinetics
    curves = k.alpha / k.beta * k.scaling, k.alpha / k.gamma, k.gamma / k.beta, k.switching_time * k.beta
    return np.log(np.stack(curves, axis=1))


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(np.asarray(a).T, b.T, strict=True)])


def velocities(fit):
    return fit.kinetics.expected_velocities(fit.time_on, fit.time_off, fit.probability_on)


def test_shapes_types_and_status(cells, fit):
    n_genes = cells.unspliced.shape[1]
    assert fit.status.shape == (n_genes,)
    assert set(fit.status) <= {"converged", "not converged"}
    assert np.mean(fit.status == "converged") > 0.9
    for value in (*per_gene(fit).values(), *per_cell(fit).values()):
        assert isinstance(value, np.ndarray)
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
    assert (fit.kinetics.beta == 1).all()
    assert ((fit.probability_on >= 0) & (fit.probability_on <= 1)).all()
    assert (fit.time >= 0).all()
    assert (fit.time_on <= fit.kinetics.switching_time * (1 + 1e-5)).all()
    assert fit.deviation.shape == (2, n_genes)


def test_rates_are_recovered(fit, rates):
    errors = log_errors(fit, rates)
    # Alpha, gamma, switching time, scaling: in natural logarithms, with noise of a third of the largest count.
    assert (np.median(abs(errors), axis=1) < [0.45, 0.25, 0.45, 0.45]).all()
    assert (abs(errors).max(axis=1) < 1.2).all()
    # They differ between the genes by far more than that: it is not the prior that speaks.
    assert spearmanr(fit.kinetics.gamma, rates.g)[0] > 0.85
    assert spearmanr(fit.kinetics.alpha, rates.alpha)[0] > 0.9
    assert spearmanr(fit.kinetics.scaling, rates.scaling)[0] > 0.8


def test_times_and_velocities_are_recovered(cells, fit):
    orders = [spearmanr(found, known)[0] for found, known in zip(fit.time.T, cells.time.T, strict=True)]
    assert np.median(orders) > 0.98
    assert min(orders) > 0.6
    velocity, velocity_u = velocities(fit)
    found = correlations(velocity, cells.velocity)
    assert np.median(found) > 0.97
    assert found.min() > 0.9
    # Of unspliced counts, it is largest at the very beginning and just after the switch.
    on = cells.time < fit.kinetics.switching_time
    assert (np.asarray(velocity_u)[cells.time == 0] > 0).mean() > 0.9
    assert (fit.probability_on[on].mean(), fit.probability_on[~on].mean()) > (0.75, 0.0)
    assert fit.probability_on[~on].mean() < 0.2


def test_with_little_noise_rates_are_close():
    rates = simulated.random_rates(12, 1)
    cells = simulated.simulate(rates, 800, k=10, noise=0.03)
    fit = fitted(cells)
    errors = abs(log_errors(fit, rates))
    # Of alpha, gamma, scaling.
    assert (np.median(errors[[0, 1, 3]], axis=1) < [0.2, 0.1, 0.15]).all()
    assert (errors[[0, 1, 3]].max(axis=1) < [0.5, 0.25, 0.4]).all()
    # Genes that come close to their steady state say little about when they leave it.
    early = rates.switch * np.minimum(rates.g, 1) < 2
    assert early.sum() >= 4
    assert errors[2, early].max() < 0.3
    assert errors[2].max() < 0.7
    assert correlations(velocities(fit)[0], cells.velocity).min() > 0.98


def test_residual_is_the_mean_squared_distance_to_the_curve(cells, fit):
    kinetics = fit.kinetics
    for gene in range(0, 24, 5):
        time = np.linspace(0, kinetics.switching_time[gene] + 7 / min(kinetics.gamma[gene], 1), 6000)
        state = simulated.curve(time, *(float(x[gene]) for x in (kinetics.alpha, kinetics.gamma,
                                kinetics.switching_time)))  # fmt: skip
        u, s = state[0] * kinetics.scaling[gene] / fit.deviation[0, gene], state[1] / fit.deviation[1, gene]
        x, y = cells.unspliced[:, gene] / fit.deviation[0, gene], cells.spliced[:, gene] / fit.deviation[1, gene]
        squared = np.min((x[:, None] - u) ** 2 + (y[:, None] - s) ** 2, axis=1)
        np.testing.assert_allclose(fit.residual[gene], squared.mean(), rtol=0.02)


def plain_distances(fit, gene, u, s, n=4000):
    """Squared distances to both branches by brute force, each with the residual in spliced, in units of the gene."""
    kinetics = {
        name: float(getattr(fit.kinetics, name)[gene]) for name in ("alpha", "gamma", "switching_time", "scaling")
    }
    alpha, g, switch, scaling = kinetics.values()
    end = 12 / min(g, 1.0)
    result = []
    for times in (switch * np.linspace(0, 1, n) ** 2, switch + end * np.linspace(0, 1, n) ** 2):
        x, y = simulated.curve(times, alpha, g, switch)
        x, y = x * scaling / fit.deviation[0, gene], y / fit.deviation[1, gene]
        squared = (u[:, None] - x) ** 2 + (s[:, None] - y) ** 2
        nearest = squared.argmin(axis=1)
        result.append((squared[np.arange(len(u)), nearest], s - y[nearest]))
    return result


def test_likelihood_and_variance_equal_plain_ones(cells, fit):
    """scVelo's: of the signed distances of cells with a third of the largest counts or more."""
    weights = cells.weights.toarray().astype(float)
    for gene in range(6):
        u, s = (
            x[:, gene].astype(float) / fit.deviation[i, gene] for i, x in enumerate((cells.unspliced, cells.spliced))
        )
        (on, _), (off, _) = plain_distances(fit, gene, weights @ u, weights @ s)
        is_on = weights @ (weights @ (on - off)) <= 0
        (on, on_residual), (off, off_residual) = plain_distances(fit, gene, u, s)
        squared, residual = np.where(is_on, on, off), np.where(is_on, on_residual, off_residual)
        upper = (u > u.max() / 3) & (s > s.max() / 3)
        variance = np.var(np.sign(residual[upper]) * np.sqrt(squared[upper]))
        np.testing.assert_allclose(fit.variance[gene], variance, rtol=0.03)
        n = upper.sum() - 0.01 * len(u)
        likelihood = np.exp(-0.5 * squared[upper].sum() / n / variance) / np.sqrt(2 * np.pi * variance)
        np.testing.assert_allclose(fit.likelihood[gene], likelihood, rtol=0.03)


def test_deviations(cells, fit):
    for axis, x in enumerate((cells.unspliced, cells.spliced)):
        for gene in range(24):
            both = (cells.unspliced[:, gene] > 0) & (cells.spliced[:, gene] > 0)
            rest = both.copy()
            for values in (cells.unspliced[:, gene], cells.spliced[:, gene]):
                rest &= values <= np.percentile(values[both], 99)
            np.testing.assert_allclose(fit.deviation[axis, gene], x[rest, gene].std(), rtol=1e-5)


def test_order_of_genes_does_not_matter(cells, fit):
    genes = np.random.default_rng(0).permutation(24)[:10]
    close(fitted(of_genes(cells, genes)), fit, genes=genes, rates=1e-4, times=1e-3)


def test_order_of_cells_does_not_matter(cells, fit):
    order = np.random.default_rng(1).permutation(N_CELLS)
    shuffled = fit_dynamics(cells.unspliced[order], cells.spliced[order], cells.weights[order][:, order])
    close(shuffled, fit, cells=order)


def test_curves_come_nearer_on_free_branches_at_last(cells, monkeypatch):
    """By their size: ratio and switching time, which agreed branches tell better, are as they were."""
    some = of_genes(cells, slice(8))
    found = fitted(some)
    monkeypatch.setattr(_dynamical_model, "LAST_DEVIATION", np.full(4, 1e-5))
    before = fitted(some)
    moved = np.abs(log_curves(found) - log_curves(before)).max(axis=0)
    assert found.residual.mean() < 0.999 * before.residual.mean()
    assert (found.residual < 1.005 * before.residual).all()
    assert moved[:2].max() > 2e-3
    assert moved[2:].max() < 1e-2


@pytest.mark.parametrize("n_workers", [1, 3])
def test_memory_and_cores_do_not_change_the_result(cells, fit, monkeypatch, n_workers):
    monkeypatch.setattr(_dynamical_model, "n_workers", lambda: n_workers)
    reported = []
    memory = 5 * N_CELLS * 4 * 24
    found = fitted(cells, memory=n_workers * memory, report=reported.append)
    # Whole blocks of genes: not five, which memory would do for, nor two, a quarter of the share of each of three.
    assert reported == [4] * 6
    reported.clear()
    few = fitted(of_genes(cells, slice(0, 3)), memory=1.0, report=reported.append)
    assert reported == [1] * 3
    for result, genes in ((found, slice(None)), (few, slice(0, 3))):
        for values, known in zip(jax.tree.leaves(result), jax.tree.leaves(fit), strict=True):
            in_first = np.ndim(known) == 1 or np.shape(known)[1:] == (4, 4)
            np.testing.assert_array_equal(values, known[genes] if in_first else known[:, genes])


def test_units_of_counts_move_alpha_and_scaling_only(cells, fit):
    units = np.array([0.1, 8.0, 64.0, 1.0])
    few = of_genes(cells, slice(0, 4))
    changed = fit_dynamics(few.unspliced * np.float32(3), (few.spliced * units).astype(np.float32), cells.weights)
    kinetics, known = changed.kinetics, jax.tree.map(lambda x: x[:4], fit.kinetics)
    np.testing.assert_allclose(kinetics.gamma, known.gamma, rtol=0.02)
    np.testing.assert_allclose(kinetics.switching_time, known.switching_time, rtol=0.02)
    np.testing.assert_allclose(kinetics.alpha, known.alpha * units, rtol=0.03)
    np.testing.assert_allclose(kinetics.scaling, known.scaling * 3 / units, rtol=0.03)
    np.testing.assert_allclose(changed.residual, fit.residual[:4], rtol=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_type_of_the_counts_is_kept(dtype, cells, fit):
    genes = slice(0, 6)
    few = of_genes(cells, genes)
    found = fit_dynamics(few.unspliced.astype(dtype), few.spliced.astype(dtype), cells.weights)
    for value in (*per_gene(found).values(), *per_cell(found).values()):
        assert value.dtype == dtype
    close(found, fit, genes=genes, rates=0.05)


@pytest.mark.parametrize("double", [False, True])
def test_precision_may_be_a_context(double, cells, monkeypatch):
    seen = set()
    fit_curves = _dynamical_model.fit_curves

    def recording(start, *arguments):
        seen.add(jax.numpy.asarray(start).dtype.itemsize)
        return fit_curves(start, *arguments)

    monkeypatch.setattr(_dynamical_model, "fit_curves", recording)
    few = of_genes(cells, slice(0, 4))
    few = few._replace(unspliced=few.unspliced.astype(float), spliced=few.spliced.astype(float))
    with jax.enable_x64(double):
        fitted(few)
    assert seen == {8 if double else 4}


def test_input_is_not_changed_and_may_be_read_only(cells):
    few = of_genes(cells, slice(0, 2))
    u, s = few.unspliced.copy(), few.spliced.copy()
    for x in (u, s):
        x.flags.writeable = False
    fit_dynamics(u, s, cells.weights, iterations=5)
    np.testing.assert_array_equal(u, few.unspliced)
    np.testing.assert_array_equal(s, few.spliced)


def test_genes_that_cannot_be_fitted_say_so(cells, fit):
    few = of_genes(cells, slice(0, 7))
    u, s = few.unspliced.copy(), few.spliced.copy()
    u[:, 0] = 0  # not seen unspliced
    s[:, 1] = 0  # not seen spliced
    u[5:, 2] = 0  # five cells
    u[:, 3], s[:, 3] = 1, 2  # constant
    u[:, 4] = 1  # one of them constant
    reported = []
    found = fit_dynamics(u, s, cells.weights, report=reported.append)
    assert list(found.status[:5]) == ["too few cells"] * 5
    assert set(found.status[5:]) <= {"converged", "not converged"}
    assert sum(reported) == 7
    for value in per_gene(found).values():
        assert np.isnan(value[:5]).all()
        assert np.isfinite(value[5:]).all()
    for value in per_cell(found).values():
        assert np.isnan(value[:, :5]).all()
        assert np.isfinite(value[:, 5:]).all()
    # The others do not notice.
    np.testing.assert_allclose(found.kinetics.gamma[5:], fit.kinetics.gamma[5:7], rtol=1e-3)
    # None at all.
    nothing = fit_dynamics(u[:, :2], s[:, :2], cells.weights)
    assert list(nothing.status) == ["too few cells"] * 2
    empty = fit_dynamics(u[:, :0], s[:, :0], cells.weights)
    assert empty.status.shape == (0,)
    assert empty.time.shape == (N_CELLS, 0)


def test_odd_genes_have_a_finite_fit_or_a_status(cells):
    """Twelve cells with counts, outliers, a straight line, noise only, tiny and huge counts, whole numbers."""
    rng = np.random.default_rng(0)
    line = np.linspace(0, 3, N_CELLS)
    noise = rng.gamma(1.0, 1.0, (2, N_CELLS))
    outlier = np.where(np.arange(N_CELLS) == 7, 1e4, line)
    sparse = np.where(np.arange(N_CELLS) % 34 == 0, noise[0], 0)
    u = np.stack(
        [sparse, outlier, line, noise[0], line * 1e-6, line * 1e6, np.floor(line), line[::-1], line**4], axis=1
    )
    s = np.stack([sparse * noise[1], line, 2 * line, noise[1], line**2, line**2 * 1e-6, np.floor(line**1.5), line,
                  line], axis=1)  # fmt: skip
    fit = fit_dynamics(u.astype(np.float32), s.astype(np.float32), cells.weights)
    assert set(fit.status) <= STATUSES
    done = ~np.isin(fit.status, ["too few cells", "failed"])
    assert done.sum() >= 8
    for value in per_gene(fit).values():
        assert np.isfinite(value[done]).all()
        assert np.isnan(value[~done]).all()
    for value in per_cell(fit).values():
        assert np.isfinite(value[:, done]).all()


def test_rates_out_of_range_are_at_a_bound(cells, rates):
    """With a scaling that no curve within the bounds has."""
    few = of_genes(cells, slice(0, 3))
    fit = fitted(few, scaling=1e-10)
    assert list(fit.status) == ["at a bound"] * 3
    for value in (*per_gene(fit).values(), *per_cell(fit).values()):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("factor", [1.0, 0.4, 3.0])
def test_a_fixed_scaling_is_kept(cells, fit, factor):
    few = of_genes(cells, slice(0, 8))
    for scaling in (1.0, float(factor * np.median(fit.kinetics.scaling[:8]))):
        found = fitted(few, scaling=scaling)
        free = found.status != "at a bound"
        assert free.sum() >= 6
        np.testing.assert_allclose(found.kinetics.scaling[free], scaling, rtol=1e-5)


def test_the_true_scaling_helps(cells, rates, fit):
    """All genes with the same scaling, which is known: gamma is closer than without."""
    same = rates._replace(scaling=np.full(24, 0.5))
    cells = simulated.simulate(same, N_CELLS)
    known, unknown = fitted(cells, scaling=0.5), fitted(cells)
    errors = [np.median(abs(log_errors(x, same)), axis=1) for x in (known, unknown)]
    assert errors[0][1] < errors[1][1]
    assert errors[0][0] < errors[1][0]


def test_covariance_is_symmetric_and_positive(fit):
    np.testing.assert_allclose(fit.covariance, np.swapaxes(fit.covariance, 1, 2), rtol=1e-4, atol=1e-7)
    assert np.linalg.eigvalsh(fit.covariance.astype(float)).min() > 0


def test_covariance_is_roughly_calibrated():
    """Repeats of one gene with new noise: their spread is what each of them says of itself, with little noise at least.

    The more noise, the more it claims to know: the curve is then far from linear in its parameters.
    """
    gene = (3.0, 0.6, 3.0, 0.7)
    for noise, widest in ((0.2, 1.5), (0.6, 2.0)):
        repeats = simulated.Rates(*(np.full(48, x) for x in gene))
        fit = fitted(simulated.simulate(repeats, N_CELLS, noise=noise, seed=3))
        ratio = np.log(fit.kinetics.gamma / 0.6) / np.sqrt(fit.covariance[:, 2, 2])
        switch = np.log(fit.kinetics.switching_time / 3.0) / np.sqrt(fit.covariance[:, 3, 3])
        for z in (ratio, switch):
            assert 0.5 < z.std() < widest
            assert abs(z.mean()) < 1.0
            assert np.mean(abs(z) < 2) > 0.75
    # Four times the cells, half the error.
    few = simulated.Rates(*(np.full(6, x) for x in gene))
    fits = [fitted(simulated.simulate(few, n, noise=0.5, seed=3)) for n in (N_CELLS, 4 * N_CELLS)]
    error, smaller = (np.sqrt(np.median(x.covariance[:, 2, 2])) for x in fits)
    assert 1.4 < error / smaller < 2.6


def plain_total_time(fit_time, switching_time, total):
    factors = []
    for times, switch in zip(fit_time.T, switching_time, strict=True):
        longest_on = longest_off = still = 0
        for t in times:
            if t < switch:
                longest_on = max(longest_on, t)
            if t > switch:
                longest_off = max(longest_off, t - switch)
            if t in (0, switch):
                still += 1
        moving = 1 - still / len(times)
        passed = (longest_on + longest_off) / (moving if moving > 0 else 1)
        factors.append(total / passed if passed > 0 else 1.0)
    return np.array(factors)


def test_align_total_time():
    rng = np.random.default_rng(0)
    switch = rng.uniform(1, 4, 8)
    time = rng.uniform(0, 8, (60, 8))
    time[:10, :4] = 0
    time[10:30, 2:6] = switch[2:6]
    time[:, 6] = 0  # no time passes
    time[:, 7] = switch[7]
    for total in (20, 1.5):
        found = align_total_time(time, switch, total)
        np.testing.assert_allclose(found, plain_total_time(time, switch, total), rtol=1e-12)
        assert (found[6:] == 1).all()
    # Another unit of time, another factor: the result is the same.
    scaled = align_total_time(time[:, :6] * 7, switch[:6] * 7, 20)
    np.testing.assert_allclose(scaled * 7, align_total_time(time, switch, 20)[:6], rtol=1e-12)


def test_genes_per_batch():
    assert genes_per_batch(1000, 24 * 4 * 1000 * 7) == 7
    assert genes_per_batch(1000, 24 * 4 * 1000 * 7 - 1) == 6
    assert genes_per_batch(1000, 24 * 8 * 1000 * 7, itemsize=8) == 7
    assert genes_per_batch(1_000_000, 1.0) == 1
    assert genes_per_batch(10, 2**40) == 256


def test_batches_are_whole_blocks(monkeypatch):
    """But not of none: few genes, or little memory, are a part of a block."""
    monkeypatch.setattr(_dynamical_model, "N_GENES", 32)
    assert [_dynamical_model._whole_blocks(n) for n in (1, 10, 31, 32, 63, 64, 76)] == [1, 10, 31, 32, 32, 64, 64]


def test_number_of_threads(monkeypatch):
    """One for each core, up to eight, and half a block of genes for each."""
    monkeypatch.setattr(_dynamical_model, "N_GENES", 32)
    for n_cores, n_genes, n_threads in ((2, 256, 2), (64, 256, 8), (64, 111, 6), (64, 31, 1), (2, 1, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=n_cores: range(n), raising=False)
        assert _dynamical_model._n_threads(n_genes) == n_threads


def test_memory_is_bounded(monkeypatch):
    """NumPy's memory beyond the results: no more than asked for, and as much as one block for the compiled program."""
    rng = np.random.default_rng(0)
    n_cells, n_genes = 6000, 40
    weights = neighborhood_weights(simulated.line_graph(n_cells, 10))
    position = np.linspace(0, 6, n_cells)[:, None]
    u, s = simulated.curve(position, 2.0, rng.uniform(0.3, 1.5, n_genes), rng.uniform(2, 4, n_genes))
    u, s = (np.abs(x + 0.05 * rng.normal(size=x.shape)).astype(np.float32) for x in (u, s))
    # Two batches of four genes side by side.
    monkeypatch.setattr(_dynamical_model, "n_workers", lambda: 2)
    memory = 8 * n_cells * 4 * 24
    assert genes_per_batch(n_cells, memory / 2) == 4
    fit_dynamics(u[:, :2], s[:, :2], weights, iterations=5)  # compiled, and imported
    tracemalloc.start()
    try:
        fit = fit_dynamics(u, s, weights, iterations=5, memory=memory)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    results = sum(x.nbytes for x in jax.tree.leaves(eqx.filter(fit, eqx.is_array)))
    assert results > 4 * u.nbytes
    block = 1024 * 32 * 4  # of the size in use
    beyond = peak - results
    assert beyond < memory + 10 * block
    # And the bound is not loose either: most of it is used.
    assert beyond > 0.3 * memory


def test_a_second_data_set_compiles_nothing(cells, compilations, optimised):
    for program in optimised:
        program.clear_cache()
    fitted(of_genes(cells, slice(0, 3)), iterations=6)
    assert len(compilations) == 2
    compilations.clear()
    # Other numbers of cells, genes and steps; with more cells than a block, a scaling, and genes without a fit.
    other = simulated.simulate(simulated.random_rates(5, 4), 1100, k=7)
    other.unspliced[:, 2] = 0
    fitted(other, iterations=5, scaling=0.7)
    assert compilations == []


@pytest.fixture(scope="module")
def small(shared):
    return ad.read_h5ad(shared / "reference/small_velocity.h5ad")


def distances_to_both(fit, genes, small):
    """Mean squared distances of the cells to our curve and to the reference's, in units of its deviations."""
    u, s, var = small.layers["Mu"][:, genes], small.layers["Ms"][:, genes], small.var.iloc[genes]
    alpha, beta, gamma, switch, scaling, std_u, std_s = (
        var[f"fit_{name}"].to_numpy(float) for name in ("alpha", "beta", "gamma", "t_", "scaling", "std_u", "std_s")
    )
    beta = beta * scaling  # as stored, it is that of scaled unspliced counts
    theirs = (alpha / beta, gamma / beta, switch * beta, scaling)
    ours = tuple(getattr(fit.kinetics, name).astype(float) for name in ("alpha", "gamma", "switching_time", "scaling"))
    distances = np.empty((2, len(genes)))
    for row, rates in enumerate((ours, theirs)):
        for gene in range(len(genes)):
            a, g, t, scale = (x[gene] for x in rates)
            time = np.r_[np.linspace(0, t, 1000), t + np.linspace(0, (9 / min(g, 1)) ** 0.5, 1000) ** 2]
            x, y = simulated.curve(time, a, g, t)
            squared = np.square((u[:, gene, None] - x * scale) / std_u[gene])
            squared += np.square((s[:, gene, None] - y) / std_s[gene])
            distances[row, gene] = squared.min(axis=1).mean()
    return distances


def test_real_cells(small):
    """A hundred cells and all of their genes: a fit or a reason for none."""
    fit = fit_dynamics(small.layers["Mu"], small.layers["Ms"], neighborhood_weights(small.obsp["connectivities"]))
    assert set(fit.status) <= STATUSES
    done = np.isin(fit.status, ["converged", "at a bound", "not converged"])
    assert done.mean() > 0.95
    assert np.mean(fit.status[done] == "converged") > 0.8
    for value in per_gene(fit).values():
        assert np.isfinite(value[done]).all()
        assert np.isnan(value[~done]).all()
    genes = np.flatnonzero(np.isfinite(small.var["fit_alpha"]) & done)
    assert len(genes) > 100
    part = eqx.tree_at(lambda f: f.kinetics, fit, jax.tree.map(lambda x: x[genes], fit.kinetics))
    ours, theirs = distances_to_both(part, genes, small)
    # The priors, and cells on the branch that their neighbours agree on, cost some distance.
    assert ours.mean() < theirs.mean()
    assert np.median(ours / theirs) < 1
    assert (ours < 3.5 * theirs).all()


def test_real_cells_are_closer_than_to_the_reference_without_priors(small, monkeypatch):
    """What the reference minimises: distances alone, each cell on either branch."""
    monkeypatch.setattr(_dynamical_model, "PRIOR_DEVIATION", 1e3 * _dynamical_model.PRIOR_DEVIATION)
    monkeypatch.setattr(_dynamical_model, "REFIT_DEVIATION", 1e3 * _dynamical_model.REFIT_DEVIATION)
    monkeypatch.setattr(_dynamical_model, "CLEAR", 1e9)
    genes = np.flatnonzero(np.isfinite(small.var["fit_alpha"]))
    weights = neighborhood_weights(small.obsp["connectivities"])
    fit = fit_dynamics(small.layers["Mu"][:, genes], small.layers["Ms"][:, genes], weights)
    ours, theirs = distances_to_both(fit, genes, small)
    assert np.mean(ours <= theirs) >= 0.95
    assert np.median(ours / theirs) < 0.6
