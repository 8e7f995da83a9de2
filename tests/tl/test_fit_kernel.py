"""Fits of kernels: what is fitted, what stays, what is said about it, and what goes wrong."""

import copy
import dataclasses

import anndata
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse as sp

from jaxvelo import fit, objectives, tl
from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel, VelocityKernel, from_adata
from tests.kernels.conftest import N_CELLS
from tests.kernels.snapshot import unchanged
from tests.tl.conftest import make_known

DOUBLE = jax.config.jax_enable_x64
CLOSE = {"rtol": 1e-9 if DOUBLE else 2e-4, "atol": 1e-9 if DOUBLE else 2e-5}
QUICK = {"steps": 20, "progress": False}


def loss_of(kernel, objective, cells=None, seed=0):
    """Loss of a kernel itself, from what is public."""
    mask = jnp.ones(kernel.shape[0]) if cells is None else jnp.asarray(cells, dtype=float)
    return float(_loss(objective, kernel.expression, kernel.graph, kernel.features, jax.random.key(seed), mask))


@eqx.filter_jit
def _loss(objective, *arguments):
    return objective(*arguments)


def check_scores(result, objective, kernel=None, seed=0):
    """The fit lowers the training loss, and the scores are the losses of the fitted kernel and of the given one."""
    scores = result.scores
    assert scores["training"] < scores["training_convention"]
    for name in ("training", "validation"):
        cells = getattr(result, name)
        if cells.any():
            assert np.isclose(scores[name], loss_of(result.kernel, objective, cells, seed), **CLOSE)
            if kernel is not None:
                expected = loss_of(kernel, objective, cells, seed)
                assert np.isclose(scores[f"{name}_convention"], expected, **CLOSE)
    best = result.history["training"][result.step, result.start]
    assert np.isclose(best, scores["training"], **CLOSE)


def dense(kernel):
    return kernel.transition_matrix.toarray()


def same(a, b):
    """Whether two results have equal numbers in all fields."""
    for field in dataclasses.fields(tl.FitResult):
        if field.name in ("kernel", "state"):
            continue
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, dict):
            assert list(left) == list(right), field.name
            for name in left:
                np.testing.assert_array_equal(left[name], right[name], err_msg=f"{field.name} {name}")
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)
    np.testing.assert_array_equal(dense(a.kernel), dense(b.kernel))
    assert repr(a.kernel) == repr(b.kernel)


@pytest.fixture(scope="module")
def plain(mixed, fates):
    """The fit of scale and weights."""
    with unchanged(mixed.adata):
        before = repr(mixed), dense(mixed)
        result = tl.fit_kernel(mixed, fates, **QUICK)
        assert repr(mixed) == before[0]
        np.testing.assert_array_equal(dense(mixed), before[1])
    return result


@pytest.fixture(scope="module")
def genes(mixed, fates):
    """The fit of everything, with the penalty chosen."""
    with unchanged(mixed.adata):
        return tl.fit_kernel(mixed, fates, train=["scale", "weights", "gene_weights"], **QUICK)


