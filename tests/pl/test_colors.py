"""What `color` means: columns, genes of `X`, layers and `raw`, one value or colour for each cell, several at once."""

import logging

import anndata
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.colors import to_hex, to_rgba_array

from jaxvelo import pl

from .conftest import NAMES

pytestmark = pytest.mark.any_precision


def in_order(adata, ax, what):
    """Values or colours that were drawn, in the order of the cells."""
    points = np.concatenate([c.get_offsets() for c in ax.collections])
    drawn = np.concatenate([what(c) for c in ax.collections if len(c.get_offsets())])
    drawn = np.broadcast_to(drawn, (len(points), *drawn.shape[1:]))  # one colour may be for all
    cells = [np.argmin(((adata.obsm["X_umap"] - point) ** 2).sum(axis=1)) for point in points]
    return drawn[np.argsort(cells)]


def values(adata, **arguments):
    return in_order(adata, pl.scatter(adata, show=False, **arguments), lambda c: np.asarray(c.get_array()))


def colors(adata, **arguments):
    return [
        to_hex(c) for c in in_order(adata, pl.scatter(adata, show=False, **arguments), lambda c: c.get_facecolors())
    ]


def titled(adata, **arguments):
    return pl.scatter(adata, show=False, **arguments).get_title()


@pytest.fixture
def with_raw(cells):
    """Cells whose `raw` has other values, and a gene more."""
    counts = sp.csr_matrix(np.arange(60 * 7).reshape(60, 7).astype(np.float32))
    cells.raw = anndata.AnnData(counts, obs=cells.obs, var=pd.DataFrame(index=[*cells.var_names, "only_raw"]))
    return cells


class TestDefault:
    def test_a_column_of_barcodes_is_no_clustering(self, cells):
        del cells.obs["clusters"]
        cells.obs.insert(0, "barcode", pd.Categorical(cells.obs_names))
        cells.obs.insert(0, "almost", pd.Categorical([f"{i // 2 if i < 20 else i}" for i in range(60)]))
        cells.obs.insert(0, "nothing", pd.Categorical([None] * 60))
        assert titled(cells) == "day"

    def test_clusters_without_a_value(self, cells):
        cells.obs["clusters"] = pd.Categorical([None] * 60, categories=NAMES)
        assert titled(cells) == "day"

    def test_no_clustering_at_all(self, cells):
        cells.obs = cells.obs[["time"]].assign(barcode=pd.Categorical(cells.obs_names))
        assert set(colors(cells)) == {"#808080"}


class TestNames:
    def test_a_column_comes_before_a_gene_and_says_so(self, cells, caplog):
        cells.obs["gene_2"] = np.arange(60.0)
        np.testing.assert_array_equal(values(cells, color="gene_2"), np.arange(60.0))
        assert "`gene_2` is a column of `adata.obs` and a gene: drawing the column" in caplog.text
        caplog.clear()
        np.testing.assert_array_equal(values(cells, color=cells[:, "gene_2"].X), cells.X[:, [2]].toarray().ravel())
        assert not caplog.records

    def test_a_gene_that_occurs_twice(self, cells):
        cells.var_names = ["a", "b", "a", "c", "d", "e"]
        with pytest.raises(ValueError, match=r"`color` once in `adata.var_names`, found \['a'\] several.*make_unique"):
            pl.scatter(cells, color="a", show=False)
        np.testing.assert_array_equal(values(cells, color="b"), cells.X[:, [1]].toarray().ravel())

    def test_a_column_that_occurs_twice(self, cells):
        cells.obs = pd.concat([cells.obs, cells.obs[["time"]]], axis=1)
        for draw in (lambda: pl.scatter(cells, color="time"), lambda: pl.proportions(cells, "time")):
            with pytest.raises(ValueError, match=r"once in `adata.obs.columns`, found \['time'\] several times"):
                draw()

    def test_names_that_are_no_text(self, cells):
        cells.var.index = range(10, 16)
        cells.obs[7] = np.arange(60.0)
        for name in (12, "12", np.int64(12)):
            np.testing.assert_array_equal(values(cells, color=name), cells.X[:, [2]].toarray().ravel())
        for name in (7, "7"):
            np.testing.assert_array_equal(values(cells, color=name), np.arange(60.0))
        with pytest.raises(KeyError, match="found `99`"):
            pl.scatter(cells, color=99, show=False)

    def test_two_names_that_read_the_same(self, cells):
        cells.var.index = pd.Index([5, "5", "a", "b", "c", "d"], dtype=object)
        np.testing.assert_array_equal(values(cells, color=5), cells.X[:, [0]].toarray().ravel())
        cells.var.index = pd.Index([5, 5.0, "a", "b", "c", "d"], dtype=object)
        with pytest.raises(ValueError, match=r"once in `adata.var_names`, found \[5\] several times"):
            pl.scatter(cells, color=5, show=False)


