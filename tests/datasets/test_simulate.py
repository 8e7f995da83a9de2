import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo import datasets
from jaxvelo.datasets import _simulate
from tests.datasets.conftest import nearest

pytestmark = pytest.mark.any_precision


@pytest.fixture(scope="module")
def simulated():
    return datasets.simulate(seed=1)


def integrate(time, alpha, beta, gamma, on, off, steps=4000):
    """One gene by the midpoint rule from 100 hours before, switches by hand: slow, plain and independent."""
    start = min(0.0, off) if on == -np.inf else -10.0
    u, s = (alpha / beta, alpha / gamma) if on == -np.inf else (0.0, 0.0)
    stops = sorted({start, time, *(x for x in (on, off) if start < x < time)})
    for low, high in itertools.pairwise(stops):
        rate = alpha if on <= low < off else 0.0
        h = (high - low) / steps
        for _ in range(steps):
            u_half = u + 0.5 * h * (rate - beta * u)
            s_half = s + 0.5 * h * (beta * u - gamma * s)
            u, s = u + h * (rate - beta * u_half), s + h * (beta * u_half - gamma * s_half)
    return u, s


@pytest.mark.parametrize(
    ("time", "alpha", "beta", "gamma", "on", "off"),
    [
        (3.0, 2.0, 1.0, 0.2, 1.0, np.inf),
        (7.0, 2.0, 1.0, 0.2, 1.0, 4.0),
        (7.0, 2.0, 0.5, 0.5, 1.0, 4.0),  # equal rates
        (7.0, 2.0, 0.5, 0.5 + 1e-9, 1.0, np.inf),  # nearly equal rates
        (5.0, 3.0, 0.7, 0.3, -np.inf, 2.0),
        (5.0, 3.0, 0.7, 0.3, -np.inf, -2.0),
        (5.0, 3.0, 0.7, 0.3, -np.inf, np.inf),
        (0.5, 3.0, 0.7, 0.3, 1.0, 4.0),  # not yet on
        (5.0, 3.0, 0.7, 0.3, np.inf, np.inf),  # never on
        (2.0, 3.0, 0.7, 0.3, -3.0, -1.0),  # on and off before the first cell
    ],
)
def test_splicing_state_solves_the_equations(time, alpha, beta, gamma, on, off):
    found = datasets.splicing_state(*map(np.array, (time, alpha, beta, gamma, on, off)))
    np.testing.assert_allclose(found, integrate(time, alpha, beta, gamma, on, off), rtol=2e-4, atol=1e-9)


@given(
    st.floats(0.1, 2.0),
    st.floats(0.1, 2.0),
    st.floats(-2.0, 10.0),
    st.floats(0.1, 10.0),
    st.floats(0.0, 24.0),
)
@settings(max_examples=60, deadline=None)
def test_velocity_is_the_slope_of_the_expression(beta, gamma, on, duration, time):
    off, h = on + duration, 1e-4
    if min(abs(time - on), abs(time - off)) < 2 * h:
        return  # the slope of u jumps there

    def state(t):
        return datasets.splicing_state(*map(np.array, (t, 1.5, beta, gamma, on, off)))

    u, s = state(time)
    slope = (state(time + h)[1] - state(time - h)[1]) / (2 * h)
    np.testing.assert_allclose(slope, beta * u - gamma * s, rtol=1e-4, atol=1e-6)
    assert u >= 0
    assert s >= -1e-12


def test_simulation_is_complete_and_of_the_stated_types(simulated):
    assert simulated.shape == (1000, 200)
    for layer in ("spliced", "unspliced"):
        counts = simulated.layers[layer]
        assert isinstance(counts, sp.csr_matrix)
        assert counts.dtype == np.float32
        np.testing.assert_array_equal(counts.data, np.round(counts.data))
        assert counts.data.min() >= 1
    assert (simulated.layers["spliced"] != simulated.X).nnz == 0
    assert list(simulated.obs["clusters"].cat.categories) == ["Progenitor", "Intermediate", "Fate A", "Fate B"]
    assert len(simulated.uns["clusters_colors"]) == 4
    assert simulated.obsm["X_umap"].shape == (1000, 2)
    assert simulated.obsm["X_umap3d"].shape == (1000, 3)
    assert simulated.obs_names.is_unique
    assert simulated.var_names.is_unique


