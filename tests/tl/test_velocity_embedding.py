"""Velocities in an embedding: against the formula, cell by cell, and against scVelo."""

import warnings

import anndata
import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo import tl

X64 = jax.config.jax_enable_x64
TOLERANCE = 1e-10 if X64 else 2e-6


@pytest.fixture
def cells():
    """Cells with correlations to some others, positive and negative."""
    rng = np.random.default_rng(0)
    n = 40
    graph = sp.random(n, n, 0.2, random_state=1, data_rvs=lambda k: rng.uniform(-1, 1, k), format="lil")
    graph.setdiag(0)
    graph[7] = 0  # no correlations
    graph = sp.csr_matrix(graph)
    graph.eliminate_zeros()
    adata = anndata.AnnData(np.ones((n, 2), dtype=np.float32))
    adata.obsm["X_umap"] = rng.standard_normal((n, 2))
    adata.obsm["X_pca"] = rng.standard_normal((n, 5))
    adata.obsm["X_umap"][3] = adata.obsm["X_umap"][4]  # in the same place
    adata.uns["velocity_graph"], adata.uns["velocity_graph_neg"] = graph.maximum(0), graph.minimum(0)
    adata.uns["velocity_params"] = {"mode": "stochastic"}
    return adata


def cell_by_cell(adata, basis, scale=10.0, self_transitions=True, use_negative_cosines=True):
    """What the docstring says."""
    positive = adata.uns["velocity_graph"].toarray()
    negative = adata.uns["velocity_graph_neg"].toarray()
    stored = (positive != 0) | (negative != 0)
    z = adata.obsm[f"X_{basis}"]
    n = len(z)
    best = np.percentile(positive.max(axis=1), 98)
    arrows = np.zeros_like(z)
    for i in range(n):
        t = {}
        for j in np.flatnonzero(stored[i]):
            if use_negative_cosines:
                t[j] = np.exp(scale * positive[i, j]) - np.exp(-scale * negative[i, j])
            else:
                t[j] = np.exp(scale * (positive[i, j] + negative[i, j]))
        if self_transitions:
            own = np.clip(best - positive[i].max(), 0, 1)
            if own > 0:
                t[i] = np.exp(scale * own) - 1 if use_negative_cosines else np.exp(scale * own)
        total = sum(abs(value) for value in t.values())
        others = [j for j in t if j != i and t[j] != 0]
        mean = np.mean([t[j] / total for j in others]) if others else 0.0
        for j in others:
            d = z[j] - z[i]
            if np.linalg.norm(d) > 0:
                arrows[i] += (t[j] / total - mean) * d / np.linalg.norm(d)
    return arrows


@pytest.mark.parametrize("basis", ["umap", "pca"])
@pytest.mark.parametrize(
    "arguments", [{}, {"scale": 3.0}, {"self_transitions": False}, {"use_negative_cosines": False}]
)
def test_formula(cells, basis, arguments):
    tl.velocity_embedding(cells, basis, autoscale=False, **arguments)
    found, expected = cells.obsm[f"velocity_{basis}"], cell_by_cell(cells, basis, **arguments)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max())
    assert np.abs(expected).max() > 0.1
    np.testing.assert_array_equal(found[7], 0)


def test_scaled_by_one_factor(cells):
    unscaled = tl.velocity_embedding(cells, autoscale=False, copy=True).obsm["velocity_umap"]
    scaled = tl.velocity_embedding(cells, copy=True).obsm["velocity_umap"]
    factor = scaled[np.abs(unscaled) > 0.1] / unscaled[np.abs(unscaled) > 0.1]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-5)


def test_matrix_of_the_user(cells):
    matrix = sp.random(40, 40, 0.3, random_state=3, format="csr")
    before = matrix.copy()
    tl.velocity_embedding(cells, T=matrix, autoscale=False)
    assert abs(matrix - before).max() == 0
    dense, z = matrix.toarray(), cells.obsm["X_umap"]
    for i in range(40):
        others = [j for j in range(40) if j != i and dense[i, j] != 0]
        d = z[others] - z[i]
        length = np.linalg.norm(d, axis=1, keepdims=True)
        unit = np.divide(d, length, out=np.zeros_like(d), where=length > 0)
        expected = (dense[i, others] - dense[i, others].mean()) @ unit
        np.testing.assert_allclose(cells.obsm["velocity_umap"][i], expected, atol=2e-6)


