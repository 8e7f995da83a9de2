"""Arrows in an embedding: numbers, where they go, what is asked of the embedding."""

import re

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel, VelocityKernel
from jaxvelo.kernels._projection import automatic_quiver_scale
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged

DOUBLE = jax.config.jax_enable_x64
WRITTEN = "/obsm/T_fwd_umap", "/uns/T_fwd_params"


@pytest.fixture
def kernel(cells):
    return VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)


def expected_arrows(matrix, embedding, graph):
    """Plain NumPy: expected direction less the mean direction to all neighbours."""
    arrows = np.zeros(embedding.shape)
    for i in range(len(embedding)):
        neighbors = graph[[i]].indices
        displacements = embedding[neighbors] - embedding[i]
        norms = np.linalg.norm(displacements, axis=1, keepdims=True)
        directions = np.divide(displacements, norms, out=np.zeros_like(displacements), where=norms > 0)
        if len(neighbors):
            arrows[i] = matrix[i, neighbors].toarray().ravel() @ directions - directions.mean(axis=0)
    return arrows


def directions_and_scale(arrows, expected):
    """Compare up to the scale of the picture, which must be one number."""
    scale = np.linalg.norm(expected) / np.linalg.norm(arrows)
    tolerance = 1e-10 if DOUBLE and arrows.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(arrows * scale, expected, rtol=0, atol=tolerance * abs(expected).max())
    return scale


@pytest.mark.parametrize("basis", ["umap", "umap3d", "pca"])
@pytest.mark.parametrize("stream", [True, False])
def test_arrows(cells, kernel, basis, stream):
    """In any number of dimensions, in the precision of the embedding."""
    key = f"T_fwd_{basis}"
    with unchanged(cells, f"/obsm/{key}", "/uns/T_fwd_params"):
        axes = kernel.plot_projection(basis=basis, stream=stream, show=False)
    assert axes is not None
    embedding = cells.obsm[f"X_{basis}"]
    assert cells.obsm[key].shape == embedding.shape
    assert cells.obsm[key].dtype == embedding.dtype
    assert cells.uns["T_fwd_params"] == {"embeddings": [basis]}
    expected = expected_arrows(kernel.transition_matrix, embedding.astype(float), kernel.connectivities)
    scale = directions_and_scale(cells.obsm[key], expected)
    assert scale == pytest.approx(3 * automatic_quiver_scale(embedding, expected), rel=1e-5)


def test_name_of_the_basis(cells, kernel):
    kernel.plot_projection(basis="X_umap", show=False)
    first = cells.obsm["T_fwd_umap"]
    cells.obsm["spatial"] = cells.obsm["X_umap"]
    kernel.plot_projection(basis="spatial", show=False)
    np.testing.assert_array_equal(cells.obsm["T_fwd_spatial"], first)


def test_keys(cells, kernel):
    with unchanged(cells, "/obsm/mine_umap", "/uns/mine_params"):
        kernel.plot_projection(key_added="mine", show=False)
    backward = (~kernel).compute_transition_matrix(softmax_scale=2.0)
    with unchanged(cells, "/obsm/T_bwd_umap", "/uns/T_bwd_params"):
        backward.plot_projection(show=False)
    kernel.plot_projection(show=False)
    kernel.plot_projection(basis="pca", show=False)
    kernel.plot_projection(basis="pca", show=False, recompute=True)
    assert cells.uns["T_fwd_params"]["embeddings"] == ["umap", "pca"]


def test_recompute(cells, kernel, logged):
    kernel.plot_projection(show=False)
    expected = cells.obsm["T_fwd_umap"]
    text = logged()
    assert "INFO: Projecting transition matrix onto `umap`" in text
    assert "INFO: Adding `adata.obsm['T_fwd_umap']`" in text
    assert re.search(r"INFO:     Finish \(0:00:\d\d\.\d\d\)", text)
    cells.obsm["T_fwd_umap"] = expected * 2
    with unchanged(cells):
        kernel.plot_projection(show=False)
    assert logged() == "INFO: Using precomputed projection `adata.obsm['T_fwd_umap']`"
    with unchanged(cells, *WRITTEN):
        kernel.plot_projection(show=False, recompute=True)
    np.testing.assert_array_equal(cells.obsm["T_fwd_umap"], expected)


def test_connectivities_of_a_combination(cells, kernel):
    """Those of the first kernel that has some, whatever matrices stand beside it."""
    other = ConnectivityKernel(cells, conn_key="other").compute_transition_matrix()
    combined = 0.5 * PrecomputedKernel(other) + 0.3 * kernel + 0.2 * other
    combined.plot_projection(show=False)
    embedding = cells.obsm["X_umap"].astype(float)
    expected = expected_arrows(combined.transition_matrix, embedding, kernel.connectivities)
    directions_and_scale(cells.obsm["T_fwd_umap"], expected)


@pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csc_array, lambda m: m.toarray()])
def test_connectivities_given(cells, kernel, convert):
    graph = cells.obsp["other"]
    kernel.plot_projection(connectivities=convert(graph), show=False)
    expected = expected_arrows(kernel.transition_matrix, cells.obsm["X_umap"].astype(float), graph)
    directions_and_scale(cells.obsm["T_fwd_umap"], expected)


def test_no_connectivities(cells, kernel):
    precomputed = PrecomputedKernel(kernel)
    with unchanged(cells), pytest.raises(RuntimeError, match=r"Unable to find connectivities.*`connectivities="):
        precomputed.plot_projection(show=False)
    precomputed.plot_projection(connectivities=kernel.connectivities, show=False)
    found = cells.obsm["T_fwd_umap"]
    kernel.plot_projection(show=False, recompute=True)
    np.testing.assert_allclose(found, cells.obsm["T_fwd_umap"], rtol=0, atol=1e-6 * abs(found).max())


def test_kernels_without_neighbours_are_mentioned(kernel, logged):
    """The first of them is."""
    precomputed = PrecomputedKernel(kernel)
    logged()
    (0.5 * kernel + 0.5 * precomputed).plot_projection(show=False)
    assert "WARNING: `PrecomputedKernel` is no kernel of neighbours" in logged()
    kernel.plot_projection(show=False, recompute=True)
    assert "WARNING" not in logged()


def test_cells_without_place(cells, kernel):
    """They, and cells that have one among their neighbours, have no arrow, as in CellRank; all others do."""
    cells.obsm["X_umap"][[3, 30]] = np.nan
    kernel.plot_projection(show=False)
    unknown = np.isin(np.arange(N_CELLS), [3, 30]) | (kernel.connectivities[:, [3, 30]].sum(axis=1).A1 > 0)
    arrows = cells.obsm["T_fwd_umap"]
    np.testing.assert_array_equal(np.isnan(arrows).all(axis=1), unknown)
    assert np.isfinite(arrows[~unknown]).all()


def test_nowhere_to_go(cells, kernel):
    """All cells in one place: no arrows, no error."""
    cells.obsm["X_umap"][:] = 1
    kernel.plot_projection(show=False)
    assert not cells.obsm["T_fwd_umap"].any()


def test_data_frame(cells, kernel):
    kernel.plot_projection(show=False)
    expected = cells.obsm["T_fwd_umap"]
    cells.obsm["X_frame"] = pd.DataFrame(cells.obsm["X_umap"], index=cells.obs_names, columns=["x", "y"])
    kernel.plot_projection(basis="frame", show=False)
    np.testing.assert_allclose(cells.obsm["T_fwd_frame"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"basis": "tsne"}, KeyError, r"`adata.obsm\['X_tsne'\]`.*found the keys \['X_umap', .*scanpy.tl.umap"),
        ({"basis": "line"}, ValueError, "2 or more columns"),
        ({"basis": "nowhere"}, ValueError, "finite coordinates"),
        ({"connectivities": np.eye(3)}, ValueError, r"`connectivities` of shape \(60, 60\).*found \(3, 3\)"),
        ({"connectivities": -np.eye(N_CELLS)}, ValueError, "non-negative weights in `connectivities`"),
        ({"color": "absent"}, KeyError, "absent"),
        ({"density": -1}, ValueError, "density"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
def test_failures(cells, kernel, arguments, error, message):
    """Nothing is written, also if the picture fails after the arrows are there; what was there stays."""
    cells.obsm["X_line"] = cells.obsm["X_umap"][:, :1]
    cells.obsm["X_nowhere"] = np.full((N_CELLS, 2), np.nan)
    with unchanged(cells), pytest.raises(error, match=message):
        kernel.plot_projection(show=False, **arguments)
    kernel.plot_projection(show=False)
    cells.obsm["T_fwd_umap"] = cells.obsm["T_fwd_umap"] * 2
    plt.close("all")
    with unchanged(cells), pytest.raises(error, match=message):
        kernel.plot_projection(show=False, recompute=True, **arguments)
    assert not plt.get_fignums(), "a failure leaves no figure open"


def test_save(cells, kernel, tmp_path):
    assert kernel.plot_projection(save=tmp_path / "stream.png") is None
    assert (tmp_path / "stream.png").stat().st_size > 1000
    assert not plt.get_fignums()
