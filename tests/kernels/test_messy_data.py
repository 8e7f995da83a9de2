"""Data as they come: what works in spite of them, what is said about them, and what is refused and how."""

import anndata
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.bent_line import N_CELLS, N_GENES
from tests.snapshot import unchanged

DOUBLE = jax.config.jax_enable_x64
TOLERANCE = {"rtol": 0, "atol": 1e-12 if DOUBLE else 2e-6}


def velocity_matrix(adata, softmax_scale=2.0, backward=False, similarity="correlation", **arguments):
    """Transition matrix by the velocity kernel; the AnnData object must stay as it is."""
    with unchanged(adata):
        kernel = VelocityKernel(adata, backward=backward, **arguments)
        kernel.compute_transition_matrix(softmax_scale=softmax_scale, similarity=similarity)
    return checked(kernel.transition_matrix)


def connectivity_matrix(adata, density_normalize=True, **arguments):
    with unchanged(adata):
        kernel = ConnectivityKernel(adata, **arguments).compute_transition_matrix(density_normalize=density_normalize)
    return checked(kernel.transition_matrix)


def checked(matrix):
    assert np.isfinite(matrix.data).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-12)
    return matrix.toarray()


def expected_velocity_matrix(x, v, graph, scale=2.0):
    """Plain NumPy in float64: softmax of correlations over the stored entries of the graph."""
    x, v, graph = x.astype(float), v.astype(float), sp.csr_matrix(graph)
    expected = np.zeros(graph.shape)
    for i in range(len(x)):
        neighbors = graph[[i]].indices
        if not len(neighbors):
            expected[i, i] = 1
            continue
        displacements = x[neighbors] - x[i]
        centred = displacements - displacements.mean(axis=1, keepdims=True)
        direction = v[i] - v[i].mean()
        norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(direction)
        defined = norms > 0
        if not defined.any():
            expected[i, neighbors] = 1 / len(neighbors)
            continue
        weight = np.exp(scale * (centred @ direction)[defined] / norms[defined])
        expected[i, neighbors[defined]] = weight / weight.sum()
    return expected


@pytest.fixture(scope="module")
def usual(made):
    matrix = velocity_matrix(made)
    expected = expected_velocity_matrix(made.layers["Ms"], made.layers["velocity"], made.obsp["connectivities"])
    np.testing.assert_allclose(matrix, expected, **TOLERANCE)
    return matrix


def isolate(graph, *cells):
    changed = graph.tolil()
    for cell in cells:
        changed[cell], changed[:, cell] = 0, 0
    return sp.csr_matrix(changed)


# Graphs.


def test_isolated_cells(cells, logged):
    graph = cells.obsp["connectivities"] = isolate(cells.obsp["connectivities"], 0, 20, 59)
    matrix = velocity_matrix(cells)
    text = logged()
    assert (
        text.count("WARNING: 3 cells have no neighbours in `adata.obsp['connectivities']`; they stay where they are")
        == 1
    )
    np.testing.assert_allclose(
        matrix, expected_velocity_matrix(cells.layers["Ms"], cells.layers["velocity"], graph), **TOLERANCE
    )
    for similarity in ("cosine", "dot_product"):
        assert (velocity_matrix(cells, similarity=similarity)[[0, 20, 59], [0, 20, 59]] == 1).all()
    assert (velocity_matrix(cells, backward=True)[[0, 20, 59], [0, 20, 59]] == 1).all()
    for density_normalize in (True, False):
        matrix = connectivity_matrix(cells, density_normalize)
        assert (matrix[[0, 20, 59], [0, 20, 59]] == 1).all()
        assert (matrix[1] > 0).sum() == len(graph[[1]].indices)
    with unchanged(cells):
        kernel = VelocityKernel(cells).compute_transition_matrix()
    assert (checked(kernel.transition_matrix)[[0, 20, 59], [0, 20, 59]] == 1).all()


def test_no_edges_at_all(cells):
    cells.obsp["connectivities"] = sp.csr_matrix((N_CELLS, N_CELLS))
    np.testing.assert_array_equal(velocity_matrix(cells, softmax_scale=None), np.eye(N_CELLS))
    np.testing.assert_array_equal(connectivity_matrix(cells), np.eye(N_CELLS))


