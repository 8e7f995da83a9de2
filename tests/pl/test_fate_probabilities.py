import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def test_terminal_cells_have_their_color_and_undecided_are_grey(fates):
    fates.obsm["lineages_fwd"][20] = 0.5
    ax = pl.fate_probabilities(fates, show=False)
    points = ax.collections[0]
    found = {
        tuple(np.float32(place)): color
        for place, color in zip(points.get_offsets(), points.get_facecolor(), strict=True)
    }
    place = [tuple(place) for place in fates.obsm["X_umap"]]
    np.testing.assert_allclose(found[place[-1]][:3], to_rgb("#3333ee"))
    np.testing.assert_allclose(found[place[42]][:3], to_rgb("#ee2222"))
    np.testing.assert_allclose(found[place[20]][:3], to_rgb("#d3d3d3"))
    assert sorted(text.get_text() for text in ax.texts) == ["late_1", "late_2"]
    assert ax.get_title() == "fate probabilities"


def test_a_panel_for_each_fate(unchanged_fates):
    fates = unchanged_fates
    axes = pl.fate_probabilities(fates, same_plot=False, title=["one", "two"], color="clusters", show=False)
    assert [ax.get_title() for ax in axes] == ["clusters", "one", "two"]
    for ax, column in zip(axes[1:], fates.obsm["lineages_fwd"].T, strict=True):
        np.testing.assert_allclose(np.sort(ax.collections[-1].get_array()), np.sort(column))


def test_one_fate_over_a_time_on_given_axes(fates):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert pl.fate_probabilities(fates, "late_2", mode="time", time_key="time", ax=ax) is ax
    found = ax.collections[0]
    np.testing.assert_allclose(np.sort(found.get_offsets()[:, 1]), np.sort(fates.obsm["lineages_fwd"][:, 1]))
    np.testing.assert_allclose(found.get_facecolor()[0, :3], to_rgb("#3333ee"))
    with pytest.raises(ValueError, match="found 2"):
        pl.fate_probabilities(fates, mode="time", time_key="time", ax=ax)


def test_fates_of_some_terminal_states(fates):
    fates.obsm["lineages_fwd"] = np.ones((fates.n_obs, 1))
    fates.uns["fwd_estimator_params"] = {"lineages_fwd": {"names": np.array(["late_2"], dtype=object)}}
    (ax,) = pl.fate_probabilities(fates, same_plot=False, show=False)
    assert ax.get_title() == "fate probability: late_2"


def test_a_table_knows_its_names(fates):
    table = pd.DataFrame(fates.obsm["lineages_fwd"], columns=["A", "B"], index=fates.obs_names)
    fates.obsm["lineages_fwd"] = table
    axes = pl.fate_probabilities(fates, same_plot=False, show=False)
    assert [ax.get_title() for ax in axes] == ["fate probability: A", "fate probability: B"]


def test_errors(fates):
    with pytest.raises(ValueError, match=r"time_key.*found None"):
        pl.fate_probabilities(fates, mode="time")
    with pytest.raises(KeyError, match="late_3"):
        pl.fate_probabilities(fates, ["late_1", "late_3"])
    with pytest.raises(KeyError, match=r"lineages_bwd.*compute_fate_probabilities"):
        pl.fate_probabilities(fates, backward=True)
    del fates.obs["term_states_fwd"]
    with pytest.raises(ValueError, match="column for each of the states"):
        pl.fate_probabilities(fates)
