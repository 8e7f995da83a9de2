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
            assert losses.shape == (20, 1)
            assert np.isfinite(losses).all()
        np.testing.assert_allclose(plain.history["loss"], plain.history["training"], rtol=1e-6)
        best = np.unravel_index(np.argmin(plain.history["loss"]), (20, 1))
        assert best == (plain.step, plain.start)
        np.testing.assert_array_equal(plain.failed, [-1])

    def test_small_weights_start_from_equal_ones_too(self, mixed, fates):
        small = 0.9 * mixed.kernels[0] + 0.1 * mixed.kernels[1]
        result = tl.fit_kernel(small, fates, steps=2, progress=False)
        assert result.history["loss"].shape == (2, 2)
        equal = tl.fit_kernel(mixed, fates, steps=2, progress=False, starts=[{"weights": 0.5}])
        np.testing.assert_allclose(result.history["loss"][:, 1], equal.history["loss"][:, 0], rtol=1e-5)

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
    "square": lambda v, c, w: v * v,
    "unweighted sum": lambda v, c, w: v + c,
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
    if name == "cell-wise weights":
        # One set of weights is fitted: it starts from their mean, which is what it is compared with.
        np.testing.assert_allclose(result.convention["weights"], np.mean(kernel.weights, axis=1), rtol=1e-5)
        first, second = result.convention["weights"].tolist()
        expected = loss_of(first * velocity + second * connectivity, gain, result.validation)
        assert np.isclose(result.scores["validation_convention"], expected, **CLOSE)
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


def test_inverse(known, mixed, gain):
    """As CellRank's users get a backward kernel: by ``~``, computed anew."""
    kernel = ~mixed
    with pytest.raises(RuntimeError, match="is uninitialized"):
        tl.fit_kernel(kernel, gain, **QUICK)
    for part in kernel.kernels:
        part.compute_transition_matrix()
    result = tl.fit_kernel(kernel, -1.0 * gain, **QUICK)
    check_scores(result, -1.0 * gain, kernel)
    assert result.kernel.backward
    assert repr(result.kernel).startswith("~(")
    back = ~result.kernel
    assert back.backward is False


def test_features_in_obsm(gain):
    adata = make_known()
    adata.obsm["x"], adata.obsm["v"] = (adata.layers[key][:, :9] for key in ("Ms", "velocity"))
    features = {"attr": "obsm", "xkey": "x", "vkey": "v"}
    kernel = VelocityKernel(adata, **features).compute_transition_matrix()
    result = tl.fit_kernel(kernel, gain, train=["scale", "gene_weights"], penalty=0.1, **QUICK)
    check_scores(result, gain, kernel)
    assert result.parameters["gene_weights"].shape == (9,)
    assert [name for name, _ in result.top_genes(9)] == [
        str(i) for i in np.argsort(-result.parameters["gene_weights"], kind="stable")
    ]
    with unchanged(adata, "/obsp/fit", "/uns"):
        result.write_to_adata("fit")
    same(result, tl.FitResult.from_adata(adata, "fit"))
    objective = objectives.HeldOutVelocity(adata, "x", "v", attr="obsm", n_splits=1)
    assert np.isfinite(loss_of(result.kernel, objective))


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_gene_weights_of_models(known, gain, model):
    kernel = VelocityKernel(known).compute_transition_matrix(model=model, n_samples=10, seed=2)
    result = tl.fit_kernel(kernel, gain, train=["gene_weights"], penalty=0.1, seed=2, **QUICK)
    # Weights of one make no difference but to the samples: these depend on the padding, of which weighted genes have
    # none. Convention and fitted kernel are compared on the same ones.
    even = VelocityKernel(known).compute_transition_matrix(
        model=model, softmax_scale=kernel.params["softmax_scale"], n_samples=10, seed=2, gene_weights=np.ones(41)
    )
    check_scores(result, gain, even, seed=2)
    assert result.kernel.params["softmax_scale"] == kernel.params["softmax_scale"]
    assert result.kernel.params["model"] == model


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


