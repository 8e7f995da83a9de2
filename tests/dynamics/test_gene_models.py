"""Which model gives a gene its velocity: against a slow plain version, known genes, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.dynamics import (
    MODELS,
    SplicingKinetics,
    _gene_models,
    fit_gene_models,
    fit_gene_models_in_parts,
    gene_models,
    neighborhood_weights,
    rate_ratio,
    shared_directions,
    steady_slopes,
    velocities_in_blocks,
)
from tests.finite_differences import check_gradient

N_INDEPENDENT = 12.0


def things(seed=0, n_cells=60, n_genes=5):
    """Change along the shared directions, velocities of three models, and counts; all on the way."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 6, n_cells)[:, None]
    s = 2 + np.sin(time + np.linspace(0, 2, n_genes)) + 0.05 * rng.standard_normal((n_cells, n_genes))
    true = np.cos(time + np.linspace(0, 2, n_genes))
    slope = rng.uniform(0.3, 1, n_genes)
    u = slope * s + 0.5 * true + 0.1 * rng.standard_normal(s.shape)
    curve = true + np.linspace(0, 2, n_genes) * rng.standard_normal(s.shape)
    found = np.stack([0.1 * true + 0.06 * rng.standard_normal(s.shape), curve, curve**2, -np.abs(curve), u, s])
    return found, np.einsum("icg,jcg->gij", found, found) / n_cells, slope


def plain(found, slope, n_independent):
    """Marginal likelihoods from the determinant and inverse of the covariance of data, n_independent of them."""
    d, n_cells = found[0], found.shape[1]
    scale = np.sqrt(n_independent / n_cells)  # that many cells count
    rms = lambda x: np.sqrt(np.mean(x**2))  # noqa: E731
    n_genes = d.shape[1]
    lines = found[4] - slope * found[5]
    velocities = [*found[1:4], lines]
    typical = np.mean(
        [max(0, *(np.mean(d[:, g] * v[:, g]) / rms(v[:, g]) for v in velocities)) for g in range(n_genes)]
    )
    evidence, means, lines_found = np.zeros((n_genes, 5)), np.zeros((n_genes, n_cells)), np.zeros(n_genes)
    for g in range(n_genes):
        best = np.stack([found[i][:, g] for i in (1, 4, 5)], axis=1)
        left = d[:, g] - best @ np.linalg.lstsq(best, d[:, g], rcond=None)[0]
        noise = np.mean(left**2) * n_independent / (n_independent - 3)
        designs = [(v[:, [g]] / rms(v[:, g]), [typical], [(0.3 * typical) ** 2]) for v in velocities[:3]]
        expected = typical / rms(lines[:, g])
        two = np.stack([lines[:, g], -slope[g] * found[5][:, g]], axis=1) * expected
        designs += [(two, [1.0, 0.0], [0.09, 0.09])]
        logs, fits = [], []
        for design, mean, variance in designs:
            x, y = scale * design, scale * d[:, g]
            covariance = noise * np.eye(n_cells) + x @ np.diag(variance) @ x.T
            away = y - x @ np.array(mean)
            solved = np.linalg.solve(covariance, away)
            logs.append(-0.5 * (away @ solved + np.linalg.slogdet(covariance)[1]))
            parameters = np.array(mean) + np.array(variance) * (x.T @ solved)
            fits.append(design @ parameters)
        lines_found[g] = slope[g] * (1 + parameters[1] / parameters[0])  # where the gradual velocity is zero
        logs.append(-0.5 * (np.sum((scale * d[:, g]) ** 2) / noise + n_cells * np.log(noise)))
        weight = np.exp(np.array(logs) - max(logs))
        evidence[g] = weight / weight.sum()
        means[g] = (weight[:4] / weight[:4].sum()) @ np.array(fits)
    left = np.mean((d.T - means) ** 2, axis=1) / np.mean(d**2, axis=0)
    neighbors = 1 - 0.25 / max(np.median(left), 0.25)
    return evidence, ((1 - neighbors) * means + neighbors * d.T).T, 1 - left, lines_found


