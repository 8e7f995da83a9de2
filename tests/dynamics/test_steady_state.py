import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.dynamics import (
    _steady_state,
    neighborhood_weights,
    second_moments,
    steady_state,
    stochastic_steady_state,
)

TOLERANCE = 1e-9 if jax.config.jax_enable_x64 else 3e-5


def as_jax(*arrays):
    return [jnp.asarray(array, dtype=float) for array in arrays]


def close(actual, expected, tolerance=TOLERANCE):
    """Equal in units of the largest value of the column (of all values, for one number per gene)."""
    expected = np.asarray(expected)
    scale = np.maximum(np.abs(expected).max(axis=0, keepdims=True), 1e-30)
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=tolerance)


def moments(n_cells=120, n_genes=9, seed=0):
    """First and second moments of genes between two steady states, with different rates, offsets and noise."""
    rng = np.random.default_rng(seed)
    state = rng.random((n_cells, 1))
    size = rng.gamma(2.0, 5.0, (1, n_genes))
    s = size * (state + rng.gamma(2.0, 0.1, (n_cells, n_genes)))
    u = rng.uniform(0.1, 1.0, (1, n_genes)) * s + size * (
        rng.uniform(-0.2, 0.4, (1, n_genes)) + rng.gamma(2.0, 0.1, (n_cells, n_genes))
    )
    u = np.abs(u)
    u[:, :3] = np.maximum(s - np.median(s, axis=0), 0)[:, :3] + 0.1 * u[:, :3]  # a line below the origin
    ss = s**2 + s * rng.uniform(1.0, 1.5, (n_cells, n_genes))
    us = u * s * rng.uniform(1.0, 1.2, (n_cells, n_genes))
    # As float32, so that both precisions see the same numbers.
    return tuple(x.astype(np.float32).astype(float) for x in (s, u, ss, us))


# A second version, in NumPy and float64, gene by gene, with interpolated percentiles and stacked design matrices.


def numpy_extreme(score, percentiles, two_sided):
    if percentiles is None:
        return np.ones(len(score), dtype=bool)
    if not isinstance(percentiles, tuple):
        return score >= np.percentile(score, percentiles)
    upper = score >= np.percentile(score, percentiles[1])
    return upper | (score <= np.percentile(score, percentiles[0])) if two_sided else upper


def numpy_line(x, y, fit_offset):
    through_origin = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    if not fit_offset:
        return through_origin, 0.0
    slope, offset = np.linalg.lstsq(np.c_[x, np.ones_like(x)], y, rcond=None)[0]
    return (slope, offset) if offset >= 0 else (through_origin, 0.0)


def numpy_steady_state(s, u, percentiles, fit_offset, r2_of_all_cells):
    rows = []
    for x, y in zip(s.T, u.T, strict=True):
        used = numpy_extreme(x / x.max() + y / y.max(), percentiles, fit_offset)
        gamma, offset = numpy_line(x[used], y[used], fit_offset)
        residual = y - gamma * x - offset
        slope, intercept = numpy_line(x, y, fit_offset) if r2_of_all_cells else (gamma, offset)
        r2 = 1 - np.sum((y - slope * x - intercept) ** 2) / np.sum((y - y.mean()) ** 2)
        rows.append((gamma, offset, r2, residual))
    gamma, offset, r2, residual = (np.array(x) for x in zip(*rows, strict=True))
    return gamma, offset, r2, residual.T


def numpy_stochastic(s, u, ss, us, percentiles, fit_offset, fit_offset2):
    deterministic = numpy_steady_state(s, u, percentiles, fit_offset, False)
    rows = []
    for gene in range(s.shape[1]):
        x, y = s[:, gene], u[:, gene]
        x2, y2 = 2 * ss[:, gene] - x, 2 * us[:, gene] + y
        slope2, intercept2 = numpy_line(x2, y2, fit_offset2)
        sd1, sd2 = deterministic[3][:, gene].std(), (y2 - slope2 * x2 - intercept2).std()
        used = numpy_extreme(x / x.max() + y / y.max(), percentiles, fit_offset)
        used |= numpy_extreme(x, percentiles, fit_offset)
        ones, zeros = np.ones_like(x), np.zeros_like(x)
        columns = [np.r_[used * x / sd1, x2 / sd2]]
        columns += [np.r_[ones / sd1, zeros]] * fit_offset + [np.r_[zeros, ones / sd2]] * fit_offset2
        solution = list(np.linalg.lstsq(np.stack(columns, 1), np.r_[used * y / sd1, y2 / sd2], rcond=None)[0])
        gamma = solution.pop(0)
        offset = solution.pop(0) if fit_offset else 0.0
        offset2 = solution.pop(0) if fit_offset2 else 0.0
        residual = y - gamma * x - offset
        residual2 = y2 - 2 * x * y - gamma * (x2 - 2 * x**2) + 2 * offset * x - offset2
        rows.append((gamma, offset, offset2, residual, residual2))
    gamma, offset, offset2, residual, residual2 = (np.array(x) for x in zip(*rows, strict=True))
    return gamma, offset, offset2, residual.T, residual2.T


