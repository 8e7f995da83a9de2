import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.dynamics import _curve_fit
from jaxvelo.dynamics._curve_fit import FREE, OFF, ON, Prior, fit_curves
from jaxvelo.dynamics._phase_curve import LOWER, UPPER, nearest_places
from tests.dynamics import simulated

X64 = jax.config.jax_enable_x64
N_POINTS = 200  # fewer than in use, for the sake of time
# Steady states of unspliced and spliced counts, gamma / beta, switching time.
SHAPES = np.array(
    [
        [1.5, 2.0, 0.7, 2.0],
        [2.0, 3.0, 0.2, 2.5],  # slow degradation
        [1.0, 1.5, 1.0, 1.5],  # equal rates
        [2.0, 2.0, 3.0, 3.0],  # fast degradation
        [3.0, 6.0, 0.5, 0.6],  # off long before the steady state
        [1.2, 1.5, 0.6, 9.0],  # off long after it
    ]
)
# Points and genes go through one program, whose shapes all tests share.
N_GENES = 8


def dense_curve(log_curve, n=4001):
    """Many points on each branch, of shape (2, 2 n): on, then off, as far as the fit looks. Float64."""
    level_u, level_s, g, switch = np.exp(np.asarray(log_curve, dtype=float))
    slow = min(g, 1.0)
    share = np.linspace(0, 1, n)
    on = -np.log1p(-share * -np.expm1(-slow * switch)) / slow
    end = simulated.decay_time(level_u, level_s, g)
    off = -np.log1p(-share * -np.expm1(-slow * end)) / slow
    u, s = simulated.curve(np.r_[on, switch + off], 1.0, g, switch)
    return np.stack([level_u * u, level_s * g * s])


def plain_distance(log_curve, places, weights, branches, n=4001):
    """Mean squared distance by brute force."""
    curve = dense_curve(log_curve, n)
    total = 0.0
    for x, y, weight, branch in zip(*places, weights, branches, strict=True):
        squared = (x - curve[0]) ** 2 + (y - curve[1]) ** 2
        total += weight * {FREE: squared, ON: squared[:n], OFF: squared[n:]}[branch].min()
    return total


def on_curves(curves, n_points=N_POINTS, noise=0.0, seed=0):
    """Points even in time on each curve, with normal noise, and whether they are on."""
    rng = np.random.default_rng(seed)
    places, on = [], []
    for level_u, level_s, g, switch in curves:
        time = np.linspace(0, switch + 3 / min(g, 1), n_points)
        u, s = simulated.curve(time, 1.0, g, switch)
        places.append(np.stack([level_u * u, level_s * g * s]))
        on.append(time < switch)
    places = np.array(places)
    return places + noise * rng.normal(size=places.shape), np.array(on)


def no_prior(n_genes):
    return Prior(np.zeros((n_genes, 4)), np.zeros((n_genes, 4, 4)))


def run(start, places, branches=None, weights=None, prior=None, iterations=30):
    """Fit genes, filled up to ``N_GENES`` by repetition of the last."""
    n_genes = len(start)
    if branches is None:
        branches = np.zeros(places[:, 0].shape, dtype=np.int32)
    if weights is None:
        weights = np.full(places[:, 0].shape, 1 / places.shape[2])
    prior = no_prior(n_genes) if prior is None else prior
    rows = np.minimum(np.arange(N_GENES), n_genes - 1)

    def filled(x):
        return jnp.asarray(np.asarray(x)[rows], dtype=float)

    fit = _curve_fit.fit_curves(
        filled(start),
        filled(places),
        filled(weights),
        jnp.asarray(branches[rows], dtype=jnp.int32),
        Prior(*map(filled, prior)),
        iterations,
    )
    return jax.tree.map(lambda x: np.asarray(x)[:n_genes], fit)


def random_problem(seed, labelled):
    """Points anywhere, many of them far from the curve, beyond its ends and beyond its corner."""
    rng = np.random.default_rng(seed)
    places = rng.random((2, 60)) * 2.2
    weights = rng.random(60)
    branches = rng.integers(0, 3, 60) if labelled else np.zeros(60, dtype=int)
    return places, weights / weights.sum(), branches


evaluate = jax.jit(_curve_fit._evaluate)


@pytest.fixture
def fine_grid(monkeypatch):
    """A grid so fine that the nearest of its points is the foot of the perpendicular."""
    monkeypatch.setattr(_curve_fit, "N_ON", 1200)
    monkeypatch.setattr(_curve_fit, "N_OFF", 1800)
    return jax.jit(lambda *arguments: _curve_fit._evaluate(*arguments))


