import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo import tl
from jaxvelo.trends import evaluate_trends, fit_trends
from tests.trend_cells import FATES, GENES, trend_cells


@pytest.fixture
def cells():
    return trend_cells()


@pytest.fixture(scope="module")
def fitted():
    """Cells with trends in each condition."""
    cells = trend_cells()
    return cells, tl.fit_trends(cells, condition_key="condition")


def row(table, **which):
    for name, value in which.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_tables(fitted):
    _, trends = fitted
    assert trends.lineages == FATES
    assert trends.conditions == ["control", "drug"]
    table = trends.to_frame()
    assert len(table) == 6 * 2 * 3
    assert list(table.columns[:3]) == ["gene", "lineage", "condition"]
    for lineage in FATES:
        for gene in ("rises", "falls", "peaks"):
            assert row(table, gene=gene, lineage=lineage, condition="").qval < 1e-6
        assert row(table, gene="flat", lineage=lineage, condition="").pval > 0.01
        assert row(table, gene="peaks", lineage=lineage, condition="").peak_time == pytest.approx(0.6, abs=0.06)
        assert row(table, gene="rises", lineage=lineage, condition="").amplitude == pytest.approx(2, abs=0.3)
        assert row(table, gene="rises", lineage=lineage, condition="").scale == pytest.approx(0.16, abs=0.05)
    assert table["converged"].all()
    compared = trends.differences_to_frame()
    between = compared[compared["condition"] == ""].set_index("gene")
    assert (between["lineage"] == FATES[0]).all()
    assert (between["other"] == FATES[1]).all()
    assert between["qval"].idxmin() == "left/right"
    assert between["qval"]["left/right"] < 1e-6
    for _, within in compared[compared["condition"] == "drug"].groupby("lineage"):
        assert within.set_index("gene")["qval"].idxmin() == "treated"
    assert "Trends of 6 genes along 'latent_time'" in repr(trends)


def test_same_as_of_arrays(fitted):
    cells, trends = fitted
    curves = trends.curves("peaks", FATES[0], n_points=30, level=0.9)
    curves = curves[curves["condition"] == ""]
    of = trends.ranges[[0]]
    pure = fit_trends(cells.X, cells.obs["latent_time"], cells.obsm["lineages_fwd"][:, :1], of)
    found = evaluate_trends(pure.coefficients[0], pure.covariances[0], curves["time"], tuple(of[0]), level=0.9)
    for name in ("lower", "upper", "slope", "slope_lower"):
        np.testing.assert_allclose(curves[name], getattr(found, name)[2], rtol=1e-5, atol=1e-5)
    assert (curves["time"].iloc[0], curves["time"].iloc[-1]) == tuple(of[0])


def test_written_and_read(fitted, tmp_path):
    cells, trends = fitted
    cells.write_h5ad(tmp_path / "cells.h5ad")
    stored = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for some in (stored, stored[:, ["peaks", "flat"]].copy()):
        again = tl.Trends.from_adata(some)
        wanted = trends.to_frame()
        wanted = wanted[wanted["gene"].isin(some.var_names)].reset_index(drop=True)
        pd.testing.assert_frame_equal(again.to_frame(), wanted)
        pd.testing.assert_frame_equal(
            again.curves("peaks"), trends.curves("peaks"), check_exact=False, rtol=1e-3, atol=1e-4
        )
        assert again.parameters["condition_key"] == "condition"
    with pytest.raises(KeyError, match=r"uns\['other'\].*fit_trends"):
        tl.Trends.from_adata(stored, "other")
    del stored.uns["trends"]["curves"]
    with pytest.raises(ValueError, match="something else"):
        tl.Trends.from_adata(stored)


def test_counts(cells):
    given = {"layer": "counts", "size_factors": "size", "differences": False, "key_added": "of_counts"}
    trends = tl.fit_trends(cells, ["rises", "peaks"], lineages=FATES[0], distribution="nb", link="log", **given)
    assert list(trends.genes) == ["rises", "peaks"]
    assert list(tl.Trends.from_adata(cells, "of_counts").genes) == ["rises", "peaks"]
    assert np.isnan(cells.varm["of_counts_coefficients"][1]).all()
    curve = trends.curves("rises")
    np.testing.assert_allclose(curve["value"], np.exp(2 * curve["time"]), rtol=0.25)
    assert not len(trends.differences_to_frame())
    assert row(trends.to_frame(), gene="rises").dispersion < 0.2


