"""One reader of graphs: by key or by name, for all that need neighbours; and what stands there and does not fit."""

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.annotated.graphs import graph_key, neighbors_params, read_graph
from tests.kernels.snapshot import unchanged
from tests.tl.trajectory import simulated

N_CELLS = 12


@pytest.fixture
def adata():
    """Two graphs under scanpy's keys, for two names."""
    result = ad.AnnData(np.ones((N_CELLS, 3)))
    for number, prefix in enumerate(("", "nn_"), 1):
        for kind in ("connectivities", "distances"):
            result.obsp[prefix + kind] = sp.csr_matrix(number * np.ones((N_CELLS, N_CELLS)))
    result.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"n_neighbors": 3},
    }
    result.uns["nn"] = {
        "connectivities_key": "nn_connectivities",
        "distances_key": "nn_distances",
        "params": {"n_neighbors": 4},
    }
    return result


@pytest.mark.parametrize("kind", ["connectivities", "distances"])
def test_names(adata, kind):
    assert graph_key(adata, kind) == graph_key(adata, kind, "neighbors") == kind
    assert graph_key(adata, kind, "nn") == f"nn_{kind}"
    assert neighbors_params(adata)["n_neighbors"] == 3
    assert neighbors_params(adata, "nn")["n_neighbors"] == 4
    assert read_graph(adata, "nn", kind)[0, 1] == 2
    assert read_graph(adata, "neighbors", kind)[0, 1] == 1
    assert read_graph(adata, f"nn_{kind}", kind)[0, 1] == 2


ENTRIES = {
    "nothing": None,
    "empty": {},
    "no params": {"connectivities_key": "connectivities", "distances_key": "distances"},
    "params that are none": {"params": None},
    "no mapping": "neighbors",
    "an array": np.zeros(3),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_missing_is_as_scanpy_names_it(adata, entry):
    """Wherever the graph alone is needed, it is enough."""
    for name, key in (("neighbors", "connectivities"), ("nn", "nn_connectivities")):
        del adata.uns[name]
        if ENTRIES[entry] is not None and not (name == "nn" and entry == "no params"):
            adata.uns[name] = ENTRIES[entry]
        assert graph_key(adata, "connectivities", name) == key
        assert dict(neighbors_params(adata, name)) == {}
    assert read_graph(adata, "connectivities").nnz == N_CELLS**2
    kernel = jv.kernels.ConnectivityKernel(adata, conn_key="nn").compute_transition_matrix()
    assert kernel.connectivities[0, 1] == 2
    assert kernel.params["key"] == "nn_connectivities"


def test_keys_of_other_names(adata):
    adata.obsp["mine"] = adata.obsp["connectivities"] * 7
    adata.uns["neighbors"]["connectivities_key"] = "mine"
    assert graph_key(adata, "connectivities") == "mine"
    # A key of `obsp` is what it says.
    assert read_graph(adata, "connectivities")[0, 1] == 1
    assert read_graph(adata, "neighbors")[0, 1] == 7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "neighbors",
            "gone",
            r"obsp\['gone'\].*uns\['neighbors'\]\['connectivities_key'\]` names.*pp.neighbors",
        ),
        ("nn", "gone", r"obsp\['gone'\].*uns\['nn'\].*neighbors\(adata, key_added='nn'\)"),
        ("nn", 3, r"obsp\[3\].*uns\['nn'\]"),
    ],
)
def test_keys_of_graphs_that_are_not_there(adata, name, value, message):
    adata.uns[name]["connectivities_key"] = value
    with pytest.raises(KeyError, match=message):
        graph_key(adata, "connectivities", name)
    with pytest.raises(KeyError, match=r"jaxvelo.pp.neighbors"):
        read_graph(adata, name)


def test_names_that_are_not_there(adata):
    with pytest.raises(KeyError, match=r"obsp\['other_distances'\].*no `adata.uns\['other'\]`.*'nn_distances'"):
        graph_key(adata, "distances", "other")
    with pytest.raises(KeyError, match=r"obsp\['other'\].*'nn_distances'.*`graph_key`"):
        read_graph(adata, "other", "distances", "graph_key")
    with pytest.raises(TypeError, match=r"neighbors_key.*3"):
        graph_key(adata, "distances", 3)


