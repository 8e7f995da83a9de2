"""Where the velocity graph stands; whether it is that of the velocities is tested with the tools that use it."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.velocity_graph import has_velocity_graph, read_velocity_graph, stored_velocity_graph
from tests.annotated.six_cells import N
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision

POSITIVE, NEGATIVE = sp.csr_matrix(np.eye(N, k=1)), sp.csr_matrix(-np.eye(N, k=-1))


@pytest.mark.parametrize("slots", [("uns", "uns"), ("obsp", "obsp"), ("uns", "obsp")])
def test_where_it_stands(adata, slots):
    assert not has_velocity_graph(adata, "v")
    assert stored_velocity_graph(adata, "v") is None
    for slot, key, part in zip(slots, ("v_graph", "v_graph_neg"), (POSITIVE, NEGATIVE), strict=True):
        getattr(adata, slot)[key] = part
    assert has_velocity_graph(adata, "v")
    with unchanged(adata):
        for found in (read_velocity_graph(adata, "v"), stored_velocity_graph(adata, "v")):
            for part, expected in zip(found, (POSITIVE, NEGATIVE), strict=True):
                np.testing.assert_array_equal(part.toarray(), expected.toarray())
    del getattr(adata, slots[1])["v_graph_neg"]
    assert has_velocity_graph(adata, "v")
    assert stored_velocity_graph(adata, "v") is None
    with pytest.raises(
        KeyError, match=r"adata.uns\['v_graph_neg'\]`, found the keys .*velocity_graph\(adata, vkey='v'"
    ):
        read_velocity_graph(adata, "v")


def test_velocity_genes_that_are_none(adata):
    """The remedy is one that the tools which read the graph have."""
    adata.uns["v_graph"], adata.uns["v_graph_neg"] = POSITIVE, NEGATIVE
    adata.layers["Ms"] = adata.layers["v"] = np.arange(N * N, dtype=float).reshape(N, N) ** 2
    adata.var["v_genes"] = [None, *[True] * (N - 1)]
    with pytest.raises(ValueError, match=r"`adata.var\['v_genes'\]`, found 1 missing.*their graph anew") as error:
        read_velocity_graph(adata, "v")
    assert "gene_subset" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (sp.csr_matrix(np.eye(3)), r"`adata.uns\['v_graph'\]` to be of the 6 cells of `adata`, found shape \(3, 3\)"),
        (sp.csr_matrix(np.eye(N) * np.nan), r"finite correlations in `adata.uns\['v_graph'\]`"),
        (sp.csr_matrix((N, N)), r"correlations in `adata.uns\['v_graph'\]`, found none"),
    ],
)
def test_what_is_none(adata, part, message):
    adata.uns["v_graph"], adata.uns["v_graph_neg"] = part, sp.csr_matrix((N, N))
    with pytest.raises(ValueError, match=f"{message}.*jaxvelo.tl.velocity_graph"):
        read_velocity_graph(adata, "v")
    assert (stored_velocity_graph(adata, "v") is None) == (part.shape != (N, N))
