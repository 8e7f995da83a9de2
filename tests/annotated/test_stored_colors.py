"""Colours of groups as they are stored; in pictures they are tested with these."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.stored_colors import read_colors, read_each, stored_colors
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision

NAMES = ["a", "b"]
RIGHT = ["#ff0000", "#000033"]
FORMS = {
    "names of colours": ["red", "#000033"],
    "bytes": [b"red", b"#000033"],
    "rows from 0 to 1": np.array([[1, 0, 0], [0, 0, 0.2]]),
    "rows to 255": np.array([[255, 0, 0], [0, 0, 51]]),
    "a mapping": {"b": "#000033", "a": "red"},
    "a series": pd.Series({"b": "#000033", "a": "red"}),
    "a series in order": pd.Series(["red", "#000033"]),
    "a table": pd.DataFrame([[0, 0, 0.2], [1, 0, 0]], index=["b", "a"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_of_a_column(adata, form):
    assert stored_colors(adata, "clusters", NAMES) is None
    adata.uns["clusters_colors"] = FORMS[form]
    with unchanged(adata):
        assert stored_colors(adata, "clusters", NAMES) == (RIGHT, "")
        assert stored_colors(adata, "label", NAMES) is None


def test_what_is_missing_is_said():
    assert read_colors(["red"], NAMES) == (
        [None, None],
        "1 colours for 2 groups, so that which belongs to which is unknown",
    )
    assert read_colors({"a": "red", "c": "blue"}, NAMES) == (["#ff0000", None], "no colour for 'b'")
    assert read_colors(["red", "no colour"], NAMES) == (["#ff0000", None], "no colour for 'b'")
    many = [f"group {i}" for i in range(8)]
    assert read_colors({}, many)[1].endswith("'group 4' and 3 more")


def test_opacity():
    assert read_each([(1, 0, 0, 0.5), (0, 0, 0.2, 1)]) == ["#ff000080", "#000033"]
    assert read_each([("red", 0.5), "blue"]) == ["#ff000080", "#0000ff"]
    assert read_each([(0, 0, np.nan), (0, 0), "none"]) == [None, None, None]
