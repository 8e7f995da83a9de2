"""Names of groups: places in the words of CellRank, scVelo and matplotlib, many groups, names that do not overlap."""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.legend import Legend

from jaxvelo import pl
from jaxvelo.pl._legend import parted

from .conftest import NAMES, make_cells

pytestmark = pytest.mark.any_precision

OUTSIDE = {
    "right margin": "right",
    "right": "right",
    "right out": "right",
    "upper right": "right",
    "lower right": "right",
    "center right": "right",
    "upper right out": "right",
    "top right out": "right",
    "bottom right out": "right",
    "center right out": "right",
    "left margin": "left",
    "left out": "left",
    "upper left out": "left",
    "bottom left out": "left",
    "center left out": "left",
    "top center out": "above",
    "upper center out": "above",
    "lower center out": "below",
    "bottom center out": "below",
}
INSIDE = ["best", "upper left", "top left", "lower left", "bottom", "center", "upper center", "lower center in",
          "upper right in", "bottom right in", 0, 2, 6, (0.1, 0.2)]  # fmt: skip


def boxes(ax, legend):
    ax.figure.draw_without_rendering()
    return ax.get_window_extent(), legend.get_window_extent()


def check_place(ax, legend, side):
    picture, box = boxes(ax, legend)
    if side == "right":
        assert box.x0 > picture.x1
    elif side == "left":
        assert box.x1 < picture.x0
    elif side == "above":
        assert box.y0 > picture.y1
        title = ax.title.get_window_extent()
        assert not title.overlaps(box)
    elif side == "below":
        assert box.y1 < picture.y0
    else:
        assert picture.x0 - 1 <= box.x0 < box.x1 <= picture.x1 + 1
        assert picture.y0 - 1 <= box.y0 < box.y1 <= picture.y1 + 1


def is_high(place):
    return "upper" in place or "top" in place


@pytest.mark.parametrize("place", [*OUTSIDE, *INSIDE])
def test_places(cells, place):
    ax = pl.scatter(cells, legend_loc=place, show=False)
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.texts] == NAMES
    check_place(ax, legend, OUTSIDE.get(place, "inside"))
    picture, box = boxes(ax, legend)
    if OUTSIDE.get(place) in ("left", "right"):
        middle = 0.5 * (box.y0 + box.y1) - 0.5 * (picture.y0 + picture.y1)
        if "lower" in place or "bottom" in place:
            assert middle < -1
        elif "center" in place:
            assert abs(middle) < 2
        else:
            assert middle > 1


@pytest.mark.parametrize("place", [False, None, "none"])
def test_no_place(cells, place):
    assert pl.scatter(cells, legend_loc=place, show=False).get_legend() is None


@pytest.mark.parametrize(
    "place", ["left", "center out", "center center out", "best out", "right outside", "", "on", 11, 3.5, ["right"]]
)
def test_what_is_no_place(cells, place):
    with pytest.raises(ValueError, match=r"`legend_loc` to be one of.*' out'.*found"):
        pl.scatter(cells, legend_loc=place, show=False)
    assert not plt.get_fignums()


@pytest.mark.parametrize("place", ["top right out", "bottom left out", "lower right", "best"])
def test_both_legends_of_walks(cells, place):
    ax = pl.random_walks(cells, [np.arange(9)], ixs_legend_loc=place, legend_loc="upper left", show=False)
    legends = {legend.get_gid(): legend for legend in ax.findobj(Legend)}
    assert set(legends) == {"groups", "ends"}
    side = "right" if place.startswith("top") else "left" if place.startswith("bottom") else "inside"
    check_place(ax, legends["ends"], side)


@pytest.mark.parametrize("place", ["right out", "left out", "bottom center out", "upper right"])
def test_places_beside_phase_portraits(cells, place):
    cells.layers["Ms"], cells.layers["Mu"] = cells.layers["spliced"], cells.layers["unspliced"]
    axes = pl.phase_portrait(cells, ["gene_0", "gene_1"], legend_loc=place, show=False)
    figure = axes[0].figure
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, panels = legend.get_window_extent(), [ax.get_window_extent() for ax in axes]
    if "left" in place:
        assert box.x1 < panels[0].x0
    elif "bottom" in place:
        assert box.y1 < panels[0].y0
    else:
        assert box.x0 > panels[1].x1


def test_looks_of_the_names(cells):
    legend = pl.scatter(cells, legend_fontsize=7, legend_fontweight="bold", show=False).get_legend()
    assert {(text.get_fontsize(), text.get_fontweight()) for text in legend.texts} == {(7.0, "bold")}
    ax = pl.scatter(cells, legend_loc="on data", legend_fontsize=6, legend_fontweight="normal", legend_fontoutline=4,
                    show=False)  # fmt: skip
    assert {(text.get_fontsize(), text.get_fontweight()) for text in ax.texts} == {(6.0, "normal")}


