"""Cells that a user names, in all forms."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.cells import chosen_cells
from tests.annotated.six_cells import MASK, N
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"clusters": "a"}, [0, 1]),
        ({"clusters": ["c", "a"]}, [0, 1, 5]),
        ({"leiden": 0}, [0, 1]),
        ({"leiden": "0"}, [0, 1]),
        ({"leiden": [0, 10]}, [0, 1, 5]),
        ({"leiden": np.int64(10)}, [5]),
        ({"leiden": 10.0}, [5]),
        ({"leiden": b"10"}, [5]),
        ({"number": 0}, [0, 1]),
        ({"number": "0"}, [0, 1]),
        ({"number": [2]}, [3, 4]),
        ({"number": [0, 1]}, [0, 1, 2]),
        ({"number": [1, 5]}, [2, 3, 4]),
        ({"number": {0, 10}}, [0, 1, 5]),
        ({"number": ["0", "10"]}, [0, 1, 5]),
        ({"number": [0, 2, 10]}, [0, 1, 3, 4, 5]),
        ({"number": np.array([10, 2, 0])}, [0, 1, 3, 4, 5]),
        ({"gaps": 0}, [0, 1]),
        ({"gaps": [0, 1]}, [0, 1, 2]),
        ({"gaps": [0, 2, 10]}, [0, 1, 4, 5]),
        ({"whole": 10}, [5]),
        ({"whole": "2"}, [4]),
        ({"time": [0.1, 0.4]}, [1, 2, 4]),
        ({"label": "y"}, [2, 3]),
        ({"flag": True}, [0, 2, 5]),
        ({"flag": "True"}, [0, 2, 5]),
        ({"flag": 0}, [1, 3, 4]),
        ({"flags": True}, [0, 2]),
        ({"flags": [False]}, [1, 3, 4]),
        ({"bit": 1}, [0, 2, 5]),
        ({"bit": True}, [0, 2, 5]),
        (np.array(3), [3]),
        (np.int64(3), [3]),
        (jnp.array([3, 4]), [3, 4]),
        ([0, 1, 1, 0, 1], [0, 1]),  # not as many as there are cells
        (pd.Series(MASK, index=[f"cell_{i}" for i in range(N)]).iloc[::-1], [0, 2, 5]),
        (pd.Series(MASK), [0, 2, 5]),
        (pd.Series(["cell_4"], index=["whatever"]), [4]),
    ],
)
def test_chosen_cells(adata, chosen, expected):
    with unchanged(adata):
        np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, chosen, "cells")), expected)


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"clusters": "empty"}, ValueError, r"in `cells`, found \['empty'\] \(\['empty'\] without cells\). There are"),
        ({"clusters": ["empty", "d"]}, ValueError, r"found \['empty', 'd'\] \(\['empty'\] without cells\)"),
        ({"clusters": None}, ValueError, r"found \[None\]"),
        ({"leiden": 3}, ValueError, r"found \[3\]. There are \['0', '1', '10', '2'\]"),
        ({"number": 3}, ValueError, r"found \[3\]. There are \[0, 1, 2, 10\]"),
        ({"number": "0.5"}, ValueError, "found"),
        ({"time": 0.1}, ValueError, "two limits .*, found 1"),
        ({"time": [0.1, 0.2, 0.3]}, ValueError, "two limits .*, found 3"),
        ({"time": "a"}, TypeError, "two numbers as limits"),
        ({"time": [0.11, 0.12]}, ValueError, "No cells indices"),
        ("clusters", KeyError, r"\['clusters'\] not in `adata.obs_names`"),
        ([*MASK[:-1], None], ValueError, "found 1 missing values"),
        ([0, 1, 0, 1, 0, 6], IndexError, "indices below 6, found 6"),
    ],
)
def test_cells_that_are_not_there(adata, chosen, error, message):
    with pytest.raises(error, match=message):
        chosen_cells(adata, chosen, "cells")


def test_absent_groups_are_left_out(adata, caplog):
    with caplog.at_level("WARNING", logger="jaxvelo"):
        found = chosen_cells(adata, {"clusters": ["a", "absent", "empty"]}, "start_ixs")
    np.testing.assert_array_equal(np.flatnonzero(found), [0, 1])
    assert "Leaving out ['absent', 'empty'] of `start_ixs`: no values of `adata.obs['clusters']`" in caplog.text
    assert "(['empty'] without cells)" in caplog.text


def test_limits_with_values_between(adata, caplog):
    """A pair on a column of whole numbers is a range, which is said where it is more than the pair."""
    with caplog.at_level("WARNING", logger="jaxvelo"):
        chosen_cells(adata, {"number": [1, 2]}, "cells")
        assert not caplog.text
        np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, {"number": [0, 2]}, "cells")), [0, 1, 2, 3, 4])
    assert "Taking `[0, 2]` of `cells` as limits of `adata.obs['number']`" in caplog.text