@pytest.mark.any_precision
def test_evidence_and_velocities_against_a_plain_version():
    found, products, slope = things()
    models = gene_models(products, slope, N_INDEPENDENT)
    evidence, velocity, explained, lines = plain(found, slope, N_INDEPENDENT)
    np.testing.assert_allclose(models.evidence, evidence, atol=1e-3)
    np.testing.assert_allclose(models.explained, explained, atol=1e-4)
    np.testing.assert_allclose(models.gradual_slope, lines, rtol=1e-4)
    assert (np.abs(lines / slope - 1) > 0.005).all()
    assert evidence.max(axis=1).min() < 0.9 < evidence.max()  # some are clear, some are not
    result = np.einsum("gi,icg->cg", models.factors, found)
    # One factor for all genes: the curves' unit of time.
    factor = np.vdot(result, velocity) / np.vdot(velocity, velocity)
    np.testing.assert_allclose(result, factor * velocity, atol=2e-3 * np.abs(result).max())
    size = np.sqrt(np.mean(result**2, axis=0)) / np.sqrt(np.mean(found[1] ** 2, axis=0))
    np.testing.assert_allclose(np.median(1 / size), 1, rtol=0.2)


def _sum(slope, products):
    models = gene_models(products, slope, N_INDEPENDENT)
    return jnp.sum(models.factors @ jnp.arange(6.0)) + jnp.sum(models.evidence @ jnp.arange(5.0))


def test_gradient():
    _, products, slope = things()
    products = jnp.asarray(products)
    check_gradient(_sum, jnp.asarray(slope), rtol=1e-5, arguments=(products,))


def test_jax_gives_what_numpy_gives():
    _, products, slope = things()
    ours = jax.jit(gene_models, static_argnums=2)(jnp.asarray(products), jnp.asarray(slope), N_INDEPENDENT)
    for found, expected in zip(ours, gene_models(products, slope, N_INDEPENDENT), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.any_precision
def test_nothing_moves():
    """Then the velocity is that of the curve, and no model has anything to explain."""
    _, products, slope = things()
    products[:, 0], products[:, :, 0] = 0, 0
    models = gene_models(products, slope, N_INDEPENDENT)
    np.testing.assert_allclose(models.factors, np.eye(6)[[1] * 5], atol=1e-12)
    np.testing.assert_array_equal(models.explained, 0)
    assert np.isnan(models.evidence).all()
    assert np.isnan(models.gradual_slope).all()


@pytest.mark.any_precision
def test_a_gene_that_is_not_finite_has_no_part_in_the_others():
    _, products, slope = things()
    expected = gene_models(np.delete(products, 2, axis=0), np.delete(slope, 2), N_INDEPENDENT)
    products[2, 3, 4] = np.nan
    found = gene_models(products, slope, N_INDEPENDENT)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.delete(ours, 2, axis=0), theirs, rtol=1e-10)
    assert np.isnan(found.evidence[2]).all()
    assert np.isnan(found.explained[2])
    np.testing.assert_array_equal(found.factors[2], np.eye(6)[1])


@pytest.mark.any_precision
def test_counts_that_are_the_same_show_no_line():
    """Then there is no gradual model, and what it would divide by nearly nothing stays finite."""
    found, _, slope = things()
    slope[1] = 1
    found[4][:, 1] = found[5][:, 1] * (1 + 1e-4 * np.sin(np.arange(60)))
    products = np.einsum("icg,jcg->gij", found, found) / found.shape[1]
    models = gene_models(products, slope, N_INDEPENDENT)
    assert models.evidence[1, 3] == 0
    np.testing.assert_array_equal(np.isnan(models.gradual_slope), np.arange(5) == 1)
    np.testing.assert_allclose(models.evidence.sum(axis=1), 1)
    assert np.isfinite(models.factors).all()
    assert (models.evidence[[0, 2, 3, 4], 3] > 0).all()