class TestValidation:
    def test_forms(self, mixed, gain):
        adata = mixed.adata
        indices = np.arange(0, N_CELLS, 7)
        mask = np.isin(np.arange(N_CELLS), indices)
        results = [
            tl.fit_kernel(mixed, gain, validation=form, **QUICK)
            for form in (indices, mask, list(adata.obs_names[indices]), {"clusters": "late"}, 0.5)
        ]
        for result in results[:3]:
            np.testing.assert_array_equal(result.validation, mask)
            np.testing.assert_array_equal(result.training, ~mask)
            check_scores(result, gain, mixed)
        np.testing.assert_array_equal(results[3].validation, adata.obs["clusters"] == "late")
        assert results[4].validation.sum() == results[4].training.sum() == N_CELLS // 2

    def test_cells_without_items_do_not_count(self, mixed, fates):
        """Terminal cells and those of unknown fate are neither trained on nor held out."""
        result = tl.fit_kernel(mixed, fates, validation={"clusters": "early"}, **QUICK)
        items = np.isin(np.arange(N_CELLS), np.asarray(fates.cell))
        early = (mixed.adata.obs["clusters"] == "early").to_numpy()
        np.testing.assert_array_equal(result.validation, items & early)
        np.testing.assert_array_equal(result.training, items & ~early)

    def test_none_says_so(self, mixed, gain, logged):
        result = tl.fit_kernel(mixed, gain, validation=None, **QUICK)
        assert "WARNING: No cells were held out" in logged()
        assert "no cells were held out: nothing is said about whether the fitted kernel is better" in str(result)
        assert "held-out cells:" not in str(result)
        assert not result.is_validated
        assert result.training.all()
        for name in ("validation", "validation_convention", "validation_gain", "validation_gain_se"):
            assert np.isnan(result.scores[name])
        check_scores(result, gain, mixed)
        figure = result.plot(show=False)
        assert any("no cells were held out" in text.get_text() for ax in figure.axes for text in ax.texts)

    def test_held_out_is_not_warned_about(self, mixed, gain, logged):
        tl.fit_kernel(mixed, gain, **QUICK)
        assert "WARNING" not in logged()


class TestWhereItGoesWrong:
    @staticmethod
    def gain_until(limit):
        time = jnp.asarray(np.linspace(0, 1, N_CELLS), dtype=float)

        def loss(matrix):
            gain = matrix @ time - time
            return jnp.where(jnp.mean(gain) > limit, jnp.nan, -gain)

        return loss

    def test_later(self, mixed, logged):
        """The parameters before the step are kept, and the warning names step and parameters."""
        adata = mixed.adata
        settings = {"starts": 1, "validation": None, **QUICK}
        fine = tl.fit_kernel(mixed, objectives.FunctionOf(adata, self.gain_until(np.inf)), **settings)
        losses = fine.history["training"][:, 0]
        assert (np.diff(losses[:8]) < 0).all()
        logged()
        limited = objectives.FunctionOf(adata, self.gain_until(-(losses[4] + losses[5]) / 2))
        result = tl.fit_kernel(mixed, limited, **settings)
        text = logged()
        assert "WARNING: Start 0: the loss or its gradient is not finite at step 5, with {'softmax_scale':" in text
        assert "'weights': [" in text
        assert "Keeping the best parameters before it" in text
        assert result.step == 4
        np.testing.assert_array_equal(result.failed, [5])
        assert np.isclose(result.scores["training"], losses[4], **CLOSE)
        assert len(result.history["loss"]) == 6
        assert np.isnan(result.history["loss"][5, 0])
        check_scores(result, limited)

    def test_one_start_of_two(self, mixed, logged):
        limited = objectives.FunctionOf(mixed.adata, self.gain_until(0.0))
        before = float(np.mean(np.asarray(limited.item_losses((mixed.transitions,), {}, None))))
        assert np.isnan(before)
        low = {"weights": 1e-3}
        result = tl.fit_kernel(mixed, limited, starts=[{}, low], validation=None, steps=1, progress=False)
        assert "Start 0: the loss or its gradient is not finite at step 0" in logged()
        assert result.start == 1
        np.testing.assert_array_equal(result.failed, [0, -1])

    def test_at_once(self, mixed):
        broken = objectives.FunctionOf(mixed.adata, self.gain_until(-np.inf))
        with unchanged(mixed.adata), pytest.raises(ValueError, match=r"not finite at step 0, with .*softmax_scale"):
            tl.fit_kernel(mixed, broken, **QUICK)

    def test_unreachable_cells_are_named(self):
        adata = make_known()
        graph = adata.obsp["connectivities"].tolil()
        graph[30:34, :] = 0
        graph[:, 30:34] = 0
        for i in range(30, 34):
            for j in set(range(30, 34)) - {i}:
                graph[i, j] = 1.0
        adata.obsp["connectivities"] = sp.csr_matrix(graph)
        kernel = VelocityKernel(adata).compute_transition_matrix()
        objective = objectives.FateLikelihood(adata, "fate", "terminal")
        message = r"found 4 that cannot: \['cell_30', 'cell_31', 'cell_32', 'cell_33'\]"
        with unchanged(adata), pytest.raises(ValueError, match=message):
            tl.fit_kernel(kernel, objective, **QUICK)

    def test_unknown_fate(self, known):
        with pytest.raises(ValueError, match=r"found none for \['left'\]. `terminal` has \['begin', 'end'\]"):
            objectives.FateLikelihood(known, {"left": [7], "end": [8]}, "terminal")


