"""Equality with CellRank on real cells, for every stored transition matrix."""

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.transitions import Connectivity, Features, Velocity, evaluate_velocity


@pytest.fixture(scope="module", params=["pancreas", "small"])
def data(request, shared):
    """Graph, features and the reference's transition matrices."""
    adata = ad.read_h5ad(shared / f"reference/{request.param}_velocity.h5ad")
    stored = np.load(shared / f"reference/{request.param}_kernels.npz")
    genes = adata.var["velocity_genes"].to_numpy()
    x, v = adata.layers["Ms"][:, genes], adata.layers["velocity"][:, genes]
    valid = ~np.isnan(v.sum(axis=0))
    x, v = (jnp.asarray(layer[:, valid], dtype=float) for layer in (x, v))
    return NeighborGraph.from_csr(adata.obsp["connectivities"]), x, v, stored


def reference(stored, key):
    indptr = stored[f"{key}.indptr"]
    shape = (len(indptr) - 1,) * 2
    return sp.csr_matrix((stored[f"{key}.data"], stored[f"{key}.indices"], indptr), shape=shape)


def assert_equal(found, stored, key, largest_exponent=1.0):
    """Same entries to 1e-10 in float64, and to 1e-6 times the largest scaled logit in float32."""
    expected = reference(stored, key)
    tolerance = 1e-10 if jax.config.jax_enable_x64 else 1e-6 * largest_exponent
    assert found.shape == expected.shape
    assert np.max(np.abs((found - expected).data), initial=0) <= tolerance
    if jax.config.jax_enable_x64:
        # The same entries, but for those so small that XLA rounds them to zero.
        assert np.count_nonzero(found.data > 1e-300) == np.count_nonzero(expected.data > 1e-300)


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
@pytest.mark.parametrize(
    ("name", "backward_mode", "scale"),
    [("fwd", None, None), ("bwd_transpose", "transpose", None), ("bwd_negate", "negate", 4.0)],
)
def test_deterministic(data, similarity, name, backward_mode, scale):
    graph, x, v, stored = data
    velocity = Velocity(scale, similarity=similarity, backward_mode=backward_mode)
    probabilities, logits, found = evaluate_velocity(velocity, graph, Features(x, v))
    key = f"velocity/{similarity}/{name}"
    np.testing.assert_allclose(
        float(found), float(stored[f"{key}.softmax_scale"]), rtol=1e-10 if jax.config.jax_enable_x64 else 1e-5
    )
    largest = max(float(jnp.max(jnp.abs(bucket))) for bucket in logits) * float(found)
    matrix = TransitionMatrix(graph, probabilities).to_csr()
    assert_equal(matrix, stored, key, largest if similarity == "dot_product" else 1.0)


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
def test_stochastic(data, similarity):
    graph, x, v, stored = data
    key = f"velocity/{similarity}/stochastic_scale=4"
    if f"{key}.data" not in stored:
        pytest.skip("CellRank takes hours for this many cells")
    velocity = Velocity(4.0, similarity=similarity, model="stochastic")
    probabilities, logits, _ = evaluate_velocity(velocity, graph, Features(x, v))
    largest = 4.0 * max(float(jnp.max(jnp.abs(bucket))) for bucket in logits)
    matrix = TransitionMatrix(graph, probabilities).to_csr()
    assert_equal(matrix, stored, key, largest if similarity == "dot_product" else 1.0)


@pytest.mark.parametrize("density_normalize", [True, False])
def test_connectivity(data, density_normalize):
    graph, _, _, stored = data
    matrix = Connectivity(density_normalize)(graph).to_csr()
    assert_equal(matrix, stored, f"connectivity/density_normalize={density_normalize}")


@pytest.mark.parametrize(
    ("name", "combine"),
    [
        ("0.8v+0.2c", lambda v, c: 0.8 * v + 0.2 * c),
        ("3v+c", lambda v, c: 3 * v + c),
        ("v*c", lambda v, c: v * c),
    ],
)
def test_combined(data, name, combine):
    graph, x, v, stored = data
    matrix = combine(Velocity(), Connectivity())(graph, x, v).to_csr()
    assert_equal(matrix, stored, f"combined/{name}")
