"""Expression and velocity on the genes that are used."""

import pickle

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo import datasets, kernels, pp, tl
from jaxvelo.annotated import feature_data
from jaxvelo.annotated.feature_data import FeatureData
from jaxvelo.dynamics import _moments
from jaxvelo.graph._aligned import empty_aligned
from jaxvelo.graph._blocks import on_cpu
from jaxvelo.graph._buckets import next_size
from tests.annotated.six_cells import MASK, N
from tests.snapshot import unchanged

GENES = [f"gene_{i}" for i in range(N)]
CHOSEN = [gene for gene, truth in zip(GENES, MASK, strict=True) if truth]


@pytest.fixture
def cells(adata):
    rng = np.random.default_rng(0)
    adata.layers["Ms"], adata.layers["velocity"] = rng.random((2, N, N)).astype(np.float32)
    adata.obsm["X_pca"], adata.obsm["velocity_pca"] = rng.random((2, N, 3))
    return adata


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_array, lambda a: a.astype(np.float64)])
def test_values(cells, form):
    x, v = cells.layers["Ms"].copy(), cells.layers["velocity"].copy()
    cells.layers["Ms"], cells.layers["velocity"] = form(x), form(v)
    with unchanged(cells):
        data = FeatureData(cells)
    assert list(data.genes) == GENES
    assert data.name == "velocity"
    for found, expected in ((data.x, x), (data.v, v)):
        assert found.dtype == jnp.result_type(float)
        np.testing.assert_array_equal(found, expected)
    plain, padded = data.features(pad=False), data.features()
    np.testing.assert_array_equal(plain.x, x)
    assert plain.n_genes is None
    assert int(padded.n_genes) == N
    np.testing.assert_array_equal(np.asarray(padded.v)[:N, :N], v)
    assert not np.asarray(padded.v)[N:].any()
    assert not np.asarray(padded.v)[:, N:].any()


def test_which_genes(cells):
    """Those that the user names, else those that tools have chosen, else all."""
    cells.var["velocity_genes"] = MASK
    names = set()
    for subset, expected in (
        (None, CHOSEN),
        ("chosen", CHOSEN),
        (MASK, CHOSEN),
        (["gene_4", "gene_1"], ["gene_1", "gene_4"]),
    ):
        data = FeatureData(cells, gene_subset=subset)
        assert list(data.genes) == expected
        np.testing.assert_array_equal(data.x, cells[:, expected].layers["Ms"])
        names.add(data.name)
    assert len(names) == 3, "the same genes have the same name, but for those that need no choice"
    assert list(FeatureData(cells, vkey="Ms").genes) == GENES


def test_genes_without_velocities_are_left_out(cells, caplog):
    cells.layers["velocity"][2, [0, 3]] = np.nan
    data = FeatureData(cells)
    assert list(data.genes) == [gene for gene in GENES if gene not in ("gene_0", "gene_3")]
    assert np.isfinite(data.v).all()
    assert "Leaving out 2 genes whose velocity in `adata.layers['velocity']` is not finite in all cells" in caplog.text
    cells.layers["velocity"][2] = np.nan
    with pytest.raises(ValueError, match=r"2 genes with finite velocities.*found 0 of 6. Cells \[2\] have no finite"):
        FeatureData(cells)


def test_of_obsm(cells, caplog):
    data = FeatureData(cells, "obsm", "X_pca", "velocity_pca", gene_subset=CHOSEN)
    np.testing.assert_array_equal(data.genes, [0, 1, 2])
    assert data.name == "obsm:X_pca:velocity_pca"
    np.testing.assert_allclose(data.x, cells.obsm["X_pca"], rtol=1e-6)
    assert "`gene_subset` is for layers, not for `adata.obsm`" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda a: a.layers.pop("Ms"), KeyError, r"`adata.layers\['Ms'\]`, found the keys \['velocity'\].*moments"),
        (lambda a: a.layers.update(Ms=np.full((N, N), "a")), ValueError, r"numbers in `adata.layers\['Ms'\]`, found"),
        (
            lambda a: a.layers["Ms"].__setitem__((3, 1), np.inf),
            ValueError,
            r"finite expression in `adata.layers\['Ms'\]`, found 1 values that are not, the first in cell 3",
        ),
        (
            lambda a: a.var.insert(0, "velocity_genes", False),
            ValueError,
            r"`adata.var\['velocity_genes'\]` to choose some of the 6 genes, found none",
        ),
        (
            lambda a: a.var.insert(0, "velocity_genes", pd.array([None] * N, dtype="boolean")),
            ValueError,
            r"`adata.var\['velocity_genes'\]`, found 6 missing values",
        ),
    ],
)
def test_what_does_not_fit(cells, spoil, error, message):
    spoil(cells)
    with pytest.raises(error, match=message):
        FeatureData(cells)