@pytest.mark.parametrize("labelled", [False, True])
def test_loss_equals_brute_force(labelled):
    for i, shape in enumerate(SHAPES):
        log_curve = np.log(shape)
        places, weights, branches = random_problem(i, labelled)
        offset = np.array([0.1, -0.2, 0.3, 0.1])
        precision = np.diag([0.0, 0.1, 0.5, 0.2]) + 0.01
        prior = Prior(jnp.asarray(log_curve - offset), jnp.asarray(precision))
        loss, distance, *_ = evaluate(*map(jnp.asarray, (log_curve, places, weights, branches)), prior)
        expected = plain_distance(log_curve, places, weights, branches)
        # Distances to the tangents at a few dozen points are close to those to the curve.
        np.testing.assert_allclose(distance, expected, rtol=0.02, atol=2e-3)
        np.testing.assert_allclose(loss - distance, offset @ precision @ offset, rtol=1e-4 if not X64 else 1e-10)


@pytest.mark.parametrize("labelled", [False, True])
def test_gradient_is_that_of_the_loss(labelled, fine_grid):
    """The envelope theorem: with the times eliminated, only the direct part of the derivative is left.

    At the corner, where the branches meet, the nearest time is no minimum in the interior, but moves with the
    switching time.
    """
    if not X64:
        pytest.skip("finite differences need float64")
    step = 1e-4
    for i, shape in enumerate(SHAPES):
        log_curve = np.log(shape)
        places, weights, branches = random_problem(i, labelled)
        prior = Prior(jnp.asarray(log_curve - 0.2), jnp.asarray(np.diag([0.0, 0.0, 0.1, 0.2])))
        loss, distance, _, gradient = fine_grid(*map(jnp.asarray, (log_curve, places, weights, branches)), prior)
        known = plain_distance(log_curve, places, weights, branches, 6001)
        np.testing.assert_allclose(distance, known, rtol=5e-4)
        expected = []
        for direction in np.eye(4):
            ahead, behind = (
                plain_distance(log_curve + sign * step * direction, places, weights, branches, 6001) for sign in (1, -1)
            )
            expected.append((ahead - behind) / (2 * step))
        expected = np.array(expected) + 2 * 0.2 * np.array([0.0, 0.0, 0.1, 0.2])
        np.testing.assert_allclose(-2 * gradient, expected, atol=1e-3, rtol=1e-3)
        assert loss > distance


def test_gradient_on_the_grid_in_use():
    """Close to that on the fine grid, and the descent of what is minimised."""
    for i, shape in enumerate(SHAPES):
        log_curve = np.log(shape)
        places, weights, branches = random_problem(i, True)
        prior = Prior(jnp.asarray(log_curve), jnp.zeros((4, 4)))
        arguments = tuple(map(jnp.asarray, (places, weights, branches)))
        loss, _, information, gradient = evaluate(jnp.asarray(log_curve), *arguments, prior)
        np.testing.assert_allclose(information, information.T, atol=1e-6)
        assert np.linalg.eigvalsh(information).min() > -1e-6
        length = float(np.linalg.norm(gradient))
        moved, *_ = evaluate(jnp.asarray(log_curve + 0.01 * np.asarray(gradient) / length), *arguments, prior)
        np.testing.assert_allclose(float(loss - moved), 0.02 * length, rtol=0.25)


def test_information_is_half_the_second_derivative_without_residuals(fine_grid):
    """At the truth, on points on the curve, where Gauss-Newton is exact; none near the ends, where it is not smooth."""
    if not X64:
        pytest.skip("finite differences need float64")
    shape = SHAPES[0]
    log_curve, n = np.log(shape), 60
    u, s = simulated.curve(np.r_[np.linspace(0.3, 1.6, 30), np.linspace(2.4, 5.0, 30)], 1.0, shape[2], shape[3])
    places = np.stack([shape[0] * u, shape[1] * shape[2] * s])
    weights, branches = np.full(n, 1 / n), np.repeat([ON, OFF], 30)
    arguments = tuple(map(jnp.asarray, (places, weights, branches)))
    prior = Prior(jnp.zeros(4), jnp.zeros((4, 4)))
    _, _, information, _ = fine_grid(jnp.asarray(log_curve), *arguments, prior)
    rng = np.random.default_rng(0)
    for _ in range(4):
        direction = rng.normal(size=4)
        direction /= np.linalg.norm(direction)
        ahead = plain_distance(log_curve + 0.01 * direction, places, weights, branches, 6001)
        behind = plain_distance(log_curve - 0.01 * direction, places, weights, branches, 6001)
        expected = (ahead + behind) / 0.01**2 / 2
        np.testing.assert_allclose(direction @ information @ direction, expected, rtol=0.02)


