import jax
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import genes_of, plain_graph


def expected_of(adata, graph, scale=10):
    """Correlations with the expected displacements, from the dense correlations of the velocity graph."""
    genes = genes_of(adata)
    x, v = (adata.layers[key][:, genes].astype(float) for key in ("Ms", "velocity"))
    largest = np.maximum(graph, 0).max(axis=1)
    to_itself = np.clip(np.percentile(largest, 98) - largest, 0, 1)
    t = np.where(graph != 0, np.exp(scale * graph), 0)
    np.fill_diagonal(t, np.where(to_itself > 0, np.exp(scale * to_itself), 0))
    t = t / t.sum(axis=1, keepdims=True)
    displacements = np.array([sum(t[i, j] * (x[j] - x[i]) for j in np.flatnonzero(t[i])) for i in range(len(x))])
    return np.array([plain.correlation(a, b) for a, b in zip(displacements, v, strict=True)])


def check(adata, key="velocity_confidence_transition", scale=10):
    atol = 1e-9 if jax.config.jax_enable_x64 else 2e-4
    np.testing.assert_allclose(adata.obs[key], expected_of(adata, plain_graph(adata), scale), atol=atol)


def test_equals_numpy(adata):
    with unchanged(adata, "/obs/velocity_confidence_transition"):
        assert jv.tl.velocity_confidence_transition(adata) is None
    check(adata)
    assert adata.obs["velocity_confidence_transition"].between(-1, 1).all()
    assert adata.obs["velocity_confidence_transition"].mean() > 0.5


def test_copy_keys_and_scale(adata):
    adata.layers["v"], adata.var["v_genes"] = adata.layers["velocity"], adata.var["velocity_genes"]
    for name in ("graph", "graph_neg"):
        adata.uns[f"v_{name}"] = adata.uns[f"velocity_{name}"]
    adata.var["spearmans_score"] = 0.0
    with unchanged(adata):
        result = jv.tl.velocity_confidence_transition(adata, "v", 5, copy=True)
    check(result, "v_confidence_transition", 5)


def test_messy_cells(adata):
    """Zero velocity, no correlations: no NaN."""
    adata.layers["velocity"][3, genes_of(adata)] = 0
    for key in ("velocity_graph", "velocity_graph_neg"):
        graph = sp.lil_matrix(adata.uns[key])
        graph[3], graph[7] = 0, 0
        adata.uns[key] = sp.csr_matrix(graph)
    jv.tl.velocity_confidence_transition(adata)
    assert (adata.obs["velocity_confidence_transition"].iloc[[3, 7]] == 0).all()
    assert np.isfinite(adata.obs["velocity_confidence_transition"]).all()


@pytest.mark.any_precision
@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda a: a.layers.pop("velocity"), {}, KeyError, "velocity"),
        (lambda a: a.layers.pop("Ms"), {}, KeyError, "Ms"),
        (lambda a: a.uns.pop("velocity_graph"), {}, KeyError, "tl.velocity_graph"),
        (lambda a: None, {"scale": 0}, ValueError, "`scale`"),
    ],
)
def test_what_is_refused(adata, change, arguments, error, message):
    change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.velocity_confidence_transition(adata, **arguments)
