"""Kernels with a softmax scale for each cell, gene weights, and weights that differ among cells."""

import anndata
import jax
import numpy as np
import pytest

from jaxvelo.kernels import ConnectivityKernel, KernelAdd, VelocityKernel, from_adata
from tests.bent_line import N_CELLS, N_GENES
from tests.snapshot import unchanged

DOUBLE = jax.config.jax_enable_x64
CLOSE = {"rtol": 0, "atol": 1e-12 if DOUBLE else 3e-6}
RNG = np.random.default_rng(3)
SCALES = RNG.uniform(1, 12, N_CELLS)
GENES = RNG.uniform(0, 3, N_GENES)
GENES[[2, 11]] = 0
SHARES = RNG.uniform(0.1, 0.9, N_CELLS)


def by_loop(adata, scales, genes, similarity="correlation"):
    """The deterministic model, cell by cell: similarities with weighted sums over genes, and their softmax."""
    x, v = (np.asarray(adata.layers[key], dtype=np.float64) for key in ("Ms", "velocity"))
    graph = adata.obsp["connectivities"].toarray()
    matrix = np.zeros((N_CELLS, N_CELLS))
    for i in range(N_CELLS):
        neighbors = np.flatnonzero(graph[i])
        logits = []
        for j in neighbors:
            a, b = v[i], x[j] - x[i]
            if similarity == "correlation":
                a, b = (z - genes @ z / genes.sum() for z in (a, b))
            value = genes @ (a * b)
            if similarity != "dot_product":
                value /= np.sqrt(genes @ a**2) * np.sqrt(genes @ b**2)
            logits.append(value)
        weights = np.exp(scales[i] * (np.array(logits) - max(logits)))
        matrix[i, neighbors] = weights / weights.sum()
    return matrix


def dense(kernel):
    return kernel.transition_matrix.toarray()


def check_transition_function(kernel):
    pure = kernel.transition_function(kernel.graph, kernel.features)
    np.testing.assert_allclose(pure.to_csr().toarray(), dense(kernel), rtol=0, atol=1e-12 if DOUBLE else 1e-6)


@pytest.fixture(scope="module")
def weighted(made):
    """A sum whose weights differ among cells, of a kernel with all else that may differ."""
    velocity = VelocityKernel(made).compute_transition_matrix(softmax_scale=SCALES, gene_weights=GENES)
    return SHARES * velocity + (1 - SHARES) * ConnectivityKernel(made).compute_transition_matrix()


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
def test_against_loops(made, similarity):
    scales = SCALES / 50 if similarity == "dot_product" else SCALES
    ones = np.ones(N_GENES)
    with unchanged(made):
        for scale, genes in ((scales, None), (3.0, GENES), (scales, GENES)):
            kernel = VelocityKernel(made).compute_transition_matrix(
                similarity=similarity, softmax_scale=scale, gene_weights=genes
            )
            expected = by_loop(made, np.broadcast_to(scale, N_CELLS), ones if genes is None else genes, similarity)
            np.testing.assert_allclose(dense(kernel), expected, **CLOSE if similarity != "dot_product" else LOOSE)
            check_transition_function(kernel)
            np.testing.assert_array_equal(kernel.params["softmax_scale"], scale)
            if genes is None:
                assert "gene_weights" not in kernel.params
            else:
                np.testing.assert_array_equal(kernel.params["gene_weights"], genes)


LOOSE = {"rtol": 0, "atol": 1e-10 if DOUBLE else 1e-4}


@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_trivial_weights_change_nothing(made, model):
    arguments = {"model": model, "n_samples": 20, "seed": 0}
    plain = VelocityKernel(made).compute_transition_matrix(softmax_scale=4.0, **arguments)
    same = VelocityKernel(made).compute_transition_matrix(
        softmax_scale=np.full(N_CELLS, 4.0), gene_weights=np.ones(N_GENES), **arguments
    )
    if model != "monte_carlo":  # whose draws depend on the padding of the genes
        np.testing.assert_allclose(dense(same), dense(plain), **LOOSE)
    np.testing.assert_allclose(dense(same).sum(axis=1), 1, rtol=1e-9)


