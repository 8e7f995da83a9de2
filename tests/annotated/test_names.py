"""Names of any type, which read as texts or are taken as they are."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.names import find_name, one_name, places_of, text_of
from tests.annotated.six_cells import MASK

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (np.float32(3), "3"),
        ("3", "3"),
        (b"3", "3"),
        (np.str_("a"), "a"),
        (0.5, "0.5"),
        (True, "True"),
    ],
)
def test_texts(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    "names",
    [
        pd.Index(["3", "7", "9"]),
        pd.Index([3, 7, 9]),
        pd.Index([3.0, 7.0, 9.0]),
        pd.Index([b"3", b"7", b"9"]),
        pd.Index(["3", 7, b"9"], dtype=object),
        pd.Index(["3", "7", "9"], dtype="string"),
        pd.CategoricalIndex(["3", "7", "9"]),
    ],
)
@pytest.mark.parametrize("wanted", [["9", "3"], [9, 3], [b"9", "3"], np.array(["9", "3"]), [9.0, 3]])
def test_names_of_any_type(names, wanted):
    np.testing.assert_array_equal(places_of(names, wanted, "adata.var_names", "genes"), [2, 0])
    assert one_name(names, wanted[1], "adata.var_names", "genes") == 0


def test_value_before_text():
    names = pd.Index([1, "1", "2"], dtype=object)
    assert one_name(names, 1, "adata.obs_names", "x") == 0
    assert one_name(names, "1", "adata.obs_names", "x") == 1
    with pytest.raises(ValueError, match=r"`x` once in `adata.obs_names`, found \[b'1'\] several times.*make_unique"):
        one_name(names, b"1", "adata.obs_names", "x")


def test_names_that_are_not_there():
    names = pd.Index(["a", None, "b", "b", np.nan], dtype=object)
    assert one_name(names, "a", "adata.obs_names", "x") == 0
    for missing in (None, np.nan, "None", "nan", "c", ("a",)):
        with pytest.raises(KeyError, match=r"names of cells as `x`, found .* not in `adata.obs_names`, which are like"):
            one_name(names, missing, "adata.obs_names", "x")
    with pytest.raises(ValueError, match=r"found \['b'\] several"):
        places_of(names, ["a", "b"], "adata.obs_names", "x")


def test_a_name_that_may_be_absent():
    names = pd.Index(["a", 5, "b", "b"], dtype=object)
    found = [find_name(names, name, "adata.var_names", "color") for name in ("a", "5", 5, "c", None)]
    assert found == [0, 1, 1, None, None]
    with pytest.raises(ValueError, match=r"`color` once in `adata.var_names`, found \['b'\] several times"):
        find_name(names, "b", "adata.var_names", "color")


def test_names_twice(adata):
    adata.obs_names = ["twin", "twin", *adata.obs_names[2:]]
    adata.var_names = ["twin", "twin", *adata.var_names[2:]]
    for chosen in ("twin", ["cell_3", "twin"]):
        with pytest.raises(ValueError, match=r"found \['twin'\] several times.*`adata.obs_names_make_unique\(\)`"):
            chosen_cells(adata, chosen, "cells")
    for chosen in ("twin", ["gene_3", "twin"]):
        with pytest.raises(ValueError, match=r"found \['twin'\] several times.*`adata.var_names_make_unique\(\)`"):
            chosen_genes(adata, chosen, "var_names")
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, ["cell_5", "cell_3", "cell_5"], "x")), [3, 5])
    with pytest.raises(ValueError, match="or several of one name"):
        chosen_cells(adata, pd.Series(MASK, index=adata.obs_names[::-1]), "cells")


@pytest.mark.filterwarnings("ignore")  # AnnData warns of such names
@pytest.mark.parametrize("names", [[10, 11, 12, 13, 14, 15], [b"10", b"11", b"12", b"13", b"14", b"15"]])
def test_cells_whose_names_are_no_text(names, adata):
    adata.obs_names = pd.Index(names)
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, "12", "cells")), [2])
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, ["12", "15"], "cells")), [2, 5])
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, [2, 5], "cells")), [2, 5])  # numbers are indices
