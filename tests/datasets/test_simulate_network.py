import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo import datasets
from jaxvelo.datasets._network_trajectories import STEP, Kinetics, levels, network_trajectories, signal
from jaxvelo.datasets._regulatory_network import regulatory_network

pytestmark = pytest.mark.any_precision


@pytest.fixture(scope="module")
def simulated():
    return datasets.simulate_network(600, 40, n_simulations=50, seed=1)


@pytest.fixture(scope="module")
def network():
    return regulatory_network(np.random.default_rng(2), 30, 2)


def kinetics(network):
    rng = np.random.default_rng(3)
    gamma = rng.uniform(0.15, 0.4, 30)
    return Kinetics(
        gamma * rng.uniform(10, 60, 30), rng.uniform(0.3, 1.5, 30), gamma, rng.uniform(0.1, 0.2, len(network.factors))
    )


def activity(network, gene, level):
    """Hill functions, one by one."""
    without_activators, without_repressors = 1.0, 1.0
    for slot in range(network.sign.shape[1]):
        threshold, steepness = network.threshold[gene, slot], network.steepness[gene, slot]
        free = threshold**steepness / (threshold**steepness + level[network.regulator[gene, slot]] ** steepness)
        if network.sign[gene, slot] > 0:
            without_activators *= free
        if network.sign[gene, slot] < 0:
            without_repressors *= free
    return (1 - (1 - network.basal[gene]) * without_activators) * without_repressors


def test_activity_is_made_of_hill_functions(network):
    levels = np.random.default_rng(0).uniform(0.0, 1.0, (3, 1 + len(network.factors)))
    levels[2] = 0.0
    expected = [[activity(network, gene, level) for gene in range(30)] for level in levels]
    np.testing.assert_allclose(network.activity(levels), expected, rtol=1e-12)
    assert (network.activity(levels) > 0).all()
    assert (network.activity(levels) <= 1).all()


def test_without_noise_the_equations_are_solved(network):
    rates = kinetics(network)
    states = list(network_trajectories(None, network, rates, 1, 121))
    # Euler's method in small steps, from the same start.
    n, h = len(network.factors), 0.02
    u, s, y = (np.array(x[0]) for x in (states[0].unspliced, states[0].spliced, states[0].protein))
    for i in range(round(120 * STEP / h)):
        rate = rates.alpha * network.activity(np.array([[1.0 - np.exp(-i * h / 20.0), *y]]))[0]
        u, s, y = (
            u + h * (rate - rates.beta * u),
            s + h * (rates.beta * u - rates.gamma * s),
            y + h * rates.delta * (s[:n] * rates.gamma[:n] / rates.alpha[:n] - y),
        )
    full = rates.alpha / rates.gamma
    np.testing.assert_allclose(states[-1].spliced[0] / full, s / full, atol=0.02)
    np.testing.assert_allclose(states[-1].protein[0], y, atol=0.02)
    assert np.abs(states[-1].spliced[0] - states[0].spliced[0]).max() > 5

    # The velocity is the slope of the expectation, and transcription changes gradually.
    spliced, unspliced = (
        np.concatenate([getattr(x, f"mean_{name}") for x in states]) for name in ("spliced", "unspliced")
    )
    velocity = rates.beta * unspliced - rates.gamma * spliced
    slope = (spliced[2:] - spliced[:-2]) / (2 * STEP)
    np.testing.assert_allclose(velocity[1:-1], slope, atol=0.03 * np.abs(velocity).max())
    protein = np.concatenate([x.protein for x in states])
    transcription = network.activity(levels(protein, signal(np.arange(121) * STEP)))
    assert np.abs(np.diff(transcription, axis=0)).max() < 0.1
    assert np.ptp(transcription, axis=0).max() > 0.5


