import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo import markov, pl

pytestmark = pytest.mark.any_precision


@pytest.fixture
def chain(cells):
    """Cells go to cells that are half a day to a day later."""
    time = cells.obs["time"].to_numpy()
    matrix = np.exp(-2 * (time[None] - time[:, None] - 0.7) ** 2)
    return sp.csr_matrix(matrix / matrix.sum(axis=1, keepdims=True))


def legend_labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_bands_are_the_shares(unchanged, chain):
    ax = pl.single_flow(unchanged, chain, "middle", "clusters", "day", remove_empty_clusters=False, show=False)
    assert ax.get_title() == "middle"
    assert ax.get_xlabel() == "day"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "1", "1.5", "2", "2.5"]
    np.testing.assert_allclose(ax.get_xticks(), np.arange(6))  # half a day apart is one unit
    assert sorted(legend_labels(ax)) == ["early", "late", "middle"]
    assert legend_labels(ax)[1] == "middle"  # the source is between the others
    codes, day = unchanged.obs["clusters"].cat.codes.to_numpy(), unchanged.obs["day"].astype(float).to_numpy()
    shares = markov.cluster_proportions(codes, day)
    for band, label in zip(ax.collections, reversed(legend_labels(ax)), strict=True):
        outline = band.get_paths()[0].vertices
        cluster = ["early", "middle", "late"].index(label)
        for point in range(6):
            y = outline[np.abs(outline[:, 0] - point) < 1e-9, 1]
            if len(y):
                assert np.ptp(y) == pytest.approx(shares[point, cluster], abs=1e-6)


def test_ribbons_are_the_flow(unchanged, chain):
    ax = pl.single_flow(unchanged, chain, "middle", "clusters", "day", remove_empty_clusters=False, show=False)
    codes, day = unchanged.obs["clusters"].cat.codes.to_numpy(), unchanged.obs["day"].astype(float).to_numpy()
    _, flow = markov.compute_flow(chain, codes, day)
    shares = markov.cluster_proportions(codes, day)
    widths = [flow[k, 1, b] * shares[k, 1] for k in range(5) for b in (0, 2) if flow[k, 1, b] > 0]
    assert len(ax.images) == len(ax.patches) == len(widths) > 0
    found = [np.ptp(patch.get_xy()[np.isclose(patch.get_xy()[:, 0], patch.get_xy()[0, 0]), 1]) for patch in ax.patches]
    np.testing.assert_allclose(np.sort(found), np.sort(widths), atol=1e-9)
    assert ax.get_aspect() == "auto"


def test_small_flows_and_empty_clusters_are_left_out(unchanged, chain):
    other = unchanged.copy()
    other.obs["clusters"] = other.obs["clusters"].to_numpy()[np.random.default_rng(0).permutation(60)]
    other.obs["clusters"] = other.obs["clusters"].astype("category")
    codes, day = other.obs["clusters"].cat.codes.to_numpy(), other.obs["day"].astype(float).to_numpy()
    names = list(other.obs["clusters"].cat.categories)
    out = markov.compute_flow(chain, codes, day)[1][:, names.index("middle")]
    out[:, names.index("middle")] = 0.0
    every = pl.single_flow(other, chain, "middle", "clusters", "day", remove_empty_clusters=False, show=False)
    assert len(every.images) == (out > 0).sum()
    assert set(legend_labels(every)) == {"early", "middle", "late"}
    limit = np.sort(out[out > 0])[-2]  # only the largest is above
    some = pl.single_flow(other, chain, "middle", "clusters", "day", min_flow=limit, show=False)
    assert len(some.images) == 1 < len(every.images)
    assert set(legend_labels(some)) == {"middle", names[np.argmax(out.max(axis=0))]}
    with pytest.raises(ValueError, match=r"above `min_flow=0\.99`"):
        pl.single_flow(unchanged, chain, "late", "clusters", "day", min_flow=0.99, show=False)


def test_order(unchanged, chain):
    def order(ascending):
        ax = pl.single_flow(
            unchanged,
            chain,
            "early",
            "clusters",
            "day",
            ascending=ascending,
            remove_empty_clusters=False,
            show=False,
        )
        return legend_labels(ax)[::-1]  # bottom to top

    assert order(False) == ["middle", "early", "late"]
    default = pl.single_flow(unchanged, chain, "early", "clusters", "day", remove_empty_clusters=False, show=False)
    assert legend_labels(default)[::-1] == order(False)
    assert order(True) == ["late", "early", "middle"]
    assert order(None) == ["middle", "early", "late"]


