import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.markov import random_walks, sample_starts
from jaxvelo.markov._walks import _below, _next_cell, _simulate, _slot_table
from tests.markov.chains import chain, csr, messy_chain, with_lone_cells

KEY = jax.random.key(0)
next_cell = jax.jit(_next_cell)


def slot_table(matrix):
    return _slot_table(matrix.graph.pattern, matrix.values)


def simulate(matrix, start, n_steps, key=KEY, **kwargs):
    paths, lengths = random_walks(matrix, np.asarray(start), key, n_steps, **kwargs)
    assert paths.dtype == lengths.dtype == jnp.int32
    assert paths.shape == (len(start), n_steps + 1)
    return np.asarray(paths), np.asarray(lengths)


def steps(paths):
    return paths[:, :-1].ravel(), paths[:, 1:].ravel()


def replay(path, stop, successive_hits):
    """Cut a walk where a counter of successive hits, written down step by step, ends it."""
    count = -1
    for i, cell in enumerate(path[1:], start=1):
        count = count + 1 if stop[cell] else -1
        if count >= successive_hits:
            return path[: i + 1]
    return path


def test_steps_have_the_probabilities_of_the_chain():
    dense = np.array(
        [
            [0.0, 0.7, 0.2, 0.1, 0.0],
            [0.25, 0.25, 0.0, 0.25, 0.25],
            [0.999, 0.0, 0.0, 0.0, 0.001],
            [0.0, 0.0, 0.5, 0.0, 0.5],
            [0.1, 0.2, 0.3, 0.15, 0.25],
        ]
    )
    stored = np.ones_like(dense, dtype=bool)
    paths, _ = simulate(chain(dense, stored), np.arange(2000) % 5, 200)
    before, after = steps(paths)
    counts = np.zeros_like(dense)
    np.add.at(counts, (before, after), 1)
    assert np.all(counts[dense == 0] == 0)
    for count, probability in zip(counts, dense, strict=True):
        possible = probability > 0
        assert stats.chisquare(count[possible], probability[possible] * count.sum()).pvalue > 1e-3


def test_successive_steps_and_walks_are_independent():
    paths, _ = simulate(chain(np.full((5, 5), 0.2)), np.zeros(2000, dtype=int), 200)
    for first, second in ((paths[:, 1:-1], paths[:, 2:]), (paths[:, 1:-32], paths[:, 33:]), (paths[:-1], paths[1:])):
        table = np.zeros((5, 5))
        np.add.at(table, (first[:, 1:].ravel(), second[:, 1:].ravel()), 1)
        assert stats.chi2_contingency(table).pvalue > 1e-3


@settings(max_examples=200, deadline=None)
@given(bits=st.integers(0, 2**32 - 1), bound=st.integers(1, 2**32 - 1))
def test_random_numbers_below_a_bound(bits, bound):
    result = _below(jnp.asarray([bits], dtype=jnp.uint32), jnp.asarray([bound], dtype=jnp.uint32))
    assert int(result[0]) == bits * bound >> 32 < bound