@pytest.mark.any_precision
def test_gradient_where_a_thing_is_zero():
    """Without unspliced counts, without any, and with a branch that does not move."""
    found, _, slope = things()
    found[4][:, 0], found[4:][:, :, 1], found[2][:, 2] = 0, 0, 0
    products = jnp.asarray(np.einsum("icg,jcg->gij", found, found) / found.shape[1])
    by_slope, by_products = jax.grad(_sum, argnums=(0, 1))(jnp.asarray(slope), products)
    assert jnp.isfinite(by_slope).all()
    assert jnp.isfinite(by_products).all()
    assert (jnp.abs(by_products).max(axis=(1, 2)) > 0).all()


@pytest.mark.any_precision
def test_shared_directions_against_a_plain_version():
    rng = np.random.default_rng(0)
    velocity, spliced, other = rng.standard_normal((3, 12, 4))
    velocity[3], spliced[5] = 0, spliced[6]
    dense = rng.random((12, 12)) * (rng.random((12, 12)) < 0.4)
    dense[7] = 0
    graph = sp.csr_matrix(dense)
    weights = neighborhood_weights(graph)
    expected = np.zeros_like(other)
    for i in range(12):
        neighbors = np.unique(np.append(np.flatnonzero(graph[i].toarray()), i))
        for j in neighbors:
            way = spliced[j] - spliced[i]
            length = np.linalg.norm(way) * np.linalg.norm(velocity[i])
            if length > 0:
                expected[i] += way @ velocity[i] / length * (other[j] - other[i]) / len(neighbors)
    for block in (2**20, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jaxvelo.dynamics._shared_directions.BLOCK_BYTES", block)
            found = shared_directions(velocity, spliced, weights) @ other
        np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found[[3, 7]], 0)


@pytest.mark.any_precision
def test_steady_slopes():
    rng = np.random.default_rng(0)
    u, s = rng.random((2, 50, 3))
    u[:, 2] = 0
    height = u / np.maximum(u.max(axis=0), 1e-20) + s / s.max(axis=0)
    for gene, found in enumerate(steady_slopes(u, s)):
        used = height[:, gene] >= np.quantile(height[:, gene], 0.9)
        np.testing.assert_allclose(found, u[used, gene] @ s[used, gene] / (s[used, gene] @ s[used, gene]))


def cells_on_a_line(n_cells=200, n_genes=12):
    """Half of the genes are switched on and off, half have a transcription rate that comes and goes as a sine."""
    rng = np.random.default_rng(0)
    time, step = np.linspace(0, 12, n_cells, retstep=True)
    switched = np.arange(n_genes) < n_genes // 2
    gamma, on, off = rng.uniform(0.3, 0.6, n_genes), rng.uniform(0, 3, n_genes), rng.uniform(6, 8, n_genes)
    phase = rng.uniform(0, 2 * np.pi, n_genes)
    u, s = np.zeros((2, n_cells, n_genes))
    sine = lambda t: 1 + np.sin(0.8 * t + phase)  # noqa: E731
    u_now = s_now = 0.7 * np.where(switched, 0, 1.0)
    s_now = s_now / gamma
    for cell, t in enumerate(time):
        u[cell], s[cell] = u_now, s_now
        for part in t + step * (np.arange(20) + 0.5) / 20:
            alpha = np.where(switched, 2.0 * ((part > on) & (part < off)), sine(part))
            u_now, s_now = u_now + step / 20 * (alpha - u_now), s_now + step / 20 * (u_now - gamma * s_now)
    return (
        time,
        u,
        s,
        u - gamma * s,
        switched,
        SplicingKinetics(np.full(n_genes, 2.0), np.ones(n_genes), gamma, off - on, np.ones(n_genes)),
        on,
    )