def test_what_is_stated_is_there(simulated):
    assert simulated.shape == (600, 40)
    for layer in ("spliced", "unspliced"):
        counts = simulated.layers[layer]
        assert isinstance(counts, sp.csr_matrix)
        assert counts.dtype == np.float32
        assert counts.data.min() >= 1
        np.testing.assert_array_equal(counts.data, np.round(counts.data))
        molecules = simulated.layers[f"{layer}_molecules"]
        assert molecules.min() >= 0
        np.testing.assert_array_equal(molecules, np.round(molecules))
    assert (simulated.layers["spliced"] != simulated.X).nnz == 0
    assert {"true_spliced", "true_unspliced", "true_transcription", "true_velocity"} <= set(simulated.layers)
    assert list(simulated.var) == [
        *("true_alpha", "true_beta", "true_gamma", "true_log_ratio", "true_capture", "program")
    ]  # fmt: skip
    assert {"true_time", "simulation", "lineage", "true_fate", "true_depth", "clusters"} <= set(simulated.obs)
    assert list(simulated.obs["clusters"].cat.categories) == ["Progenitor", "Intermediate", "Fate A", "Fate B"]
    assert len(simulated.uns["clusters_colors"]) == 4
    factors = simulated.uns["simulation"]["factors"]
    assert list(simulated.var["program"][: len(factors)]) == factors
    assert simulated.varm["regulation"].shape == (40, len(factors))
    constant = (simulated.var["program"] == "constant").to_numpy()
    np.testing.assert_array_equal(
        (simulated.varm["regulation"] == 0).all(axis=1)[len(factors) :], constant[len(factors) :]
    )
    ratio = np.log(simulated.var["true_gamma"] / simulated.var["true_beta"])
    np.testing.assert_allclose(simulated.var["true_log_ratio"], ratio, rtol=1e-12)


def test_velocity_and_molecules_belong_together(simulated):
    var, u, s = simulated.var, simulated.layers["true_unspliced"], simulated.layers["true_spliced"]
    velocity = var["true_beta"].to_numpy() * u - var["true_gamma"].to_numpy() * s
    np.testing.assert_allclose(simulated.layers["true_velocity"], velocity, rtol=1e-3, atol=1e-3)
    # Genes that regulate nothing are Poisson around what is expected from their transcription.
    targets = slice(len(simulated.uns["simulation"]["factors"]), None)
    for name, mean in (("unspliced", u[:, targets]), ("spliced", s[:, targets])):
        residual = simulated.layers[f"{name}_molecules"][:, targets] - mean
        assert residual.sum() / mean.sum() == pytest.approx(0.0, abs=0.01)
        assert (residual**2).sum() / mean.sum() == pytest.approx(1.0, abs=0.05)


def test_counts_are_molecules_times_depth_and_efficiency(simulated):
    depth = simulated.obs["true_depth"].to_numpy()[:, None]
    efficiency = {"spliced": 1.0, "unspliced": simulated.var["true_capture"].to_numpy()}
    totals = {}
    for layer, factor in efficiency.items():
        counts, expected = simulated.layers[layer].toarray(), depth * simulated.layers[f"{layer}_molecules"] * factor
        totals[layer] = counts.sum()
        assert counts.sum() / expected.sum() == pytest.approx(1.0, abs=0.02)
        assert ((counts - expected) ** 2).sum() / expected.sum() == pytest.approx(1.0, abs=0.05)
    assert sum(totals.values()) / simulated.n_obs / simulated.n_vars == pytest.approx(2.0, abs=0.05)
    assert totals["unspliced"] / sum(totals.values()) == pytest.approx(0.18, abs=0.08)


def test_normalized_counts_are_molecules_times_one_factor(simulated):
    adata = simulated.copy()
    jv.pp.filter_and_normalize(adata, log=False)
    factor = simulated.uns["simulation"]["normalized_per_molecule"]
    for layer, efficiency in (("spliced", 1.0), ("unspliced", simulated.var["true_capture"].to_numpy())):
        for cells in (simulated.obs["true_time"] < 40, simulated.obs["true_time"] > 80):
            expected = factor * efficiency * simulated.layers[f"{layer}_molecules"][cells]
            assert adata.layers[layer][cells.to_numpy()].sum() / expected.sum() == pytest.approx(1.0, abs=0.03)