class TestScaleAndWeights:
    def test_scores(self, plain, mixed, fates):
        check_scores(plain, fates, mixed)
        assert list(plain.parameters) == ["softmax_scale", "weights"]
        assert plain.parameters["softmax_scale"].shape == ()
        assert plain.parameters["weights"].shape == (2,)
        assert plain.convention["softmax_scale"] == pytest.approx(mixed.kernels[0].params["softmax_scale"], rel=1e-6)
        np.testing.assert_allclose(plain.convention["weights"], [0.8, 0.2], rtol=1e-6)
        np.testing.assert_allclose(plain.kernel.weights, plain.parameters["weights"], rtol=1e-6)
        fitted = plain.kernel.kernels[0].params["softmax_scale"]
        assert fitted == pytest.approx(float(plain.parameters["softmax_scale"]), rel=1e-6)

    def test_split(self, plain, fates):
        items = np.unique(np.asarray(fates.cell))
        assert plain.validation.sum() == round(0.2 * len(items))
        assert not (plain.training & plain.validation).any()
        np.testing.assert_array_equal(np.flatnonzero(plain.training | plain.validation), items)

    def test_gain(self, plain, mixed, fates):
        """The gain on held-out cells and its standard error, by a loop."""
        cells = np.flatnonzero(plain.validation)
        one = [np.eye(N_CELLS)[cell] for cell in cells]
        gains = [loss_of(mixed, fates, mask) - loss_of(plain.kernel, fates, mask) for mask in one]
        assert np.isclose(plain.scores["validation_gain"], np.mean(gains), **CLOSE)
        error = np.std(gains, ddof=1) / np.sqrt(len(gains))
        assert np.isclose(plain.scores["validation_gain_se"], error, **CLOSE)

    def test_history(self, plain):
        assert set(plain.history) == {"loss", "training", "validation"}
        for losses in plain.history.values():
            assert losses.shape == (20, 2)
            assert np.isfinite(losses).all()
        np.testing.assert_allclose(plain.history["loss"], plain.history["training"], rtol=1e-6)
        best = np.unravel_index(np.argmin(plain.history["loss"]), (20, 2))
        assert best == (plain.step, plain.start)
        np.testing.assert_array_equal(plain.failed, [-1, -1])

    def test_same_seed_same_result(self, plain, mixed, fates):
        same(plain, tl.fit_kernel(mixed, fates, **QUICK))

    def test_other_seed_other_cells(self, plain, mixed, fates):
        other = tl.fit_kernel(mixed, fates, seed=1, **QUICK)
        assert (other.validation != plain.validation).any()

    def test_resumed_equals_one_go(self, plain, mixed, fates):
        half = tl.fit_kernel(mixed, fates, steps=7, progress=False)
        assert len(half.history["loss"]) == 7
        same(plain, tl.fit_kernel(mixed, fates, resume=half, **QUICK))

    def test_standard_errors(self, plain):
        assert set(plain.standard_errors) == {"softmax_scale", "weights"}
        assert plain.standard_errors["weights"].shape == (2,)
        for errors in plain.standard_errors.values():
            known = errors[np.isfinite(errors)]
            assert (known > 0).all()

    def test_names(self, plain):
        scale, first = plain.parameters["softmax_scale"], plain.parameters["weights"][0]
        assert f"softmax_scale={round(float(scale), 3)}" in repr(plain.kernel)
        assert f"({round(float(first), 3)} * VelocityKernel[" in repr(plain.kernel)

    def test_a_kernel_like_any_other(self, plain, connectivity):
        both = 0.5 * plain.kernel + 0.5 * connectivity
        np.testing.assert_allclose(dense(both), 0.5 * dense(plain.kernel) + 0.5 * dense(connectivity), atol=1e-6)
        backward = ~plain.kernel
        assert backward.backward
        assert plain.kernel.kernels[0].params
        for kernel in backward.kernels:
            kernel.compute_transition_matrix()
        np.testing.assert_allclose(dense(backward).sum(axis=1), 1, rtol=1e-9)
        np.testing.assert_allclose(dense(plain.kernel).sum(axis=1), 1, rtol=1e-9)


def test_gene_weights(genes, mixed, fates):
    check_scores(genes, fates, mixed)
    weights = genes.parameters["gene_weights"]
    assert weights.shape == (41,)
    assert (weights > 0).all()
    np.testing.assert_array_equal(genes.convention["gene_weights"], 1)
    np.testing.assert_array_equal(genes.genes["gene_weights"], mixed.adata.var_names)
    np.testing.assert_allclose(genes.kernel.kernels[0].params["gene_weights"], weights, rtol=1e-6)
    assert "gene_weights=" in repr(genes.kernel)
    top = genes.top_genes(3)
    order = np.argsort(-weights)[:3]
    assert [name for name, _ in top] == list(mixed.adata.var_names[order])
    np.testing.assert_allclose([weight for _, weight in top], weights[order] / np.median(weights))
    assert genes.history["loss"].shape == (20, 1)


def test_penalty_is_chosen_by_inner_validation(genes):
    recorded = genes.penalties
    assert set(recorded) == {"candidates", "loss", "loss_se"}
    assert np.isfinite(recorded["loss"]).all()
    assert (recorded["loss_se"] >= 0).all()
    assert genes.penalty == recorded["candidates"][np.argmin(recorded["loss"])]


