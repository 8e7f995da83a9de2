"""Likelihoods and tests of kinetics by group, against slow versions and against cells whose kinetics are known."""

import numpy as np
import pytest

from jaxvelo.dynamics import SplicingKinetics, group_likelihoods, kinetic_p_values, neighborhood_weights
from tests.dynamics import plain_kinetics
from tests.dynamics.simulated import line_graph

pytestmark = pytest.mark.any_precision

N_CELLS, N_GROUPS = 160, 4
# Transcription, splicing, degradation, switching time, scaling: splicing faster than degradation, and the other way.
RATES = np.array(
    [[8, 1, 0.4, 5, 0.5], [6, 1, 2.0, 3, 2], [9, 0.8, 0.5, 6, 1], [5, 1, 0.3, 4, 0.7], [9, 1, 0.45, 9, 1.5]]
)


def kinetics_of(rates):
    return SplicingKinetics(*rates.T)


def cells(seed=0, noise=0.04):
    """Cells along a trajectory, in groups by their time; moments, weights, times on both branches, groups."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.random(N_CELLS)) * 12
    u, s, on, off = (np.empty((N_CELLS, len(RATES))) for _ in range(4))
    for i, (alpha, beta, gamma, switch, scaling) in enumerate(RATES):
        gene = plain_kinetics.Gene(np.zeros(1), np.zeros(1), alpha, beta, gamma, switch, scaling)
        on[:, i], off[:, i] = np.minimum(time, switch), np.maximum(time - switch, 0)
        places = [gene.place(int(t < switch), a if t < switch else b) for t, a, b in zip(time, on[:, i], off[:, i], strict=True)]  # fmt: skip  # noqa: E501
        u[:, i], s[:, i] = np.array(places).T * [[scaling], [1]]
    u, s = (x * np.exp(rng.normal(0, noise, x.shape)) + 1e-3 for x in (u, s))
    codes = np.digitize(time, [3, 6, 9])
    codes[::17] = -1
    return u, s, neighborhood_weights(line_graph(N_CELLS, 6)), on, off, codes


def groups_of(codes):
    return [codes == c for c in range(codes.max() + 1)]


@pytest.fixture
def two_genes_at_once(monkeypatch):
    monkeypatch.setattr("jaxvelo.dynamics._gene_blocks.N_NUMBERS", 2 * N_CELLS)


@pytest.mark.usefixtures("two_genes_at_once")
def test_likelihoods_equal_numpy():
    u, s, weights, on, off, codes = cells()
    s[codes == 3, 0] *= 1.5
    u[codes == 0, 1] = 0  # none of its cells count
    deviation = np.stack([u.std(axis=0), s.std(axis=0)])
    found, p_values = group_likelihoods(
        kinetics_of(RATES), on, off, u, s, deviation, weights, codes, N_GROUPS
    )  # fmt: skip
    expected = plain_kinetics.group_likelihoods(RATES, on, off, u, s, deviation, weights, groups_of(codes))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    assert ((p_values >= 0) & (p_values <= 1)).all()
    assert p_values[0, 1] == 1


def test_a_group_off_the_curve_is_explained_worse():
    u, s, weights, on, off, codes = cells()
    deviation = np.stack([u.std(axis=0), s.std(axis=0)])
    arguments = deviation, weights, codes, N_GROUPS
    before, _ = group_likelihoods(kinetics_of(RATES), on, off, u, s, *arguments)
    s = s.copy()
    s[codes == 1] *= 1.4
    after, p_values = group_likelihoods(kinetics_of(RATES), on, off, u, s, *arguments)
    assert (after[1] < before[1]).all()
    assert (after.argmin(axis=0) == 1).mean() > 0.5
    assert (p_values[1] > 0.9).all()
    assert (p_values[[0, 2, 3]].min(axis=0) < 0.05).all()


@pytest.mark.usefixtures("two_genes_at_once")
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_kinetic_tests_equal_numpy(shift):
    u, s, weights, _, _, codes = cells()
    s[codes == 2] *= shift
    u[3:5], s[4:7] = 0, 0
    found = kinetic_p_values(kinetics_of(RATES), u, s, weights, codes, N_GROUPS)
    groups = groups_of(codes)
    expected = [
        plain_kinetics.kinetic_p_values(x, y, rates, weights, groups)
        for x, y, rates in zip(u.T, s.T, RATES, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


def own_kinetics(seed=0):
    """A further group in the steady state of a degradation that is a third of the others'."""
    u, s, _, _, _, codes = cells(seed)
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.5, 1, (40, 1))
    alpha, beta, gamma, _, scaling = RATES.T
    u_own = share * alpha / beta * scaling * np.exp(rng.normal(0, 0.04, (40, len(RATES))))
    s_own = share * alpha / (gamma / 3) * np.exp(rng.normal(0, 0.04, (40, len(RATES))))
    weights = neighborhood_weights(line_graph(N_CELLS + 40, 6))
    return np.r_[u, u_own], np.r_[s, s_own], weights, np.r_[codes, np.full(40, 4)]


def test_a_group_with_its_own_kinetics_is_found():
    u, s, weights, codes = own_kinetics()
    p_values = kinetic_p_values(kinetics_of(RATES), u, s, weights, codes, 5)
    assert (p_values[:, 4] < 1e-6).all()
    assert (np.nan_to_num(p_values[:, :4], nan=1) > 0.01).all()


def test_without_its_own_kinetics_none_is_found():
    u, s, weights, _, _, codes = cells(1)
    p_values = kinetic_p_values(kinetics_of(RATES), u, s, weights, codes, N_GROUPS)
    assert (np.nan_to_num(p_values, nan=1) > 0.01).all()


def test_groups_and_genes_with_little_to_see():
    u, s, weights, _, _, codes = cells()
    codes[codes == 3] = -1
    codes[np.flatnonzero(codes == -1)[:5]] = 3
    u[:, 0] = 0
    s[:, 1] = 1
    p_values = kinetic_p_values(kinetics_of(RATES), u, s, weights, codes, N_GROUPS)
    np.testing.assert_array_equal(p_values[:, 3], 1)  # five cells
    assert np.isnan(p_values[:2, :3]).all()
    assert np.isfinite(p_values[2:]).any(axis=1).all()
