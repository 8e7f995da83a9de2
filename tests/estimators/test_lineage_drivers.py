"""Genes that correlate with fates: against CellRank's results, SciPy, and the known answer."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats as st
from hypothesis import given, settings
from hypothesis import strategies as hs

from jaxvelo.annotated.q_values import q_values
from jaxvelo.estimators import _lineage_drivers as drivers

pytestmark = pytest.mark.any_precision

LINEAGES = ["Alpha", "Beta"]


@pytest.fixture
def data():
    """Sixty cells, three lineages of which two are named, five genes: the first goes with Alpha, the last is rare."""
    rng = np.random.default_rng(0)
    fates = rng.dirichlet([1, 1, 1], size=60)[:, :2]
    x = rng.gamma(1.0, size=(60, 5))
    x[:, 4] = np.arange(60) < 3
    x[rng.random(x.shape) < 0.3] = 0
    x[:, 0] += 4 * fates[:, 0]
    x[:, 2] = 0.1  # whose mean is not exactly 0.1
    genes = [f"g{i}" for i in range(5)]
    obs = pd.DataFrame({"clusters": pd.Categorical(["a", "b", "c"] * 20)}, index=[f"c{i}" for i in range(60)])
    adata = ad.AnnData(x.copy(), obs=obs, var=pd.DataFrame(index=genes))
    adata.layers["sparse"] = sp.csr_matrix(x)
    return adata, fates


def table_of(x, fates, **kwargs):
    genes = [f"g{i}" for i in range(x.shape[1])]
    return drivers.lineage_drivers(x, fates, genes, LINEAGES[: fates.shape[1]], show_progress_bar=False, **kwargs)


def test_equal_to_reference(shared):
    """The reference takes means and squares of the float32 expression in that precision: with these, to 1e-10.

    Without that rounding its correlations are ours, so that ours are as far from it as its own rounding takes it.
    """
    x = ad.read_h5ad(shared / "reference/pancreas_velocity.h5ad").X
    with np.load(shared / "reference/pancreas_estimators.npz") as stored:
        fates, lineages = stored["fate/direct"], [str(name) for name in stored["fate/names"]]
        expected = {
            f"{name}_{part}": stored[f"drivers/{name}_{part}"] for name in lineages for part in drivers.STATISTICS
        }

    def with_moments_in(dtype):
        """The formula of means of products, with the moments of the expression in a precision."""
        columns, n = sp.csr_matrix(x.T).astype(dtype), x.shape[0]
        mean = np.asarray(columns.mean(axis=1)).reshape(-1, 1)
        spread = np.sqrt(np.asarray(columns.power(2).mean(axis=1)).reshape(-1, 1) - mean**2)
        return (columns @ fates - n * mean * fates.mean(axis=0)) / (n * spread * fates.std(axis=0))

    reference = np.stack([expected[f"{name}_corr"] for name in lineages], axis=1)
    np.testing.assert_allclose(with_moments_in(np.float32), reference, rtol=0, atol=1e-10)
    table = drivers.lineage_drivers(x, fates, range(x.shape[1]), lineages)
    ours = table[[f"{name}_corr" for name in lineages]].to_numpy()
    np.testing.assert_allclose(ours, with_moments_in(np.float64), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=3e-5)
    p, low, high = drivers._fisher(reference, x.shape[0], 0.95)
    for i, name in enumerate(lineages):
        np.testing.assert_allclose(p[:, i], expected[f"{name}_pval"], rtol=1e-10)
        np.testing.assert_allclose(q_values(p[:, i]), expected[f"{name}_qval"], rtol=1e-10)
        np.testing.assert_allclose(low[:, i], expected[f"{name}_ci_low"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(high[:, i], expected[f"{name}_ci_high"], rtol=0, atol=1e-12)
    dense = drivers.lineage_drivers(x.toarray(), fates, range(x.shape[1]), lineages)
    pd.testing.assert_frame_equal(dense, table, rtol=1e-9, atol=1e-12)


def test_equal_to_scipy(data):
    adata, fates = data
    table = table_of(adata.X, fates, confidence_level=0.8)
    assert list(table) == [
        f"{name}_{part}" for name in LINEAGES for part in ("corr", "pval", "qval", "ci_low", "ci_high")
    ]
    for lineage, y in zip(LINEAGES, fates.T, strict=True):
        for gene in (0, 1, 3, 4):
            result = st.pearsonr(adata.X[:, gene], y)
            interval = result.confidence_interval(0.8)
            found = table.loc[f"g{gene}"]
            np.testing.assert_allclose(found[f"{lineage}_corr"], result.statistic, rtol=1e-12)
            np.testing.assert_allclose(found[f"{lineage}_ci_low"], interval.low, rtol=1e-12)
            np.testing.assert_allclose(found[f"{lineage}_ci_high"], interval.high, rtol=1e-12)


def test_tiny_p_values_keep_their_accuracy():
    """Where one minus the rest of the distribution would be zero, and a tail cut off at the resolution too."""
    r, n = np.array([[0.5], [0.7]]), 1000
    exact = [2 * np.exp(st.norm.logsf(np.arctanh(value) * np.sqrt(n - 3))) for value in r[:, 0]]
    assert 0 < exact[1] < 1e-150
    np.testing.assert_allclose(drivers._fisher(r, n, 0.95)[0][:, 0], exact, rtol=1e-12)


def test_genes_that_do_not_vary(data):
    adata, fates = data
    for x in (adata.X, sp.csr_matrix(adata.X), sp.csc_array(adata.X.astype(np.float32))):
        table = table_of(x, fates)
        assert table.loc["g2"].isna().all()
        rest = table.drop("g2")
        assert rest.notna().all(axis=None)
        # The gene without a test does not count among the tests.
        np.testing.assert_allclose(rest["Alpha_qval"], st.false_discovery_control(rest["Alpha_pval"]), rtol=1e-12)
    assert drivers.most_correlated_first(table).index[-1] == "g2"
    constant = table_of(adata.X, np.stack([fates[:, 0], np.full(60, 1 / 3)], axis=1))
    assert constant[[f"Beta_{part}" for part in drivers.STATISTICS]].isna().all(axis=None)


def test_nan_policy(data):
    adata, fates = data
    x, y = adata.X.copy(), fates.copy()
    x[:7, 0], x[3, 1], y[5, 1] = np.nan, np.inf, np.nan
    propagated = table_of(x, fates)
    assert propagated.loc[["g0", "g1"]].isna().all(axis=None)
    pd.testing.assert_series_equal(propagated["Alpha_corr"][3:], table_of(adata.X, fates)["Alpha_corr"][3:])
    assert table_of(x, y).filter(like="Beta").isna().all(axis=None)
    for values in (x, sp.csr_matrix(x)):
        omitted = table_of(values, y, nan_policy="omit")
        for lineage, column in zip(LINEAGES, y.T, strict=True):
            for gene in (0, 1, 3):
                both = np.isfinite(x[:, gene]) & np.isfinite(column)
                result = st.pearsonr(x[both, gene], column[both])
                found = omitted.loc[f"g{gene}"]
                np.testing.assert_allclose(found[f"{lineage}_corr"], result.statistic, rtol=1e-12)
                np.testing.assert_allclose(found[f"{lineage}_ci_low"], result.confidence_interval().low, rtol=1e-12)
    x[3:, 1] = np.nan
    assert table_of(x, fates, nan_policy="omit").loc["g1", ["Alpha_pval", "Alpha_ci_low"]].isna().all()
    pd.testing.assert_frame_equal(table_of(adata.X, fates, nan_policy="omit"), table_of(adata.X, fates))


def test_permutations_and_samples(data):
    """P-values and intervals as of SciPy's and of a plain loop; nothing depends on the sizes of the blocks of genes."""
    adata, fates = data
    table = table_of(adata.X, fates, method="perm_test", n_perms=2000, seed=3)
    fisher = table_of(adata.X, fates)
    np.testing.assert_array_equal(table["Alpha_corr"], fisher["Alpha_corr"])
    assert table.loc["g0", "Alpha_pval"] == 1 / 2001
    rest = ["g0", "g1", "g3"]  # the last gene is rare: Fisher's is off there
    for column in ("Alpha_pval", "Beta_pval"):
        np.testing.assert_allclose(table.loc[rest, column], fisher.loc[rest, column], atol=0.03)
    rng = np.random.default_rng(1)
    samples = [rng.integers(60, size=60) for _ in range(2000)]
    loop = np.array([np.corrcoef(adata.X[rows, 3], fates[rows, 1])[0, 1] for rows in samples])
    interval = table.loc["g3", ["Beta_ci_low", "Beta_ci_high"]].astype(float)
    np.testing.assert_allclose(interval, np.quantile(loop, [0.025, 0.975]), atol=0.02)
    assert table.loc["g2"].isna().all()
    again = table_of(sp.csr_matrix(adata.X), fates, method="perm_test", n_perms=2000, seed=3)
    pd.testing.assert_frame_equal(again, table)
    one = table_of(adata.X[:, :1], fates, method="perm_test", n_perms=2000, seed=3)
    np.testing.assert_allclose(one["Alpha_pval"], table["Alpha_pval"][:1])
    other = table_of(adata.X, fates, method="perm_test", n_perms=2000, seed=4)
    assert not np.array_equal(other["Beta_pval"], table["Beta_pval"], equal_nan=True)


