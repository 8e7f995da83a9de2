"""What devices send each other: in rounds, each value once, and every neighbour is where the halo says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph._halo import exchange_rounds, halo_places

pytestmark = pytest.mark.any_precision


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(0, 1000))
def test_rounds(n_devices, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.choice([0.3, 5, 500]), (n_devices, n_devices))
    np.fill_diagonal(counts, 0)
    rounds = exchange_rounds(counts)
    pairs = [pair for _, members in rounds for pair in members]
    assert sorted(pairs) == sorted(zip(*(i.tolist() for i in np.nonzero(counts)), strict=True))
    for size, members in rounds:
        assert size == max(counts[pair] for pair in members)
        for devices in zip(*members, strict=True):
            assert len(set(devices)) == len(devices)
    assert len(rounds) <= max(2 * n_devices - 3, 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 60), st.integers(0, 1000))
def test_neighbors_are_where_the_halo_says(n_cells, n_devices, n_entries, seed):
    """An exchange as it is written down: each device's values, and behind them those of each round."""
    rng = np.random.default_rng(seed)
    device = rng.integers(0, n_devices, n_cells)
    place, n_places = np.empty(n_cells, int), 1 + np.bincount(device, minlength=n_devices).max()
    own = np.full((n_devices, n_places), -1)
    for number in range(n_devices):
        cells = np.flatnonzero(device == number)
        place[cells] = rng.permutation(n_places)[: len(cells)]
        own[number, place[cells]] = cells
    rows, columns = rng.integers(0, n_cells, (2, n_entries))
    places, sent, pairs = halo_places(device, place, n_places, rows, columns, n_devices)
    there = own
    for of_round, members in zip(sent, pairs, strict=True):
        received = np.full((n_devices, of_round.shape[1]), -1)
        for source, target in members:
            received[target] = own[source, of_round[source]]
        there = np.hstack([there, received])
    np.testing.assert_array_equal(there[device[rows], places], columns)