BAD = {
    "no kernel": ({"kernel": 3}, TypeError, "Expected a kernel, found `int`"),
    "no objective": ({"objective": np.mean}, TypeError, "Wrap a function of the transition matrix"),
    "unknown name": ({"train": ["scales"]}, ValueError, r"\('scale', 'weights', 'gene_weights'\), found \['scales'\]"),
    "nothing": ({"train": []}, ValueError, "found none"),
    "nothing wished": ({"train": {"scale": False}}, ValueError, "found none"),
    "unknown penalty": ({"train": {"gene_weights": "ridge"}}, ValueError, "'near_one', 'sparse'.*found `'ridge'`"),
    "missing key": ({"train": {"scale": "leiden"}}, KeyError, r"adata.obs\['leiden'\].*clusters"),
    "numeric key": ({"train": {"scale": "pseudotime"}}, TypeError, "to be categorical"),
    "missing levels": ({"train": {"weights": "fate"}}, ValueError, r"obs\['fate'\].*found 12 without"),
    "no key": ({"train": {"scale": 3}}, TypeError, "True, 'smooth' or a key in `adata.obs`, found `3`"),
    "few cells": ({"validation": [3]}, ValueError, r"at least two validation cells .* found 1 \(.* 60 cells\)"),
    "small fraction": ({"validation": 0.01}, ValueError, "at least two validation cells"),
    "fraction": ({"validation": 1.5}, ValueError, "fraction between 0 and 1, found `1.5`"),
    "all cells": ({"validation": np.arange(N_CELLS)}, ValueError, "some cells to fit on"),
    "unknown cells": ({"validation": ["cell_x"]}, KeyError, r"found \['cell_x'\]"),
    "mask": ({"validation": np.ones(3, dtype=bool)}, ValueError, "mask of length 60"),
    "steps": ({"steps": 0}, ValueError, "`steps` to be an integer of at least 1"),
    "seed": ({"seed": -1}, ValueError, "`seed` to be an integer of at least 0"),
    "patience": ({"patience": 0}, ValueError, "`patience` to be an integer of at least 1"),
    "penalty": ({"penalty": -1.0}, ValueError, "`penalty` to be finite and not negative"),
    "word as penalty": ({"penalty": "auto"}, ValueError, "`penalty` to be finite and not negative, or None"),
    "no optimiser": ({"optimizer": "adam"}, TypeError, r"optax optimiser, such as `optax.adam\(0.1\)`, found `str`"),
    "resume what": ({"resume": "fit"}, TypeError, "`resume` to be a result of `fit_kernel`, found `str`"),
    "mask of one": ({"validation": False}, ValueError, "mask of length 60"),
    "range": ({"validation": {"pseudotime": [2, 3]}}, ValueError, "No validation indices have been selected"),
    "no starts": ({"starts": 0}, ValueError, "`starts` to be an integer of at least 1"),
    "empty starts": ({"starts": []}, ValueError, "a number or a list of dictionaries"),
    "one dictionary": ({"starts": {"weights": 0.5}}, ValueError, "a number or a list of dictionaries"),
    "word as starts": ({"starts": "two"}, ValueError, "a number or a list of dictionaries"),
    "numbers as starts": ({"starts": [0.5]}, ValueError, "each of `starts` to be a dictionary, found `0.5`"),
    "start of what": ({"starts": [{"scale": 1}]}, ValueError, r"'softmax_scale' and 'weights', found \['scale'\]"),
    "negative start": ({"starts": [{"softmax_scale": -1}]}, ValueError, "positive `softmax_scale` .* found `-1`"),
    "no number": ({"starts": [{"softmax_scale": None}]}, ValueError, "positive `softmax_scale` .* found `None`"),
    "weight beyond one": ({"starts": [{"weights": 1.5}]}, ValueError, "Expected 2 positive weights"),
    "three weights": ({"starts": [{"weights": (1, 2, 3)}]}, ValueError, "Expected 2 positive weights"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name, mixed, gain):
    arguments, error, message = BAD[name]
    arguments = {"kernel": mixed, "objective": gain, "progress": False, **arguments}
    with unchanged(mixed.adata), pytest.raises(error, match=message):
        tl.fit_kernel(arguments.pop("kernel"), arguments.pop("objective"), **arguments)


def test_what_the_kernel_lacks(velocity, connectivity, known, gain):
    with pytest.raises(ValueError, match="sum of at least two weighted kernels to fit 'weights'"):
        tl.fit_kernel(velocity, gain, train=["weights"])
    with pytest.raises(ValueError, match="a `VelocityKernel` to fit 'scale'"):
        tl.fit_kernel(connectivity, gain, train=["scale"])
    with pytest.raises(ValueError, match="found none that this kernel has"):
        tl.fit_kernel(connectivity, gain)
    with pytest.raises(RuntimeError, match="Compute transition matrix first"):
        tl.fit_kernel(VelocityKernel(known), gain)


FEW = {
    "TimeGain": lambda cells: objectives.TimeGain(cells, "pseudotime"),
    "FateLikelihood": lambda cells: objectives.FateLikelihood(cells, {"a": [9], "b": [8]}, {"a": [0], "b": [1]}),
    "FutureLikelihood": lambda cells: objectives.FutureLikelihood(cells, "day"),
    "CrossBoundary": lambda cells: objectives.CrossBoundary(cells, [("early", "middle")], "clusters"),
    "FunctionOf": lambda cells: objectives.FunctionOf(cells, lambda matrix: matrix @ jnp.ones(N_CELLS)),
    "sum": lambda cells: objectives.TimeGain(cells, "pseudotime") * 0.5 + FEW["FutureLikelihood"](cells),
}


@pytest.mark.parametrize("name", FEW)
def test_objective_on_other_cells(name, known, velocity):
    """Gathers beyond the end of an array would give a wrong loss without a word."""
    objective = FEW[name](known[:40].copy())
    for run in (tl.fit_kernel, tl.sweep_kernel):
        with pytest.raises(ValueError, match="an objective on the kernel's 60 cells, found one on 40"):
            run(velocity, objective)


def test_objective_on_more_cells(velocity, known):
    with pytest.raises(ValueError, match="kernel's 60 cells, found one on 61"):
        tl.fit_kernel(velocity, fit.TimeGain(jnp.zeros(61), jnp.arange(61), jnp.ones(61)))
    more = fit.HeldOutVelocity("velocity", 1, jnp.arange(61), jnp.ones(61))
    with pytest.raises(ValueError, match="kernel's 60 cells, found one on more"):
        tl.fit_kernel(velocity, more)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda matrix: jnp.mean(matrix @ jnp.ones(N_CELLS)), r"shape \(\)"),
        (lambda matrix: matrix @ jnp.ones((N_CELLS, 1)), r"shape \(60, 1\)"),
        (lambda matrix: None, "`NoneType`"),
    ],
    ids=["mean", "column", "nothing"],
)
def test_functions_of_another_shape(mixed, function, found):
    objective = objectives.FunctionOf(mixed.adata, function)
    for run in (tl.fit_kernel, tl.sweep_kernel):
        with pytest.raises(ValueError, match=rf"one loss for each cell, shape \(60,\), found {found}. The mean over"):
            run(mixed, objective)