def test_p_values_of_permutations_are_calibrated():
    """Expression that has nothing to do with the fates: 5 % of p-values below 0.05, and intervals that hold zero."""
    rng = np.random.default_rng(0)
    x, fates = rng.exponential(size=(40, 800)), rng.dirichlet([1, 1], size=40)
    table = table_of(x, fates[:, :1], method="perm_test", n_perms=199, seed=0)
    assert 0.03 < (table["Alpha_pval"] <= 0.05).mean() < 0.07
    assert table["Alpha_pval"].min() >= 1 / 200


def test_a_gene_that_varies_in_no_sample():
    """A gene in one of few cells, which no sample holds: no interval rather than a wrong one."""
    x = np.zeros((8, 1))
    x[0] = 1
    y = np.linspace(0, 1, 8)[:, None]
    tables = [table_of(x, y, method="perm_test", n_perms=1, seed=seed) for seed in range(20)]
    without = [np.isnan(table["Alpha_ci_low"].iloc[0]) for table in tables]
    assert 0 < sum(without) < 20
    assert all(np.isfinite(table["Alpha_pval"]).all() for table in tables)


@settings(max_examples=30, deadline=None)
@given(
    hs.integers(4, 30),
    hs.floats(-1e6, 1e6),
    hs.floats(1e-3, 1e6),
    hs.integers(0, 1000),
)
def test_correlation_does_not_see_shift_and_scale(n, shift, scale, seed):
    rng = np.random.default_rng(seed)
    x, fates = rng.normal(size=(n, 3)), rng.dirichlet([1, 1, 1], size=n)[:, :2]
    for convert in (np.asarray, sp.csr_matrix):
        moved = table_of(convert(x * scale + shift), fates)
        tolerance = 1e-13 * (1 + abs(shift) / scale) * n
        np.testing.assert_allclose(moved["Beta_corr"], table_of(x, fates)["Beta_corr"], rtol=0, atol=tolerance)
        assert ((moved["Beta_ci_low"] <= moved["Beta_corr"]) & (moved["Beta_corr"] <= moved["Beta_ci_high"])).all()