def test_disconnected_graph(cells, logged):
    graph = cells.obsp["connectivities"].tolil()
    graph[:30, 30:], graph[30:, :30] = 0, 0
    graph = cells.obsp["connectivities"] = sp.csr_matrix(graph)
    matrix = velocity_matrix(cells)
    assert "connected" not in logged(), "is looked for only if asked"
    np.testing.assert_allclose(
        matrix, expected_velocity_matrix(cells.layers["Ms"], cells.layers["velocity"], graph), **TOLERANCE
    )
    assert not matrix[:30, 30:].any()
    for kernel in (VelocityKernel, ConnectivityKernel):
        kernel(cells, check_connectivity=True)
        assert "WARNING: kNN graph is not connected" in logged()


def test_asymmetric_graph(cells, logged):
    graph = sp.csr_matrix(sp.triu(cells.obsp["connectivities"], k=-1))
    cells.obsp["connectivities"] = graph
    matrix = velocity_matrix(cells)
    assert logged().count("WARNING: kNN graph is not symmetric") == 1
    x, v = cells.layers["Ms"], cells.layers["velocity"]
    np.testing.assert_allclose(matrix, expected_velocity_matrix(x, v, graph), **TOLERANCE)
    dense = graph.toarray()
    np.testing.assert_allclose(
        connectivity_matrix(cells, density_normalize=False), dense / dense.sum(axis=1, keepdims=True), **TOLERANCE
    )
    assert logged().count("WARNING: kNN graph is not symmetric") == 1
    # Density from the columns, as CellRank does; it is not that of the rows here.
    density = np.where(dense.sum(axis=0) > 0, dense.sum(axis=0), np.inf)
    weights = dense / density[:, None] / density
    rows = weights.sum(axis=1) > 0
    found = connectivity_matrix(cells)
    np.testing.assert_allclose(
        found[rows], (weights / np.where(rows, weights.sum(axis=1), 1)[:, None])[rows], **TOLERANCE
    )


@pytest.mark.parametrize(("difference", "warns"), [(1e-3, True), (1e-5, False)])
def test_nearly_symmetric_graph(cells, logged, difference, warns):
    """As in CellRank, differences of rounding do not count."""
    cells.obsp["connectivities"].data[0] += difference
    ConnectivityKernel(cells)
    assert ("kNN graph is not symmetric" in logged()) == warns


def test_explicit_zeros_and_stored_diagonal(cells, logged):
    """Stored zeros are edges for the velocity kernel, as in CellRank; a cell is no neighbour of itself."""
    graph = cells.obsp["connectivities"].copy()
    graph.data[3], graph.data[100] = 0, 0
    graph = sp.csr_matrix(graph + sp.csr_matrix((np.full(2, 0.5), ([4, 5], [4, 5])), shape=graph.shape))
    graph[7, 8] = graph[8, 7] = 0.0
    assert (graph.data == 0).sum() >= 2
    cells.obsp["connectivities"] = graph
    matrix = velocity_matrix(cells)
    expected = expected_velocity_matrix(cells.layers["Ms"], cells.layers["velocity"], graph)
    np.testing.assert_allclose(matrix, expected, **TOLERANCE)
    assert matrix[7, 8] > 0
    assert matrix[4, 4] == 0
    dense = graph.toarray()
    found = connectivity_matrix(cells, density_normalize=False)
    np.testing.assert_allclose(found, dense / dense.sum(axis=1, keepdims=True), **TOLERANCE)
    assert found[4, 4] > 0
    assert found[7, 8] == 0


