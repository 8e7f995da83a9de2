import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxvelo.dynamics import rank_correlation

pytestmark = pytest.mark.any_precision


def test_equals_scipy(monkeypatch):
    """With ties, more genes than are taken at a time, and some that do not vary."""
    monkeypatch.setattr("jaxvelo.dynamics._gene_blocks.N_NUMBERS", 700)
    rng = np.random.default_rng(0)
    a = rng.poisson(2, (40, 50)).astype(np.float32)
    b = a + rng.normal(0, 2, a.shape).astype(np.float32)
    b[:, 7] = 1
    found = rank_correlation(a, b)
    assert np.isnan(found[7])
    others = np.arange(50) != 7
    expected = [spearmanr(x, y).statistic for x, y in zip(a[:, others].T, b[:, others].T, strict=True)]
    np.testing.assert_allclose(found[others], expected, atol=1e-12)
