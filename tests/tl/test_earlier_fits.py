"""Fits beside others: what is of an earlier one, or of another program, and what is of the new one."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import read_h5ad

import jaxvelo as jv
from tests.snapshot import unchanged
from tests.tl.come_and_go import N_GENES

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.fixture
def adata(untouched):
    return untouched.copy()


def test_nothing_of_an_earlier_fit_is_taken_for_the_new_one(fitted):
    adata = fitted.copy()
    adata.varm["loss"] = np.ones((N_GENES, 3))
    jv.tl.recover_dynamics(adata, ["gene_1", "gene_2"], show_progress_bar=False)
    again = adata.var_names.isin(["gene_1", "gene_2"])
    for name in ("fit_log_alpha_se", "fit_log_gamma_se", "fit_log_t__se", "fit_log_scaling_se"):
        assert adata.var[name][again].isna().all(), name
        assert adata.var[name][:6][~again[:6]].notna().all(), name
    for name in ("fit_covariance", "loss"):
        assert np.isnan(adata.varm[name][again]).all(), name
        assert np.isfinite(adata.varm[name][:6][~again[:6]]).all(), name


def test_models_are_of_all_genes_with_a_curve(fitted, logged):
    """Fitted again on its own, a gene finds the same; one whose rates have changed since has no part in it."""
    adata = fitted.copy()
    jv.tl.recover_dynamics(adata, ["gene_1", "gene_2"], show_progress_bar=False)
    assert list(adata.var["fit_model"].astype(str)) == list(fitted.var["fit_model"].astype(str))
    assert list(adata.var["fit_status"]) == list(fitted.var["fit_status"])
    np.testing.assert_allclose(adata.varm["fit_evidence"], fitted.varm["fit_evidence"], atol=0.01)
    largest = np.nanmax(np.abs(fitted.layers["fit_velocity"]))
    np.testing.assert_allclose(adata.layers["fit_velocity"], fitted.layers["fit_velocity"], atol=0.01 * largest)

    adata = fitted.copy()
    adata.var.loc["gene_0", "fit_gamma"] *= 1.1
    jv.tl.recover_dynamics(adata, ["gene_1", "gene_2"], show_progress_bar=False)
    assert list(adata.var["fit_status"][:2]) == ["fitted before", fitted.var["fit_status"].iloc[1]]
    assert pd.isna(adata.var["fit_model"].iloc[0])
    for name in ("fit_residual", "fit_ratio", "fit_velocity_of", "fit_log_gamma_se"):
        assert list(adata.var[name][:6].isna()) == [True, *[name == "fit_log_gamma_se"] * 2, *[False] * 3]
    for array in (adata.layers["fit_velocity"].T, adata.layers["fit_on"].T, adata.varm["fit_evidence"]):
        assert np.isnan(array[0]).all()
        assert np.isfinite(array[1:6]).all()


def test_what_is_of_other_rates_is_not_used(fitted, logged):
    """ScVelo changes rates and times, and leaves the rest beside them."""
    adata = fitted.copy()
    adata.var.loc["gene_0", "fit_gamma"] *= 1.1
    alone = adata.copy()
    for name in ("fit_on", "fit_velocity", "fit_tau", "fit_tau_"):
        alone.layers[name][:, 0] = np.nan
    for model, layers in (("evidence", "'fit_on', 'fit_velocity'"), ("curve", "'fit_on'")):
        logged()
        jv.tl.velocity(adata, mode="dynamical", model=model)
        assert f"WARNING: Leaving out what `adata.layers` has in [{layers}] for 1 genes" in logged()
        jv.tl.velocity(alone, mode="dynamical", model=model)
        assert "Leaving out" not in logged()
        for name in ("velocity", "velocity_u"):
            np.testing.assert_array_equal(adata.layers[name], alone.layers[name])
        before = fitted.copy()
        jv.tl.velocity(before, mode="dynamical", model=model)
        same = (before.layers["velocity"] == adata.layers["velocity"]).all(axis=0)
        assert list(same[:6]) == [False, *[True] * 5]
    del adata.var["fit_velocity_of"]  # then velocities are of unknown rates
    jv.tl.velocity(adata, mode="dynamical")
    assert "WARNING: Leaving out what `adata.layers` has in ['fit_on', 'fit_velocity'] for 6 genes" in logged()


def test_a_fit_of_scvelo_is_kept_for_other_genes(fitted):
    """Which has rates and times, but neither the probabilities nor a status."""
    adata = fitted.copy()
    for name in ("fit_on", "fit_tau", "fit_tau_", "fit_velocity"):
        del adata.layers[name]
    del adata.var["fit_status"], adata.var["fit_residual"], adata.var["fit_model"]
    before = adata.copy()
    jv.tl.velocity(before, mode="dynamical")
    jv.tl.recover_dynamics(adata, ["gene_1"], show_progress_bar=False)
    assert list(adata.var["fit_status"]) == ["fitted before", "converged", *["fitted before"] * 4, *["not fitted"] * 6]
    jv.tl.velocity(adata, mode="dynamical")
    kept = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(adata.layers["velocity"][:, kept], before.layers["velocity"][:, kept])
    np.testing.assert_allclose(adata.layers["fit_on"][:, 1], fitted.layers["fit_on"][:, 1], atol=1e-3)
    assert np.isfinite(adata.layers["velocity"][:, 1]).all()


def test_an_array_of_another_tool_is_left_alone(adata):
    """Which has the name of scVelo's losses, but there is no fit."""
    adata.varm["loss"] = np.arange(3 * N_GENES).reshape(N_GENES, 3)
    jv.tl.recover_dynamics(adata, ["gene_1"], max_iter=5, show_progress_bar=False)
    np.testing.assert_array_equal(adata.varm["loss"].ravel(), np.arange(3 * N_GENES))


def test_an_earlier_status_of_another_type(adata, tmp_path):
    adata.var["fit_status"] = np.arange(N_GENES)
    adata.var["fit_alpha"] = pd.array([1.0, *[pd.NA] * (N_GENES - 1)], dtype=object)
    jv.tl.recover_dynamics(adata, ["gene_1"], max_iter=5, show_progress_bar=False)
    adata.write_h5ad(tmp_path / "fit.h5ad")
    assert read_h5ad(tmp_path / "fit.h5ad").var["fit_status"]["gene_2"] == "2"
    assert adata.var["fit_alpha"].notna().sum() == 2


def test_a_sparse_layer_of_an_earlier_fit(fitted):
    adata = fitted.copy()
    adata.layers["fit_t"] = sp.csr_matrix(np.nan_to_num(adata.layers["fit_t"]))
    jv.tl.recover_dynamics(adata, ["gene_1"], show_progress_bar=False)
    np.testing.assert_array_equal(adata.layers["fit_t"][:, 0], fitted.layers["fit_t"][:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.var.__setitem__("fit_gamma", "much"), r"numbers in `adata.var\['fit_gamma'\]`.*Delete"),
        (
            lambda a: a.varm.__setitem__("loss", np.full((N_GENES, 2), "much")),
            r"numbers in `adata.varm\['loss'\]`.*Delete",
        ),
        (lambda a: a.varm.__setitem__("fit_covariance", np.ones((N_GENES, 3))), r"shape \(12, 4, 4\), found \(12, 3\)"),
    ],
)
def test_an_earlier_fit_that_is_none_is_refused_before_anything_is_written(fitted, change, message):
    adata = fitted.copy()
    change(adata)
    with unchanged(adata), pytest.raises(ValueError, match=message):
        jv.tl.recover_dynamics(adata, ["gene_1"], show_progress_bar=False)