def check_recovery(fit, tolerance):
    known = np.log(SHAPES)
    # Beyond the steady state, and where spliced counts just follow the unspliced, any switching time will do.
    steady = SHAPES[:, 3] * np.minimum(SHAPES[:, 2], 1) > 2.5
    np.testing.assert_allclose(fit.log_curve[:, :3], known[:, :3], atol=tolerance)
    np.testing.assert_allclose(fit.log_curve[~steady, 3], known[~steady, 3], atol=tolerance)
    np.testing.assert_allclose(fit.loss, fit.distance, rtol=1e-5)


def test_points_on_a_curve_give_its_parameters_back():
    """As closely as the grid of times resolves it: what is left is the way from the points to the grid."""
    places, on = on_curves(SHAPES)
    start = np.log(SHAPES) + np.array([0.3, -0.2, 0.4, -0.3])
    for branches in (np.where(on, ON, OFF), None):  # without labels too: the branches are apart
        fit = run(start, places, branches, iterations=40)
        check_recovery(fit, 0.1)
        assert (fit.distance < 4e-3).all()


def test_a_finer_grid_resolves_more(monkeypatch):
    monkeypatch.setattr(_curve_fit, "N_ON", 72)
    monkeypatch.setattr(_curve_fit, "N_OFF", 120)
    monkeypatch.setattr(_curve_fit, "fit_curves", jax.jit(lambda *arguments: fit_curves.__wrapped__(*arguments)))
    places, on = on_curves(SHAPES)
    start = np.log(SHAPES) + np.array([0.3, -0.2, 0.4, -0.3])
    fit = run(start, places, np.where(on, ON, OFF), iterations=25)
    check_recovery(fit, 0.05)
    assert (fit.distance < 5e-4).all()


def test_loss_never_exceeds_that_of_the_start_and_falls_with_more_steps():
    rng = np.random.default_rng(0)
    curves = np.concatenate([SHAPES, SHAPES[:2]])
    places, _ = on_curves(curves, noise=0.2)
    start = np.log(curves) + rng.normal(size=(len(curves), 4))
    losses = [run(start, places, iterations=n).loss for n in (5, 10, 20, 40)]
    prior = Prior(jnp.zeros(4), jnp.zeros((4, 4)))
    at_start = [
        evaluate(*map(jnp.asarray, (x, p, np.full(N_POINTS, 1 / N_POINTS), np.zeros(N_POINTS, int))), prior)[0]
        for x, p in zip(start, places, strict=True)
    ]
    last = np.array(at_start) * (1 + 1e-5)
    for loss in losses:
        assert (loss <= last).all()
        last = loss
    # The gain of the last four steps, as far as one can tell from outside.
    long = run(start, places, iterations=40)
    shorter = run(start, places, iterations=36)
    expected = (shorter.loss - long.loss) / long.loss
    np.testing.assert_allclose(long.late_gain, expected, atol=1e-5)
    assert (long.late_gain < 1e-2).all()


def test_fit_is_a_minimum():
    """No neighbouring parameters are better, by brute force, beyond what the grid resolves."""
    curves = SHAPES[:5]
    places, on = on_curves(curves, noise=0.15, seed=1)
    branches = np.where(on, ON, OFF)
    fit = run(np.log(curves), places, branches, iterations=40)
    rng = np.random.default_rng(0)
    weights = np.full(N_POINTS, 1 / N_POINTS)
    for gene in range(len(curves)):
        at = plain_distance(fit.log_curve[gene], places[gene], weights, branches[gene], 1001)
        np.testing.assert_allclose(fit.distance[gene], at, atol=2e-3)
        for direction in rng.normal(size=(6, 4)):
            moved = fit.log_curve[gene] + 0.2 * direction / np.linalg.norm(direction)
            assert plain_distance(moved, places[gene], weights, branches[gene], 1001) > at * 0.995


def test_prior_pulls():
    places, _ = on_curves(SHAPES[:1].repeat(5, axis=0), noise=0.05)
    target = np.log([1.5, 2.0, 1.4, 2.0])  # twice the ratio
    strengths = np.array([0.0, 1e-3, 1e-2, 0.1, 1e3])
    precision = strengths[:, None, None] * np.diag([0.0, 0.0, 1.0, 0.0])
    fit = run(np.tile(np.log(SHAPES[0]), (5, 1)), places, prior=Prior(np.tile(target, (5, 1)), precision))
    ratio = fit.log_curve[:, 2]
    assert (np.diff(ratio) > 0).all()
    np.testing.assert_allclose(ratio[0], np.log(0.7), atol=0.1)
    np.testing.assert_allclose(ratio[-1], np.log(1.4), atol=1e-3)
    penalty = strengths * (ratio - np.log(1.4)) ** 2
    np.testing.assert_allclose(fit.loss - fit.distance, penalty, atol=1e-5)
    assert fit.distance[-1] > fit.distance[0] + 1e-3  # at the expense of the distance