GRAPHS = {
    "texts": (
        lambda n: np.full((n, n), "a"),
        TypeError,
        r"numbers in `adata.obsp\['connectivities'\]`, found",
    ),
    "complex": (lambda n: sp.csr_matrix(np.eye(n) * 1j), TypeError, r"numbers in `adata.obsp\['connectivities'\]`"),
    "negative": (lambda n: sp.csr_matrix(-np.eye(n)), ValueError, r"obsp\['connectivities'\].*12 negative"),
    "nan": (
        lambda n: sp.csr_matrix(np.diag(np.full(n, np.nan))),
        ValueError,
        r"obsp\['connectivities'\].*12 that are not",
    ),
    "three axes": (lambda n: np.ones((n, n, 2)), ValueError, r"shape \(12, 12\), found \(12, 12, 2\)"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_that_do_not_fit(adata, case):
    make, error, message = GRAPHS[case]
    adata.obsp["connectivities"] = make(N_CELLS)
    with pytest.raises(error, match=message):
        read_graph(adata, "connectivities")


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g,
        sp.csr_array,
        sp.csc_matrix,
        lambda g: g.toarray(),
        lambda g: (g > 0).astype(bool),
        lambda g: g.astype(np.float32),
        lambda g: sp.csr_matrix((g.data, g.indices[::-1].copy(), g.indptr), shape=g.shape),
    ],
)
def test_forms_of_graphs(adata, make):
    graph = make(sp.csr_matrix(np.ones((N_CELLS, N_CELLS))))
    adata.obsp["connectivities"] = graph
    found = read_graph(adata, "connectivities")
    assert sp.isspmatrix_csr(found)
    assert found.dtype == np.float64
    assert found.has_canonical_format
    np.testing.assert_array_equal(found.toarray(), 1)


def both(n_cells=80):
    """Cells whose neighbours have another name; under the usual name there are others, that must not be looked at."""
    usual = simulated(n_cells, 24)
    usual.layers["spliced"], usual.layers["unspliced"] = usual.layers["Ms"].copy(), usual.layers["Mu"].copy()
    named = usual.copy()
    for kind in ("connectivities", "distances"):
        named.obsp[f"nn_{kind}"] = named.obsp.pop(kind)
        named.obsp[kind] = sp.csr_matrix(sp.eye(n_cells, k=1) + sp.eye(n_cells, k=-1))
    named.uns["nn"] = {"connectivities_key": "nn_connectivities", "distances_key": "nn_distances"}
    return usual, named


def of(function, **arguments):
    return lambda adata, **key: function(adata, **arguments, **key)


def graph_first(function, **arguments):
    def run(adata, **key):
        jv.tl.velocity_graph(adata, **key)
        function(adata, **arguments, **key)

    return run


