"""Results in AnnData, h5ad, zarr and files of our own, and what CellRank reads and writes."""

import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel
from tests.bent_line import make_cells as bent_line

pytestmark = pytest.mark.any_precision

TABLES = ("macrostates_memberships", "terminal_states_memberships", "initial_states_memberships", "fate_probabilities")
COLUMNS = ("macrostates", "terminal_states", "initial_states", "terminal_states_probabilities", "priming_degree")
FRAMES = ("coarse_T", "absorption_times", "lineage_drivers")
DISTRIBUTIONS = ("coarse_stationary_distribution", "coarse_initial_distribution")


def assert_same(found: GPCCA, expected: GPCCA) -> None:
    for name in TABLES:
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(a.X, b.X)
        assert a.names.tolist() == b.names.tolist()
        assert a.colors.tolist() == b.colors.tolist()
    for name in (*COLUMNS, *DISTRIBUTIONS):
        pd.testing.assert_series_equal(getattr(found, name), getattr(expected, name), check_names=False)
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(found.schur_vectors, expected.schur_vectors)
    np.testing.assert_array_equal(found.schur_matrix, expected.schur_matrix)
    np.testing.assert_array_equal(found.eigendecomposition["D"], expected.eigendecomposition["D"])
    assert found.crispness == expected.crispness
    assert found.params.keys() == expected.params.keys()
    assert (found.transition_matrix != expected.transition_matrix).nnz == 0


KEYS = {
    "obs": {
        "macrostates_fwd",
        "term_states_fwd",
        "term_states_fwd_probs",
        "init_states_fwd",
        "init_states_fwd_probs",
        "priming_degree_fwd",
    },
    "obsm": {
        "schur_vectors_fwd",
        "macrostates_fwd_memberships",
        "term_states_fwd_memberships",
        "init_states_fwd_memberships",
        "lineages_fwd",
        "absorption_times_fwd",
    },
    "varm": {"terminal_lineage_drivers"},
    "uns": {
        "schur_matrix_fwd",
        "eigendecomposition_fwd",
        "coarse_fwd",
        "macrostates_fwd_colors",
        "term_states_fwd_colors",
        "init_states_fwd_colors",
        "fwd_estimator_params",
    },
}


def test_keys_are_those_of_cellrank(computed, made):
    for attribute, keys in KEYS.items():
        assert set(getattr(computed.adata, attribute)) - set(getattr(made, attribute)) == keys
    coarse = computed.adata.uns["coarse_fwd"]
    assert isinstance(coarse, anndata.AnnData)
    assert coarse.obs.columns.tolist() == ["coarse_init_dist", "coarse_stat_dist"]
    assert type(computed.adata.obsm["lineages_fwd"]) is np.ndarray
    assert {"D", "eigengap", "params"} <= set(computed.adata.uns["eigendecomposition_fwd"])


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_of_written_cells(complete, tmp_path, ending):
    complete.kernel.write_to_adata()
    path = tmp_path / f"cells.{ending}"
    getattr(complete.adata, f"write_{ending}")(path)
    read = getattr(anndata, f"read_{ending}")(path)
    assert_same(GPCCA.from_adata(read), complete)


def test_adata_of_its_own(complete, tmp_path):
    own = complete.to_adata()
    assert own.obs.columns.isin(KEYS["obs"]).all()
    assert (own.X != complete.adata.X).sum() == 0
    own.write_h5ad(tmp_path / "own.h5ad")
    assert_same(GPCCA.from_adata(anndata.read_h5ad(tmp_path / "own.h5ad"), "T_fwd"), complete)
    some = complete.to_adata({"obs": ["clusters"], "obsm": "X_umap", "uns": True}, copy=["obsm"])
    assert "clusters" in some.obs
    assert "time" not in some.obs
    assert "clusters_colors" in some.uns
    assert some.obsm["X_umap"] is not complete.adata.obsm["X_umap"]
    assert set(complete.to_adata("all").obsm) == {*complete.adata.obsm}
    with pytest.raises(KeyError, match="absent"):
        complete.to_adata({"obs": ["absent"]})
    with pytest.raises(ValueError, match="observations"):
        complete.to_adata(["observations"])


def test_files(complete, tmp_path):
    complete.write(tmp_path / "estimator.npz")
    assert_same(GPCCA.read(tmp_path / "estimator.npz"), complete)
    complete.write(tmp_path / "estimator.npz", write_adata=False)
    with pytest.raises(TypeError, match="without its AnnData"):
        GPCCA.read(tmp_path / "estimator.npz")
    cells = complete.adata[:, :2].copy()
    for attribute, keys in KEYS.items():
        for key in keys & set(getattr(cells, attribute)):
            del getattr(cells, attribute)[key]
    cells = anndata.AnnData(complete.adata.X, obs=cells.obs, var=complete.adata.var)
    read = GPCCA.read(tmp_path / "estimator.npz", cells)
    assert_same(read, complete)
    assert read.adata is cells
    assert KEYS["obsm"] <= set(cells.obsm)
    assert not list(tmp_path.glob(".*"))


def test_a_combined_kernel_comes_back(tmp_path):
    adata = bent_line()
    both = 0.8 * ConnectivityKernel(adata) + 0.2 * ConnectivityKernel(adata, conn_key="other")
    for kernel in both.kernels:
        kernel.compute_transition_matrix()
    estimator = GPCCA(both).compute_macrostates(3, n_cells=5)
    estimator.write(tmp_path / "estimator.npz")
    read = GPCCA.read(tmp_path / "estimator.npz")
    assert str(read.kernel) == str(both)
    assert str(GPCCA.from_adata(estimator.to_adata("all")).kernel) == str(both)


