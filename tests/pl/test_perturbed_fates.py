import numpy as np
import pandas as pd
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision

LINEAGES = ["late_1", "late_2"]


@pytest.fixture
def effects(fates):
    """The cells with effects of six genes, two of them exact."""
    rng = np.random.default_rng(5)
    where = pd.MultiIndex.from_product([["all cells", "early"], LINEAGES, fates.var_names])
    table = pd.DataFrame({name: where.get_level_values(k) for k, name in enumerate(("cluster", "lineage", "gene"))})
    table["effect"] = rng.normal(size=len(table))
    table["exact"] = np.where(table["gene"].isin(["gene_1", "gene_4"]), rng.normal(size=len(table)), np.nan)
    table["consistency"] = rng.uniform(-1, 1, len(table))
    table["score"], table["pval"] = rng.normal(size=len(table)), rng.uniform(size=len(table))
    table["qval"] = np.where(table["gene"] == "gene_2", 0.01, 0.5)
    fates.uns["gene_perturbations_fwd"] = {"table": table, "params": {}}
    fates.obsm["perturbed_fates_fwd"] = pd.DataFrame(
        rng.normal(size=(fates.n_obs, 4)),
        columns=[f"{gene}_{lineage}" for gene in ("gene_1", "gene_4") for lineage in LINEAGES],
        index=fates.obs_names,
    )
    return fates


def names(axis):
    return [label.get_text() for label in axis]


def test_heat_map(effects):
    table = effects.uns["gene_perturbations_fwd"]["table"]
    axes = pl.perturbed_fates(effects, ["gene_4", "gene_2"], clusters=["early", "all cells"], show=False)
    assert [ax.get_title() for ax in axes] == ["early", "all cells"]
    for ax, cluster in zip(axes, ("early", "all cells"), strict=True):
        rows = table[table["cluster"] == cluster].set_index(["gene", "lineage"])
        expected = [
            [rows.loc[("gene_4", name), "exact"] for name in LINEAGES],
            [rows.loc[("gene_2", name), "effect"] for name in LINEAGES],
        ]
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        texts = [f"{value:+.3f}{star}" for row, star in zip(expected, ("", "*"), strict=True) for value in row]
        assert [text.get_text() for text in ax.texts] == texts
        assert [text.get_fontweight() for text in ax.texts] == ["bold", "bold", "normal", "normal"]
        assert names(ax.get_yticklabels()) == ["gene_4", "gene_2"]
        assert names(ax.get_xticklabels()) == LINEAGES
        low, high = ax.images[0].get_clim()
        assert low == -high


@pytest.mark.parametrize("sort_by", ["effect", "pval"])
def test_genes_that_matter_most(effects, sort_by):
    table = effects.uns["gene_perturbations_fwd"]["table"]
    ax = pl.perturbed_fates(effects, lineages="late_2", n_genes=3, sort_by=sort_by, show=False)
    rows = table[(table["cluster"] == "all cells") & (table["lineage"] == "late_2")]
    by = rows["pval"] if sort_by == "pval" else -rows["effect"].abs()
    assert names(ax.get_yticklabels()) == list(rows["gene"].iloc[np.argsort(by.to_numpy())[:3]])


def test_cells_in_an_embedding(effects):
    axes = pl.perturbed_fates(effects, mode="embedding", show=False)
    changes = effects.obsm["perturbed_fates_fwd"]
    assert [ax.get_title() for ax in axes] == [f"{g}: {name}" for g in ("gene_1", "gene_4") for name in LINEAGES]
    for ax, column in zip(axes, changes, strict=True):
        found = ax.collections[-1]
        np.testing.assert_allclose(np.sort(found.get_array()), np.sort(changes[column]))
        np.testing.assert_allclose(found.get_clim(), np.array([-1, 1]) * changes.abs().to_numpy().max())


def test_errors(effects):
    for arguments, error, match in [
        ({"mode": "list"}, ValueError, "mode"),
        ({"genes": ["gene_9"]}, KeyError, "gene_9"),
        ({"genes": []}, ValueError, "genes"),
        ({"lineages": "nowhere"}, KeyError, "nowhere"),
        ({"clusters": "nowhere"}, KeyError, "nowhere"),
        ({"sort_by": "name"}, ValueError, "sort_by"),
        ({"n_genes": 0}, ValueError, "n_genes"),
        ({"max_qval": "low"}, ValueError, "max_qval"),
        ({"mode": "embedding", "genes": "gene_2"}, KeyError, r"gene_2_late_1.*perturb_genes"),
        ({"mode": "embedding", "basis": "tsne"}, KeyError, "tsne"),
        ({"backward": True}, KeyError, "gene_perturbations_bwd"),
    ]:
        with pytest.raises(error, match=match):
            pl.perturbed_fates(effects, **arguments)
    table = effects.uns["gene_perturbations_fwd"]["table"]
    table["exact"] = np.nan
    for arguments in ({"mode": "embedding"}, {"sort_by": "exact"}):
        with pytest.raises(ValueError, match="found none"):
            pl.perturbed_fates(effects, **arguments)
    effects.uns["gene_perturbations_fwd"]["table"] = table.drop(columns="score")
    with pytest.raises(ValueError, match="score"):
        pl.perturbed_fates(effects)
