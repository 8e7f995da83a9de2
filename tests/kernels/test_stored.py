"""What stands in an AnnData object may be that of other cells, of another kernel, or of another embedding."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel, VelocityKernel, from_adata, read
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged


@pytest.fixture
def velocity(cells):
    return VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)


@pytest.fixture
def connectivity(cells):
    return ConnectivityKernel(cells).compute_transition_matrix()


# Transition matrices.


@pytest.mark.parametrize("combined", [False, True])
def test_part_of_the_cells(cells, velocity, connectivity, logged, combined):
    """AnnData cuts the matrix with the cells: what is left is normalised, with a warning, and no kernel of these."""
    (0.8 * velocity + 0.2 * connectivity if combined else velocity).write_to_adata()
    part = cells[10:50].copy()
    sums = np.asarray(part.obsp["T_fwd"].sum(axis=1)).ravel()
    n_off = int((abs(sums - 1) > 1e-3).sum())
    logged()
    expected = part.obsp["T_fwd"].toarray() / sums[:, None]
    for kernel in (
        lambda: from_adata(part, "T_fwd"),
        lambda: PrecomputedKernel(part),
        lambda: PrecomputedKernel("T_fwd", adata=part),
        lambda: PrecomputedKernel.from_adata(part, "T_fwd"),
    ):
        with unchanged(part):
            found = kernel()
        assert isinstance(found, PrecomputedKernel)
        np.testing.assert_allclose(found.transition_matrix.toarray(), expected, rtol=1e-12)
        assert f"WARNING: {n_off} of 40 rows in `adata.obsp['T_fwd']` do not sum to one (smallest sum" in logged()
    message = r"rows of `adata.obsp\['T_fwd'\]` that sum to one.*cells have been chosen.*PrecomputedKernel\(adata, "
    with unchanged(part), pytest.raises((ValueError, TypeError), match=message):
        VelocityKernel.from_adata(part, "T_fwd")


def test_single_precision_is_no_sign(cells, velocity, logged):
    cells.obsp["mine"] = velocity.transition_matrix.astype(np.float32)
    logged()
    PrecomputedKernel(cells, obsp_key="mine")
    assert "WARNING" not in logged()


def test_cells_in_another_order(cells, connectivity):
    """The matrix follows; numbers of each cell beside it do not."""
    order = np.random.default_rng(0).permutation(N_CELLS)
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    kernel.write_to_adata()
    expected = kernel.transition_matrix.toarray()[np.ix_(order, order)]
    found = from_adata(cells[order].copy(), "T_fwd")
    np.testing.assert_allclose(found.transition_matrix.toarray(), expected, rtol=1e-12)
    kernel.compute_transition_matrix(softmax_scale=np.linspace(1, 3, N_CELLS)).write_to_adata()
    assert isinstance(from_adata(cells, "T_fwd"), VelocityKernel)
    other = cells[order].copy()
    with unchanged(other), pytest.raises(ValueError, match=r"\['softmax_scale'\] of each cell does not follow"):
        from_adata(other, "T_fwd")


def test_numbers_of_other_genes(cells, velocity):
    """Gene weights are of the genes in use, which another mask changes."""
    weights = np.linspace(1, 2, len(velocity.genes))
    velocity.compute_transition_matrix(softmax_scale=2.0, gene_weights=weights).write_to_adata()
    assert from_adata(cells, "T_fwd").params["gene_weights"].shape == weights.shape
    cells.var["velocity_genes"] = cells.var["chosen"]
    with unchanged(cells), pytest.raises(ValueError, match="stored `gene_weights` to be one number for each of the"):
        from_adata(cells, "T_fwd")


def test_parameters_that_are_none(cells, velocity):
    """Anything may stand where parameters do."""
    for value in (np.array([1, 2]), "text", 3):
        cells.uns["T_fwd_params"] = value
        velocity.write_to_adata()
        assert isinstance(from_adata(cells, "T_fwd"), VelocityKernel)
        cells.uns["T_fwd_params"] = value
        velocity.plot_projection(show=False, recompute=True)


def test_file_of_other_cells(cells, velocity, tmp_path):
    velocity.write(tmp_path / "kernel.npz", write_adata=False)
    assert read(tmp_path / "kernel.npz", cells).adata is cells
    with pytest.raises(ValueError, match="cells in the order in which the kernel was written, found them in another"):
        read(tmp_path / "kernel.npz", cells[::-1].copy())
    others = cells.copy()
    others.obs_names = [f"other_{name}" for name in cells.obs_names]
    with pytest.raises(ValueError, match=r"cells of the kernel, such as \['cell_0', 'cell_1', .*found others"):
        read(tmp_path / "kernel.npz", others)


def test_adata_in_another_order(cells, velocity):
    velocity.adata = cells.copy()
    with pytest.raises(ValueError, match="in the order of the kernel, found them in another"):
        velocity.adata = cells[::-1].copy()


# Arrows.


def test_arrows_of_another_kernel(cells, velocity, connectivity, logged):
    """Under the default key, two kernels would share their arrows: each draws its own."""
    velocity.plot_projection(show=False)
    first = cells.obsm["T_fwd_umap"]
    connectivity.plot_projection(show=False)
    assert "WARNING: `adata.obsm['T_fwd_umap']` has arrows of another kernel or embedding: replacing them" in logged()
    second = cells.obsm["T_fwd_umap"]
    assert abs(first - second).max() > 0.1 * abs(first).max()
    connectivity.plot_projection(show=False)
    assert "WARNING" not in logged()
    velocity.plot_projection(show=False)
    np.testing.assert_array_equal(cells.obsm["T_fwd_umap"], first)


def test_arrows_of_another_embedding(cells, velocity, logged):
    velocity.plot_projection(show=False)
    cells.obsm["X_umap"] = cells.obsm["X_umap"] @ np.array([[0, 1], [-1, 0]], dtype=np.float32)
    before = cells.obsm["T_fwd_umap"]
    logged()
    velocity.plot_projection(show=False)
    assert "replacing them" in logged()
    found, turned = cells.obsm["T_fwd_umap"], before @ np.array([[0, 1], [-1, 0]])
    np.testing.assert_allclose(found / abs(found).max(), turned / abs(turned).max(), atol=1e-5)


def test_arrows_under_a_name_of_their_own(cells, velocity, connectivity):
    """What the user named is the user's."""
    velocity.plot_projection(key_added="mine", show=False)
    message = r"arrows of this kernel in `adata.obsm\['mine_umap'\]`, found others.*`recompute=True`.*`key_added`"
    with unchanged(cells), pytest.raises(ValueError, match=message):
        connectivity.plot_projection(key_added="mine", show=False)
    with unchanged(cells):
        velocity.plot_projection(key_added="mine", show=False)
    connectivity.plot_projection(key_added="mine", show=False, recompute=True)