def grouped(n_groups, n=2000, crowded=1.0):
    rng = np.random.default_rng(0)
    cells = make_cells(n)
    codes = np.resize(np.arange(n_groups), n)
    cells.obs["many"] = pd.Categorical.from_codes(codes, [f"cluster {i}" for i in range(n_groups)])
    cells.obsm["X_umap"] = crowded * rng.standard_normal((n_groups, 2))[codes] + 0.1 * rng.standard_normal((n, 2))
    cells.obsm["T_fwd_umap"] = rng.standard_normal((n, 2))
    cells.layers["Ms"], cells.layers["Mu"] = cells.layers["spliced"], cells.layers["unspliced"]
    return cells


@pytest.mark.parametrize("n_groups", [30, 60, 100, 120])
def test_many_names_on_the_data_do_not_overlap(n_groups):
    ax = pl.scatter(grouped(n_groups), color="many", legend_loc="on data", show=False)
    assert len(ax.texts) == n_groups
    ax.figure.draw_without_rendering()
    found = np.array([text.get_window_extent().extents for text in ax.texts])
    low, high = found[:, None, :2], found[:, None, 2:]
    overlap = ((low < found[None, :, 2:] - 0.5) & (found[None, :, :2] + 0.5 < high)).all(axis=-1)
    assert overlap.sum() == n_groups, "each overlaps with itself only"


@given(st.integers(0, 40), st.floats(0, 30), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_boxes_are_parted(n, spread, seed):
    rng = np.random.default_rng(seed)
    centers = spread * rng.standard_normal((n, 2))
    sizes = rng.uniform(1, 10, (n, 2))
    order = rng.permutation(n)
    moved = parted(centers, sizes, order)
    apart = np.abs(moved[:, None] - moved) >= 0.5 * (sizes[:, None] + sizes) * (1 - 1e-6)
    assert (apart.any(axis=-1) | np.eye(n, dtype=bool)).all()
    if n:
        np.testing.assert_array_equal(moved[order[0]], centers[order[0]])


def test_boxes_that_are_apart_stay():
    centers = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 3.0]])
    np.testing.assert_array_equal(parted(centers, np.full((3, 2), [4.0, 2.0]), np.arange(3)), centers)


DRAW = {
    "on data": lambda cells, **kw: pl.scatter(cells, color="many", legend_loc="on data", **kw),
    "right margin": lambda cells, **kw: pl.scatter(cells, color="many", **kw),
    "inside": lambda cells, **kw: pl.scatter(cells, color="many", legend_loc="upper left", **kw),
    "grid": lambda cells, **kw: pl.projection_grid(cells, color="many", **kw),
    "walks": lambda cells, **kw: pl.random_walks(cells, [np.arange(9)], color="many", **kw),
    "phase": lambda cells, **kw: pl.phase_portrait(cells, "gene_0", "many", **kw),
    "proportions": lambda cells, **kw: pl.proportions(cells, "many", **kw),
}


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("n_groups", [100, 600])
def test_hundreds_of_groups(name, n_groups, caplog, tmp_path):
    """They are drawn, in a figure of common size, and say where there are no names."""
    cells = grouped(n_groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as axes that have no room left
        ax = DRAW[name](cells, show=False)
        ax.figure.draw_without_rendering()
    width, height = ax.figure.get_size_inches()
    assert width <= 13
    assert height <= (21 if name == "proportions" else 5)
    box = ax.get_window_extent()
    assert min(box.width, box.height) > 1.5 * ax.figure.dpi
    assert ("names" in caplog.text) == (n_groups == 600)
    DRAW[name](cells, save=tmp_path / "a.png", dpi=60)
    assert max(plt.imread(tmp_path / "a.png").shape) < 1500


def test_time_is_not_quadratic_in_the_groups():
    """In processor time, as others may use the machine; on one core, as matplotlib does."""

    def seconds(n_groups):
        cells = grouped(n_groups)
        start = time.process_time()
        pl.scatter(cells, color="many", legend_loc="on data", show=False).figure.draw_without_rendering()
        return time.process_time() - start

    seconds(3)
    assert min(seconds(100) for _ in range(2)) < 2.0
    assert min(seconds(600) for _ in range(2)) < 2.0


def test_a_legend_without_room_is_left_out(cells, caplog):
    cells.obs["many"] = pd.Categorical([f"a rather long name of group {i % 20}" for i in range(60)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = pl.scatter(cells, color="many", figsize=(3, 3), show=False)
        ax.figure.draw_without_rendering()
    assert ax.get_legend() is None
    assert "No room for the legend of the 20 groups of `many`" in caplog.text
    wide = pl.scatter(cells, color="many", show=False)
    assert wide.get_legend() is not None
    wide.figure.draw_without_rendering()
    assert wide.get_window_extent().width > 3 * wide.figure.dpi


def test_flow_between_hundreds_of_clusters(caplog):
    cells = grouped(150)
    chain = np.full((2000, 2000), 1 / 2000)
    ax = pl.single_flow(cells, chain, "cluster 3", "many", "day", show=False)
    assert ax.get_legend() is None
    assert "Drawing without a legend: 150 clusters" in caplog.text
    few = pl.single_flow(
        cells, chain, "cluster 3", "many", "day", clusters=[f"cluster {i}" for i in range(100)], show=False
    )
    assert len(few.get_legend().texts) == 100
    few.figure.draw_without_rendering()
    assert few.get_window_extent().width > 4 * few.figure.dpi
