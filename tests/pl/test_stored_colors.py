"""Colours in every form that files hold them in; the right ones are known."""

import anndata
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from jaxvelo import pl

from .conftest import NAMES, make_cells

pytestmark = pytest.mark.any_precision

RIGHT = ["#ff8000", "#00ff00", "#000033"]  # of early, middle, late
ROWS = [(1.0, 128 / 255, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.2)]
BYTES = [(255, 128, 0), (0, 255, 0), (0, 0, 51)]
FIELDS = [("r", "f8"), ("g", "f8"), ("b", "f8")]


def objects(rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = [tuple(row) for row in rows]
    return array


FORMS = {
    "text": RIGHT,
    "text in an array": np.array(RIGHT),
    "text in an array of objects": np.array(RIGHT, dtype=object),
    "text in a column": np.array(RIGHT)[:, None],
    "upper case": [color.upper() for color in RIGHT],
    "bytes": [color.encode() for color in RIGHT],
    "bytes in an array": np.array([color.encode() for color in RIGHT]),
    "opaque hexadecimal": [f"{color}ff" for color in RIGHT],
    "list of tuples": ROWS,
    "list of lists": [list(row) for row in ROWS],
    "list of arrays": [np.array(row) for row in ROWS],
    "tuple of tuples": tuple(ROWS),
    "array": np.array(ROWS),
    "single precision": np.array(ROWS, dtype=np.float32),
    "array of objects": np.array(ROWS, dtype=object),
    "tuples as objects": objects(ROWS),
    "RGBA": np.array([(*row, 1.0) for row in ROWS]),
    "RGBA tuples": [(*row, 1) for row in ROWS],
    "bytes from 0 to 255": np.array(BYTES, dtype=np.uint8),
    "integers": np.array(BYTES),
    "integers in tuples": BYTES,
    "integers as floating point": np.array(BYTES, dtype=float),
    "integers with opacity": np.array([(*row, 255) for row in BYTES]),
    "integers with opacity 1": np.array([(*row, 1) for row in BYTES]),
    "text and rows": [RIGHT[0], ROWS[1], np.array(ROWS[2])],
    "dictionary": dict(zip(NAMES[::-1], RIGHT[::-1], strict=True)),
    "dictionary of rows": dict(zip(NAMES[::-1], map(list, ROWS[::-1]), strict=True)),
    "dictionary with more": {"gone": "red", **dict(zip(NAMES, RIGHT, strict=True))},
    "Series by name": pd.Series(RIGHT[::-1], index=NAMES[::-1]),
    "Series by categories": pd.Series(RIGHT, index=pd.CategoricalIndex(NAMES)),
    "Series in order": pd.Series(RIGHT),
    "categories": pd.Categorical(RIGHT),
    "index": pd.Index(RIGHT),
    "table by name": pd.DataFrame(ROWS[::-1], index=NAMES[::-1]),
    "table in order": pd.DataFrame(ROWS),
    "structured rows": np.array(ROWS, dtype=FIELDS),
    "records": np.array(ROWS, dtype=FIELDS).view(np.recarray),
    "structured by name": np.array([tuple(RIGHT[::-1])], dtype=[(name, "U7") for name in NAMES[::-1]]),
    "structured pairs": np.array(
        list(zip(NAMES[::-1], RIGHT[::-1], strict=True)), dtype=[("name", "O"), ("color", "O")]
    ),
    "pairs": list(zip(NAMES[::-1], ROWS[::-1], strict=True)),
}


def drawn_colors(adata, **arguments):
    """The colour that the cells of each group really have."""
    ax = pl.scatter(adata, show=False, **arguments)
    found = {}
    for point, color in zip(ax.collections[0].get_offsets(), ax.collections[0].get_facecolors(), strict=True):
        cell = np.argmin(((adata.obsm["X_umap"] - point) ** 2).sum(axis=1))
        found.setdefault(str(adata.obs["clusters"].iloc[cell]), set()).add(to_hex(color))
    legend = ax.get_legend()
    shown = {
        text.get_text(): to_hex(h.get_color()) for text, h in zip(legend.texts, legend.legend_handles, strict=True)
    }
    assert {name: {color} for name, color in shown.items() if name != "NA"} == {
        name: colors for name, colors in found.items() if name != "nan"
    }
    return [shown[name] for name in NAMES]


@pytest.mark.parametrize("form", FORMS)
def test_colours_are_right_whatever_their_form(cells, caplog, form):
    cells.uns["clusters_colors"] = FORMS[form]
    assert drawn_colors(cells) == RIGHT
    assert not caplog.records


@pytest.mark.parametrize("form", ["text", "list of tuples", "array", "integers", "dictionary", "dictionary of rows"])
def test_colours_after_a_round_trip(tmp_path, caplog, form):
    cells = make_cells()
    cells.uns["clusters_colors"] = FORMS[form]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    assert drawn_colors(anndata.read_h5ad(tmp_path / "cells.h5ad")) == RIGHT
    assert not caplog.records


@pytest.mark.parametrize("form", FORMS)
def test_palettes_in_the_same_forms(cells, form):
    assert drawn_colors(cells, palette=FORMS[form]) == RIGHT


def test_opacity_of_a_colour_counts(cells):
    cells.uns["clusters_colors"] = ["#ff800080", (0.0, 1.0, 0.0, 0.25), "#000033"]
    for alpha in (1.0, 0.5):
        colors = pl.scatter(cells, alpha=alpha, show=False).collections[0].get_facecolors()
        opacity = {to_hex(color): color[3] for color in colors}
        assert opacity == pytest.approx(
            {RIGHT[0]: 128 / 255 * alpha, RIGHT[1]: 0.25 * alpha, RIGHT[2]: alpha}, abs=2e-3
        )


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (RIGHT[:2], "2 colours for 3 groups"),
        ([*RIGHT, "#ff00ff"], "4 colours for 3 groups"),
        (np.array([*ROWS, ROWS[0]]), "4 colours for 3 groups"),
        (np.zeros((2, 3)), "2 colours for 3 groups"),
        ([], "0 colours for 3 groups"),
        ("#ff0000", "1 colours for 3 groups"),
        (5, "1 colours for 3 groups"),
        (np.zeros((3, 3, 3)), "27 colours for 3 groups"),
        (["no colour"] * 3, "no colour for 'early', 'middle', 'late'"),
        (np.full((3, 3), np.nan), "no colour for 'early', 'middle', 'late'"),
        ([np.nan, None, "nan"], "no colour for 'early', 'middle', 'late'"),
        (["none"] * 3, "no colour for 'early', 'middle', 'late'"),
        (np.array([[300, 0, 0], [300, 9, 9], [300, 7, 7]]), "no colour for 'early', 'middle', 'late'"),
        (np.full((3, 3), -0.1), "no colour for 'early', 'middle', 'late'"),
        ({"Alpha": "red", "Beta": "blue"}, "no colour for 'early', 'middle', 'late'"),
        (pd.Series(RIGHT, index=["a", "b", "c"]), "no colour for 'early', 'middle', 'late'"),
        ([(1.0, 0.5)] * 3, "no colour for 'early', 'middle', 'late'"),
    ],
)
def test_what_does_not_fit_is_replaced_with_a_warning(cells, caplog, stored, message):
    cells.uns["clusters_colors"] = stored
    assert drawn_colors(cells) == ["#1f77b4", "#ff7f0e", "#2ca02c"]
    assert len(caplog.records) == 1
    assert f"`adata.uns['clusters_colors']` holds {message}" in caplog.text
    assert "drawing with other colours" in caplog.text


