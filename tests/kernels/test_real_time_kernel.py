"""The kernel of experimental time: equal to CellRank's, what couplings may be, combined, stored, refused."""

import itertools
import warnings

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, RealTimeKernel, from_adata, read
from tests.finite_differences import check_gradient
from tests.kernels.other_reference import TOLERANCE, assert_equal, reference, reference_matrix
from tests.snapshot import unchanged
from tests.solved_problem import SolvedProblem

DAYS = ("2", "4", "6")


@pytest.fixture(scope="module")
def larry(shared):
    with warnings.catch_warnings(action="ignore", category=anndata.OldFormatWarning):
        adata = anndata.read_h5ad(shared / "data" / "larry_781.h5ad")
    # Steps within the days as CellRank has them: in the couplings of all days, with the weight 0.2.
    steps = reference_matrix(shared, "larry/realtime/all/auto").tocoo()
    day = adata.obs["time_info"].to_numpy()
    same = day[steps.row] == day[steps.col]
    adata.obsp["days"] = sp.csr_matrix((steps.data[same], (steps.row[same], steps.col[same])), shape=steps.shape)
    return adata


@pytest.fixture(scope="module")
def couplings(shared):
    return {(a, b): reference(shared, f"larry/coupling/{a}-{b}") for a, b in itertools.pairwise(DAYS)}


WITHIN = {"conn_key": "days", "density_normalize": False}


@pytest.mark.parametrize(
    ("self_transitions", "threshold"),
    [
        *((mode, "auto") for mode in ("uniform", "diagonal", "connectivities", "all")),
        *(("connectivities", threshold) for threshold in ("auto_local", 3.0, None)),
    ],
)
def test_equals_cellrank(larry, couplings, shared, self_transitions, threshold, logged):
    kernel = RealTimeKernel(larry, "time_info", couplings)
    kernel.compute_transition_matrix(threshold, self_transitions, 0.2, WITHIN)
    assert_equal(kernel.transition_matrix, reference_matrix(shared, f"larry/realtime/{self_transitions}/{threshold}"))
    weight = 0.2 if self_transitions == "all" else None
    start = f"RealTimeKernel[n=781, threshold={threshold!r}, self_transitions={self_transitions!r}"
    assert repr(kernel) == f"{start}, conn_weight={weight}]"
    assert "WARNING" not in logged()
    if self_transitions == "all":
        for pair, given in couplings.items():
            assert kernel.couplings[pair] is given, "no copy, and not changed"


@pytest.mark.any_precision
def test_neighbors_within_time_points(larry, couplings, shared):
    """Neighbours that are found here are those that scanpy finds, in the components that the reference is of."""
    adata = larry.copy()
    x = adata.X[:, adata.var["highly_variable"].to_numpy()].toarray().astype(float)
    left, scales, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    adata.obsm["X_pca"] = left[:, :20] * scales[:20]
    kernel = RealTimeKernel(adata, "time_info", couplings)
    kernel.compute_transition_matrix("auto", "all", 0.2, {"n_neighbors": 11, "random_state": 0, "copy": False})
    assert_equal(kernel.transition_matrix, reference_matrix(shared, "larry/realtime/all/auto"), 1e-5)


@pytest.fixture
def coupled(cells):
    """Cells of three days with couplings of all kinds of entries."""
    rng = np.random.default_rng(0)
    n = cells.obs["day"].value_counts().sort_index().to_list()
    return {(0, 1): rng.random((n[0], n[1])), (1, 2): sp.csr_matrix(np.triu(rng.random((n[1], n[2])) + 0.1))}


def expected(cells, first, second, within, weight):
    """Couplings and steps in one matrix, slowly."""
    day = cells.obs["day"].to_numpy()
    total = np.zeros((60, 60))
    for (source, target), block in (((0, 1), first), ((1, 2), second)):
        rows, columns = np.flatnonzero(day == source), np.flatnonzero(day == target)
        total[np.ix_(rows, columns)] = (1 - weight) * block / block.sum(axis=1, keepdims=True)
    total[day == 0] += weight * within[day == 0]
    total[day == 1] += weight * within[day == 1]
    total[day == 2] = within[day == 2]
    return total


def test_kinds_of_couplings(cells, coupled):
    """In any format, and in any order where there are names, they are the same; sparse ones are not thinned out."""
    order = np.random.default_rng(1).permutation(len(coupled[0, 1]))
    names = [cells.obs_names[cells.obs["day"] == day] for day in (0, 1, 2)]
    dense, sparse = coupled[0, 1], coupled[1, 2].toarray()
    table = pd.DataFrame(dense[order], index=names[0][order], columns=names[1])
    object_ = anndata.AnnData(coupled[1, 2][::-1], pd.DataFrame(index=names[1][::-1]), pd.DataFrame(index=names[2]))
    found = []
    for first, second in ((dense, coupled[1, 2]), (jnp.asarray(dense), coupled[1, 2].tocoo()), (table, object_)):
        with unchanged(cells):
            kernel = RealTimeKernel(cells, "day", {("0", 1.0): first, (1, 2): second})
            kernel.compute_transition_matrix(None, "diagonal")
        found.append(kernel.transition_matrix.toarray())
    wanted = expected(cells, dense, sparse, np.eye(60), 0)
    for matrix in found:
        np.testing.assert_allclose(matrix, wanted, rtol=0, atol=TOLERANCE)
    kernel = RealTimeKernel(cells, "day", coupled).compute_transition_matrix(50, "diagonal")
    first = kernel.transition_matrix[(cells.obs["day"] == 0).to_numpy()]
    assert 0.4 < first.nnz / dense.size < 0.6
    assert kernel.transition_matrix.nnz - first.nnz == coupled[1, 2].nnz + len(names[2])


