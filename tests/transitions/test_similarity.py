"""A user's similarity that is the correlation gives what the built-in one gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Velocity
from tests.transitions.examples import default, example

ATOL = 1e-12 if jax.config.jax_enable_x64 else 2e-5


def correlation(v, displacements):
    """Pearson correlation of one velocity with many displacements."""
    v = v - jnp.mean(v)
    displacements = displacements - jnp.mean(displacements, axis=1)[:, None]
    length = jnp.linalg.norm(v) * jnp.linalg.norm(displacements, axis=1)
    return displacements @ v / jnp.where(length > 0, length, 1)


def dot_product(v, displacements):
    return displacements @ v


@pytest.mark.parametrize("backward_mode", [None, "transpose", "negate"])
@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_correlation(model, backward_mode):
    if backward_mode == "transpose" and model != "deterministic":
        pytest.skip("transposed models are deterministic")
    matrix, x, v = example("asymmetric")
    graph, x, v = NeighborGraph.from_csr(matrix), default(x), default(v)
    arguments = {"model": model, "backward_mode": backward_mode, "n_samples": 4}
    one, other = (
        Velocity(2.5, similarity=similarity, **arguments)(graph, x, v, key=jax.random.key(0)).to_csr().toarray()
        for similarity in ("correlation", correlation)
    )
    np.testing.assert_allclose(other, one, rtol=0, atol=ATOL)


@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_gene_weights_scale_by_their_square_roots(model):
    matrix, x, v = example("symmetric")
    graph, x, v = NeighborGraph.from_csr(matrix), default(x), default(v)
    weights = default([0.5, 1.0, 0.0, 2.0, 1.5, 0.25])
    one, other = (
        Velocity(1.0, weights, similarity=similarity, model=model, n_samples=4)(graph, x, v, key=jax.random.key(0))
        .to_csr()
        .toarray()
        for similarity in ("dot_product", dot_product)
    )
    np.testing.assert_allclose(other, one, rtol=0, atol=ATOL)


def test_automatic_scale():
    matrix, x, v = example("isolated")
    graph, x, v = NeighborGraph.from_csr(matrix), default(x), default(v)
    one, other = (
        Velocity(similarity=similarity)(graph, x, v).to_csr().toarray() for similarity in ("correlation", correlation)
    )
    np.testing.assert_allclose(other, one, rtol=0, atol=ATOL)