@pytest.mark.parametrize("wrong", ["shape", "missing", "text"])
def test_arrows_that_are_none(cells, velocity, wrong):
    velocity.plot_projection(show=False)
    expected = cells.obsm["T_fwd_umap"]
    cells.obsm["T_fwd_umap"] = {
        "shape": expected[:, :1],
        "missing": np.where(np.arange(N_CELLS)[:, None] == 3, np.nan, expected),
        "text": expected.astype(str),
    }[wrong]
    velocity.plot_projection(show=False)
    np.testing.assert_array_equal(cells.obsm["T_fwd_umap"], expected)


# Graphs, groups, representations.


@pytest.mark.parametrize("kernel", [VelocityKernel, ConnectivityKernel])
def test_default_graph(cells, kernel):
    """As in CellRank, no key stands for the default."""
    found, usual = kernel(cells, conn_key=None), kernel(cells)
    assert (found.connectivities != usual.connectivities).nnz == 0
    assert found.init == usual.init


def test_absent_groups(cells, velocity, logged):
    with unchanged(cells):
        velocity.plot_random_walks(
            start_ixs={"clusters": ["early", "absent"]}, stop_ixs={"clusters": ["late", "gone"]}, max_iter=5, show=False
        )
    text = logged()
    assert "Leaving out ['absent'] of `start_ixs`" in text
    assert "Leaving out ['gone'] of `stop_ixs`" in text
    with unchanged(cells), pytest.raises(ValueError, match=r"in `start_ixs`, found \['absent', 'gone'\]"):
        velocity.plot_random_walks(start_ixs={"clusters": ["absent", "gone"]}, max_iter=5, show=False)


