"""Which embedding, and its coordinates."""

import numpy as np
import pytest

from jaxvelo.annotated.embeddings import default_basis, read_embedding
from tests.annotated.six_cells import N

pytestmark = pytest.mark.any_precision


def test_the_usual_ones_in_their_order(adata):
    with pytest.raises(KeyError, match=r"'X_tsne', 'X_pca'\] in `adata.obsm`, found \[\].*name one in `basis`"):
        default_basis(adata)
    for basis in ("pca", "tsne", "umap"):
        adata.obsm[f"X_{basis}"] = np.ones((N, 2))
        assert default_basis(adata) == basis


def test_with_the_prefix_before_without(adata):
    adata.obsm["mine"] = np.full((N, 2), 3.0)
    np.testing.assert_array_equal(read_embedding(adata, "mine"), 3)
    adata.obsm["X_mine"] = np.full((N, 2), 4.0)
    np.testing.assert_array_equal(read_embedding(adata, "mine"), 4)


def test_what_is_none(adata):
    with pytest.raises(KeyError, match=r"obsm\['X_umap'\]` or `adata.obsm\['umap'\]`, found the keys \[\].*or pass"):
        read_embedding(adata, "umap")
    adata.obsm["X_umap"] = np.ones((N, 1))
    assert read_embedding(adata, "umap").shape == (N, 1)
    with pytest.raises(ValueError, match=r"`adata.obsm\['X_umap'\]` to have 2 or more columns, found shape \(6, 1\)"):
        read_embedding(adata, "umap", 2)