@pytest.fixture
def mixed(cells, coupled):
    kernel = RealTimeKernel(cells, "day", coupled)
    return kernel.compute_transition_matrix("auto_local", "all", 0.3, {"n_neighbors": 5})


def test_combined_and_stored(cells, mixed, tmp_path):
    similar = ConnectivityKernel(cells).compute_transition_matrix()
    combined = 0.5 * mixed + 0.5 * similar
    wanted = 0.5 * mixed.transition_matrix.toarray() + 0.5 * similar.transition_matrix.toarray()
    np.testing.assert_allclose(combined.transition_matrix.toarray(), wanted, rtol=0, atol=TOLERANCE)
    combined.write(tmp_path / "kernel.npz")
    combined.write_to_adata("mixed")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    stored = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for back in (combined, read(tmp_path / "kernel.npz"), from_adata(stored, "mixed")):
        assert repr(back) == repr(combined)
        assert (back.transition_matrix != combined.transition_matrix).nnz == 0
        pure = back.transition_function(back.graph, back.features)
        np.testing.assert_allclose(pure.to_csr().toarray(), wanted, rtol=0, atol=TOLERANCE)
        # Stored without couplings, the kernel still knows what is a step within a time point.
        other = back.kernels[0].with_numbers({"conn_weight": 0.6})
        again = mixed.with_numbers({"conn_weight": 0.6})
        assert "conn_weight=0.6" in repr(other)
        assert abs(other.transition_matrix - again.transition_matrix).max() < TOLERANCE
    day = cells.obs["day"].to_numpy()
    share = again.transition_matrix.multiply(day[:, None] == day[None]).sum(axis=1)
    np.testing.assert_allclose(np.asarray(share)[day < 2], 0.6, rtol=0, atol=TOLERANCE)
    assert (~mixed).backward is None


def test_gradient_in_the_weight(mixed):
    values = tuple(jnp.asarray(np.random.default_rng(0).normal(size=c.shape), float) for c in mixed.graph.columns)
    function = mixed.transition_function

    def outcome(function, graph):
        return jnp.sum(function(graph).row_dot(values))

    gradient = check_gradient(outcome, function, arguments=(mixed.graph,))
    assert gradient.logit_conn_weight != 0
    assert jax.tree.leaves(function) == [function.logit_conn_weight]


def test_triu_and_a_list_of_time_points(cells, coupled):
    n = cells.obs["day"].value_counts().sort_index().to_list()
    farther = np.random.default_rng(2).random((n[0], n[2]))
    kernel = RealTimeKernel(cells, "day", {**coupled, (0, 2): farther}, policy="triu")
    kernel.compute_transition_matrix(None, [0.0], 0.25, {"conn_key": "connectivities"})
    day, found = cells.obs["day"].to_numpy(), kernel.transition_matrix.toarray()
    # Each of two couplings counts three times as much as the steps.
    np.testing.assert_allclose(found[day == 0][:, day == 0].sum(axis=1), 1 / 7, rtol=1e-6)
    np.testing.assert_allclose(found[day == 0][:, day == 2].sum(axis=1), 3 / 7, rtol=1e-6)
    assert not found[day == 1][:, day == 1].any()
    kernel.compute_transition_matrix(None, "diagonal")
    found = kernel.transition_matrix.toarray()
    both = np.hstack([coupled[0, 1], farther])
    wanted = both / both.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[day == 0][:, day > 0], wanted, rtol=0, atol=TOLERANCE)


def test_from_moscot_and_waddington(cells, coupled, tmp_path):
    dense = {
        pair: np.asarray(matrix.todense()) if sp.issparse(matrix) else jnp.asarray(matrix)
        for pair, matrix in coupled.items()
    }
    problem = SolvedProblem(cells, "day", dense)
    kernel = RealTimeKernel.from_moscot(problem).compute_transition_matrix(None, "diagonal")
    given = RealTimeKernel(cells, "day", coupled).compute_transition_matrix(None, "diagonal")
    assert abs(kernel.transition_matrix - given.transition_matrix).max() < 1e-6
    thinned = RealTimeKernel.from_moscot(problem, "threshold", {"value": 0.5})
    assert thinned.compute_transition_matrix(None, "diagonal").transition_matrix.nnz < given.transition_matrix.nnz
    problem.solutions = {}
    with pytest.raises(RuntimeError, match=r"problem\.solve"):
        RealTimeKernel.from_moscot(problem)
    for (source, target), coupling in coupled.items():
        rows, columns = (pd.DataFrame(index=cells.obs_names[cells.obs["day"] == day]) for day in (source, target))
        anndata.AnnData(coupling, rows, columns).write_h5ad(tmp_path / f"tmaps_{source}.0_{target}.0.h5ad")
    read_back = RealTimeKernel.from_wot(cells, tmp_path, "day").compute_transition_matrix(None, "diagonal")
    assert abs(read_back.transition_matrix - given.transition_matrix).max() < 1e-12
    with pytest.raises(FileNotFoundError, match="_SOURCE_TARGET"):
        RealTimeKernel.from_wot(cells, tmp_path / "none", "day")


