import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxvelo.dynamics import latent_time, local_confidence, rooted_times, shared_time
from tests.dynamics import plain
from tests.finite_differences import check_gradient


def clocks(n_cells=50, n_genes=23, seed=0, noise=0.3):
    """Times of genes whose clocks start anywhere on the way and run at different paces; and the true time."""
    rng = np.random.default_rng(seed)
    true = np.sort(rng.uniform(size=n_cells))
    times = true[:, None] + noise * rng.normal(size=(n_cells, n_genes)) * true[:, None]
    start = rng.uniform(0, 0.4, n_genes)
    return (times - start) % 1.3 * rng.uniform(1, 20, n_genes), true


def as_jax(array):
    return jnp.asarray(array, dtype=float)


@pytest.fixture
def tolerance():
    return 1e-12 if jax.config.jax_enable_x64 else 1e-5


def test_rooted_times_equal_numpy(tolerance):
    times, _ = clocks()
    for root in (0, 7, 49):
        rooted = np.asarray(rooted_times(as_jax(times), root))
        np.testing.assert_allclose(rooted, plain.rooted_times(times, root), atol=20 * tolerance)
        assert not rooted[root].any()
        assert rooted.min() == 0


def test_the_time_before_the_root_comes_last():
    times = as_jax([[0.0], [1.0], [3.0], [4.0]])
    np.testing.assert_allclose(rooted_times(times, 2), [[1.0], [2.0], [0.0], [1.0]])
    np.testing.assert_allclose(rooted_times(times, 0), times)


@pytest.mark.parametrize("n_genes", [1, 2, 23, 40])
def test_shared_time_equals_numpy(n_genes, tolerance):
    times = plain.rooted_times(clocks(n_genes=n_genes)[0], 0)
    shared = shared_time(as_jax(times))
    np.testing.assert_allclose(shared, plain.shared_time(times), atol=tolerance)
    assert shared.max() == pytest.approx(1, rel=1e-6)


def test_other_percentiles(tolerance):
    times = plain.rooted_times(clocks()[0], 0)
    shared = shared_time(as_jax(times), (50.0, 60.0, 100.0))
    np.testing.assert_allclose(shared, plain.shared_time(times, (50, 60, 100)), atol=tolerance)


@pytest.mark.parametrize("ends", [None, [48], [49, 47, 40]])
@pytest.mark.parametrize("roots", [[0], [3, 0, 1, 2]])
def test_latent_time_equals_numpy(roots, ends, tolerance):
    times, _ = clocks()
    latent = latent_time(as_jax(times), jnp.asarray(roots), None if ends is None else jnp.asarray(ends))
    # In single precision a time may be taken across the root's; then one gene of the percentile is another.
    np.testing.assert_allclose(latent, plain.latent_time(times, roots, ends), atol=20 * tolerance)
    assert latent.min() == 0
    assert latent.max() == pytest.approx(1, rel=1e-6)


def test_latent_time_finds_the_true_time():
    times, true = clocks(200, 60, noise=0.2)
    assert spearmanr(latent_time(as_jax(times), jnp.asarray([0])), true)[0] > 0.95
    # Half of the genes without any sense.
    times[:, ::2] = np.random.default_rng(1).uniform(0, 10, times[:, ::2].shape)
    assert spearmanr(latent_time(as_jax(times), jnp.asarray([0])), true)[0] > 0.8


def test_the_unit_of_a_gene_matters_not_by_order(tolerance):
    """The same for all genes: a common unit of time cancels, and so does the order of genes and cells."""
    times, _ = clocks()
    rng = np.random.default_rng(0)
    cells, genes = rng.permutation(50), rng.permutation(23)
    latent = np.asarray(latent_time(as_jax(times), jnp.asarray([4])))
    scaled = latent_time(as_jax(8.0 * times[cells][:, genes]), jnp.asarray(np.flatnonzero(cells == 4)))
    np.testing.assert_allclose(scaled, latent[cells], atol=10 * tolerance)


def test_times_that_do_not_vary_give_zeros():
    constant = jnp.full((6, 4), 3.0)
    for result in (shared_time(constant), latent_time(constant, jnp.asarray([1])), rooted_times(constant, 1)):
        assert not np.asarray(result).any()
    one_gene = constant.at[:, 0].set(jnp.arange(6, dtype=constant.dtype))
    assert np.isfinite(latent_time(one_gene, jnp.asarray([0]), jnp.asarray([5]))).all()


def test_local_confidence():
    rng = np.random.default_rng(0)
    latent, mean = rng.uniform(size=(2, 30))
    scale = latent @ mean / (mean @ mean)
    expected = (1 - abs(latent - scale * mean) / latent.max()) ** 2
    np.testing.assert_allclose(local_confidence(as_jax(latent), as_jax(mean)), expected, atol=1e-5)
    np.testing.assert_allclose(local_confidence(as_jax(latent), as_jax(0.3 * latent)), 1, atol=1e-5)
    np.testing.assert_allclose(local_confidence(jnp.zeros(3), jnp.zeros(3)), 1)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        times, _ = clocks(20, 9)
        weights = jnp.asarray(np.random.default_rng(2).normal(size=20))
        roots, ends = jnp.asarray([0, 2]), jnp.asarray([19])

        def objective(t, weights, roots, ends):
            latent = latent_time(t, roots, ends)
            return weights @ latent + jnp.sum(local_confidence(latent, latent**2))

        gradient = check_gradient(objective, jnp.asarray(times), rtol=1e-5, step=1e-7, arguments=(weights, roots, ends))
        assert np.abs(np.asarray(gradient)).max() > 1e-3


def test_gradients_are_finite_where_nothing_varies():
    gradient = jax.grad(lambda t: jnp.sum(latent_time(t, jnp.asarray([0]))))(jnp.ones((5, 3)))
    assert np.isfinite(gradient).all()