def test_truth_is_consistent(simulated):
    var, u, s = simulated.var, simulated.layers["true_unspliced"], simulated.layers["true_spliced"]
    slope = var["true_beta"].to_numpy() * u - var["true_gamma"].to_numpy() * s
    np.testing.assert_allclose(simulated.layers["true_velocity"], slope, rtol=1e-4, atol=1e-4)

    branching = simulated.uns["simulation"]["branching_time"]
    trunk = simulated.obs["true_time"].to_numpy() < branching
    np.testing.assert_array_equal(simulated.obs["true_fate"].isna(), trunk)
    assert (simulated.obs["true_fate"][~trunk] == simulated.obs["lineage"][~trunk]).all()
    assert (simulated.obs["clusters"][~trunk].astype(str) == simulated.obs["lineage"][~trunk].astype(str)).all()
    assert set(simulated.obs["clusters"][trunk]) == {"Progenitor", "Intermediate"}
    probabilities = simulated.obsm["true_fate_probabilities"]
    np.testing.assert_array_equal(probabilities[trunk], 0.5)
    np.testing.assert_array_equal(probabilities[~trunk].argmax(axis=1), simulated.obs["lineage"].cat.codes[~trunk])
    np.testing.assert_array_equal(probabilities.sum(axis=1), 1.0)


def test_expression_follows_from_the_stored_rates_and_switches(simulated):
    rng = np.random.default_rng(0)
    for cell, gene in zip(rng.integers(0, 1000, 8), rng.integers(0, 200, 8), strict=True):
        branch = simulated.obs["lineage"].cat.codes.iloc[cell]
        rates = simulated.var.iloc[gene][["true_alpha", "true_beta", "true_gamma"]].astype(float)
        on, off = simulated.varm["true_on"][gene, branch], simulated.varm["true_off"][gene, branch]
        expected = integrate(simulated.obs["true_time"].iloc[cell], *rates, on, off)
        found = simulated.layers["true_unspliced"][cell, gene], simulated.layers["true_spliced"][cell, gene]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_lineages_are_one_before_the_branching_and_differ_after(simulated):
    var, branching = simulated.var, simulated.uns["simulation"]["branching_time"]
    rates = [var[f"true_{name}"].to_numpy() for name in ("alpha", "beta", "gamma")]
    states = {
        time: [
            datasets.splicing_state(
                np.array(time), *rates, simulated.varm["true_on"][:, b], simulated.varm["true_off"][:, b]
            )[1]
            for b in range(2)
        ]
        for time in (0.0, 4.0, branching, 24.0)
    }
    for time in (0.0, 4.0, branching):
        np.testing.assert_array_equal(*states[time])
    assert np.abs(states[24.0][0] - states[24.0][1]).max() > 5


def test_counts_look_like_real_ones(simulated):
    spliced, unspliced = simulated.layers["spliced"], simulated.layers["unspliced"]
    share = unspliced.sum() / (spliced.sum() + unspliced.sum())
    assert 0.15 < share < 0.22
    assert 0.3 < spliced.nnz / 200_000 < 0.6
    assert 0.1 < unspliced.nnz / 200_000 < 0.3
    # unbiased given the truth: the mean ratio to depth times molecules is 1 within its error
    depth = simulated.obs["true_depth"].to_numpy()[:, None]
    for layer in ("spliced", "unspliced"):
        expected = depth * simulated.layers[f"true_{layer}"]
        assert simulated.layers[layer].sum() / expected.sum() == pytest.approx(1.0, abs=0.01)
    # negative binomial: variance of the counts around their mean is mean + 0.1 mean²
    expected = depth * simulated.layers["true_spliced"]
    residual = (spliced.toarray() - expected) ** 2
    assert residual.sum() / (expected + 0.1 * expected**2).sum() == pytest.approx(1.0, abs=0.05)


def test_options_do_what_they_say():
    few = datasets.simulate(300, 50, unspliced_fraction=0.4, counts_per_gene=0.5, dispersion=0.0, depth_spread=0.0)
    spliced, unspliced = few.layers["spliced"], few.layers["unspliced"]
    assert unspliced.sum() / (spliced.sum() + unspliced.sum()) == pytest.approx(0.4, abs=0.08)
    assert (spliced.sum() + unspliced.sum()) / few.n_obs / few.n_vars == pytest.approx(0.5, rel=0.05)
    assert few.obs["true_depth"].nunique() == 1
    spread = datasets.simulate(1000, 50, depth_spread=0.5)
    assert np.log(spread.obs["true_depth"]).std() == pytest.approx(0.5, rel=0.1)