def test_parameters_stay_within_their_bounds():
    rng = np.random.default_rng(0)
    places = np.stack([np.linspace(0, 2, N_POINTS), np.full(N_POINTS, 1e-3)])[None]  # no curve looks like that
    start = np.array([[0.0, 0.0, 10.0, -10.0]])
    fit = run(start, places + 1e-4 * rng.random(places.shape))
    assert (fit.log_curve >= np.float32(LOWER) - 1e-6).all()
    assert (fit.log_curve <= np.float32(UPPER) + 1e-6).all()
    assert np.isfinite(fit.loss).all()


def test_labels_are_respected():
    places, on = on_curves(SHAPES)
    start = np.log(SHAPES)
    right, wrong = (run(start, places, labels) for labels in (np.where(on, ON, OFF), np.where(on, OFF, ON)))
    assert (right.distance < 5e-3).all()
    assert (wrong.distance > 5 * right.distance).all()
    # A single point, next to the branch that it does not belong to.
    log_curve = np.log(SHAPES[0])
    u, s = simulated.curve(np.array([0.8]), 1.0, SHAPES[0, 2], SHAPES[0, 3])
    point = np.array([SHAPES[0, 0] * u, SHAPES[0, 1] * SHAPES[0, 2] * s])
    prior = Prior(jnp.zeros(4), jnp.zeros((4, 4)))
    point = np.pad(point, ((0, 0), (0, 59)), mode="edge")
    distances = [
        float(evaluate(*map(jnp.asarray, (log_curve, point, np.full(60, 1 / 60), np.full(60, label))), prior)[1])
        for label in (FREE, ON, OFF)
    ]
    assert distances[0] == distances[1] < 1e-3
    assert distances[2] > 0.05


def test_points_without_weight_do_not_matter():
    places, on = on_curves(SHAPES, noise=0.1)
    branches = np.where(on, ON, OFF)
    weights = np.full((len(SHAPES), N_POINTS), 1 / 150)
    weights[:, 150:] = 0
    elsewhere = places.copy()
    elsewhere[:, :, 150:] = 0
    fits = [run(np.log(SHAPES) + 0.2, x, branches, weights) for x in (places, elsewhere)]
    np.testing.assert_allclose(fits[0].log_curve, fits[1].log_curve, atol=1e-3)
    np.testing.assert_allclose(fits[0].loss, fits[1].loss, rtol=1e-4)


@pytest.mark.cpu_only(reason="to the last bit, of batches of other genes")
def test_a_gene_does_not_depend_on_the_others():
    """To the last bit: neither on what else is in the batch, nor on the place in it."""
    places, _ = on_curves(SHAPES, noise=0.1)
    start = np.log(SHAPES) + 0.2
    together = run(start, places)
    order = np.array([3, 0, 5, 1])
    others = run(start[order], places[order])
    for found, expected in zip(others, together, strict=True):
        np.testing.assert_array_equal(found, expected[order])
    # Nor on one that is not a number.
    broken = places.copy()
    broken[2] = np.nan
    beside = run(start, broken)
    rest = np.array([0, 1, 3, 4, 5])
    np.testing.assert_array_equal(beside.log_curve[rest], together.log_curve[rest])


def test_units_of_counts_move_the_levels_only():
    """Both kinds in a unit ten times smaller: the same curve, ten times larger."""
    places, on = on_curves(SHAPES, noise=0.1)
    branches = np.where(on, ON, OFF)
    fit, larger = (run(np.log(SHAPES * [x, x, 1, 1]), places * x, branches, iterations=40) for x in (1.0, 10.0))
    # Of a gene that comes close to its steady state, cells do not say when it leaves it.
    determined = SHAPES[:, 3] < 3
    np.testing.assert_allclose(larger.distance, 100 * fit.distance, rtol=2e-3)
    np.testing.assert_allclose(
        larger.log_curve[determined] - fit.log_curve[determined], np.log([[10, 10, 1, 1]]).repeat(4, axis=0), atol=0.03
    )


def test_nearest_places():
    rng = np.random.default_rng(0)
    squared = rng.gamma(0.5, 1.0, (500, 65))
    squared[:65] += np.where(np.eye(65, dtype=bool), -squared[:65], 1.0)  # exact zeros, in every column
    found = np.asarray(jax.jit(nearest_places)(jnp.asarray(squared, dtype=float)))
    np.testing.assert_array_equal(found[:65], np.arange(65))
    least = squared.min(axis=1)
    np.testing.assert_allclose(squared[np.arange(500), found], least, rtol=3e-5, atol=1e-12)
    assert np.mean(found == squared.argmin(axis=1)) > 0.99
    # One index even where several are the same.
    ties = np.asarray(nearest_places(jnp.ones((3, 64))))
    assert ((ties >= 0) & (ties < 64)).all()
