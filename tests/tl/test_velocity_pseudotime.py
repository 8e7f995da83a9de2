import logging

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import jaxvelo as jv
from tests.dynamics import plain
from tests.kernels.snapshot import unchanged
from tests.tl.trajectory import plain_graph, two_parts


def plain_pseudotime(adata, root, end=None):
    weights = abs(plain_graph(adata))
    weights = weights + weights.T
    from_root = plain.diffusion_pseudotime(weights, root)
    return from_root if end is None else plain.unit_range(from_root + 1 - plain.diffusion_pseudotime(weights, end))


def test_equals_numpy(adata):
    for root, end in ((5, None), (5, 17), (adata.obs_names[5], "cell_017")):
        jv.tl.velocity_pseudotime(adata, root_key=root, end_key=end)
        expected = plain_pseudotime(adata, 5, None if end is None else 17)
        np.testing.assert_allclose(adata.obs["velocity_pseudotime"], expected, atol=1e-4)
    assert not {"root_cells", "end_points"} & set(adata.obs)


def test_with_terminal_states_it_follows_the_true_time(adata):
    """They are computed where they are missing, and where they say nothing."""
    with unchanged(adata):
        result = jv.tl.velocity_pseudotime(adata, copy=True)
    assert spearmanr(result.obs["velocity_pseudotime"], adata.obs["true_time"])[0] > 0.9
    assert result.obs["velocity_pseudotime"].min() == 0
    assert result.obs["velocity_pseudotime"].max() == 1
    states = jv.tl.terminal_states(adata, copy=True)
    pd.testing.assert_series_equal(result.obs["root_cells"], states.obs["root_cells"])
    adata.obs["root_cells"] = 0.0
    jv.tl.velocity_pseudotime(adata)
    np.testing.assert_array_equal(adata.obs["velocity_pseudotime"], result.obs["velocity_pseudotime"])
    # What is there is taken.
    jv.tl.velocity_pseudotime(states)
    np.testing.assert_array_equal(states.obs["velocity_pseudotime"], result.obs["velocity_pseudotime"])


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


BAD = {
    "no such key": ({"root_key": "nothing"}, KeyError, "root_key.*nothing.*true_time"),
    "number": ({"root_key": 150}, ValueError, "root_key.*150 cells.*150"),
    "end": ({"root_key": 0, "end_key": -1}, ValueError, "end_key.*-1"),
    "says nothing": ({"root_key": "constant"}, ValueError, r"obs\['constant'\].*mark some cells"),
    "components": ({"n_dcs": 1}, ValueError, "n_dcs.*at least 2"),
    "no graph": ({"vkey": "v"}, KeyError, r"uns\['v_graph'\].*tl.velocity_graph\(adata, vkey='v'\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(adata, case):
    arguments, error, message = BAD[case]
    adata.obs["constant"] = 1.0
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.velocity_pseudotime(adata, **arguments)
