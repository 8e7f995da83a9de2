import logging
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import halves, part_of, plain_graph, two_parts


def plain_pseudotime(adata, root, end=None, power=0.25):
    weights = plain_weights(adata, power)
    from_root = plain.diffusion_pseudotime(weights, root)
    return from_root if end is None else plain.unit_range(from_root + 1 - plain.diffusion_pseudotime(weights, end))


def plain_weights(adata, power=0.25):
    """Powers of the magnitudes of all correlations, in both directions."""
    magnitudes = abs(plain_graph(adata))
    weights = np.where(magnitudes > 0, magnitudes**power, 0)
    return weights + weights.T


def test_equals_numpy(adata):
    for root, end, power in ((5, None, 0.25), (5, 17, 1.0), (adata.obs_names[5], "cell_017", 2)):
        jv.tl.velocity_pseudotime(adata, root_key=root, end_key=end, power=power)
        expected = plain_pseudotime(adata, 5, None if end is None else 17, power)
        np.testing.assert_allclose(adata.obs["velocity_pseudotime"], expected, atol=1e-4)
    assert not {"root_cells", "end_points"} & set(adata.obs)


def test_with_terminal_states_it_follows_the_true_time(adata):
    """They are computed where they are missing, and where they say nothing."""
    with unchanged(adata):
        result = jv.tl.velocity_pseudotime(adata, copy=True)
    assert spearmanr(result.obs["velocity_pseudotime"], adata.obs["true_time"])[0] > 0.9
    assert result.obs["velocity_pseudotime"].min() == 0
    assert result.obs["velocity_pseudotime"].max() == pytest.approx(1)
    states = jv.tl.terminal_states(adata, copy=True)
    pd.testing.assert_series_equal(result.obs["root_cells"], states.obs["root_cells"])
    adata.obs["root_cells"] = 0.0
    jv.tl.velocity_pseudotime(adata)
    np.testing.assert_array_equal(adata.obs["velocity_pseudotime"], result.obs["velocity_pseudotime"])
    # What is there is taken.
    jv.tl.velocity_pseudotime(states)
    np.testing.assert_array_equal(states.obs["velocity_pseudotime"], result.obs["velocity_pseudotime"])


def test_a_root_that_many_cells_do_not_come_from_is_open(adata, caplog):
    """Two trajectories with a root each, in one graph."""
    jv.tl.velocity_pseudotime(adata)
    assert "come from elsewhere" not in caplog.text
    both = two_parts()
    jv.tl.velocity_pseudotime(both, root_key=5)
    assert "come from elsewhere" not in caplog.text
    jv.tl.velocity_pseudotime(both)
    share = re.search(r"(\d+) % of the cells come from elsewhere than around the root cell", caplog.text)
    assert 40 <= int(share[1]) <= 60


def test_a_score_names_the_cell_around_which_it_is_highest(adata):
    time = adata.obs["true_time"].to_numpy()
    adata.obs["score"] = np.where(time < 1.5, 1.0, np.nan)
    adata.obs["label"] = pd.Categorical(np.where(time < 1.5, "start", None), ["start"])
    around = (adata.obsp["connectivities"] > 0).toarray() + np.eye(adata.n_obs)
    root = int(np.argmax(around @ np.nan_to_num(adata.obs["score"].to_numpy()) / around.sum(axis=1)))
    for key in ("score", "label"):
        jv.tl.velocity_pseudotime(adata, root_key=key)
        np.testing.assert_allclose(adata.obs["velocity_pseudotime"], plain_pseudotime(adata, root), atol=1e-4)


def test_on_the_connectivities(adata):
    del adata.uns["velocity_graph"], adata.obsp["distances"]
    first = int(np.argmin(adata.obs["true_time"]))
    jv.tl.velocity_pseudotime(adata, root_key=first, use_velocity_graph=False)
    assert spearmanr(adata.obs["velocity_pseudotime"], adata.obs["true_time"])[0] > 0.9


def test_disconnected_graph(caplog):
    adata = two_parts()
    first = adata.obs["true_time"].to_numpy()[100:].argmin() + 100
    with caplog.at_level(logging.WARNING):
        jv.tl.velocity_pseudotime(adata, root_key=int(first))
    assert "100 cells are not connected to the root cell; their pseudotime is NaN" in caplog.text
    pseudotime = adata.obs["velocity_pseudotime"]
    assert pseudotime[:100].isna().all()
    assert spearmanr(pseudotime[100:], adata.obs["true_time"][100:])[0] > 0.8


