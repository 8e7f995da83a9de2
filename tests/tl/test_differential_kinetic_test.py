"""Tests for kinetics of groups on AnnData: slow NumPy, what stays of earlier tests, and what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import jaxvelo as jv
from jaxvelo.annotated.dynamical_fit import read_stored_fit, write_fit
from tests.dynamics import plain_kinetics
from tests.snapshot import unchanged
from tests.tl.test_rank_dynamical_genes import GROUPS, layers_of, parts_of, untouched  # noqa: F401

pytestmark = pytest.mark.any_precision
WRITTEN = "/var/fit_diff_kinetics", "/var/fit_pval_kinetics", "/varm", "/uns/recover_dynamics"


@pytest.fixture
def adata(untouched):  # noqa: F811
    """The middle cells of the third gene have kinetics of their own."""
    adata = untouched.copy()
    middle = (adata.obs["clusters"] == "middle").to_numpy()
    u = adata.layers["Mu"][middle, 2]
    adata.layers["Ms"][middle, 2] = 9 * u * np.random.default_rng(0).gamma(900, 1 / 900, u.shape)
    return adata


def test_equals_numpy(adata):
    rates, weights, groups = parts_of(adata)
    u, s = layers_of(adata, "Mu", "Ms")
    expected = np.array(
        [plain_kinetics.kinetic_p_values(*gene, weights, groups) for gene in zip(u.T, s.T, rates, strict=True)]
    )
    with unchanged(adata, *WRITTEN):
        assert jv.tl.differential_kinetic_test(adata) is None
    table = adata.varm["fit_pvals_kinetics"]
    assert list(table.columns) == GROUPS
    np.testing.assert_allclose(table.to_numpy()[:4], expected, rtol=1e-3, atol=1e-5)  # rates in single precision
    assert table.iloc[4].isna().all()
    named = adata.var["fit_diff_kinetics"]
    assert list(named.iloc[:4]) == [",".join(np.array(GROUPS)[p < 0.01]) for p in expected]
    assert named.iloc[2] == "middle"
    assert pd.isna(named.iloc[4])
    largest = [max((x for x in p if x < 0.01), default=np.nan) for p in expected]
    np.testing.assert_allclose(adata.var["fit_pval_kinetics"].iloc[:4], largest, rtol=1e-3, atol=1e-9)
    assert adata.uns["recover_dynamics"] == {"use_raw": False, "fit_diff_kinetics": "clusters"}


def test_some_genes_after_others(adata, tmp_path, caplog):
    with unchanged(adata):
        whole = jv.tl.differential_kinetic_test(adata, "all", copy=True)
    adata.var["velocity_genes"] = [True, False, False, True, True]
    jv.tl.differential_kinetic_test(adata)
    assert "Leaving out 1 genes without a fit" in caplog.text
    assert list(adata.var["fit_diff_kinetics"].isna()) == [False, True, True, False, True]
    adata.write_h5ad(tmp_path / "tested.h5ad")
    adata = ad.read_h5ad(tmp_path / "tested.h5ad")
    jv.tl.differential_kinetic_test(adata, ["gene_1", "gene_2"])
    pd.testing.assert_frame_equal(adata.varm["fit_pvals_kinetics"], whole.varm["fit_pvals_kinetics"])
    for key in ("fit_diff_kinetics", "fit_pval_kinetics"):
        pd.testing.assert_series_equal(adata.var[key].astype(object), whole.var[key].astype(object))
    # Of another clustering, whether its groups have the same names or not: what was found before does not belong there.
    adata.obs["part"] = adata.obs["clusters"].array[::-1]
    other = jv.tl.differential_kinetic_test(adata, "gene_0", "part", copy=True)
    assert list(other.varm["fit_pvals_kinetics"].columns) == list(whole.varm["fit_pvals_kinetics"].columns)
    assert other.var["fit_diff_kinetics"].notna().sum() == 1
    assert other.varm["fit_pvals_kinetics"].iloc[1:].isna().all(axis=None)
    adata.obs["half"] = pd.Categorical(np.arange(120) < 60)
    jv.tl.differential_kinetic_test(adata, "gene_0", "half")
    assert list(adata.varm["fit_pvals_kinetics"].columns) == ["False", "True"]
    assert adata.var["fit_diff_kinetics"].notna().sum() == 1


def test_a_new_fit_forgets_them(adata):
    """Those of the genes whose rates are others now."""
    jv.tl.differential_kinetic_test(adata)
    fit = read_stored_fit(adata)
    fit.columns["fit_alpha"][0] *= 2
    write_fit(adata, fit)
    assert adata.varm["fit_pvals_kinetics"].iloc[0].isna().all()
    assert adata.varm["fit_pvals_kinetics"].iloc[1:4].notna().any(axis=1).all()
    assert list(adata.var["fit_diff_kinetics"].isna()) == [True, False, False, False, True]
    assert list(adata.var["fit_pval_kinetics"].notna())[:3] == [False, False, True]
    # The others are still of this clustering, and nothing else that is there goes.
    adata.uns["recover_dynamics"]["mine"] = 3
    fit.columns["fit_alpha"][3] *= 2
    write_fit(adata, fit)
    stored = {"fit_connected_states": True, "use_raw": False, "mine": 3}
    assert adata.uns["recover_dynamics"] == {**stored, "fit_diff_kinetics": "clusters"}
    # scVelo's records cannot be taken apart.
    adata.varm["fit_pvals_kinetics"] = np.ones((5, 1))
    fit.columns["fit_alpha"][1] *= 2
    write_fit(adata, fit)
    assert "fit_pvals_kinetics" not in adata.varm
    fit.columns["fit_alpha"][2] *= 2
    write_fit(adata, fit)
    assert adata.var["fit_diff_kinetics"].isna().all()
    assert adata.uns["recover_dynamics"] == stored


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda a: a.var.pop("fit_gamma"), {}, KeyError, "fit_gamma.*recover_dynamics"),
        (lambda a: a.layers.pop("Ms"), {}, KeyError, "Ms.*pp.moments"),
        (lambda a: a.obsp.pop("connectivities"), {}, KeyError, "connectivities.*pp.neighbors"),
        (lambda a: None, {"var_names": ["absent"]}, KeyError, "absent"),
        (lambda a: None, {"var_names": ["gene_4"]}, ValueError, "genes with a fit, found none.*recover_dynamics"),
        (lambda a: None, {"groupby": "absent"}, KeyError, "absent"),
        (lambda a: setattr(a, "obs", a.obs.assign(clusters=["", "x"] * 60)), {}, ValueError, "found one that is empty"),
        (lambda a: a.layers["Mu"].__setitem__((0, 0), -1), {}, ValueError, "Mu.*1 negative"),
    ],
)
def test_what_is_refused(adata, change, arguments, error, message):
    change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.differential_kinetic_test(adata, **arguments)
