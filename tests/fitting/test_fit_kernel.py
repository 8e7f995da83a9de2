"""Fits of kernels: what is fitted and how, and what is said about it."""

import re

import numpy as np
import optax
import pytest

from jaxvelo import objectives, tl
from tests.bent_line import N_CELLS
from tests.fitting.fits import CLOSE, DOUBLE, QUICK, check_scores, dense, loss_of, same
from tests.terminal import shown_in_terminal


class TestScaleAndWeights:
    def test_scores(self, plain_fit, mixed, fates):
        check_scores(plain_fit, fates, mixed)
        assert list(plain_fit.parameters) == ["softmax_scale", "weights"]
        assert plain_fit.parameters["softmax_scale"].shape == ()
        assert plain_fit.parameters["weights"].shape == (2,)
        assert plain_fit.convention["softmax_scale"] == pytest.approx(
            mixed.kernels[0].params["softmax_scale"], rel=1e-6
        )
        np.testing.assert_allclose(plain_fit.convention["weights"], [0.8, 0.2], rtol=1e-6)
        np.testing.assert_allclose(plain_fit.kernel.weights, plain_fit.parameters["weights"], rtol=1e-6)
        fitted = plain_fit.kernel.kernels[0].params["softmax_scale"]
        assert fitted == pytest.approx(float(plain_fit.parameters["softmax_scale"]), rel=1e-6)

    def test_split(self, plain_fit, fates):
        items = np.unique(np.asarray(fates.cell))
        assert plain_fit.validation.sum() == round(0.2 * len(items))
        assert not (plain_fit.training & plain_fit.validation).any()
        np.testing.assert_array_equal(np.flatnonzero(plain_fit.training | plain_fit.validation), items)

    def test_gain(self, plain_fit, mixed, fates):
        """The gain on held-out cells and its standard error, by a loop."""
        cells = np.flatnonzero(plain_fit.validation)
        one = [np.eye(N_CELLS)[cell] for cell in cells]
        gains = [loss_of(mixed, fates, mask) - loss_of(plain_fit.kernel, fates, mask) for mask in one]
        assert np.isclose(plain_fit.scores["validation_gain"], np.mean(gains), **CLOSE)
        error = np.std(gains, ddof=1) / np.sqrt(len(gains))
        assert np.isclose(plain_fit.scores["validation_gain_se"], error, **CLOSE)

    def test_history(self, plain_fit):
        assert set(plain_fit.history) == {"loss", "training", "validation"}
        for losses in plain_fit.history.values():
            assert losses.shape == (20, 1)
            assert np.isfinite(losses).all()
        np.testing.assert_allclose(plain_fit.history["loss"], plain_fit.history["training"], rtol=1e-6)
        best = np.unravel_index(np.argmin(plain_fit.history["loss"]), (20, 1))
        assert best == (plain_fit.step, plain_fit.start)
        np.testing.assert_array_equal(plain_fit.failed, [-1])

    def test_small_weights_start_from_equal_ones_too(self, mixed, fates):
        small = 0.9 * mixed.kernels[0] + 0.1 * mixed.kernels[1]
        result = tl.fit_kernel(small, fates, steps=2, progress=False, prior=np.inf)
        assert result.history["loss"].shape == (2, 2)
        equal = tl.fit_kernel(mixed, fates, steps=2, progress=False, prior=np.inf, starts=[{"weights": 0.5}])
        np.testing.assert_allclose(result.history["loss"][:, 1], equal.history["loss"][:, 0], rtol=1e-5)

    def test_same_seed_same_result(self, plain_fit, mixed, fates):
        same(plain_fit, tl.fit_kernel(mixed, fates, **QUICK))

    def test_other_seed_other_cells(self, plain_fit, mixed, fates):
        other = tl.fit_kernel(mixed, fates, seed=1, **QUICK)
        assert (other.validation != plain_fit.validation).any()

    def test_resumed_equals_one_go(self, plain_fit, mixed, fates):
        half = tl.fit_kernel(mixed, fates, steps=7, progress=False, prior=np.inf)
        assert len(half.history["loss"]) == 7
        same(plain_fit, tl.fit_kernel(mixed, fates, resume=half, **QUICK))

    def test_standard_errors(self, plain_fit):
        assert set(plain_fit.standard_errors) == {"softmax_scale", "weights"}
        assert plain_fit.standard_errors["weights"].shape == (2,)

    def test_names(self, plain_fit):
        scale, first = plain_fit.parameters["softmax_scale"], plain_fit.parameters["weights"][0]
        assert f"softmax_scale={round(float(scale), 3)}" in repr(plain_fit.kernel)
        assert f"({round(float(first), 3)} * VelocityKernel[" in repr(plain_fit.kernel)

    def test_a_kernel_like_any_other(self, plain_fit, connectivity):
        both = 0.5 * plain_fit.kernel + 0.5 * connectivity
        np.testing.assert_allclose(dense(both), 0.5 * dense(plain_fit.kernel) + 0.5 * dense(connectivity), atol=1e-6)
        backward = ~plain_fit.kernel
        assert backward.backward
        assert plain_fit.kernel.kernels[0].params
        for kernel in backward.kernels:
            kernel.compute_transition_matrix()
        np.testing.assert_allclose(dense(backward).sum(axis=1), 1, rtol=1e-9)
        np.testing.assert_allclose(dense(plain_fit.kernel).sum(axis=1), 1, rtol=1e-9)


