"""One reader of graphs: by key or by name; and what stands there and does not fit."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.annotated.graphs import (
    KINDS,
    graph_key,
    has_neighbors,
    neighbors_params,
    noted_neighbors,
    read_graph,
    read_neighbor_graph,
    usual_key,
    write_graphs,
)
from tests.snapshot import unchanged

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


@pytest.mark.parametrize("key", ["nn_connectivities", b"nn_connectivities", np.array("nn_connectivities")])
def test_keys_of_graphs_as_files_hold_them(adata, key):
    adata.obsp["nn_connectivities"] = sp.eye_array(N_CELLS, format="csr")
    adata.uns["neighbors"] = {"connectivities_key": key}
    assert graph_key(adata, "connectivities") == "nn_connectivities"


def test_a_graph_of_neighbours_by_name(adata):
    assert read_neighbor_graph(adata, "distances")[0, 1] == 1
    assert read_neighbor_graph(adata, "distances", "nn")[0, 1] == 2
    with pytest.raises(KeyError, match=r"absent_connectivities.*key_added='absent'"):
        read_neighbor_graph(adata, "connectivities", "absent")


def test_noted_neighbours(adata):
    """Names of whatever has connectivities; with distances where these are there."""
    usual = {"neighbors": ("connectivities", "distances"), "nn": ("nn_connectivities", "nn_distances")}
    adata.uns |= {"pca": {"params": {}}, "none": {"connectivities_key": None}, "number": 3}
    adata.uns["other"] = {"connectivities_key": "gone", "distances_key": "distances"}
    adata.uns["array"] = {"connectivities_key": np.array(["nn_connectivities", "connectivities"])}
    assert noted_neighbors(adata) == usual
    del adata.uns["nn"]["distances_key"], adata.uns["neighbors"]["distances_key"]
    assert noted_neighbors(adata) == usual
    adata.uns["nn"]["connectivities_key"] = b"connectivities"
    del adata.obsp["nn_distances"]
    assert noted_neighbors(adata) == usual | {"nn": ("connectivities", None)}


def test_whether_there_are_neighbours(adata):
    assert has_neighbors(adata)
    del adata.uns["neighbors"], adata.obsp["distances"]
    assert has_neighbors(adata)
    del adata.obsp["connectivities"]
    assert not has_neighbors(adata), "there are some of another name"


@pytest.mark.parametrize("key_added", [None, "nn", "new"])
def test_what_is_written_is_read(adata, key_added):
    graphs = {kind: sp.csr_matrix(factor * np.eye(N_CELLS)) for factor, kind in enumerate(KINDS, 5)}
    paths = [f"/obsp/{kind if key_added is None else f'{key_added}_{kind}'}" for kind in KINDS]
    with unchanged(adata, *paths, f"/uns/{key_added or 'neighbors'}"):
        write_graphs(adata, key_added, **graphs, params={"n_neighbors": 7})
    assert neighbors_params(adata, key_added) == {"n_neighbors": 7}
    for kind in KINDS:
        assert abs(read_neighbor_graph(adata, kind, key_added) - graphs[kind]).max() == 0
    connectivities, distances = (graph_key(adata, kind, key_added) for kind in KINDS)
    assert noted_neighbors(adata)[key_added or "neighbors"] == (connectivities, distances)
    assert (connectivities, distances) == tuple(usual_key(kind, key_added or "neighbors") for kind in KINDS)
