"""Moments of cells without neighbours, which are computed then; and of many cells."""

import jax
import numpy as np
import pytest

import jaxvelo as jv
from tests.snapshot import unchanged


class TestMomentsWithoutNeighbours:
    """Where there is no graph it is computed, and that is said; what is there is never replaced."""

    @pytest.fixture
    def counts(self):
        adata = jv.datasets.simulate(120, 70, seed=1)
        jv.pp.filter_and_normalize(adata, n_top_genes=60, subset_highly_variable=False)
        return adata

    def test_computed_and_said(self, counts, caplog):
        expected = counts.copy()
        jv.pp.neighbors(expected, n_neighbors=20, n_pcs=8)
        jv.pp.moments(expected)
        with unchanged(counts), caplog.at_level("INFO", "jaxvelo"):
            result = jv.pp.moments(counts, 20, 8, copy=True)
        assert "Found no neighbors" in caplog.text
        assert "jaxvelo.pp.neighbors" in caplog.text
        for key in ("connectivities", "distances"):
            assert abs(result.obsp[key] - expected.obsp[key]).max() == 0
        assert result.uns["neighbors"]["params"] == expected.uns["neighbors"]["params"]
        np.testing.assert_array_equal(result.obsm["X_pca"], expected.obsm["X_pca"])
        np.testing.assert_array_equal(result.layers["Ms"], expected.layers["Ms"])
        assert jv.pp.moments(counts, 20, 8) is None
        np.testing.assert_array_equal(counts.layers["Mu"], expected.layers["Mu"])
        jv.pp.moments(counts, 20, 8)  # and now it is used

    def test_defaults(self, counts):
        jv.pp.moments(counts)
        assert counts.uns["neighbors"]["params"]["n_neighbors"] == 30
        few = counts[:12].copy()
        for key in list(few.obsp):
            del few.obsp[key]
        del few.uns["neighbors"]
        jv.pp.moments(few)
        assert few.uns["neighbors"]["params"]["n_neighbors"] == 12

    def test_representation_and_genes(self, counts):
        counts.obsm["X_other"] = np.asarray(counts.obs[["true_time"]])
        jv.pp.moments(counts, 10, use_rep="X_other")
        expected = jv.pp.neighbors(counts, 10, use_rep="X_other", copy=True)
        assert abs(counts.obsp["distances"] - expected.obsp["distances"]).max() == 0
        with pytest.raises(ValueError, match=r"use_rep='X_pca'.*use_rep='X_other'"):
            jv.pp.moments(counts, use_rep="X_pca")
        jv.pp.moments(counts, use_rep="other")

    def test_all_genes(self, counts):
        chosen = jv.pp.moments(counts, 10, 5, copy=True)
        every = jv.pp.moments(counts, 10, 5, use_highly_variable=False, copy=True)
        unused = ~counts.var["highly_variable"].to_numpy()
        assert unused.any()
        assert not chosen.varm["PCs"][unused].any()
        assert every.varm["PCs"][unused].all()

    def test_order_of_arguments_is_scvelos(self, counts):
        jv.pp.moments(counts, 11, 6)
        params = counts.uns["neighbors"]["params"]
        assert (params["n_neighbors"], params["n_pcs"]) == (11, 6)
        with pytest.raises(ValueError, match=r"n_neighbors=6.*n_neighbors=11.*neighbors\(adata, n_neighbors=6"):
            jv.pp.moments(counts, 6, 11)

    def test_unknown_is_accepted(self, counts):
        jv.pp.neighbors(counts, 11, 6)
        before = counts.obsp["connectivities"].copy()
        del counts.uns["neighbors"]["params"]["n_pcs"]
        jv.pp.moments(counts, 11, 30)
        counts.uns["neighbors"]["params"]["n_pcs"] = None
        jv.pp.moments(counts, 11, 30)
        del counts.uns["neighbors"]["params"]
        jv.pp.moments(counts, 17, 30)
        del counts.uns["neighbors"]
        jv.pp.moments(counts, 17, 30)
        assert abs(counts.obsp["connectivities"] - before).max() == 0
        assert "neighbors" not in counts.uns

    @pytest.mark.parametrize("missing", ["connectivities", "distances", "uns of both"])
    def test_parts_are_never_replaced(self, counts, missing):
        jv.pp.neighbors(counts, 11, 6)
        for key in ("connectivities", "distances"):
            if missing in (key, "uns of both"):
                del counts.obsp[key]
        if missing != "uns of both":
            del counts.uns["neighbors"]
        mode = "connectivities" if missing == "uns of both" else missing
        with unchanged(counts), pytest.raises(KeyError, match=rf"obsp\['{mode}'\].*jaxvelo.pp.neighbors"):
            jv.pp.moments(counts, mode=mode)

    @pytest.mark.parametrize("method", [None, "umap", "sklearn", "hnsw"])
    def test_methods_of_scvelo(self, counts, method):
        jv.pp.moments(counts, 10, 5, "connectivities", method)
        assert "Ms" in counts.layers

    def test_old_order_of_arguments_is_refused(self, counts):
        with unchanged(counts), pytest.raises(ValueError, match=r"method.*umap.*True"):
            jv.pp.moments(counts, None, None, "connectivities", True)
        with unchanged(counts), pytest.raises(ValueError, match=r"method.*umap.*'gauss'"):
            jv.pp.moments(counts, method="gauss")


def test_more_cells_than_other_tools_compare_with_each_other():
    """From counts to arrows on more than 8,192 cells, where scanpy turns to an approximate search."""
    n_cells = 8_500
    adata = jv.datasets.simulate(n_cells, 60, n_branches=2, seed=0)
    jv.pp.filter_and_normalize(adata, min_shared_counts=20)
    jv.pp.neighbors(adata, n_neighbors=15, n_pcs=10)
    assert adata.obsp["distances"].nnz == n_cells * 14
    jv.pp.moments(adata)
    jv.tl.velocity(adata, mode="stochastic")
    kernel = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    kernel = 0.8 * kernel + 0.2 * connectivity
    rows = np.asarray(kernel.transition_matrix.sum(axis=1)).ravel()
    np.testing.assert_allclose(rows, 1, atol=1e-12 if jax.config.jax_enable_x64 else 1e-6)
    adata.obsm["X_time"] = np.c_[adata.obs["true_time"], np.zeros(n_cells)]
    arrows = np.asarray(jv.markov.project(kernel.transitions, adata.obsm["X_time"]))
    # Time goes on along the arrows.
    assert (arrows[:, 0] > 0).mean() > 0.7