def test_only_zeros_and_diagonal(cells):
    """A cell without any weight is uniform over its stored edges; one with its diagonal alone stays."""
    graph = isolate(cells.obsp["connectivities"], 10, 30)
    graph = graph.tolil()
    graph[30, 30] = 1.0
    graph = sp.csr_matrix(graph)
    zeros = sp.csr_matrix((np.array([1.0, 1.0]), ([10, 10], [11, 12])), shape=graph.shape)
    graph = sp.csr_matrix(graph + zeros)
    graph.data[graph.indptr[10] : graph.indptr[11]] = 0
    cells.obsp["connectivities"] = graph
    np.testing.assert_allclose(connectivity_matrix(cells)[10, [11, 12]], 0.5, rtol=1e-6)
    assert connectivity_matrix(cells)[30, 30] == 1
    assert velocity_matrix(cells)[30, 30] == 1
    assert velocity_matrix(cells)[10, 11] > 0


def test_one_neighbour(cells):
    cells.obsp["connectivities"] = sp.csr_matrix(sp.eye_array(N_CELLS, k=1) + sp.eye_array(N_CELLS, k=1 - N_CELLS))
    expected = cells.obsp["connectivities"].toarray()
    np.testing.assert_array_equal(velocity_matrix(cells, softmax_scale=None), expected)
    np.testing.assert_array_equal(velocity_matrix(cells, backward=True), expected)
    np.testing.assert_allclose(connectivity_matrix(cells), expected, rtol=1e-6)


@pytest.mark.parametrize("convert", [sp.csc_matrix, sp.csr_array, sp.csc_array, lambda m: m.toarray(), np.float32])
def test_formats_of_the_graph(cells, usual, convert):
    graph = cells.obsp["connectivities"]
    cells.obsp["connectivities"] = graph.astype(np.float32) if convert is np.float32 else convert(graph)
    np.testing.assert_allclose(velocity_matrix(cells), usual, rtol=0, atol=1e-15)
    dense = graph.toarray()
    found = connectivity_matrix(cells, density_normalize=False)
    np.testing.assert_allclose(found, dense / dense.sum(axis=1, keepdims=True), rtol=0, atol=2e-7)


def test_unsorted_graph(cells, usual):
    graph = cells.obsp["connectivities"]
    for i in range(N_CELLS):
        row = slice(*graph.indptr[i : i + 2])
        graph.indices[row], graph.data[row] = graph.indices[row][::-1].copy(), graph.data[row][::-1].copy()
    graph.has_sorted_indices = graph.has_canonical_format = False
    np.testing.assert_array_equal(velocity_matrix(cells), usual)
    with unchanged(cells):
        connectivities = VelocityKernel(cells).connectivities
    assert (np.diff(connectivities.indices[:8]) > 0).all()


@pytest.mark.parametrize("kernel", [VelocityKernel, ConnectivityKernel])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"finite weights in `adata.obsp\['connectivities'\]`, found 2 that are not.*neighbours anew"),
        (np.inf, r"finite weights in `adata.obsp\['connectivities'\]`, found 2 that are not"),
        (-0.5, r"non-negative weights in `adata.obsp\['connectivities'\]`, found 2 negative.*-0.5.*similarities"),
    ],
)
def test_bad_weights(cells, kernel, value, message):
    cells.obsp["connectivities"].data[[3, 50]] = value
    with unchanged(cells), pytest.raises(ValueError, match=message):
        kernel(cells)


@pytest.mark.parametrize("kernel", [VelocityKernel, ConnectivityKernel])
def test_missing_graph(cells, kernel):
    message = r"`adata.obsp\['absent'\]`.*found the keys \['connectivities', .*jaxvelo.pp.neighbors"
    with unchanged(cells), pytest.raises(KeyError, match=message):
        kernel(cells, conn_key="absent")


@pytest.mark.parametrize("kernel", [VelocityKernel, ConnectivityKernel])
@pytest.mark.parametrize("other", [None, {}, pd.DataFrame(), np.ones((3, 3))])
def test_no_anndata(kernel, other):
    with pytest.raises(TypeError, match=f"`adata` to be an AnnData object, found `{type(other).__name__}`"):
        kernel(other)


# Cells.


