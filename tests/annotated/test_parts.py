"""Cells of some groups by themselves, and columns with the values of these."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.parts import column_of, compared_groups, parts_of
from tests.annotated.six_cells import N

pytestmark = pytest.mark.any_precision


def cells_of(parts):
    return [(part.group, np.flatnonzero(part.cells).tolist()) for part in parts]


def test_all_cells(adata):
    assert cells_of(parts_of(adata, None, None)) == [(None, list(range(N)))]


def test_each_group_by_itself(adata):
    assert cells_of(parts_of(adata, "clusters", None)) == [("a", [0, 1]), ("b", [2, 3]), ("c", [5])]
    assert [part.label for part in parts_of(adata, "label", None)] == [f" of the group {name!r}" for name in "xyz"]


def test_named_groups_together(adata):
    """By default those of the column that scVelo looks at first."""
    assert cells_of(parts_of(adata, None, ["c", "a"])) == [(None, [0, 1, 5])]
    assert cells_of(parts_of(adata, "leiden", 2)) == [(None, [3, 4])]
    adata.obs["louvain"] = adata.obs.pop("clusters")
    assert cells_of(parts_of(adata, None, "b")) == [(None, [2, 3])]


def test_what_is_not_there(adata):
    with pytest.raises(ValueError, match=r"values of `adata.obs\['clusters'\]` in `groups`, found \['d'\]"):
        parts_of(adata, None, "d")
    adata.obs["nobody"] = pd.Categorical([None] * N, categories=["a"])
    with pytest.raises(ValueError, match=r"groups of cells in `adata.obs\['nobody'\]`, found none"):
        parts_of(adata, "nobody", None)
    del adata.obs["clusters"]
    with pytest.raises(KeyError, match=r"`groupby` beside `groups`.*`adata.obs\['clusters'\]`"):
        parts_of(adata, None, "a")


def test_no_empty_name_is_compared(adata):
    """No file holds a table of that name; it may stay where no cell has it."""
    names = pd.Series(["", "b", "c"] * 2, index=adata.obs_names)
    for column in (names, names.astype("category")):
        adata.obs["some"] = column
        with pytest.raises(ValueError, match=r"names of the groups in `adata.obs\['some'\]`, found one that is empty"):
            compared_groups(adata, "some")
        with_cells = adata[adata.obs["some"] != ""]
        assert compared_groups(with_cells, "some")[1] == ["b", "c"]


def test_between_them(adata):
    matrix = sp.csr_matrix(np.arange(N * N, dtype=float).reshape(N, N))
    (part,) = parts_of(adata, None, ["a", "c"])
    chosen = [0, 1, 5]
    np.testing.assert_array_equal(part.within(matrix).toarray(), matrix.toarray()[np.ix_(chosen, chosen)])
    (everyone,) = parts_of(adata, None, None)
    assert everyone.within(matrix) is matrix


def test_columns_keep_what_others_have(adata):
    parts = parts_of(adata, None, ["a", "c"])
    values = np.arange(N) + 10.0
    np.testing.assert_array_equal(column_of(adata, "new", parts, values, -1.0), [10, 11, -1, -1, -1, 15])
    np.testing.assert_array_equal(column_of(adata, "gaps", parts, values, -1.0), [10, 11, 1, np.nan, 2, 15])
    np.testing.assert_array_equal(column_of(adata, "label", parts, values, -1.0), [10, 11, -1, -1, -1, 15])
    assert column_of(adata, "gaps", parts_of(adata, None, None), values, -1.0) is values
