"""Rates of the dynamical model, from scVelo's columns and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.annotated.fit_columns import (
    COVARIANCE,
    RATES,
    has_fit,
    kinetics_columns,
    number_of_gene,
    number_of_rates,
    rates_are_those_of,
    read_covariances,
    read_kinetics,
    read_times,
)
from tests.annotated.six_cells import N
from tests.snapshot import unchanged


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


@pytest.mark.any_precision
def test_rates_that_velocities_belong_to():
    """Known again from single precision, and not when a gene's rates change by a thousandth."""
    columns = {key: np.linspace(0.1, 3, 4) * number for number, key in enumerate(RATES, 1)}
    assert not rates_are_those_of(columns).any()
    columns["fit_velocity_of"] = number_of_rates(list(columns.values()))
    single = {key: values.astype(np.float32).astype(float) for key, values in columns.items()}
    assert rates_are_those_of(single).all()
    for key, gene in zip(RATES, (0, 1, 2, 3, 0), strict=True):
        changed = {**columns, key: columns[key].copy()}
        changed[key][gene] *= 1.001
        np.testing.assert_array_equal(rates_are_those_of(changed), np.arange(4) != gene)
    for nothing in (np.nan, 0.0):
        columns["fit_gamma"][2] = nothing
        np.testing.assert_array_equal(rates_are_those_of(columns), [True, True, False, True])


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


def test_times_of_good_fits(fitted):
    times = np.arange(N * N, dtype=float).reshape(N, N)
    times[0, 3] = np.nan
    fitted.layers["fit_t"] = times
    fitted.var["fit_likelihood"] = [0.1, 0.5, np.nan, 0.5, 0.2, 0.3]
    np.testing.assert_array_equal(read_times(fitted, 0.2), times[:, [1, 4, 5]])
    np.testing.assert_array_equal(read_times(fitted, None), times[:, [0, 1, 2, 4, 5]])
    with pytest.raises(ValueError, match=r"fit_likelihood'\]` from 0.6 on, found none \(5 with finite times\)"):
        read_times(fitted, 0.6)
    del fitted.var["fit_likelihood"]
    with pytest.raises(KeyError, match=r"`adata.var\['fit_likelihood'\]`.*recover_dynamics.*min_likelihood=None"):
        read_times(fitted, 0.1)
    del fitted.layers["fit_t"]
    with pytest.raises(KeyError, match=r"`adata.layers\['fit_t'\]`.*recover_dynamics"):
        read_times(fitted, None)


def test_covariances_and_numbers_of_a_gene(fitted):
    assert read_covariances(fitted, "") is None
    fitted.varm[COVARIANCE] = np.arange(N * 16.0).reshape(N, 4, 4)
    np.testing.assert_array_equal(read_covariances(fitted, ""), fitted.varm[COVARIANCE])
    fitted.varm[COVARIANCE] = np.ones((N, 4))
    with pytest.raises(ValueError, match=r"shape \(6, 4, 4\), found \(6, 4\) among \['fit_covariance'\]. Do this"):
        read_covariances(fitted, "Do this.")
    assert number_of_gene(fitted, "fit_alpha", 2, 0.0) == 1.25
    assert np.isnan(number_of_gene(fitted, "fit_gamma", 2, 0.0))
    assert number_of_gene(fitted, "absent", 2, 0.5) == 0.5
