import logging

import numpy as np
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def numbers(ax):
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("stability", ["early", "late_2", "late_1"]),
        ("outgoing", ["late_1", "late_2", "early"]),
        (None, ["early", "late_1", "late_2"]),
    ],
)
def test_matrix_and_its_order(unchanged_fates, order, names):
    ax = pl.coarse_T(unchanged_fates, order=order, show=False)
    stored = unchanged_fates.uns["coarse_fwd"]
    places = [list(stored.obs_names).index(name) for name in names]
    expected = stored.X[np.ix_(places, places)]
    np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    assert numbers(ax) == {place: f"{value:.2f}" for place, value in np.ndenumerate(expected)}
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == names


def test_distributions_stand_beside_their_rows(fates):
    ax = pl.coarse_T(fates, show_initial_dist=True, show_cbar=False, show=False)
    stationary, initial = ax.child_axes
    assert [stationary.get_title(), initial.get_title()] == ["stationary", "initial"]
    assert [bar.get_width() for bar in stationary.patches] == [0.1, 0.3, 0.6]
    assert [bar.get_width() for bar in initial.patches] == [0.5, 0.2, 0.3]
    assert stationary.get_ylim() == ax.get_ylim()
    assert [text.get_text() for text in stationary.texts] == ["0.10", "0.30", "0.60"]


def test_without_numbers_or_stationary_distribution(fates, caplog):
    del fates.uns["coarse_fwd"].obs["coarse_stat_dist"]
    with caplog.at_level(logging.WARNING):
        ax = pl.coarse_T(fates, order="stat_dist", annotate=False, show_cbar=False, show=False)
    assert not ax.texts
    assert not ax.child_axes
    assert "No stationary distribution" in caplog.text


def test_many_states_do_not_touch(fates):
    import anndata
    import pandas as pd

    n = 20
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"coarse_stat_dist": rng.dirichlet(np.ones(n))}, index=[f"a long name {i}" for i in range(n)])
    fates.uns["coarse_fwd"] = anndata.AnnData(rng.dirichlet(np.ones(n), n), obs=obs)
    ax = pl.coarse_T(fates, show=False)
    ax.figure.draw_without_rendering()
    boxes = np.array([text.get_window_extent().extents for text in ax.texts])
    labels = np.array([label.get_window_extent().extents for label in ax.get_yticklabels()])
    for found in (boxes, labels):
        low, high = found[:, None, :2], found[:, None, 2:]
        assert ((low < found[None, :, 2:]) & (found[None, :, :2] < high)).all(axis=-1).sum() == len(found)
    assert min(text.get_fontsize() for text in ax.texts) >= 5


def test_errors(fates):
    with pytest.raises(ValueError, match="order"):
        pl.coarse_T(fates, order="size")
    with pytest.raises(TypeError, match="text_kwargs"):
        pl.coarse_T(fates, text_kwargs={"color": "red"})
    with pytest.raises(KeyError, match=r"coarse_bwd.*compute_macrostates"):
        pl.coarse_T(fates, backward=True)
    fates.uns["coarse_fwd"] = np.eye(3)
    with pytest.raises(ValueError, match="AnnData object"):
        pl.coarse_T(fates)
