"""Groups against the rest: SciPy's Welch test, and labels that say nothing."""

import numpy as np
import pytest
from scipy.stats import ttest_ind_from_stats

from jaxvelo.dynamics import group_contrast

pytestmark = pytest.mark.any_precision


def example(n_cells=90, n_genes=40, dtype=np.float64):
    rng = np.random.default_rng(0)
    codes = rng.choice([-1, 0, 1, 2], n_cells, p=[0.1, 0.2, 0.3, 0.4])
    values = rng.normal(5, 1, (n_cells, n_genes)) + (codes == 1)[:, None] * rng.normal(size=n_genes)
    return values.astype(dtype), codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("two_sided", [True, False])
def test_equals_scipy(dtype, two_sided, monkeypatch):
    """Also with missing values, which are left out, and with more genes than are taken at a time."""
    monkeypatch.setattr("jaxvelo.dynamics._gene_blocks.N_NUMBERS", 1000)
    values, codes = example(dtype=dtype)
    values[np.random.default_rng(1).random(values.shape) < 0.1] = np.nan
    contrast = group_contrast(values, codes, 3)
    p_values = contrast.p_values(two_sided)
    for c in range(3):
        group, rest = values[codes == c].astype(float), values[codes != c].astype(float)
        stats = [(np.nanmean(x, 0), np.nanstd(x, 0, ddof=1), np.isfinite(group).sum(0)) for x in (group, rest)]
        score, p = ttest_ind_from_stats(
            *stats[0], *stats[1], equal_var=False, alternative="two-sided" if two_sided else "greater"
        )
        np.testing.assert_allclose(contrast.score[c], score, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(p_values[c], p, rtol=1e-9)


def test_nothing_to_compare():
    values = np.ones((6, 4))
    values[0, 1], values[:3, 2], values[:2, 3] = 7, 3, np.nan
    contrast = group_contrast(values, np.array([0, 1, 1, 2, 2, -1]), 4)
    assert np.isfinite(contrast.degrees).all()
    np.testing.assert_array_equal(contrast.score[:, 0], 0)  # all the same
    assert contrast.score[0, 1] == np.inf  # a single cell that differs from equal ones
    np.testing.assert_array_equal(contrast.p_values(True)[0], 1)
    np.testing.assert_array_equal(contrast.score[3], 0)  # a group without cells
    np.testing.assert_array_equal(contrast.p_values(False)[3], 1)
    assert contrast.score[0, 3] == 0  # whose only cell has no value


def test_large_values_lose_no_digits():
    values, codes = example()
    expected = group_contrast(values, codes, 3).score
    np.testing.assert_allclose(group_contrast(values + 1e6, codes, 3).score, expected, rtol=1e-6, atol=1e-8)


def test_labels_that_say_nothing():
    """P-values below 0.05 are not more than that, and with the overestimated variance rather less."""
    rng = np.random.default_rng(0)
    values, codes = rng.gamma(2, size=(80, 2000)), rng.integers(0, 4, 80)
    for two_sided in (True, False):
        p_values = group_contrast(values, codes, 4).p_values(two_sided)
        assert 0.001 < np.mean(p_values < 0.05) < 0.055
