import logging

import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxvelo import pl

pytestmark = pytest.mark.any_precision

SETS = {"late_1": ["gene_0", "gene_3"], "late_2": ["gene_1", "gene_99"]}


def test_genes_stand_at_their_correlations(unchanged_fates, caplog):
    with caplog.at_level(logging.WARNING):
        ax = pl.lineage_drivers_correlation(unchanged_fates, "late_1", "late_2", gene_sets=SETS, show=False)
    assert "Leaving out ['gene_99'] of the set `late_2`" in caplog.text
    table = unchanged_fates.varm["terminal_lineage_drivers"]
    expected = table[["late_1_corr", "late_2_corr"]]
    cloud, first, second = ax.collections
    np.testing.assert_array_equal(np.sort(cloud.get_offsets(), axis=0), np.sort(expected, axis=0))
    np.testing.assert_array_equal(first.get_offsets(), expected.loc[["gene_0", "gene_3"]])
    np.testing.assert_array_equal(second.get_offsets(), expected.loc[["gene_1"]])
    assert [to_hex(one.get_facecolor()[0]) for one in (first, second)] == ["#ee2222", "#3333ee"]
    assert [text.get_text() for text in ax.texts] == ["gene_0", "gene_3", "gene_1"]
    leaders = [line for line in ax.lines if line.get_gid() == "leader"]
    for line, gene in zip(leaders, ["gene_0", "gene_3", "gene_1"], strict=True):
        np.testing.assert_array_equal(line.get_xydata()[0], expected.loc[gene])


def test_names_overlap_neither_each_other_nor_points(fates):
    names = ["late_1_corr", "late_2_corr"]
    fates.varm["terminal_lineage_drivers"][names] = 0.5 + 1e-3 * np.arange(12).reshape(6, 2)
    genes = {"all": list(fates.var_names)}
    ax = pl.lineage_drivers_correlation(fates, "late_1", "late_2", gene_sets=genes, show=False)
    ax.figure.draw_without_rendering()
    boxes = np.array([text.get_window_extent().extents for text in ax.texts])
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    assert ((low < boxes[None, :, 2:]) & (boxes[None, :, :2] < high)).all(axis=-1).sum() == 6
    points = ax.transData.transform(fates.varm["terminal_lineage_drivers"][names])
    assert not ((low < points) & (points < high)).all(axis=-1).any()


def test_colors_by_a_column(fates):
    ax = pl.lineage_drivers_correlation(fates, "late_1", "late_2", color="late_1_qval", show=False)
    table = fates.varm["terminal_lineage_drivers"]
    np.testing.assert_allclose(np.sort(ax.collections[-1].get_array()), np.sort(table["late_1_qval"]))
    fates.var["kind"] = list("aabbcc")
    ax = pl.lineage_drivers_correlation(fates, "late_1", "late_2", color="kind", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]


def test_errors(fates):
    with pytest.raises(KeyError, match="color"):
        pl.lineage_drivers_correlation(fates, "late_1", "late_2", color="nowhere")
    with pytest.raises(KeyError, match="lineage among"):
        pl.lineage_drivers_correlation(fates, "late_1", "early")
    with pytest.raises(ValueError, match="gene_sets_colors"):
        pl.lineage_drivers_correlation(fates, "late_1", "late_2", gene_sets=SETS, gene_sets_colors=["red"])