@pytest.mark.parametrize("end", [False, True])
def test_each_group_by_itself(adata, end):
    """As NumPy finds it for their cells, from the roots that terminal_states finds in each."""
    jv.tl.velocity_pseudotime(halves(adata), groupby="half", end_key="end_points" if end else None)
    states = jv.tl.terminal_states(adata, groupby="half", copy=True)
    for group in ("early", "late"):
        part = part_of(states, group)
        around = (part.obsp["connectivities"] > 0).toarray() + np.eye(part.n_obs)
        root, last = (
            int(np.argmax(around @ part.obs[key] / around.sum(axis=1))) for key in ("root_cells", "end_points")
        )
        weights = plain_weights(part)
        expected = plain.diffusion_pseudotime(weights, root)
        if end:
            expected = plain.unit_range(expected + 1 - plain.diffusion_pseudotime(weights, last))
        found = adata.obs["velocity_pseudotime"][adata.obs["half"] == group]
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert spearmanr(found, part.obs["true_time"])[0] > 0.8
    pd.testing.assert_frame_equal(adata.obs[["root_cells", "end_points"]], states.obs[["root_cells", "end_points"]])


def test_some_groups(adata, caplog):
    """The others keep what they have, or have none."""
    late = (halves(adata).obs["half"] == "late").to_numpy()
    root = int(np.flatnonzero(late)[2])
    jv.tl.velocity_pseudotime(adata, "velocity", "half", "late", root_key=root)
    part = part_of(adata, "late")
    expected = plain.diffusion_pseudotime(plain_weights(part), 2)
    np.testing.assert_allclose(adata.obs["velocity_pseudotime"][late], expected, atol=1e-3)
    assert adata.obs["velocity_pseudotime"][~late].isna().all()
    by_name = jv.tl.velocity_pseudotime(adata, groupby="half", groups="late", root_key=adata.obs_names[root], copy=True)
    np.testing.assert_array_equal(by_name.obs["velocity_pseudotime"], adata.obs["velocity_pseudotime"])

    other = int(np.flatnonzero(~late)[0])
    jv.tl.velocity_pseudotime(adata, groupby="half", groups=["early"], root_key=other)
    np.testing.assert_allclose(adata.obs["velocity_pseudotime"][late], expected, atol=1e-3)
    assert adata.obs["velocity_pseudotime"].notna().all()
    # A root is in one group only.
    result = jv.tl.velocity_pseudotime(adata, groupby="half", root_key=other, copy=True)
    assert f"No root cell by `root_key={other}` among the cells of the group 'late'; their" in caplog.text
    np.testing.assert_array_equal(result.obs["velocity_pseudotime"][~late], adata.obs["velocity_pseudotime"][~late])
    with unchanged(adata), pytest.raises(ValueError, match=rf"`root_key={other}` in one of the groups"):
        jv.tl.velocity_pseudotime(adata, groupby="half", groups="late", root_key=other)


def test_roots_are_computed_for_the_groups_that_have_none(adata):
    first = jv.tl.terminal_states(halves(adata), groupby="half", groups="early", copy=True)
    jv.tl.velocity_pseudotime(first, groupby="half")
    jv.tl.velocity_pseudotime(adata, groupby="half")
    for key in ("root_cells", "end_points", "velocity_pseudotime"):
        np.testing.assert_array_equal(first.obs[key], adata.obs[key])


def test_groups_as_scvelo(adata):
    """There for the cells of a group by themselves."""
    scv = pytest.importorskip("scvelo", reason='scVelo comes with `pip install "jaxvelo[tutorial]"`')
    jv.tl.terminal_states(halves(adata), groupby="half")
    jv.tl.velocity_pseudotime(adata, groupby="half", end_key="end_points", power=1)
    for group in ("early", "late"):
        part = part_of(adata, group)
        del part.obs["velocity_pseudotime"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scv.settings.verbosity = 0
            scv.tl.velocity_pseudotime(part, root_key="root_cells", end_key="end_points")
        found = adata.obs["velocity_pseudotime"][adata.obs["half"] == group]
        np.testing.assert_allclose(found, part.obs["velocity_pseudotime"], atol=1e-3)


BAD = {
    "no such key": ({"root_key": "nothing"}, KeyError, "root_key.*nothing.*true_time"),
    "number": ({"root_key": 150}, ValueError, "root_key.*150 cells.*150"),
    "end": ({"root_key": 0, "end_key": -1}, ValueError, "end_key.*-1"),
    "says nothing": ({"root_key": "constant"}, ValueError, r"obs\['constant'\].*mark some cells"),
    "power": ({"power": 0}, ValueError, "`power` to be a positive number, found `0`"),
    "components": ({"n_dcs": 1}, ValueError, "n_dcs.*at least 2"),
    "no graph": ({"vkey": "v"}, KeyError, r"uns\['v_graph'\].*tl.velocity_graph\(adata, vkey='v'\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(adata, case):
    arguments, error, message = BAD[case]
    adata.obs["constant"] = 1.0
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.velocity_pseudotime(adata, **arguments)