def test_given_penalty(mixed, fates, genes):
    train = {"scale": True, "weights": True, "gene_weights": "near_one"}
    free = tl.fit_kernel(mixed, fates, train=train, penalty=0.0, **QUICK)
    held = tl.fit_kernel(mixed, fates, train=train, penalty=1e4, **QUICK)
    assert free.penalty == 0
    assert held.penalty == 1e4
    assert free.penalties == held.penalties == {}
    spread = [np.std(np.log(r.parameters["gene_weights"])) for r in (free, genes, held)]
    assert spread[0] >= spread[1] >= spread[2]
    assert spread[0] > 10 * spread[2]
    loss, training = free.history["loss"], free.history["training"]
    np.testing.assert_allclose(loss, training, rtol=1e-6)
    halfway = tl.fit_kernel(mixed, fates, train=train, penalty=1e4, steps=10, progress=False)
    same(held, tl.fit_kernel(mixed, fates, train=train, resume=halfway, **QUICK))


def test_chosen_penalty_is_kept_when_resumed(mixed, fates, genes):
    same(genes, tl.fit_kernel(mixed, fates, train=("scale", "weights", "gene_weights"), resume=genes, **QUICK))


def own_similarity(v, displacements):
    return displacements @ v / 10


KERNELS = {
    "single kernel": lambda v, c, w: v,
    "one weighted kernel": lambda v, c, w: 0.5 * v,
    "product": lambda v, c, w: v * c,
    "kernel used twice": lambda v, c, w: 0.5 * v + 0.5 * (v * c),
    "nested sums": lambda v, c, w: 0.7 * (0.8 * v + 0.2 * c) + 0.3 * (0.5 * w + 0.5 * c),
    "three terms": lambda v, c, w: 0.5 * v + 0.2 * w + 0.3 * c,
    "other order": lambda v, c, w: 0.2 * c + 0.8 * v,
    "bare product": lambda v, c, w: v * c + 0.5 * c + 0.5 * w,
    "cell-wise weights": lambda v, c, w: np.linspace(0.2, 0.9, N_CELLS) * v + np.linspace(0.8, 0.1, N_CELLS) * c,
}


@pytest.fixture(scope="module")
def other(known):
    return VelocityKernel(known, vkey="velocity2").compute_transition_matrix(similarity="cosine", softmax_scale=3.0)


@pytest.mark.parametrize("name", KERNELS)
def test_combinations(name, velocity, connectivity, other, gain):
    kernel = KERNELS[name](velocity, connectivity, other)
    result = tl.fit_kernel(kernel, gain, **QUICK)
    check_scores(result, gain)
    assert str(result.kernel).count("Kernel[") == str(kernel).count("Kernel[")
    assert result.kernel.backward == kernel.backward
    assert len(result.kernel.kernels) == len(kernel.kernels)
    n_scales = sum(isinstance(k, VelocityKernel) for k in kernel.kernels)
    assert sum(key.startswith("softmax_scale") for key in result.parameters) == n_scales
    if name == "nested sums":
        assert list(result.parameters) == [
            "softmax_scale_0", "softmax_scale_1", "weights_0", "weights_1", "weights_2",
        ]  # fmt: skip
        np.testing.assert_allclose(result.kernel.weights, result.parameters["weights_0"], rtol=1e-6)
        for number in (0, 1):
            nested = result.kernel[number].parts[1]
            np.testing.assert_allclose(nested.weights, result.parameters[f"weights_{number + 1}"], rtol=1e-6)
        fitted = [k.params["softmax_scale"] for k in result.kernel.kernels if isinstance(k, VelocityKernel)]
        np.testing.assert_allclose(fitted, [result.parameters[f"softmax_scale_{i}"] for i in (0, 1)], rtol=1e-6)
    if name == "three terms":
        assert result.parameters["weights"].shape == (3,)
        np.testing.assert_allclose(result.parameters["weights"].sum(), 1, rtol=1e-6)


