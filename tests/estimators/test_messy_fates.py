"""Fates of data as it is: odd clusters, cells chosen since, chains that nearly fall apart."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel

pytestmark = pytest.mark.any_precision


def entries(adata):
    """All keys of an AnnData object."""
    return {name: set(getattr(adata, name)) for name in ("obs", "var", "obsm", "varm", "obsp", "uns", "layers")}


def to_fates(estimator, cluster_key="clusters"):
    estimator.compute_macrostates(4, n_cells=5, cluster_key=cluster_key)
    estimator.predict_terminal_states("top_n", n_states=3, n_cells=5)
    estimator.compute_fate_probabilities()
    estimator.compute_absorption_times(calculate_variance=True)
    return estimator


def from_kernel(adata):
    return GPCCA(PrecomputedKernel(adata, obsp_key="T_fwd"))


def normalized(matrix):
    return sp.csr_matrix(matrix / matrix.sum(axis=1))


def numbered(clusters):
    return pd.Categorical(clusters.cat.codes.astype(int))


def as_text(clusters):
    return clusters.astype(str)


def with_unused(clusters):
    return clusters.cat.add_categories(["of no cell"])


def with_gaps(clusters):
    return clusters.where(np.arange(len(clusters)) % 3 > 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (numbered, ["1", "2", "3"]),
        (as_text, ["left", "middle", "right"]),
        (with_unused, ["left", "middle", "right"]),
        (with_gaps, ["left", "middle", "right"]),
    ],
)
@pytest.mark.parametrize("colors", [None, ["#000000"], ["no colour"] * 5])
def test_clusters_of_any_kind(cells, change, expected, colors):
    cells.obs["clusters"] = change(cells.obs["clusters"])
    cells.uns.pop("clusters_colors")
    if colors is not None:
        cells.uns["clusters_colors"] = colors
    estimator = to_fates(from_kernel(cells))
    assert sorted(estimator.fate_probabilities.names) == expected
    assert len(set(estimator.fate_probabilities.colors)) == 3
    np.testing.assert_allclose(np.sum(estimator.fate_probabilities.X, axis=1), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cluster_key": "celltypes"}, r"Expected `adata.obs\['celltypes'\]`, found the keys"),
        ({"cluster_key": {"obsm": "celltypes"}}, r"Expected `adata.obsm\['celltypes'\]`, found the keys"),
        ({"cluster_key": "time"}, "to be categorical, found float64"),
        ({"n_cells": 1000}, "Expected `n_cells` of at most 20"),
        ({"n_cells": 0}, "Expected `n_cells` to be an integer of at least 1"),
        ({"n_states": "4"}, "Expected `n_states` to be an integer"),
        ({"n_states": 0}, "Expected `n_states` to be an integer of at least 1"),
    ],
)
def test_what_cannot_be_computed_leaves_all_as_it_was(estimator, arguments, message):
    before = entries(estimator.adata)
    with pytest.raises((KeyError, TypeError, ValueError), match=message):
        estimator.compute_macrostates(**{"n_states": 4, "n_cells": 5, **arguments})
    assert entries(estimator.adata) == before
    assert estimator.macrostates is estimator.schur_vectors is None


def test_one_cluster_gives_numbered_states(cells):
    cells.obs["clusters"] = pd.Categorical(["cells"] * len(cells))
    estimator = to_fates(from_kernel(cells))
    assert set(estimator.fate_probabilities.names) <= {f"cells_{number}" for number in (1, 2, 3, 4)}


def test_backed_data(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    estimator = to_fates(from_kernel(backed))
    estimator.compute_lineage_drivers()
    expected = to_fates(from_kernel(cells))
    np.testing.assert_allclose(estimator.fate_probabilities.X, expected.fate_probabilities.X)
    assert estimator.lineage_drivers.notna().all(axis=None)
    backed.file.close()


def test_a_view_becomes_data_of_its_own(cells, logged):
    view = cells[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", anndata.ImplicitModificationWarning)
        estimator = to_fates(from_kernel(view))
    assert logged().count("a view of another") == 1
    assert not estimator.adata.is_view
    assert "lineages_fwd" in view.obsm
    assert "lineages_fwd" not in cells.obsm


def test_results_of_another_matrix_are_named(cells, logged):
    to_fates(from_kernel(cells))
    logged()
    again = GPCCA.from_adata(cells[::-1].copy(), "T_fwd")
    assert "another transition matrix" not in logged()
    np.testing.assert_array_equal(again.fate_probabilities.X, cells.obsm["lineages_fwd"][::-1])
    cells.obsp["T_fwd"] = normalized(cells.obsp["T_fwd"].power(0.5))
    estimator = GPCCA.from_adata(cells, "T_fwd")
    assert "`adata.obsm['schur_vectors_fwd']` and `adata.obsm['lineages_fwd']`" in (text := logged())
    assert "another transition matrix" in text
    to_fates(estimator)
    logged()
    GPCCA.from_adata(cells, "T_fwd")
    assert "another transition matrix" not in logged()


def test_a_reversible_chain_of_connectivities(cells):
    """With a cell that has no neighbours: a class of its own."""
    weights = (cells.obsp["T_fwd"] + cells.obsp["T_fwd"].T).tolil()
    weights[0], weights[:, 0] = 0, 0
    cells.obsp["connectivities"] = sp.csr_matrix(weights)
    estimator = GPCCA(ConnectivityKernel(cells).compute_transition_matrix())
    estimator.compute_macrostates(4, n_cells=5)
    np.testing.assert_allclose(estimator.eigendecomposition["D"][:2], 1)
    assert not np.iscomplexobj(np.real_if_close(estimator.eigendecomposition["D"]))
    before = entries(cells)
    estimator.set_terminal_states({"clusters": ["left"]})
    with pytest.raises(ValueError, match="found 1 that reach none, such as"):
        estimator.compute_fate_probabilities()
    assert entries(cells)["obsm"] == before["obsm"]
    estimator.set_terminal_states({"alone": ["cell_0"], "left": cells.obs_names[cells.obs["clusters"] == "left"]})
    estimator.compute_fate_probabilities()
    assert set(np.unique(estimator.fate_probabilities[:, "alone"].X.ravel().round(9))) == {0, 1}


def test_blocks_that_are_hardly_ever_left():
    rng = np.random.default_rng(0)
    weights = np.kron(np.eye(3), np.ones((10, 10))) * rng.uniform(0.5, 1.5, (30, 30)) + 1e-11
    estimator = GPCCA(PrecomputedKernel(weights / weights.sum(axis=1, keepdims=True)))
    estimator.compute_macrostates(3, n_cells=5)
    assert estimator.crispness > 0.99
    blocks = estimator.macrostates_memberships.X.argmax(axis=1).reshape(3, 10)
    assert (blocks == blocks[:, :1]).all()
    assert estimator.coarse_stationary_distribution.min() > 0
    np.testing.assert_allclose(estimator.coarse_stationary_distribution.sum(), 1)
    estimator.predict_initial_states(n_cells=5)
    estimator.set_terminal_states(n_cells=5, allow_overlap=True)
    estimator.compute_fate_probabilities()
    np.testing.assert_allclose(np.sum(estimator.fate_probabilities.X, axis=1), 1)


def test_steps_that_can_be_counted():
    """A ring: the number of steps to the one end that is reached has no variance."""
    estimator = GPCCA(PrecomputedKernel(np.roll(np.eye(12), 1, axis=1)))
    estimator.set_terminal_states({"a": ["0"], "b": ["6"]})
    estimator.compute_fate_probabilities()
    estimator.compute_absorption_times(calculate_variance=True)
    np.testing.assert_array_equal(estimator.fate_probabilities[1:7, "b"].X.ravel(), 1)
    np.testing.assert_allclose(estimator.absorption_times["b_mean"].iloc[1:7], [5, 4, 3, 2, 1, 0])
    np.testing.assert_allclose(estimator.absorption_times["b_var"].iloc[1:7], 0, atol=1e-9)


def test_unknown_clusters_are_not_looked_for(estimator):
    with pytest.raises(ValueError, match=r"found \['lefft'\]. There are \['trunk', 'left'"):
        estimator.tsi(4, ["lefft", "right"], "clusters", n_cells=5)
    with pytest.raises(KeyError, match="celltypes"):
        estimator.tsi(4, ["left"], "celltypes", n_cells=5)


def test_drivers_without_genes(cells):
    estimator = to_fates(from_kernel(cells[:, :0].copy()))
    with pytest.raises(ValueError, match="Keep some genes"):
        estimator.compute_lineage_drivers()
    assert "terminal_lineage_drivers" not in estimator.adata.varm


@pytest.mark.parametrize("use_raw", [False, True])
def test_slashes_in_the_names_of_clusters(cells, tmp_path, use_raw):
    """Files allow none in the names of columns."""
    cells.obs["clusters"] = cells.obs["clusters"].cat.rename_categories({"left": "CD4/CD8"})
    cells.raw = cells.copy()
    estimator = to_fates(from_kernel(cells))
    estimator.compute_lineage_drivers(use_raw=use_raw)
    assert {"CD4/CD8_mean", "CD4/CD8_var"} < set(estimator.absorption_times.columns)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = GPCCA.from_adata(anndata.read_h5ad(tmp_path / "cells.h5ad"), "T_fwd")
    pd.testing.assert_frame_equal(again.absorption_times, estimator.absorption_times)
    pd.testing.assert_frame_equal(again.lineage_drivers, estimator.lineage_drivers)
    again.plot_lineage_drivers("CD4/CD8", n_genes=2, use_raw=use_raw)
    again.set_terminal_states(["CD4/CD8, right", "middle"], n_cells=5)
    assert again.compute_fate_probabilities().fate_probabilities.names.tolist() == ["CD4/CD8, right", "middle"]
