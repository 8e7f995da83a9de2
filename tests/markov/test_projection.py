import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.markov import project
from tests.finite_differences import check_gradient
from tests.markov.chains import chain, csr, messy_chain, permuted, with_lone_cells


def tolerance():
    return 1e-10 if jax.config.jax_enable_x64 else 2e-6


def arrows_of(dense, stored, embedding):
    """The arrows, cell by cell in float64."""
    arrows = np.zeros(embedding.shape)
    for i in range(len(dense)):
        neighbors = np.flatnonzero(stored[i])
        displacement = embedding[neighbors] - embedding[i]
        if not np.isfinite(embedding[[i, *neighbors]]).all():
            arrows[i] = np.nan
            continue
        norm = np.linalg.norm(displacement, axis=1)
        for j, d, length in zip(neighbors, displacement, norm, strict=True):
            if length > 0:
                arrows[i] += (dense[i, j] - 1 / len(neighbors)) * d / length
    return arrows


def quiver_scale(embedding, arrows):
    """The scale that matplotlib chooses for a picture of the arrows, after division by the largest coordinate."""
    largest = np.abs(embedding).max()
    figure, axes = plt.subplots()
    quiver = axes.quiver(*(embedding / largest).T, *arrows.T, angles="xy", scale_units="xy", scale=None)
    figure.draw_without_rendering()
    plt.close(figure)
    return quiver.scale / largest


def embed(n_cells, dims=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n_cells, dims)) * 5


@pytest.mark.parametrize("data", ["pancreas", "small"])
@pytest.mark.parametrize("kernel", ["velocity", "combined"])
def test_reference(request, data, kernel):
    reference = request.getfixturevalue(data)
    embedding = reference.adata.obsm["X_umap"]
    arrows = np.asarray(project(reference.transitions[kernel], embedding))
    expected = reference.results[f"projection/{kernel}/umap"]
    scaled = arrows / (3 * quiver_scale(embedding, arrows))
    assert np.max(np.abs(scaled - expected)) < 1e-6 * np.max(np.abs(expected))


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("n_cells", [20, 100])
def test_messy_graphs(dims, n_cells):
    matrix, dense, stored = messy_chain(n_cells, seed=dims)
    embedding = embed(n_cells, dims)
    embedding[stored[0].argmax()] = embedding[0]
    embedding[7:10] = embedding[6]
    arrows = project(matrix, jnp.asarray(embedding, dtype=float))
    assert arrows.dtype == matrix.values[0].dtype
    np.testing.assert_allclose(arrows, arrows_of(dense, stored, embedding), atol=tolerance())
    assert np.all(np.asarray(arrows)[~stored.any(axis=1)] == 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cells_without_coordinates(bad):
    matrix, dense, stored = messy_chain()
    embedding = embed(40, 3)
    embedding[[2, 10], [1, 2]] = bad
    expected = arrows_of(dense, stored, embedding)
    assert np.isnan(expected).any(axis=1).sum() > 2
    assert np.isnan(expected[2]).all()
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(project(matrix, jnp.asarray(embedding, dtype=float)), expected, atol=tolerance())


def test_only_the_named_edges_count():
    _, dense, stored = messy_chain()
    other = np.roll(stored, 3, axis=1)
    hidden = 6
    stored[:, hidden] = False
    both = stored | other
    probabilities = both / np.maximum(both.sum(axis=1, keepdims=True), 1)
    graph = NeighborGraph.from_csr({"connectivities": csr(dense, stored), "all": csr(probabilities, both)})
    matrix = TransitionMatrix(graph, graph.edges["all"].values)
    embedding = embed(40)
    # A cell that only the other edges reach tells nothing, not even if it has no coordinates.
    embedding[hidden] = np.nan
    given_embedding = jnp.asarray(embedding, dtype=float)
    for name, pattern in (("connectivities", stored), ("all", both)):
        expected = arrows_of(probabilities, pattern, embedding)
        assert np.isnan(expected).any(axis=1).sum() == 1 + (name == "all") * other[:, hidden].sum()
        np.testing.assert_allclose(project(matrix, given_embedding, edges=name), expected, atol=tolerance())


def test_two_cells():
    matrix = chain(np.array([[0.25, 0.75], [1.0, 0.0]]))
    arrows = project(matrix, jnp.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(arrows, [[0.25 * 0.6, 0.25 * 0.8], [0.0, 0.0]], atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_cells_padding_and_frame_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    matrix, dense, stored = messy_chain(24, seed=seed)
    embedding = embed(24, 3, seed)
    arrows = np.asarray(project(matrix, jnp.asarray(embedding, dtype=float)))
    order = rng.permutation(24)
    shuffled = project(permuted(dense, stored, order), jnp.asarray(embedding[order], dtype=float))
    np.testing.assert_allclose(shuffled, arrows[order], atol=tolerance())
    larger = project(with_lone_cells(dense, stored, 70), jnp.asarray(np.pad(embedding, ((0, 70), (0, 0))), dtype=float))
    np.testing.assert_allclose(larger[:24], arrows, atol=tolerance())
    np.testing.assert_array_equal(larger[24:], 0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = project(matrix, jnp.asarray(1 + 7 * embedding @ rotation, dtype=float))
    np.testing.assert_allclose(turned, arrows @ rotation, atol=20 * tolerance())


def weighted(arrows, seed=0):
    known = ~jnp.isnan(arrows)
    weight = jnp.asarray(np.random.default_rng(seed).normal(size=arrows.shape))
    return jnp.sum(weight * jnp.where(known, arrows, 0) ** 2)


@pytest.mark.parametrize("missing", [False, True])
def test_gradient_in_the_probabilities(missing):
    matrix, _, _ = messy_chain(24)
    embedding = embed(24, 3)
    if missing:
        embedding[4, 1] = np.nan
    check_gradient(lambda v: weighted(project(TransitionMatrix(matrix.graph, v), embedding)), matrix.values)


@pytest.mark.parametrize("missing", [False, True])
def test_gradient_in_the_embedding_with_duplicates(missing):
    matrix, _, _ = messy_chain(24)
    # The direction between duplicates jumps when they part. They move together, and the gradient must not be NaN.
    index = np.arange(24)
    index[[5, 8, 14]] = 3

    def function(places):
        embedding = places[index]
        return weighted(project(matrix, embedding.at[10, 0].set(jnp.nan) if missing else embedding))

    check_gradient(function, embed(24, 3))