def test_duplicate_cells(cells):
    """No displacement, no probability: for correlation and cosine, as in CellRank."""
    for j in (21, 22):
        cells.layers["Ms"][j] = cells.layers["Ms"][20]
    matrix = velocity_matrix(cells)
    expected = expected_velocity_matrix(cells.layers["Ms"], cells.layers["velocity"], cells.obsp["connectivities"])
    np.testing.assert_allclose(matrix, expected, **TOLERANCE)
    assert matrix[20, 21] == matrix[20, 22] == matrix[22, 20] == 0
    assert velocity_matrix(cells, similarity="cosine")[20, 21] == 0
    assert velocity_matrix(cells, similarity="dot_product", softmax_scale=0.01)[20, 21] > 0
    assert velocity_matrix(cells, backward=True)[20, 21] == 0


@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_all_cells_are_one(cells, model):
    """All displacements are zero: uniform, by all models, with the automatic scale too."""
    cells.layers["Ms"][:] = cells.layers["Ms"][0]
    uniform = (cells.obsp["connectivities"].toarray() > 0) / 8
    for similarity in ("correlation", "cosine", "dot_product"):
        with unchanged(cells):
            kernel = VelocityKernel(cells).compute_transition_matrix(
                model=model, similarity=similarity, n_samples=16, seed=0
            )
        np.testing.assert_allclose(checked(kernel.transition_matrix), uniform, rtol=1e-6)
        assert kernel.params["softmax_scale"] == 1.0


@pytest.mark.parametrize("backward", [False, True])
def test_zero_velocity_of_some_cells(cells, backward):
    """Uniform; backward by negation likewise; by transposition, such neighbours get nothing."""
    still = np.array([5, 6, 40])
    cells.layers["velocity"][still] = 0
    matrix = velocity_matrix(cells, backward=backward)
    neighbors = cells.obsp["connectivities"].toarray() > 0
    if backward:
        assert not matrix[:, still].any()
        assert (matrix[4] > 0).sum() == (neighbors[4] & ~np.isin(np.arange(N_CELLS), still)).sum()
    else:
        np.testing.assert_allclose(matrix[still], neighbors[still] / 8, rtol=1e-6)
        expected = expected_velocity_matrix(cells.layers["Ms"], cells.layers["velocity"], cells.obsp["connectivities"])
        np.testing.assert_allclose(matrix, expected, **TOLERANCE)
    with unchanged(cells):
        kernel = VelocityKernel(cells, backward=True).compute_transition_matrix(backward_mode="negate")
    np.testing.assert_allclose(checked(kernel.transition_matrix)[still], neighbors[still] / 8, rtol=1e-6)


@pytest.mark.parametrize("model", ["deterministic", "stochastic"])
def test_zero_velocity_of_all_cells(cells, model):
    cells.layers["velocity"][:] = 0
    uniform = (cells.obsp["connectivities"].toarray() > 0) / 8
    for backward, mode in ((False, "transpose"), (True, "negate"), (True, "transpose")):
        with unchanged(cells):
            kernel = VelocityKernel(cells, backward=backward).compute_transition_matrix(model, backward_mode=mode)
        np.testing.assert_allclose(checked(kernel.transition_matrix), uniform, rtol=1e-6)


def test_duplicate_names(cells):
    cells.obs_names = ["cell"] * N_CELLS
    velocity_matrix(cells)
    connectivity_matrix(cells)


# Velocities and expression.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_velocities_of_some_genes(cells, logged, value):
    cells.layers["velocity"][:, 3] = value
    cells.layers["velocity"][7, [10, 20]] = value
    matrix = velocity_matrix(cells)
    assert (
        logged().count("WARNING: Leaving out 3 genes whose velocity in `adata.layers['velocity']` is not finite") == 1
    )
    kept = np.setdiff1d(np.arange(N_GENES), [3, 10, 20])
    x, v = cells.layers["Ms"][:, kept], cells.layers["velocity"][:, kept]
    np.testing.assert_allclose(matrix, expected_velocity_matrix(x, v, cells.obsp["connectivities"]), **TOLERANCE)


def test_velocities_of_some_cells(cells):
    cells.layers["velocity"][[7, 9]] = np.nan
    message = r"finite velocities in `adata.layers\['velocity'\]`, found 0 of 41\. Cells \[7, 9\] .*remove"
    with unchanged(cells), pytest.raises(ValueError, match=message):
        VelocityKernel(cells)