@pytest.mark.parametrize("values", [pd.array([0, 1, None] * 20, dtype="Int64"), pd.array([True, None, False] * 20)])
def test_missing_values_are_no_match(cells, velocity, values):
    cells.obs["x"] = values
    velocity.plot_random_walks(start_ixs={"x": 1}, max_iter=5, show=False)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "finite values in `adata.obsm.*found 1 cells"), ("a", "numbers")]
)
def test_bad_representation(cells, velocity, value, message):
    array = cells.obsm["X_pca"].astype(type(value) if isinstance(value, float) else object)
    array[3, 1] = value
    cells.obsm["X_bad"] = array if isinstance(value, float) else array.astype(str)
    with unchanged(cells), pytest.raises(ValueError, match=message):
        velocity.cbc("early", "middle", "clusters", "X_bad")


@pytest.mark.parametrize("column", ["velocity_genes", "chosen"])
def test_masks_of_genes_from_a_file(cells, tmp_path, column):
    """A mask with other values beside it comes back from a file as text."""
    chosen = cells.var["chosen"].to_numpy()
    cells.var[column] = chosen.astype(str)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    kernel = VelocityKernel(back, gene_subset=None if column == "velocity_genes" else column)
    np.testing.assert_array_equal(kernel.genes, cells.var_names[chosen])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (False, r"`adata.var\['velocity_genes'\]` to choose some of the 41 genes, found none"),
        (pd.array([True, None, *[False] * 39], dtype="boolean"), r"`adata.var\['velocity_genes'\]`, found 1 missing"),
        (2, r"`adata.var\['velocity_genes'\]`, found the type int64 with \[2"),
    ],
)
def test_velocity_genes_that_say_nothing(cells, values, message):
    cells.var["velocity_genes"] = values
    with unchanged(cells), pytest.raises(ValueError, match=message):
        VelocityKernel(cells)


def test_features_that_are_no_numbers(cells):
    names = [f"pc_{i}" for i in range(5)]
    table = pd.DataFrame(cells.obsm["X_pca"], cells.obs_names, names)
    cells.obsm["table"], cells.obsm["velocity"] = table, table.to_numpy()[:, ::-1]
    assert len(VelocityKernel(cells, attr="obsm", xkey="table").genes) == 5
    cells.obsm["table"] = table.assign(pc_3="a")
    with (
        unchanged(cells),
        pytest.raises(ValueError, match=r"numbers in `adata.obsm\['table'\]`, found the type object"),
    ):
        VelocityKernel(cells, attr="obsm", xkey="table")


# Matrices of other libraries.


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("form", ["jax", "matrix", "table", "numbered table", "coo", "csc array", "single"])
def test_matrices_of_any_library(cells, velocity, form):
    import jax.numpy as jnp

    matrix = velocity.transition_matrix
    dense = matrix.toarray()
    given = {
        "jax": lambda: jnp.asarray(dense),
        "matrix": lambda: np.matrix(dense),
        "table": lambda: (
            pd.DataFrame(dense, cells.obs_names, cells.obs_names).iloc[::-1].sample(frac=1, axis=1, random_state=0)
        ),
        "numbered table": lambda: pd.DataFrame(dense),
        "coo": lambda: sp.coo_array(matrix),
        "csc array": lambda: sp.csc_array(matrix),
        "single": lambda: dense.astype(np.float32),
    }[form]()
    with unchanged(cells):
        found = PrecomputedKernel(given, cells)
    np.testing.assert_allclose(found.transition_matrix.toarray(), dense, rtol=1e-6, atol=1e-9)
    assert found.params == {"origin": "array"}
    alone = PrecomputedKernel(given)
    assert alone.shape == (N_CELLS, N_CELLS)
    if form == "table":
        assert list(alone.adata.obs_names) == list(cells.obs_names[::-1])
        np.testing.assert_allclose(alone.transition_matrix.toarray(), dense[::-1, ::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.rename(index={"cell_3": "x"}), KeyError, r"found \['cell_3'\] not in `table.index`"),
        (lambda t: t.rename(columns={"cell_3": "cell_4"}), KeyError, r"found \['cell_3'\] not in `table.columns`"),
        (lambda t: t.iloc[:-1], ValueError, r"`table` of shape \(60, 60\), cells by cells, found \(59, 60\)"),
        (lambda t: t.astype(str), TypeError, "numbers as `table`, found the type"),
        (lambda t: t.astype(complex), TypeError, "numbers as `table`, found the type complex128"),
    ],
)
def test_tables_that_do_not_fit(cells, velocity, change, error, message):
    table = pd.DataFrame(velocity.transition_matrix.toarray(), cells.obs_names, cells.obs_names)
    with unchanged(cells), pytest.raises(error, match=message):
        PrecomputedKernel(change(table), cells)
