import jax
import numpy as np
import pytest

from jaxvelo.dynamics import _blocks, _cell_times
from jaxvelo.dynamics._blocks import in_blocks
from jaxvelo.dynamics._cell_times import nearest_in_blocks
from tests.dynamics import simulated

# Steady states of unspliced and spliced counts, gamma / beta, switching time.
SHAPES = np.array([[1.5, 2.0, 0.7, 2.0], [2.0, 3.0, 0.2, 2.5], [1.0, 1.5, 1.0, 1.5], [3.0, 6.0, 0.5, 0.6]])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(_blocks, "N_CELLS", 64)
    monkeypatch.setattr(_blocks, "N_GENES", 4)


def place(time, shape):
    level_u, level_s, g, switch = shape
    u, s = simulated.curve(time, 1.0, g, switch)
    return level_u * u, level_s * g * s


def decay_time(shape):
    return simulated.decay_time(*shape[:3])


def brute_force(u, s, shape, on, n=8001):
    """Times and squared distances on a dense grid, denser where all is fast."""
    end = shape[3] if on else decay_time(shape)
    times = np.linspace(0, end**0.5, n) ** 2
    x, y = place(times if on else shape[3] + times, shape)
    squared = (u[:, None] - x) ** 2 + (s[:, None] - y) ** 2
    best = squared.argmin(axis=1)
    return times[best], squared[np.arange(len(u)), best], s - y[best]