class TestGenes:
    def test_raw_where_the_gene_is_there_only(self, with_raw):
        np.testing.assert_array_equal(values(with_raw, color="only_raw"), with_raw.raw.X[:, [6]].toarray().ravel())
        np.testing.assert_array_equal(values(with_raw, color="gene_1"), with_raw.X[:, [1]].toarray().ravel())

    def test_use_raw(self, with_raw):
        raw, own = with_raw.raw.X[:, [1]].toarray().ravel(), with_raw.X[:, [1]].toarray().ravel()
        np.testing.assert_array_equal(values(with_raw, color="gene_1", use_raw=True), raw)
        np.testing.assert_array_equal(values(with_raw, color="gene_1", use_raw=False), own)
        with pytest.raises(KeyError, match="found `'only_raw'`"):
            pl.scatter(with_raw, color="only_raw", use_raw=False, show=False)

    def test_raw_of_some_of_the_cells(self, with_raw):
        view = with_raw[10:30]
        np.testing.assert_array_equal(values(view, color="only_raw"), with_raw.raw.X[10:30, [6]].toarray().ravel())

    def test_raw_has_no_layers(self, with_raw):
        with pytest.raises(KeyError, match=r"'only_raw' in `adata.var_names` for `layer='spliced'`.*no layers"):
            pl.scatter(with_raw, color="only_raw", layer="spliced", show=False)
        with pytest.raises(ValueError, match="either `layer` or `use_raw=True`"):
            pl.scatter(with_raw, color="gene_1", layer="spliced", use_raw=True, show=False)

    def test_no_raw(self, cells):
        with pytest.raises(ValueError, match=r"`adata.raw` with `use_raw=True`, found none"):
            pl.scatter(cells, color="gene_1", use_raw=True, show=False)

    def test_layer_x(self, cells):
        np.testing.assert_array_equal(values(cells, color="gene_1", layer="X"), values(cells, color="gene_1"))


class TestOneForEachCell:
    @pytest.mark.parametrize(
        "kind",
        [np.asarray, list, tuple, pd.Series, jnp.asarray, lambda v: v[:, None], lambda v: sp.csr_matrix(v[:, None])],
    )
    def test_numbers(self, unchanged, kind):
        numbers = np.arange(60.0, dtype=np.float32)[::-1].copy()
        np.testing.assert_array_equal(values(unchanged, color=kind(numbers)), numbers)
        assert titled(unchanged, c=kind(numbers)) == ""

    def test_a_series_follows_its_index(self, cells):
        series = pd.Series(np.arange(60.0), index=cells.obs_names)
        shuffled = pd.concat([series.sample(frac=1.0, random_state=0), pd.Series({"another": 99.0})])
        np.testing.assert_array_equal(values(cells, color=shuffled), np.arange(60.0))
        with pytest.raises(ValueError, match=r"index of `color` to be the 60 names \['cell_0', .*found 50 like"):
            pl.scatter(cells, color=series[10:], show=False)

    @pytest.mark.parametrize("kind", [list, np.array, pd.Series, lambda c: [to_rgba_array(one)[0] for one in c],
                                      to_rgba_array, lambda c: to_rgba_array(c)[:, :3],
                                      lambda c: np.rint(255 * to_rgba_array(c)[:, :3]).astype(np.uint8)])  # fmt: skip
    def test_colours(self, unchanged, kind):
        wanted = ["#ff0000", "#0000ff", "#00cc66"] * 20
        assert colors(unchanged, color=kind(wanted)) == wanted

    @pytest.mark.parametrize("kind", [list, np.array, pd.Series, pd.Categorical])
    def test_groups(self, unchanged, kind):
        ax = pl.scatter(unchanged, color=kind(["0", "1"] * 30), show=False)
        assert [text.get_text() for text in ax.get_legend().texts] == ["0", "1"]

    def test_truth_values(self, unchanged):
        ax = pl.scatter(unchanged, color=unchanged.obs["time"].to_numpy() > 1, show=False)
        assert [text.get_text() for text in ax.get_legend().texts] == ["False", "True"]

    def test_in_arrows_and_phase_portraits(self, cells):
        cells.layers["Ms"], cells.layers["Mu"] = cells.layers["spliced"], cells.layers["unspliced"]
        wanted = to_rgba_array(["red", "blue"] * 30)
        for draw in (pl.projection_grid, pl.projection_stream, pl.projection_cells):
            ax = draw(cells, color=wanted, show=False)
            assert {to_hex(c) for c in ax.collections[0].get_facecolors()} == {"#ff0000", "#0000ff"}
        ax = pl.phase_portrait(cells, "gene_0", wanted, show=False)
        assert {to_hex(c) for c in ax.collections[0].get_facecolors()} == {"#ff0000", "#0000ff"}

    @pytest.mark.parametrize(
        ("color", "message"),
        [
            (np.arange(59), r"each of the 60 cells, found the shape \(59,\)"),
            ([1.0, 2.0], r"found the shape \(2,\)"),
            (np.ones((60, 2)), r"3 or 4 numbers.*found the shape \(60, 2\)"),
            (np.full((60, 3), 7.5), "found 60 that are none"),
            (pd.Categorical(["a", "b"]), r"found the shape \(2,\)"),
            ([], "at least one name"),
        ],
    )
    def test_what_fits_no_cells(self, unchanged, color, message):
        with pytest.raises(ValueError, match=message):
            pl.scatter(unchanged, color=color, show=False)
        assert not plt.get_fignums()