def test_other_files_are_no_estimators(complete, tmp_path):
    complete.kernel.write(tmp_path / "kernel.npz")
    with pytest.raises(ValueError, match=r"jaxvelo\.kernels\.read"):
        GPCCA.read(tmp_path / "kernel.npz")
    (tmp_path / "pickled").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="another format"):
        GPCCA.read(tmp_path / "pickled")
    with pytest.raises(FileNotFoundError):
        GPCCA.read(tmp_path / "absent")


def test_what_is_read_can_be_used(complete):
    complete.compute_macrostates(4, n_cells=5, initial_distribution=np.linspace(1, 2, 80))
    read = GPCCA.from_adata(complete.to_adata("all"))
    read.compute_macrostates(4, n_cells=5)
    np.testing.assert_allclose(read.macrostates_memberships, complete.macrostates_memberships, atol=1e-8)
    read.predict_terminal_states("eigengap", n_cells=5)
    read.compute_fate_probabilities()
    assert "lineages_fwd" in read.adata.obsm


def test_mixed_fates_keep_their_names(complete):
    complete.compute_fate_probabilities(["right, left", "middle"])
    read = GPCCA.from_adata(complete.to_adata())
    assert read.fate_probabilities.names.tolist() == ["left, right", "middle"]
    assert read.fate_probabilities.colors.tolist() == complete.fate_probabilities.colors.tolist()


def test_results_of_other_cells_do_not_fit(complete):
    complete.kernel.write_to_adata()
    some = complete.adata[complete.adata.obs["clusters"] != "right"].copy()
    del some.uns["T_fwd_params"]
    with pytest.raises(ValueError, match=r"term_states_fwd_memberships.*found 3"):
        GPCCA.from_adata(some)


def test_a_matrix_without_parameters(cells):
    assert isinstance(GPCCA.from_adata(cells).kernel, PrecomputedKernel)
    with pytest.raises(KeyError, match="absent"):
        GPCCA.from_adata(cells, "absent")


def test_without_results(estimator, tmp_path):
    assert GPCCA.from_adata(estimator.to_adata()).macrostates is None
    estimator.write(tmp_path / "estimator.npz")
    assert GPCCA.read(tmp_path / "estimator.npz").fate_probabilities is None


def test_copies(complete):
    shallow, deep = complete.copy(), complete.copy(deep=True)
    assert shallow.adata is complete.adata
    assert deep.adata is not complete.adata
    deep.compute_macrostates(3, n_cells=5)
    assert complete.macrostates_memberships.nlin == 4
    assert complete.adata.obsm["macrostates_fwd_memberships"].shape[1] == 4


def test_entries_are_copies(complete):
    complete.adata.obsm["lineages_fwd"][:] = 0
    complete.adata.obs["term_states_fwd"] = None
    assert complete.fate_probabilities.X.max() == 1
    assert complete.terminal_states.notna().any()


def refuse(*_):
    raise OSError("full")


def test_what_cannot_be_written_leaves_all_as_it_was(complete, monkeypatch):
    before = complete.adata.copy()
    kept = complete.fate_probabilities
    monkeypatch.setattr(type(complete.adata.obsm), "__setitem__", refuse)
    with pytest.raises(OSError, match="full"):
        complete.set_terminal_states("left", n_cells=3)
    monkeypatch.undo()
    assert complete.fate_probabilities is kept
    assert len(complete.terminal_states.cat.categories) == 3
    pd.testing.assert_frame_equal(complete.adata.obs[before.obs.columns], before.obs)
    assert set(complete.adata.obsm) == set(before.obsm)
    np.testing.assert_array_equal(complete.adata.obsm["lineages_fwd"], before.obsm["lineages_fwd"])


def test_other_data_get_all_results(complete, made, monkeypatch):
    before, other = complete.adata, made.copy()
    monkeypatch.setattr(type(other.obsm), "__setitem__", refuse)
    with pytest.raises(OSError, match="full"):
        complete.adata = other
    monkeypatch.undo()
    assert complete.adata is before
    complete.adata = other
    for attribute, keys in KEYS.items():
        assert keys <= set(getattr(other, attribute))


def test_fates_of_states_that_were_renamed(complete, logged):
    adata = complete.to_adata()
    old = adata.obs["term_states_fwd"]
    adata.obs["term_states_fwd"] = old.cat.rename_categories({"left": "L", "right": "R"})
    read = GPCCA.from_adata(adata)
    names = read.fate_probabilities.names.tolist()
    assert names == [{"left": "L", "right": "R"}.get(name, name) for name in complete.fate_probabilities.names]
    assert "'left': 'L'" in logged()
    assert read.fate_probabilities.colors.tolist() == complete.fate_probabilities.colors.tolist()
    complete.compute_fate_probabilities(["right", "left", "middle"])
    adata = complete.to_adata()
    adata.obs["term_states_fwd"] = old.cat.rename_categories({"left": "L"})
    assert GPCCA.from_adata(adata).fate_probabilities.names.tolist() == ["right", "L", "middle"]
    adata.obs["term_states_fwd"] = old.cat.rename_categories({"left": "L", "right": "R"})
    assert GPCCA.from_adata(adata).fate_probabilities.names.tolist() == ["right", "left", "middle"]


def test_tsi_is_stored(estimator, tmp_path):
    score = estimator.tsi(3, ["left"], "clusters", n_cells=3, show_progress_bar=False)
    estimator.write(tmp_path / "estimator.npz")
    read = GPCCA.read(tmp_path / "estimator.npz")
    pd.testing.assert_frame_equal(read.adata.uns["tsi_fwd"], estimator.adata.uns["tsi_fwd"])
    assert read.tsi(3, n_cells=3, show_progress_bar=False) == score
    assert read.plot_tsi(show=False) is not None
