"""Which cells stand for a state, and what it is called."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.palette import default_palette
from jaxvelo.estimators._mixtures import mixtures_of
from jaxvelo.estimators._state_cells import most_likely_cells, union_of_cells
from jaxvelo.estimators._state_colors import colors_of_groups, mean_color, shades, text_color
from jaxvelo.estimators._state_names import named_states
from jaxvelo.pl._colors import group_colors
from tests.estimators.conftest import BRANCH, COLORS, TRUNK

pytestmark = pytest.mark.any_precision


def slow_assignment(memberships, n_cells):
    """Cells among the largest of each column, each in the column where it is largest of those that chose it."""
    codes = np.full(len(memberships), -1)
    best = np.full(len(memberships), -np.inf)
    for state, column in enumerate(memberships.T):
        for cell in sorted(range(len(column)), key=lambda cell: -column[cell])[:n_cells]:
            if column[cell] > best[cell]:
                best[cell], codes[cell] = column[cell], state
    return codes


@pytest.mark.parametrize("seed", range(5))
def test_most_likely_cells(seed):
    memberships = np.random.default_rng(seed).dirichlet([0.5] * 3, size=60)
    np.testing.assert_array_equal(most_likely_cells(memberships, 15, list("abc")), slow_assignment(memberships, 15))


def test_fewer_cells_where_states_overlap(logged):
    memberships = np.linspace(0, 1, 20)[:, None] * [0.6, 0.5]
    memberships[:6, 1] += 2
    codes = most_likely_cells(memberships, 8, ["a", "b"])
    assert np.bincount(codes[codes >= 0]).tolist() == [8, 6]
    assert "as others have them: b (6)" in logged()


def test_too_few_cells():
    with pytest.raises(ValueError, match=r"`n_cells` of at most 10 .* found 11"):
        most_likely_cells(np.random.default_rng(0).random((20, 2)), 11, ["a", "b"])
    column = np.linspace(0, 1, 20)
    with pytest.raises(ValueError, match=r"at least 2 of the 10 cells.*{'b': 0}"):
        most_likely_cells(np.stack([column, column / 2], axis=1), 10, ["a", "b"])


def test_union_takes_cells_of_each():
    memberships = np.zeros((30, 3))
    memberships[:10, 0], memberships[10:20, 1], memberships[20:, 2] = 1, 0.1, 1
    memberships += 1e-3 * np.arange(30)[:, None]
    codes = union_of_cells(memberships, {"a, b": [0, 1], "c": [2]}, 4, list("abc"))
    assert [int((codes[part] == 0).sum()) for part in (slice(10), slice(10, 20))] == [4, 4]
    assert (codes[20:] == 1).sum() == 4


def test_mixtures():
    known = ["b", "a", "c, d"]
    assert mixtures_of(["b,a", "c, d"], known, "states") == {"a, b": [1, 0], "c, d": [2]}
    assert mixtures_of(["a", "a"], known, "states") == {"a": [1]}
    with pytest.raises(KeyError, match=r"found \['x'\]"):
        mixtures_of(["a, x"], known, "states")
    with pytest.raises(KeyError, match=r"found \['x', 'y', 'z'\]"):
        mixtures_of(["a, x", "y", "z"], known, "states")
    with pytest.raises(ValueError, match="overlapping"):
        mixtures_of(["a, b", "b"], known, "states")


def codes_of(n_cells, **parts):
    codes = np.full(n_cells, -1)
    for state, part in enumerate(parts.values()):
        codes[part] = state
    return codes


def test_names_and_colours_come_from_clusters(cells):
    first = TRUNK + BRANCH
    codes = codes_of(cells.n_obs, a=slice(0, 4), b=slice(first, first + 5), c=slice(first + 8, first + 12))
    found = named_states(cells, codes, list("012"), "clusters", None)
    assert found.names == ["trunk", "middle_1", "middle_2"]
    assert found.colors[0] == COLORS[0]
    assert len({*found.colors, COLORS[2]}) == 4
    assert found == named_states(cells, codes, list("012"), {"obs": "clusters"}, None)


def test_majority_decides_and_missing_clusters_do_not_count(cells):
    codes = codes_of(cells.n_obs, a=slice(TRUNK - 3, TRUNK + 2))
    assert named_states(cells, codes, ["0"], "clusters", None).names == ["trunk"]
    clusters = cells.obs["clusters"].to_numpy(dtype=object)
    clusters[:TRUNK] = None
    cells.obs["clusters"] = pd.Categorical(clusters, ["trunk", "left", "middle", "right"])
    assert named_states(cells, codes, ["0"], "clusters", None).names == ["left"]
    with pytest.raises(ValueError, match=r"found none in \['0'\]"):
        named_states(cells, codes_of(cells.n_obs, a=slice(5)), ["0"], "clusters", None)


def test_proportions_with_weights(cells):
    codes = codes_of(cells.n_obs, a=slice(TRUNK - 3, TRUNK + 2))
    assert named_states(cells, codes, ["0"], {"obsm": "proportions"}, None).names == ["trunk"]
    cells.obs["size"] = np.where(cells.obs["clusters"] == "left", 10.0, 1.0)
    assert named_states(cells, codes, ["0"], {"obsm": "proportions"}, "size").names == ["left"]


@pytest.mark.parametrize(
    ("cluster_key", "weight_key", "error", "message"),
    [
        ("absent", None, KeyError, "absent"),
        ("time", None, TypeError, "categorical"),
        ({"obsm": "X_umap"}, None, TypeError, "data frame"),
        ({"obsm": "absent"}, None, KeyError, "absent"),
        ({"layers": "clusters"}, None, TypeError, "Expected `cluster_key`"),
        ("clusters", "size", ValueError, "weight_key"),
        (None, "size", ValueError, "weight_key"),
        ({"obsm": "halves"}, None, ValueError, "sum to one, found sums from 0.5"),
        ({"obsm": "proportions"}, "absent", KeyError, "absent"),
    ],
)
def test_wrong_clusters(cells, cluster_key, weight_key, error, message):
    cells.obsm["halves"] = cells.obsm["proportions"] / 2
    with pytest.raises(error, match=message):
        named_states(cells, codes_of(cells.n_obs, a=slice(5)), ["0"], cluster_key, weight_key)


def test_colours():
    assert len({*shades("#808080", 4)}) == 4
    assert mean_color(["#ff0000"]) == "#ff0000"
    assert mean_color(["#ff0000", "#0000ff"]) == "#800080"
    assert [text_color(color) for color in ("#ffffff", "#000080")] == ["#000000", "#ffffff"]
    assert colors_of_groups(["red", "#00ff00"], ["a", "b"]) == ["#ff0000", "#00ff00"]
    assert colors_of_groups(["red"], ["a", "b"]) == default_palette(2)
    assert colors_of_groups(None, ["a", "b"]) == default_palette(2)


def test_states_and_clusters_have_the_same_colours(cells):
    """Where none are stored, or not all."""
    for n in (2, 20, 21, 60):
        assert len(set(default_palette(n))) == n
    names = [f"cluster {i}" for i in range(12)]
    cells.obs["group"] = pd.Categorical.from_codes(np.arange(cells.n_obs) % 12, names)
    for stored in (None, ["k", None, *default_palette(10)]):
        if stored is not None:
            cells.uns["group_colors"] = {name: c for name, c in zip(names, stored, strict=True) if c is not None}
        drawn = group_colors(cells, "group", names, None)
        assert len(set(drawn)) == 12
        assert colors_of_groups(cells.uns.get("group_colors"), names) == drawn
