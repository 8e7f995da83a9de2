import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba

from jaxvelo import pl

from .conftest import NAMES, make_cells

pytestmark = pytest.mark.any_precision


def drawn_points(ax):
    return ax.collections[0].get_offsets().data


def legend_labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_clusters_with_their_colours_and_a_legend_by_default(unchanged):
    ax = pl.scatter(unchanged, show=False)
    assert ax.get_title() == "clusters"
    assert legend_labels(ax) == NAMES
    assert not ax.axison
    assert ax.get_aspect() == 1.0
    points, colors = drawn_points(ax), ax.collections[0].get_facecolors()
    assert len(points) == 60
    for point, color in zip(points, colors, strict=True):
        cell = np.argmin(((unchanged.obsm["X_umap"] - point) ** 2).sum(axis=1))
        assert to_hex(color) == unchanged.uns["clusters_colors"][unchanged.obs["clusters"].cat.codes.iloc[cell]]


def test_without_clusters_the_first_categories_are_taken(cells):
    del cells.obs["clusters"]
    assert pl.scatter(cells, show=False).get_title() == "day"
    cells.obs = cells.obs[["time"]]
    ax = pl.scatter(cells, show=False)
    assert ax.get_title() == ""
    assert ax.get_legend() is None


def test_numbers_and_genes_have_a_colour_bar(unchanged):
    ax = pl.scatter(unchanged, color="time", show=False)
    drawn = ax.collections[1]  # the first is empty: cells without a value
    assert len(ax.collections[0].get_offsets()) == 0
    np.testing.assert_allclose(np.asarray(drawn.get_array()), np.sort(unchanged.obs["time"]))
    assert len(ax.figure.axes) == 2

    expected = np.sort(unchanged.X.toarray()[:, 2])
    ax = pl.scatter(unchanged, color="gene_2", show=False)
    np.testing.assert_array_equal(np.asarray(ax.collections[1].get_array()), expected)
    ax = pl.scatter(unchanged, color="gene_2", layer="unspliced", show=False)
    np.testing.assert_array_equal(
        np.asarray(ax.collections[1].get_array()), np.sort(unchanged.layers["unspliced"].toarray()[:, 2])
    )


def test_missing_values_are_grey_and_below(cells):
    cells.obs["time"] = cells.obs["time"].where(cells.obs["time"] > 1)
    missing = int(cells.obs["time"].isna().sum())
    ax = pl.scatter(cells, color="time", show=False)
    assert len(ax.collections[0].get_offsets()) == missing > 0
    cells.obs["clusters"] = cells.obs["clusters"].where(cells.obs["clusters"] != "early")
    missing = int(cells.obs["clusters"].isna().sum())
    ax = pl.scatter(cells, show=False)
    assert [to_hex(color) for color in ax.collections[0].get_facecolors()[: missing + 1]] == (
        ["#d3d3d3"] * missing + [to_hex(ax.collections[0].get_facecolors()[missing])]
    )
    assert to_hex(ax.collections[0].get_facecolors()[missing]) != "#d3d3d3"
    assert legend_labels(ax) == ["middle", "late", "NA"]


@pytest.mark.parametrize(("key", "names"), [("flag", ["False", "True"]), ("label", ["group 0", "group 1", "group 2"])])
def test_truth_values_and_strings_are_groups(unchanged, key, names):
    assert legend_labels(pl.scatter(unchanged, color=key, show=False)) == names


def test_names_on_the_data_do_not_overlap(cells):
    cells.obsm["X_umap"][:, 1] = 0.0  # the names of neighbouring groups would touch
    cells.obsm["X_umap"] *= 0.01
    ax = pl.scatter(cells, legend_loc="on data", show=False, figsize=(2, 2))
    assert ax.get_legend() is None
    assert sorted(text.get_text() for text in ax.texts) == sorted(NAMES)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_no_legend(cells):
    for place in ("none", None):
        ax = pl.scatter(cells, legend_loc=place, show=False)
        assert ax.get_legend() is None
        assert not ax.texts


@pytest.mark.parametrize(
    ("place", "beside"), [("right margin", True), ("right", True), ("upper right", True), ("lower left", False)]
)
def test_places_of_the_legend(cells, place, beside):
    """As in scVelo: places on the right are beside the picture, all others are in it."""
    ax = pl.scatter(cells, legend_loc=place, show=False)
    assert legend_labels(ax) == NAMES
    ax.figure.draw_without_rendering()
    legend, picture = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert (legend.x0 > picture.x1) == beside
    assert (legend.x1 < picture.x1) != beside


def test_three_dimensions(unchanged):
    ax = pl.scatter(unchanged, "umap3d", show=False)
    assert ax.name == "3d"
    assert legend_labels(ax) == NAMES
    assert not any(drawn.get_clip_on() for drawn in ax.collections), "corners of the box reach beyond the axes"
    # names on a cloud that can be turned: a legend instead
    assert legend_labels(pl.scatter(unchanged, "umap3d", legend_loc="on data", show=False)) == NAMES


