import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import FancyArrowPatch

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def stream(ax):
    (lines,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    heads = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return lines, heads


def test_lines_follow_the_arrows(unchanged):
    ax = pl.projection_stream(unchanged, show=False)
    lines, heads = stream(ax)
    segments = np.array([segment[[0, -1]] for segment in lines.get_segments()])
    steps = segments[:, 1] - segments[:, 0]
    middles = segments.mean(axis=1)
    moved = np.linalg.norm(steps, axis=1) > 0
    expected = np.stack([np.ones(len(middles)), np.cos(middles[:, 0])], axis=1)  # how the cells were made
    cosine = (
        (steps * expected).sum(axis=1) / np.linalg.norm(steps, axis=1).clip(1e-12) / np.linalg.norm(expected, axis=1)
    )
    assert np.mean(cosine[moved]) > 0.97
    assert heads
    assert ax.get_title() == "clusters"
    assert {text.get_text() for text in ax.texts} == {"early", "middle", "late"}


def test_lines_are_where_the_cells_are(cells):
    lines, _ = stream(pl.projection_stream(cells, show=False))
    points = np.concatenate(lines.get_segments())
    distance = np.linalg.norm(points[:, None] - cells.obsm["X_umap"][None], axis=-1).min(axis=1)
    assert distance.max() < 0.2  # of 3


def test_all_cells_stay_in_the_picture(cells):
    ax = pl.projection_stream(cells, show=False)
    for low_high, values in ((ax.get_xlim(), cells.obsm["X_umap"][:, 0]), (ax.get_ylim(), cells.obsm["X_umap"][:, 1])):
        assert low_high[0] < values.min()
        assert values.max() < low_high[1]


def test_fast_lines_are_thick(cells):
    cells.obsm["T_fwd_umap"][30:] *= 5.0
    lines, _ = stream(pl.projection_stream(cells, linewidth=2.0, show=False))
    middles = np.array([segment.mean(axis=0) for segment in lines.get_segments()])
    widths = np.asarray(lines.get_linewidth())
    border = cells.obsm["X_umap"][30, 0]
    assert widths[middles[:, 0] > border + 0.3].mean() > 1.5 * widths[middles[:, 0] < border - 0.3].mean()
    assert widths.max() <= 3.0 + 1e-9


def test_options(cells):
    few, _ = stream(pl.projection_stream(cells, density=0.5, show=False))
    many, _ = stream(pl.projection_stream(cells, density=3.0, arrow_color="red", show=False))
    assert sum(map(len, many.get_segments())) > sum(map(len, few.get_segments()))
    assert tuple(many.get_edgecolor()[0]) == (1.0, 0.0, 0.0, 1.0)
    cells.obsm["T_fwd_umap"][:20] *= 1e-3
    slow = cells.obsm["X_umap"][15, 0]
    cut, _ = stream(pl.projection_stream(cells, cutoff_perc=40.0, show=False))
    whole, _ = stream(pl.projection_stream(cells, cutoff_perc=0.0, show=False))
    assert np.concatenate(cut.get_segments())[:, 0].min() > slow - 0.3
    assert np.concatenate(whole.get_segments())[:, 0].min() < slow - 0.3


def test_three_dimensions_have_the_arrows_of_the_grid(cells):
    def arrows(ax):
        return np.array(ax.collections[1]._segments3d)

    stream, grid = (draw(cells, "umap3d", show=False) for draw in (pl.projection_stream, pl.projection_grid))
    np.testing.assert_array_equal(arrows(stream), arrows(grid))
    smoother = pl.projection_stream(cells, "umap3d", smooth=0.8, show=False)
    assert len(arrows(smoother)) > len(arrows(grid))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"cutoff_perc": 100.0}, "`cutoff_perc` to be at least 0"), ({"linewidth": 0.0}, "`linewidth` to be positive")],
)
def test_stream_says_what_is_wrong(cells, arguments, message):
    with pytest.raises(ValueError, match=message):
        pl.projection_stream(cells, show=False, **arguments)
