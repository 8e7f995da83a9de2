"""Neighbours of another name give, in each tool, what they give under the usual one."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.trajectory import simulated


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