def test_what_does_not_belong_together(cells):
    cells.obsm["other"] = np.ones((N, 2))
    with pytest.raises(ValueError, match=r"same shape, found \(6, 3\) in `adata.obsm\['X_pca'\]` and \(6, 2\)"):
        FeatureData(cells, "obsm", "X_pca", "other")


@pytest.mark.skipif(not on_cpu(), reason="other devices have a memory of their own")
def test_large_arrays_are_used_where_they_are(cells, monkeypatch, logged):
    """All genes, of the right type, where JAX needs them: no copy, no padding."""
    dtype = jnp.result_type(float)
    for key in ("Ms", "velocity"):
        layer = empty_aligned((N, N), dtype)
        layer[:] = cells.layers[key]
        cells.layers[key] = layer
    assert FeatureData(cells).features().x.shape == (next_size(N), next_size(N))
    monkeypatch.setattr(feature_data, "LARGE", 1)
    data = FeatureData(cells)
    features = data.features()
    assert features.n_genes is None
    for found, key in ((features.x, "Ms"), (features.v, "velocity")):
        assert found.unsafe_buffer_pointer() == cells.layers[key].ctypes.data
    assert not logged()

    # A choice of genes, or another type, is a copy.
    chosen = FeatureData(cells, gene_subset=MASK).features()
    np.testing.assert_array_equal(chosen.x, cells.layers["Ms"][:, MASK])
    cells.layers["Ms"] = np.concatenate([np.zeros(1, dtype), cells.layers["Ms"].ravel()])[1:].reshape(N, N)
    copied = FeatureData(cells).features()
    np.testing.assert_array_equal(copied.x, cells.layers["Ms"])
    assert copied.x.unsafe_buffer_pointer() != cells.layers["Ms"].ctypes.data


@pytest.mark.any_precision
@pytest.mark.skipif(not on_cpu(), reason="other devices have a memory of their own")
def test_moments_and_velocities_are_made_where_jax_can_use_them(monkeypatch):
    adata = datasets.simulate(60, 70)
    pp.neighbors(adata, n_neighbors=8, use_rep="X")
    monkeypatch.setattr(_moments, "MOST_NUMBERS", 1)  # as if there were many
    monkeypatch.setattr(feature_data, "LARGE", 1)
    pp.moments(adata, enforce=True)
    tl.velocity(adata, mode="stochastic")
    del adata.var["velocity_genes"]
    features = FeatureData(adata).features()
    assert features.x.unsafe_buffer_pointer() == adata.layers["Ms"].ctypes.data
    assert features.v.unsafe_buffer_pointer() == adata.layers["velocity"].ctypes.data


@pytest.mark.any_precision
@pytest.mark.skipif(not on_cpu(), reason="other devices get a copy in any case")
@pytest.mark.parametrize("subset", [None, np.arange(70) % 2 == 0])
def test_large_arrays_that_would_be_copied_are_read_in_blocks(subset, monkeypatch):
    """Those of which some genes are used, and those that do not start where JAX needs it."""
    adata = datasets.simulate(60, 70)
    pp.neighbors(adata, n_neighbors=8, use_rep="X")
    pp.moments(adata, enforce=True)
    tl.velocity(adata, mode="deterministic")
    del adata.var["velocity_genes"]
    dtype = adata.layers["velocity"].dtype
    adata.layers["velocity"] = np.concatenate([np.zeros(1, dtype), adata.layers["velocity"].ravel()])[1:].reshape(
        60, 70
    )
    expected = kernels.VelocityKernel(adata, gene_subset=subset).compute_transition_matrix()
    monkeypatch.setattr(feature_data, "LARGE", 1)
    monkeypatch.setattr(feature_data, "_padded_columns", None)  # makes the copies
    for limit in ("300 kB", None):
        found = kernels.VelocityKernel(adata, gene_subset=subset).compute_transition_matrix(memory_limit=limit)
        assert found.params == pytest.approx(expected.params)
        np.testing.assert_array_equal(found.transition_matrix.indices, expected.transition_matrix.indices)
        np.testing.assert_allclose(found.transition_matrix.data, expected.transition_matrix.data, rtol=1e-5, atol=1e-9)
    monkeypatch.undo()
    np.testing.assert_array_equal(found.genes, expected.genes)
    # Other layers in the place of these change no kernel, nor do other marks.
    adata.layers["Ms"], adata.layers["velocity"] = np.ones((2, 60, 70), dtype)
    adata.var["velocity_genes"] = np.arange(70) < 9
    for kernel in (found, pickle.loads(pickle.dumps(found))):
        (features,), (others,) = kernel.features.values(), expected.features.values()
        np.testing.assert_array_equal(features.x, others.x)
        np.testing.assert_array_equal(features.v, others.v)
