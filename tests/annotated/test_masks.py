"""Truth values, in all forms in which people and files have them."""

import anndata
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.masks import read_mask
from tests.annotated.six_cells import MASK, NUMBERS, WORDS
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


FORMS = {
    "booleans": np.array(MASK),
    "list": MASK,
    "nullable": pd.array(MASK, dtype="boolean"),
    "objects": np.array(MASK, dtype=object),
    "integers": np.array(NUMBERS, dtype=np.int8),
    "unsigned": np.array(NUMBERS, dtype=np.uint32),
    "nullable integers": pd.array(NUMBERS, dtype="Int64"),
    "floats": np.array(NUMBERS, dtype=np.float32),
    "words": WORDS,
    "words of R": [word.upper() for word in WORDS],
    "bytes": np.array([word.encode() for word in WORDS]),
    "digits": list(map(str, NUMBERS)),
    "categories of words": pd.Categorical(WORDS),
    "categories of booleans": pd.Categorical(MASK),
    "categories of numbers": pd.Categorical(NUMBERS),
    "strings": pd.array(WORDS, dtype="string"),
    "jax": jnp.array(MASK),
}


@pytest.mark.parametrize("form", FORMS)
def test_masks(form, adata):
    values = FORMS[form]
    mask = read_mask(values if form != "jax" else np.asarray(values), "x", "")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(chosen_genes(adata, values, "gene_subset"), MASK)
    if form != "jax":
        adata.var["mask"] = pd.Series(values, index=adata.var_names)
        with unchanged(adata):
            np.testing.assert_array_equal(chosen_genes(adata, "mask", "gene_subset"), MASK)
            np.testing.assert_array_equal(chosen_genes(adata, adata.var["mask"], "gene_subset"), MASK)
            np.testing.assert_array_equal(chosen_genes(adata, adata.var["mask"].iloc[::-1], "gene_subset"), MASK)


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_cells(form, adata):
    """Numbers of 0 and 1, as many as there are cells, could be indices; so could no text be."""
    values = FORMS[form]
    if form in ("integers", "unsigned", "nullable integers", "floats", "categories of numbers"):
        with pytest.raises(ValueError, match=r"`cells`, found 6 numbers of 0 and 1 alone.*Pass booleans.*astype\(bool"):
            chosen_cells(adata, values, "cells")
    else:
        np.testing.assert_array_equal(chosen_cells(adata, values, "cells"), MASK)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("file", ["h5ad", "zarr"])
def test_masks_from_files(file, adata, tmp_path):
    """What a file gives back chooses the same genes."""
    adata.var["mixed"] = np.array(MASK, dtype=object).astype(str)
    adata.var["nullable"] = pd.array(MASK, dtype="boolean")
    path = tmp_path / f"cells.{file}"
    getattr(adata, f"write_{file}")(path)
    back = anndata.read_h5ad(path) if file == "h5ad" else anndata.read_zarr(path)
    for key in ("mixed", "nullable", "chosen", "bit"):
        np.testing.assert_array_equal(chosen_genes(back, key, "gene_subset"), MASK)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [0, 1, 2, 3, 4, 5],
            r"booleans, or 0 and 1, in `x`, found the type int64 with \[2, 3, 4, ... \(4 in all\)\]. Do this",
        ),
        ([0.5, 1.0], r"float64 with \[0.5\]"),
        (["True", "maybe"], r"with \['maybe'\]"),
        ([[1], [0]], "found the type object"),
        ([True, None], "found 1 missing values. Fill them, as by `.fillna"),
        ([1.0, np.nan, np.nan], "found 2 missing values"),
        (pd.array([True, None], dtype="boolean"), "found 1 missing"),
        (pd.Categorical(["True", None]), "found 1 missing"),
    ],
)
def test_no_masks(values, message):
    with pytest.raises(ValueError, match=message):
        read_mask(pd.Series(values), "x", "Do this.")