def test_held_out_velocity(known, mixed, other):
    objective = objectives.HeldOutVelocity(known, n_splits=2)
    result = tl.fit_kernel(mixed, objective, **QUICK)
    check_scores(result, objective, mixed)
    assert result.standard_errors == {}
    with pytest.raises(ValueError, match=r"Expected a kernel on the features .*velocity.*found"):
        tl.fit_kernel(other, objective, **QUICK)


def test_sums_and_multiples(mixed, fates, gain):
    objective = fates + 0.5 * gain
    result = tl.fit_kernel(mixed, objective, **QUICK)
    check_scores(result, objective, mixed)
    assert result.objective == "FateLikelihood + 0.5 * TimeGain"
    assert result.standard_errors == {}


class TestStarts:
    def test_number(self, mixed, gain):
        """The kernel's weights, equal weights, and further ones at random."""
        result = tl.fit_kernel(mixed, gain, starts=3, **QUICK)
        assert result.history["loss"].shape == (20, 3)
        scale = mixed.kernels[0].params["softmax_scale"]
        velocity, connectivity = mixed.kernels
        for start, weight in enumerate((0.8, 0.5)):
            first = weight * velocity + (1 - weight) * connectivity
            expected = loss_of(first, gain, result.training)
            assert np.isclose(result.history["training"][0, start], expected, **CLOSE), scale
        assert len(np.unique(result.history["training"][0])) == 3
        assert result.start == np.argmin(np.min(result.history["loss"], axis=0))
        assert f"best at step {result.step} of start {result.start}" in str(result)

    def test_list(self, mixed, known, gain):
        starts = [{"softmax_scale": 1, "weights": 0.5}, {"softmax_scale": 60}, {"weights": (1, 3)}]
        result = tl.fit_kernel(mixed, gain, starts=starts, **QUICK)
        automatic, connectivity = mixed.kernels
        for start, (scale, weight) in enumerate(((1.0, 0.5), (60.0, 0.8), (None, 0.25))):
            velocity = automatic
            if scale is not None:
                velocity = VelocityKernel(known).compute_transition_matrix(softmax_scale=scale)
            first = weight * velocity + (1 - weight) * connectivity
            expected = loss_of(first, gain, result.training)
            assert np.isclose(result.history["training"][0, start], expected, **CLOSE)
        # The convention is that of the kernel, wherever the fit starts.
        expected = loss_of(mixed, gain, result.training)
        assert np.isclose(result.scores["training_convention"], expected, **CLOSE)


