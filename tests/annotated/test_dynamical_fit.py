import numpy as np
import pytest
from anndata import AnnData

from jaxvelo.annotated.dynamical_fit import COVARIANCE, LOSS, StoredFit, read_stored_fit, write_fit

pytestmark = pytest.mark.any_precision
N_CELLS, N_GENES = 4, 3


def fit_of(n_genes, value, layer_type=np.float32, **arrays):
    columns = {"fit_alpha": np.full(n_genes, value), "fit_beta": np.full(n_genes, value)}
    layers = {"fit_t": np.full((N_CELLS, n_genes), value, dtype=layer_type)}
    return StoredFit(columns, layers, arrays, np.full(n_genes, "converged", dtype=object))


def test_genes_beside_those_of_a_fit_before():
    before = fit_of(N_GENES, 1.0, **{LOSS: np.ones((N_GENES, 5))})
    before.columns["fit_pval_steady"] = np.full(N_GENES, 0.5)
    genes = np.array([0, 2])
    joined = before.with_genes(genes, fit_of(2, 7.0, **{COVARIANCE: np.full((2, 4, 4), 7.0)}))
    np.testing.assert_array_equal(joined.columns["fit_alpha"], [7, 1, 7])
    # What the new fit does not say of its genes is not what the old one said.
    np.testing.assert_array_equal(joined.columns["fit_pval_steady"], [np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(joined.arrays[LOSS][:, 0], [np.nan, 1, np.nan])
    np.testing.assert_array_equal(joined.arrays[COVARIANCE][:, 0, 0], [7, np.nan, 7])
    np.testing.assert_array_equal(joined.layers["fit_t"], np.tile([7, 1, 7], (N_CELLS, 1)))
    assert joined.layers["fit_t"].dtype == np.float32
    assert before.columns["fit_alpha"].tolist() == [1, 1, 1]
    assert before.layers["fit_t"].max() == 1


def test_nothing_before():
    before = read_stored_fit(AnnData(np.ones((N_CELLS, N_GENES))))
    joined = before.with_genes(np.array([1]), fit_of(1, 7.0))
    np.testing.assert_array_equal(joined.columns["fit_beta"], [np.nan, 7, np.nan])
    np.testing.assert_array_equal(joined.layers["fit_t"][0], [np.nan, 7, np.nan])
    assert joined.status.tolist() == ["not fitted", "converged", "not fitted"]
    assert not joined.arrays


def test_what_is_written_is_read():
    adata = AnnData(np.ones((N_CELLS, N_GENES)))
    fit = fit_of(N_GENES, 2.0, **{COVARIANCE: np.full((N_GENES, 4, 4), 0.5)})
    write_fit(adata, fit)
    again = read_stored_fit(adata)
    for found, expected in ((again.columns, fit.columns), (again.layers, fit.layers), (again.arrays, fit.arrays)):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    assert again.status.tolist() == ["converged"] * N_GENES


def test_what_cannot_stand_beside_a_fit():
    adata = AnnData(np.ones((N_CELLS, N_GENES)))
    write_fit(adata, fit_of(N_GENES, 2.0))
    adata.varm[COVARIANCE] = np.ones((N_GENES, 3))
    with pytest.raises(ValueError, match=r"varm\['fit_covariance'\].*\(3, 4, 4\).*\(3, 3\)"):
        read_stored_fit(adata)
    del adata.varm[COVARIANCE]
    adata.varm[LOSS] = np.full((N_GENES, 1), "high")
    with pytest.raises(ValueError, match=r"numbers in `adata.varm\['loss'\]`"):
        read_stored_fit(adata)