def test_left_out(cells, logged):
    """Cells without a time, and what lies outside a given range."""
    whole = tl.fit_trends(cells.copy(), "rises", time_range=(0.2, 0.8), differences=False)
    cells.obs.iloc[:20, cells.obs.columns.get_loc("latent_time")] = np.nan
    logged()
    part = tl.fit_trends(cells, "rises", time_range={FATES[0]: (0.2, 0.8), FATES[1]: 0.8}, differences=False)
    assert "Leaving out 20 of 240 cells" in logged()
    np.testing.assert_allclose(part.coefficients[0], whole.coefficients[0], rtol=1e-5)
    np.testing.assert_array_equal(part.ranges[:, 1], 0.8)
    assert part.ranges[1, 0] < 0.2


def test_without_fates_and_few_days(cells, logged):
    """Real time, of which there are few points, is a time as any."""
    del cells.obsm["lineages_fwd"]
    cells.obs["day"] = pd.Categorical(np.floor(4 * cells.obs["latent_time"]))
    trends = tl.fit_trends(cells, time_key="day")
    assert "there are no fates" in logged()
    assert trends.lineages == ["all cells"]
    curve = trends.curves("rises", n_points=4)
    np.testing.assert_allclose(curve["value"], [0.25, 0.75, 1.25, 1.75], atol=0.15)


def set_to(place, value):
    def change(cells):
        matrix = cells.X.toarray() if place == "X" else cells.layers[place].toarray()
        matrix[3, 1] = value
        if place == "X":
            cells.X = matrix
        else:
            cells.layers[place] = matrix

    return change


def few_cells(cells):
    cells.obsm["lineages_fwd"][:, 0] = 1e-9
    cells.obsm["lineages_fwd"][[100, 200], 0] = 1


def one_time(cells):
    cells.obsm["lineages_fwd"][:, 0] = 1e-12
    cells.obsm["lineages_fwd"][200:, 0] = 1
    cells.obs.iloc[200:, cells.obs.columns.get_loc("latent_time")] = 0.8


@pytest.mark.any_precision
@pytest.mark.parametrize(
    ("change", "given", "error", "message"),
    [
        (None, {"time_key": "age"}, KeyError, r"obs\['age'\].*time_key"),
        (lambda c: c.obs.__setitem__("latent_time", 1.0), {}, ValueError, "at least two times"),
        (None, {"lineages": "up"}, KeyError, "lineages"),
        (None, {"genes": ["absent"]}, KeyError, "absent"),
        (None, {"layer": "absent"}, KeyError, "absent"),
        (lambda c: c.obsm["lineages_fwd"].__setitem__((slice(None), 0), 0), {}, ValueError, r"none for \['left'\]"),
        (lambda c: c.obsm["lineages_fwd"].__setitem__((slice(5, None), 0), 0), {}, ValueError, "n_knots=10.*found 5"),
        (set_to("X", np.nan), {}, ValueError, "finite values"),
        (set_to("counts", -1), {"layer": "counts", "distribution": "nb"}, ValueError, "negative"),
        (set_to("counts", 0.5), {"layer": "counts", "distribution": "poisson"}, ValueError, "integers"),
        (None, {"distribution": "gamma"}, ValueError, "distribution"),
        (None, {"link": "log"}, ValueError, "link='identity'"),
        (None, {"criterion": "AIC"}, ValueError, "criterion"),
        (None, {"n_knots": 3}, ValueError, "n_knots"),
        (None, {"n_knots": 300}, ValueError, "n_knots=300"),
        (None, {"time_range": (0.5, 0.1)}, ValueError, "before the last"),
        (None, {"time_range": (0, np.inf)}, ValueError, "a finite first and last time"),
        (None, {"time_range": {"up": 1}}, KeyError, "time_range"),
        (None, {"time_range": [(0, 1)]}, ValueError, "2 ranges"),
        (None, {"condition_key": "absent"}, KeyError, "absent"),
        (lambda c: c.obs.__setitem__("one", "a"), {"condition_key": "one"}, ValueError, "two conditions"),
        (None, {"distribution": "nb", "layer": "counts", "size_factors": [1.0]}, ValueError, "240 positive numbers"),
        (None, {"key_added": "a/b"}, ValueError, "key_added"),
        (lambda c: setattr(c, "var_names", ["rises"] * 6), {}, ValueError, r"found \['rises'.* several times"),
        (few_cells, {}, ValueError, "'left' that amount to at least 4 cells, found 2: few cells"),
        (one_time, {}, ValueError, "'left' at different times"),
    ],
)
def test_errors(cells, change, given, error, message):
    if change is not None:
        change(cells)
    before = list(cells.uns), list(cells.varm)
    with pytest.raises(error, match=message):
        tl.fit_trends(cells, **given)
    assert (list(cells.uns), list(cells.varm)) == before