def test_genes_of_weight_zero_are_left_out(made):
    chosen = made.var["chosen"].to_numpy()
    subset = VelocityKernel(made, gene_subset="chosen").compute_transition_matrix()
    masked = VelocityKernel(made).compute_transition_matrix(gene_weights=chosen.astype(float))
    assert masked.params["softmax_scale"] == pytest.approx(subset.params["softmax_scale"], rel=1e-5)
    np.testing.assert_allclose(dense(masked), dense(subset), **CLOSE)


def test_weights_of_cells(weighted, made):
    velocity, connectivity = (dense(kernel) for kernel in weighted.kernels)
    expected = SHARES[:, None] * velocity + (1 - SHARES)[:, None] * connectivity
    np.testing.assert_allclose(dense(weighted), expected, **CLOSE)
    check_transition_function(weighted)
    np.testing.assert_allclose(weighted.weights[0], SHARES)
    np.testing.assert_allclose(weighted.transitions.to_csr().toarray(), dense(weighted), **CLOSE)


def test_weights_are_relative(weighted):
    velocity, connectivity = weighted.kernels
    kernel = (5 * SHARES) * velocity + 2.0 * connectivity
    total = 5 * SHARES + 2
    np.testing.assert_allclose(kernel.weights[0], 5 * SHARES / total)
    np.testing.assert_allclose(kernel.weights[1], 2 / total)
    expected = (5 * SHARES / total)[:, None] * dense(velocity) + (2 / total)[:, None] * dense(connectivity)
    np.testing.assert_allclose(dense(kernel), expected, **CLOSE)
    check_transition_function(kernel)
    other_way = velocity * (5 * SHARES) + connectivity * 2
    np.testing.assert_array_equal(dense(other_way), dense(kernel))
    twice = 0.5 * kernel + 0.5 * connectivity
    np.testing.assert_allclose(dense(twice), 0.5 * dense(kernel) + 0.5 * dense(connectivity), **CLOSE)
    check_transition_function(twice)
    again = 2 * (SHARES * velocity) + (2 - 2 * SHARES) * connectivity
    np.testing.assert_allclose(dense(again), dense(weighted), **CLOSE)


def test_a_third_term_joins(weighted):
    velocity, connectivity = weighted.kernels
    kernel = weighted + 0.5 * connectivity
    assert len(kernel) == 3
    share = (SHARES / 1.5)[:, None]
    np.testing.assert_allclose(dense(kernel), share * dense(velocity) + (1 - share) * dense(connectivity), **CLOSE)
    check_transition_function(kernel)


def test_with_weights(weighted):
    other = weighted.with_weights([np.float64(0.3), np.float64(0.7)])
    assert isinstance(other, KernelAdd)
    assert other.weights == pytest.approx((0.3, 0.7))
    velocity, connectivity = (dense(kernel) for kernel in weighted.kernels)
    np.testing.assert_allclose(dense(other), 0.3 * velocity + 0.7 * connectivity, **CLOSE)


def test_printout(weighted):
    shares = f"{SHARES.mean():.3f} ({SHARES.min():.3f} to {SHARES.max():.3f})"
    assert str(weighted).startswith(f"({shares} * VelocityKernel[n=60] + ")
    scales = f"softmax_scale={np.median(SCALES):.3g} ({SCALES.min():.3g} to {SCALES.max():.3g})"
    genes = f"gene_weights={np.median(GENES):.3g} ({GENES.min():.3g} to {GENES.max():.3g})"
    expected = f"VelocityKernel[n=60, model='deterministic', similarity='correlation', {scales}, {genes}]"
    assert expected in repr(weighted)


def check_same(found, expected):
    np.testing.assert_array_equal(dense(found), dense(expected))
    assert repr(found) == repr(expected)
    np.testing.assert_array_equal(found.kernels[0].params["softmax_scale"], SCALES)
    np.testing.assert_array_equal(found.kernels[0].params["gene_weights"], GENES)
    np.testing.assert_array_equal(found.weights[0], expected.weights[0])
    check_transition_function(found)


