"""A table of cells by states: names, colours, choosing, mixing, printing."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.estimators import Lineage

pytestmark = pytest.mark.any_precision

NAMES, COLORS = ["Alpha", "Beta", "Delta"], ["#ff0000", "#00ff00", "#0000ff"]


@pytest.fixture
def lineage():
    numbers = np.random.default_rng(0).dirichlet([1, 1, 1], size=8)
    return Lineage(numbers, names=NAMES, colors=COLORS)


def test_is_an_array_with_names_and_colours(lineage):
    assert lineage.shape == (8, 3)
    assert (len(lineage), lineage.nlin) == (8, 3)
    assert lineage.names.tolist() == NAMES
    assert lineage.colors.tolist() == COLORS
    np.testing.assert_array_equal(np.asarray(lineage), lineage.X)
    np.testing.assert_allclose(np.sum(lineage, axis=1), 1)
    assert np.asarray(lineage, dtype=np.float32).dtype == np.float32


def test_does_what_an_array_does(lineage):
    array = lineage.X
    assert (lineage.ndim, lineage.dtype) == (2, np.float64)
    np.testing.assert_array_equal(lineage.T, array.T)
    assert lineage.copy() is lineage
    for name in ("sum", "mean", "min", "max", "argmax"):
        for arguments in ({}, {"axis": 1}):
            np.testing.assert_array_equal(getattr(lineage, name)(**arguments), getattr(array, name)(**arguments))
    np.testing.assert_array_equal(lineage > 0.5, array > 0.5)
    np.testing.assert_array_equal(1 - lineage, 1 - array)
    assert type(lineage * lineage) is type(np.log1p(lineage)) is np.ndarray
    np.testing.assert_array_equal(list(lineage), array)
    frame = pd.DataFrame(index=range(8))
    frame["beta"] = lineage["Beta"]
    np.testing.assert_array_equal(frame["beta"], array[:, 1])
    assert frame["beta"].dtype == np.float64
    with pytest.raises(ValueError, match="array"):
        frame["all"] = lineage


def test_never_changes(lineage):
    with pytest.raises(ValueError, match="read-only"):
        lineage.X[0, 0] = 1
    lineage.names[0] = "other"
    assert lineage.names.tolist() == NAMES
    np.array(lineage)[0, 0] = 1  # a copy
    with pytest.raises(TypeError, match="NotImplemented"):
        lineage += 1


@pytest.mark.parametrize(
    ("item", "rows", "columns"),
    [
        ("Beta", slice(None), [1]),
        (["Delta", "Alpha"], slice(None), [2, 0]),
        (np.array(["Delta", "Alpha"]), slice(None), [2, 0]),
        (3, [3], [0, 1, 2]),
        (slice(2, 5), slice(2, 5), [0, 1, 2]),
        (np.arange(8) > 4, slice(5, 8), [0, 1, 2]),
        (([1, 0], "Beta"), [1, 0], [1]),
        ((slice(None), ["Beta", "Delta"]), slice(None), [1, 2]),
        ((2, [2, 1]), [2], [2, 1]),
        ((slice(0, 3), slice(1, 3)), slice(0, 3), [1, 2]),
        ((..., 0), slice(None), [0]),
    ],
)
def test_choosing(lineage, item, rows, columns):
    chosen = lineage[item]
    np.testing.assert_array_equal(chosen.X, lineage.X[rows][:, columns])
    assert chosen.names.tolist() == [NAMES[i] for i in columns]
    assert chosen.colors.tolist() == [COLORS[i] for i in columns]


def test_mixtures_are_sums_named_in_alphabetical_order(lineage):
    mixed = lineage[["Delta, Alpha", "Beta"]]
    assert mixed.names.tolist() == ["Alpha, Delta", "Beta"]
    np.testing.assert_allclose(mixed.X[:, 0], lineage.X[:, 0] + lineage.X[:, 2])
    assert mixed.colors.tolist() == ["#800080", "#00ff00"]
    assert mixed["Alpha, Delta"].names.tolist() == ["Alpha, Delta"]  # a name by now


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("Gamma", KeyError, r"found \['Gamma'\].*'Alpha', 'Beta', 'Delta'"),
        (["Alpha, Beta", "Alpha"], ValueError, r"overlapping names: \['Alpha'\]"),
        ((0, 1, 2), IndexError, "found 3"),
        (("Beta", "Alpha"), IndexError, r"\[\['Alpha', 'Beta'\]\]"),
    ],
)
def test_wrong_choices(lineage, item, error, message):
    with pytest.raises(error, match=message):
        lineage[item]


@pytest.mark.parametrize(
    ("array", "names", "colors", "message"),
    [
        (np.ones((4, 2)), ["a"], None, "Expected 2 names"),
        (np.ones((4, 2)), ["a", "a"], None, "each name once"),
        (np.ones((4, 2)), ["a", "b"], ["red"], "Expected 2 colours"),
        (np.ones((4, 2)), ["a", "b"], ["red", "no colour"], r"found \['no colour'\]"),
        (np.ones((0, 2)), ["a", "b"], None, "cells by states"),
        (np.ones((2, 2, 2)), ["a", "b"], None, "cells by states"),
    ],
)
def test_what_makes_no_table(array, names, colors, message):
    with pytest.raises(ValueError, match=message):
        Lineage(array, names=names, colors=colors)


def test_default_colours_differ():
    colors = Lineage(np.ones((1, 40)), names=range(40)).colors
    assert len(set(colors)) == 40


def test_prints_as_a_table(lineage):
    text = repr(lineage)
    assert text.splitlines()[0].split() == NAMES
    assert f"{lineage.X[0, 0]:.6f}" in text
    assert "[8 cells x 3 lineages]" in text
    html = lineage._repr_html_()
    assert html.count("<tr>") == 9
    assert "background-color: #ff0000" in html
    long = Lineage(np.tile(lineage.X, (20, 1)), names=NAMES)._repr_html_()
    assert long.count("<tr>") == 22


def test_priming_degree(lineage):
    degree = lineage.priming_degree("entropy")
    assert (degree.min(), degree.max()) == (0, 1)
    mask = np.arange(8) < 3
    np.testing.assert_array_equal(
        lineage.priming_degree(early_cells=mask), lineage.priming_degree(early_cells=[0, 1, 2])
    )
