"""The p-value of a second peak, against SciPy's density, scVelo's results, and counts that have one or not."""

import anndata as ad
import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm

from jaxvelo.dynamics import second_peak_p_values

pytestmark = pytest.mark.any_precision


def plain(x):
    density = gaussian_kde(x)(np.linspace(x.min(), x.max(), 30))
    lowest = min(range(13, 17), key=lambda k: density[k])
    upper = density[lowest:]
    return norm.sf((max(upper) - np.mean(upper)) / max(np.std(density) / np.sqrt(30), 1))


def typical(u, s):
    both = (u > 0) & (s > 0)
    both &= (u <= np.percentile(u[both], 99)) & (s <= np.percentile(s[both], 99))
    return u[both], s[both]


def counts(n=150, seed=0):
    """Genes with one peak or two, in small and in large units, some cells without one kind of counts."""
    rng = np.random.default_rng(seed)
    high = rng.random((n, 6)) < [0, 0, 0.3, 0.3, 0.6, 0.6]
    u, s = (rng.gamma(2, 0.05, (n, 6)) + high * rng.normal(1.5, 0.05, (n, 6)) for _ in range(2))
    u[rng.random((n, 6)) < 0.1] = 0
    unit = np.array([1, 0.1, 1, 0.1, 1, 20])
    return u * unit, s * unit


@pytest.mark.parametrize(("scaling", "dtype"), [(None, np.float32), (0.7, np.float64)])
def test_equals_scipy(scaling, dtype):
    u, s = (x.astype(dtype) for x in counts())
    expected = []
    for x, y in zip(u.T, s.T, strict=True):
        x, y = (values.astype(float) for values in typical(x, y))
        expected.append(max(plain(x / (x.std() / y.std() if scaling is None else scaling)), plain(y)))
    p = second_peak_p_values(u, s, scaling)
    np.testing.assert_allclose(p, expected, rtol=1e-6 if dtype == np.float32 else 1e-9)


def test_depends_on_the_unit():
    """As the docstring says, and as in scVelo: a density is per count."""
    u, s = counts()
    smaller, larger = second_peak_p_values(u * 0.1, s * 0.1), second_peak_p_values(u, s)
    assert (smaller <= larger * (1 + 1e-9)).all()
    assert np.median(smaller) < 0.1 * np.median(larger)


def test_genes_with_nothing_to_see():
    u, s = counts()
    u[:, 0], s[:, 1], u[2:, 2], s[:, 3] = 0, 0, 0, 1
    np.testing.assert_array_equal(second_peak_p_values(u, s)[:4], 1)


def test_equals_scvelo(shared):
    adata = ad.read_h5ad(shared / "reference/small_velocity.h5ad")
    adata = adata[:, adata.var["fit_pval_steady"].notna()]
    p = second_peak_p_values(np.asarray(adata.layers["Mu"]), np.asarray(adata.layers["Ms"]))
    np.testing.assert_allclose(p, adata.var["fit_pval_steady"], rtol=2e-5)
