import logging

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def loops(adata, layers):
    dense = {layer: adata.layers[layer].toarray() for layer in layers}
    total = np.array([dense[layer].sum() for layer in layers])
    groups = []
    for name in adata.obs["clusters"].cat.categories:
        rows = np.flatnonzero(adata.obs["clusters"] == name)
        sums = np.array([sum(dense[layer][row].sum() for row in rows) for layer in layers])
        groups.append(sums / sums.sum() if sums.sum() else sums)
    return total / total.sum(), np.array(groups)


def test_shares_against_loops(unchanged):
    total, groups = pl.count_proportions(unchanged)
    expected_total, expected_groups = loops(unchanged, ["spliced", "unspliced"])
    np.testing.assert_allclose(total, expected_total)
    np.testing.assert_allclose(groups, expected_groups)


def test_ambiguous_missing_and_empty_groups(cells):
    cells.layers["ambiguous"] = cells.layers["unspliced"] * 0.5
    cells.obs["clusters"] = cells.obs["clusters"].cat.add_categories("never").where(cells.obs["time"] > 0.5)
    total, groups = pl.count_proportions(cells)
    expected_total, expected_groups = loops(cells, ["spliced", "unspliced", "ambiguous"])
    np.testing.assert_allclose(total, expected_total)
    np.testing.assert_allclose(groups, expected_groups)
    np.testing.assert_array_equal(groups[3], 0.0)
    ax = pl.proportions(cells, show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "middle", "late"]


def test_sizes_before_normalisation_are_taken(cells):
    expected = pl.count_proportions(cells)
    for layer in ("spliced", "unspliced"):
        cells.obs[f"initial_size_{layer}"] = np.ravel(cells.layers[layer].sum(axis=1))
        cells.layers[layer] = cells.layers[layer] / 7.0 if layer == "spliced" else cells.layers[layer] * 3.0
    for found, value in zip(pl.count_proportions(cells), expected, strict=True):
        np.testing.assert_allclose(found, value)


def test_sizes_of_some_layers_are_taken_with_a_warning(cells, caplog):
    cells.layers["ambiguous"] = cells.layers["unspliced"] * 0.5
    expected = pl.count_proportions(cells)
    for layer in ("spliced", "unspliced"):  # as scVelo leaves them
        cells.obs[f"initial_size_{layer}"] = np.ravel(cells.layers[layer].sum(axis=1))
        cells.layers[layer] = cells.layers[layer] / 7.0
    with caplog.at_level(logging.WARNING):
        found = pl.count_proportions(cells)
    for shares, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(shares, value)
    assert "['spliced', 'unspliced'] only: counting ['ambiguous']" in caplog.text


def test_pie_and_bars(unchanged):
    ax = pl.proportions(unchanged, title="counts", show=False)
    total, groups = pl.count_proportions(unchanged)
    widths = np.array([[bar.get_width() for bar in bars] for bars in ax.containers]).T
    np.testing.assert_allclose(widths, groups)
    starts = np.array([[bar.get_x() for bar in bars] for bars in ax.containers]).T
    np.testing.assert_allclose(starts[:, 1], groups[:, 0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "middle", "late"]
    (pie,) = ax.child_axes
    angles = [wedge.theta2 - wedge.theta1 for wedge in pie.patches]
    np.testing.assert_allclose(np.abs(angles), 360 * total, rtol=1e-4)
    assert [text.get_text() for text in pie.get_legend().get_texts()] == [
        f"spliced {total[0]:.0%}",
        f"unspliced {total[1]:.0%}",
    ]
    assert ax.get_title() == "counts"


def test_saved_own_axes_and_named_layers(cells, tmp_path):
    assert pl.proportions(cells, "flag", save=tmp_path / "shares.png") is None
    assert (tmp_path / "shares.png").exists()
    _, ax = plt.subplots()
    assert pl.proportions(cells, layers=["unspliced"], ax=ax) is ax
    assert len(ax.containers) == 1
    assert not ax.child_axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["unspliced"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"groupby": "nothing"}, KeyError, r"adata.obs\['nothing'\].*clusters"),
        ({"layers": ["spliced", "nothing"]}, KeyError, r"found no \['nothing'\] among"),
        ({"layers": []}, KeyError, "at least one of the layers"),
        ({"colors": ["k"]}, ValueError, "`colors` to hold 2 colours"),
    ],
)
def test_proportions_say_what_is_wrong(unchanged, arguments, error, message):
    with pytest.raises(error, match=message):
        pl.proportions(unchanged, show=False, **arguments)


def test_no_counts(cells):
    for layer in ("spliced", "unspliced"):
        cells.layers[layer] = cells.layers[layer] * 0
    with pytest.raises(ValueError, match="Expected counts in layers"):
        pl.proportions(cells, show=False)


def test_cells_whose_counts_are_not_finite(cells, caplog):
    cells.obs["initial_size_spliced"], cells.obs["initial_size_unspliced"] = 3.0, 1.0
    cells.obs.loc[cells.obs_names[:4], "initial_size_spliced"] = np.nan
    total, by_group = pl.count_proportions(cells, "clusters")
    np.testing.assert_allclose(total, [0.75, 0.25])
    np.testing.assert_allclose(by_group, [[0.75, 0.25]] * 3)
    assert "Leaving out 4 cells whose counts" in caplog.text