def test_gene_weights(genes_fit, mixed, fates):
    check_scores(genes_fit, fates, mixed)
    weights = genes_fit.parameters["gene_weights"]
    assert weights.shape == (41,)
    assert (weights > 0).all()
    np.testing.assert_array_equal(genes_fit.convention["gene_weights"], 1)
    np.testing.assert_array_equal(genes_fit.genes["gene_weights"], mixed.adata.var_names)
    np.testing.assert_allclose(genes_fit.kernel.kernels[0].params["gene_weights"], weights, rtol=1e-6)
    assert "gene_weights=" in repr(genes_fit.kernel)
    top = genes_fit.top_genes(3)
    order = np.argsort(-weights)[:3]
    assert [name for name, _ in top] == list(mixed.adata.var_names[order])
    np.testing.assert_allclose([weight for _, weight in top], weights[order] / np.median(weights))
    assert genes_fit.history["loss"].shape == (20, 1)


def test_penalty_is_chosen_by_inner_validation(genes_fit):
    recorded = genes_fit.penalties
    assert set(recorded) == {"candidates", "loss", "loss_se"}
    assert np.isfinite(recorded["loss"]).all()
    assert (recorded["loss_se"] >= 0).all()
    assert genes_fit.penalty == recorded["candidates"][np.argmin(recorded["loss"])]


def test_given_penalty(mixed, fates, genes_fit):
    train = {"scale": True, "weights": True, "gene_weights": "near_one"}
    free = tl.fit_kernel(mixed, fates, train=train, penalty=0.0, **QUICK)
    held = tl.fit_kernel(mixed, fates, train=train, penalty=1e4, **QUICK)
    assert free.penalty == 0
    assert held.penalty == 1e4
    assert free.penalties == held.penalties == {}
    spread = [np.std(np.log(r.parameters["gene_weights"])) for r in (free, genes_fit, held)]
    assert spread[0] >= spread[1] >= spread[2]
    assert spread[0] > 10 * spread[2]
    loss, training = free.history["loss"], free.history["training"]
    np.testing.assert_allclose(loss, training, rtol=1e-6)
    halfway = tl.fit_kernel(mixed, fates, train=train, penalty=1e4, steps=10, progress=False, prior=np.inf)
    same(held, tl.fit_kernel(mixed, fates, train=train, resume=halfway, **QUICK))


def test_chosen_penalty_is_kept_when_resumed(mixed, fates, genes_fit):
    same(genes_fit, tl.fit_kernel(mixed, fates, train=("scale", "weights", "gene_weights"), resume=genes_fit, **QUICK))


class TestDifferentAmongCells:
    def test_by_cluster(self, cluster_fit, mixed, fates):
        check_scores(cluster_fit, fates, mixed)
        assert cluster_fit.parameters["softmax_scale"].shape == (3,)
        assert cluster_fit.parameters["weights"].shape == (3, 2)
        assert cluster_fit.levels == {
            "softmax_scale": ["early", "middle", "late"], "weights": ["group 0", "group 1", "group 2"],
        }  # fmt: skip
        codes = mixed.adata.obs["clusters"].cat.codes.to_numpy()
        scale = cluster_fit.kernel.kernels[0].params["softmax_scale"]
        np.testing.assert_allclose(scale, cluster_fit.parameters["softmax_scale"][codes], rtol=1e-6)
        assert len(np.unique(scale)) == 3
        np.testing.assert_allclose(
            cluster_fit.kernel.weights[0], cluster_fit.parameters["weights"][codes, 0], rtol=1e-6
        )
        assert cluster_fit.standard_errors["softmax_scale"].shape == (3,)
        assert cluster_fit.standard_errors["weights"].shape == (3, 2)

    def test_smooth(self, smooth_fit, mixed, fates):
        check_scores(smooth_fit, fates, mixed)
        assert smooth_fit.parameters["softmax_scale"].shape == (N_CELLS,)
        assert smooth_fit.parameters["weights"].shape == (N_CELLS, 2)
        assert smooth_fit.levels == {}
        scale = smooth_fit.kernel.kernels[0].params["softmax_scale"]
        np.testing.assert_allclose(scale, smooth_fit.parameters["softmax_scale"], rtol=1e-6)
        np.testing.assert_allclose(smooth_fit.kernel.weights[1], smooth_fit.parameters["weights"][:, 1], rtol=1e-6)
        neighbors = mixed.kernels[0].connectivities.tocoo()
        logarithm = np.log(scale)
        assert logarithm.std() > 0
        close = np.abs(logarithm[neighbors.row] - logarithm[neighbors.col]).mean()
        assert close < np.abs(logarithm[:, None] - logarithm[None]).mean()
        assert "softmax_scale: one for each cell" in str(smooth_fit)

    def test_sparse(self, velocity, gain):
        result = tl.fit_kernel(
            velocity, gain, train={"gene_weights": "sparse"}, penalty=1.0, optimizer=optax.adam(0.1), **QUICK
        )
        check_scores(result, gain, velocity)
        assert list(result.parameters) == ["gene_weights"]
        assert result.kernel.params["softmax_scale"] == velocity.params["softmax_scale"]

    def test_false_and_none_are_not_trained(self, mixed, fates):
        result = tl.fit_kernel(mixed, fates, train={"scale": False, "weights": True, "gene_weights": None}, **QUICK)
        assert list(result.parameters) == ["weights"]


