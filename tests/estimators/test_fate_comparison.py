"""Comparison of fates between conditions: calibrated without a difference, finds a known one, says what it cannot."""

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.stats as st

from jaxvelo.estimators._fate_comparison import compare_fates, compare_samples, smallest_p_value

pytestmark = pytest.mark.any_precision


def simulated(n_samples=(4, 4), shift=0.0, n_cells=30, seed=0):
    """Cells of two types in samples of two conditions; more Beta in the second, in type y alone."""
    rng = np.random.default_rng(seed)
    sample = np.repeat(np.arange(sum(n_samples)), n_cells)
    condition = np.where(sample < n_samples[0], "control", "treated")
    kind = np.where(rng.random(len(sample)) < 0.5, "x", "y")
    logit = rng.normal(scale=0.3, size=sum(n_samples))[sample] + rng.normal(size=len(sample))
    beta = 1 / (1 + np.exp(-logit - shift * (condition == "treated") * (kind == "y")))
    states = pd.Categorical(np.where(np.arange(len(sample)) % n_cells, None, np.where(kind == "x", "Alpha", "Beta")))
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(condition),
            "sample": sample,  # numbers, as they often are
            "clusters": pd.Categorical(kind),
            "term_states_fwd": states,
        },
        index=[f"c{i}" for i in range(len(sample))],
    )
    return ad.AnnData(np.zeros((len(sample), 1)), obs=obs, obsm={"lineages_fwd": np.stack([1 - beta, beta], axis=1)})


def test_by_hand():
    adata = simulated(shift=1.0)
    table = compare_fates(adata, "condition", "sample", lineages="Beta").iloc[0]
    means = pd.Series(adata.obsm["lineages_fwd"][:, 1]).groupby(adata.obs["sample"].to_numpy()).mean().to_numpy()
    control, treated = means[:4], means[4:]
    assert table["lineage"] == "Beta"
    assert (table["n_samples_control"], table["n_samples_treated"]) == (4, 4)
    np.testing.assert_allclose([table["mean_control"], table["mean_treated"]], [control.mean(), treated.mean()])
    np.testing.assert_allclose(table["difference"], treated.mean() - control.mean())
    interval = st.ttest_ind(treated, control, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([table["ci_low"], table["ci_high"]], [interval.low, interval.high])
    pooled = np.sqrt((control.var(ddof=1) + treated.var(ddof=1)) / 2)
    np.testing.assert_allclose(table["effect_size"], (1 - 3 / 23) * table["difference"] / pooled)
    arrangements = [
        abs(means[list(some)].mean() - np.delete(means, some).mean()) for some in itertools.combinations(range(8), 4)
    ]
    expected = np.mean(np.array(arrangements) >= abs(table["difference"]) - 1e-12)
    np.testing.assert_allclose([table["pval"], table["qval"]], [expected, expected])


def test_groups_and_q_values():
    adata = simulated((5, 5), shift=3.0)
    table = compare_fates(adata, "condition", "sample", groupby="clusters")
    assert list(table["group"]) == ["x", "x", "y", "y"]
    assert list(table["lineage"]) == ["Alpha", "Beta"] * 2
    assert table["pval"].iloc[3] == pytest.approx(2 / 252)
    assert table["pval"].iloc[1] > 0.05
    assert table["difference"].iloc[3] > 0.2
    np.testing.assert_allclose(table["qval"], st.false_discovery_control(table["pval"]))
    turned = compare_fates(adata, "condition", "sample", groupby="clusters", conditions=["treated", "control"])
    np.testing.assert_allclose(turned["difference"], -table["difference"], atol=1e-15)
    np.testing.assert_allclose(turned["pval"], table["pval"])
    np.testing.assert_allclose(turned["mean_control"], table["mean_control"])


@pytest.mark.parametrize("n_perms", [1000, 199])  # of the 252 arrangements, all or some at random
def test_calibrated_without_a_difference(n_perms):
    """5 % of p-values below 0.05, whatever the distribution of the samples, and intervals that hold zero."""
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(10, 2000))
    found = compare_samples(values, np.arange(10) >= 5, n_perms=n_perms, seed=0)
    assert 0.035 < (found.pval <= 0.05).mean() < 0.065
    assert 0.17 < (found.pval <= 0.2).mean() < 0.23
    assert 0.93 < ((found.ci_low <= 0) & (found.ci_high >= 0)).mean() < 0.99
    assert found.pval.min() >= 1 / (n_perms + 1)


def test_power():
    """A shift by two standard deviations between samples: found in most, its interval holds it."""
    rng = np.random.default_rng(0)
    second = np.arange(12) >= 6
    values = rng.normal(size=(12, 500)) + 2 * second[:, None]
    found = compare_samples(values, second, n_perms=1000, seed=0)
    # As often as the t-test, whose assumptions hold here.
    t = st.ttest_ind(values[second], values[~second]).pvalue
    assert (found.pval <= 0.05).mean() > (t <= 0.05).mean() - 0.05 > 0.8
    assert 0.93 < ((found.ci_low <= 2) & (found.ci_high >= 2)).mean() < 0.97
    np.testing.assert_allclose(found.effect_size.mean(), 2, atol=0.1)