class TestEnds:
    def test_interrupted_and_resumed(self, mixed, fates, plain, monkeypatch):
        from jaxvelo.tl import _fit_kernel

        class Impatient(_fit_kernel.tqdm):
            def set_postfix(self, *args, **kwargs):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_fit_kernel, "tqdm", Impatient)
            stopped = tl.fit_kernel(mixed, fates, **QUICK)
        assert len(stopped.history["loss"]) == 10
        assert stopped.scores["training"] < stopped.scores["training_convention"]
        same(plain, tl.fit_kernel(mixed, fates, resume=stopped, **QUICK))

    def test_interrupted_while_choosing_the_penalty(self, mixed, fates, genes, monkeypatch):
        """One interrupt ends the whole search, not one fold of it."""
        from jaxvelo.fit import _minimize

        calls, advance = [], _minimize._advance

        def interrupted(*args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return advance(*args)

        monkeypatch.setattr(_minimize, "_advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tl.fit_kernel(mixed, fates, train=["scale", "weights", "gene_weights"], **QUICK)
        assert len(calls) == 3

    def test_patience(self, mixed, fates):
        settings = {"patience": 2, "starts": 1, "progress": False}
        stopped = tl.fit_kernel(mixed, fates, steps=400, optimizer=optax.adam(1.0), **settings)
        n_steps = len(stopped.history["loss"])
        assert n_steps < 400
        assert np.isfinite(stopped.history["loss"]).all()
        assert f"FitResult: FateLikelihood, {n_steps} steps, best at step {stopped.step}" in str(stopped)
        loss = stopped.history["loss"][:, 0]
        assert (loss[-2:] > loss[: n_steps - 2].min() * (1 - 1e-4)).all()

    def test_nothing_left_to_resume(self, mixed, fates, plain):
        same(plain, tl.fit_kernel(mixed, fates, resume=plain, **QUICK))
        optimizer = optax.adam(1.0)
        settings = {"patience": 2, "starts": 1, "progress": False, "optimizer": optimizer}
        stopped = tl.fit_kernel(mixed, fates, steps=400, **settings)
        same(stopped, tl.fit_kernel(mixed, fates, steps=500, resume=stopped, **settings))

    def test_resume_of_another_fit(self, mixed, velocity, fates, plain):
        with pytest.raises(ValueError, match="the same kernel, `train` and `starts`"):
            tl.fit_kernel(velocity, fates, resume=plain, **QUICK)
        with pytest.raises(ValueError, match="the same kernel, `train` and `starts`"):
            tl.fit_kernel(mixed, fates, starts=3, resume=plain, **QUICK)

    def test_resume_with_another_objective(self, mixed, gain, plain):
        with pytest.raises(ValueError, match="fit to resume, `FateLikelihood`, found `TimeGain`"):
            tl.fit_kernel(mixed, gain, resume=plain, **QUICK)

    def test_resume_on_other_cells(self, known, plain):
        few = known[:40].copy()
        kernel = 0.8 * VelocityKernel(few).compute_transition_matrix()
        kernel += 0.2 * ConnectivityKernel(few).compute_transition_matrix()
        objective = objectives.FateLikelihood(few, {"begin": [9], "end": [8]}, {"begin": [0], "end": [1]})
        with pytest.raises(ValueError, match="kernel of the fit to resume, on 60 cells, found one on 40"):
            tl.fit_kernel(kernel, objective, resume=plain, **QUICK)

    def test_interrupted_at_once(self, mixed, fates, plain, monkeypatch, tmp_path):
        """Before the first step is done: the convention, from which it goes on."""
        from jaxvelo.fit import _minimize

        def interrupted(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_minimize, "_advance", interrupted)
            nothing = tl.fit_kernel(mixed, fates, **QUICK)
        assert nothing.history["loss"].shape == (0, 1)
        assert nothing.scores["validation_gain"] == 0
        assert repr(nothing.kernel) == repr(mixed)
        assert str(nothing).startswith("FitResult: FateLikelihood, 0 steps")
        nothing.plot(save=tmp_path / "nothing.png")
        same(plain, tl.fit_kernel(mixed, fates, resume=nothing, **QUICK))


@pytest.mark.parametrize("optimizer", [optax.sgd(0.5), optax.lbfgs()], ids=["sgd", "lbfgs"])
def test_any_optimizer(mixed, fates, optimizer):
    check_scores(tl.fit_kernel(mixed, fates, optimizer=optimizer, starts=1, **QUICK), fates, mixed)


def test_progress(mixed, fates, genes, capfd):
    capfd.readouterr()
    tl.fit_kernel(mixed, fates, steps=20, progress=False)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "it/s" not in captured.err
    tl.fit_kernel(mixed, fates, steps=20)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Fitting: 100%" in captured.err
    assert "20/20" in captured.err
    assert "loss=" in captured.err
    tl.fit_kernel(mixed, fates, train=["scale", "weights", "gene_weights"], steps=20)
    assert "Choosing penalty" in capfd.readouterr().err


@pytest.fixture(scope="module")
def unvalidated(mixed, gain):
    """No cells held out, and no likelihood: scores and histories of NaNs, nothing where the errors would be."""
    return tl.fit_kernel(mixed, gain, validation=None, **QUICK)


class TestResult:
    def test_text_without_a_loss(self, mixed):
        """There is no share of nothing."""
        objective = objectives.FunctionOf(mixed.adata, lambda matrix: 0 * (matrix @ jnp.ones(N_CELLS)))
        result = tl.fit_kernel(mixed, objective, steps=1, progress=False)
        assert "held-out cells: 0.0000 (convention) -> 0.0000, gain 0.0000 ± 0.0000\n" in str(result)

    def test_layout_of_cellrank(self, plain, tmp_path):
        """CellRank finds the fitted matrix where it looks for one."""
        adata = plain.kernel.adata.copy()
        kernel = plain.kernel.copy()
        kernel.adata = adata
        dataclasses.replace(plain, kernel=kernel).write_to_adata()
        assert {"T_fwd", "T_fwd_params", "T_fwd_fit"} <= {*adata.obsp, *adata.uns}
        np.testing.assert_array_equal(adata.obsp["T_fwd"].toarray(), dense(plain.kernel))
        np.testing.assert_array_equal(dense(PrecomputedKernel("T_fwd", adata)), dense(plain.kernel))
        assert all(isinstance(part, (dict, np.ndarray, str, int, float)) for part in adata.uns["T_fwd_fit"].values())

    def test_projection(self, genes, tmp_path):
        adata = genes.kernel.adata.copy()
        kernel = genes.kernel.copy()
        kernel.adata = adata
        kernel.plot_projection(basis="umap", stream=False, save=tmp_path / "arrows.png")
        assert (tmp_path / "arrows.png").stat().st_size > 0
        arrows = adata.obsm["T_fwd_umap"]
        assert arrows.shape == (N_CELLS, 2)
        assert np.abs(arrows).max() > 0

    def test_text(self, plain):
        lines = str(plain).splitlines()
        scores, scale, weights = plain.scores, plain.parameters["softmax_scale"], plain.parameters["weights"]
        assert lines[0] == f"FitResult: FateLikelihood, 20 steps, best at step {plain.step}"
        before, after = scores["training_convention"], scores["training"]
        assert lines[1] == f"  {plain.training.sum()} training cells: {before:.4f} (convention) -> {after:.4f}"
        before, after, gain = (scores[f"validation{s}"] for s in ("_convention", "", "_gain"))
        assert lines[2] == (
            f"  {plain.validation.sum()} held-out cells: {before:.4f} (convention) -> {after:.4f}, "
            f"gain {gain:.4f} ± {scores['validation_gain_se']:.4f} ({gain / before:.1%})"
        )
        assert lines[3].startswith(f"  weights: (0.8, 0.2) -> ({weights[0]:.4g}")
        assert lines[4].startswith(f"  softmax_scale: {plain.convention['softmax_scale']:.4g} -> {scale:.4g}")
        assert len(lines) == 5

    def test_text_of_genes(self, genes):
        low, high = np.quantile(genes.parameters["gene_weights"], (0.05, 0.95))
        median = np.median(genes.parameters["gene_weights"])
        expected = f"5 % to 95 % of genes {low / median:.2f} to {high / median:.2f} medians, penalty {genes.penalty:g}"
        assert f"  gene_weights: {expected}" in str(genes)

    def test_no_genes(self, plain):
        with pytest.raises(ValueError, match="Expected fitted gene weights"):
            plain.top_genes()

    @pytest.mark.filterwarnings("ignore:Writing zarr v2")
    @pytest.mark.parametrize("name", ["plain", "genes", "by_cluster", "smooth", "unvalidated"])
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

    def test_default_key_and_kernel(self, plain):
        adata = plain.kernel.adata.copy()
        kernel = copy.copy(plain.kernel)
        kernel.adata = adata
        dataclasses.replace(plain, kernel=kernel).write_to_adata()
        assert repr(from_adata(adata, "T_fwd")) == repr(plain.kernel)
        same(plain, tl.FitResult.from_adata(adata))

    def test_read_result_cannot_be_resumed(self, plain, mixed, fates):
        adata = plain.kernel.adata.copy()
        kernel = plain.kernel.copy()
        kernel.adata = adata
        dataclasses.replace(plain, kernel=kernel).write_to_adata()
        read = tl.FitResult.from_adata(adata)
        with pytest.raises(ValueError, match="found one read from AnnData: fit anew"):
            tl.fit_kernel(mixed, fates, resume=read, **QUICK)

    def test_nothing_written(self, known):
        with pytest.raises(KeyError, match=r"adata.uns\['T_fwd_fit'\].*Pass the key"):
            tl.FitResult.from_adata(known)

    def test_files(self, genes, tmp_path):
        genes.kernel.write(tmp_path / "kernel.npz")
        back = type(genes.kernel).read(tmp_path / "kernel.npz")
        assert repr(back) == repr(genes.kernel)
        np.testing.assert_array_equal(dense(back), dense(genes.kernel))