def test_two_sets_of_gene_weights(velocity, connectivity, other, gain):
    kernel = 0.5 * velocity + 0.3 * other + 0.2 * connectivity
    result = tl.fit_kernel(kernel, gain, train=["gene_weights"], penalty=0.1, **QUICK)
    check_scores(result, gain, kernel)
    assert list(result.parameters) == ["gene_weights_0", "gene_weights_1"]
    assert list(result.genes) == ["gene_weights_0", "gene_weights_1"]
    assert (result.parameters["gene_weights_0"] != result.parameters["gene_weights_1"]).any()
    assert "gene_weights_1: 5 % to 95 % of genes" in str(result)
    np.testing.assert_array_equal(result.kernel.weights, kernel.weights)
    with pytest.raises(ValueError, match="gene weights of one velocity kernel"):
        result.top_genes()


@pytest.mark.parametrize("mode", ["transpose", "negate"])
def test_backward(known, gain, mode):
    velocity = VelocityKernel(known, backward=True).compute_transition_matrix(backward_mode=mode)
    kernel = 0.8 * velocity + 0.2 * ConnectivityKernel(known).compute_transition_matrix()
    result = tl.fit_kernel(kernel, -1.0 * gain, **QUICK)
    check_scores(result, -1.0 * gain, kernel)
    assert result.kernel.backward
    assert result.kernel.kernels[0].params["bwd_mode"] == mode


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_models(known, gain, model):
    kernel = VelocityKernel(known).compute_transition_matrix(model=model, n_samples=20, seed=5)
    result = tl.fit_kernel(kernel, gain, seed=5, **QUICK)
    check_scores(result, gain, kernel, seed=5)
    assert result.kernel.params["model"] == model
    if model == "monte_carlo":
        assert result.kernel.params["n_samples"] == 20
        assert result.kernel.params["seed"] == 5


def test_monte_carlo_without_a_seed_takes_that_of_the_fit(known, gain):
    kernel = VelocityKernel(known).compute_transition_matrix(model="monte_carlo", n_samples=20)
    first, second = (tl.fit_kernel(kernel, gain, seed=3, **QUICK) for _ in range(2))
    same(first, second)
    check_scores(first, gain, seed=3)
    assert first.kernel.params["seed"] == 3


def test_own_similarity(known, gain):
    kernel = VelocityKernel(known).compute_transition_matrix(similarity=own_similarity)
    result = tl.fit_kernel(kernel, gain, **QUICK)
    check_scores(result, gain, kernel)
    assert result.kernel.params["similarity"] == "own_similarity"
    assert result.kernel.params["softmax_scale"] != kernel.params["softmax_scale"]


def test_with_a_precomputed_kernel(known, velocity, gain):
    rng = np.random.default_rng(1)
    matrix = sp.random_array((N_CELLS, N_CELLS), density=0.1, rng=rng, format="csr") + sp.eye_array(N_CELLS)
    precomputed = PrecomputedKernel(matrix, known)
    kernel = 0.3 * precomputed + 0.7 * velocity
    result = tl.fit_kernel(kernel, gain, **QUICK)
    check_scores(result, gain, kernel)
    np.testing.assert_array_equal(dense(result.kernel.kernels[0]), dense(precomputed))


class TestWhatIsNotTrainedStays:
    def test_given_scale_and_genes(self, known, connectivity, gain):
        """Neither automatic nor rounded to single precision."""
        genes = np.random.default_rng(0).uniform(0.5, 2, 41)
        velocity = VelocityKernel(known).compute_transition_matrix(softmax_scale=7.3, gene_weights=genes)
        kernel = 0.8 * velocity + 0.2 * connectivity
        result = tl.fit_kernel(kernel, gain, train=["weights"], **QUICK)
        check_scores(result, gain, kernel)
        assert list(result.parameters) == ["weights"]
        fitted = result.kernel.kernels[0]
        assert fitted.params["softmax_scale"] == 7.3
        np.testing.assert_array_equal(fitted.params["gene_weights"], genes)
        np.testing.assert_array_equal(dense(fitted), dense(velocity))

    def test_weights_and_genes(self, known, connectivity, gain):
        genes = np.random.default_rng(0).uniform(0.5, 2, 41)
        velocity = VelocityKernel(known).compute_transition_matrix(softmax_scale=7.3, gene_weights=genes)
        kernel = 0.8 * velocity + 0.2 * connectivity
        result = tl.fit_kernel(kernel, gain, train="scale", **QUICK)
        check_scores(result, gain)
        assert list(result.parameters) == ["softmax_scale"]
        assert result.kernel.weights == kernel.weights
        np.testing.assert_array_equal(result.kernel.kernels[0].params["gene_weights"], genes)
        automatic = VelocityKernel(known).compute_transition_matrix(gene_weights=genes).params["softmax_scale"]
        assert result.convention["softmax_scale"] == pytest.approx(automatic, rel=1e-5)

    def test_cell_wise_weights_and_scales(self, known, connectivity, gain):
        scales, weights = np.linspace(2, 9, N_CELLS), np.linspace(0.1, 0.9, N_CELLS)
        velocity = VelocityKernel(known).compute_transition_matrix(softmax_scale=scales)
        kernel = weights * velocity + (1 - weights) * connectivity
        result = tl.fit_kernel(kernel, gain, train=["gene_weights"], penalty=0.1, **QUICK)
        check_scores(result, gain, kernel)
        np.testing.assert_array_equal(result.kernel.kernels[0].params["softmax_scale"], scales)
        for fitted, given in zip(result.kernel.weights, kernel.weights, strict=True):
            np.testing.assert_array_equal(fitted, given)