@pytest.mark.any_precision
def test_questions_to_trends(fitted):
    _, trends = fitted
    with pytest.raises(KeyError, match="absent"):
        trends.curves("absent")
    with pytest.raises(ValueError, match="at least one gene"):
        trends.curves([])
    with pytest.raises(ValueError, match="level"):
        trends.curves(GENES[0], level=2)
    with pytest.raises(ValueError, match="n_points"):
        trends.curves(GENES[0], n_points=1)


@pytest.mark.any_precision
def test_warnings(cells, logged):
    tl.fit_trends(cells, "rises", layer="counts", differences=False)
    assert "are these counts?" in logged()


@pytest.mark.any_precision
def test_clusters(fitted):
    _, trends = fitted
    groups = trends.clusters(FATES[0], ["rises", "treated", "falls", "left/right"], 2)
    assert groups["rises"] == groups["treated"] != groups["falls"]
    assert groups["falls"] == 0
    pd.testing.assert_series_equal(groups, trends.clusters(FATES[0], list(groups.index), 2))
    assert trends.clusters(FATES[0]).max() >= 1
    with pytest.raises(ValueError, match="one lineage"):
        trends.clusters()
    with pytest.raises(ValueError, match="at least 9 genes"):
        trends.clusters(FATES[0], n_clusters=9)


def test_statistics_are_of_any_scale(cells):
    of = tl.fit_trends(cells, differences=True).to_frame()
    cells.X = cells.X * 100
    again = tl.fit_trends(cells, differences=True)
    np.testing.assert_allclose(again.to_frame()["statistic"], of["statistic"], rtol=1e-3)
    assert (of.loc[of["gene"] == "flat", "statistic"] < 4).all()
    assert (of.loc[of["gene"] == "rises", "statistic"] > 10).all()


def test_pairs_without_common_cells_are_not_compared(cells, logged):
    keep = ~cells.obs["latent_time"].between(0.4, 0.5).to_numpy()
    cells = cells[keep].copy()
    given = {"time_range": {FATES[0]: (0.0, 0.49), FATES[1]: (0.41, 1.0)}, "n_knots": 6}
    trends = tl.fit_trends(cells, "rises", **given)
    assert f"Not comparing '{FATES[0]}' with '{FATES[1]}'" in logged()
    assert not len(trends.differences_to_frame())
    assert np.isfinite(trends.to_frame()["pval"]).all()


def test_size_factors_are_kept(cells):
    """Of a column, its name; otherwise as they were used, whatever becomes of cells and genes."""
    given = {"layer": "counts", "distribution": "poisson", "differences": False}
    sizes = np.asarray(cells.layers["counts"].sum(axis=1)).ravel()
    tl.fit_trends(cells, "rises", **given)
    assert tl.Trends.from_adata(cells).parameters["size_factors"] == "trends_size_factors"
    np.testing.assert_allclose(cells.obs["trends_size_factors"], sizes / sizes.mean(), rtol=1e-6)
    tl.fit_trends(cells, "rises", size_factors=cells.obs["size"].to_numpy(), key_added="given", **given)
    np.testing.assert_array_equal(cells.obs["given_size_factors"], cells.obs["size"])
    tl.fit_trends(cells, "rises", size_factors="size", key_added="named", **given)
    assert tl.Trends.from_adata(cells, "named").parameters["size_factors"] == "size"
    assert "named_size_factors" not in cells.obs
