import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.legend import Legend
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from mpl_toolkits.mplot3d.proj3d import proj_transform

from jaxvelo import pl

pytestmark = pytest.mark.any_precision

WALKS = [np.array([0, 5, 20, 40]), np.array([1, 2, 59]), np.array([7])]


def lines_of(ax, kind=LineCollection):
    return [artist for artist in ax.collections if isinstance(artist, kind)]


def test_one_collection_with_every_step(unchanged):
    ax = pl.random_walks(unchanged, WALKS, show=False)
    (lines,) = lines_of(ax)
    place = unchanged.obsm["X_umap"]
    expected = [place[[a, b]] for walk in WALKS for a, b in itertools.pairwise(walk)]
    np.testing.assert_allclose(np.array(lines.get_segments()), np.array(expected))
    np.testing.assert_allclose(lines.get_array(), [0.0, 0.5, 1.0, 0.0, 1.0])
    assert lines.get_clim() == (0.0, 1.0)
    assert lines.get_cmap() == colormaps["gnuplot"]
    assert lines.get_alpha() == 0.3


def test_starts_and_stops_are_marked(unchanged):
    ax = pl.random_walks(unchanged, WALKS, cmap="viridis", show=False)
    starts, stops = ax.collections[-2:]
    place = unchanged.obsm["X_umap"]
    np.testing.assert_allclose(starts.get_offsets(), place[[0, 1, 7]])
    np.testing.assert_allclose(stops.get_offsets(), place[[7, 40, 59]])
    np.testing.assert_allclose(starts.get_facecolor()[0], colormaps["viridis"](0.0))
    np.testing.assert_allclose(stops.get_facecolor()[0], colormaps["viridis"](1.0))


@pytest.mark.parametrize("place", [None, "lower left"])
def test_both_legends(unchanged, place):
    ax = pl.random_walks(unchanged, WALKS, ixs_legend_loc=place, show=False)
    legends = {legend.get_gid(): [text.get_text() for text in legend.get_texts()] for legend in ax.findobj(Legend)}
    assert legends == {"groups": ["early", "middle", "late"], "ends": ["start", "stop"]}


def test_legends_are_not_cut_off(cells):
    ax = pl.random_walks(cells, WALKS, show=False)
    ax.figure.draw_without_rendering()
    box = ax.figure.get_tightbbox().extents * ax.figure.dpi
    for legend in ax.findobj(Legend):
        assert legend.get_window_extent().x1 <= box[2] + 1


def test_no_legend_of_the_ends(cells):
    ax = pl.random_walks(cells, WALKS, ixs_legend_loc="none", show=False)
    assert [legend.get_gid() for legend in ax.findobj(Legend)] == ["groups"]
    ax = pl.random_walks(cells, WALKS, legend_loc="none", show=False)
    assert [legend.get_gid() for legend in ax.findobj(Legend)] == ["ends"]


def test_three_dimensions(unchanged):
    ax = pl.random_walks(unchanged, WALKS, "umap3d", show=False)
    assert ax.name == "3d"
    assert len(lines_of(ax, Line3DCollection)) == 1
    ax.figure.draw_without_rendering()


def test_marks_in_three_dimensions_are_not_among_the_cells(cells):
    """One cell stands before another along the line of sight, and does not hide the mark on it."""
    ax = pl.scatter(cells, "umap3d", show=False)
    eye = np.linalg.inv(ax.get_proj()) @ [0, 0, -1, 1]
    cells.obsm["X_umap3d"][0] = 0.5 * (cells.obsm["X_umap3d"][40] + eye[:3] / eye[3])
    ax = pl.random_walks(cells, [np.array([20, 40])], "umap3d", color="blue", alpha=1.0, size=400, show=False)
    ax.figure.canvas.draw()
    x, y, _ = proj_transform(*cells.obsm["X_umap3d"][40], ax.get_proj())
    column, row = ax.transData.transform((x, y)).astype(int)
    image = np.asarray(ax.figure.canvas.buffer_rgba())
    np.testing.assert_array_equal(image[len(image) - 1 - row, column, :3], [255, 255, 0])


def test_visits_to_cells_without_a_place_are_left_out(cells):
    cells.obsm["X_umap"][[5, 7]] = np.nan
    ax = pl.random_walks(cells, WALKS, show=False)
    (lines,) = lines_of(ax)
    assert len(lines.get_segments()) == 4
    np.testing.assert_allclose(ax.collections[-2].get_offsets(), cells.obsm["X_umap"][[0, 1]])
    pl.random_walks(cells, [np.array([5, 7])], show=False).figure.draw_without_rendering()


def test_saved_and_own_axes(cells, tmp_path):
    assert pl.random_walks(cells, WALKS, save=tmp_path / "walks.png") is None
    assert (tmp_path / "walks.png").stat().st_size > 1000
    _, ax = plt.subplots()
    assert pl.random_walks(cells, WALKS, ax=ax, linewidth=3.0) is ax
    assert lines_of(ax)[0].get_linewidth()[0] == 3.0


@pytest.mark.parametrize(
    ("walks", "error", "message"),
    [
        ([], ValueError, "at least one walk"),
        ([np.array([0, 60])], IndexError, r"`walks\[0\]` to visit cells 0 to 59, found 0 to 60"),
        ([np.array([0]), np.array([-1])], IndexError, r"`walks\[1\]`"),
        ([np.array([0.0, 1.0])], ValueError, "array of integers.*float64"),
        ([np.array([], dtype=int)], ValueError, r"non-empty.*found shape \(0,\)"),
        ([np.zeros((2, 2), dtype=int)], ValueError, r"found shape \(2, 2\)"),
        ([np.resize([0, 1], 60)], ValueError, r"all of them 0 or 1. If this is a mask, pass `np.flatnonzero"),
        ([np.ones(60, dtype=bool)], ValueError, "array of integers.*bool"),
    ],
)
def test_walks_that_cannot_be_drawn(unchanged, walks, error, message):
    with pytest.raises(error, match=message):
        pl.random_walks(unchanged, walks, show=False)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ixs_legend_loc": "somewhere"}, ValueError, "`ixs_legend_loc`"),
        ({"cmap": "nothing"}, ValueError, "`cmap` to be a colour map"),
        ({"basis": "tsne"}, KeyError, r"adata.obsm\['X_tsne'\]"),
        ({"legend_loc": "somewhere"}, ValueError, "`legend_loc`"),
    ],
)
def test_walks_say_what_is_wrong(cells, arguments, error, message):
    with pytest.raises(error, match=message):
        pl.random_walks(cells, WALKS, show=False, **arguments)