@pytest.mark.any_precision
def test_order_of_time_points(cells):
    day = cells.obs["day"].astype(float).astype(int).to_numpy()
    for values, names in (
        (day, [0, 1, 2]),
        (np.array(["10", "2", "30"])[day], ["2", "10", "30"]),
        (pd.Categorical(np.array(["late", "early", "mid"])[day], ["early", "mid", "late", "never"], ordered=True),
         ["early", "mid", "late"]),
    ):  # fmt: skip
        cells.obs["when"] = values
        kernel = RealTimeKernel(cells, "when")
        assert list(kernel.time.cat.categories) == names
        assert (kernel.time.astype(str).to_numpy() == cells.obs["when"].astype(str).to_numpy()).all()


@pytest.mark.any_precision
def test_what_is_refused(cells, coupled, logged):
    first, second = coupled.values()
    day = cells.obs["day"].astype(float)
    cells.obs["missing"] = day.where(day > 0)
    cells.obs["constant"] = 1
    cells.obs["text"] = cells.obs["label"]
    for key, message in (
        ("missing", "20 cells without, the first of them 0"),
        ("constant", r"at least two time points in `adata.obs\['constant'\]`, found \['1'\]"),
        ("text", "numbers or have an order.*reorder_categories"),
    ):
        with pytest.raises(ValueError, match=message):
            RealTimeKernel(cells, key)
    with pytest.raises(KeyError, match="experimental time"):
        RealTimeKernel(cells, "hour")
    others = pd.DataFrame(first, index=[f"other {i}" for i in range(len(first))])
    negative, infinite = first.copy(), first.copy()
    negative[0, 0], infinite[3] = -1, np.inf
    for couplings, message in (
        ({(0, 1): first}, r"each time point .*found none from \[1.0\]"),
        ({(0, 1): first, (1, 2): second, (2, 1): second.T}, r"to later time points, found \(2, 1\)"),
        ({(0, 1): first, (1, 3): second}, "found `3`"),
        ({(0, 1): first, (1, 2): first[:, :5]}, "of shape"),
        (
            {(0, 1): others, (1, 2): second},
            "of the cells of `adata`, such as .*cell_0.*found others, such as .*other 0",
        ),
        ({(0, 1): others[1:], (1, 2): second}, "found 19 like .*other 1"),
        ({(0, 1): negative, (1, 2): second}, r"no negative numbers in `couplings\[\(0, 1\)\]`, found -1"),
        ({(0, 1): infinite, (1, 2): second}, "finite numbers"),
    ):
        with unchanged(cells), pytest.raises(ValueError, match=message):
            RealTimeKernel(cells, "day", couplings)
    with pytest.raises(TypeError, match="pairs of time points"):
        RealTimeKernel(cells, "day", {"0-1": first})
    with pytest.raises(TypeError, match="matrix of numbers"):
        RealTimeKernel(cells, "day", {(0, 1): first.astype(str), (1, 2): second})
    with pytest.raises(ValueError, match="sequential"):
        RealTimeKernel(cells, "day", coupled, policy="star")
    kernel = RealTimeKernel(cells, "day", coupled)
    for arguments, error, message in (
        ({"threshold": 101}, ValueError, r"in `\[0, 100\]`"),
        ({"threshold": "local"}, ValueError, "auto_local"),
        ({"self_transitions": "some"}, ValueError, "'diagonal'"),
        ({"self_transitions": 3}, TypeError, "found `int`"),
        ({"self_transitions": "all"}, ValueError, r"interval `\(0, 1\)`, found `None`"),
        ({"self_transitions": [7], "conn_weight": 0.5}, ValueError, "found `7`"),
        ({"conn_kwargs": {"k": 3}}, TypeError, r"found \['k'\]"),
    ):
        with pytest.raises(error, match=message):
            kernel.compute_transition_matrix(**arguments)
    with pytest.raises(RuntimeError, match="Compute transition matrix first"):
        kernel.transition_function  # noqa: B018
    empty = first.copy()
    empty[[2, 5]] = 0
    logged()
    kernel = RealTimeKernel(cells, "day", {(0, 1): sp.csr_matrix(empty), (1, 2): second})
    kernel.compute_transition_matrix("auto", "diagonal")
    assert "In the coupling `(0, 1)`, 2 cells go nowhere" in logged()
    np.testing.assert_allclose(kernel.transition_matrix[2].data, 1 / empty.shape[1], rtol=1e-6)