def cells_anywhere(n_cells, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    top = [np.array([place(shape[3], shape)[axis] for shape in SHAPES]) for axis in (0, 1)]
    return [(rng.random((n_cells, len(SHAPES))) * 1.3 * values).astype(dtype) for values in top]


def test_times_equal_brute_force():
    u, s = cells_anywhere(200)
    on, off = nearest_in_blocks(np.log(SHAPES), u, s)
    for gene, shape in enumerate(SHAPES):
        for found, is_on in ((on, True), (off, False)):
            time, squared, residual = brute_force(u[:, gene].astype(float), s[:, gene].astype(float), shape, is_on)
            excess = np.sqrt(found.distance[:, gene]) - np.sqrt(squared)
            # Never closer than the nearest, and hardly farther.
            assert excess.min() > -1e-3
            assert excess.max() < 3e-3
            assert np.quantile(excess, 0.95) < 5e-4
            # Where the nearest point is unique, it is the same one: in place, as time hardly matters in the late decay.
            near = np.sqrt(squared) < 0.1
            assert near.sum() > 15
            since = 0 if is_on else shape[3]
            places, known = (place(since + t, shape) for t in (found.time[near, gene].astype(float), time[near]))
            np.testing.assert_allclose(places[0], known[0], atol=0.05)
            np.testing.assert_allclose(places[1], known[1], atol=0.05)
            np.testing.assert_allclose(found.spliced_residual[near, gene], residual[near], atol=0.05)
            assert (found.time >= 0).all()
    assert (on.time <= SHAPES[:, 3] * (1 + 1e-5)).all()


def test_distances_and_residuals_belong_to_the_times():
    u, s = cells_anywhere(150)
    on, off = nearest_in_blocks(np.log(SHAPES), u, s)
    for gene, shape in enumerate(SHAPES):
        for found, since in ((on, 0), (off, shape[3])):
            x, y = place(since + found.time[:, gene].astype(float), shape)
            squared = (u[:, gene] - x) ** 2 + (s[:, gene] - y) ** 2
            np.testing.assert_allclose(found.distance[:, gene], squared, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(found.spliced_residual[:, gene], s[:, gene] - y, atol=1e-5)


def test_curves_that_reach_far_beyond_the_cells():
    """All cells lie in the last percent of the decay, or the first of the rise."""
    shapes = np.array(
        [[300.0, 400.0, 0.9, 4.0], [80.0, 10.0, 3.0, 3.0], [20.0, 200.0, 0.3, 3.5], [60.0, 60.0, 1.0, 2.0]]
    )
    rng = np.random.default_rng(0)
    u, s = (rng.gamma(2.0, 0.7, (200, len(shapes))).astype(np.float32) for _ in range(2))
    on, off = nearest_in_blocks(np.log(shapes), u, s)
    for gene, shape in enumerate(shapes):
        for found, is_on in ((on, True), (off, False)):
            _, squared, _ = brute_force(u[:, gene].astype(float), s[:, gene].astype(float), shape, is_on, n=200_001)
            excess = np.sqrt(found.distance[:, gene]) - np.sqrt(squared)
            assert excess.min() > -1e-3
            assert np.mean(excess) < 0.03, (gene, is_on)
            assert np.quantile(excess, 0.98) < 0.2, (gene, is_on)


def test_cells_of_the_late_decay_get_their_times_back():
    """There the grid is coarse in time, and little of the way is left."""
    times = np.linspace(1, 5.5, 60)[:, None] / np.minimum(SHAPES[:, 2], 1)
    places = [place(shape[3] + times[:, g], shape) for g, shape in enumerate(SHAPES)]
    _, off = nearest_in_blocks(np.log(SHAPES), *(np.stack([p[axis] for p in places], axis=1) for axis in (0, 1)))
    np.testing.assert_allclose(off.time, times, atol=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_on_the_curve_get_their_times_back(dtype):
    share = np.linspace(0.02, 0.98, 40)
    times = np.concatenate([share[:, None] * SHAPES[:, 3], share[:, None] * 3 / np.minimum(SHAPES[:, 2], 1)])
    since = np.where(np.arange(80)[:, None] < 40, 0, SHAPES[:, 3])
    places = [place(times[:, g] + since[:, g], shape) for g, shape in enumerate(SHAPES)]
    u, s = (np.stack([p[axis] for p in places], axis=1).astype(dtype) for axis in (0, 1))
    on, off = nearest_in_blocks(np.log(SHAPES), u, s)
    for found in (*on, *off):
        assert found.dtype == dtype
        assert found.shape == u.shape
    for found, rows in ((on, slice(0, 40)), (off, slice(40, 80))):
        np.testing.assert_allclose(found.time[rows][:34], times[rows][:34], atol=0.025, rtol=0.005)
        np.testing.assert_allclose(found.time[rows], times[rows], atol=0.025, rtol=0.05)
        assert (found.distance[rows] < 1e-3).all()
        assert np.median(found.distance[rows]) < 1e-6
        assert (abs(found.spliced_residual[rows]) < 0.03).all()
    # And they are closer to their own branch.
    assert (on.distance[5:35] < off.distance[5:35]).all()
    assert (off.distance[45:75] < on.distance[45:75]).all()


def test_cells_beyond_the_curve_get_its_ends():
    corner = np.array([place(shape[3], shape) for shape in SHAPES]).T
    u = np.stack([np.zeros(4), corner[0] * 2, np.full(4, 1e-9)]).astype(np.float32)
    s = np.stack([np.zeros(4), corner[1] * 2, np.zeros(4)]).astype(np.float32)
    on, off = nearest_in_blocks(np.log(SHAPES), u, s)
    for row in (0, 2):
        np.testing.assert_allclose(on.time[row], 0, atol=1e-6)
        np.testing.assert_allclose(off.time[row], [decay_time(shape) for shape in SHAPES], rtol=1e-3)
    # Above the corner: the switch, or a little to its side, where the curve bends.
    x, y = (u[1] - corner[0]) ** 2, (s[1] - corner[1]) ** 2
    assert (np.minimum(on.distance[1], off.distance[1]) <= (x + y) * (1 + 1e-5)).all()
    for gene, shape in enumerate(SHAPES):
        expected = brute_force(u[:, gene].astype(float), s[:, gene].astype(float), shape, True)
        np.testing.assert_allclose(on.time[1, gene], expected[0][1], atol=0.02)


def test_no_block_size_changes_the_result(monkeypatch):
    u, s = cells_anywhere(150)
    shapes = np.log(np.concatenate([SHAPES, SHAPES[:2]]))
    u, s = np.concatenate([u, u[:, :2]], axis=1), np.concatenate([s, s[:, :2]], axis=1)
    results = []
    for n_cells, n_genes in ((64, 4), (200, 8), (7, 1)):
        monkeypatch.setattr(_blocks, "N_CELLS", n_cells)
        monkeypatch.setattr(_blocks, "N_GENES", n_genes)
        results.append(nearest_in_blocks(shapes, u, s))
    for result in results[1:]:
        for found, expected in zip((*result[0], *result[1]), (*results[0][0], *results[0][1]), strict=True):
            # Another shape may be compiled to operations in another order.
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_all_genes_of_a_block_at_once(monkeypatch):
    """As on a device that is no CPU."""
    u, s = cells_anywhere(150)
    expected = nearest_in_blocks(np.log(SHAPES), u, s)
    monkeypatch.setattr(jax, "default_backend", lambda: "elsewhere")
    monkeypatch.setattr(_blocks, "DEVICE_N_CELLS", 96)  # a shape that no other test has compiled for
    arguments = np.zeros((4, 4), np.float32), np.zeros((96, 4), np.float32), np.zeros((96, 4), np.float32)
    assert "while" not in _cell_times._nearest_block.lower(*arguments).as_text()
    found = nearest_in_blocks(np.log(SHAPES), u, s)
    for values, known in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(values, known, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backend", ["cpu", "elsewhere"])
@pytest.mark.parametrize(("n_cells", "n_genes"), [(64, 4), (65, 5), (63, 3), (130, 9), (1, 1)])
def test_blocks(n_cells, n_genes, backend, monkeypatch):
    """Every entry once and in its place; programs see one shape only, and no made-up numbers."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(_blocks, "DEVICE_N_CELLS", 96)
    size = 64 if backend == "cpu" else 96
    rng = np.random.default_rng(0)
    x, y = rng.random((n_cells, n_genes)), rng.random((n_cells, n_genes)) + 5
    factors = {"a": rng.random(n_genes) + 10, "b": (rng.random((n_genes, 2)),)}
    shapes = set()

    def program(genes, x, y):
        shapes.add((genes["a"].shape, genes["b"][0].shape, x.shape, y.shape))
        assert (genes["a"] >= 10).all()
        assert (y >= 5).all()
        return [x * genes["a"], x + y, y * genes["b"][0][:, 1]]

    found = in_blocks(program, factors, x, y, n_results=3)
    for values, expected in zip(found, (x * factors["a"], x + y, y * factors["b"][0][:, 1]), strict=True):
        np.testing.assert_array_equal(values, expected)
    assert shapes == {((4,), (4, 2), (size, 4), (size, 4))}