class TestPanels:
    @pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index])
    def test_a_panel_for_each(self, unchanged, kind):
        axes = pl.scatter(unchanged, color=kind(["clusters", "time", "gene_0"]), show=False)
        assert [ax.get_title() for ax in axes] == ["clusters", "time", "gene_0"]
        assert len(axes[0].figure.axes) == 5  # two have a colour bar

    @pytest.mark.parametrize(
        "draw",
        [
            pl.projection_grid,
            pl.projection_stream,
            pl.projection_cells,
            lambda cells, **kw: pl.random_walks(cells, [np.arange(9)], **kw),
        ],
    )
    def test_in_every_picture_of_cells(self, unchanged, draw, tmp_path):
        axes = draw(unchanged, c=["clusters", unchanged.obs["time"].to_numpy()], title=["one", "two"], show=False)
        assert [ax.get_title() for ax in axes] == ["one", "two"]
        assert all(len(ax.collections) > 1 for ax in axes)
        assert draw(unchanged, color=["clusters"], save=tmp_path / "a.png") is None
        assert (tmp_path / "a.png").exists()

    def test_rows_of_panels(self, cells):
        axes = pl.scatter(cells, color=["clusters", "time", "day"], ncols=2, show=False)
        places = [ax.get_subplotspec() for ax in axes]
        assert [(p.rowspan.start, p.colspan.start) for p in places] == [(0, 0), (0, 1), (1, 0)]

    def test_a_list_of_one(self, cells):
        (ax,) = pl.scatter(cells, color=["time"], show=False)
        assert ax.get_title() == "time"
        _, own = plt.subplots()
        assert pl.scatter(cells, color=["time"], ax=own) == [own]

    def test_a_tuple_that_is_a_colour(self, cells):
        assert set(colors(cells, color=(1.0, 0.0, 0.0))) == {"#ff0000"}
        assert set(colors(cells, color=[0, 0, 1])) == {"#0000ff"}

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"color": ["clusters", "nothing"]}, KeyError, "found `'nothing'`"),
            ({"color": ["clusters", "time"], "title": ["a"]}, ValueError, "each of the 2 panels"),
            ({"color": ["clusters", "time"], "ncols": 0}, ValueError, "`ncols` to be an integer of at least 1"),
        ],
    )
    def test_say_what_is_wrong(self, unchanged, arguments, error, message):
        with pytest.raises(error, match=message):
            pl.scatter(unchanged, show=False, **arguments)
        assert not plt.get_fignums()

    def test_not_on_one_axes(self, cells):
        _, ax = plt.subplots()
        with pytest.raises(ValueError, match="one thing to colour by for `ax`, found 2"):
            pl.scatter(cells, color=["clusters", "time"], ax=ax)