PERCENTILES = [(5, 95), (10, 80), 90, None]


@pytest.mark.parametrize("n_cells", [101, 120])  # for 101 cells, the 5th and 95th percentiles are elements
@pytest.mark.parametrize("percentiles", PERCENTILES)
@pytest.mark.parametrize(("fit_offset", "r2_of_all_cells"), [(False, False), (True, False), (True, True)])
def test_deterministic_equals_numpy(n_cells, percentiles, fit_offset, r2_of_all_cells):
    s, u, *_ = moments(n_cells)
    fit = steady_state(*as_jax(s, u), percentiles=percentiles, fit_offset=fit_offset, r2_of_all_cells=r2_of_all_cells)
    gamma, offset, r2, residual = numpy_steady_state(s, u, percentiles, fit_offset, r2_of_all_cells)
    close(fit.gamma, gamma)
    close(fit.offset, offset)
    close(fit.r2, r2)
    close(fit.residual, residual)
    if fit_offset:  # both cases of the constraint are there
        assert (offset == 0).any()
        assert (offset > 0).any()


@pytest.mark.parametrize("percentiles", PERCENTILES)
@pytest.mark.parametrize("fit_offset", [False, True])
@pytest.mark.parametrize("fit_offset2", [False, True])
def test_stochastic_equals_numpy(percentiles, fit_offset, fit_offset2):
    data = moments()
    fit = stochastic_steady_state(
        *as_jax(*data), percentiles=percentiles, fit_offset=fit_offset, fit_offset2=fit_offset2
    )
    expected = numpy_stochastic(*data, percentiles, fit_offset, fit_offset2)
    for name, value in zip(("gamma", "offset", "offset2", "residual", "residual2"), expected, strict=True):
        close(getattr(fit, name), value)


@pytest.fixture(scope="module")
def pancreas(shared):
    adata = ad.read_h5ad(shared / "reference/pancreas_velocity.h5ad")
    weights = neighborhood_weights(adata.obsp["connectivities"])
    second = second_moments(weights, adata.layers["spliced"], adata.layers["unspliced"])
    return adata.var, (adata.layers["Ms"], adata.layers["Mu"], *second)


def test_deterministic_equals_the_reference(pancreas):
    var, (s, u, *_) = pancreas
    fit = steady_state(*as_jax(s, u))
    np.testing.assert_allclose(fit.gamma, var["deterministic_v_gamma"], rtol=2e-6)
    # The reference's r2 is a float32 sum, 3e-4 away from a float64 one; ours is 3e-6 away.
    np.testing.assert_allclose(fit.r2, var["deterministic_v_r2"], rtol=5e-4, atol=5e-5)
    _, _, r2, _ = numpy_steady_state(s.astype(float), u.astype(float), (5, 95), False, False)
    np.testing.assert_allclose(fit.r2, r2, rtol=1e-5, atol=1e-5)


def test_stochastic_equals_the_reference(pancreas):
    var, data = pancreas
    genes = var["velocity_stochastic_genes"].to_numpy()
    assert genes.sum() > 300
    fit = stochastic_steady_state(*as_jax(*(x[:, genes] for x in data)))
    np.testing.assert_allclose(fit.gamma, var["stochastic_v_gamma"][genes], rtol=2e-6)


