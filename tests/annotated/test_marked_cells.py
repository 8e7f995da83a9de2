"""Cells that are marked by a score, by a label, by number or by name."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.marked_cells import cell_at, highest_around, is_informative, number_at, score_of
from tests.annotated.six_cells import MASK, NUMBERS, WORDS, N

pytestmark = pytest.mark.any_precision

ALONE = sp.identity(N, format="csr")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0, 1, 0, 2, 0], [0.5, 0, 1, 0, 2, 0]),
        ([0.5, np.nan, 1, 0, 2, 0], [0.5, 0, 1, 0, 2, 0]),
        (pd.array([3, None, 0, 0, 0, 0], dtype="Int64"), [3, 0, 0, 0, 0, 0]),
        (pd.Categorical([3, 5, 3, 3, 3, 3]), [3, 5, 3, 3, 3, 3]),
        (MASK, NUMBERS),
        (WORDS, NUMBERS),
        (pd.array([True, None, True, False, False, True], dtype="boolean"), NUMBERS),
        (["root", None, None, "root", None, None], [1, 0, 0, 1, 0, 0]),
        (pd.Categorical([None, "root", None, None, None, None]), [0, 1, 0, 0, 0, 0]),
    ],
)
def test_scores(values, expected):
    np.testing.assert_array_equal(score_of(pd.Series(values)), expected)


def test_scores_that_tell_nothing():
    assert is_informative(np.array([0.0, 1.0]))
    assert not is_informative(np.array([1.0, 1.0]))
    assert not is_informative(np.array([0.0, np.inf]))


@pytest.mark.parametrize("key", [3, np.int64(3), np.array(3), np.array([3]), "cell_3"])
def test_a_cell_by_number_or_name(adata, key):
    assert number_at(adata, key, "root_key") == cell_at(adata, key, {}, ALONE, "root_key") == 3


def test_a_cell_by_its_score(adata):
    """That around which the score is highest; scores that are not stored yet come first."""
    assert cell_at(adata, "time", {}, ALONE, "root_key") == 5
    assert cell_at(adata, "time", {"time": np.arange(N)[::-1] * 1.0}, ALONE, "root_key") == 0
    around = sp.csr_matrix(np.roll(np.eye(N), 1, axis=1))
    assert cell_at(adata, "time", {}, around, "root_key") == 4


def test_what_is_no_cell(adata):
    for wrong in (N, -1):
        with pytest.raises(ValueError, match=rf"`root_key` to be the number of one of 6 cells, found `{wrong}`"):
            number_at(adata, wrong, "root_key")
    for wrong in ("absent", True):
        with pytest.raises(KeyError, match=rf"`root_key` to be a key of `adata.obs`.*found `{wrong!r}`"):
            number_at(adata, wrong, "root_key")
    adata.obs["same"] = 1.0
    with pytest.raises(ValueError, match=r"`adata.obs\['same'\]` to mark some cells.*as `root_key`"):
        cell_at(adata, "same", {}, ALONE, "root_key")


def test_of_cells_that_stand_equally_high_the_innermost():
    """On a line whose score is cut off at the top; rounding and the order of the cells have no say."""
    line = sp.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(30, 30)).tocsr()
    around = sp.csr_matrix(sp.diags_array(1 / line.sum(axis=1)) @ line, dtype=np.float32)
    score = np.minimum(np.exp(-(((np.arange(30) - 17) / 6) ** 2)), 0.7)
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(30)
        shuffled = (score * (1 + 1e-8 * rng.normal(size=30)))[order]
        assert order[highest_around(shuffled, around[order][:, order])] == 17
