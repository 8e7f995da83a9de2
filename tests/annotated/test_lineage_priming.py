"""Degrees of priming: against CellRank's and SciPy's."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.stats as st

from jaxvelo.annotated.lineage_priming import find_lineage_priming, lineage_priming

pytestmark = pytest.mark.any_precision


@pytest.fixture
def fates():
    return np.random.default_rng(0).dirichlet([1, 2, 3], size=20)


@pytest.fixture
def adata():
    obs = pd.DataFrame({"clusters": pd.Categorical(["a", "b"] * 10)}, index=[f"c{i}" for i in range(20)])
    return ad.AnnData(np.zeros((20, 1)), obs=obs)


@pytest.mark.parametrize("method", ["kl_divergence", "entropy"])
def test_equal_to_reference(shared, method):
    with np.load(shared / "reference/pancreas_estimators.npz") as stored:
        found, expected = lineage_priming(stored["fate/direct"], method), stored[f"fate/priming_{method}"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["kl_divergence", "entropy"])
def test_equal_to_scipy(fates, method):
    early = np.arange(20) < 7
    mean = fates[early].mean(axis=0)
    raw = [st.entropy(row, mean) if method == "kl_divergence" else -st.entropy(row) for row in fates]
    expected = (np.array(raw) - min(raw)) / (max(raw) - min(raw))
    np.testing.assert_allclose(lineage_priming(fates, method, early), expected, rtol=1e-9, atol=1e-12)


def test_early_cells_by_name(adata, fates):
    early = (adata.obs["clusters"] == "a").to_numpy()
    expected = lineage_priming(fates, early_cells=early)
    for chosen in ({"clusters": "a"}, {"clusters": ["a"]}, early, list(adata.obs_names[early])):
        np.testing.assert_array_equal(find_lineage_priming(adata, fates, early_cells=chosen), expected)
    np.testing.assert_array_equal(find_lineage_priming(adata, fates), lineage_priming(fates))
    assert not np.array_equal(expected, lineage_priming(fates))


@pytest.mark.parametrize("method", ["kl_divergence", "entropy"])
def test_equally_committed_cells(method):
    """Neither NaN nor the errors of the fates, scaled up."""
    for error in (1e-16, 1e-11, 1e-8):
        few = np.array([0.2, 0.3, 0.5]) + error * np.arange(5)[:, None] * np.array([1, 0, -1])
        np.testing.assert_array_equal(lineage_priming(few, method), np.zeros(5))
        np.testing.assert_array_equal(lineage_priming(1 - error * np.arange(5.0)[:, None], method), np.zeros(5))


def test_fates_that_are_zero_or_below_by_rounding(fates):
    fates[0], fates[1] = [1, 0, 0], [1 + 1e-18, -1e-18, 0]
    for method in ("kl_divergence", "entropy"):
        degree = lineage_priming(fates, method)
        assert np.isfinite(degree).all()
        assert degree[0] == degree[1]
    assert degree[0] == 1


def test_bad_input(adata, fates):
    with pytest.raises(ValueError, match="`method`"):
        find_lineage_priming(adata, fates, "divergence")
    with pytest.raises(KeyError, match="nowhere"):
        find_lineage_priming(adata, fates, early_cells={"nowhere": "a"})
    with pytest.raises(ValueError, match="'z'"):
        find_lineage_priming(adata, fates, early_cells={"clusters": "z"})
    fates[::2] = [0.5, 0, 0.5]
    with pytest.raises(ValueError, match=r"found none for the lineages \[1\]"):
        find_lineage_priming(adata, fates, early_cells={"clusters": "a"})
    fates[3] = np.nan
    with pytest.raises(ValueError, match="1 cells without, such as 'c3'"):
        find_lineage_priming(adata, fates)
