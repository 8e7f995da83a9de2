import contextlib
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def contents(adata):
    """Everything in an AnnData, as copies, for comparison to the last bit."""
    return {
        "X": None if adata.X is None else dense(adata.X).copy(),
        **{f"layers/{key}": dense(value).copy() for key, value in adata.layers.items()},
        **{f"obsp/{key}": dense(value).copy() for key, value in adata.obsp.items()},
        **{f"obsm/{key}": dense(value).copy() for key, value in adata.obsm.items()},
        "obs": adata.obs.copy(),
        "var": adata.var.copy(),
        "uns": repr(dict(adata.uns)),
    }


@contextlib.contextmanager
def unchanged(adata):
    before, was_view = contents(adata), adata.is_view
    yield
    after = contents(adata)
    assert adata.is_view == was_view
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(after[key], value)
        elif isinstance(value, np.ndarray):
            assert after[key].dtype == value.dtype
            np.testing.assert_array_equal(after[key], value)
        else:
            assert after[key] == value


@pytest.fixture
def counts():
    """Forty cells of different sizes and thirty genes, some hardly expressed, as 64-bit integers."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 2.0, 30) * (1 + np.sin(np.arange(40)[:, None] / 8 + np.arange(30)))
    depth = rng.gamma(4.0, 0.3, (40, 1))
    s, u = rng.poisson(depth * rate), rng.poisson(0.4 * depth * rate)
    u[:, 4] = 0
    s[:, 7] = 0
    adata = ad.AnnData(
        s.copy(),
        layers={"spliced": s, "unspliced": u},
        obs=pd.DataFrame({"clusters": pd.Categorical(np.repeat(["a", "b"], 20))}, index=[f"c{i}" for i in range(40)]),
        var=pd.DataFrame({"id": np.arange(30)}, index=[f"g{i}" for i in range(30)]),
        obsm={"X_umap": rng.normal(size=(40, 2))},
        varm={"loadings": rng.normal(size=(30, 2))},
        uns={"source": "a simulation"},
    )
    adata.raw = adata.copy()
    return adata


@pytest.fixture
def neighbors(counts):
    """The same, normalised, with a neighbour graph in which one cell has no neighbours."""
    jv.pp.filter_and_normalize(counts)
    rng = np.random.default_rng(1)
    graph = np.triu(rng.random((40, 40)) * (rng.random((40, 40)) < 0.2), 1)
    graph[5] = graph[:, 5] = 0
    counts.obsp["connectivities"] = sp.csr_matrix(graph + graph.T)
    counts.obsp["distances"] = sp.csr_matrix(2 * (graph > 0.3))
    counts.uns["neighbors"] = {"params": {"n_neighbors": 9, "n_pcs": 5}}
    return counts


def test_filter_and_normalize_and_moments_equal_the_reference(shared):
    adata = ad.read_h5ad(shared / "data/pancreas_3696.h5ad")
    reference = ad.read_h5ad(shared / "reference/pancreas_velocity.h5ad")
    sizes = adata.layers["spliced"].toarray().sum(axis=1)

    jv.pp.filter_and_normalize(adata, min_shared_counts=20)
    assert adata.shape == (3696, 1126)
    adata.obsp["connectivities"] = reference.obsp["connectivities"]
    jv.pp.moments(adata, n_pcs=None, n_neighbors=None)

    ours = adata[:, reference.var_names]
    np.testing.assert_allclose(dense(ours.X), dense(reference.X), rtol=1e-6, atol=1e-6)
    for key in ("spliced", "unspliced", "Ms", "Mu"):
        assert ours.layers[key].dtype == np.float32
        np.testing.assert_allclose(dense(ours.layers[key]), dense(reference.layers[key]), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(adata.obs["initial_size_spliced"], sizes)
    assert {"initial_size", "initial_size_spliced", "initial_size_unspliced", "n_counts"} <= set(adata.obs)
    assert adata.obs["initial_size"].dtype == np.float32


FORMS = {
    "int64": lambda x: x,
    "uint8": lambda x: x.astype(np.uint8),
    "dense float64": lambda x: x.astype(float),
    "csr": lambda x: sp.csr_matrix(x.astype(np.float32)),
    "csc int": sp.csc_matrix,
    "csr array": lambda x: sp.csr_array(x.astype(float)),
}


@pytest.mark.parametrize("form", FORMS)
def test_filter_and_normalize_equals_numpy(counts, form):
    s, u = counts.layers["spliced"].astype(float), counts.layers["unspliced"].astype(float)
    adata = counts.copy()
    adata.X = FORMS[form](counts.X)
    for name in ("spliced", "unspliced"):
        adata.layers[name] = FORMS[form](counts.layers[name])
    jv.pp.filter_and_normalize(adata, min_shared_counts=20, min_cells_u=3)

    both = (s > 0) & (u > 0)
    keep = (((s + u) * both).sum(axis=0) >= 20) & ((u > 0).sum(axis=0) >= 3)
    assert 5 < keep.sum() < 28
    assert list(adata.var_names) == list(counts.var_names[keep])
    for name, x in (("spliced", s), ("unspliced", u)):
        size = x.sum(axis=1)
        layer = adata.layers[name]
        np.testing.assert_allclose(dense(layer), (x * np.median(size) / size[:, None])[:, keep], rtol=1e-6)
        np.testing.assert_array_equal(adata.obs[f"initial_size_{name}"], size)
        assert layer.dtype == (np.float64 if form in ("dense float64", "csr array") else np.float32)
        assert type(layer) is type(FORMS[form](s))
    x = (s * np.median(s.sum(axis=1)) / s.sum(axis=1, keepdims=True))[:, keep]
    np.testing.assert_allclose(dense(adata.X), np.log1p(x), rtol=1e-6)
    np.testing.assert_allclose(adata.obs["n_counts"], x.sum(axis=1), rtol=1e-6)
    # The rest came along.
    assert adata.raw.shape == (40, 30)
    np.testing.assert_array_equal(adata.varm["loadings"], counts.varm["loadings"][keep])
    np.testing.assert_array_equal(adata.obsm["X_umap"], counts.obsm["X_umap"])
    assert adata.uns["source"] == "a simulation"
    assert not adata.is_view


@pytest.mark.parametrize(
    ("bounds", "passes"),
    [
        ({"min_counts": 30}, lambda s, u: s.sum(0) >= 30),
        ({"min_cells": 12}, lambda s, u: (s > 0).sum(0) >= 12),
        ({"min_counts_u": 10}, lambda s, u: u.sum(0) >= 10),
        ({"min_cells_u": 8}, lambda s, u: (u > 0).sum(0) >= 8),
        ({"min_shared_cells": 6}, lambda s, u: ((u > 0) & (s > 0)).sum(0) >= 6),
        ({"min_counts": 30, "min_cells_u": 8}, lambda s, u: (s.sum(0) >= 30) & ((u > 0).sum(0) >= 8)),
        ({}, lambda s, u: np.ones(30, dtype=bool)),
    ],
)
def test_filter_genes(counts, bounds, passes):
    s, u = counts.layers["spliced"], counts.layers["unspliced"]
    expected = passes(s, u)
    assert not bounds or 1 < expected.sum() < 30
    kept = jv.pp.filter_genes(counts, **bounds, copy=True)
    assert list(kept.var_names) == list(counts.var_names[expected])
    np.testing.assert_array_equal(kept.layers["spliced"], s[:, expected])  # counts, not normalised
    np.testing.assert_array_equal(kept.obs["initial_size"], s.sum(axis=1))

    expected[[4, 7]] = True
    assert jv.pp.filter_genes(counts, **bounds, retain_genes=["g4", "g7"]) is None
    assert list(counts.var_names) == [f"g{i}" for i in np.flatnonzero(expected)]


def test_highly_variable_genes_are_marked_or_kept(counts):
    sc = pytest.importorskip("scanpy")
    expected = jv.pp.filter_and_normalize(counts, min_counts=5, copy=True)
    sc.pp.highly_variable_genes(expected, n_top_genes=10, flavor="seurat")
    chosen = expected.var["highly_variable"]

    marked = jv.pp.filter_and_normalize(counts, min_counts=5, n_top_genes=10, subset_highly_variable=False, copy=True)
    pd.testing.assert_series_equal(marked.var["highly_variable"], chosen)
    np.testing.assert_allclose(marked.var["dispersions_norm"], expected.var["dispersions_norm"], rtol=1e-5)
    np.testing.assert_array_equal(marked.X, expected.X)

    kept = jv.pp.filter_and_normalize(counts, min_counts=5, n_top_genes=10, copy=True)
    assert list(kept.var_names) == list(expected.var_names[chosen])
    np.testing.assert_array_equal(kept.X, expected.X[:, chosen])

    linear = jv.pp.filter_and_normalize(counts, min_counts=5, n_top_genes=10, log=False, copy=True)
    assert list(linear.var_names) == list(kept.var_names)
    np.testing.assert_allclose(np.log1p(linear.X), kept.X, rtol=1e-6)

    dull = expected.var_names[~chosen][0]
    kept = jv.pp.filter_and_normalize(counts, min_counts=5, n_top_genes=10, retain_genes=dull, copy=True)
    assert dull in kept.var_names
    assert kept.n_vars == chosen.sum() + 1


def test_more_top_genes_than_genes_marks_all(counts):
    jv.pp.filter_and_normalize(counts, n_top_genes=2000, subset_highly_variable=False)
    assert counts.n_vars == 30
    assert counts.var["highly_variable"].all()


@pytest.mark.parametrize("x", [None, np.zeros((40, 30)), sp.csr_matrix((40, 30))])
def test_spliced_counts_stand_in_for_x(counts, x):
    expected = jv.pp.filter_and_normalize(counts, copy=True)
    counts.X = x
    jv.pp.filter_and_normalize(counts)
    np.testing.assert_array_equal(dense(counts.X), expected.X)
    np.testing.assert_array_equal(counts.obs["initial_size"], expected.obs["initial_size"])


def test_a_view_becomes_actual_and_the_parent_stays(counts):
    view = counts[5:35]
    expected = jv.pp.filter_and_normalize(view.copy(), min_shared_counts=20, copy=True)
    with unchanged(counts):
        jv.pp.filter_and_normalize(view, min_shared_counts=20)
    assert not view.is_view
    np.testing.assert_array_equal(view.X, expected.X)
    view.layers["spliced"][:] = 0
    assert counts.layers["spliced"].any()


def test_copy_leaves_the_original(counts):
    with unchanged(counts):
        copy = jv.pp.filter_and_normalize(counts, min_counts=20, n_top_genes=5, copy=True)
        copy.layers["spliced"][:] = -1
        copy.uns["source"] = "changed"


def test_the_result_can_be_written(counts, tmp_path):
    jv.pp.filter_and_normalize(counts, min_counts=20)
    counts.write_h5ad(tmp_path / "result.h5ad")
    read = ad.read_h5ad(tmp_path / "result.h5ad")
    np.testing.assert_array_equal(read.X, counts.X)
    assert list(read.obs) == list(counts.obs)


def test_data_are_not_normalized_twice(counts, caplog):
    jv.pp.filter_and_normalize(counts)
    before = {"X": counts.X.copy(), **{key: value.copy() for key, value in counts.layers.items()}}
    with caplog.at_level(logging.INFO):
        jv.pp.filter_and_normalize(counts)
    assert "Took spliced, unspliced for normalized already: all cells have the same size" in caplog.text
    assert "Did not logarithmize X, as it is logarithmized already" in caplog.text
    for key, value in before.items():
        np.testing.assert_array_equal(counts.X if key == "X" else counts.layers[key], value)


def test_named_layers_are_normalized_whatever_they_look_like(counts):
    counts.layers["other"] = counts.layers["spliced"] + 0.5
    other = counts.layers["other"].copy()
    jv.pp.filter_and_normalize(counts, layers_normalize=["other"])
    size = other.sum(axis=1)
    np.testing.assert_allclose(counts.layers["other"], other * (np.median(size) / size)[:, None], rtol=1e-6)
    assert counts.layers["spliced"].dtype == np.int64


def test_stored_cell_sizes_are_used_and_cells_without_counts_stay_zero(counts):
    counts.layers["spliced"][3] = 0
    stored = counts.layers["unspliced"].sum(axis=1) + np.arange(1.0, 41.0)
    counts.obs["initial_size_unspliced"] = stored
    u = counts.layers["unspliced"].copy()
    jv.pp.filter_and_normalize(counts)
    np.testing.assert_allclose(counts.layers["unspliced"], u * (np.median(stored) / stored)[:, None], rtol=1e-6)
    np.testing.assert_array_equal(counts.layers["spliced"][3], 0)
    assert np.isfinite(counts.layers["spliced"]).all()


def test_without_velocity_layers_only_x_is_normalized(counts, caplog):
    del counts.layers["spliced"], counts.layers["unspliced"]
    size = counts.X.sum(axis=1)
    expected = np.log1p(counts.X * (np.median(size) / size)[:, None])
    jv.pp.filter_and_normalize(counts)
    np.testing.assert_allclose(counts.X, expected, rtol=1e-6)
    assert "Found no spliced and no unspliced counts in `adata.layers`: velocities will not be possible" in caplog.text
    assert "WARNING" not in caplog.text


def break_counts(key, value):
    def change(adata):
        target = adata.X if key == "X" else adata.layers[key]
        target = target.astype(float)
        target[2, 3] = value
        if key == "X":
            adata.X = target
        else:
            adata.layers[key] = target

    return change


def delete_layer(adata):
    del adata.layers["unspliced"]


BAD_COUNTS = {
    "negative": (break_counts("unspliced", -1), {}, ValueError, r"layers\['unspliced'\].*1 negative"),
    "nan": (break_counts("spliced", np.nan), {}, ValueError, r"layers\['spliced'\].*1 that are NaN"),
    "infinite X": (break_counts("X", np.inf), {}, ValueError, "adata.X.*1 that are NaN or infinite"),
    "no unspliced": (delete_layer, {"min_shared_counts": 1}, KeyError, r"layers\['unspliced'\].*\['spliced'\]"),
    "all filtered": (None, {"min_counts": 10**6}, ValueError, "None of the 30 genes.*min_counts=1000000"),
    "unknown gene": (None, {"retain_genes": ["Gcg", "Sox9"]}, KeyError, "retain_genes.*Sox9.*g0"),
}
BAD_ARGUMENTS = {
    "flavor": ({"flavor": "svr"}, ValueError, "flavor.*seurat.*svr"),
    "top genes": ({"n_top_genes": 0}, ValueError, "n_top_genes.*at least 1.*0"),
    "unknown layer": ({"layers_normalize": "ambiguous"}, KeyError, "layers_normalize.*ambiguous.*There are.*spliced"),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
@pytest.mark.parametrize("function", [jv.pp.filter_genes, jv.pp.filter_and_normalize])
def test_bad_counts_are_refused(counts, case, function):
    change, arguments, error, message = BAD_COUNTS[case]
    if change is not None:
        change(counts)
    with unchanged(counts), pytest.raises(error, match=message):
        function(counts, **arguments)


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(counts, case):
    arguments, error, message = BAD_ARGUMENTS[case]
    with unchanged(counts), pytest.raises(error, match=message):
        jv.pp.filter_and_normalize(counts, **arguments)


def test_backed_data_are_refused_with_the_remedy(counts, tmp_path):
    counts.write_h5ad(tmp_path / "counts.h5ad")
    backed = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"adata = adata.to_memory\(\)"):
        jv.pp.filter_and_normalize(backed, min_counts=20)
    memory = backed.to_memory()
    jv.pp.filter_and_normalize(memory, min_counts=20)
    assert "n_counts" in memory.obs
    backed.file.close()


@pytest.mark.parametrize("mode", ["connectivities", "distances"])
def test_moments_are_means_over_neighborhoods(neighbors, mode, caplog):
    graph = neighbors.obsp[mode].toarray() > 0
    np.fill_diagonal(graph, True)
    with caplog.at_level(logging.WARNING):
        jv.pp.moments(neighbors, n_pcs=5, n_neighbors=9, mode=mode)
    for key, name in (("Ms", "spliced"), ("Mu", "unspliced")):
        expected = np.stack([neighbors.layers[name][row].mean(axis=0) for row in graph])
        np.testing.assert_allclose(neighbors.layers[key], expected, rtol=1e-6, atol=1e-7)
        assert neighbors.layers[key].dtype == np.float32
    np.testing.assert_array_equal(neighbors.layers["Ms"][5], neighbors.layers["spliced"][5])
    assert f"{(graph.sum(axis=1) == 1).sum()} cells without neighbors" in caplog.text


def test_moments_of_raw_counts_are_those_of_normalized_ones(counts, neighbors, caplog):
    normalized = jv.pp.moments(neighbors, copy=True)
    assert "Ms" not in neighbors.layers
    rng = np.random.default_rng(0)
    raw = neighbors.copy()
    raw.X = rng.normal(size=raw.shape)  # scaled, as for a PCA: not looked at
    for name in ("spliced", "unspliced"):
        size = raw.obs[f"initial_size_{name}"].to_numpy()
        raw.layers[name] = np.rint(raw.layers[name] * (size / np.median(size))[:, None])
    x = raw.X.copy()
    jv.pp.moments(raw)
    assert "Found raw counts in spliced and unspliced" in caplog.text
    np.testing.assert_allclose(raw.layers["Ms"], normalized.layers["Ms"], rtol=1e-5)
    np.testing.assert_allclose(raw.layers["spliced"], normalized.layers["spliced"], rtol=1e-5)
    np.testing.assert_array_equal(raw.X, x)


def test_moments_of_a_view_and_of_backed_data(neighbors, tmp_path):
    neighbors.write_h5ad(tmp_path / "neighbors.h5ad")
    view = neighbors[:30]
    expected = jv.pp.moments(view.copy(), copy=True).layers["Ms"]
    with unchanged(neighbors), pytest.warns(ad.ImplicitModificationWarning, match="view"):
        jv.pp.moments(view)
    np.testing.assert_array_equal(view.layers["Ms"], expected)

    backed = ad.read_h5ad(tmp_path / "neighbors.h5ad", backed="r")
    jv.pp.moments(backed)
    np.testing.assert_array_equal(backed.layers["Ms"], jv.pp.moments(neighbors, copy=True).layers["Ms"])
    backed.file.close()


def no_graph(adata):
    del adata.obsp["connectivities"]


def spoil_graph(value):
    def change(adata):
        adata.obsp["connectivities"].data[3] = value

    return change


BAD_MOMENTS = {
    "no graph": (no_graph, {}, KeyError, r"obsp\['connectivities'\].*\['distances'\].*jaxvelo.pp.neighbors\(adata\)"),
    "negative graph": (spoil_graph(-1), {}, ValueError, r"obsp\['connectivities'\].*1 negative.*jaxvelo.pp.neighbors"),
    "nan in graph": (spoil_graph(np.nan), {}, ValueError, r"obsp\['connectivities'\].*1 that are not"),
    "nan in counts": (break_counts("spliced", np.nan), {}, ValueError, r"layers\['spliced'\].*1 that are NaN"),
    "no unspliced": (delete_layer, {}, KeyError, r"layers\['unspliced'\].*\['spliced'\]"),
    "mode": (None, {"mode": "weights"}, ValueError, "mode.*connectivities.*weights"),
    "n_neighbors": (None, {"n_neighbors": 30}, ValueError, r"n_neighbors=30.*n_neighbors=9.*neighbors\(adata, n_"),
    "n_pcs": (None, {"n_pcs": 30, "n_neighbors": 9}, ValueError, "n_pcs=30.*n_pcs=5.*n_neighbors=9, n_pcs=30"),
}


@pytest.mark.parametrize("case", BAD_MOMENTS)
def test_bad_input_for_moments_is_refused(neighbors, case):
    change, arguments, error, message = BAD_MOMENTS[case]
    if change is not None:
        change(neighbors)
    with unchanged(neighbors), pytest.raises(error, match=message):
        jv.pp.moments(neighbors, **arguments)


@pytest.mark.parametrize("noted", [9, "9", np.int32(9), 9.0, np.array([9])])
def test_neighbors_noted_in_any_type(neighbors, noted):
    neighbors.uns["neighbors"]["params"] = {"n_neighbors": noted}
    jv.pp.moments(neighbors, n_neighbors=9)
    if not np.ndim(noted):
        with pytest.raises(ValueError, match="Asked for `n_neighbors=10`"):
            jv.pp.moments(neighbors, n_neighbors=10)