CALLS = {
    "moments": (of(jv.pp.moments), "layers", "Ms"),
    "moments of distances": (of(jv.pp.moments, mode="distances"), "layers", "Mu"),
    "velocity": (of(jv.tl.velocity, vkey="v"), "layers", "v"),
    "velocity_graph": (of(jv.tl.velocity_graph), "obs", "velocity_self_transition"),
    "velocity_confidence": (of(jv.tl.velocity_confidence), "obs", "velocity_confidence"),
    "terminal_states": (graph_first(jv.tl.terminal_states), "obs", "end_points"),
    "velocity_pseudotime": (graph_first(jv.tl.velocity_pseudotime), "obs", "velocity_pseudotime"),
    "latent_time": (of(jv.tl.latent_time), "obs", "latent_time"),
    "recover_dynamics": (
        of(jv.tl.recover_dynamics, var_names="all", n_top_genes=4, show_progress_bar=False),
        "layers",
        "fit_t",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_neighbors_key(name):
    """By name the same results as under the usual keys, and others than of the graph that stands there."""
    call, slot, key = CALLS[name]
    usual, named = both()
    other = named.copy()
    call(usual)
    call(named, neighbors_key="nn")
    expected, found = (np.asarray(getattr(adata, slot)[key]) for adata in (usual, named))
    np.testing.assert_array_equal(found, expected)
    if name != "terminal_states":  # which a line of cells may share
        call(other)
        assert not np.allclose(np.asarray(getattr(other, slot)[key]), expected, equal_nan=True)
    with pytest.raises(KeyError, match=r"absent_.*key_added='absent'"):
        call(named, neighbors_key="absent")


def test_kernels_and_objectives_by_name():
    usual, named = both()
    for make in (
        lambda adata, key: jv.kernels.VelocityKernel(adata, conn_key=key),
        lambda adata, key: jv.kernels.ConnectivityKernel(adata, conn_key=key),
    ):
        expected = make(usual, "connectivities").compute_transition_matrix().transition_matrix
        found = make(named, "nn").compute_transition_matrix().transition_matrix
        assert abs(found - expected).max() == 0
    kernel = jv.kernels.VelocityKernel(named, conn_key="nn").compute_transition_matrix()
    named.obs["half"] = pd.Categorical(np.where(named.obs["true_time"] < named.obs["true_time"].median(), "a", "b"))
    named.obsm["X_pca"] = np.asarray(named.layers["Ms"])
    scores = kernel.cbc("a", "b", "half", "X_pca", graph_key="nn")
    np.testing.assert_array_equal(scores, kernel.cbc("a", "b", "half", "X_pca", graph_key="nn_distances"))
    by_name, by_key = (
        jv.objectives.CrossBoundary(named, [("a", "b")], "half", graph_key=key) for key in ("nn", "nn_distances")
    )
    np.testing.assert_array_equal(by_name.cell, by_key.cell)


class TestMomentsWithoutNeighbours:
    """Where there is no graph it is computed, and that is said; what is there is never replaced."""

    @pytest.fixture
    def counts(self):
        adata = jv.datasets.simulate(120, 70, seed=1)
        jv.pp.filter_and_normalize(adata, n_top_genes=60, subset_highly_variable=False)
        return adata

    def test_computed_and_said(self, counts, caplog):
        expected = counts.copy()
        jv.pp.neighbors(expected, n_neighbors=20, n_pcs=8)
        jv.pp.moments(expected)
        with unchanged(counts), caplog.at_level("INFO", "jaxvelo"):
            result = jv.pp.moments(counts, 20, 8, copy=True)
        assert "Found no neighbors" in caplog.text
        assert "jaxvelo.pp.neighbors" in caplog.text
        for key in ("connectivities", "distances"):
            assert abs(result.obsp[key] - expected.obsp[key]).max() == 0
        assert result.uns["neighbors"]["params"] == expected.uns["neighbors"]["params"]
        np.testing.assert_array_equal(result.obsm["X_pca"], expected.obsm["X_pca"])
        np.testing.assert_array_equal(result.layers["Ms"], expected.layers["Ms"])
        assert jv.pp.moments(counts, 20, 8) is None
        np.testing.assert_array_equal(counts.layers["Mu"], expected.layers["Mu"])
        jv.pp.moments(counts, 20, 8)  # and now it is used

    def test_defaults(self, counts):
        jv.pp.moments(counts)
        assert counts.uns["neighbors"]["params"]["n_neighbors"] == 30
        few = counts[:12].copy()
        for key in list(few.obsp):
            del few.obsp[key]
        del few.uns["neighbors"]
        jv.pp.moments(few)
        assert few.uns["neighbors"]["params"]["n_neighbors"] == 12

    def test_representation_and_genes(self, counts):
        counts.obsm["X_other"] = np.asarray(counts.obs[["true_time"]])
        jv.pp.moments(counts, 10, use_rep="X_other")
        expected = jv.pp.neighbors(counts, 10, use_rep="X_other", copy=True)
        assert abs(counts.obsp["distances"] - expected.obsp["distances"]).max() == 0
        with pytest.raises(ValueError, match=r"use_rep='X_pca'.*use_rep='X_other'"):
            jv.pp.moments(counts, use_rep="X_pca")
        jv.pp.moments(counts, use_rep="other")

    def test_all_genes(self, counts):
        chosen = jv.pp.moments(counts, 10, 5, copy=True)
        every = jv.pp.moments(counts, 10, 5, use_highly_variable=False, copy=True)
        unused = ~counts.var["highly_variable"].to_numpy()
        assert unused.any()
        assert not chosen.varm["PCs"][unused].any()
        assert every.varm["PCs"][unused].all()

    def test_order_of_arguments_is_scvelos(self, counts):
        jv.pp.moments(counts, 11, 6)
        params = counts.uns["neighbors"]["params"]
        assert (params["n_neighbors"], params["n_pcs"]) == (11, 6)
        with pytest.raises(ValueError, match=r"n_neighbors=6.*n_neighbors=11.*neighbors\(adata, n_neighbors=6"):
            jv.pp.moments(counts, 6, 11)

    def test_unknown_is_accepted(self, counts):
        jv.pp.neighbors(counts, 11, 6)
        before = counts.obsp["connectivities"].copy()
        del counts.uns["neighbors"]["params"]["n_pcs"]
        jv.pp.moments(counts, 11, 30)
        counts.uns["neighbors"]["params"]["n_pcs"] = None
        jv.pp.moments(counts, 11, 30)
        del counts.uns["neighbors"]["params"]
        jv.pp.moments(counts, 17, 30)
        del counts.uns["neighbors"]
        jv.pp.moments(counts, 17, 30)
        assert abs(counts.obsp["connectivities"] - before).max() == 0
        assert "neighbors" not in counts.uns

    @pytest.mark.parametrize("missing", ["connectivities", "distances", "uns of both"])
    def test_parts_are_never_replaced(self, counts, missing):
        jv.pp.neighbors(counts, 11, 6)
        for key in ("connectivities", "distances"):
            if missing in (key, "uns of both"):
                del counts.obsp[key]
        if missing != "uns of both":
            del counts.uns["neighbors"]
        mode = "connectivities" if missing == "uns of both" else missing
        with unchanged(counts), pytest.raises(KeyError, match=rf"obsp\['{mode}'\].*jaxvelo.pp.neighbors"):
            jv.pp.moments(counts, mode=mode)

    @pytest.mark.parametrize("method", [None, "umap", "sklearn", "hnsw"])
    def test_methods_of_scvelo(self, counts, method):
        jv.pp.moments(counts, 10, 5, "connectivities", method)
        assert "Ms" in counts.layers

    def test_old_order_of_arguments_is_refused(self, counts):
        with unchanged(counts), pytest.raises(ValueError, match=r"method.*umap.*True"):
            jv.pp.moments(counts, None, None, "connectivities", True)
        with unchanged(counts), pytest.raises(ValueError, match=r"method.*umap.*'gauss'"):
            jv.pp.moments(counts, method="gauss")


def test_more_cells_than_other_tools_compare_with_each_other():
    """From counts to arrows on more than 8,192 cells, where scanpy turns to an approximate search."""
    n_cells = 8_500
    adata = jv.datasets.simulate(n_cells, 60, n_branches=2, seed=0)
    jv.pp.filter_and_normalize(adata, min_shared_counts=20)
    jv.pp.neighbors(adata, n_neighbors=15, n_pcs=10)
    assert adata.obsp["distances"].nnz == n_cells * 14
    jv.pp.moments(adata)
    jv.tl.velocity(adata, mode="stochastic")
    kernel = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    kernel = 0.8 * kernel + 0.2 * connectivity
    rows = np.asarray(kernel.transition_matrix.sum(axis=1)).ravel()
    np.testing.assert_allclose(rows, 1, atol=1e-12 if jax.config.jax_enable_x64 else 1e-6)
    adata.obsm["X_time"] = np.c_[adata.obs["true_time"], np.zeros(n_cells)]
    arrows = np.asarray(jv.markov.project(kernel.transitions, adata.obsm["X_time"]))
    # Time goes on along the arrows.
    assert (arrows[:, 0] > 0).mean() > 0.7
