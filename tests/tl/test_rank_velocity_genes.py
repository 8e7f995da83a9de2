"""Ranks of velocities: SciPy's test on the genes that are kept, scVelo's tables, and what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import false_discovery_control, rankdata, ttest_ind_from_stats

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import genes_of, simulated

pytestmark = pytest.mark.any_precision
GROUPS = ["early", "middle", "late"]


@pytest.fixture(scope="module")
def untouched():
    """Three groups, not in the order of the alphabet, one without cells, and some cells of none."""
    adata = simulated(90, 24)
    labels = np.array(GROUPS, dtype=object)[np.digitize(adata.obs["true_time"], [8, 16])]
    labels[::13] = None
    adata.obs["clusters"] = pd.Categorical(labels, categories=[*GROUPS, "empty"])
    rng = np.random.default_rng(0)
    adata.layers["unspliced"] = sp.csr_matrix(rng.random((90, 24)) < np.linspace(1, 0.2, 24)).astype(np.float32)
    adata.var["dispersions_norm"] = np.where(np.arange(24) == 5, np.nan, rng.normal(1.5, 1, 24))
    adata.var["velocity_r2"] = rng.uniform(0, 1, 24)
    return adata


@pytest.fixture
def adata(untouched):
    return untouched.copy()


def expected_genes(adata):
    """Genes that pass scVelo's default limits."""
    ranks = [rankdata(adata.layers[key], axis=0).T for key in ("Ms", "Mu")]
    correlation = np.array([plain.correlation(x, y) for x, y in zip(*ranks, strict=True)])
    n_cells = (adata.layers["unspliced"].toarray() > 0).sum(axis=0)
    kept = genes_of(adata) & (correlation > 0.1) & (n_cells > min(50, np.median(n_cells)))
    return kept & (adata.var["velocity_r2"] > 0.1) & (adata.var["dispersions_norm"] > 0) & (
        adata.var["fit_likelihood"] > 0.1
    ), correlation  # fmt: skip


def expected_scores(adata, genes):
    v = adata.layers["velocity"][:, genes].astype(float)
    scores, p_values = [], []
    for group in GROUPS:
        here = (adata.obs["clusters"] == group).to_numpy()
        n = here.sum()
        stats = [f for x in (v[here], v[~here]) for f in (x.mean(0), x.std(0, ddof=1), n)]
        score, p = ttest_ind_from_stats(*stats, equal_var=False)
        scores.append(score)
        p_values.append(p)
    return np.array(scores), np.array(p_values)


def test_equals_scipy(adata):
    genes, correlation = expected_genes(adata)
    assert 5 < genes.sum() < genes_of(adata).sum()
    names = adata.var_names[genes]
    with unchanged(adata, "/uns", "/var/spearmans_score", "/var/velocity_score"):
        assert jv.tl.rank_velocity_genes(adata, n_genes=3) is None
    found = adata.uns["rank_velocity_genes"]
    assert found["params"]["groupby"] == "clusters"
    scores, p_values = expected_scores(adata, genes)
    best = {}
    for group, score, p in zip(GROUPS, scores, p_values, strict=True):
        order = np.argsort(-score)[:3]
        assert list(found["names"][group]) == list(names[order])
        np.testing.assert_allclose(found["scores"][group], score[order].round(2), atol=1e-5)
        np.testing.assert_allclose(found["pvals"][group], p[order], rtol=1e-6)
        np.testing.assert_allclose(found["pvals_adj"][group], false_discovery_control(p)[order], rtol=1e-6)
        for rank, gene in enumerate(order):
            best[names[gene]] = min(best.get(names[gene], (99, 0)), (rank, int(score[gene])), key=lambda x: x[0])
    expected = [best.get(name, (99, 0))[1] for name in adata.var_names]
    np.testing.assert_array_equal(adata.var["velocity_score"], expected)
    for table in ("names", "scores", "pvals", "pvals_adj"):
        assert found[table].dtype.names == tuple(GROUPS)
    np.testing.assert_allclose(adata.var["spearmans_score"].fillna(0), correlation.clip(0), atol=1e-12)