def test_sharp_switches_and_gradual_transcription():
    """Each gene gets its own model, and velocities are close to the truth."""
    time, u, s, true, switched, kinetics, on = cells_on_a_line()
    noise = np.random.default_rng(1).gamma(100, 0.01, (2, *u.shape))
    since, end = np.maximum(time[:, None] - on, 0), np.asarray(kinetics.switching_time)
    # The curve has the right times for all genes; for half of them they say nothing.
    times = [np.minimum(since, end), np.maximum(since - end, 0), (since < end).astype(float)]
    dtype = np.dtype(jnp.result_type(float))
    u, s, kinetics, times = jax.tree.map(lambda x: x.astype(dtype), (u * noise[0], s * noise[1], kinetics, times))
    near = np.abs(np.arange(len(s))[:, None] - np.arange(len(s))[None])
    weights = neighborhood_weights(sp.csr_matrix((near <= 6) & (near > 0)))
    models, velocity = fit_gene_models(kinetics, times, weights @ u, weights @ s, weights)
    gradual = models.evidence[:, MODELS.index("gradual")]
    assert (gradual[switched] < 0.4).all()
    assert (gradual[~switched] > 0.7).all()
    correlations = [np.corrcoef(v, t)[0, 1] for v, t in zip(velocity.T, true.T, strict=True)]
    assert np.min(correlations) > 0.85
    assert (models.explained > 0.5).all()
    np.testing.assert_allclose(models.gradual_slope, kinetics.gamma / kinetics.beta, rtol=0.1)