def test_cells_of_a_sample_are_no_repetitions():
    """Samples differ, conditions do not: by cells the difference would often look certain, by samples it does not."""
    by_samples, by_cells = [], []
    for seed in range(40):
        adata = simulated((5, 5), n_cells=100, seed=seed)
        by_samples.append(compare_fates(adata, "condition", "sample", "Beta")["pval"].iloc[0])
        beta, treated = adata.obsm["lineages_fwd"][:, 1], adata.obs["condition"] == "treated"
        by_cells.append(st.ttest_ind(beta[treated], beta[~treated]).pvalue)
    assert np.mean(np.array(by_samples) <= 0.05) < 0.12
    assert np.mean(np.array(by_cells) <= 0.05) > 0.3


def test_random_arrangements_follow_the_seed():
    adata = simulated((8, 8), shift=0.3)
    first, again, other = (compare_fates(adata, "condition", "sample", n_perms=500, seed=s)["pval"] for s in (1, 1, 2))
    pd.testing.assert_series_equal(first, again)
    assert not first.equals(other)


def test_samples_without_cells_in_a_group(logged):
    adata = simulated((3, 3))
    adata = adata[~((adata.obs["clusters"] == "x") & (adata.obs["sample"] < 2))].copy()
    table = compare_fates(adata, "condition", "sample", groupby="clusters")
    assert "['x']" in logged()
    assert list(table["n_samples_control"]) == [1, 1, 3, 3]
    tests = table[["ci_low", "ci_high", "effect_size", "pval", "qval"]]
    assert tests[:2].isna().all(axis=None)
    assert tests[2:].notna().all(axis=None)
    assert np.isfinite(table["difference"]).all()


def test_cells_without_condition_or_sample_do_not_count():
    adata = simulated()
    expected = compare_fates(adata, "condition", "sample")
    more = ad.concat([adata, simulated(seed=1)], index_unique="_")
    more.obs["condition"] = more.obs["condition"].cat.add_categories("other")
    more.obs.iloc[adata.n_obs : adata.n_obs + 9, more.obs.columns.get_loc("condition")] = None
    more.obs.iloc[adata.n_obs + 9 :, more.obs.columns.get_loc("condition")] = "other"
    more.obs.loc[more.obs["condition"] == "other", "sample"] = 99
    more.obs["sample"] = more.obs["sample"].where(more.obs["condition"].notna())
    found = compare_fates(more, "condition", "sample", conditions=["control", "treated"])
    pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(ValueError, match=r"two conditions.*'other'.*`conditions=`"):
        compare_fates(more, "condition", "sample")


def test_samples_that_do_not_differ():
    values = np.stack([np.full(4, 0.25), np.array([0.1, 0.1, 0.9, 0.9])], axis=1)
    found = compare_samples(values, np.arange(4) >= 2)
    np.testing.assert_array_equal(found.difference, [0, 0.8])
    np.testing.assert_array_equal(found.ci_low, found.difference)
    assert np.isnan(found.effect_size).all()
    np.testing.assert_allclose(found.pval, [1, 2 / 6])


def test_smallest_p_value(logged):
    """It is what the most extreme samples give, and said where it is not small."""
    for n_first, n_second in [(2, 2), (2, 3), (3, 3), (1, 4)]:
        values = np.arange(n_first + n_second)[::-1, None] ** 3.0
        assert smallest_p_value(1, 1) == 1
        if n_first > 1:
            found = compare_samples(values, np.arange(len(values)) >= n_first).pval[0]
            assert found == pytest.approx(smallest_p_value(n_first, n_second))
    compare_fates(simulated((2, 3)), "condition", "sample")
    assert "no p-value can be below 0.1" in logged()
    compare_fates(simulated((4, 4)), "condition", "sample")
    assert not logged()


def test_one_sample_of_a_condition():
    with pytest.raises(ValueError, match=r"1 of 'control' and 4 of 'treated'.*below 0\.2"):
        compare_fates(simulated((1, 4)), "condition", "sample")


def test_samples_in_both_conditions():
    adata = simulated()
    adata.obs["sample"] = np.arange(adata.n_obs) % 4
    with pytest.raises(ValueError, match=r"found \['0', '1', '2', '3'\] in both"):
        compare_fates(adata, "condition", "sample")


def test_bad_fates():
    adata = simulated()
    adata.obsm["lineages_fwd"][[3, 5], 0] = np.nan
    with pytest.raises(ValueError, match="2 of 240 cells"):
        compare_fates(adata, "condition", "sample")
    del adata.obsm["lineages_fwd"]
    with pytest.raises(KeyError, match="compute_fate_probabilities"):
        compare_fates(adata, "condition", "sample")


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (KeyError, "in `lineages`, found .'Gamma'", {"lineages": "Gamma"}),
        (KeyError, "nowhere", {"groupby": "nowhere"}),
        (KeyError, "nowhere", {"sample_key": "nowhere"}),
        (KeyError, "nowhere", {"condition_key": "nowhere"}),
        (KeyError, "cured", {"conditions": ["control", "cured"]}),
        (ValueError, "two conditions", {"conditions": "control"}),
        (ValueError, "two conditions", {"conditions": ["control", "control"]}),
        (ValueError, "`n_perms`", {"n_perms": 0}),
        (ValueError, "`seed`", {"seed": 0.5}),
        (ValueError, "`confidence_level`", {"confidence_level": 1.0}),
        (KeyError, "lineages_bwd", {"backward": True}),
    ],
)
def test_bad_input(error, match, arguments):
    with pytest.raises(error, match=match):
        compare_fates(simulated(), **{"condition_key": "condition", "sample_key": "sample", **arguments})