def test_scores_where_a_gene_ranks_first(adata):
    """Of the group where its rank is the best, and not its score."""
    adata.layers["velocity"][:] = 0
    early, middle = (adata.obs["clusters"] == group for group in GROUPS[:2])
    rng = np.random.default_rng(0)
    genes = slice(6, 9)
    noise = rng.normal(0, 1, (90, 3))
    adata.layers["velocity"][:, genes] = noise + np.outer(early, [6, 8, 10]) + np.outer(middle, [5, 0, 0])
    adata.var["velocity_genes"] = np.isin(np.arange(24), [6, 7, 8])
    limits = {"min_counts": -1, "min_r2": -1, "min_corr": -1, "min_dispersion": -9, "min_likelihood": -1}
    jv.tl.rank_velocity_genes(adata, **limits)
    scores = adata.uns["rank_velocity_genes"]["scores"]
    assert adata.uns["rank_velocity_genes"]["names"]["middle"][0] == adata.var_names[6]
    assert adata.var["velocity_score"].iloc[6] == int(scores["middle"][0]) < int(scores["early"][2])


def test_limits(adata):
    """Each leaves out what it says; a column that is there is looked at without a limit, too."""
    given = {"min_counts": 60, "min_r2": 0.4, "min_corr": 0.3, "min_dispersion": 0.5, "min_likelihood": 0.2}
    off = {"min_counts": -1, "min_r2": -1, "min_corr": -1, "min_dispersion": -9, "min_likelihood": -1}
    of_adata = {
        "min_counts": (adata.layers["unspliced"].toarray() > 0).sum(axis=0),
        "min_r2": adata.var["velocity_r2"],
        "min_dispersion": adata.var["dispersions_norm"],
        "min_likelihood": adata.var["fit_likelihood"],
        "min_corr": expected_genes(adata)[1],
    }
    varies = np.min([np.ptp(adata.layers[key], axis=0) for key in ("Ms", "Mu")], axis=0) > 0
    for name, limit in given.items():
        jv.tl.rank_velocity_genes(adata, **{**off, name: limit})
        kept = genes_of(adata) & (of_adata[name] > limit) & varies
        if name != "min_dispersion":
            kept &= adata.var["dispersions_norm"].notna()
        assert set(adata.uns["rank_velocity_genes"]["names"]["late"]) == set(adata.var_names[kept]), name


def test_copy_and_keys(adata, tmp_path):
    adata.layers["v"] = sp.csr_matrix(np.nan_to_num(adata.layers.pop("velocity")))
    adata.obs["kind"] = adata.obs["clusters"].astype(str)
    adata.obs["kind"] = adata.obs["kind"].where(adata.obs["clusters"].notna(), None)
    adata.var["spearmans_score"] = 0.0  # of other cells
    with unchanged(adata):
        result = jv.tl.rank_velocity_genes(adata, "v", groupby="kind", copy=True)
    np.testing.assert_allclose(result.var["spearmans_score"].fillna(0), expected_genes(result)[1].clip(0), atol=1e-12)
    result.write_h5ad(tmp_path / "ranked.h5ad")
    again = ad.read_h5ad(tmp_path / "ranked.h5ad").uns["rank_velocity_genes"]
    for table in ("names", "pvals"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(again[table]), pd.DataFrame(result.uns["rank_velocity_genes"][table])
        )
    assert again["params"]["groupby"] == "kind"


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda a: a.obs.pop("clusters"), {}, KeyError, r"adata.obs\['clusters'\].*groupby"),
        (lambda a: None, {"groupby": "kind"}, KeyError, "kind"),
        (lambda a: a.obs.__setitem__("clusters", "one"), {}, ValueError, r"at least two groups.*\['one'\]"),
        (lambda a: setattr(a, "obs", a.obs.assign(clusters=["", "x"] * 45)), {}, ValueError, "found one that is empty"),
        (lambda a: None, {"groupby": "true_time"}, TypeError, "categorical"),
        (lambda a: a.layers.pop("velocity"), {}, KeyError, "velocity"),
        (lambda a: a.layers.pop("Ms"), {}, KeyError, "Ms.*pp.moments"),
        (lambda a: a.var.pop("velocity_r2"), {"min_r2": 0.1}, KeyError, "velocity_r2.*leave out `min_r2`"),
        (lambda a: a.layers.pop("unspliced"), {"min_counts": 3}, KeyError, "unspliced"),
        (lambda a: None, {"min_likelihood": 1}, ValueError, "found none of 24.*0 by min_likelihood.*Lower"),
        (lambda a: None, {"n_genes": 0}, ValueError, "`n_genes`"),
        (lambda a: None, {"min_corr": "much"}, ValueError, "`min_corr` to be a number"),
    ],
)
def test_what_is_refused(adata, change, arguments, error, message):
    change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.rank_velocity_genes(adata, **arguments)
