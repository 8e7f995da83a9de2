"""Numbers and embeddings as pandas, Python and files hold them."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.arrays import dense, read_array, read_representation
from jaxvelo.annotated.embeddings import read_embedding
from tests.snapshot import unchanged

VALUES = np.array([[0.5, 1.0], [np.nan, 2.0], [3.0, 4.5]])


FINITE = np.where(np.isnan(VALUES), 0, VALUES)


NAMES = ["a", "b", "c"]


def table(values, **options):
    return pd.DataFrame(values, index=NAMES, columns=["UMAP_1", "UMAP_2"], **options)


FORMS = {
    "array": lambda values: values,
    "objects": lambda values: values.astype(object),
    "table": table,
    "single precision": lambda values: table(values).astype("float32"),
    "nullable": lambda values: table(values).astype("Float64"),
    "one nullable column": lambda values: table(values).astype({"UMAP_1": "Float32"}),
    "table of objects": lambda values: table(values.astype(object)),
    "None": lambda values: table(np.where(np.isnan(values), None, values.astype(object))),
}


@pytest.mark.parametrize("form", FORMS)
def test_numbers_of_all_types(form):
    found = dense(FORMS[form](VALUES))
    assert found.dtype.kind == "f"
    np.testing.assert_array_equal(found, VALUES)


def test_types_that_are_there_stay():
    assert dense(table(VALUES).astype("float32")).dtype == np.float32
    assert dense(np.ones((3, 2), dtype=np.int8)).dtype == np.int8
    assert dense(sp.csr_matrix(np.ones((3, 2), dtype=np.float32))).dtype == np.float32
    for text in (VALUES.astype(str), VALUES.astype(str).astype(object), table(VALUES.astype(str))):
        assert dense(text).dtype.kind in "OU", "texts are no numbers"


@pytest.fixture
def adata():
    return anndata.AnnData(np.zeros((3, 4)), obs=pd.DataFrame(index=NAMES))


@pytest.mark.parametrize("form", FORMS)
def test_entries_of_obsm(form, adata):
    adata.obsm["X_umap"] = FORMS[form](FINITE)
    with unchanged(adata):
        for found in (read_embedding(adata, "umap", 2), read_representation(adata, "X_umap", "")):
            assert found.dtype.kind == "f"
            np.testing.assert_array_equal(found, FINITE)
    if form != "objects":
        np.testing.assert_array_equal(read_array(adata, "X_umap", "obsm"), FINITE)


def test_embeddings_that_are_none(adata):
    adata.obsm["X_umap"] = table(FINITE).assign(batch="x")
    with pytest.raises(
        ValueError, match=r"`adata.obsm\['X_umap'\]`, found values that are no numbers.*Keep the columns"
    ):
        read_embedding(adata, "umap")
    adata.obsm["X_umap"] = FINITE.astype(str)
    np.testing.assert_array_equal(read_embedding(adata, "umap"), FINITE)