def test_through_h5ad(weighted, cells, tmp_path):
    kernel = weighted.copy()
    kernel.adata = cells
    kernel.write_to_adata("mine")
    check_same(from_adata(cells, "mine"), weighted)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    check_same(from_adata(anndata.read_h5ad(tmp_path / "cells.h5ad"), "mine"), weighted)


def test_through_zarr(weighted, cells, tmp_path):
    pytest.importorskip("zarr")
    kernel = weighted.copy()
    kernel.adata = cells
    kernel.write_to_adata("mine")
    cells.write_zarr(tmp_path / "cells.zarr")
    check_same(from_adata(anndata.read_zarr(tmp_path / "cells.zarr"), "mine"), weighted)


@pytest.mark.parametrize("write_adata", [True, False])
def test_through_npz(weighted, made, tmp_path, write_adata):
    weighted.write(tmp_path / "kernel.npz", write_adata=write_adata)
    check_same(KernelAdd.read(tmp_path / "kernel.npz", None if write_adata else made), weighted)


def test_copies_and_inverses(weighted):
    copied = weighted.copy()
    check_same(copied, weighted)
    backward = ~weighted
    assert backward.backward
    np.testing.assert_array_equal(backward.weights[0], weighted.weights[0])
    kernel = backward.kernels[0].compute_transition_matrix(softmax_scale=SCALES, gene_weights=GENES)
    check_transition_function(kernel)


BAD = {
    "scales": ({"softmax_scale": SCALES[:5]}, ValueError, r"each of the 60 cells, found shape \(5,\)"),
    "negative scale": ({"softmax_scale": SCALES - 5}, ValueError, "positive and finite"),
    "missing scale": ({"softmax_scale": np.full(N_CELLS, np.nan)}, ValueError, "positive and finite"),
    "words": ({"softmax_scale": "large"}, TypeError, "a number or None, found `str`"),
    "genes": ({"gene_weights": GENES[:5]}, ValueError, r"each of the 41 genes in use \(`kernel.genes`\).*\(5,\)"),
    "one weight": ({"gene_weights": 1.0}, ValueError, r"of shape \(\)"),
    "negative weight": ({"gene_weights": GENES - 1}, ValueError, "finite and not negative"),
    "missing weight": ({"gene_weights": np.full(N_GENES, np.nan)}, ValueError, "finite and not negative"),
    "one gene": ({"gene_weights": np.eye(N_GENES)[0]}, ValueError, "at least two to be positive"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(made, name):
    arguments, error, message = BAD[name]
    kernel = VelocityKernel(made)
    with unchanged(made), pytest.raises(error, match=message):
        kernel.compute_transition_matrix(**arguments)
    assert kernel.transition_matrix is None


def test_bad_weights(weighted):
    velocity = weighted.kernels[0]
    with pytest.raises(ValueError, match=r"one for each of the 60 cells, found \(5,\)"):
        SHARES[:5] * velocity
    with pytest.raises(ValueError, match="positive and finite"):
        (SHARES - 0.5) * velocity
    with pytest.raises(ValueError, match="positive and finite"):
        np.full(N_CELLS, np.nan) * velocity
    with pytest.raises(ValueError, match="one for each of the 60 cells"):
        SHARES[:, None] * velocity


def test_arguments_are_not_tied_to_the_kernel(made):
    """A later change of the user's arrays does not reach the kernel."""
    scales, genes, shares = SCALES.copy(), GENES.copy(), SHARES.copy()
    velocity = VelocityKernel(made).compute_transition_matrix(softmax_scale=scales, gene_weights=genes)
    kernel = shares * velocity + (1 - shares) * ConnectivityKernel(made).compute_transition_matrix()
    scales[:], genes[:], shares[:] = 1, 1, 1
    np.testing.assert_array_equal(velocity.params["softmax_scale"], SCALES)
    np.testing.assert_array_equal(velocity.params["gene_weights"], GENES)
    np.testing.assert_allclose(kernel.weights[0], SHARES)
