import anndata as ad
import jax
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import genes_of, plain_graph, simulated


@pytest.fixture(scope="module")
def made():
    return simulated(80, 24)


@pytest.fixture
def adata(made):
    return made.copy()


@pytest.fixture
def tolerance():
    return 1e-10 if jax.config.jax_enable_x64 else 1e-5


def correlations_of(adata, vkey="velocity"):
    return (adata.uns[f"{vkey}_graph"] + adata.uns[f"{vkey}_graph_neg"]).toarray()


def test_equals_numpy(adata, tolerance):
    jv.tl.velocity_graph(adata)
    expected = plain_graph(adata)
    positive, negative = adata.uns["velocity_graph"], adata.uns["velocity_graph_neg"]
    for graph, part in ((positive, np.maximum(expected, 0)), (negative, np.minimum(expected, 0))):
        assert sp.isspmatrix_csr(graph)
        assert graph.dtype == np.dtype(jax.numpy.result_type(float))
        assert (graph.data != 0).all()
        np.testing.assert_allclose(graph.toarray(), part, atol=tolerance)
    assert positive.data.min() > 0
    assert positive.data.max() <= 1
    assert negative.data.max() < 0
    largest = expected.max(axis=1).clip(0)
    np.testing.assert_allclose(
        adata.obs["velocity_self_transition"], (np.percentile(largest, 98) - largest).clip(0, 1), atol=tolerance
    )
    assert adata.uns["velocity_params"] == {"mode_neighbors": "distances", "n_recurse_neighbors": 2}


@pytest.mark.parametrize("n_steps", [1, 3])
def test_steps_between_neighbours(adata, n_steps, tolerance):
    jv.tl.velocity_graph(adata, n_recurse_neighbors=n_steps)
    np.testing.assert_allclose(correlations_of(adata), plain_graph(adata, n_steps), atol=tolerance)
    assert adata.uns["velocity_params"]["n_recurse_neighbors"] == n_steps


def test_nearest_neighbours_only(adata, tolerance):
    jv.tl.velocity_graph(adata, n_neighbors=4)
    assert adata.uns["velocity_params"]["n_recurse_neighbors"] == 1
    nearest = sp.lil_matrix(adata.obsp["distances"])
    for row in range(adata.n_obs):
        values = nearest[row].toarray().ravel()
        nearest[row, np.flatnonzero(values > np.sort(values[values > 0])[3])] = 0
    adata.obsp["distances"] = sp.csr_matrix(nearest)
    assert (np.diff(adata.obsp["distances"].indptr) == 4).all()
    np.testing.assert_allclose(correlations_of(adata), plain_graph(adata, 1), atol=tolerance)


def test_connectivities(adata, tolerance):
    jv.tl.velocity_graph(adata, mode_neighbors="connectivities")
    assert adata.uns["velocity_params"] == {"mode_neighbors": "connectivities", "n_recurse_neighbors": 1}
    adata.obsp["distances"] = adata.obsp["connectivities"]
    np.testing.assert_allclose(correlations_of(adata), plain_graph(adata, 1), atol=tolerance)


def test_square_roots(adata, tolerance):
    """Asked for, or as default for velocities of the stochastic model."""
    genes = genes_of(adata)
    x, v = (adata.layers[key][:, genes].astype(float) for key in ("Ms", "velocity"))
    adata.uns["velocity_params"] = {"mode": "stochastic", "embeddings": ["umap"]}
    jv.tl.velocity_graph(adata, n_recurse_neighbors=1)
    found = correlations_of(adata)
    for i, j in zip(*adata.obsp["distances"].nonzero(), strict=True):
        roots = [np.sign(a) * np.sqrt(abs(a)) for a in (x[j] - x[i], v[i])]
        assert found[i, j] == pytest.approx(plain.correlation(*roots), abs=10 * tolerance)
    assert "embeddings" not in adata.uns["velocity_params"]
    assert adata.uns["velocity_params"]["mode"] == "stochastic"
    jv.tl.velocity_graph(adata, n_recurse_neighbors=1, sqrt_transform=False)
    np.testing.assert_allclose(correlations_of(adata), plain_graph(adata, 1), atol=tolerance)


def test_genes(adata, tolerance):
    """Without a choice of genes, those without a fit are left out for their NaN."""
    expected = plain_graph(adata)
    chosen = adata.var_names[genes_of(adata)][:9]
    del adata.var["velocity_genes"]
    jv.tl.velocity_graph(adata)
    np.testing.assert_allclose(correlations_of(adata), expected, atol=tolerance)
    jv.tl.velocity_graph(adata, gene_subset=list(chosen))
    adata.var["velocity_genes"] = adata.var_names.isin(chosen)
    np.testing.assert_allclose(correlations_of(adata), plain_graph(adata), atol=tolerance)


