"""Simulated fates: their fractions, and the tree that they branch along."""

import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo import datasets
from tests.datasets.conftest import checksum, nearest

pytestmark = pytest.mark.any_precision

NESTED = (("Alpha", "Beta"), "Delta")


@pytest.fixture(scope="module")
def nested():
    return datasets.simulate(1000, 60, tree=NESTED, fractions=[0.05, 0.35, 0.6], seed=2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((60, 20), "95bd91cb4591e7d2"), ((40, 20, 1), "a8476713df3c849c"), ((77, 31, 5), "f7dd1747e5880e12")],
)
def test_simulation_without_a_tree_is_what_it_was(arguments, expected):
    assert checksum(datasets.simulate(*arguments, seed=3)) == expected


def test_equal_fractions_and_a_flat_tree_change_nothing_but_names():
    plain = datasets.simulate(60, 20, 3)
    same = datasets.simulate(60, 20, tree=("Fate A", "Fate B", "Fate C"), fractions=[1 / 3] * 3)
    pd.testing.assert_frame_equal(plain.obs, same.obs)
    pd.testing.assert_frame_equal(plain.var, same.var)
    np.testing.assert_array_equal(plain.X.toarray(), same.X.toarray())
    np.testing.assert_array_equal(plain.obsm["X_umap"], same.obsm["X_umap"])


