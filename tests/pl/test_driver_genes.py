import numpy as np
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize("ascending", [False, True])
def test_top_genes(unchanged_fates, ascending):
    axes = pl.lineage_drivers(unchanged_fates, "late_1", 2, ascending=ascending, title_fmt="{gene}", show=False)
    correlations = unchanged_fates.varm["terminal_lineage_drivers"]["late_1_corr"].sort_values(ascending=ascending)
    assert [ax.get_title() for ax in axes] == list(correlations.index[:2])
    values = unchanged_fates[:, correlations.index[0]].X.toarray().ravel()
    np.testing.assert_array_equal(np.sort(axes[0].collections[-1].get_array()), np.sort(values))


def test_raw_and_numbers_in_titles(fates):
    fates.raw = fates.copy()
    table = fates.varm["terminal_lineage_drivers"]
    fates.raw.varm["terminal_lineage_drivers"] = table.assign(late_1_corr=table["late_2_corr"])
    (ax,) = pl.lineage_drivers(fates, "late_1", 1, use_raw=True, title_fmt="{gene} {corr:.3f} {qval:.3f}", show=False)
    gene = table["late_2_corr"].idxmax()
    assert ax.get_title() == f"{gene} {table.loc[gene, 'late_2_corr']:.3f} {table.loc[gene, 'late_1_qval']:.3f}"


def test_errors(fates):
    with pytest.raises(KeyError, match=r"lineage among \['late_1', 'late_2'\]"):
        pl.lineage_drivers(fates, "early")
    with pytest.raises(ValueError, match="n_genes"):
        pl.lineage_drivers(fates, "late_1", 0)
    with pytest.raises(ValueError, match="title_fmt"):
        pl.lineage_drivers(fates, "late_1", title_fmt="{name}")
    with pytest.raises(ValueError, match="use_raw"):
        pl.lineage_drivers(fates, "late_1", use_raw=True)
    with pytest.raises(KeyError, match=r"initial_lineage_drivers.*compute_lineage_drivers"):
        pl.lineage_drivers(fates, "late_1", backward=True)
