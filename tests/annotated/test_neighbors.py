"""Who is whose neighbour, whatever the weight."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.neighbors import read_neighbors, warn_about_isolated
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision

ROWS, COLUMNS = [0, 0, 0, 1, 1, 3], [0, 1, 2, 0, 3, 2]  # cell 2 has no neighbours
WEIGHTS = [0.5, 0.0, 0.3, 0.2, 0.9, 0.4]


@pytest.fixture
def adata():
    """Stored zeros, and a cell that is a neighbour of itself."""
    graph = sp.csr_matrix((WEIGHTS, (ROWS, COLUMNS)), shape=(4, 4))
    return anndata.AnnData(np.zeros((4, 1)), obsp={"distances": graph, "connectivities": graph.copy()})


def pairs(pattern):
    assert sp.isspmatrix_csr(pattern)
    assert (pattern.data == 1).all()
    return sorted(zip(*map(np.ndarray.tolist, pattern.nonzero()), strict=True))


def test_a_distance_of_zero_counts_and_a_weight_of_zero_does_not(adata):
    with unchanged(adata):
        assert pairs(read_neighbors(adata)) == [(0, 1), (0, 2), (1, 0), (1, 3), (3, 2)]
        assert pairs(read_neighbors(adata, "connectivities")) == [(0, 2), (1, 0), (1, 3), (3, 2)]


def test_the_nearest_and_the_most_strongly_connected(adata):
    assert pairs(read_neighbors(adata, n_neighbors=1)) == [(0, 1), (1, 0), (3, 2)]
    assert pairs(read_neighbors(adata, "connectivities", 1)) == [(0, 2), (1, 3), (3, 2)]
    assert pairs(read_neighbors(adata, n_neighbors=2)) == pairs(read_neighbors(adata))


def test_neighbours_of_another_name(adata):
    adata.obsp["nn_distances"] = sp.csr_matrix(([1.0], ([2], [3])), shape=(4, 4))
    assert pairs(read_neighbors(adata, neighbors_key="nn")) == [(2, 3)]


def test_what_is_not_there(adata):
    with pytest.raises(
        ValueError, match=r"`mode_neighbors` to be one of \('distances', 'connectivities'\), found `'x'"
    ):
        read_neighbors(adata, "x")
    with pytest.raises(KeyError, match=r"obsp\['nn_distances'\].*jaxvelo.pp.neighbors"):
        read_neighbors(adata, neighbors_key="nn")
    with pytest.raises(ValueError, match=r"found `3`, where cells have up to 2.*n_neighbors=\.\.\."):
        read_neighbors(adata, n_neighbors=3)
    with pytest.raises(ValueError, match="`n_neighbors` to be an integer of at least 1"):
        read_neighbors(adata, n_neighbors=0)
    adata.obsp["distances"] = sp.csr_matrix(np.eye(4))
    with pytest.raises(ValueError, match=r"neighbours in `adata.obsp\['distances'\]`, found no cell that has any"):
        read_neighbors(adata)


def test_cells_without_neighbours_are_counted(adata, caplog):
    warn_about_isolated(read_neighbors(adata), "distances", "they stay")
    assert "1 cells have no neighbours in `adata.obsp['distances']`; they stay" in caplog.text
    caplog.clear()
    warn_about_isolated(sp.csr_matrix(np.ones((4, 4))), "distances", "they stay")
    assert not caplog.records
