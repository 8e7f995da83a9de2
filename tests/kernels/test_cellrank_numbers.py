"""Equality with CellRank on 12 cells whose numbers stand beside the tests.

``cellrank_12_cells.npz`` holds 12 cells × 6 genes on an irregular graph (2 to 7 neighbours), and what CellRank returns
for them: 2.3.3 (Python 3.12) and 2.0.7 (Python 3.11) in float64, with JAX's double precision, which agree to 4e-16.
A matrix is stored as its values on the edges ``rows``, ``columns``.
"""

from pathlib import Path

import anndata
import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, VelocityKernel

DOUBLE = jax.config.jax_enable_x64
TOLERANCE = 1e-10 if DOUBLE else 1e-6


@pytest.fixture(scope="module")
def numbers():
    with np.load(Path(__file__).parent / "cellrank_12_cells.npz", allow_pickle=False) as file:
        return dict(file)


def matrix(numbers, key):
    return sp.csr_matrix((numbers[key], (numbers["rows"], numbers["columns"])), shape=(12, 12))


@pytest.fixture
def twelve(numbers):
    return anndata.AnnData(
        layers={"Ms": numbers["expression"], "velocity": numbers["velocity"]},
        obsp={"connectivities": matrix(numbers, "connectivities")},
    )


def compare(kernel, numbers, key, tolerance=TOLERANCE):
    found, expected = kernel.transition_matrix, matrix(numbers, key)
    assert found.dtype == np.float64
    assert abs(found - expected).max() < tolerance


def tolerance_of(kernel, similarity, scale):
    return TOLERANCE if DOUBLE or similarity != "dot_product" else 1e-6 * max(1, scale * abs(kernel.logits).max())


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
@pytest.mark.parametrize("direction", ["fwd", "bwd_transpose", "bwd_negate"])
def test_deterministic(twelve, numbers, similarity, direction):
    backward, _, mode = direction.partition("_")
    kernel = VelocityKernel(twelve, backward=backward == "bwd").compute_transition_matrix(
        similarity=similarity, backward_mode=mode or "transpose", softmax_scale=4.0 if mode == "negate" else None
    )
    scale = float(numbers[f"velocity/{similarity}/{direction}.softmax_scale"])
    assert kernel.params["softmax_scale"] == pytest.approx(scale, rel=1e-12 if DOUBLE else 1e-5)
    compare(kernel, numbers, f"velocity/{similarity}/{direction}", tolerance_of(kernel, similarity, scale))


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
def test_stochastic(twelve, numbers, similarity):
    kernel = VelocityKernel(twelve)
    kernel.compute_transition_matrix(model="stochastic", similarity=similarity, softmax_scale=4.0)
    compare(kernel, numbers, f"velocity/{similarity}/stochastic_scale=4", tolerance_of(kernel, similarity, 4))


@pytest.mark.parametrize("density_normalize", [True, False])
def test_connectivity(twelve, numbers, density_normalize):
    kernel = ConnectivityKernel(twelve).compute_transition_matrix(density_normalize=density_normalize)
    compare(kernel, numbers, f"connectivity/density_normalize={density_normalize}")


@pytest.mark.parametrize("backward", [False, True])
def test_combinations(twelve, numbers, backward):
    v = VelocityKernel(twelve, backward=backward).compute_transition_matrix()
    c = ConnectivityKernel(twelve).compute_transition_matrix()
    direction = "bwd" if backward else "fwd"
    compare(0.8 * v + 0.2 * c, numbers, f"combined/0.8v+0.2c/{direction}")
    compare(3 * v + c, numbers, f"combined/3v+c/{direction}")
    compare(v * c, numbers, f"combined/v*c/{direction}")


def test_the_numbers_tell_the_models_apart(numbers):
    """All results differ by far more than the tolerance, so that each equality says something of its own."""
    keys = [key for key in numbers if "/" in key and not key.endswith("softmax_scale")]
    assert len(keys) == 20
    results = np.stack([numbers[key] for key in keys])
    distance = abs(results[:, None] - results[None]).max(axis=2) + np.eye(len(keys))
    assert distance.min() > 1e-2