def test_what_is_written(cells):
    copied = tl.velocity_embedding(cells, copy=True)
    assert "velocity_umap" not in cells.obsm
    assert cells.uns["velocity_params"] == {"mode": "stochastic"}
    assert tl.velocity_embedding(cells) is None
    assert cells.uns["velocity_params"] == {"mode": "stochastic", "embeddings": ["umap"]}
    tl.velocity_embedding(cells)
    tl.velocity_embedding(cells, "X_pca")
    assert cells.uns["velocity_params"]["embeddings"] == ["umap", "pca"]
    assert cells.obsm["velocity_pca"].shape == (40, 5)
    np.testing.assert_array_equal(copied.obsm["velocity_umap"], cells.obsm["velocity_umap"])


def test_embeddings(cells):
    tl.velocity_embedding(cells, "pca", all_comps=False)
    assert cells.obsm["velocity_pca"].shape == (40, 2)
    cells.obsm["X_umap"] = cells.obsm["X_umap"].astype(np.float32)
    tl.velocity_embedding(cells)
    assert cells.obsm["velocity_umap"].dtype == np.float32
    del cells.obsm["X_umap"]
    tl.velocity_embedding(cells)
    assert cells.obsm["velocity_pca"].shape == (40, 5)


def test_cells_without_a_place(cells):
    cells.obsm["X_umap"][0] = np.nan
    tl.velocity_embedding(cells)
    arrows = cells.obsm["velocity_umap"]
    graph = (cells.uns["velocity_graph"] + cells.uns["velocity_graph_neg"]).toarray() != 0
    next_to = graph[:, 0] | (np.arange(40) == 0)
    assert np.isnan(arrows[next_to]).all()
    assert np.isfinite(arrows[~next_to]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"basis": "tsne"}, KeyError, r"adata.obsm\['X_tsne'\]"),
        ({"vkey": "other"}, KeyError, r"adata.uns\['other_graph'\].*jaxvelo.tl.velocity_graph"),
        ({"scale": 0}, ValueError, "`scale` to be a positive number"),
        ({"T": sp.eye_array(3)}, ValueError, r"`T` of shape \(40, 40\).*found \(3, 3\)"),
        ({"T": np.full((40, 40), np.nan)}, ValueError, "finite probabilities in `T`"),
    ],
)
def test_says_what_is_wrong(cells, arguments, error, message):
    with pytest.raises(error, match=message):
        tl.velocity_embedding(cells, **arguments)
    assert list(cells.obsm) == ["X_umap", "X_pca"]
    assert cells.uns["velocity_params"] == {"mode": "stochastic"}


def test_no_embedding(cells):
    del cells.obsm["X_umap"], cells.obsm["X_pca"]
    with pytest.raises(KeyError, match=r"\['X_umap', 'X_tsne', 'X_pca'\] in `adata.obsm`"):
        tl.velocity_embedding(cells)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": 4, "autoscale": False},
        {"self_transitions": False},
        {"use_negative_cosines": False},
        {"basis": "pca", "all_comps": False},
    ],
)
def test_against_scvelo(shared, arguments):
    """To 1e-6 of the largest arrow, on the pancreas."""
    scv = pytest.importorskip("scvelo", reason='scVelo comes with `pip install "jaxvelo[tutorial]"`')
    adata = anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad")[::6].copy()
    while (isolated := np.diff(adata.obsp["connectivities"].indptr) == 0).any():  # where scVelo has NaN
        adata = adata[~isolated].copy()
    tl.velocity_graph(adata, mode_neighbors="connectivities")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scv.settings.verbosity = 0
        ours = tl.velocity_embedding(adata, copy=True, **arguments)
        theirs = scv.tl.velocity_embedding(adata, copy=True, **{"basis": "umap", **arguments})
    key = f"velocity_{arguments.get('basis', 'umap')}"
    expected = theirs.obsm[key]
    np.testing.assert_allclose(ours.obsm[key], expected, atol=1e-6 * np.abs(expected).max())
