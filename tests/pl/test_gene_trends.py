import copy

import numpy as np
import pandas as pd
import pytest

from jaxvelo import pl, tl
from tests.pl.conftest import same
from tests.trend_cells import FATES, trend_cells

pytestmark = pytest.mark.any_precision


@pytest.fixture(scope="module")
def with_trends():
    cells = trend_cells()
    tl.fit_trends(cells, condition_key="condition")
    tl.fit_trends(cells, ["rises"], layer="counts", distribution="poisson", differences=False, key_added="of_counts")
    return cells


@pytest.fixture
def cells(with_trends):
    """Check at the end that drawing left the cells as they were."""
    before, uns = with_trends.copy(), copy.deepcopy(dict(with_trends.uns))
    yield with_trends
    pd.testing.assert_frame_equal(with_trends.obs, before.obs)
    pd.testing.assert_frame_equal(with_trends.varm["trends"], before.varm["trends"])
    assert with_trends.uns.keys() == uns.keys()
    assert same(dict(with_trends.uns["trends"]["params"]), uns["trends"]["params"])


def line_of(ax, label):
    (line,) = [line for line in ax.lines if line.get_gid() == label]
    return line


def test_curves(cells):
    axes = pl.gene_trends(cells, ["rises", "peaks"], conditions=False, show=False)
    assert [ax.get_title() for ax in axes] == ["rises", "peaks"]
    for lineage, color in zip(FATES, ("#ff0000", "#0000ff"), strict=True):
        wanted = tl.Trends.from_adata(cells).curves("peaks", lineage)
        wanted = wanted[wanted["condition"] == ""]
        line = line_of(axes[1], lineage)
        np.testing.assert_allclose(line.get_ydata(), wanted["value"])
        assert line.get_color() == color
    assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == FATES
    assert len(axes[0].collections[0].get_offsets()) == cells.n_obs


def test_conditions_and_counts(cells):
    ax = pl.gene_trends(cells, "treated", "left", show=False, hide_cells=True, conf_int=0.8)
    assert [line.get_gid() for line in ax.lines] == ["left (control)", "left (drug)"]
    assert len({line.get_linestyle() for line in ax.lines}) == 2
    ax = pl.gene_trends(cells, "rises", "left", key="of_counts", show=False)
    sizes = np.asarray(cells.layers["counts"].sum(axis=1)).ravel()
    values = cells.layers["counts"][:, 0].toarray().ravel() / sizes * sizes.mean()
    np.testing.assert_allclose(np.sort(ax.collections[0].get_offsets()[:, 1]), np.sort(values), rtol=1e-5)


def test_cells_keep_their_size_factors(cells):
    """Those of the fit, not of the cells and genes that are left."""
    whole = pl.gene_trends(cells, "rises", key="of_counts", show=False).collections[0].get_offsets()
    some = cells[::3, ["rises"]].copy()
    part = pl.gene_trends(some, "rises", key="of_counts", show=False).collections[0].get_offsets()
    every = {tuple(point) for point in np.asarray(whole)}
    assert len(part) == some.n_obs
    assert all(tuple(point) in every for point in np.asarray(part))


def test_trends_of_all_cells_beside_later_fates(with_trends):
    cells = with_trends.copy()
    fates = cells.obsm.pop("lineages_fwd")
    tl.fit_trends(cells, ["rises", "falls"], key_added="of_all")
    cells.obsm["lineages_fwd"] = fates
    pl.heatmap(cells, key="of_all", cluster_key="clusters", show_fate_probabilities=True, show=False)
    ax = pl.gene_trends(cells, "rises", key="of_all", same_plot=False, show=False)
    assert [line.get_gid() for line in ax.lines] == ["all cells"]


def test_a_panel_for_each_fate(cells):
    axes = pl.gene_trends(cells, ["rises", "falls"], same_plot=False, conditions=False, show=False)
    assert [ax.get_title() for ax in axes] == [f"{g}, {f}" for g in ("rises", "falls") for f in FATES]
    shades = np.sort(axes[1].collections[1].get_array())
    np.testing.assert_allclose(shades, np.sort(cells.obsm["lineages_fwd"][:, 1]))
    colored = pl.gene_trends(cells, "rises", cell_color="clusters", show=False)
    assert len(np.unique(colored.collections[0].get_facecolors(), axis=0)) == 3


def test_order_of_peaks(cells, tmp_path):
    path = tmp_path / "heat.png"
    table = pl.heatmap(
        cells, ["falls", "peaks", "rises"], cluster_key="clusters", show_fate_probabilities=True, return_genes=True,
        save=path,
    )  # fmt: skip
    assert path.exists()
    assert list(table.columns) == FATES
    assert list(table[FATES[0]]) == ["falls", "peaks", "rises"]
    axes = pl.heatmap(cells, ["rises", "peaks", "falls"], show=False)
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["falls", "peaks", "rises"]
    image = np.stack([ax.images[0].get_array() for ax in axes])
    assert image.min() == 0
    assert image.max() == 1
    axes = pl.heatmap(cells, ["rises", "peaks", "falls"], mode="genes", show=False, cbar=False)
    assert [ax.get_title() for ax in axes] == ["rises", "peaks", "falls"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == FATES


def test_groups_of_genes(cells):
    axes = pl.cluster_trends(cells, lineage="left", n_clusters=2, show=False)
    groups = pl.cluster_trends(cells, lineage="left", n_clusters=2, return_clusters=True, show=False)
    assert [ax.get_title() for ax in axes] == [f"{i}: {n} genes" for i, n in enumerate(np.bincount(groups))]
    ax = pl.cluster_trends(cells, lineage="left", n_clusters=2, clusters=1, show=False)
    assert ax.get_title().startswith("1: ")


def test_errors(cells):
    bare = cells[:, ["rises"]].copy()
    del bare.uns["trends"]
    for draw in (pl.gene_trends, pl.heatmap, pl.cluster_trends):
        with pytest.raises(KeyError, match=r"uns\['trends'\].*fit_trends"):
            draw(bare, "rises")
        with pytest.raises(KeyError, match="absent"):
            draw(cells, "absent", "left")
    with pytest.raises(KeyError, match="lineages"):
        pl.gene_trends(cells, "rises", "up")
    with pytest.raises(ValueError, match="lineage_alpha"):
        pl.gene_trends(cells, "rises", lineage_alpha=2)
    with pytest.raises(ValueError, match="level"):
        pl.gene_trends(cells, "rises", conf_int=2)
    with pytest.raises(ValueError, match="mode"):
        pl.heatmap(cells, mode="cells")
    with pytest.raises(ValueError, match="clusters"):
        pl.cluster_trends(cells, lineage="left", n_clusters=2, clusters=[5])
    with pytest.raises(ValueError, match="one lineage"):
        pl.cluster_trends(cells)
