"""Times and velocities that a fit has left, and which of them are of the rates that are there."""

import numpy as np
import pytest

from jaxvelo.annotated.fit_columns import RATES, number_of_rates, of_other_rates
from jaxvelo.annotated.fitted_cells import FittedCells
from tests.annotated.six_cells import N
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision
GENES = np.isin(np.arange(N), [0, 1, 3, 5])
SWITCH = np.full(4, 2.0)


@pytest.fixture
def fitted(adata):
    for number, key in enumerate(RATES, 1):
        adata.var[key] = number + np.arange(N) / 8
    adata.var.loc[["gene_2", "gene_4"], "fit_gamma"] = np.nan
    adata.layers["fit_t"] = np.tile(np.arange(N, dtype=float)[:, None], N)
    return adata


def test_times_on_both_branches(fitted):
    """Of genes that have but one time, as scVelo's fits, those before and after the switch."""
    on, off, is_on = FittedCells(fitted, GENES, with_velocity=True).times(slice(0, N), SWITCH)
    np.testing.assert_array_equal(on[:, 1], [0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(off[:, 1], [0, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(is_on[:, 1], [1, 1, 0, 0, 0, 0])
    for name, value in (("fit_tau", 5.0), ("fit_tau_", 6.0), ("fit_on", 0.5)):
        fitted.layers[name] = np.full((N, N), np.nan)
        fitted.layers[name][:, :2] = value
    on, off, is_on = FittedCells(fitted, GENES, with_velocity=True, piece=1).times(slice(2, N), SWITCH)
    assert (on[:, :2] == 5).all()
    assert (off[:, :2] == 6).all()
    assert (is_on[:, :2] == 0.5).all()
    np.testing.assert_array_equal(on[:, 2], [2, 2, 2, 2])
    fitted.layers["fit_tau"][3, 0] = np.inf
    with pytest.raises(ValueError, match=r"finite numbers in `adata.layers\['fit_tau'\]`.*found 1 that are not"):
        FittedCells(fitted, GENES, with_velocity=False)
    del fitted.layers["fit_tau"]
    with pytest.raises(KeyError, match=r"`adata.layers\['fit_tau'\]`.*recover_dynamics"):
        FittedCells(fitted, GENES, with_velocity=False)


def test_what_is_left_beside_other_rates(fitted, caplog):
    """Of the second gene, by a fit that writes rates and times; of the sixth, whose velocity never was of any."""
    assert not of_other_rates(fitted).any()
    for name, value in (("fit_tau", 5.0), ("fit_tau_", 6.0), ("fit_on", 0.5), ("fit_velocity", 3.0), ("fit_t", 1.0)):
        fitted.layers[name] = np.full((N, N), value)
    np.testing.assert_array_equal(of_other_rates(fitted), GENES)  # velocities of unknown rates
    fitted.var["fit_velocity_of"] = number_of_rates([fitted.var[name] for name in RATES])
    assert not of_other_rates(fitted).any()
    FittedCells(fitted, GENES, with_velocity=True)
    assert not caplog.records
    fitted.var.loc["gene_1", "fit_t_"] = 2.5
    fitted.var.loc["gene_5", "fit_velocity_of"] = np.nan
    fitted.layers["fit_on"][:, 5] = np.nan
    with unchanged(fitted):
        np.testing.assert_array_equal(np.flatnonzero(of_other_rates(fitted)), [1, 5])
        cells = FittedCells(fitted, GENES, with_velocity=True)
        _, _, on = cells.times(slice(0, N), SWITCH)
    np.testing.assert_array_equal(on[0], [0.5, 1, 0.5, 1])
    np.testing.assert_array_equal(cells.has_velocity, [True, False, True, False])
    np.testing.assert_array_equal(cells.velocities(slice(0, N), np.dtype(float)), np.full((N, 2), 3.0))
    FittedCells(fitted, GENES, with_velocity=False)
    assert [record.getMessage()[:70] for record in caplog.records] == [
        "Leaving out what `adata.layers` has in ['fit_on', 'fit_velocity'] for 2 genes"[:70],
        "Leaving out what `adata.layers` has in ['fit_on'] for 1 genes: it is not of the"[:70],
    ]
    fitted.layers["fit_velocity"][2, 0] = np.nan
    with pytest.raises(ValueError, match=r"finite numbers in `adata.layers\['fit_velocity'\]`.*found 1 that are not"):
        FittedCells(fitted, GENES, with_velocity=True)
    del fitted.var["fit_t_"]
    assert not of_other_rates(fitted).any()