def test_many_columns_are_drawn_in_the_first_two(cells):
    cells.obsm["X_pca"] = np.random.default_rng(0).standard_normal((60, 5))
    ax = pl.scatter(cells, "pca", show=False)
    points = drawn_points(ax)
    np.testing.assert_array_equal(np.sort(points[:, 1]), np.sort(cells.obsm["X_pca"][:, 1]))
    assert len(drawn_points(pl.scatter(cells, "X_pca", show=False))) == 60


def test_cells_without_a_place_are_left_out(cells):
    cells.obsm["X_umap"][:5] = np.nan
    cells.obsm["X_umap"][7, 0] = np.inf
    for place in ("right margin", "on data"):
        assert len(drawn_points(pl.scatter(cells, legend_loc=place, show=False))) == 54


def test_ten_cells(cells):
    assert len(drawn_points(pl.scatter(cells[:10].copy(), show=False))) == 10


def test_views_are_drawn():
    view = make_cells()[10:30]
    pl.scatter(view, show=False)
    assert view.is_view


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        (["k", "w", "c"], ["#000000", "#ffffff", "#00bfbf"]),
        ({"late": "k", "early": "w", "middle": "c"}, ["#ffffff", "#00bfbf", "#000000"]),
        ("Set1", ["#e41a1c", "#377eb8", "#4daf4a"]),
        ("viridis", ["#440154", "#21918c", "#fde725"]),
    ],
)
def test_palettes(unchanged, palette, expected):
    ax = pl.scatter(unchanged, palette=palette, show=False)
    assert [to_hex(handle.get_color()) for handle in ax.get_legend().legend_handles] == expected


def test_stored_colours_that_do_not_fit_are_replaced(cells, caplog):
    for wrong in (["#ff0000"], ["no colour"] * 3):
        cells.uns["clusters_colors"] = wrong
        caplog.clear()
        ax = pl.scatter(cells, show=False)
        colors = [handle.get_color() for handle in ax.get_legend().legend_handles]
        assert len(set(map(to_hex, colors))) == 3
        assert "clusters_colors" in caplog.text
        assert cells.uns["clusters_colors"] == wrong


@pytest.mark.parametrize("n", [1, 10, 20, 45])
def test_default_colours_differ(n):
    cells = make_cells()
    cells.obs["many"] = pd.Categorical.from_codes(np.resize(np.arange(n), 60), [f"{i:02d}" for i in range(n)])
    ax = pl.scatter(cells, color="many", show=False)
    assert len({to_hex(handle.get_color()) for handle in ax.get_legend().legend_handles}) == n


def test_one_colour_for_all(cells):
    ax = pl.scatter(cells, color="tab:red", show=False)
    assert ax.get_legend() is None
    np.testing.assert_allclose(ax.collections[0].get_facecolors()[0], to_rgba("tab:red"))


def test_own_axes_size_and_opacity(cells):
    figure, axes = plt.subplots(1, 2)
    ax = pl.scatter(cells, ax=axes[1], size=7.0, alpha=0.4, title="mine")
    assert ax is axes[1]
    assert ax.get_title() == "mine"
    assert not axes[0].collections
    assert ax.collections[0].get_sizes()[0] == 7.0
    assert ax.collections[0].get_alpha() == 0.4
    assert plt.fignum_exists(figure.number)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"basis": "tsne"}, KeyError, r"adata.obsm\['X_tsne'\].*X_umap"),
        ({"color": "nothing"}, KeyError, "found `'nothing'`.*clusters"),
        ({"color": "gene_1", "layer": "nothing"}, KeyError, "`layer` to be one of .*spliced"),
        ({"palette": ["k"]}, ValueError, "`palette` to hold 3 colours"),
        ({"palette": ["k", "w", "no colour"]}, ValueError, "`palette` to hold 3 colours"),
        ({"palette": {"late": "k"}}, ValueError, r"found none for \['early', 'middle'\]"),
        ({"palette": "nothing"}, ValueError, "`palette` to be colours or a colour map"),
        ({"legend_loc": "somewhere"}, ValueError, "`legend_loc` to be one of .*right margin"),
        ({"save": "picture.nothing"}, ValueError, "`save` to end in one of"),
    ],
)
def test_scatter_says_what_is_wrong(unchanged, arguments, error, message):
    with pytest.raises(error, match=message):
        pl.scatter(unchanged, show=False, **arguments)
    assert not plt.get_fignums()


def test_embeddings_that_cannot_be_drawn(cells):
    cells.obsm["X_line"] = np.zeros((60, 1))
    with pytest.raises(ValueError, match=r"2 or more columns, found shape \(60, 1\)"):
        pl.scatter(cells, "line", show=False)
    cells.obsm["X_lost"] = np.full((60, 2), np.nan)
    with pytest.raises(ValueError, match="found none in 60 cells"):
        pl.scatter(cells, "lost", show=False)


def test_axes_of_the_wrong_kind(cells):
    figure = plt.figure()
    with pytest.raises(ValueError, match="Expected `ax` to be 3d axes"):
        pl.scatter(cells, "umap3d", ax=figure.add_subplot(121))
    with pytest.raises(ValueError, match="Expected `ax` to be 2-D axes"):
        pl.scatter(cells, ax=figure.add_subplot(122, projection="3d"))
