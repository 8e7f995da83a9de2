import anndata as ad
import jax
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import genes_of, simulated


@pytest.fixture
def adata():
    return simulated(80, 24)


def expected_of(adata):
    v = adata.layers["velocity"][:, genes_of(adata)].astype(float)
    length, mean = plain.coherence((adata.obsp["distances"] > 0).toarray(), v)
    return length, mean.clip(0)


def check(adata, vkey="velocity"):
    length, confidence = expected_of(adata)
    atol = 1e-10 if jax.config.jax_enable_x64 else 1e-5
    np.testing.assert_allclose(adata.obs[f"{vkey}_confidence"], confidence, atol=atol)
    # Rounded to two decimals, where single precision may fall on the other side.
    np.testing.assert_allclose(adata.obs[f"{vkey}_length"], length, atol=0.005 + 1e-4)
    np.testing.assert_allclose(adata.obs[f"{vkey}_length"] * 100 % 1 % 1, 0.5, atol=0.5)


def test_equals_numpy(adata):
    jv.tl.velocity_confidence(adata)
    check(adata)
    assert adata.obs["velocity_confidence"].between(0, 1).all()


def test_negative_agreement_is_none(adata):
    """Velocities in any direction: where those around point elsewhere on the whole, the confidence is zero."""
    rng = np.random.default_rng(0)
    adata.layers["velocity"] = rng.normal(size=adata.shape)
    jv.tl.velocity_confidence(adata)
    check(adata)
    assert (adata.obs["velocity_confidence"] == 0).any()


def test_genes_without_a_fit_are_left_out(adata, caplog):
    expected = expected_of(adata)[1]
    del adata.var["velocity_genes"]
    jv.tl.velocity_confidence(adata)
    np.testing.assert_allclose(adata.obs["velocity_confidence"], expected, atol=1e-5)
    assert "Leaving out 3 genes" in caplog.text


def test_messy_cells(adata, caplog):
    """Zero velocity, no neighbours, different numbers of neighbours: no NaN."""
    adata.layers["velocity"][3, genes_of(adata)] = 0
    distances = sp.lil_matrix(adata.obsp["distances"])
    distances[7] = 0
    distances[8, distances[8].nonzero()[1][:5]] = 0
    adata.obsp["distances"] = sp.csr_matrix(distances)
    adata.obsp["distances"].eliminate_zeros()
    jv.tl.velocity_confidence(adata)
    check(adata)
    assert (adata.obs["velocity_confidence"].iloc[[3, 7]] == 0).all()
    assert adata.obs["velocity_length"].iloc[3] == 0
    assert "1 cells have no neighbours in `adata.obsp['distances']`; their confidence is 0" in caplog.text


def test_copy_and_keys(adata):
    adata.layers["v"], adata.var["v_genes"] = adata.layers["velocity"], adata.var["velocity_genes"]
    with unchanged(adata):
        result = jv.tl.velocity_confidence(adata, "v", copy=True)
    check(result, "v")
    assert jv.tl.velocity_confidence(adata) is None
    np.testing.assert_array_equal(adata.obs["velocity_confidence"], result.obs["v_confidence"])


@pytest.mark.parametrize("key", ["velocity", "distances"])
def test_missing_keys(adata, key):
    del (adata.layers if key == "velocity" else adata.obsp)[key]
    with unchanged(adata), pytest.raises(KeyError, match=key):
        jv.tl.velocity_confidence(adata)


@pytest.mark.parametrize("fault", ["no gene marked", "a missing mark", "no finite velocity"])
def test_remedies_name_what_the_tool_has(adata, fault):
    if fault == "no finite velocity":
        adata.layers["velocity"][:] = np.nan
    else:
        marks = genes_of(adata).astype(object)
        marks[:] = False
        marks[0] = False if fault == "no gene marked" else None
        adata.var["velocity_genes"] = marks if fault == "a missing mark" else marks.astype(bool)
    with pytest.raises(ValueError, match=r"(?i)compute (the )?velocities anew") as caught:
        jv.tl.velocity_confidence(adata)
    assert "gene_subset" not in str(caught.value)


def test_real_data(shared):
    adata = ad.read_h5ad(shared / "reference/small_velocity.h5ad")
    jv.tl.velocity_confidence(adata)
    check(adata)
