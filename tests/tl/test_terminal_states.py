import warnings

import jax
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import halves, part_of, plain_graph, simulated, two_parts


def plain_scores(adata, edges, correlations):
    """Scores as root and as end; dense."""
    neighbors = (adata.obsp["distances"] > 0).toarray().astype(float)
    scale = min(10, 2.5 / np.median(np.abs(correlations[edges])))
    weights = np.where(edges, np.exp(scale * correlations), 0)
    scores = []
    for chain in (weights.T, weights):
        chain = np.where(chain.any(axis=1, keepdims=True), chain, neighbors)
        steps = 0.999 * chain / chain.sum(axis=1, keepdims=True)
        state = np.linalg.solve(np.eye(len(steps)) - steps.T, np.full(len(steps), 0.001 / len(steps)))
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


def test_velocities_that_agree_with_the_way_to_neighbors_are_not_taken_for_certain(adata):
    """What is smooth has large correlations; by how much larger they all are does not matter."""
    jv.tl.terminal_states(adata)
    before = adata.obs["root_cells"].to_numpy()
    largest = max(abs(adata.uns[key]).max() for key in ("velocity_graph", "velocity_graph_neg"))
    for key in ("velocity_graph", "velocity_graph_neg"):
        adata.uns[key] = adata.uns[key] / largest
    jv.tl.terminal_states(adata)
    first = adata.obs["root_cells"].to_numpy()
    for key in ("velocity_graph", "velocity_graph_neg"):
        adata.uns[key] = 0.8 * adata.uns[key]
    jv.tl.terminal_states(adata)
    np.testing.assert_allclose(adata.obs["root_cells"], first, atol=1e-3)
    assert np.corrcoef(before, first)[0, 1] > 0.9


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
        assert adata.obs["root_cells"][cells].max() > 0.3
    assert (adata.obs[["root_cells", "end_points"]].iloc[3] == 0).all()
    assert "1 cells have no neighbours in `adata.obsp['distances']`; they are neither root" in caplog.text


def test_rounding_and_the_order_of_the_cells_choose_nothing():
    """On a fork, both ends are almost stationary states."""
    adata = simulated(200, 32, 2)
    rng = np.random.default_rng(0)
    found = []
    for order in (np.arange(200), rng.permutation(200)):
        other = adata[order].copy()
        other.layers["velocity"] *= 1 + 1e-6 * rng.normal(size=other.shape)
        jv.tl.velocity_graph(other)
        jv.tl.velocity_pseudotime(other)
        found.append(other.obs.loc[adata.obs_names])
    for key, tolerance in (("root_cells", 1e-4), ("end_points", 1e-4), ("velocity_pseudotime", 1e-2)):
        np.testing.assert_allclose(found[0][key], found[1][key], atol=tolerance)


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


KEYS = ("root_cells", "end_points")


def test_each_group_by_itself(adata):
    jv.tl.terminal_states(halves(adata), groupby="half")
    for group in ("early", "late"):
        alone = jv.tl.terminal_states(part_of(adata, group), copy=True)
        for key in KEYS:
            np.testing.assert_array_equal(adata.obs[key][adata.obs["half"] == group], alone.obs[key])
            assert alone.obs[key].max() == 1


def test_some_groups(adata):
    """Together they are one process; the others keep what they have."""
    jv.tl.terminal_states(halves(adata), groupby="half", groups="early")
    early = (adata.obs["half"] == "early").to_numpy()
    alone = jv.tl.terminal_states(part_of(adata, "early"), copy=True)
    for key in KEYS:
        np.testing.assert_array_equal(adata.obs[key][early], alone.obs[key])
        assert not adata.obs[key][~early].any()
    jv.tl.terminal_states(adata, groupby="half", groups=["late"])
    each = jv.tl.terminal_states(adata, groupby="half", copy=True)
    together = jv.tl.terminal_states(adata, groupby="half", groups=["late", "early"], copy=True)
    everyone = jv.tl.terminal_states(adata, copy=True)
    for key in KEYS:
        np.testing.assert_array_equal(adata.obs[key], each.obs[key])
        np.testing.assert_array_equal(together.obs[key], everyone.obs[key])


def test_labels_are_no_numbers_to_keep(adata):
    halves(adata).obs["root_cells"] = "a word"
    jv.tl.terminal_states(adata, groupby="half", groups="late")
    assert (adata.obs["root_cells"][adata.obs["half"] == "early"] == 0).all()


def test_groups_as_scvelo(adata):
    """There for the cells of a group by themselves, which is what it does to each."""
    scv = pytest.importorskip("scvelo", reason='scVelo comes with `pip install "jaxvelo[tutorial]"`')
    jv.tl.terminal_states(halves(adata), groupby="half")
    compared = []
    for group in ("early", "late"):
        part = part_of(adata, group)
        graph = part.uns["velocity_graph"] + part.uns["velocity_graph_neg"]
        if not ((graph != 0).sum(axis=0).all() and (graph != 0).sum(axis=1).all()):
            continue  # rows that scVelo leaves empty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scv.settings.verbosity = 0
            scv.tl.terminal_states(part)
        for key in KEYS:
            np.testing.assert_allclose(adata.obs[key][adata.obs["half"] == group], part.obs[key], atol=0.05)
        compared.append(group)
    assert compared


def test_a_group_without_neighbours(adata, caplog):
    time = adata.obs["true_time"].to_numpy()
    lonely = [time.argmin(), time.argmax()]
    assert not adata.obsp["distances"][lonely][:, lonely].nnz
    halves(adata)
    adata.obs["half"] = adata.obs["half"].astype(object)
    adata.obs.iloc[lonely, adata.obs.columns.get_loc("half")] = "lonely"
    jv.tl.terminal_states(adata, groupby="half")
    assert "2 cells have no neighbours in `adata.obsp['distances']`; they are neither" in caplog.text
    assert "of the group 'lonely'" in caplog.text
    assert (adata.obs[list(KEYS)].iloc[lonely] == 0).all(axis=None)
    assert adata.obs["root_cells"].max() == 1


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
    "groups": (
        None,
        {"groupby": "clusters", "groups": "x"},
        ValueError,
        r"obs\['clusters'\]` in `groups`, found \['x'\]",
    ),
    "eps": (None, {"eps": 1.5}, ValueError, "eps.*below 1.*1.5"),
    "eps as text": (None, {"eps": "x"}, ValueError, "eps.*above 0.*`'x'`"),
    "no eps": (None, {"eps": 0}, ValueError, "eps.*above 0.*`0`"),
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
