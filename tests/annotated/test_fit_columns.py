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
    of_other_rates,
    rates_are_those_of,
    read_branch_times,
    read_covariances,
    read_kinetics,
    read_times,
    read_velocities,
    warn_of_other_rates,
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


def test_times_on_both_branches(fitted):
    """Of genes that have but one time, as scVelo's fits, those before and after the switch."""
    _, genes = read_kinetics(fitted)
    switch = np.full(int(genes.sum()), 2.0)
    fitted.layers["fit_t"] = np.tile(np.arange(N, dtype=float)[:, None], N)
    on, off, is_on = read_branch_times(fitted, genes, switch)
    np.testing.assert_array_equal(on[:, 1], [0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(off[:, 1], [0, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(is_on[:, 1], [1, 1, 0, 0, 0, 0])
    for name, value in (("fit_tau", 5.0), ("fit_tau_", 6.0), ("fit_on", 0.5)):
        fitted.layers[name] = np.full((N, N), np.nan)
        fitted.layers[name][:, :2] = value
    on, off, is_on = read_branch_times(fitted, genes, switch)
    assert (on[:, :2] == 5).all()
    assert (off[:, :2] == 6).all()
    assert (is_on[:, :2] == 0.5).all()
    np.testing.assert_array_equal(on[:, 2], [0, 1, 2, 2, 2, 2])
    fitted.layers["fit_tau"][3, 0] = np.inf
    with pytest.raises(ValueError, match=r"finite numbers in `adata.layers\['fit_tau'\]`.*found 1 that are not"):
        read_branch_times(fitted, genes, switch)
    del fitted.layers["fit_tau"]
    with pytest.raises(KeyError, match=r"`adata.layers\['fit_tau'\]`.*recover_dynamics"):
        read_branch_times(fitted, genes, switch)


@pytest.mark.any_precision
def test_what_is_left_beside_other_rates(fitted, caplog):
    """Of the second gene, by a fit that writes rates and times; of the sixth, whose velocity never was of any."""
    _, genes = read_kinetics(fitted)  # 0, 1, 3, 5
    assert not of_other_rates(fitted).any()
    for name, value in (("fit_tau", 5.0), ("fit_tau_", 6.0), ("fit_on", 0.5), ("fit_velocity", 3.0), ("fit_t", 1.0)):
        fitted.layers[name] = np.full((N, N), value)
    np.testing.assert_array_equal(of_other_rates(fitted), genes)  # velocities of unknown rates
    fitted.var["fit_velocity_of"] = number_of_rates([fitted.var[name] for name in RATES])
    assert not of_other_rates(fitted).any()
    warn_of_other_rates(fitted, ("fit_on", "fit_velocity"))
    assert not caplog.records
    fitted.var.loc["gene_1", "fit_t_"] = 2.5
    fitted.var.loc["gene_5", "fit_velocity_of"] = np.nan
    fitted.layers["fit_on"][:, 5] = np.nan
    with unchanged(fitted):
        np.testing.assert_array_equal(np.flatnonzero(of_other_rates(fitted)), [1, 5])
        _, _, on = read_branch_times(fitted, genes, np.full(4, 2.0))
        velocity = read_velocities(fitted, genes, np.dtype(float))
    np.testing.assert_array_equal(on[0], [0.5, 1, 0.5, 1])
    np.testing.assert_array_equal(velocity[0], [3, np.nan, 3, np.nan])
    warn_of_other_rates(fitted, ("fit_on", "fit_velocity"))
    warn_of_other_rates(fitted, ("fit_on",))
    assert [record.getMessage()[:70] for record in caplog.records] == [
        "Leaving out what `adata.layers` has in ['fit_on', 'fit_velocity'] for 2 genes"[:70],
        "Leaving out what `adata.layers` has in ['fit_on'] for 1 genes: it is not of the"[:70],
    ]
    del fitted.var["fit_t_"]
    assert not of_other_rates(fitted).any()


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