def test_no_velocities(cells):
    cells.layers["velocity"][:] = np.nan
    with (
        unchanged(cells),
        pytest.raises(ValueError, match=r"found 0 of 41\..* \(60 in all\)\] have no finite velocity"),
    ):
        VelocityKernel(cells)
    cells.layers["velocity"][:, 0] = 1
    with unchanged(cells), pytest.raises(ValueError, match=r"found 1 of 41\. Otherwise choose other genes"):
        VelocityKernel(cells)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_expression_that_is_not_finite(cells, value):
    cells.layers["Ms"][[7, 9], 11] = value
    message = r"finite expression in `adata.layers\['Ms'\]`, found 2 values.*first in cell 7.*1 genes, 2 cells"
    with unchanged(cells), pytest.raises(ValueError, match=message):
        VelocityKernel(cells)
    cells.X[3, 3] = value
    with unchanged(cells), pytest.raises(ValueError, match=r"finite expression in `adata\.X`"):
        VelocityKernel(cells, xkey="X")
    cells.layers["velocity"][0, 11] = np.nan
    velocity_matrix(cells)  # the gene is left out anyway


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float64, np.float16, bool])
def test_types(cells, dtype):
    x, v = (np.round(cells.layers[key]) % 5 for key in ("Ms", "velocity"))
    cells.layers["Ms"], cells.layers["velocity"] = x.astype(dtype), v.astype(dtype)
    x, v = x.astype(dtype).astype(float), v.astype(dtype).astype(float)
    np.testing.assert_allclose(
        velocity_matrix(cells), expected_velocity_matrix(x, v, cells.obsp["connectivities"]), **TOLERANCE
    )


@pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array, np.asfortranarray])
def test_formats(cells, usual, convert):
    for key in ("Ms", "velocity"):
        cells.layers[key] = convert(cells.layers[key])
    np.testing.assert_allclose(velocity_matrix(cells), usual, rtol=0, atol=1e-15)
    cells.X = convert(cells.X)
    np.testing.assert_allclose(velocity_matrix(cells, xkey="X"), usual, rtol=0, atol=1e-15)


@pytest.mark.parametrize("sparse", [False, True])
def test_backed(cells, usual, tmp_path, sparse):
    if sparse:
        cells.X = sp.csr_matrix(cells.X)
        cells.layers["velocity"] = sp.csr_matrix(cells.layers["velocity"])
    cells.write_h5ad(tmp_path / "cells.h5ad")
    before = (tmp_path / "cells.h5ad").read_bytes()
    adata = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    try:
        np.testing.assert_allclose(velocity_matrix(adata), usual, rtol=0, atol=1e-15)
        np.testing.assert_allclose(velocity_matrix(adata, xkey="X"), usual, rtol=0, atol=1e-15)
        kernel = ConnectivityKernel(adata).compute_transition_matrix()
        kernel.plot_projection(show=False)
        kernel.write_to_adata()
        assert "T_fwd_umap" in adata.obsm
        assert adata.isbacked
    finally:
        adata.file.close()
    assert (tmp_path / "cells.h5ad").read_bytes() == before


def test_view(made):
    rows, columns = np.arange(59, -1, -1), np.arange(0, N_GENES, 2)
    with unchanged(made):
        view = made[rows, columns]
        matrix = velocity_matrix(view)
        assert view.is_view
        np.testing.assert_allclose(matrix, velocity_matrix(view.copy()), rtol=0, atol=1e-15)
        backed_by_view = velocity_matrix(view, xkey="X")
    assert matrix.shape == backed_by_view.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"xkey": "absent"},
            r"`adata.layers\['absent'\]`, found the keys \['Ms', 'velocity', .*pp.moments",
        ),
        ({"vkey": "absent"}, r"`adata.layers\['absent'\]`.*tl.velocity"),
        ({"attr": "obsm", "xkey": "X_pca", "vkey": "absent"}, r"`adata.obsm\['absent'\]`, found the keys \['X_umap'"),
        ({"gene_subset": "absent"}, r"`adata.var\['absent'\]`, found the keys \['chosen'\].*boolean mask"),
    ],
)
def test_missing_keys(cells, arguments, message):
    with unchanged(cells), pytest.raises(KeyError, match=message):
        VelocityKernel(cells, **arguments)