def test_held_out_velocity(known, mixed, velocity2):
    objective = objectives.HeldOutVelocity(known, n_splits=2)
    result = tl.fit_kernel(mixed, objective, **QUICK)
    check_scores(result, objective, mixed)
    assert result.standard_errors == {}
    with pytest.raises(ValueError, match=r"Expected a kernel on the features .*velocity.*found"):
        tl.fit_kernel(velocity2, objective, **QUICK)


def test_sums_and_multiples(mixed, fates, gain):
    objective = fates + 0.5 * gain
    result = tl.fit_kernel(mixed, objective, **QUICK)
    check_scores(result, objective, mixed)
    assert result.objective == "FateLikelihood + 0.5 * TimeGain"
    assert result.standard_errors == {}


def test_a_multiple_of_a_likelihood_has_its_standard_errors(mixed, fates):
    plain, same_again, threefold, negative = (
        tl.fit_kernel(mixed, objective, train="weights", **QUICK)
        for objective in (fates, 1.0 * fates, 3.0 * fates, -1.0 * fates)
    )
    assert (plain.standard_errors["weights"] > 0).all()
    assert same_again.objective == "FateLikelihood"
    assert threefold.objective == "3 * FateLikelihood"
    for result in (same_again, threefold):
        # Adam's steps depend on the factor by its epsilon alone.
        for field in ("parameters", "standard_errors"):
            found, expected = getattr(result, field)["weights"], getattr(plain, field)["weights"]
            np.testing.assert_allclose(found, expected, rtol=1e-5 if DOUBLE else 1e-3)
    assert negative.standard_errors == {}


@pytest.mark.parametrize("optimizer", [optax.sgd(0.5), optax.lbfgs()], ids=["sgd", "lbfgs"])
def test_any_optimizer(mixed, fates, optimizer):
    check_scores(tl.fit_kernel(mixed, fates, optimizer=optimizer, starts=1, **QUICK), fates, mixed)


def test_progress(mixed, fates, genes_fit, capfd):
    def shown(**options):
        return shown_in_terminal(lambda: tl.fit_kernel(mixed, fates, steps=20, **options))

    capfd.readouterr()
    assert shown(progress=False, prior=np.inf) == ""
    bars = shown()
    assert "Choosing prior" in bars
    assert "Fitting: 100%" in bars  # also where it ended by itself
    assert "loss=" in bars
    assert "Choosing penalty" in shown(train=["scale", "weights", "gene_weights"])
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": 0.5}, "`prior` as in the fit to resume, `inf`, found `0.5`"),
        ({"outside": 0}, "`outside` as in the fit to resume, `30.0`, found `0`"),
        ({"groups": "clusters"}, "`groups` as in the fit to resume, `'cells'`, found `'clusters'`"),
        ({"optimizer": optax.adam(0.1)}, "the optimiser of the fit to resume"),
    ],
)
def test_resumed_with_other_arguments(mixed, fates, plain_fit, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tl.fit_kernel(mixed, fates, resume=plain_fit, **{**QUICK, **change})


def test_penalties_grow_with_the_loss(mixed, fates):
    settings = {"train": ["scale", "gene_weights"], "penalty": 0.3, "validation": None}
    one, many = (tl.fit_kernel(mixed, factor * fates, **settings, **QUICK) for factor in (1.0, 50.0))
    np.testing.assert_allclose(many.history["loss"][0], 50 * one.history["loss"][0], rtol=1e-4)
    for name in ("softmax_scale", "gene_weights"):
        np.testing.assert_allclose(many.parameters[name], one.parameters[name], rtol=0.02)
