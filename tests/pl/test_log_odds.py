import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def cells_of(collection):
    """Cells by time, with their heights."""
    x, y = np.asarray(collection.get_offsets()).T
    return sorted(zip(np.round(x).astype(int), np.round(y, 9), strict=True))


def expected(fates, mask=None):
    p = fates.obsm["lineages_fwd"]
    shown = (p > 0).all(axis=1) & (True if mask is None else mask)
    days = fates.obs["day"].to_numpy(dtype=float)
    place = {day: number for number, day in enumerate(sorted(set(days)))}
    return sorted(
        (place[day], round(float(np.log(a / b)), 9)) for day, (a, b) in zip(days[shown], p[shown], strict=True)
    )


def test_heights_are_log_odds(unchanged_fates):
    fates = unchanged_fates
    ax = pl.log_odds(fates, "late_1", "late_2", "day", show=False)
    assert cells_of(ax.collections[0]) == expected(fates)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "1", "1.5", "2", "2.5"]
    assert ax.get_ylabel() == "log late_1 / late_2"
    rest = pl.log_odds(fates, "late_1", time_key="day", jitter=False, xticks_step_size=2, show=False)
    np.testing.assert_allclose(
        [y for _, y in cells_of(rest.collections[0])], [y for _, y in expected(fates)], atol=1e-8
    )
    assert set(np.asarray(rest.collections[0].get_offsets())[:, 0]) == set(range(6))
    assert [label.get_text() for label in rest.get_xticklabels()] == ["0", "1", "2"]


def test_time_runs_back(fates):
    for key in ("lineages", "term_states"):
        where = fates.obsm if key == "lineages" else fates.obs
        where[f"{key}_bwd"] = where[f"{key}_fwd"].copy()
    ax = pl.log_odds(fates, "late_1", "late_2", "day", backward=True, show=False)
    assert cells_of(ax.collections[0]) == sorted((5 - place, height) for place, height in expected(fates))
    assert ax.get_xticklabels()[0].get_text() == "2.5"


def test_same_seed_same_picture(fates):
    one, two, other = (
        np.asarray(pl.log_odds(fates, "late_1", "late_2", "day", seed=seed, show=False).collections[0].get_offsets())
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other)[:, 0].max() > 0.01


def test_a_panel_for_each_key(fates):
    axes = pl.log_odds(
        fates, "late_1", "late_2", "day", keys=["clusters", "time", "gene_2"], threshold=[None, None, 1.5], show=False
    )
    assert [ax.get_title() for ax in axes] == ["clusters", "time", "gene_2 > 1.5"]
    known = (fates.obsm["lineages_fwd"] > 0).all(axis=1)
    np.testing.assert_allclose(np.sort(axes[1].collections[-1].get_array()), np.sort(fates.obs["time"][known]))
    high = fates[:, "gene_2"].X.toarray().ravel() > 1.5
    marked = axes[2].collections[-1]
    assert cells_of(marked) == expected(fates, high)
    np.testing.assert_allclose(marked.get_facecolor()[0, :3], to_rgb("red"))


def test_cells_without_a_time_are_left_out(fates, caplog):
    fates.obs["day"] = fates.obs["day"].astype(float)
    fates.obs.loc["cell_20", "day"] = np.nan
    ax = pl.log_odds(fates, "late_1", "late_2", "day", show=False)
    assert "Leaving out 1 cells" in caplog.text
    assert len(ax.collections[0].get_offsets()) == (fates.obsm["lineages_fwd"] > 0).all(axis=1).sum() - 1


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"lineage_1": "nowhere"}, KeyError, "nowhere"),
        ({"lineage_2": "nowhere"}, KeyError, "nowhere"),
        ({"time_key": "exp_time"}, KeyError, "exp_time"),
        ({"time_key": "clusters"}, ValueError, "clusters"),
        ({"keys": "nothing"}, KeyError, "nothing"),
        ({"keys": "red"}, KeyError, "red"),
        ({"keys": []}, ValueError, "keys"),
        ({"keys": ["time"], "threshold": [1, 2]}, ValueError, "threshold"),
        ({"keys": ["gene_1"], "threshold": "high"}, ValueError, "threshold"),
        ({"threshold_color": "reddish"}, ValueError, "threshold_color"),
        ({"jitter": 2}, ValueError, "jitter"),
        ({"xticks_step_size": 0}, ValueError, "xticks_step_size"),
        ({"layer": "nothing", "keys": "gene_1"}, KeyError, "nothing"),
        ({"backward": True}, KeyError, "lineages_bwd"),
    ],
)
def test_errors(fates, arguments, error, match):
    with pytest.raises(error, match=match):
        pl.log_odds(fates, **({"lineage_1": "late_1", "time_key": "day"} | arguments))


def test_no_odds(fates):
    fates.obsm["lineages_fwd"][:] = [1, 0]
    with pytest.raises(ValueError, match="may reach late_1 and late_2"):
        pl.log_odds(fates, "late_1", "late_2", "day")
    fates.obs["day"] = np.nan
    with pytest.raises(ValueError, match="found none that are finite"):
        pl.log_odds(fates, "late_1", "late_2", "day")
