"""The kernel of a pseudotime: equal to CellRank's, combined, stored, and what it refuses."""

import anndata
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.kernels import ConnectivityKernel, PseudotimeKernel, VelocityKernel, from_adata, read
from tests.kernels.other_reference import TOLERANCE, assert_equal, reference_matrix
from tests.snapshot import unchanged

CASES = {
    "hard": {},
    "soft": {"threshold_scheme": "soft"},
    "hard_frac_to_keep=0.1": {"frac_to_keep": 0.1},
    "soft_b=20_nu=0.01": {"threshold_scheme": "soft", "b": 20, "nu": 0.01},
}


@pytest.fixture(scope="module")
def paul(shared):
    adata = anndata.read_h5ad(shared / "data" / "paul15_2660.h5ad")
    adata.obsp["connectivities"] = reference_matrix(shared, "paul15/connectivities")
    return adata


@pytest.mark.parametrize("backward", [False, True])
def test_equals_cellrank(paul, shared, backward, logged):
    kernel = PseudotimeKernel(paul, "slingshot_pt_curve1", backward=backward)
    for name, arguments in CASES.items():
        assert kernel.compute_transition_matrix(**arguments) is kernel
        expected = reference_matrix(shared, f"paul15/pseudotime/{name}/{'bwd' if backward else 'fwd'}")
        assert_equal(kernel.transition_matrix, expected)
    start = "~" if backward else ""
    assert repr(kernel) == start + "PseudotimeKernel[n=2660, dnorm=False, scheme='soft', b=20.0, nu=0.01]"
    assert kernel.backward is backward
    assert "WARNING" not in logged()


@pytest.fixture
def kernel(cells):
    return PseudotimeKernel(cells, "pseudotime").compute_transition_matrix()


def test_combined_inverted_and_stored(cells, kernel, tmp_path):
    assert repr(kernel) == "PseudotimeKernel[n=60, dnorm=False, scheme='hard', frac_to_keep=0.3]"
    velocity = VelocityKernel(cells).compute_transition_matrix()
    soft = kernel.copy().compute_transition_matrix("soft", b=3, nu=2)
    combined = 0.5 * velocity + 0.3 * kernel + 0.2 * soft
    parts = (0.5, velocity), (0.3, kernel), (0.2, soft)
    expected = sum(weight * part.transition_matrix.toarray() for weight, part in parts)
    np.testing.assert_allclose(combined.transition_matrix.toarray(), expected, rtol=0, atol=TOLERANCE)
    pure = combined.transition_function(combined.graph, combined.features)
    np.testing.assert_allclose(pure.to_csr().toarray(), expected, rtol=0, atol=TOLERANCE)
    combined.write(tmp_path / "kernel.npz")
    combined.write_to_adata("mixed")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    stored = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for back in (read(tmp_path / "kernel.npz"), from_adata(stored, "mixed")):
        assert repr(back) == repr(combined)
        assert (back.transition_matrix != combined.transition_matrix).nnz == 0
        again = back.transition_function(back.graph, back.features)
        np.testing.assert_allclose(again.to_csr().toarray(), expected, rtol=0, atol=TOLERANCE)
    backward = ~kernel
    assert backward.transition_matrix is None
    assert backward.backward
    assert backward.init["backward"]
    np.testing.assert_allclose(backward.pseudotime, 1 - kernel.pseudotime, atol=1e-15)
    with pytest.raises(ValueError, match="forward and backward"):
        backward.compute_transition_matrix() + velocity
    assert (0.5 * backward + 0.5 * ConnectivityKernel(cells).compute_transition_matrix()).backward
    assert "~PseudotimeKernel" in repr(backward)


def test_computed_anew_with_others(cells, kernel):
    """A kernel that is computed by another scheme takes its combinations with it."""
    soft = PseudotimeKernel(cells, "pseudotime").compute_transition_matrix("soft")
    combined = 0.5 * soft + 0.5 * ConnectivityKernel(cells).compute_transition_matrix()
    before = combined.transition_matrix
    soft.compute_transition_matrix()
    pure = combined.transition_function(combined.graph, combined.features)
    np.testing.assert_allclose(pure.to_csr().toarray(), combined.transition_matrix.toarray(), rtol=0, atol=TOLERANCE)
    assert abs(combined.transition_matrix - before).max() > 0.01


