"""Equality with CellRank's results, from AnnData to scipy matrices and arrays."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, VelocityKernel

DOUBLE = jax.config.jax_enable_x64


class Reference:
    """Data set with what CellRank returned for it; kernels are computed once."""

    def __init__(self, shared, name, adata):
        self.adata = adata.copy()
        self.results = dict(np.load(shared / "reference" / f"{name}_kernels.npz"))
        self.velocity = VelocityKernel(self.adata).compute_transition_matrix()
        self.connectivity = ConnectivityKernel(self.adata).compute_transition_matrix()

    def matrix(self, key):
        parts = (self.results[f"{key}.{part}"] for part in ("data", "indices", "indptr"))
        return sp.csr_matrix(tuple(parts), shape=(self.adata.n_obs, self.adata.n_obs))

    def compare(self, kernel, key, tolerance=1e-10 if DOUBLE else 1e-6):
        matrix, expected = kernel.transition_matrix, self.matrix(key)
        assert isinstance(matrix, sp.csr_matrix)
        assert matrix.dtype == np.float64
        assert matrix.has_sorted_indices
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        assert (np.diff(matrix.indices)[np.diff(rows) == 0] > 0).all()
        np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)), 1, rtol=0, atol=1e-12)
        assert (matrix.data > 0).all()
        assert abs(matrix - expected).max() < tolerance
        if matrix.shape[0] < 1000:  # a second program to compile; small data say as much about it
            pure = kernel.transition_function(kernel.graph, kernel.features).to_csr()
            assert abs(pure - matrix).max() < tolerance
        assert abs(kernel.transitions.to_csr() - matrix).max() < (1e-15 if DOUBLE else 1e-6)


@pytest.fixture(scope="module", params=["small", "pancreas"])
def reference(request, shared):
    return Reference(shared, request.param, request.getfixturevalue(request.param))


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
@pytest.mark.parametrize("direction", ["fwd", "bwd_transpose", "bwd_negate"])
def test_velocity(reference, similarity, direction):
    backward, _, mode = direction.partition("_")
    kernel = VelocityKernel(reference.adata, backward=backward == "bwd")
    scale = 4.0 if mode == "negate" else None
    kernel.compute_transition_matrix(similarity=similarity, backward_mode=mode or "transpose", softmax_scale=scale)
    key = f"velocity/{similarity}/{direction}"
    expected = float(reference.results[f"{key}.softmax_scale"])
    assert kernel.params["softmax_scale"] == pytest.approx(expected, rel=1e-12 if DOUBLE else 1e-5)
    tolerance = 1e-10 if DOUBLE else 1e-6
    if similarity == "dot_product" and not DOUBLE:
        tolerance = 1e-6 * max(1.0, expected * abs(kernel.logits).max())
    reference.compare(kernel, key, tolerance)


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
def test_stochastic(reference, similarity):
    key = f"velocity/{similarity}/stochastic_scale=4"
    if f"{key}.data" not in reference.results:
        assert reference.adata.n_obs == 3696  # CellRank takes hours there
        return
    kernel = VelocityKernel(reference.adata)
    kernel.compute_transition_matrix(model="stochastic", similarity=similarity, softmax_scale=4.0)
    tolerance = 1e-10 if DOUBLE else 1e-6
    if similarity == "dot_product" and not DOUBLE:
        tolerance = 1e-6 * max(1.0, 4 * abs(kernel.logits).max())
    reference.compare(kernel, key, tolerance)


@pytest.mark.parametrize("density_normalize", [True, False])
def test_connectivity(reference, density_normalize):
    kernel = ConnectivityKernel(reference.adata).compute_transition_matrix(density_normalize=density_normalize)
    reference.compare(kernel, f"connectivity/density_normalize={density_normalize}")


def test_combinations(reference):
    v, c = reference.velocity, reference.connectivity
    reference.compare(0.8 * v + 0.2 * c, "combined/0.8v+0.2c")
    reference.compare(3 * v + c, "combined/3v+c")
    reference.compare(v * c, "combined/v*c")


@pytest.mark.parametrize("name", ["velocity", "combined"])
def test_projection(reference, name):
    kernel = reference.velocity if name == "velocity" else 0.8 * reference.velocity + 0.2 * reference.connectivity
    kernel.plot_projection(recompute=True, show=False)
    arrows, expected = reference.adata.obsm["T_fwd_umap"], reference.results[f"projection/{name}/umap"]
    assert arrows.dtype == expected.dtype
    np.testing.assert_allclose(arrows, expected, rtol=0, atol=1e-6 * abs(expected).max())


def test_cbc(reference):
    kernel = 0.8 * reference.velocity + 0.2 * reference.connectivity
    keys = [key for key in reference.results if key.startswith("cbc/")]
    assert len(keys) == (4 if reference.adata.n_obs == 3696 else 0)
    for key in keys:
        _, clusters, rep = key.split("/")
        scores = kernel.cbc(*clusters.split("->"), "clusters", rep)
        np.testing.assert_allclose(scores, reference.results[key], rtol=0, atol=1e-6)