def test_messy_cells(adata, caplog):
    """A cell without neighbours, a velocity of zero and a duplicate give no correlations, and no NaN."""
    adata.layers["velocity"][3, genes_of(adata)] = 0
    adata.layers["Ms"][6] = adata.layers["Ms"][5]
    distances = sp.lil_matrix(adata.obsp["distances"])
    distances[7] = 0
    distances[5, 6] = 1e-12
    adata.obsp["distances"] = sp.csr_matrix(distances)
    jv.tl.velocity_graph(adata)
    found = correlations_of(adata)
    assert not found[[3, 7]].any()
    assert found[5, 6] == 0
    assert "1 cells have no neighbours in `adata.obsp['distances']`; they get no correlations" in caplog.text
    assert np.isfinite(adata.obs["velocity_self_transition"]).all()


def test_copy_view_keys_and_other_arguments(adata, tmp_path):
    adata.layers["v"], adata.layers["counts"] = adata.layers["velocity"], adata.layers["Ms"]
    adata.var["v_genes"] = adata.var["velocity_genes"]
    with unchanged(adata):
        result = jv.tl.velocity_graph(adata, "v", "counts", copy=True, n_jobs=4, show_progress_bar=False)
    view = adata[:]
    with unchanged(adata), pytest.warns(ad.ImplicitModificationWarning, match="view"):
        assert jv.tl.velocity_graph(view) is None
    np.testing.assert_array_equal(correlations_of(view), correlations_of(result, "v"))
    result.write_h5ad(tmp_path / "graph.h5ad")
    read = ad.read_h5ad(tmp_path / "graph.h5ad")
    np.testing.assert_array_equal(correlations_of(read, "v"), correlations_of(result, "v"))


def test_reference(shared):
    """Correlations that scVelo left in the file, over connectivities of its own, which lack the weakest."""
    adata = ad.read_h5ad(shared / "reference/small_velocity.h5ad")
    expected = (adata.obsp["velocity_graph"] + adata.obsp["velocity_graph_neg"]).toarray()
    jv.tl.velocity_graph(adata, mode_neighbors="connectivities")
    stored = expected != 0
    assert stored.sum() > 3000
    np.testing.assert_allclose(correlations_of(adata)[stored], expected[stored], atol=2e-6)


def without(slot, key):
    return lambda adata: getattr(adata, slot).pop(key)


def set_data(key, value):
    def change(adata):
        adata.obsp[key].data[0] = value

    return change


def no_edges(adata):
    adata.obsp["distances"] = sp.csr_matrix((adata.n_obs, adata.n_obs))


def nan_everywhere(adata):
    adata.layers["velocity"][:, :] = np.nan


def nan_expression(adata):
    adata.layers["Ms"][2, 1] = np.nan


def no_direction(adata):
    adata.layers["velocity"][:] = 1


BAD = {
    "no direction": (no_direction, {}, ValueError, r"layers\['velocity'\].*direction, found none"),
    "no velocity": (without("layers", "velocity"), {}, KeyError, r"layers\['velocity'\].*jaxvelo.tl.velocity"),
    "no Ms": (without("layers", "Ms"), {}, KeyError, r"layers\['Ms'\]"),
    "no distances": (without("obsp", "distances"), {}, KeyError, r"obsp\['distances'\].*jaxvelo.pp.neighbors"),
    "negative distance": (set_data("distances", -1.0), {}, ValueError, r"obsp\['distances'\].*negative"),
    "infinite distance": (set_data("distances", np.inf), {}, ValueError, r"obsp\['distances'\].*1 that are not"),
    "no edges": (no_edges, {}, ValueError, r"neighbours in `adata.obsp\['distances'\].*no cell"),
    "no finite gene": (nan_everywhere, {}, ValueError, r"2 genes with finite velocities.*layers\['velocity'\]"),
    "nan in Ms": (nan_expression, {}, ValueError, r"finite expression in `adata.layers\['Ms'\]"),
    "mode": (None, {"mode_neighbors": "umap"}, ValueError, "mode_neighbors.*distances.*umap"),
    "too many": (None, {"n_neighbors": 11}, ValueError, "n_neighbors.*up to 10"),
    "none": (None, {"n_neighbors": 0}, ValueError, "n_neighbors.*at least 1"),
    "no steps": (None, {"n_recurse_neighbors": 0}, ValueError, "n_recurse_neighbors.*at least 1"),
    "no gene": (None, {"gene_subset": ["nothing"]}, KeyError, "gene_subset.*nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(adata, case):
    change, arguments, error, message = BAD[case]
    if change is not None:
        change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.velocity_graph(adata, **arguments)


def test_no_anndata():
    with pytest.raises(TypeError, match=r"AnnData.*ndarray"):
        jv.tl.velocity_graph(np.zeros((3, 3)))