def adversarial_rows(rng):
    """Rows of 200 slots that sum to slightly more or less than one, with zeros in front, between and behind."""
    n, width = 40, 200
    rows = rng.random((n, width)) ** rng.choice([1, 8, 40], size=(n, 1))
    rows[rng.random((n, width)) < rng.choice([0.0, 0.5, 0.97], size=(n, 1))] = 0
    rows[:, :5] = rows[:, -60:] = 0
    rows[np.arange(n), rng.integers(5, 140, n)] = 1
    rows /= rows.sum(axis=1, keepdims=True)
    rows *= rng.choice([0.9999999, 1.0, 1.0000001], size=(n, 1))
    rows[0] = np.eye(width)[7] * 0.9999999
    rows[1] = np.eye(width)[0]
    rows[2] = np.eye(width)[width - 1]
    rows[3] = 1e-30 * np.eye(width)[9] + np.eye(width)[12]
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_no_step_to_probability_zero_for_any_random_number(seed):
    rows = adversarial_rows(np.random.default_rng(seed))
    n, width = rows.shape
    dense = np.zeros((width, width))
    dense[:n] = rows
    # The rest fill a bucket of width 24: there, a search that leaves its row for the next finds low values.
    dense[n:, 100:119] = 0.01
    dense[n:, 119] = 0.81
    stored = dense != 0
    # Half of the rows store their zeros, the others leave them to the padding of the bucket.
    stored[: n // 2] = True
    matrix = chain(dense, stored)
    assert [values.shape[1] for values in matrix.values] == [24, 256]
    table = slot_table(matrix)
    bits = np.concatenate(
        [
            [0, 1, 2, 2**31 - 1, 2**31, 2**32 - 257, 2**32 - 2, 2**32 - 1],
            np.random.default_rng(seed).integers(0, 2**32, 200),
        ]
    ).astype(np.uint32)
    cells = np.repeat(np.arange(width, dtype=np.int32), len(bits))
    bits = np.tile(bits, width)
    reached = np.asarray(next_cell(table, jnp.asarray(cells), jnp.asarray(bits)))
    assert np.all(dense[cells, reached] > 0)

    # Beside that, it is the inverse of the cumulative distribution, to the precision of the probabilities.
    cumulative = np.cumsum(dense / dense.sum(axis=1, keepdims=True), axis=1)
    u = bits / 2.0**32
    upper = cumulative[cells, reached]
    lower = np.where(reached > 0, cumulative[cells, reached - 1], 0)
    eps = 1e-6 if matrix.values[0].dtype == jnp.float32 else 1e-7
    assert np.all((lower - eps <= u) & (u <= upper + eps))


def test_cumulative_distributions_are_exact_in_units_of_2_to_the_minus_31():
    matrix, dense, _ = messy_chain(100, seed=3)
    table = slot_table(matrix)
    cumulative = np.asarray(table.cumulative, dtype=np.int64)
    neighbor, first, width = (np.asarray(a) for a in (table.neighbor, table.first, table.width))
    probability = np.zeros_like(dense)
    for i in range(len(dense)):
        slots = slice(first[i], first[i] + width[i])
        steps = np.diff(cumulative[slots], prepend=0)
        assert np.all(steps >= 0)
        np.add.at(probability[i], neighbor[slots], steps)
    assert np.all(probability[dense == 0] == 0)
    assert np.max(np.abs(probability.sum(axis=1) / 2**31 - 1)) < 1e-6
    expected = matrix.to_csr().toarray()
    np.testing.assert_allclose(probability / 2**31, expected / expected.sum(axis=1, keepdims=True), atol=1.5e-7)


def test_lone_cells_stay_and_single_neighbors_are_certain():
    matrix, _, _ = messy_chain()
    paths, _ = simulate(matrix, np.resize([2, 21, 3], 200), 77)
    assert np.all(paths[0::3] == 2)
    assert np.all(paths[1::3] == 21)
    assert np.all(paths[2::3, 1] == 5)


def test_cell_0_walks_its_own_row_and_not_an_unused_one():
    n = 33
    matrix = chain(np.roll(np.eye(n), 1, axis=1))
    assert matrix.graph.n_unused_rows > 0
    paths, _ = simulate(matrix, np.arange(n), 2 * n)
    np.testing.assert_array_equal(paths, (np.arange(n)[:, None] + np.arange(2 * n + 1)) % n)


@pytest.mark.parametrize("n_cells", [1, 17, 300])
def test_every_number_of_cells(n_cells):
    matrix, dense, _ = messy_chain(n_cells) if n_cells > 1 else (chain(np.eye(1)), np.eye(1), None)
    paths, lengths = simulate(matrix, np.arange(n_cells), 33)
    before, after = steps(paths)
    assert np.all(dense[before, after] > 0)
    assert np.all(lengths == 34)
    np.testing.assert_array_equal(paths[:, 0], np.arange(n_cells))


def test_walks_do_not_depend_on_how_many_and_how_long_they_are():
    matrix, dense, stored = messy_chain()
    start = np.arange(200) % 40
    paths, _ = simulate(matrix, start, 77)
    np.testing.assert_array_equal(simulate(matrix, start[:1], 77)[0], paths[:1])
    np.testing.assert_array_equal(simulate(matrix, start[:190], 33)[0], paths[:190, :34])
    np.testing.assert_array_equal(simulate(matrix, start, 65)[0], paths[:, :66])
    np.testing.assert_array_equal(simulate(with_lone_cells(dense, stored, 60), start, 77)[0], paths)
    assert np.any(simulate(matrix, start, 77, key=jax.random.key(1))[0] != paths)
    # A key of the older kind.
    np.testing.assert_array_equal(simulate(matrix, start, 77, key=jax.random.PRNGKey(0))[0], paths)


@pytest.mark.parametrize("successive_hits", [0, 1, 3])
def test_stopping(successive_hits):
    matrix, dense, _ = messy_chain()
    stop = np.random.default_rng(0).random(len(dense)) < 0.5
    start = np.arange(200) % 40
    n_steps = 77
    whole, lengths = simulate(matrix, start, n_steps)
    assert np.all(lengths == n_steps + 1)
    paths, lengths = simulate(matrix, start, n_steps, stop=stop, successive_hits=successive_hits)
    seen = set()
    for path, length, full in zip(paths, lengths, whole, strict=True):
        expected = replay(full, stop, successive_hits)
        np.testing.assert_array_equal(path[:length], expected)
        assert np.all(path[length:] == path[length - 1])
        seen.add(int(length))
    assert min(seen) == successive_hits + 2
    assert len(seen) > 2


def test_a_start_in_a_stop_cell_does_not_count():
    ring = chain(np.roll(np.eye(5), 1, axis=1))
    paths, lengths = simulate(ring, [2, 3], 90, stop=np.arange(5) == 2)
    assert lengths.tolist() == [6, 5]
    assert paths[0, :6].tolist() == [2, 3, 4, 0, 1, 2]
    assert np.all(paths[:, 6:] == 2)
    for stop in (np.arange(5) == 2, np.zeros(5, dtype=bool)):
        _, lengths = simulate(ring, [2, 3], 90, stop=stop, successive_hits=1)
        assert lengths.tolist() == [91, 91]


def test_nearby_sizes_share_a_program():
    matrix, _, _ = messy_chain()
    simulate(matrix, np.zeros(200, dtype=int), 77)
    compiled = _simulate._cache_size()
    simulate(matrix, np.zeros(197, dtype=int), 96, stop=np.arange(40) == 1, successive_hits=2)
    simulate(matrix, np.ones(194, dtype=int), 65)
    assert _simulate._cache_size() == compiled


def test_within_a_compiled_function():
    matrix, _, _ = messy_chain()
    start = jnp.arange(5, dtype=jnp.int32)
    paths, lengths = jax.jit(lambda matrix, key: random_walks(matrix, start, key, 20))(matrix, KEY)
    expected = random_walks(matrix, start, KEY, 20)
    np.testing.assert_array_equal(paths, expected[0])
    np.testing.assert_array_equal(lengths, expected[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_step_is_possible(seed):
    rng = np.random.default_rng(seed)
    stored = rng.random((20, 20)) < rng.random()
    stored[0] = True
    dense = np.where(rng.random(stored.shape) < 0.5, 10.0 ** rng.uniform(-12, 0, stored.shape), 0) * stored
    graph = NeighborGraph.from_csr(csr(dense, stored))
    matrix = TransitionMatrix(graph, graph.edges["connectivities"].values).normalize()
    bits = np.append(rng.integers(0, 2**32, 62), [0, 2**32 - 1]).astype(np.uint32)
    cells = np.repeat(np.arange(20, dtype=np.int32), len(bits))
    reached = np.asarray(next_cell(slot_table(matrix), jnp.asarray(cells), jnp.asarray(np.tile(bits, 20))))
    assert np.all(matrix.to_csr().toarray()[cells, reached] > 0)


def test_starts_are_uniform_over_the_mask():
    mask = np.zeros(500, dtype=bool)
    mask[[0, 3, 4, 250, 499]] = True
    starts = np.asarray(sample_starts(KEY, jnp.asarray(mask), 20_000))
    assert starts.dtype == np.int32
    counts = np.bincount(starts, minlength=500)
    assert np.all(counts[~mask] == 0)
    assert stats.chisquare(counts[mask]).pvalue > 1e-3
    np.testing.assert_array_equal(sample_starts(KEY, jnp.asarray(mask), 10), starts[:10])
    assert sample_starts(KEY, jnp.arange(7) == 4, 3).tolist() == [4, 4, 4]


def test_pancreas_walks_reach_each_cluster_as_often_as_powers_of_the_matrix_say(pancreas):
    matrix = pancreas.transitions["combined"]
    clusters = pancreas.adata.obs["clusters"]
    start = sample_starts(jax.random.key(1), jnp.asarray((clusters == "Ngn3 low EP").to_numpy()), 4000)
    paths, _ = simulate(matrix, start, 25, key=jax.random.key(2))
    distribution = np.bincount(np.asarray(start), minlength=matrix.shape[0]) / len(start)
    dense = matrix.to_csr()
    for _ in range(25):
        distribution = dense.T @ distribution
    codes = clusters.cat.codes.to_numpy()
    expected = len(start) * np.bincount(codes, weights=distribution)
    found = np.bincount(codes[paths[:, -1]], minlength=len(expected))
    often = expected > 20
    assert often.sum() >= 3
    assert np.all(np.abs(found - expected)[often] < 4 * np.sqrt(expected[often]))