def test_other_attributes(cells):
    with unchanged(cells), pytest.raises(ValueError, match=r"`attr` to be 'layers' or 'obsm', found `'varm'`"):
        VelocityKernel(cells, attr="varm")
    cells.X = None
    with unchanged(cells), pytest.raises(ValueError, match=r"a matrix in `adata.X`, found None"):
        VelocityKernel(cells, xkey="X")


def test_obsm(cells, logged):
    """Velocities in a representation, as an array or a data frame; gene subsets are not for these."""
    rng = np.random.default_rng(0)
    velocity = rng.normal(size=(N_CELLS, 5))
    expected = expected_velocity_matrix(cells.obsm["X_pca"], velocity, cells.obsp["connectivities"])
    arguments = {"attr": "obsm", "xkey": "X_pca", "vkey": "velocity_pca"}
    for convert in (
        np.asarray,
        sp.csr_matrix,
        lambda array: pd.DataFrame(array, index=cells.obs_names, columns=list("abcde")),
    ):
        cells.obsm["velocity_pca"] = convert(velocity)
        np.testing.assert_allclose(velocity_matrix(cells, **arguments), expected, **TOLERANCE)
    logged()
    velocity_matrix(cells, gene_subset="chosen", **arguments)
    assert "WARNING: `gene_subset` is for layers, not for `adata.obsm`" in logged()
    cells.obsm["velocity_pca"] = velocity[:, :4]
    message = r"same shape, found \(60, 5\) in `adata.obsm\['X_pca'\]` and \(60, 4\) in `adata.obsm\['velocity_pca'\]`"
    with unchanged(cells), pytest.raises(ValueError, match=message):
        VelocityKernel(cells, **arguments)
    cells.obsm["velocity_pca"] = velocity[:, :1]
    cells.obsm["one"] = cells.obsm["X_pca"][:, :1]
    with unchanged(cells), pytest.raises(ValueError, match=r"at least 2 genes .*found 1 of 1"):
        VelocityKernel(cells, attr="obsm", xkey="one", vkey="velocity_pca")


# Gene subsets.


@pytest.mark.parametrize("form", ["key", "mask", "series", "names", "index", "zeros and ones", "default"])
def test_gene_subset(cells, form):
    chosen = cells.var["chosen"].to_numpy()
    names = cells.var_names[chosen]
    subset = {
        "key": "chosen",
        "mask": chosen,
        "series": cells.var["chosen"],
        "names": list(names),
        "index": names,
        "zeros and ones": chosen.astype(int),
        "default": None,
    }[form]
    if form == "default":
        cells.var["velocity_genes"] = chosen
    x, v = cells.layers["Ms"][:, chosen], cells.layers["velocity"][:, chosen]
    expected = expected_velocity_matrix(x, v, cells.obsp["connectivities"])
    np.testing.assert_allclose(velocity_matrix(cells, gene_subset=subset), expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (
            ["gene_3", "absent"],
            r"`gene_subset`, found \['absent'\] not in `adata.var_names`.*\['gene_0', 'gene_1'",
        ),
        ([], "found none"),
        (np.zeros(N_GENES, dtype=bool), "found none"),
        (np.ones(N_GENES - 1, dtype=bool), r"mask of length 41 as `gene_subset`, found shape \(40,\)"),
        (np.ones((2, N_GENES), dtype=bool), r"found shape \(2, 41\)"),
        (["gene_3"], "at least 2 genes with finite velocities in .*found 1 of 1"),
    ],
)
def test_gene_subsets_that_do_not_fit(cells, subset, message):
    with unchanged(cells), pytest.raises((ValueError, KeyError), match=message):
        VelocityKernel(cells, gene_subset=subset)


def test_default_genes_that_do_not_fit(cells):
    cells.var["velocity_genes"] = False
    with (
        unchanged(cells),
        pytest.raises(ValueError, match=r"`adata.var\['velocity_genes'\]` to choose some.*found none"),
    ):
        VelocityKernel(cells)