def test_both_models_fit_simulated_genes_exactly_without_noise():
    """On the line, with Poisson second moments, both give the rate, and no weight is divided by zero."""
    s = np.random.default_rng(0).gamma(2.0, 3.0, (60, 4))
    gamma = np.array([0.1, 0.5, 1.0, 2.0])
    u = gamma * s
    s, u, ss, us = as_jax(s, u, s**2 + s, u * s)
    np.testing.assert_allclose(steady_state(s, u).gamma, gamma, rtol=1e-5)
    np.testing.assert_allclose(steady_state(s, u).r2, 1.0, rtol=1e-5)
    np.testing.assert_allclose(stochastic_steady_state(s, u, ss, us).gamma, gamma, rtol=1e-5)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        data = [jnp.asarray(x) for x in moments()]
        directions = [jnp.asarray(np.random.default_rng(i).normal(size=x.shape)) for i, x in enumerate(data)]

        def deterministic(s, u):
            fit = steady_state(s, u, fit_offset=True)
            return jnp.sum(fit.gamma) + jnp.sum(fit.r2) + jnp.sum(fit.offset) + jnp.mean(fit.residual**2)

        def stochastic(s, u, ss, us):
            return jnp.sum(stochastic_steady_state(s, u, ss, us, fit_offset2=True).gamma)

        for objective, n in ((deterministic, 2), (stochastic, 4)):
            at, along = data[:n], directions[:n]
            gradient = jax.jit(jax.grad(objective, argnums=tuple(range(n))))(*at)
            slope = sum(jnp.vdot(g, d) for g, d in zip(gradient, along, strict=True))
            step = 1e-6
            ahead, behind = (
                objective(*(x + sign * step * d for x, d in zip(at, along, strict=True))) for sign in (1, -1)
            )
            np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)
            assert abs(slope) > 1e-3


def test_genes_without_information_give_zeros_and_finite_gradients():
    n_cells = 40
    rng = np.random.default_rng(0)
    zero, constant, varied = np.zeros(n_cells), np.ones(n_cells), rng.gamma(2.0, 1.0, n_cells)
    s = np.stack([zero, varied, zero, constant, varied], axis=1)
    u = np.stack([zero, zero, varied, constant, varied], axis=1)
    s, u, ss, us = as_jax(s, u, s**2, u * s)

    fit = steady_state(s, u)
    np.testing.assert_allclose(fit.gamma, [0, 0, 0, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(fit.r2[:2], 0)
    np.testing.assert_allclose(fit.r2[4], 1)
    for fit_offset in (False, True):

        def total(s, u, ss, us, fit_offset=fit_offset):
            deterministic = steady_state(s, u, fit_offset=fit_offset)
            stochastic = stochastic_steady_state(s, u, ss, us, fit_offset=fit_offset, fit_offset2=fit_offset)
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves((deterministic, stochastic)))

        value, gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))(s, u, ss, us)
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in gradient)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
def test_order_of_cells_and_genes_and_units_do_not_matter(seed, scale):
    s, u, ss, us = moments(80, 5, seed)
    rng = np.random.default_rng(seed)
    cells, genes = rng.permutation(80), rng.permutation(5)
    for fit_model, data, units in (
        (steady_state, (s, u), (1, scale)),
        (stochastic_steady_state, (s, u, ss, us), (1, 1, 1, 1)),
    ):
        fit = fit_model(*as_jax(*data))
        shuffled = fit_model(*as_jax(*(x[cells][:, genes] for x in data)))
        close(shuffled.gamma, fit.gamma[genes])
        close(shuffled.residual, fit.residual[cells][:, genes])
        scaled = fit_model(*as_jax(*(x * unit for x, unit in zip(data, units, strict=True))))
        close(scaled.gamma, fit.gamma * units[1])


@pytest.mark.parametrize("fit_offset", [False, True])
def test_numpy_arrays_compile_nothing_and_give_the_same(fit_offset, compilations, monkeypatch):
    monkeypatch.setattr(_steady_state, "BLOCK", 240)  # two genes at a time, of nine
    moments_of_cells = [x.astype(jnp.result_type(float)) for x in moments()]
    options = {"percentiles": (10, 90), "fit_offset": fit_offset}
    found = (
        steady_state(*moments_of_cells[:2], r2_of_all_cells=True, **options),
        stochastic_steady_state(*moments_of_cells, fit_offset2=fit_offset, **options),
    )
    assert compilations == []
    expected = (
        steady_state(*as_jax(*moments_of_cells[:2]), r2_of_all_cells=True, **options),
        stochastic_steady_state(*as_jax(*moments_of_cells), fit_offset2=fit_offset, **options),
    )
    for values, known in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert isinstance(values, np.ndarray)
        assert values.dtype == known.dtype
        assert values.shape == known.shape
        close(values, known)