def test_selected_clusters_and_times_are_cut_before_the_flow(unchanged, chain):
    keep = unchanged.obs["clusters"].isin(["early", "late"]).to_numpy() & (
        unchanged.obs["day"].astype(float).isin([0.5, 1.0, 2.5]).to_numpy() | (unchanged.obs["time"] < 0.5).to_numpy()
    )
    assert keep.any()
    ax = pl.single_flow(
        unchanged,
        chain,
        "early",
        "clusters",
        "day",
        clusters=["late"],
        time_points=[0.0, 0.5, 2.0],
        remove_empty_clusters=False,
        show=False,
    )
    assert set(legend_labels(ax)) == {"early", "late"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "2"]
    np.testing.assert_allclose(ax.get_xticks(), [0.0, 1.0, 4.0])


def test_absent_clusters_and_times_are_left_out(unchanged, chain, caplog):
    whole = {"remove_empty_clusters": False, "show": False}
    ax = pl.single_flow(unchanged, chain, "early", "clusters", "day", ["late", "never"], [0.0, 0.5, 2.0, 7.0], **whole)
    assert set(legend_labels(ax)) == {"early", "late"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "2"]
    assert "Leaving out ['never'] of `clusters`" in caplog.text
    assert "Leaving out [7.0] of `time_points`" in caplog.text


def test_clusters_whose_names_are_no_text(cells, chain):
    cells.obs["leiden"] = cells.obs["clusters"].cat.codes.astype("category")
    cells.obs["number"] = cells.obs["clusters"].cat.codes.astype(int)
    for key in ("leiden", "number"):
        for cluster, others in ((0, [1, 2]), ("0", ["1", "2"])):
            ax = pl.single_flow(cells, chain, cluster, key, "day", others, remove_empty_clusters=False, show=False)
            assert set(legend_labels(ax)) == {"0", "1", "2"}


def test_time_as_numbers_and_steps(unchanged, chain):
    unchanged_time = unchanged.obs["day"].astype(float)
    other = unchanged.copy()
    other.obs["hours"] = 12 * unchanged_time
    ax = pl.single_flow(other, chain, "early", "clusters", "hours", xticks_step_size=2, show=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "12", "24"]
    ax = pl.single_flow(other, chain, "early", "clusters", "hours", xticks_step_size=None, show=False)
    assert not ax.get_xticklabels()


@pytest.mark.parametrize("place", ["upper right out", "center left out", "right out", "upper left", "best"])
def test_legend_places(cells, chain, place):
    ax = pl.single_flow(cells, chain, "early", "clusters", "day", legend_loc=place, show=False)
    ax.figure.draw_without_rendering()
    box, legend = ax.get_window_extent(), ax.get_legend().get_window_extent()
    if place.endswith("left out"):
        assert legend.x1 <= box.x0
    elif place.endswith("out"):
        assert legend.x0 >= box.x1
    else:
        assert box.x0 <= legend.x0 < legend.x1 <= box.x1


def test_no_legend_own_axes_and_saved(cells, chain, tmp_path):
    _, ax = plt.subplots()
    assert pl.single_flow(cells, chain, "early", "clusters", "day", legend_loc="none", ax=ax, title="x") is ax
    assert ax.get_legend() is None
    assert ax.get_title() == "x"
    assert pl.single_flow(cells, chain, "early", "clusters", "day", save=tmp_path / "flow.pdf") is None
    assert (tmp_path / "flow.pdf").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"cluster": "nothing"},
            ValueError,
            r"in `cluster`, found \['nothing'\]. There are \['early', 'middle', 'late'\]",
        ),
        ({"cluster_key": "nothing"}, KeyError, r"adata.obs\['nothing'\]"),
        ({"time_key": "nothing"}, KeyError, r"with the experimental time"),
        ({"time_key": "label"}, TypeError, "Write the time as a number"),
        ({"clusters": ["early"]}, ValueError, "at least 2 clusters"),
        ({"clusters": ["never"]}, ValueError, r"found \['never'\]"),
        ({"time_points": [0.0]}, ValueError, "at least 2 time points"),
        ({"time_points": [0.0, 7.0]}, ValueError, r"`time_points` among \[0.0, 0.5.*found \[7.0\]"),
        ({"legend_loc": "somewhere"}, ValueError, "`legend_loc`"),
        ({"legend_loc": "center out"}, ValueError, "`legend_loc`"),
        ({"xticks_step_size": 0}, ValueError, "`xticks_step_size`"),
    ],
)
def test_single_flow_says_what_is_wrong(unchanged, chain, arguments, error, message):
    usual = {"cluster": "early", "cluster_key": "clusters", "time_key": "day", "show": False}
    with pytest.raises(error, match=message):
        pl.single_flow(unchanged, chain, **{**usual, **arguments})
    assert not plt.get_fignums()


def test_matrix_that_does_not_fit(cells):
    with pytest.raises(ValueError, match=r"shape \(60, 60\), found \(3, 3\)"):
        pl.single_flow(cells, np.eye(3), "early", "clusters", "day")