def test_kernels_on_one_graph_share_it(cells, kernel):
    kernel.compute_transition_matrix("hard")
    other = PseudotimeKernel(cells, "pseudotime").compute_transition_matrix("hard")
    assert other.graph_data is kernel.graph_data
    assert ConnectivityKernel(cells).graph.pattern is kernel.graph.pattern


def scaled(cell_pseudotime, neigh_pseudotime, neigh_conn, factor=1.0):
    """With the names and the order of CellRank."""
    return neigh_conn * jnp.exp(factor * (neigh_pseudotime - cell_pseudotime))


def test_function_of_ones_own(cells, kernel, tmp_path):
    kernel.compute_transition_matrix(scaled, factor=5.0, n_jobs=2, backend="loky", show_progress_bar=False)
    assert kernel.params["scheme"].startswith("functools.partial") or kernel.params["scheme"] == "scaled"
    time, weights = kernel.pseudotime, kernel.connectivities.toarray()
    expected = weights * np.exp(5 * (time[None] - time[:, None]))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(kernel.transition_matrix.toarray(), expected, rtol=0, atol=TOLERANCE)
    kernel.write(tmp_path / "kernel.npz")
    back = read(tmp_path / "kernel.npz")
    assert repr(back) == repr(kernel)
    with pytest.raises(ValueError, match="is a function, which is not stored"):
        back.transition_function  # noqa: B018
    with pytest.raises(TypeError, match=r"cannot be traced by JAX[\s\S]*`jax.numpy` in place of `numpy`"):
        kernel.compute_transition_matrix(lambda t, others, weights: np.where(np.asarray(others) > 0, weights, 0))
    with pytest.raises(TypeError, match=r"one array of shape \(neighbors,\)"):
        kernel.compute_transition_matrix(lambda t, others, weights: jnp.sum(weights))
    with pytest.raises(ValueError, match="finite transition probabilities"):
        kernel.compute_transition_matrix(lambda t, others, weights: weights / jnp.zeros(()))


@pytest.mark.any_precision
def test_what_is_refused(cells, kernel, logged):
    column = cells.obs["pseudotime"].to_numpy().copy()
    with unchanged(cells), pytest.raises(KeyError, match=r"adata.obs\['dpt'\].*tl.velocity_pseudotime"):
        PseudotimeKernel(cells, "dpt")
    for key, value, message in (
        ("missing", np.where(column > 0.5, np.nan, column), "30 cells without, the first of them 30"),
        ("infinite", np.where(column > 0.5, np.inf, column), "30 cells without"),
        ("constant", np.full(60, 2.5), "found 2.5 for all 60 cells"),
        ("text", ["a"] * 60, "Expected numbers"),
    ):
        cells.obs[key] = value
        with pytest.raises(ValueError, match=message):
            PseudotimeKernel(cells, key)
    with pytest.raises(TypeError, match="`backward`"):
        PseudotimeKernel(cells, "pseudotime", backward="no")
    for arguments, error, message in (
        ({"threshold_scheme": "firm"}, ValueError, "'hard', 'soft'"),
        ({"threshold_scheme": 3}, TypeError, "found `int`"),
        ({"frac_to_keep": 1.5}, ValueError, "from 0 to 1, found `1.5`"),
        ({"threshold_scheme": "soft", "b": -1}, ValueError, "`b` to be positive"),
        ({"threshold_scheme": "soft", "nu": 0}, ValueError, "`nu` to be positive"),
        ({"factor": 2}, TypeError, r"arguments \['factor'\]"),
    ):
        with pytest.raises(error, match=message):
            kernel.compute_transition_matrix(**arguments)
    cells.obs["plateau"] = np.minimum(column, 0.97)  # the last two cells go to each other
    plateau = PseudotimeKernel(cells, "plateau")
    logged()
    plateau.compute_transition_matrix("hard", 0.0, check_irreducibility=True)
    assert "WARNING: Biased k-NN graph is not irreducible" in logged()
