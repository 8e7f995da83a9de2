"""Genes that a user names, in all forms, and those that tools have marked."""

import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.genes import chosen_genes, highly_variable_genes, velocity_genes
from tests.annotated.six_cells import MASK, NUMBERS, WORDS, N
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("gene_2", [2]),
        (["gene_4", "gene_1"], [1, 4]),
        ({"gene_4", "gene_1"}, [1, 4]),
        (pd.Index(["gene_4"]), [4]),
        (pd.Series(["gene_4", "gene_1"]), [1, 4]),
        (pd.Categorical(["gene_4", "gene_1"]), [1, 4]),
        (np.array([b"gene_4"]), [4]),
    ],
)
def test_chosen_genes(adata, chosen, expected):
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, chosen, "gene_subset")), expected)


def test_genes_named_by_numbers():
    """Zeros and ones are a mask, unless they are as texts the names of genes."""
    adata = anndata.AnnData(np.zeros((3, 4), dtype=np.float32))
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, [1, 0, 1, 1], "g")), [0, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, ["1", "0", "1", "1"], "g")), [0, 1])
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, [3, 2], "g")), [2, 3])


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ("absent", KeyError, r"`adata.var\['absent'\]`, found the keys \['chosen', 'bit'\]"),
        (["gene_1", "absent"], KeyError, r"`g`, found \['absent'\] not in `adata.var_names`"),
        (MASK[:-1], ValueError, r"mask of length 6 as `g`, found shape \(5,\)"),
        (np.array([MASK]), ValueError, r"found shape \(1, 6\)"),
        ([*MASK[:-1], None], ValueError, "`g`, found 1 missing"),
        ([False] * N, ValueError, r"`g` to choose some of the 6 genes, found none.*\['gene_0'"),
        ([], ValueError, "found none"),
        (3, TypeError, "`g`, found `3`"),
        (None, TypeError, "`g`, found `None`"),
        ([0.5, 1.5], TypeError, "`g` to be names or a mask of genes, found float64 values"),
        (pd.Series(MASK, index=list("abcdef")), ValueError, r"index of `g` to be the 6 names \['gene_0'.*to_numpy"),
    ],
)
def test_genes_that_are_not_there(adata, chosen, error, message):
    with pytest.raises(error, match=message):
        chosen_genes(adata, chosen, "g")


def test_gene_and_column(adata):
    adata.var["gene_1"] = MASK
    with pytest.raises(ValueError, match="'gene_1' is both"):
        chosen_genes(adata, "gene_1", "g")
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, ["gene_1"], "g")), [1])


MARKED = {
    "v_genes": lambda adata: velocity_genes(adata, "v", "Choose anew."),
    "highly_variable": lambda adata: highly_variable_genes(adata, "Choose anew."),
}


@pytest.mark.parametrize("key", MARKED)
def test_genes_that_tools_have_marked(adata, key):
    read = MARKED[key]
    assert read(adata) is None
    for mask in (MASK, NUMBERS, WORDS, pd.array(MASK, dtype="boolean"), [False] * N):
        adata.var[key] = mask
        with unchanged(adata):
            np.testing.assert_array_equal(read(adata), np.array(mask) if mask == [False] * N else MASK)
    for wrong, message in (
        ([0, 1, 2, 0, 1, 0], "booleans, or 0 and 1"),
        ([None, *MASK[1:]], "found 1 missing values"),
    ):
        adata.var[key] = wrong
        with pytest.raises(ValueError, match=rf"adata.var\['{key}'\]`, found|{message}") as error:
            read(adata)
        assert message in str(error.value)
        assert "Choose anew." in str(error.value)
    adata.var = pd.concat([adata.var, adata.var[[key]]], axis=1)
    with pytest.raises(ValueError, match=rf"one column `adata.var\['{key}'\]`, found 2"):
        read(adata)


def test_a_marked_gene_may_bear_the_name_of_its_column(adata):
    adata.var["v_genes"] = MASK
    adata.var_names = ["v_genes", *adata.var_names[1:]]
    np.testing.assert_array_equal(velocity_genes(adata, "v", "Choose anew."), MASK)
