"""A new fit of some genes stands next to what earlier ones have left of others."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.dynamical_fit import StoredFit, read_stored_fit, write_fit
from jaxvelo.annotated.fit_columns import COVARIANCE, EVIDENCE, LOSS, MODEL, R2, RATES, STATUS, number_of_rates
from tests.annotated.six_cells import N
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision

GENES = np.array([1, 3])
NEW = np.array([10.0, 30.0])
TIMES = np.full((N, 2), 7.0)
STATUSES, MODELS = np.array(["good", "bad"]), np.array(["curve", None], dtype=object)
COVARIANCES = np.stack([np.eye(4), 3 * np.eye(4)])


def write(adata, covariance=None):
    before = read_stored_fit(adata)
    arrays = {} if covariance is None else {COVARIANCE: covariance}
    columns = {"fit_alpha": NEW, "fit_gamma": NEW + 1}
    joined = before.with_genes(GENES, StoredFit(columns, {"fit_t": TIMES}, arrays, STATUSES, MODELS))
    write_fit(adata, dataclasses.replace(joined, columns={**joined.columns, R2: np.arange(N) / N}))


def test_the_first_fit(adata):
    paths = (
        "/var/fit_alpha",
        "/var/fit_gamma",
        "/var/fit_r2",
        "/var/fit_status",
        "/var/fit_model",
        "/layers/fit_t",
        "/uns",
    )
    with unchanged(adata, *paths):
        write(adata)
    np.testing.assert_array_equal(adata.var["fit_alpha"], [np.nan, 10, np.nan, 30, np.nan, np.nan])
    np.testing.assert_array_equal(np.isnan(adata.layers["fit_t"]).all(axis=0), adata.var["fit_alpha"].isna())
    np.testing.assert_array_equal(adata.layers["fit_t"][:, GENES], TIMES)
    assert list(adata.var[STATUS]) == ["not fitted", "good", "not fitted", "bad", "not fitted", "not fitted"]
    assert adata.var[MODEL].dropna().to_dict() == {"gene_1": "curve"}
    np.testing.assert_array_equal(adata.var[R2], np.arange(N) / N)
    write(adata, COVARIANCES)
    np.testing.assert_array_equal(adata.varm[COVARIANCE][3], 3 * np.eye(4))
    assert np.isnan(adata.varm[COVARIANCE][[0, 2, 4, 5]]).all()


@pytest.mark.parametrize("before", [None, np.float32, int])
def test_genes_of_a_cell_lie_side_by_side(adata, before):
    """As in all other layers, whatever stood there before."""
    if before is not None:
        adata.layers["fit_t"] = np.asfortranarray(np.ones((N, N), dtype=before))
    write(adata)
    assert adata.layers["fit_t"].flags.c_contiguous
    np.testing.assert_array_equal(adata.layers["fit_t"][:, GENES], TIMES)


def test_next_to_another(adata):
    """What the new one does not know of its genes becomes missing; what it says nothing of stays."""
    adata.var["fit_alpha"] = np.arange(N)
    adata.var["fit_pval_steady"] = 0.5
    adata.layers["fit_t"] = np.ones((N, N), dtype=np.float32)
    adata.varm[COVARIANCE], adata.varm[LOSS] = np.ones((N, 4, 4)), np.ones((N, 3))
    write(adata)
    np.testing.assert_array_equal(adata.var["fit_alpha"], [0, 10, 2, 30, 4, 5])
    np.testing.assert_array_equal(adata.var["fit_pval_steady"], [0.5, np.nan, 0.5, np.nan, 0.5, 0.5])
    np.testing.assert_array_equal(adata.layers["fit_t"][0], [1, 7, 1, 7, 1, 1])
    assert adata.layers["fit_t"].dtype == np.float32
    for key in (COVARIANCE, LOSS):
        np.testing.assert_array_equal(np.isnan(adata.varm[key].reshape(N, -1)).all(axis=1), np.isin(range(N), GENES))
    status = ["fitted before", "good", "fitted before", "bad", "fitted before", "fitted before"]
    assert list(adata.var[STATUS]) == status
    adata.var[STATUS] = pd.Categorical(["fine", None, "fine", "fine", None, "fine"])
    write(adata)
    assert list(adata.var[STATUS]) == ["fine", "good", "fine", "bad", "not fitted", "fine"]


@pytest.mark.parametrize(
    ("slot", "key", "value", "message"),
    [
        ("var", "fit_beta", "fast", r"numbers in `adata.var\['fit_beta'\]`, found.*Delete the column first"),
        ("varm", COVARIANCE, np.ones((N, 16)), r"shape \(6, 4, 4\), found \(6, 16\).*Delete it first"),
        ("varm", LOSS, np.full((N, 2), "a"), r"numbers in `adata.varm\['loss'\]`, found.*Delete it first"),
    ],
)
def test_what_cannot_stay_is_said_before_the_fit(adata, slot, key, value, message):
    adata.var["fit_alpha"] = 1.0
    getattr(adata, slot)[key] = value
    with unchanged(adata), pytest.raises(ValueError, match=message):
        read_stored_fit(adata)


def test_a_loss_without_a_fit_is_anyones(adata):
    adata.varm[LOSS] = np.full((N, 2), "a")
    with unchanged(adata, "/var", "/layers", "/uns"):
        write(adata)


def test_what_is_written_is_read_and_what_was_read_stays(adata):
    write(adata, COVARIANCES)
    first = read_stored_fit(adata)
    write_fit(adata, first)
    again = read_stored_fit(adata)
    for found, expected in ((again.columns, first.columns), (again.layers, first.layers), (again.arrays, first.arrays)):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    assert again.status.tolist() == first.status.tolist()
    assert again.model.tolist() == first.model.tolist()
    before = {name: values.copy() for name, values in first.columns.items()}
    first.with_genes(GENES, StoredFit({"fit_alpha": 2 * NEW}, {"fit_t": TIMES}, {}, STATUSES, MODELS))
    np.testing.assert_array_equal(first.columns["fit_alpha"], before["fit_alpha"])


def test_what_is_of_other_rates_is_left_out(adata):
    """Of what another fit has written over, all that it does not write; it has fitted a gene that could not be."""
    for name in RATES:
        adata.var[name] = 1.0 + np.arange(N) / 8
    adata.var["fit_velocity_of"] = number_of_rates([adata.var[name] for name in RATES])
    adata.var.loc["gene_4", "fit_velocity_of"] = np.nan
    for name in ("fit_residual", "fit_ratio", "fit_variance"):
        adata.var[name] = 0.5
    for name in ("fit_t", "fit_on", "fit_velocity"):
        adata.layers[name] = np.ones((N, N))
    adata.varm[COVARIANCE], adata.varm[EVIDENCE], adata.varm[LOSS] = (np.ones((N, *n)) for n in ((4, 4), (5,), (3,)))
    adata.var[STATUS] = pd.Categorical(["good"] * 4 + ["failed", "good"])
    adata.var[MODEL] = pd.Categorical(["curve"] * N)
    adata.var.loc["gene_1", "fit_gamma"] *= 2
    with unchanged(adata):
        fit = read_stored_fit(adata)
    others = np.isin(range(N), [1, 4])
    parts = {**fit.columns, **{name: x.T for name, x in fit.layers.items()}, **fit.arrays}
    assert {"fit_on", "fit_velocity", COVARIANCE, EVIDENCE, "fit_ratio"} <= set(parts)
    kept = {*RATES, "fit_variance", "fit_t", LOSS}
    for name, values in parts.items():
        found = np.isnan(values.reshape(N, -1)).all(axis=1)
        np.testing.assert_array_equal(found, np.zeros(N, dtype=bool) if name in kept else others)
    assert list(fit.status) == ["good", "fitted before", "good", "good", "fitted before", "good"]
    assert list(fit.model) == ["curve", None, "curve", "curve", None, "curve"]
