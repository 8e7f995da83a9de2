"""What must not change the transition matrix, and what it always is."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph import NeighborGraph
from jaxvelo.graph._buckets import next_size
from jaxvelo.transitions import Connectivity, Features, Velocity
from tests.transitions.examples import GENE_WEIGHTS, KINDS, N_CELLS, N_GENES, default, example

ATOL = 1e-11 if jax.config.jax_enable_x64 else 1e-5
KEY = jax.random.key(0)
MODELS = ["deterministic", "stochastic", "monte_carlo"]

few = settings(max_examples=8, deadline=None, derandomize=True)
kinds, seeds = st.sampled_from(KINDS), st.integers(0, 50)


def transition_function_of(model, similarity="correlation"):
    velocity = Velocity(2.0, default(GENE_WEIGHTS), model=model, similarity=similarity, n_samples=4)
    return 0.8 * velocity + 0.2 * Connectivity()


def matrix_of(transition_function, graph, x, v):
    return transition_function(NeighborGraph.from_csr(graph), default(x), default(v), key=KEY).to_csr().toarray()


@pytest.mark.parametrize("model", MODELS)
def test_rows_are_probabilities(model):
    @few
    @given(kinds, seeds, st.sampled_from([1e-3, 1.0, 300.0]))
    def check(kind, seed, scale):
        graph, x, v = example(kind, seed)
        transition_function = transition_function_of(model)
        transition_function = eqx.tree_at(
            lambda e: e.children[0].log_scale, transition_function, jnp.log(default(scale))
        )
        matrix = matrix_of(transition_function, graph, x, v)
        assert np.all(matrix >= 0)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-14 if ATOL < 1e-9 else 1e-6)
        outside = (graph + graph.T).toarray() == 0 if graph.nnz == graph.count_nonzero() else np.zeros_like(matrix)
        stays = np.diff(graph.indptr) == 0
        assert np.all(matrix[outside.astype(bool) & ~(np.eye(N_CELLS, dtype=bool) & stays[:, None])] == 0)

    check()


@pytest.mark.parametrize("model", MODELS)
def test_order_of_the_cells(model):
    @few
    @given(kinds, seeds)
    def check(kind, seed):
        graph, x, v = example(kind, seed)
        order = np.random.default_rng(seed).permutation(N_CELLS)
        expected = matrix_of(transition_function_of(model), graph, x, v)[np.ix_(order, order)]
        found = matrix_of(transition_function_of(model), graph[order][:, order], x[order], v[order])
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)

    check()


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
@pytest.mark.parametrize("model", ["deterministic", "stochastic"])
def test_order_of_the_genes(model, similarity):
    @few
    @given(kinds, seeds)
    def check(kind, seed):
        graph, x, v = example(kind, seed)
        order = np.random.default_rng(seed).permutation(N_GENES)
        transition_function = Velocity(2.0, default(GENE_WEIGHTS), model=model, similarity=similarity)
        reordered = eqx.tree_at(lambda e: e.gene_weights, transition_function, default(GENE_WEIGHTS[order]))
        expected = matrix_of(transition_function, graph, x, v)
        found = matrix_of(reordered, graph, x[:, order], v[:, order])
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)

    check()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", ["deterministic", "stochastic"])
@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
def test_padding_of_cells_and_genes(similarity, model, weighted):
    def pad(values):
        return default(np.pad(values, ((0, 5), (0, 3))))

    for kind in ("symmetric", "constant_velocities", "duplicates"):
        graph, x, v = example(kind)
        weights = default(GENE_WEIGHTS) if weighted else None
        # What weights say of genes that are not there does not matter.
        padded = jnp.concatenate([weights, jnp.full(3, 7.0)]) if weighted else None
        expected = matrix_of(Velocity(2.0, weights, model=model, similarity=similarity), graph, x, v)
        features = {"velocity": Features(pad(x), pad(v), jnp.asarray(N_GENES, dtype=jnp.int32))}
        velocity = Velocity(2.0, padded, model=model, similarity=similarity)
        found = velocity(NeighborGraph.from_csr(graph), features).to_csr().toarray()
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_padding_of_genes_in_the_monte_carlo_model():
    """The noise is another, but padding draws none that counts: without variance, nothing changes."""
    graph, x, v = example("symmetric")
    v = np.zeros_like(v) + v[:1]
    expected = matrix_of(Velocity(2.0), graph, x, v)
    x, v = (default(np.pad(values, ((0, 5), (0, 3)))) for values in (x, v))
    features = {"velocity": Features(x, v, jnp.asarray(N_GENES, dtype=jnp.int32))}
    velocity = Velocity(2.0, model="monte_carlo", n_samples=4)
    found = velocity(NeighborGraph.from_csr(graph), features, key=KEY).to_csr().toarray()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("model", ["deterministic", "stochastic"])
@pytest.mark.parametrize("similarity", ["correlation", "cosine"])
def test_lengths_of_velocities_and_of_gene_weights(similarity, model):
    @few
    @given(kinds, seeds, st.sampled_from([-20, -3, 5, 20]))
    def check(kind, seed, power):
        graph, x, v = example(kind, seed)
        factor = 2.0**power
        velocity = Velocity(2.0, default(GENE_WEIGHTS), model=model, similarity=similarity)
        expected = matrix_of(velocity, graph, x, v)
        np.testing.assert_allclose(matrix_of(velocity, graph, x, factor * v), expected, rtol=0, atol=ATOL)
        rescaled = eqx.tree_at(lambda e: e.gene_weights, velocity, default(factor**2 * GENE_WEIGHTS))
        np.testing.assert_allclose(matrix_of(rescaled, graph, x, v), expected, rtol=0, atol=ATOL)

    check()


@functools.cache
def expected_matrix(model):
    return matrix_of(transition_function_of(model), *example("asymmetric"))


@pytest.mark.parametrize("block_bytes", [1, 3000])
@pytest.mark.parametrize("model", MODELS)
def test_size_of_the_blocks(model, block_bytes):
    matrix, x, v = example("asymmetric")
    graph = NeighborGraph.from_csr(matrix, block_bytes=block_bytes)
    found = transition_function_of(model)(graph, default(x), default(v), key=KEY).to_csr().toarray()
    np.testing.assert_allclose(found, expected_matrix(model), rtol=0, atol=ATOL)


@pytest.mark.parametrize("model", MODELS)
def test_layout_of_the_buckets(model, monkeypatch):
    matrix, x, v = example("asymmetric")
    monkeypatch.setattr(
        "jaxvelo.graph._neighbor_graph.bucket_shapes", lambda degrees, n_devices: [(9, 5), (next_size(N_CELLS) - 9, 19)]
    )
    graph = NeighborGraph.from_csr(matrix)
    assert [columns.shape for columns in graph.columns] == [(9, 5), (31, 19)]
    found = transition_function_of(model)(graph, default(x), default(v), key=KEY).to_csr().toarray()
    np.testing.assert_allclose(found, expected_matrix(model), rtol=0, atol=ATOL)
