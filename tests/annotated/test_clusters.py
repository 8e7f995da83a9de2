"""Clusters: columns of categories, their names, and those that a user names."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.clusters import chosen_groups, cluster_codes, cluster_names, read_clusters, require_cluster
from tests.annotated.six_cells import N
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


def test_chosen_groups(adata):
    clusters = adata.obs["leiden"]
    assert chosen_groups(clusters, ["10", 0, "0"], "x", "groups") == ["10", "0"]
    assert chosen_groups(clusters, 10, "x", "groups") == ["10"]
    assert chosen_groups(adata.obs["number"], ["10", 0], "x", "groups") == [10, 0]
    mixed = pd.Series(pd.Categorical([1, "1", "a"], categories=[1, "1", "a"]))
    assert chosen_groups(mixed, ["1", 1], "x", "groups") == ["1", 1]
    with pytest.raises(ValueError, match=r"of `x` for each name in `groups`, found several that read \[b'1'\]"):
        chosen_groups(mixed, [b"1"], "x", "groups")


def test_one_cluster(adata):
    clusters = read_clusters(adata, "clusters")
    np.testing.assert_array_equal(np.flatnonzero(require_cluster(clusters, "a", "clusters")), [0, 1])
    np.testing.assert_array_equal(np.flatnonzero(require_cluster(adata.obs["leiden"], 10, "leiden")), [5])
    with pytest.raises(ValueError, match=r"found \['empty'\] \(\['empty'\] without cells\)"):
        require_cluster(clusters, "empty", "clusters")


@pytest.mark.parametrize("text", ["nan", "None", "<NA>", ""])
@pytest.mark.parametrize("kind", ["category", object])
def test_missing_values_written_as_text(adata, text, kind, caplog):
    adata.obs["label"] = pd.Series(["x", "x", text, "y", "y", text], index=adata.obs_names).astype(kind)
    assert list(read_clusters(adata, "label").cat.categories) == sorted(["x", "y", text])
    assert f"`adata.obs['label']` has a group named {text!r}" in caplog.text
    remedy = caplog.text[caplog.text.index("`adata.obs['label'] = ") + 1 :].split("`")[0]
    exec(remedy, {"adata": adata})
    caplog.clear()
    assert list(read_clusters(adata, "label").cat.categories) == ["x", "y"]
    assert not caplog.records


def test_names_of_clusters(adata):
    assert cluster_names(adata.obs["clusters"], "x") == ["a", "b", "c", "empty"]
    mixed = pd.Series(pd.Categorical([1, "1", "a"], categories=[1, "1", "a"]))
    with pytest.raises(ValueError, match=r"categories of `x` with different names, found several that read \['1'\]"):
        cluster_names(mixed, "x")


def test_numbers_of_clusters(adata):
    """Of those that have cells, in the order of the categories."""
    with unchanged(adata):
        codes, names = cluster_codes(adata, "clusters")
    np.testing.assert_array_equal(codes, [0, 0, 1, 1, -1, 2])
    assert names == ["a", "b", "c"]
    codes, names = cluster_codes(adata, "leiden")
    np.testing.assert_array_equal(codes, [0, 0, 1, 3, 3, 2])
    assert names == ["0", "1", "10", "2"]
    np.testing.assert_array_equal(cluster_codes(adata, "label")[0], [0, 0, 1, 1, 2, 2])
    adata.obs["empty"] = pd.Categorical([None] * N, categories=["a"])
    np.testing.assert_array_equal(cluster_codes(adata, "empty")[0], [-1] * N)
    assert cluster_codes(adata, "empty")[1] == []


def test_what_is_no_clustering(adata):
    with pytest.raises(KeyError, match=r"`adata.obs\['absent'\]`, found the keys.*Pass the key of a clustering"):
        read_clusters(adata, "absent")
    with pytest.raises(TypeError, match=r"obs\['number'\]` to be categorical, found int64.*astype\('category'\)"):
        read_clusters(adata, "number")
