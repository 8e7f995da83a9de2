"""Neighbours on an AnnData: against scanpy, against sorting all distances, and what is refused."""

import logging
import subprocess
import sys
import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

import jaxvelo as jv
from jaxvelo.graph import fuzzy_connectivities
from jaxvelo.pp import _neighbor_search as search
from jaxvelo.pp import _principal_components
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision
NEEDS_SCANPY = 'scanpy\'s neighbours need `pip install "jaxvelo[tutorial]"`'
NEEDS_SKLEARN = 'the search needs scikit-learn: `pip install "jaxvelo[tutorial]"`'
NEEDS_FAISS = 'the approximate search needs faiss: `pip install "jaxvelo[tutorial]"`'


def made(n_cells=200, n_genes=60, n_pcs=20, seed=0):
    """Cells in a few groups, with principal components of their own."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, n_cells)
    x = rng.normal(size=(n_cells, n_genes)) + 2 * rng.normal(size=(4, n_genes))[group]
    pcs = rng.normal(size=(n_cells, n_pcs)) / np.sqrt(1 + np.arange(n_pcs)) + rng.normal(size=(4, n_pcs))[group]
    return ad.AnnData(
        x.astype(np.float32),
        obs=pd.DataFrame({"group": pd.Categorical(group.astype(str))}, index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]),
        obsm={"X_pca": pcs.astype(np.float32), "X_other": pcs[:, ::-1].copy()},
    )


@pytest.fixture
def cells():
    return made()


def sorted_distances(x, n_others, metric="euclidean"):
    distances = cdist(x.astype(float), x.astype(float), metric)
    np.fill_diagonal(distances, -1)
    return np.sort(distances, axis=1)[:, 1 : n_others + 1]


def stored(adata, key="distances"):
    """Distances of each row, ascending."""
    graph = adata.obsp[key]
    return np.sort(graph.data.reshape(graph.shape[0], -1), axis=1)


@pytest.mark.parametrize("n_pcs", [None, 7])
def test_equals_scanpy(cells, n_pcs):
    sc = pytest.importorskip("scanpy", reason=NEEDS_SCANPY)
    theirs = cells.copy()
    sc.pp.neighbors(theirs, n_neighbors=15, n_pcs=n_pcs)
    jv.pp.neighbors(cells, n_neighbors=15, n_pcs=n_pcs)
    for key in ("distances", "connectivities"):
        ours, other = cells.obsp[key], theirs.obsp[key]
        assert sp.isspmatrix_csr(ours)
        assert abs(ours - other).max() < 1e-5
        np.testing.assert_array_equal(ours.toarray() != 0, other.toarray() != 0)
    assert np.diff(cells.obsp["distances"].indptr).tolist() == [14] * cells.n_obs
    entry = cells.uns["neighbors"]
    assert entry["connectivities_key"] == "connectivities"
    assert entry["distances_key"] == "distances"
    assert theirs.uns["neighbors"]["params"].items() <= entry["params"].items()
    assert entry["params"]["use_rep"] == "X_pca"
    assert entry["params"]["n_pcs"] == (n_pcs or 20)


def test_connectivities_are_those_of_the_stored_distances(cells):
    jv.pp.neighbors(cells, n_neighbors=10)
    graph = cells.obsp["distances"]
    neighbors, distances = (a.reshape(cells.n_obs, 9) for a in (graph.indices, graph.data))
    order = np.argsort(distances, axis=1)
    ordered = [np.take_along_axis(a, order, axis=1) for a in (neighbors, distances)]
    assert abs(fuzzy_connectivities(*ordered) - cells.obsp["connectivities"]).max() < 1e-7


@pytest.mark.parametrize(
    ("arguments", "n_genes", "expected"),
    [
        ({}, 60, ("obsm", "X_pca", 20)),
        ({}, 50, ("X", None, None)),
        ({"n_pcs": 0}, 60, ("X", None, None)),
        ({"n_pcs": 6}, 60, ("obsm", "X_pca", 6)),
        ({"use_rep": "X"}, 60, ("X", None, None)),
        ({"use_rep": "X_pca"}, 50, ("obsm", "X_pca", 20)),
        ({"use_rep": "pca", "n_pcs": 3}, 50, ("obsm", "X_pca", 3)),
        ({"use_rep": "X_other", "n_pcs": 4}, 60, ("obsm", "X_other", 4)),
        ({"use_rep": "other"}, 60, ("obsm", "X_other", None)),
    ],
)
def test_choice_of_the_representation(arguments, n_genes, expected):
    adata = made(n_genes=n_genes)
    jv.pp.neighbors(adata, n_neighbors=8, **arguments)
    slot, key, n_columns = expected
    x = adata.X if slot == "X" else adata.obsm[key][:, :n_columns]
    np.testing.assert_allclose(stored(adata), sorted_distances(x, 7), rtol=1e-5)
    params = adata.uns["neighbors"]["params"]
    assert params["use_rep"] == (key or "X")
    assert params.get("n_pcs") == n_columns


def test_number_of_components_of_few_genes(caplog):
    """As in scanpy they are not used; here, that is said."""
    adata = made(n_genes=30)
    with caplog.at_level(logging.WARNING):
        jv.pp.neighbors(adata, n_neighbors=8, n_pcs=5)
    assert "`n_pcs=5` has no effect" in caplog.text
    assert "use_rep='X_pca'" in caplog.text
    np.testing.assert_allclose(stored(adata), sorted_distances(adata.X, 7), rtol=1e-5)


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_array, np.asarray, lambda x: np.asarray(x, dtype=np.int32)])
def test_any_form_of_expression(make):
    adata = made(n_genes=20)
    adata.X = make(np.rint(np.abs(adata.X) * 3))
    jv.pp.neighbors(adata, n_neighbors=8)
    dense = adata.X.toarray() if sp.issparse(adata.X) else adata.X
    np.testing.assert_allclose(stored(adata), sorted_distances(dense, 7), rtol=1e-6)


def test_key_added_copy_and_files(cells, tmp_path):
    with unchanged(cells):
        result = jv.pp.neighbors(cells, n_neighbors=8, key_added="nn", copy=True)
    assert set(result.obsp) == {"nn_distances", "nn_connectivities"}
    assert result.uns["nn"]["connectivities_key"] == "nn_connectivities"
    assert jv.pp.neighbors(result, n_neighbors=5) is None
    assert np.diff(result.obsp["nn_distances"].indptr)[0] == 7
    assert np.diff(result.obsp["distances"].indptr)[0] == 4
    result.write_h5ad(tmp_path / "neighbors.h5ad")
    read = ad.read_h5ad(tmp_path / "neighbors.h5ad")
    assert abs(read.obsp["nn_connectivities"] - result.obsp["nn_connectivities"]).max() == 0
    assert read.uns["nn"]["params"]["n_neighbors"] == 8
    jv.pp.neighbors(read, n_neighbors=8)
    assert abs(read.obsp["connectivities"] - result.obsp["nn_connectivities"]).max() == 0


def test_duplicates_are_neighbours_at_distance_zero(cells):
    """Also more of them than there are places, so that some of them are no neighbours."""
    cells.obsm["X_pca"][10:13] = cells.obsm["X_pca"][9]
    cells.obsm["X_pca"][60:70] = cells.obsm["X_pca"][59]
    cells.obsm["X_pca"][100:130] = cells.obsm["X_pca"][99]
    jv.pp.neighbors(cells, n_neighbors=8)
    graph = cells.obsp["distances"]
    assert np.diff(graph.indptr).tolist() == [7] * cells.n_obs
    assert set(graph.indices[graph.indptr[9] : graph.indptr[10]]) >= {10, 11, 12}
    assert (stored(cells)[9] == 0).sum() == 3
    assert (stored(cells)[99:130] == 0).all()
    assert not graph.diagonal().any()
    assert not (graph.indices == np.repeat(np.arange(cells.n_obs), 7)).any()
    # Of cells at one distance, those with the smallest numbers.
    assert graph.indices[graph.indptr[68] : graph.indptr[69]].tolist() == list(range(59, 66))
    assert np.isfinite(cells.obsp["connectivities"].data).all()
    assert (cells.obsp["connectivities"][[9, 9, 9], [10, 11, 12]] == 1).all()


def test_near_duplicates_far_from_the_origin(cells):
    """Differences are explicit: products of rows would leave nothing of them in single precision."""
    x = cells.obsm["X_pca"].astype(float) * 1e-3 + 1e4
    cells.obsm["X_pca"] = x
    jv.pp.neighbors(cells, n_neighbors=8)
    np.testing.assert_allclose(stored(cells), sorted_distances(x, 7), rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "l2", "cosine", "correlation", "manhattan", "chebyshev", "canberra"])
def test_metrics(cells, metric):
    pytest.importorskip("sklearn", reason=NEEDS_SKLEARN)
    jv.pp.neighbors(cells, n_neighbors=8, metric=metric)
    name = {"manhattan": "cityblock", "l2": "euclidean"}.get(metric, metric)
    np.testing.assert_allclose(stored(cells), sorted_distances(cells.obsm["X_pca"], 7, name), rtol=1e-5, atol=1e-7)
    assert cells.uns["neighbors"]["params"]["metric"] == metric


@pytest.mark.parametrize("way", ["accelerator", "without scikit-learn"])
def test_blocks_of_jax_give_the_same(cells, way, monkeypatch):
    expected = jv.pp.neighbors(cells, n_neighbors=12, copy=True)
    if way == "accelerator":
        monkeypatch.setattr(search, "on_cpu", lambda: False)
    else:
        monkeypatch.setitem(sys.modules, "sklearn.neighbors", None)
    monkeypatch.setattr(search, "exact_neighbors", search.exact_neighbors)
    jv.pp.neighbors(cells, n_neighbors=12)
    for key in ("distances", "connectivities"):
        assert abs(cells.obsp[key] - expected.obsp[key]).max() < 1e-6


class TestApproximate:
    """The search for many cells, on fewer."""

    @pytest.fixture(autouse=True)
    def for_few(self, monkeypatch):
        pytest.importorskip("faiss", reason=NEEDS_FAISS)
        monkeypatch.setattr(search, "MOST_EXACT", 1000)

    @pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
    def test_recall(self, metric, caplog):
        adata = made(6000, 60, 30)
        with caplog.at_level(logging.DEBUG, "jaxvelo"):
            jv.pp.neighbors(adata, n_neighbors=30, metric=metric)
        assert "of the neighbours are found" in caplog.text
        truth = sorted_distances(adata.obsm["X_pca"], 29, metric)
        found = stored(adata)
        assert (found <= truth[:, -1:] * (1 + 1e-5)).mean() >= 0.95
        assert np.diff(adata.obsp["distances"].indptr).tolist() == [29] * 6000
        graph = adata.obsp["distances"]
        rows = np.repeat(np.arange(6000), 29)
        assert not (graph.indices == rows).any()
        # Those that are found have their true distances.
        x = adata.obsm["X_pca"].astype(float)
        some = np.arange(0, len(rows), 997)
        expected = [cdist(x[[i]], x[[j]], metric)[0, 0] for i, j in zip(rows[some], graph.indices[some], strict=True)]
        np.testing.assert_allclose(graph.data[some], expected, rtol=1e-6, atol=1e-9)

    def test_recall_where_the_first_lists_are_not_enough(self):
        """Without structure in many dimensions, neighbours lie in many lists."""
        x = np.random.default_rng(0).normal(size=(4000, 30)).astype(np.float32)
        neighbors, _ = search.find_neighbors(x, 29, "euclidean", 0)
        truth = np.argsort(cdist(x, x), axis=1)[:, 1:30]
        assert np.mean([np.isin(a, b).mean() for a, b in zip(truth, neighbors, strict=True)]) >= 0.95

    def test_same_seed_same_neighbours_on_any_number_of_threads(self):
        import faiss

        x = made(5000).obsm["X_pca"]
        threads = faiss.omp_get_max_threads()
        try:
            results = []
            for n_threads in (threads, 1, 3):
                faiss.omp_set_num_threads(n_threads)
                results.append(search.find_neighbors(x, 14, "euclidean", 7))
        finally:
            faiss.omp_set_num_threads(threads)
        for result in results[1:]:
            np.testing.assert_array_equal(result[0], results[0][0])
            np.testing.assert_array_equal(result[1], results[0][1])

    def test_duplicates(self):
        x = made(5000).obsm["X_pca"]
        x[100:160] = x[99]
        neighbors, distances = search.find_neighbors(x, 14, "euclidean", 0)
        assert (distances[99:160] == 0).all()
        assert not (neighbors == np.arange(5000)[:, None]).any()

    def test_other_metrics_stay_exact_and_say_that_they_take_long(self, caplog):
        pytest.importorskip("sklearn", reason=NEEDS_SKLEARN)
        x = made(1500).obsm["X_pca"]
        _, distances = search.find_neighbors(x, 9, "manhattan", 0)
        assert "Comparing all of 1500 cells" in caplog.text
        np.testing.assert_allclose(distances, sorted_distances(x, 9, "cityblock"), rtol=1e-5)

    def test_without_faiss(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        adata = made(1500)
        with unchanged(adata), pytest.raises(ImportError, match=r'faiss.*pip install "jaxvelo\[tutorial\]"'):
            jv.pp.neighbors(adata)
        few = made(200)
        jv.pp.neighbors(few)
        assert few.obsp["distances"].nnz == 200 * 29


class TestPrincipalComponents:
    """Those that are computed where there are none."""

    def without(self, n_cells=120, n_genes=80, sparse=False):
        adata = made(n_cells, n_genes)
        adata.X = np.log1p(np.maximum(adata.X * 3, 0))
        if sparse:
            adata.X = sp.csr_matrix(adata.X)
        adata.obsm.clear()
        return adata

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("subset", [False, True])
    def test_equal_those_of_all_singular_values(self, sparse, subset, caplog):
        adata = self.without(sparse=sparse)
        if subset:
            adata.var["highly_variable"] = np.arange(80) % 3 > 0
        with caplog.at_level(logging.INFO, "jaxvelo"):
            jv.pp.neighbors(adata, n_neighbors=8, n_pcs=6)
        assert f"computing 6 of {adata.var['highly_variable'].sum() if subset else 80} genes" in caplog.text
        genes = adata.var["highly_variable"].to_numpy() if subset else np.ones(80, dtype=bool)
        x = (adata.X.toarray() if sparse else adata.X).astype(float)[:, genes]
        u, s, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        sign = np.sign(vt[np.arange(6), np.abs(vt[:6]).argmax(axis=1)])
        np.testing.assert_allclose(adata.obsm["X_pca"], (u * s)[:, :6] * sign, atol=1e-4)
        np.testing.assert_allclose(adata.varm["PCs"][genes], vt[:6].T * sign, atol=1e-6)
        assert not adata.varm["PCs"][~genes].any()
        np.testing.assert_allclose(adata.uns["pca"]["variance"], s[:6] ** 2 / 119, rtol=1e-8)
        np.testing.assert_allclose(adata.uns["pca"]["variance_ratio"], s[:6] ** 2 / np.sum(s**2), rtol=1e-8)
        assert adata.uns["neighbors"]["params"]["n_pcs"] == 6
        np.testing.assert_allclose(stored(adata), sorted_distances(adata.obsm["X_pca"], 7), rtol=1e-5)

    def test_both_ways_give_the_same(self):
        """By the covariances of few genes, and by products with a sparse matrix of many."""
        adata = self.without(sparse=True)
        x = adata.X.astype(np.float64)
        mean = np.asarray(x.mean(axis=0)).ravel()
        (sizes, vectors), (others, of_others) = (
            by(adata.X, mean, 6, 0)
            for by in (_principal_components._of_covariances, _principal_components._of_products)
        )
        np.testing.assert_allclose(np.sort(sizes), np.sort(others), rtol=1e-10)
        alike = np.abs(vectors[:, np.argsort(sizes)].T @ of_others[:, np.argsort(others)])
        np.testing.assert_allclose(alike, np.eye(6), atol=1e-8)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_memory(self, sparse, monkeypatch):
        """There is no copy in double precision, but of some rows at a time; how many changes nothing."""
        rng = np.random.default_rng(0)
        x = (rng.random((20_000, 30), dtype=np.float32) + 3) * np.linspace(1, 2, 30, dtype=np.float32)
        matrix = sp.csr_matrix(x) if sparse else x
        at_once = _principal_components.principal_components(matrix, 3)
        monkeypatch.setattr(_principal_components, "BLOCK", 1 << 14)
        tracemalloc.start()
        try:
            found = _principal_components.principal_components(matrix, 3)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < x.nbytes
        for a, b in zip(found, at_once, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-6)

    @pytest.mark.filterwarnings("ignore")
    def test_equal_scanpys(self):
        sc = pytest.importorskip("scanpy", reason=NEEDS_SCANPY)
        adata = self.without(sparse=True)
        adata.var["highly_variable"] = np.arange(80) % 3 > 0
        theirs = adata.copy()
        sc.pp.pca(theirs, n_comps=10)
        jv.pp.neighbors(adata, n_neighbors=8, n_pcs=10)
        np.testing.assert_allclose(adata.obsm["X_pca"], theirs.obsm["X_pca"], atol=1e-4)
        np.testing.assert_allclose(adata.varm["PCs"], theirs.varm["PCs"], atol=1e-5)
        np.testing.assert_allclose(adata.uns["pca"]["variance"], theirs.uns["pca"]["variance"], rtol=1e-5)

    def test_number_and_files(self, tmp_path):
        """Fifty, as in scanpy, or as many as there can be; explicit names of missing ones are computed as well."""
        adata = self.without(40, 60)
        jv.pp.neighbors(adata, n_neighbors=8)
        assert adata.obsm["X_pca"].shape == (40, 39)
        adata.write_h5ad(tmp_path / "pca.h5ad")
        few = self.without(40, 20)
        jv.pp.neighbors(few, n_neighbors=8, n_pcs=5, use_rep="X_pca")
        assert few.obsm["X_pca"].shape == (40, 5)
        many = self.without(100, 80)
        with unchanged(many):
            result = jv.pp.neighbors(many, n_neighbors=8, copy=True)
        assert result.obsm["X_pca"].shape == (100, 50)

    def test_raw_counts_are_warned_of(self, caplog):
        adata = self.without()
        adata.X = np.rint(np.expm1(adata.X))
        jv.pp.neighbors(adata, n_neighbors=8)
        assert "looks like raw counts" in caplog.text


def spoil(slot, key, value):
    def change(adata):
        target = adata.X if slot == "X" else getattr(adata, slot)[key]
        target[3, 1] = value

    return change


def no_expression(adata):
    adata.X = None


def constant(adata):
    del adata.obsm["X_pca"]
    adata.X[:] = 1.5


def zero_cell(adata):
    adata.obsm["X_pca"][4] = 0


def flat_cell(adata):
    adata.obsm["X_pca"][4] = 0.1


def texts(adata):
    adata.obsm["X_names"] = pd.DataFrame({"a": ["x"] * adata.n_obs}, index=adata.obs_names)


def huge(adata):
    adata.obsm["X_pca"] = adata.obsm["X_pca"].astype(float) * 1e60


def no_components(adata):
    del adata.obsm["X_pca"]


BAD = {
    "nan": (spoil("obsm", "X_pca", np.nan), {}, ValueError, r"obsm\['X_pca'\].*1 that are NaN"),
    "infinity in X": (spoil("X", None, np.inf), {"use_rep": "X"}, ValueError, r"adata.X.*1 that are NaN or infinite"),
    "missing key": (None, {"use_rep": "scvi"}, KeyError, r"use_rep.*'scvi'.*X_other"),
    "too many columns": (None, {"n_pcs": 21}, ValueError, r"n_pcs.*1 to 20.*obsm\['X_pca'\].*21"),
    "no columns": (None, {"n_pcs": 0, "use_rep": "X_pca"}, ValueError, r"n_pcs.*from 1.*found `0`"),
    "negative": (None, {"n_pcs": -1}, ValueError, r"n_pcs.*at least 0.*-1"),
    "too many components": (no_components, {"n_pcs": 60}, ValueError, r"n_pcs.*from 1 to 59.*60"),
    "no X": (no_expression, {"use_rep": "X"}, ValueError, r"adata.X.*None"),
    "constant": (constant, {}, ValueError, r"adata.X.*varies"),
    "too few cells": (None, {"n_neighbors": 201}, ValueError, r"200 cells.*n_neighbors=201.*Pass `n_neighbors=200`"),
    "one neighbour": (None, {"n_neighbors": 1}, ValueError, r"n_neighbors.*at least 2"),
    "half a neighbour": (None, {"n_neighbors": 2.5}, ValueError, r"n_neighbors.*integer"),
    "metric": (None, {"metric": "euclidian"}, ValueError, r"metric.*manhattan.*euclidian"),
    "function": (None, {"metric": np.dot}, TypeError, r"metric.*name"),
    "two dimensions only": (None, {"metric": "haversine"}, ValueError, r"`metric='haversine'`.*scikit-learn says"),
    "precomputed": (None, {"metric": "precomputed"}, ValueError, r"metric.*precomputed"),
    "no direction": (zero_cell, {"metric": "cosine"}, ValueError, r"cosine.*1 that are zero.*cell 4"),
    "flat": (flat_cell, {"metric": "correlation"}, ValueError, r"correlation.*1 that have the same value.*cell 4"),
    "texts": (texts, {"use_rep": "X_names"}, ValueError, r"obsm\['X_names'\].*type"),
    "huge": (huge, {}, ValueError, r"single precision.*obsm\['X_pca'\]"),
    "seed": (None, {"random_state": None}, ValueError, r"random_state.*integer"),
    "key": (None, {"key_added": 3}, TypeError, r"key_added.*3"),
    "use_rep": (None, {"use_rep": 3}, TypeError, r"use_rep.*3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(cells, case):
    pytest.importorskip("sklearn", reason=NEEDS_SKLEARN)
    change, arguments, error, message = BAD[case]
    if change is not None:
        change(cells)
    with unchanged(cells), pytest.raises(error, match=message):
        jv.pp.neighbors(cells, **arguments)


def test_no_anndata():
    with pytest.raises(TypeError, match=r"AnnData.*ndarray"):
        jv.pp.neighbors(np.zeros((3, 3)))


@pytest.mark.parametrize("n_cells", [2, 3, 12])
def test_few_cells(n_cells):
    adata = made(n_cells, 20)
    jv.pp.neighbors(adata, n_neighbors=n_cells)
    assert (stored(adata) == stored(adata)).all()
    assert adata.obsp["distances"].nnz == n_cells * (n_cells - 1)


def test_compiles_nothing_by_numba_and_imports_no_scanpy():
    """Nor any of what the representation does not need."""
    program = (
        "import sys, numpy as np, anndata, jaxvelo as jv\n"
        "jv.settings.verbosity = 'error'\n"
        "adata = anndata.AnnData(np.random.default_rng(0).normal(size=(80, 60)))\n"
        "jv.pp.neighbors(adata)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numba", "scanpy", "umap", "pynndescent", "faiss"}