def test_noise_decides_between_the_fates(simulated):
    obs = simulated.obs
    assert (obs.groupby("simulation", observed=True)["lineage"].nunique() == 1).all()
    number = obs.drop_duplicates("simulation")["lineage"].value_counts()
    assert number.min() >= 10  # of 50
    known = obs["true_fate"].notna()
    assert (obs["true_fate"][known] == obs["lineage"][known]).all()
    assert (obs["clusters"][known].astype(str) == obs["true_fate"][known].astype(str)).all()
    assert known[obs["true_time"] > 110].mean() > 0.5
    assert not known[obs["true_time"] < 30].any()

    # Of the deciding genes, the one of the fate is on and the other is off.
    spliced = pd.DataFrame(simulated.layers["true_spliced"], index=obs.index, columns=simulated.var["program"])
    difference = spliced["deciding A"] - spliced["deciding B"]
    assert (difference[obs["true_fate"] == "Fate A"] > 0).mean() > 0.98
    assert (difference[obs["true_fate"] == "Fate B"] < 0).mean() > 0.98

    probabilities = simulated.obsm["true_fate_probabilities"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    own = probabilities[np.arange(600), obs["lineage"].cat.codes]
    assert own[known].min() > 0.7
    early = (obs["true_time"] < 20).to_numpy()
    assert np.abs(probabilities[early] - 0.5).max() < 0.35
    # Probabilities hold: of the cells that are not committed, as many come to fate A as they say.
    open_, is_first = ~known.to_numpy(), (obs["lineage"] == "Fate A").to_numpy()
    assert probabilities[open_, 0].mean() == pytest.approx(is_first[open_].mean(), abs=0.15)


def test_three_fates():
    adata = datasets.simulate_network(60, 20, 3, n_simulations=30, seed=4)
    assert list(adata.obs["lineage"].cat.categories) == ["Fate A", "Fate B", "Fate C"]
    assert adata.obs["lineage"].value_counts().min() >= 3
    assert adata.obsm["true_fate_probabilities"].shape == (60, 3)
    assert len(adata.uns["clusters_colors"]) == 5


def test_future_is_the_next_cell_of_the_simulation(simulated):
    future = simulated.obsp["true_future"].toarray()
    time, simulation = simulated.obs["true_time"].to_numpy(), simulated.obs["simulation"].to_numpy()
    for cell in range(0, 600, 7):
        later = np.flatnonzero((simulation == simulation[cell]) & (time > time[cell]))
        expected = later[time[later] == time[later].min()] if len(later) else []
        np.testing.assert_array_equal(np.flatnonzero(future[cell]), expected)


def test_same_seed_same_data():
    first, again = (datasets.simulate_network(40, 20, n_simulations=20, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.obs, again.obs)
    pd.testing.assert_frame_equal(first.var, again.var)
    for layer in first.layers:
        assert abs(first.layers[layer] - again.layers[layer]).max() == 0
    np.testing.assert_array_equal(*(x.obsm["true_fate_probabilities"] for x in (first, again)))


def test_other_seed_other_network():
    one, two = (regulatory_network(np.random.default_rng(seed), 20, 2) for seed in (3, 4))
    assert (one.sign != two.sign).any()
    assert (one.threshold != two.threshold).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_branches": 1}, "`n_branches` to be 2 or 3, found `1`"),
        ({"n_branches": True}, "`n_branches` to be 2 or 3, found `True`"),
        ({"n_branches": 2.0}, "`n_branches` to be 2 or 3, found `2.0`"),
        ({"n_cells": 19}, "`n_cells` to be at least 20"),
        ({"n_cells": 100.0}, "`n_cells` to be an integer"),
        ({"n_genes": 11}, "`n_genes` to be at least 12"),
        ({"n_genes": 14, "n_branches": 3}, "`n_genes` to be at least 15"),
        ({"n_simulations": 9}, "`n_simulations` to be at least 10"),
        ({"n_simulations": 200, "n_cells": 100}, r"`n_simulations` to be at most `n_cells` \(100\), found `200`"),
        ({"unspliced_fraction": 1.0}, "`unspliced_fraction`"),
        ({"unspliced_fraction": "a"}, "`unspliced_fraction` to lie between 0 and 1, found `'a'`"),
        ({"counts_per_gene": "a"}, "`counts_per_gene`"),
        ({"depth_spread": None}, "`depth_spread`"),
        ({"counts_per_gene": float("nan")}, "`counts_per_gene`"),
        ({"depth_spread": -0.1}, "`depth_spread`"),
    ],
)
def test_simulate_network_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.simulate_network(**arguments)
