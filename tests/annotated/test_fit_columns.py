"""Rates of the dynamical model, from scVelo's columns and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.annotated.fit_columns import RATES, has_fit, kinetics_columns, read_kinetics
from tests.annotated.six_cells import N
from tests.kernels.snapshot import unchanged


@pytest.fixture
def fitted(adata):
    """All genes but the third and the fifth have a fit."""
    for number, key in enumerate(RATES, 1):
        adata.var[key] = number + np.arange(N) / 8
    adata.var.loc["gene_2", "fit_gamma"] = np.nan
    adata.var.loc["gene_4", "fit_scaling"] = 0.0
    return adata


def test_splicing_is_per_molecule(fitted):
    with unchanged(fitted):
        kinetics, genes = read_kinetics(fitted)
    np.testing.assert_array_equal(np.flatnonzero(genes), [0, 1, 3, 5])
    var = fitted.var[genes]
    np.testing.assert_allclose(kinetics.alpha, var["fit_alpha"])
    np.testing.assert_allclose(kinetics.beta, var["fit_beta"] * var["fit_scaling"])
    np.testing.assert_allclose(kinetics.gamma, var["fit_gamma"])
    np.testing.assert_allclose(kinetics.switching_time, var["fit_t_"])
    assert kinetics.alpha.dtype == jnp.result_type(float)
    columns = kinetics_columns(kinetics)
    assert list(columns) == list(RATES)
    for key in RATES:
        np.testing.assert_allclose(columns[key], var[key], rtol=1e-6)


def test_whether_there_is_a_fit(fitted):
    assert not has_fit(fitted)
    fitted.var["fit_likelihood"] = 0.5
    assert not has_fit(fitted)
    fitted.layers["fit_t"] = np.ones((N, N))
    assert has_fit(fitted)
    del fitted.var["fit_t_"]
    assert not has_fit(fitted)


def test_what_is_none(fitted):
    fitted.var["fit_beta"] = "fast"
    with pytest.raises(ValueError, match=r"numbers in `adata.var\['fit_beta'\]`, found.*recover_dynamics"):
        read_kinetics(fitted)
    fitted.var["fit_beta"] = np.nan
    with pytest.raises(ValueError, match=r"genes with a fit, .*fit_scaling, found none.*recover_dynamics"):
        read_kinetics(fitted)
    del fitted.var["fit_beta"]
    with pytest.raises(KeyError, match=r"`adata.var\['fit_beta'\]`.*recover_dynamics"):
        read_kinetics(fitted)