@pytest.fixture(scope="module")
def by_cluster(mixed, fates):
    return tl.fit_kernel(mixed, fates, train={"scale": "clusters", "weights": "label"}, **QUICK)


@pytest.fixture(scope="module")
def smooth(mixed, fates):
    return tl.fit_kernel(mixed, fates, train={"scale": "smooth", "weights": "smooth"}, **QUICK)


class TestDifferentAmongCells:
    def test_by_cluster(self, by_cluster, mixed, fates):
        check_scores(by_cluster, fates, mixed)
        assert by_cluster.parameters["softmax_scale"].shape == (3,)
        assert by_cluster.parameters["weights"].shape == (3, 2)
        assert by_cluster.levels == {
            "softmax_scale": ["early", "middle", "late"], "weights": ["group 0", "group 1", "group 2"],
        }  # fmt: skip
        codes = mixed.adata.obs["clusters"].cat.codes.to_numpy()
        scale = by_cluster.kernel.kernels[0].params["softmax_scale"]
        np.testing.assert_allclose(scale, by_cluster.parameters["softmax_scale"][codes], rtol=1e-6)
        assert len(np.unique(scale)) == 3
        np.testing.assert_allclose(by_cluster.kernel.weights[0], by_cluster.parameters["weights"][codes, 0], rtol=1e-6)
        assert by_cluster.standard_errors["softmax_scale"].shape == (3,)
        assert by_cluster.standard_errors["weights"].shape == (3, 2)

    def test_smooth(self, smooth, mixed, fates):
        check_scores(smooth, fates, mixed)
        assert smooth.parameters["softmax_scale"].shape == (N_CELLS,)
        assert smooth.parameters["weights"].shape == (N_CELLS, 2)
        assert smooth.levels == {}
        scale = smooth.kernel.kernels[0].params["softmax_scale"]
        np.testing.assert_allclose(scale, smooth.parameters["softmax_scale"], rtol=1e-6)
        np.testing.assert_allclose(smooth.kernel.weights[1], smooth.parameters["weights"][:, 1], rtol=1e-6)
        neighbors = mixed.kernels[0].connectivities.tocoo()
        logarithm = np.log(scale)
        assert logarithm.std() > 0
        close = np.abs(logarithm[neighbors.row] - logarithm[neighbors.col]).mean()
        assert close < np.abs(logarithm[:, None] - logarithm[None]).mean()
        assert "softmax_scale: one for each cell" in str(smooth)

    def test_sparse(self, velocity, gain):
        result = tl.fit_kernel(velocity, gain, train={"gene_weights": "sparse"}, penalty=1.0, **QUICK)
        check_scores(result, gain, velocity)
        assert list(result.parameters) == ["gene_weights"]
        assert result.kernel.params["softmax_scale"] == velocity.params["softmax_scale"]

    def test_false_and_none_are_not_trained(self, mixed, fates):
        result = tl.fit_kernel(mixed, fates, train={"scale": False, "weights": True, "gene_weights": None}, **QUICK)
        assert list(result.parameters) == ["weights"]