@pytest.mark.parametrize(
    "stored",
    [
        {"early": RIGHT[0], "late": RIGHT[2]},
        [RIGHT[0], "no colour", RIGHT[2]],
        [ROWS[0], (np.nan, 0.0, 0.0), ROWS[2]],
        [ROWS[0], (1.5, 0.0, 0.0), ROWS[2]],
    ],
)
def test_those_that_are_there_are_kept(cells, caplog, stored):
    cells.uns["clusters_colors"] = stored
    first, other, last = drawn_colors(cells)
    assert [first, last] == [RIGHT[0], RIGHT[2]]
    assert other not in RIGHT
    assert "no colour for 'middle': drawing with other colours there" in caplog.text


def test_removed_categories(cells, caplog):
    """Which of the stored colours belong to the groups that are left is unknown."""
    cells.uns["clusters_colors"] = RIGHT
    late = cells.obs["clusters"].where(cells.obs["clusters"] != "early").cat.remove_unused_categories()
    cells.obs["clusters"] = late
    ax = pl.scatter(cells, show=False)
    assert "3 colours for 2 groups" in caplog.text
    assert not {to_hex(h.get_color()) for h in ax.get_legend().legend_handles} & set(RIGHT)


def test_unused_categories_keep_their_colours(cells, caplog):
    cells.uns["clusters_colors"] = RIGHT
    cells = cells[cells.obs["clusters"] != "middle"].copy()
    cells.obs["clusters"] = pd.Categorical(cells.obs["clusters"].astype(str), categories=NAMES)
    cells.uns["clusters_colors"] = RIGHT
    legend = pl.scatter(cells, show=False).get_legend()
    assert [text.get_text() for text in legend.texts] == ["early", "late"]
    assert [to_hex(h.get_color()) for h in legend.legend_handles] == [RIGHT[0], RIGHT[2]]
    assert not caplog.records


def test_groups_whose_names_are_no_text(cells, caplog):
    cells.obs["leiden"] = cells.obs["clusters"].cat.codes.astype("category")
    for stored in ({2: RIGHT[2], 0: RIGHT[0], 1: RIGHT[1]}, pd.Series(RIGHT[::-1], index=[2, 1, 0]), FORMS["array"]):
        cells.uns["leiden_colors"] = stored
        legend = pl.scatter(cells, color="leiden", show=False).get_legend()
        assert [to_hex(h.get_color()) for h in legend.legend_handles] == RIGHT
    assert not caplog.records


def test_the_other_pictures_take_them_too(cells, caplog):
    cells.uns["clusters_colors"] = FORMS["integers"]
    chain = np.full((60, 60), 1 / 60)
    ax = pl.single_flow(cells, chain, "early", "clusters", "day", show=False, remove_empty_clusters=False)
    shown = {
        text.get_text(): to_hex(h.get_facecolor())
        for text, h in zip(ax.get_legend().texts, ax.get_legend().legend_handles, strict=True)
    }
    assert shown == dict(zip(NAMES, RIGHT, strict=True))
    assert not caplog.records
