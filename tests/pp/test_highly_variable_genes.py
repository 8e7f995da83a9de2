import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.pp._highly_variable_genes import FLAVORS, highly_variable_genes, ranked_by_dispersion

COLUMNS = ["means", "dispersions", "dispersions_norm"]


@pytest.fixture(scope="module")
def logarithms():
    """Of many genes, some of which nobody expresses."""
    rng = np.random.default_rng(0)
    counts = rng.negative_binomial(2, 0.5, (150, 400)) * rng.gamma(0.3, 3.0, 400)
    counts[:, :12] = 0
    return np.log1p(counts).astype(np.float32)


FORMS = {
    "dense": lambda x: x,
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr array": sp.csr_array,
    "csc array": sp.csc_array,
    "double": lambda x: x.astype(float),
    "columns first": np.asfortranarray,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:scanpy", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_equals_scanpy(logarithms, flavor, form):
    sc = pytest.importorskip("scanpy")
    expected = sc.pp.highly_variable_genes(
        ad.AnnData(logarithms.astype(float)), n_top_genes=60, flavor=flavor, inplace=False
    )
    table = highly_variable_genes(FORMS[form](logarithms), 60, flavor)
    assert table["highly_variable"].sum() >= 60
    np.testing.assert_array_equal(table["highly_variable"], expected["highly_variable"])
    for column in COLUMNS:
        np.testing.assert_allclose(table[column], expected[column], rtol=2e-5, atol=1e-6)


def test_real_genes_equal_scanpys(shared):
    sc = pytest.importorskip("scanpy")
    x = sp.csr_matrix(ad.read_h5ad(shared / "data/pancreas_3696.h5ad").layers["spliced"], dtype=float).log1p()
    x = x[:, np.ravel(x.sum(axis=0)) > 0]
    for flavor in FLAVORS:
        expected = sc.pp.highly_variable_genes(ad.AnnData(x.toarray()), n_top_genes=500, flavor=flavor, inplace=False)
        table = highly_variable_genes(x, 500, flavor)
        np.testing.assert_array_equal(table["highly_variable"], expected["highly_variable"])
        np.testing.assert_allclose(table["dispersions_norm"], expected["dispersions_norm"], rtol=1e-4, atol=1e-5)


def test_genes_without_counts_are_left_out_where_scanpy_has_no_bins_for_them(logarithms):
    """Where more than a tenth of the genes has the same mean, zero, scanpy's bins have no width."""
    x = logarithms.copy()
    x[:, :150] = 0
    x[0, 150:] += 0.1  # everybody else is expressed
    table = highly_variable_genes(x, 60, "cell_ranger")
    assert 60 <= table["highly_variable"].sum() < 70
    assert not table["highly_variable"][:150].any()
    # The others are chosen as among themselves.
    alone = highly_variable_genes(x[:, 150:], 60, "cell_ranger")
    np.testing.assert_array_equal(table["highly_variable"][150:], alone["highly_variable"])
    np.testing.assert_allclose(table["dispersions_norm"][150:], alone["dispersions_norm"])


@pytest.mark.parametrize("flavor", FLAVORS)
def test_genes_that_are_alike_share_a_bin(flavor):
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(1.0, (30, 40)).astype(float))
    x[:, 10:] = x[:, [10]]  # the same mean thirty times
    table = highly_variable_genes(x, 5, flavor)
    assert table["highly_variable"].sum() >= 5


def test_fewer_genes_that_vary_than_asked_for():
    x = np.zeros((20, 10))
    x[:, :4] = 1.0  # expressed, but the same everywhere
    x[:, 4:7] = np.log1p(np.random.default_rng(0).poisson(2.0, (20, 3)))
    chosen = highly_variable_genes(x, 8, "seurat")["highly_variable"]
    assert chosen[4:7].all()
    assert not chosen[7:].any()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_what_cannot_be_ranked_is_an_error(flavor):
    with pytest.raises(ValueError, match=r"at least 2 cells.*found 1"):
        highly_variable_genes(np.ones((1, 5)), 2, flavor)
    with pytest.raises(ValueError, match=r"at least 2 cells.*found 1"):  # as of counts on disk
        ranked_by_dispersion(np.ones(5), np.ones(5), 1, 2, flavor)
    with pytest.raises(
        ValueError, match=rf"found none among 5 genes with `flavor='{flavor}'`.*Leave out `n_top_genes`"
    ):
        highly_variable_genes(np.zeros((4, 5)), 2, flavor)
    counts = ad.AnnData(np.full((4, 5), 3.0), layers={"spliced": np.full((4, 5), 3.0)})
    with pytest.raises(ValueError, match="found none among 5"):
        jv.pp.filter_and_normalize(counts, n_top_genes=2, flavor=flavor)
    assert list(counts.obs) == []
    assert list(counts.var) == []
