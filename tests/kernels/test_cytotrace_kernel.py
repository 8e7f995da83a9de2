"""The kernel of CytoTRACE: equal to CellRank's, on disk and sparse, stored, and what it refuses."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats

from jaxvelo.kernels import ConnectivityKernel, CytoTRACEKernel, _cytotrace_score, from_adata, read
from tests.kernels.other_reference import TOLERANCE, assert_equal, reference, reference_matrix
from tests.snapshot import unchanged

KEYS = "/obs/ct_score", "/obs/ct_pseudotime", "/obs/ct_num_exp_genes", "/var/ct_gene_corr", "/var/ct_correlates"


def smooth(matrix, connectivities):
    """Means over neighbours, the cell itself included."""
    pattern = sp.csr_matrix(connectivities > 0, dtype=float) + sp.eye_array(matrix.shape[0])
    pattern.data[:] = 1
    return (pattern @ matrix.astype(float)).toarray() / np.asarray(pattern.sum(axis=1)).reshape(-1, 1)


@pytest.fixture(scope="module")
def arabidopsis(shared):
    whole = anndata.read_h5ad(shared / "data" / "arabidopsis_root_10000.h5ad")
    adata = whole[reference(shared, "arabidopsis/cells")].copy()
    adata.obsp["connectivities"] = reference_matrix(shared, "arabidopsis/connectivities")
    adata.layers["Ms"] = smooth(adata.X, adata.obsp["connectivities"])
    return adata


def test_equals_cellrank(arabidopsis, shared, logged):
    kernel = CytoTRACEKernel(arabidopsis)
    exact = np.corrcoef(
        np.c_[kernel.adata.X.toarray() > 0].sum(axis=1), arabidopsis.X[:, :20].toarray().T.astype(float)
    )
    for aggregation in ("median", "hmean", "gmean", "mean"):
        assert kernel.compute_cytotrace(aggregation=aggregation) is kernel
        key = f"arabidopsis/cytotrace/{aggregation}"
        for column in ("ct_score", "ct_pseudotime", "ct_num_exp_genes"):
            expected = reference(shared, f"{key}/{column}")
            np.testing.assert_allclose(arabidopsis.obs[column], expected, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(arabidopsis.var["ct_correlates"], reference(shared, f"{key}/genes"))
        # Theirs are in the single precision of the matrix.
        correlations = arabidopsis.var["ct_gene_corr"]
        np.testing.assert_allclose(correlations, reference(shared, f"{key}/gene_corr"), rtol=0, atol=2e-5)
        np.testing.assert_allclose(correlations.iloc[:20], exact[0, 1:], rtol=0, atol=1e-12)
    assert "Computing CytoTRACE score with `2000` genes. Consider using more than `10000` genes" in logged()
    for scheme in ("hard", "soft"):
        kernel.compute_transition_matrix(scheme)
        assert_equal(kernel.transition_matrix, reference_matrix(shared, f"arabidopsis/cytotrace/{scheme}"))
    assert repr(kernel) == "CytoTRACEKernel[n=3000, dnorm=False, scheme='soft', b=10.0, nu=0.5]"


@pytest.fixture
def counted(cells):
    """Cells that express fewer genes the later they are."""
    rng = np.random.default_rng(0)
    keep = rng.random(cells.shape) < np.linspace(0.9, 0.3, cells.n_obs)[:, None]
    cells.X = np.where(keep, cells.X, 0)
    cells.X[:, 5] = 2.0  # a gene of constant expression
    return cells


def test_sparse_dense_on_disk_and_in_pieces(counted, tmp_path, monkeypatch):
    monkeypatch.setattr(_cytotrace_score, "_PIECE", 100)
    found = {}
    counted.write_h5ad(tmp_path / "dense.h5ad")
    others = counted.copy()
    others.X, others.layers["Ms"] = sp.csc_matrix(counted.X), sp.csr_matrix(counted.layers["Ms"])
    written = others.copy()
    written.X = sp.csr_matrix(written.X)
    written.write_h5ad(tmp_path / "sparse.h5ad")
    for name, adata in {
        "dense": counted,
        "sparse": others,
        "dense on disk": anndata.read_h5ad(tmp_path / "dense.h5ad", backed="r"),
        "sparse on disk": anndata.read_h5ad(tmp_path / "sparse.h5ad", backed="r"),
    }.items():
        with unchanged(adata, *KEYS, "/uns/ct_params") if "disk" not in name else unchanged(counted, *KEYS, "/uns"):
            kernel = CytoTRACEKernel(adata).compute_cytotrace(aggregation="median", n_genes=7)
        found[name] = kernel.adata.obs["ct_score"].to_numpy(), kernel.adata.var["ct_gene_corr"].to_numpy()
    x = counted.X.astype(float)
    number = (x > 0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        correlations = np.array([scipy.stats.pearsonr(g, number).statistic if np.ptp(g) else np.nan for g in x.T])
    chosen = np.argsort(np.where(np.isnan(correlations), -np.inf, correlations))[-7:]
    score = np.median(counted.layers["Ms"][:, chosen].astype(float), axis=1)
    score = (score - score.min()) / np.ptp(score)
    for name, (scores, of_genes) in found.items():
        np.testing.assert_allclose(scores, score, rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(of_genes, correlations, rtol=0, atol=1e-10, err_msg=name)
    assert counted.uns["ct_params"] == {"aggregation": "median", "layer": "Ms", "use_raw": False, "n_genes": 7}


def test_raw_with_further_genes(counted, logged):
    raw = anndata.AnnData(np.c_[counted.X[:, ::-1], counted.X[:, :3] * 2])
    raw.var_names = [*counted.var_names[::-1], "a", "b", "c"]
    raw.obs_names = counted.obs_names
    plain = CytoTRACEKernel(counted).compute_cytotrace(use_raw=True, n_genes=5)
    assert "`adata.raw` is `None`. Setting `use_raw=False`" in logged()
    before = counted.var["ct_correlates"].copy()
    del counted.var["ct_gene_corr"]
    counted.raw = raw
    CytoTRACEKernel(counted).compute_cytotrace(use_raw=True, n_genes=5)
    assert counted.var["ct_correlates"].sum() == 5
    assert (counted.var["ct_correlates"] & before).sum() >= 3
    n_expressed = counted.obs["ct_num_exp_genes"].to_numpy()
    np.testing.assert_array_equal(n_expressed, (np.asarray(raw.X) > 0).sum(axis=1))
    expected = np.corrcoef(n_expressed, counted.X[:, 7])[0, 1]
    np.testing.assert_allclose(counted.var["ct_gene_corr"].iloc[7], expected, rtol=0, atol=1e-6)
    assert plain.transition_matrix is None
    CytoTRACEKernel(counted).compute_cytotrace(n_genes=40)
    assert "WARNING: Expected" not in logged()
    CytoTRACEKernel(counted).compute_cytotrace()
    assert "Expected 200 genes that go with the number of expressed genes, found 40: using these" in logged()


def test_combined_and_stored(counted, tmp_path):
    kernel = CytoTRACEKernel(counted, backward=True)
    with pytest.raises(RuntimeError, match=r"Compute pseudotime first as `.compute_cytotrace\(\)`"):
        kernel.compute_transition_matrix()
    kernel.compute_cytotrace(n_genes=10).compute_transition_matrix("soft")
    combined = 0.6 * kernel + 0.4 * ConnectivityKernel(counted).compute_transition_matrix()
    combined.write(tmp_path / "kernel.npz")
    kernel.write_to_adata()
    back = read(tmp_path / "kernel.npz")
    assert repr(back) == repr(combined)
    again = back.transition_function(back.graph, back.features)
    assert abs(again.to_csr() - combined.transition_matrix).max() < TOLERANCE
    del counted.uns["T_bwd_params"]["kernel"]  # as CellRank writes
    assert counted.uns["T_bwd_params"]["init"]["time_key"] == "ct_pseudotime"
    theirs = from_adata(counted, "T_bwd")
    assert type(theirs) is CytoTRACEKernel
    assert theirs.backward
    kernel.compute_cytotrace(layer="X", n_genes=5)
    assert kernel.transition_matrix is None
    assert (~kernel).pseudotime.max() == kernel.pseudotime.max() == 1


@pytest.mark.any_precision
def test_what_is_refused(counted):
    kernel = CytoTRACEKernel(counted)
    infinite, negative = counted.X.copy(), counted.layers["Ms"].copy()
    infinite[3, 2], negative[4] = np.nan, -1
    counted.layers["infinite"], counted.layers["negative"], counted.layers["zero"] = infinite, negative, 0 * infinite
    counted.layers["zero"][:] = 0
    for arguments, error, message in (
        ({"aggregation": "mode"}, ValueError, "'hmean', 'gmean'"),
        ({"n_genes": 0}, ValueError, "n_genes"),
        ({"layer": "imputed"}, KeyError, "imputed"),
        ({"layer": "infinite"}, ValueError, r"finite numbers in `adata.layers\['infinite'\]`"),
        ({"layer": "negative", "aggregation": "hmean"}, ValueError, "no negative numbers"),
        ({"layer": "zero"}, ValueError, "that differs among cells"),
    ):
        with unchanged(counted), pytest.raises(error, match=message):
            kernel.compute_cytotrace(**arguments)
    counted.X = infinite
    with unchanged(counted), pytest.raises(ValueError, match="found at least 1"):
        kernel.compute_cytotrace()
    counted.X = np.nan_to_num(infinite)
    counted.raw = counted.copy()
    counted.raw.var.index = ["same"] * counted.n_vars
    with unchanged(counted), pytest.raises(ValueError, match="unique"):
        kernel.compute_cytotrace(use_raw=True)
    counted.X = np.ones(counted.shape)
    with unchanged(counted), pytest.raises(ValueError, match="found none: their expression is constant"):
        kernel.compute_cytotrace()