def one_time(n_cells, n_neighbors):
    """Rates, times, moments and neighbours of genes that are on; the last one is nearly constant."""
    dtype = np.dtype(jnp.result_type(float))
    rng = np.random.default_rng(0)
    time = np.repeat(np.linspace(0, 3, n_cells)[:, None], 5, axis=1)
    gamma = np.linspace(0.4, 1.2, 5)
    u, s = jv.datasets.splicing_state(time, *(np.broadcast_to(x, time.shape) for x in (2.0, 1.0, gamma, 0.0, 9.0)))
    noise = 1 + 0.02 * rng.standard_normal((2, *u.shape))
    u, s = (np.abs(x * y) for x, y in zip((u, s), noise, strict=True))
    for counts in (u, s):
        counts[:, 4] = 50 * (1 + 3e-4 * rng.standard_normal(n_cells))
    kinetics = SplicingKinetics(np.full(5, 2.0), np.ones(5), gamma, np.full(5, 9.0), np.ones(5))
    arrays = (kinetics, [time, 0 * time, np.ones_like(time)], u, s)
    near = np.abs(np.arange(n_cells)[:, None] - np.arange(n_cells)[None])
    weights = neighborhood_weights(sp.csr_matrix((near <= n_neighbors // 2) & (near > 0)))
    return *jax.tree.map(lambda x: x.astype(dtype), arrays), weights


@pytest.mark.any_precision
def test_a_nearly_constant_gene_spoils_no_other():
    kinetics, times, u, s, weights = one_time(100, 6)
    velocity = fit_gene_models(kinetics, times, u, s, weights)[1]
    assert np.isfinite(velocity).all()
    first = jax.tree.map(lambda rate: rate[:4], kinetics), [x[:, :4] for x in times], u[:, :4], s[:, :4], weights
    expected = fit_gene_models(*first)[1]
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(velocity.T, expected.T, strict=False)]
    assert np.min(correlations) > 0.95
    kinetics.alpha[4] = np.inf
    with np.errstate(invalid="ignore"):
        models, velocity = fit_gene_models(kinetics, times, u, s, weights)
    assert np.isnan(models.evidence[4]).all()
    assert np.isfinite(velocity[:, :4]).all()


@pytest.mark.any_precision
def test_cores_do_not_change_the_models(monkeypatch):
    kinetics, times, u, s, weights = one_time(100, 6)
    found = []
    for n_threads in (1, 3, 64):
        monkeypatch.setattr(_gene_models, "n_workers", lambda n=n_threads: n)
        monkeypatch.setattr(_gene_models, "GENES_AT_ONCE", 6)
        found.append(fit_gene_models(kinetics, times, u, s, weights))
    # Neither do parts, in which genes are read.
    parts = [slice(0, 3), slice(3, 4), slice(4, 5)]
    models, velocity_of = fit_gene_models_in_parts(
        kinetics, parts, lambda genes: [x[:, genes] for x in (*times, u, s)], weights, 2
    )
    found.append((models, np.concatenate([velocity_of(genes) for genes in parts], axis=1)))
    for some, values in found[1:]:
        np.testing.assert_array_equal(values, found[0][1])
        for number, known in zip(some, found[0][0], strict=True):
            np.testing.assert_array_equal(number, known)


@pytest.mark.any_precision
def test_too_few_independent_cells_are_no_evidence():
    kinetics, times, u, s, weights = one_time(30, 6)
    models, velocity = fit_gene_models(kinetics, times, u, s, weights)
    assert np.isnan(models.evidence).all()
    assert np.isnan(models.explained).all()
    np.testing.assert_array_equal(models.factors, np.eye(6)[[1] * 5])
    np.testing.assert_array_equal(velocity, velocities_in_blocks(kinetics, *times)[0])


RATIO, SCALING, VARIANCE = np.array([0.5, -1, 2]), np.array([-0.4, 0.6, -2.6]), np.array([0.1, 0.3, 0.05])


@pytest.mark.any_precision
def test_rate_ratio_is_that_of_a_mixture():
    """Moments of the posterior on a grid of scalings."""
    log_slope = RATIO + SCALING + np.array([0.1, -0.05, 0.9])
    found = rate_ratio(RATIO, SCALING, VARIANCE, log_slope)
    of_slope = (3 * (3 * 0.1) ** 2 + 10 * 0.55**2) / 13
    grid = np.linspace(-6, 6, 20001)
    normal = lambda x, v: np.exp(-0.5 * x**2 / v) / np.sqrt(v)  # noqa: E731
    raw, variance_of_line = np.zeros((2, 3))
    for gene in range(3):
        prior = normal(grid + 0.35, 0.25)
        right, wrong = (prior * normal(SCALING[gene] - grid, v) for v in (VARIANCE[gene] + 0.04, 4.0))
        weight = (right + wrong) / (right + wrong).sum()
        mean = weight @ grid
        raw[gene], variance_of_line[gene] = RATIO[gene] + SCALING[gene] - mean, weight @ (grid - mean) ** 2
        np.testing.assert_allclose(found.follows_curve[gene], right.sum() / (right + wrong).sum(), atol=1e-6)
    for offset, is_least in ((-1.0, True), (-8.0, False)):
        width = max(1.0, 1.4826 * np.median(np.abs(raw + offset - np.log(0.3))))
        assert (width == 1) == is_least
        found = rate_ratio(RATIO + offset, SCALING, VARIANCE, log_slope + offset)
        precisions = np.stack([1 / (variance_of_line + of_slope), np.full(3, 1 / width**2)])
        both = (precisions[0] * (raw + offset) + precisions[1] * np.log(0.3)) / precisions.sum(axis=0)
        np.testing.assert_allclose(found.mean, both, atol=1e-6)
        np.testing.assert_allclose(found.deviation**2, 1 / precisions.sum(axis=0), atol=1e-6)
    assert found.follows_curve[0] > 0.6 > 0.1 > found.follows_curve[2]


@pytest.mark.any_precision
def test_an_unknown_variance_leaves_the_other_ratios_as_they_are():
    expected = rate_ratio(RATIO, SCALING, np.array([0.1, 4.0, 0.05]), RATIO)
    found = rate_ratio(RATIO, SCALING, np.array([0.1, np.nan, 0.05]), RATIO)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.any_precision
def test_intervals_are_as_narrow_as_slopes_agree_but_not_for_a_few_genes():
    def width(n_genes, disagreement):
        slope, scaling = np.linspace(-1, 1, n_genes), np.full(n_genes, -2.5)
        found = rate_ratio(slope - scaling, scaling, np.full(n_genes, 0.05), slope + disagreement)
        return found.deviation.mean()

    wide = width(200, 1.0)
    assert width(200, 0.05) < 0.8 * wide
    np.testing.assert_allclose(width(200, 3.0), wide)
    assert width(1, 0.0) > 0.9 * width(1, 3.0)


def _moments_of_ratio(ratio, scaling):
    mean, deviation, right = rate_ratio(ratio, scaling, jnp.full_like(scaling, 0.1), 0.9 * (ratio + scaling))
    return jnp.sum(mean + 2 * deviation + 3 * right)


def test_rate_ratio_gradient():
    check_gradient(_moments_of_ratio, jnp.array([0.5, -1, 2]), arguments=(jnp.array([-0.4, 0.6, -2.6]),))
