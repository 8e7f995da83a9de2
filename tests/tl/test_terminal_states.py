import jax
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.dynamics import plain
from tests.kernels.snapshot import unchanged
from tests.tl.trajectory import plain_graph, simulated, two_parts


def plain_scores(adata, edges, correlations):
    """Scores as root and as end for chains with one stationary state; dense."""
    neighbors = (adata.obsp["distances"] > 0).toarray().astype(float)
    weights = np.where(edges, np.exp(10 * correlations), 0)
    scores = []
    for chain in (weights.T, weights):
        chain = np.where(chain.any(axis=1, keepdims=True), chain, neighbors)
        state = plain.stationary(chain / chain.sum(axis=1, keepdims=True))
        low, high = np.percentile(state, [2, 98])
        state = np.where(state < low, 0, state.clip(max=high)) / high
        around = neighbors + np.eye(len(neighbors))
        score = around @ state / around.sum(axis=1)
        scores.append(plain.unit_range(score.clip(max=np.percentile(score, 98))))
    return scores


def test_equals_numpy(adata):
    correlations = plain_graph(adata)
    edges = (adata.uns["velocity_graph"] + adata.uns["velocity_graph_neg"]).toarray() != 0
    jv.tl.terminal_states(adata)
    for key, expected in zip(("root_cells", "end_points"), plain_scores(adata, edges, correlations), strict=True):
        np.testing.assert_allclose(adata.obs[key], expected, atol=1e-7 if jax.config.jax_enable_x64 else 1e-3)
        assert adata.obs[key].max() == 1


def test_finds_the_beginning_and_the_end(adata):
    jv.tl.terminal_states(adata)
    time = adata.obs["true_time"]
    assert time[adata.obs["root_cells"] > 0.999].max() < 6
    assert time[adata.obs["end_points"] > 0.999].min() > 18


def test_a_cell_that_no_velocity_leads_to_is_no_leak(adata):
    """Of the backward chain such a cell has no row: what arrives there goes on to its neighbours."""
    positive = adata.uns["velocity_graph"].tolil()
    negative = adata.uns["velocity_graph_neg"].tolil()
    middle = np.argsort(adata.obs["true_time"].to_numpy())[60:75]
    positive[:, middle], negative[:, middle] = 0, 0
    adata.uns["velocity_graph"], adata.uns["velocity_graph_neg"] = positive.tocsr(), negative.tocsr()
    jv.tl.terminal_states(adata)
    assert adata.obs["true_time"][adata.obs["root_cells"] > 0.999].max() < 6


def test_cells_without_velocity(adata):
    adata.layers["velocity"][10:14, :] = 0
    jv.tl.velocity_graph(adata)
    jv.tl.terminal_states(adata)
    assert np.isfinite(adata.obs[["root_cells", "end_points"]]).all(axis=None)
    jv.tl.velocity_pseudotime(adata)
    assert np.isfinite(adata.obs["velocity_pseudotime"]).all()


def test_each_part_of_a_disconnected_graph_has_its_own_states(caplog):
    adata = two_parts()
    jv.tl.terminal_states(adata)
    for part in ("a", "b"):
        cells = adata.obs["part"] == part
        root, end = (adata.obs[key][cells].idxmax() for key in ("root_cells", "end_points"))
        assert adata.obs.loc[root, "true_time"] < 8
        assert adata.obs.loc[end, "true_time"] > 16
        assert adata.obs["root_cells"][cells].max() > 0.5
    assert (adata.obs[["root_cells", "end_points"]].iloc[3] == 0).all()
    assert "1 cells have no neighbours in `adata.obsp['distances']`; they are neither root" in caplog.text


def test_copy_and_repeatable(adata):
    with unchanged(adata):
        result = jv.tl.terminal_states(adata, copy=True)
    assert jv.tl.terminal_states(adata) is None
    np.testing.assert_array_equal(adata.obs["root_cells"], result.obs["root_cells"])


def test_a_graph_in_obsp_will_do(adata):
    result = jv.tl.terminal_states(adata, copy=True)
    for key in ("velocity_graph", "velocity_graph_neg"):
        adata.obsp[key] = adata.uns.pop(key)
    jv.tl.terminal_states(adata)
    np.testing.assert_array_equal(adata.obs["root_cells"], result.obs["root_cells"])


def test_no_cell_stands_out_where_all_are_neighbours():
    adata = simulated(12, 16)
    adata.obsp["distances"] = sp.csr_matrix(np.ones((12, 12)))
    jv.tl.velocity_graph(adata)
    jv.tl.terminal_states(adata)
    assert not adata.obs[["root_cells", "end_points"]].any(axis=None)


def cut(adata):
    adata.uns["velocity_graph"] = adata.uns["velocity_graph"][:9, :9]


def nan(adata):
    adata.uns["velocity_graph"].data[3] = np.nan


def empty(adata):
    adata.uns["velocity_graph"] *= 0
    adata.uns["velocity_graph_neg"] *= 0


BAD = {
    "empty": (empty, {}, ValueError, r"correlations in `adata.uns\['velocity_graph'\]`, found none"),
    "no graph": (lambda a: a.uns.pop("velocity_graph"), {}, KeyError, r"uns\['velocity_graph'\].*tl.velocity_graph"),
    "half a graph": (lambda a: a.uns.pop("velocity_graph_neg"), {}, KeyError, r"uns\['velocity_graph_neg'\]"),
    "other cells": (cut, {}, ValueError, r"uns\['velocity_graph'\].*150 cells.*\(9, 9\).*tl.velocity_graph"),
    "nan": (nan, {}, ValueError, r"finite correlations in `adata.uns\['velocity_graph'\]"),
    "no distances": (lambda a: a.obsp.pop("distances"), {}, KeyError, r"obsp\['distances'\]"),
    "eps": (None, {"eps": 1.5}, ValueError, "eps.*below 1.*1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(adata, case):
    change, arguments, error, message = BAD[case]
    if change is not None:
        adata.uns = {k: v.copy() for k, v in adata.uns.items()}
        change(adata)
    with pytest.raises(error, match=message):
        jv.tl.terminal_states(adata, **arguments)
    assert "root_cells" not in adata.obs