def test_fates_get_their_fractions(nested):
    assert nested.obs["lineage"].value_counts(sort=False).to_dict() == {"Alpha": 50, "Beta": 350, "Delta": 600}
    odd = datasets.simulate(101, 20, fractions=[0.25, 0.75]).obs["lineage"].value_counts(sort=False)
    assert list(odd) == [25, 76]
    # evenly over time: a quarter of every lineage in each quarter of the time
    quarters = pd.crosstab(nested.obs["lineage"], nested.obs["true_time"] // 6, normalize="index")
    np.testing.assert_allclose(quarters, 0.25, atol=0.02)


def test_clusters_and_probabilities_follow_the_tree(nested):
    obs, simulation = nested.obs, nested.uns["simulation"]
    assert simulation["branching_times"] == {"Alpha or Beta": 17.0}
    np.testing.assert_array_equal(simulation["fractions"], [0.05, 0.35, 0.6])
    assert simulation["tree"] == repr(NESTED)
    names = ["Progenitor", "Intermediate", "Alpha or Beta", "Alpha", "Beta", "Delta"]
    assert list(obs["clusters"].cat.categories) == names
    assert len(set(nested.uns["clusters_colors"])) == len(names)
    probabilities = nested.obsm["true_fate_probabilities"]
    expected = {
        "Progenitor": (0.0, 5.0, [0.05, 0.35, 0.6]),
        "Intermediate": (5.0, 10.0, [0.05, 0.35, 0.6]),
        "Alpha or Beta": (10.0, 17.0, [0.125, 0.875, 0.0]),
        "Alpha": (17.0, 24.0, [1.0, 0.0, 0.0]),
        "Beta": (17.0, 24.0, [0.0, 1.0, 0.0]),
        "Delta": (10.0, 24.0, [0.0, 0.0, 1.0]),
    }
    for name, (start, end, fates) in expected.items():
        cells = (obs["clusters"] == name).to_numpy()
        assert cells.any()
        assert obs["true_time"][cells].between(start, end).all()
        np.testing.assert_allclose(probabilities[cells], np.tile(fates, (cells.sum(), 1)), rtol=1e-12)
        assert (obs["true_fate"][cells] == name).all() == (name in nested.obs["lineage"].cat.categories)
    assert (obs["true_fate"].isna() == obs["clusters"].isin(names[:3])).all()


def test_probabilities_are_the_shares_of_lineages_on_a_branch(nested):
    on_branch = (nested.obs["clusters"] == "Alpha or Beta").to_numpy()
    shares = nested.obs["lineage"][on_branch].value_counts(normalize=True, sort=False)
    np.testing.assert_allclose(shares, nested.obsm["true_fate_probabilities"][on_branch][0], atol=0.02)


def test_genes_of_a_branch_are_shared_by_its_fates(nested):
    on, programs = nested.varm["true_on"], nested.var["program"].to_numpy()
    fates = {"fate Alpha or Beta": (0, 1), "fate Alpha": (0,), "fate Beta": (1,), "fate Delta": (2,)}
    starts = {"fate Alpha or Beta": 10.0, "fate Alpha": 17.0, "fate Beta": 17.0, "fate Delta": 10.0}
    assert set(fates) == {program for program in programs if program.startswith("fate")}
    for program, inside in fates.items():
        hours = on[programs == program]
        outside = np.setdiff1d(range(3), inside)
        assert (hours[:, list(inside)] == hours[:, [inside[0]]]).all()
        assert (hours[:, list(inside)] >= starts[program]).all()
        assert np.isposinf(hours[:, outside]).all()
    assert np.unique([(programs == program).sum() for program in fates]).tolist() in ([7, 8], [7], [8])


def test_branching_times_of_a_deep_tree():
    tree = ((("A", "B"), "C"), ("D", "E"))
    times = datasets.simulate(200, 30, tree=tree).uns["simulation"]["branching_times"]
    assert times == pytest.approx({"A, B or C": 10 + 14 / 3, "A or B": 10 + 28 / 3, "D or E": 17.0})
    as_lists = datasets.simulate(200, 30, tree=[[["A", "B"], "C"], ["D", "E"]])
    assert as_lists.uns["simulation"]["branching_times"] == times


@pytest.mark.parametrize("basis", ["X_umap", "X_umap3d"])
def test_map_of_a_tree_keeps_its_branches_apart(basis):
    """Late cells of a fate lie among their own kind, and early cells of two fates on one another."""
    adata = datasets.simulate(800, 60, tree=((("A", "B"), "C"), ("D", "E")), seed=1)
    time, lineage = adata.obs["true_time"].to_numpy(), adata.obs["lineage"].to_numpy()
    place = adata.obsm[basis].astype(float)
    neighbors = nearest(place, 10)[:, 1:]
    late = time > 22.5
    assert np.mean(np.asarray(lineage)[neighbors[late]] == np.asarray(lineage)[late][:, None]) > 0.95
    assert np.abs(time[neighbors] - time[:, None]).mean() < 1.5
    shared = (adata.obs["clusters"] == "A or B").to_numpy()
    centres = [place[shared & (lineage == fate)].mean(axis=0) for fate in ("A", "B")]
    assert np.linalg.norm(centres[0] - centres[1]) < 1.0


@pytest.mark.parametrize(
    ("n_cells", "tree"),
    [(30, NESTED), (90, (("A", "B", "C"), ("D", ("E", "F")))), (100, (((("A", "B"), "C"), "D"), "E"))],
)
def test_smallest_trees_have_every_cluster(n_cells, tree):
    for seed in range(3):
        adata = datasets.simulate(n_cells, 20, tree=tree, seed=seed)
        assert (adata.obs["clusters"].value_counts() > 0).all()
        assert len(adata.uns["clusters_colors"]) == adata.obs["clusters"].nunique()
        assert np.isfinite(adata.obsm["X_umap3d"]).all()


def test_simulation_goes_through_h5ad(tmp_path):
    adata = datasets.simulate(40, 20, tree=NESTED, fractions=[0.25, 0.25, 0.5])
    adata.write_h5ad(tmp_path / "simulated.h5ad")
    again = anndata.read_h5ad(tmp_path / "simulated.h5ad")
    pd.testing.assert_frame_equal(adata.obs, again.obs)
    np.testing.assert_array_equal(adata.varm["true_on"], again.varm["true_on"])
    assert list(again.uns["clusters_colors"]) == adata.uns["clusters_colors"]
    for key in ("branching_time", "branching_times", "tree"):
        assert again.uns["simulation"][key] == adata.uns["simulation"][key]
