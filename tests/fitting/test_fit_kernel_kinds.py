"""Fits of all kinds of kernels, and what of them is not fitted."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo import objectives, tl
from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel, VelocityKernel
from tests.bent_line import N_CELLS
from tests.fitting.fits import CLOSE, QUICK, check_scores, dense, loss_of, same
from tests.fitting.known_fates import make_known
from tests.snapshot import unchanged


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


@pytest.mark.parametrize("name", KERNELS)
def test_combinations(name, velocity, connectivity, velocity2, gain):
    kernel = KERNELS[name](velocity, connectivity, velocity2)
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


def test_two_sets_of_gene_weights(velocity, connectivity, velocity2, gain):
    kernel = 0.5 * velocity + 0.3 * velocity2 + 0.2 * connectivity
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
