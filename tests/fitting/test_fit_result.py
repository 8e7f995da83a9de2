"""Results of fits: their text, and what is kept of them."""

import copy
import dataclasses

import anndata
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo import objectives, tl
from jaxvelo.kernels import PrecomputedKernel, from_adata
from tests.bent_line import N_CELLS
from tests.fitting.fits import QUICK, dense, same
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


class TestResult:
    def test_text_without_a_loss(self, mixed):
        """There is no share of nothing."""
        objective = objectives.FunctionOf(mixed.adata, lambda matrix: 0 * (matrix @ jnp.ones(N_CELLS)))
        result = tl.fit_kernel(mixed, objective, steps=1, progress=False, prior=np.inf)
        assert "held-out cells: 0.0000 (convention) -> 0.0000, gain 0.0000 ± 0.0000\n" in str(result)

    def test_layout_of_cellrank(self, plain_fit, tmp_path):
        """CellRank finds the fitted matrix where it looks for one."""
        adata = plain_fit.kernel.adata.copy()
        kernel = plain_fit.kernel.copy()
        kernel.adata = adata
        dataclasses.replace(plain_fit, kernel=kernel).write_to_adata()
        assert {"T_fwd", "T_fwd_params", "T_fwd_fit"} <= {*adata.obsp, *adata.uns}
        np.testing.assert_array_equal(adata.obsp["T_fwd"].toarray(), dense(plain_fit.kernel))
        np.testing.assert_array_equal(dense(PrecomputedKernel("T_fwd", adata)), dense(plain_fit.kernel))
        assert all(isinstance(part, (dict, np.ndarray, str, int, float)) for part in adata.uns["T_fwd_fit"].values())

    def test_projection(self, genes_fit, tmp_path):
        adata = genes_fit.kernel.adata.copy()
        kernel = genes_fit.kernel.copy()
        kernel.adata = adata
        kernel.plot_projection(basis="umap", stream=False, save=tmp_path / "arrows.png")
        assert (tmp_path / "arrows.png").stat().st_size > 0
        arrows = adata.obsm["T_fwd_umap"]
        assert arrows.shape == (N_CELLS, 2)
        assert np.abs(arrows).max() > 0

    def test_text(self, plain_fit):
        lines = str(plain_fit).splitlines()
        scores, scale, weights = (
            plain_fit.scores,
            plain_fit.parameters["softmax_scale"],
            plain_fit.parameters["weights"],
        )
        assert lines[0] == f"FitResult: FateLikelihood, 20 steps, best at step {plain_fit.step}"
        before, after = scores["training_convention"], scores["training"]
        assert lines[1] == f"  {plain_fit.training.sum()} training cells: {before:.4f} (convention) -> {after:.4f}"
        before, after, gain = (scores[f"validation{s}"] for s in ("_convention", "", "_gain"))
        assert lines[2] == (
            f"  {plain_fit.validation.sum()} held-out cells: {before:.4f} (convention) -> {after:.4f}, "
            f"gain {gain:.4f} ± {scores['validation_gain_se']:.4f} ({gain / before:.1%})"
        )
        assert lines[3].startswith(f"  weights: (0.8, 0.2) -> ({weights[0]:.4g}")
        assert lines[4].startswith(f"  softmax_scale: {plain_fit.convention['softmax_scale']:.4g} -> {scale:.4g}")
        changes = plain_fit.changes
        for line, where in zip(lines[5:7], ("with", "without"), strict=True):
            assert line == (
                f"  fate probabilities of cells {where} labels: change {changes[f'{where}_labels_rms']:.2g} (root mean "
                f"square), {changes[f'{where}_labels_max']:.2g} at most"
            )
        assert lines[7:] == [f"  ! {doubt}" for doubt in plain_fit.doubts]

    def test_text_of_genes(self, genes_fit):
        low, high = np.quantile(genes_fit.parameters["gene_weights"], (0.05, 0.95))
        median = np.median(genes_fit.parameters["gene_weights"])
        expected = (
            f"5 % to 95 % of genes {low / median:.2f} to {high / median:.2f} medians, penalty {genes_fit.penalty:g}"
        )
        assert f"  gene_weights: {expected}" in str(genes_fit)

    def test_no_genes(self, plain_fit):
        with pytest.raises(ValueError, match="Expected fitted gene weights"):
            plain_fit.top_genes()

    @pytest.mark.parametrize("name", ["plain_fit", "genes_fit", "cluster_fit", "smooth_fit", "unvalidated_fit"])
    @pytest.mark.parametrize("form", ["memory", "h5ad", "zarr"])
    def test_round_trip(self, name, form, request, tmp_path):
        result = request.getfixturevalue(name)
        adata = result.kernel.adata.copy()
        kernel = copy.copy(result.kernel)
        kernel.adata = adata
        result = dataclasses.replace(result, kernel=kernel)
        with unchanged(adata, *(f"/obsp/{key}" for key in ("fit", "fit_kernel0", "fit_kernel1")), "/uns"):
            result.write_to_adata("fit")
        if form == "h5ad":
            adata.write_h5ad(tmp_path / "cells.h5ad")
            adata = anndata.read_h5ad(tmp_path / "cells.h5ad")
        elif form == "zarr":
            pytest.importorskip("zarr")
            adata.write_zarr(tmp_path / "cells.zarr")
            adata = anndata.read_zarr(tmp_path / "cells.zarr")
        back = tl.FitResult.from_adata(adata, "fit")
        for field in ("parameters", "convention", "standard_errors", "levels", "genes", "history", "scores"):
            assert set(getattr(back, field)) == set(getattr(result, field)), field
        ordered = {
            field.name: {key: getattr(back, field.name)[key] for key in getattr(result, field.name)}
            for field in dataclasses.fields(back)
            if isinstance(getattr(back, field.name), dict)
        }
        same(result, dataclasses.replace(back, **ordered))
        assert str(back) == str(result)
        assert back.state is None
        if "gene_weights" in result.parameters:
            assert back.top_genes() == result.top_genes()
        if form == "h5ad":
            back.plot(save=tmp_path / "fit.png")

    def test_default_key_and_kernel(self, plain_fit):
        adata = plain_fit.kernel.adata.copy()
        kernel = copy.copy(plain_fit.kernel)
        kernel.adata = adata
        dataclasses.replace(plain_fit, kernel=kernel).write_to_adata()
        assert repr(from_adata(adata, "T_fwd")) == repr(plain_fit.kernel)
        same(plain_fit, tl.FitResult.from_adata(adata))

    def test_read_result_cannot_be_resumed(self, plain_fit, mixed, fates):
        adata = plain_fit.kernel.adata.copy()
        kernel = plain_fit.kernel.copy()
        kernel.adata = adata
        dataclasses.replace(plain_fit, kernel=kernel).write_to_adata()
        read = tl.FitResult.from_adata(adata)
        with pytest.raises(ValueError, match="found one read from AnnData: fit anew"):
            tl.fit_kernel(mixed, fates, resume=read, **QUICK)

    def test_nothing_written(self, known):
        with pytest.raises(KeyError, match=r"adata.uns\['T_fwd_fit'\].*Pass the key"):
            tl.FitResult.from_adata(known)

    def test_files(self, genes_fit, tmp_path):
        genes_fit.kernel.write(tmp_path / "kernel.npz")
        back = type(genes_fit.kernel).read(tmp_path / "kernel.npz")
        assert repr(back) == repr(genes_fit.kernel)
        np.testing.assert_array_equal(dense(back), dense(genes_fit.kernel))