def test_same_seed_same_data():
    first, again, other = (datasets.simulate(60, 20, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.obs, again.obs)
    pd.testing.assert_frame_equal(first.var, again.var)
    for layer in first.layers:
        assert abs(first.layers[layer] - again.layers[layer]).max() == 0
    np.testing.assert_array_equal(first.obsm["X_umap"], again.obsm["X_umap"])
    assert abs(first.X - other.X).max() > 0


def moments(adata, k=30):
    """Normalised counts averaged over the k nearest cells in log counts, in plain NumPy."""
    sizes = {name: adata.layers[name].toarray().astype(float) for name in ("spliced", "unspliced")}
    scaled = {name: x / x.sum(axis=1, keepdims=True) * np.median(x.sum(axis=1)) for name, x in sizes.items()}
    logged = np.log1p(scaled["spliced"])
    logged -= logged.mean(axis=0)
    _, _, components = np.linalg.svd(logged, full_matrices=False)
    neighbors = nearest(logged @ components[:20].T, k)
    return neighbors, scaled["spliced"][neighbors].mean(axis=1), scaled["unspliced"][neighbors].mean(axis=1)


def steady_state_velocity(ms, mu):
    """La Manno's fit through the extreme cells, in plain NumPy."""
    weight = ms / ms.max(axis=0) + mu / mu.max(axis=0)
    extreme = (weight <= np.percentile(weight, 5, axis=0)) | (weight >= np.percentile(weight, 95, axis=0))
    return mu - (extreme * mu * ms).sum(axis=0) / (extreme * ms * ms).sum(axis=0) * ms


@pytest.mark.parametrize("n_branches", [1, 2, 3])
def test_velocities_estimated_from_the_counts_point_along_the_branches(n_branches):
    adata = datasets.simulate(600, 150, n_branches, seed=2)
    neighbors, ms, mu = moments(adata)
    velocity = steady_state_velocity(ms, mu)
    truth = adata.layers["true_velocity"] / adata.var["true_beta"].to_numpy()  # the fit has beta = 1
    cosine = (velocity * truth).sum(axis=1) / np.linalg.norm(velocity, axis=1) / np.linalg.norm(truth, axis=1)
    assert cosine.mean() > 0.45
    assert (cosine > 0).mean() > 0.85

    # arrows in the embedding, by CellRank's rule, against where later cells of the lineage are
    place, time = adata.obsm["X_umap"].astype(float), adata.obs["true_time"].to_numpy()
    lineage = adata.obs["lineage"].cat.codes.to_numpy()
    agreement = []
    for cell in range(adata.n_obs):
        later = (lineage == lineage[cell]) & (time > time[cell] + 0.5) & (time < time[cell] + 2.5)
        if not later.any():
            continue
        others = neighbors[cell][neighbors[cell] != cell]
        step = ms[others] - ms[cell]
        step -= step.mean(axis=1, keepdims=True)
        v = velocity[cell] - velocity[cell].mean()
        weight = np.exp(8 * step @ v / np.linalg.norm(step, axis=1) / np.linalg.norm(v))
        way = place[others] - place[cell]
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        arrow = weight / weight.sum() @ way - way.mean(axis=0)
        ahead = place[later].mean(axis=0) - place[cell]
        agreement.append(arrow @ ahead / np.linalg.norm(arrow) / np.linalg.norm(ahead))
    assert np.mean(agreement) > 0.7
    assert np.mean(np.array(agreement) > 0) > 0.95


@pytest.mark.parametrize("basis", ["X_umap", "X_umap3d"])
def test_embedding_keeps_the_neighbourhoods_of_the_expression(simulated, basis):
    time, lineage = simulated.obs["true_time"].to_numpy(), simulated.obs["lineage"].to_numpy()
    neighbors = nearest(simulated.obsm[basis].astype(float), 15)[:, 1:]
    assert np.abs(time[neighbors] - time[:, None]).mean() < 1.5  # of 24 hours
    late = time > 14
    same = np.asarray(lineage)[neighbors[late]] == np.asarray(lineage)[late][:, None]
    assert same.mean() > 0.98


@pytest.mark.parametrize(("n_cells", "n_genes", "n_branches"), [(10, 4, 1), (10, 5, 2), (25, 8, 5), (130, 29, 26)])
def test_smallest_simulations_have_every_cluster(n_cells, n_genes, n_branches):
    adata = datasets.simulate(n_cells, n_genes, n_branches)
    assert adata.shape == (n_cells, n_genes)
    assert (adata.obs["clusters"].value_counts() > 0).all()
    assert adata.obs["clusters"].nunique() == n_branches + 2
    assert len(adata.uns["clusters_colors"]) == n_branches + 2
    assert np.isfinite(adata.obsm["X_umap"]).all()
    assert all(np.isfinite(adata.layers[f"true_{name}"]).all() for name in ("spliced", "unspliced", "velocity"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 9}, "`n_cells` to be at least 10"),
        ({"n_cells": 14, "n_branches": 3}, "`n_cells` to be at least 15"),
        ({"n_cells": 100.0}, "`n_cells` to be an integer"),
        ({"n_genes": 4}, "`n_genes` to be at least 5"),
        ({"n_branches": 0}, "`n_branches` to be 1 to 26"),
        ({"n_branches": 27}, "`n_branches` to be 1 to 26"),
        ({"n_branches": True}, "`n_branches` to be an integer"),
        ({"n_branches": 2, "tree": ("A", "B")}, "`n_branches` or `tree`"),
        ({"tree": "Alpha"}, "two fates or more"),
        ({"tree": ("Alpha",)}, "a tuple of two or more branches"),
        ({"tree": (("Alpha", 2), "Beta")}, "found `2`"),
        ({"tree": ("Alpha", ("Beta", "Alpha"))}, r"\['Alpha'\] more than once"),
        ({"tree": ("Alpha", "Progenitor")}, "found 'Progenitor'"),
        ({"tree": ("Alpha", "Beta/Delta")}, "found 'Beta/Delta'"),
        ({"tree": tuple(map(str, range(27)))}, "26 fates at most, found 27"),
        ({"tree": (("A", "B"), "C"), "n_cells": 29}, "`n_cells` to be at least 30"),
        ({"tree": (("A", "B"), "C"), "n_genes": 6}, "`n_genes` to be at least 7"),
        ({"fractions": [0.5, 0.3, 0.2]}, "`fractions` to hold 2 numbers"),
        ({"fractions": 0.5}, "`fractions` to hold 2 numbers"),
        ({"fractions": {"Fate A": 0.5}}, "`fractions` to hold 2 numbers"),
        ({"fractions": [0.5, 0.6]}, "to sum to 1, found .* 1.1"),
        ({"fractions": [1.0, 0.0]}, "to be positive"),
        ({"fractions": [np.nan, 1.0]}, "to be positive"),
        ({"fractions": [0.98, 0.02], "n_cells": 100}, "at least 5 of the 100 cells, found 2 for 'Fate B'"),
        ({"unspliced_fraction": 0.0}, "`unspliced_fraction`"),
        ({"unspliced_fraction": float("nan")}, "`unspliced_fraction`"),
        ({"unspliced_fraction": "a"}, "`unspliced_fraction` to lie between 0 and 1, found `'a'`"),
        ({"counts_per_gene": "a"}, "`counts_per_gene`"),
        ({"depth_spread": None}, "`depth_spread`"),
        ({"counts_per_gene": -1.0}, "`counts_per_gene`"),
        ({"dispersion": -0.1}, "`dispersion`"),
        ({"depth_spread": np.inf}, "`depth_spread`"),
    ],
)
def test_simulate_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.simulate(**arguments)


def test_simulated_data_need_little_more_than_they_are(monkeypatch):
    """Blocks of molecules and noise come and go; doubles of all cells and genes are never there."""
    monkeypatch.setattr(_simulate, "BLOCK_VALUES", 1 << 14)
    datasets.simulate(20, 10)
    tracemalloc.start()
    adata = datasets.simulate(2_000, 200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    dense = 3 * adata.n_obs * adata.n_vars * 4
    sparse = sum(8 * matrix.nnz for matrix in (adata.X, adata.layers["spliced"], adata.layers["unspliced"]))
    assert peak < 1.5 * (dense + sparse) + (1 << 21)