class TestGroups:
    def test_only_some(self, cells, caplog):
        ax = pl.scatter(cells, groups=["late", "never"], show=False)
        assert [text.get_text() for text in ax.get_legend().texts] == ["late"]
        assert "Leaving out ['never'] of `groups`" in caplog.text
        n_late = int((cells.obs["clusters"] == "late").sum())
        shown = [to_hex(c) for c in ax.collections[0].get_facecolors()]
        assert shown.count("#0000ff") == n_late
        assert shown.count("#d3d3d3") == 60 - n_late

    def test_one(self, cells):
        assert [t.get_text() for t in pl.scatter(cells, groups="early", show=False).get_legend().texts] == ["early"]

    def test_none_of_them(self, cells):
        with pytest.raises(
            ValueError,
            match=r"values of `adata.obs\['clusters'\]` in `groups`, found \['x', 'y'\]. There are \['early'",
        ):
            pl.scatter(cells, groups=["x", "y"], show=False)

    def test_numbers_as_names(self, cells):
        cells.obs["leiden"] = cells.obs["clusters"].cat.codes.astype("category")
        for groups in (0, [0], "0", ["0"]):
            ax = pl.scatter(cells, color="leiden", groups=groups, show=False)
            assert [text.get_text() for text in ax.get_legend().texts] == ["0"]


class TestNumbers:
    def test_no_value_in_any_cell(self, cells, caplog):
        cells.obs["latent_time"] = np.nan
        ax = pl.scatter(cells, color="latent_time", show=False)
        assert {to_hex(c) for c in ax.collections[0].get_facecolors()} == {"#d3d3d3"}
        assert len(ax.figure.axes) == 1, "a colour bar of nothing"
        assert "`latent_time` has no finite value in any cell" in caplog.text

    def test_no_group_in_any_cell(self, cells, caplog):
        cells.obs["clusters"] = pd.Categorical([None] * 60, categories=NAMES)
        ax = pl.scatter(cells, color="clusters", show=False)
        assert {to_hex(c) for c in ax.collections[0].get_facecolors()} == {"#d3d3d3"}
        assert "`clusters` is missing in all cells" in caplog.text
        for draw in (
            lambda: pl.proportions(cells, "clusters"),
            lambda: pl.single_flow(cells, np.eye(60), "early", "clusters", "day"),
        ):
            with pytest.raises(ValueError, match=r"groups in `adata.obs\['clusters'\]`, found none"):
                draw()

    def test_numbers_that_lost_their_type(self, cells):
        cells.obs["score"] = pd.Series([None, *np.arange(59.0)], index=cells.obs_names, dtype=object)
        ax = pl.scatter(cells, color="score", show=False)
        assert ax.get_legend() is None
        np.testing.assert_array_equal(np.asarray(ax.collections[1].get_array()), np.arange(59.0))

    def test_limits(self, cells):
        numbers = np.arange(60.0)
        for arguments, limits in (
            ({}, (0.0, 59.0)),
            ({"vmin": 10, "vmax": 20.0}, (10.0, 20.0)),
            ({"perc": [10, 90]}, (5.9, 53.1)),
            ({"perc": 90}, (0.0, 53.1)),
            ({"perc": 10}, (5.9, 59.0)),
        ):
            ax = pl.scatter(cells, color=numbers, show=False, **arguments)
            assert ax.collections[1].get_clim() == pytest.approx(limits)

    def test_order(self, cells):
        numbers = np.arange(60.0)
        on_top = np.asarray(pl.scatter(cells, color=numbers, show=False).collections[1].get_array())
        anyhow = np.asarray(pl.scatter(cells, color=numbers, sort_order=False, show=False).collections[1].get_array())
        np.testing.assert_array_equal(on_top, numbers)
        np.testing.assert_array_equal(np.sort(anyhow), numbers)
        assert not np.array_equal(anyhow, numbers)

    def test_no_colour_bar(self, cells):
        assert len(pl.scatter(cells, color="time", colorbar=False, show=False).figure.axes) == 1

    def test_colour_maps(self, cells):
        for name in ("cmap", "color_map"):
            ax = pl.scatter(cells, color="time", show=False, **{name: "magma"})
            assert ax.collections[1].get_cmap() == plt.get_cmap("magma")
        ax = pl.scatter(cells, color="time", cmap=["red", "blue"], show=False)
        assert to_hex(ax.collections[1].get_cmap()(0.0)) == "#ff0000"


def test_without_colours_as_in_cellrank(cells):
    """Nothing is coloured, but the cells are there."""
    assert set(colors(cells, color="none")) == {"#d3d3d3"}


def test_warnings_are_given_once(cells, caplog):
    cells.layers["Ms"], cells.layers["Mu"] = cells.layers["spliced"], cells.layers["unspliced"]
    cells.uns["clusters_colors"] = ["red"]
    with caplog.at_level(logging.WARNING):
        pl.phase_portrait(cells, ["gene_0", "gene_1", "gene_2"], "clusters", show=False)
        pl.proportions(cells, "clusters", show=False)
    assert len(caplog.records) == 1
