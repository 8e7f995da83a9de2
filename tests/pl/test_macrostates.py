import logging

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from jaxvelo import pl

pytestmark = pytest.mark.any_precision

GREY = np.array(to_rgb("#d3d3d3"))


def marked(ax):
    """Colours and places of the cells that stand for states."""
    (points,) = [collection for collection in ax.collections if collection.get_gid() == "states"]
    return {
        tuple(place): to_hex(color)
        for place, color in zip(points.get_offsets().data, points.get_facecolor(), strict=True)
    }


def places(adata, state, key="macrostates_fwd"):
    return {tuple(place) for place in adata.obsm["X_umap"][adata.obs[key] == state].astype(float)}


def drawn(ax, adata):
    """Colours of all cells, in their order."""
    colors = {}
    for collection in ax.collections:
        for place, color in zip(collection.get_offsets().data, collection.get_facecolor(), strict=False):
            colors[tuple(np.float32(place))] = color[:3]
    return np.array([colors[tuple(np.float32(place))] for place in adata.obsm["X_umap"]])


def test_cells_of_states_are_marked(unchanged_fates):
    ax = pl.macrostates(unchanged_fates, show=False)
    found = marked(ax)
    for state, color in zip(["early", "late_1", "late_2"], ["#111111", "#ee2222", "#3333ee"], strict=True):
        assert {place for place, shade in found.items() if shade == color} == places(unchanged_fates, state)
    assert sorted(text.get_text() for text in ax.texts) == ["early", "late_1", "late_2"]
    assert ax.get_title() == "macrostates"


def test_some_states_keep_their_colors(fates):
    ax = pl.macrostates(fates, states=["late_2"], show=False)
    assert set(marked(ax)) == places(fates, "late_2")
    assert set(marked(ax).values()) == {"#3333ee"}


def test_each_state_in_a_panel_beside_the_clusters(fates):
    axes = pl.macrostates(fates, "terminal", color="clusters", same_plot=False, legend_loc="right margin", show=False)
    assert [ax.get_title() for ax in axes] == ["clusters", "late_1", "late_2"]
    for ax in axes[1:]:
        assert set(marked(ax)) == places(fates, ax.get_title())


def test_initial_and_terminal_states_together(fates):
    ax = pl.macrostates(fates, "initial_and_terminal", show=False)
    names = ["initial: early", "terminal: late_1", "terminal: late_2"]
    assert sorted(text.get_text() for text in ax.texts) == names
    assert len(marked(ax)) == 15
    axes = pl.macrostates(fates, states="late_1", discrete=False, same_plot=False, show=False)
    assert [ax.get_title() for ax in axes] == ["membership: late_1"]


def test_memberships_in_one_picture(unchanged_fates):
    ax = pl.macrostates(unchanged_fates, discrete=False, show=False)
    values = unchanged_fates.obsm["macrostates_fwd_memberships"]
    ranked = np.sort(values, axis=1)
    lead = ranked[:, -1] - ranked[:, -2]
    state = values.argmax(axis=1)
    strength = lead / np.array([lead[state == k].max() for k in range(3)])[state]
    colors = np.array([to_rgb(color) for color in unchanged_fates.uns["macrostates_fwd_colors"]])
    expected = GREY + strength[:, None] * (colors[state] - GREY)
    np.testing.assert_allclose(drawn(ax, unchanged_fates), expected, atol=1e-6)


def test_memberships_each_in_a_panel(fates):
    values = fates.obsm["macrostates_fwd_memberships"]
    values[3] = [1.0, 0.0, 0.0]  # would take the colours from all others
    axes = pl.macrostates(fates, discrete=False, same_plot=False, show=False)
    for ax, column, name in zip(axes, values.T, ["early", "late_1", "late_2"], strict=True):
        assert ax.get_title() == f"membership: {name}"
        points = ax.collections[-1]
        np.testing.assert_allclose(np.sort(points.get_array()), np.sort(column))
        assert points.get_clim() == (0.0, column[column < 1].max())


def test_memberships_over_a_time(fates):
    axes = pl.macrostates(fates, discrete=False, mode="time", time_key="time", color="clusters", show=False)
    for ax, column in zip(axes, fates.obsm["macrostates_fwd_memberships"].T, strict=True):
        found = ax.collections[0].get_offsets().data
        expected = np.column_stack([fates.obs["time"], column])
        np.testing.assert_allclose(found[np.argsort(found[:, 0])], expected, rtol=1e-6)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("time", "membership")
    (legend,) = axes[0].figure.legends  # one for all panels
    assert [text.get_text() for text in legend.get_texts()] == ["early", "middle", "late"]


def test_colors_where_none_are_stored(fates):
    del fates.uns["macrostates_fwd_colors"]
    assert set(marked(pl.macrostates(fates, show=False)).values()) == {"#0072b2", "#e69f00", "#009e73"}


def test_without_memberships_cells_are_marked(fates, caplog):
    del fates.obsm["macrostates_fwd_memberships"]
    with caplog.at_level(logging.WARNING):
        assert len(marked(pl.macrostates(fates, discrete=False, show=False))) == 15
    assert "No memberships" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"which": "some"}, ValueError, "which"),
        ({"mode": "space", "discrete": False}, ValueError, "mode"),
        ({"mode": "time", "discrete": False}, KeyError, "latent_time"),
        ({"states": "nowhere"}, KeyError, r"found \['nowhere'\].*'early', 'late_1', 'late_2'"),
        ({"states": []}, ValueError, "at least one name"),
        ({"basis": "tsne"}, KeyError, "X_tsne"),
        ({"backward": True}, KeyError, r"macrostates_bwd.*compute_macrostates"),
        ({"which": "initial", "backward": True}, KeyError, "predict_initial_states"),
        ({"which": "terminal", "backward": True}, KeyError, "predict_terminal_states"),
        ({"wrong": 1}, TypeError, "wrong"),
    ],
)
def test_errors(fates, arguments, error, message):
    with pytest.raises(error, match=message):
        pl.macrostates(fates, **{"show": False, **arguments})


def test_memberships_of_other_states_are_refused(fates):
    fates.obsm["macrostates_fwd_memberships"] = np.ones((fates.n_obs, 4))
    with pytest.raises(ValueError, match=r"column for each of the states.*found 4"):
        pl.macrostates(fates, discrete=False)