def test_blocks_change_nothing(data, monkeypatch):
    adata, fates = data
    for x in (adata.X, sp.csr_matrix(adata.X)):
        whole = table_of(x, fates)
        monkeypatch.setattr(drivers, "BLOCK", 150)
        pd.testing.assert_frame_equal(table_of(x, fates), whole, rtol=1e-12)
        monkeypatch.undo()


def test_from_anndata(data, logged):
    adata, fates = data
    table, expression = drivers.find_lineage_drivers(
        adata, fates, LINEAGES, cluster_key="clusters", clusters=["a", "b"]
    )
    chosen = adata.obs["clusters"].isin(["a", "b"]).to_numpy()
    pd.testing.assert_frame_equal(table, table_of(adata.X[chosen], fates[chosen]))
    assert expression.where == "adata.X"
    assert "1 genes are NaN" in logged()
    sparse, _ = drivers.find_lineage_drivers(adata, fates, LINEAGES, layer="sparse")
    pd.testing.assert_frame_equal(sparse, table_of(adata.X, fates))
    adata.raw = adata[:, ["g0", "g3"]]
    raw, expression = drivers.find_lineage_drivers(adata, fates, LINEAGES, use_raw=True)
    assert list(raw.index) == ["g0", "g3"]
    assert expression.use_raw
    logged()
    _, expression = drivers.find_lineage_drivers(adata, fates, LINEAGES, use_raw=True, layer="sparse")
    assert not expression.use_raw
    assert "use_raw" in logged()
    adata.X[0, 0] = np.nan
    drivers.find_lineage_drivers(adata, np.stack([fates[:, 0], np.ones(60)], axis=1), LINEAGES)
    messages = logged()
    assert "nan_policy='omit'" in messages
    assert "['Beta']" in messages


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "`method`.*'fisher'", {"method": "spearman"}),
        (ValueError, "`nan_policy`", {"nan_policy": "drop"}),
        (ValueError, "`confidence_level`.*1.5", {"confidence_level": 1.5}),
        (ValueError, "`n_perms`", {"n_perms": 0}),
        (ValueError, "`seed`", {"seed": -1}),
        (ValueError, "'perm_test'.*found 'omit'", {"method": "perm_test", "nan_policy": "omit"}),
        (ValueError, "`cluster_key`", {"clusters": "a"}),
        (ValueError, r"'z'", {"cluster_key": "clusters", "clusters": "z"}),
        (KeyError, "nowhere", {"cluster_key": "nowhere", "clusters": "a"}),
        (KeyError, "absent", {"layer": "absent"}),
    ],
)
def test_bad_input(data, error, match, arguments):
    adata, fates = data
    with pytest.raises(error, match=match):
        drivers.find_lineage_drivers(adata, fates, LINEAGES, **arguments)


def test_too_few_cells(data):
    adata, fates = data
    with pytest.raises(ValueError, match="at least 4 cells"):
        drivers.find_lineage_drivers(adata[:3], fates[:3], LINEAGES)
