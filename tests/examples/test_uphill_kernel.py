"""The kernel of one's own does what its formula says, and all that other kernels do."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.graph import NeighborGraph
from tests.bent_line import make_cells
from tests.examples.uphill_kernel import Uphill, UphillKernel
from tests.finite_differences import check_gradient


@pytest.fixture
def kernel():
    return UphillKernel(make_cells(), "pseudotime").compute_transition_matrix(b=3.0)


def test_formula(kernel):
    score = kernel.adata.obs["pseudotime"].to_numpy()
    weights = kernel.connectivities.toarray() * np.exp(3 * (score[None] - score[:, None]))
    expected = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(kernel.transition_matrix.toarray(), expected, rtol=0, atol=1e-6)


@pytest.fixture
def odd_rows():
    """The first cell has two edges of weight zero, the last one has none."""
    return NeighborGraph.from_csr(sp.csr_matrix(([0.0, 0.0, 1.0, 1.0], ([0, 0, 1, 2], [1, 2, 0, 0])), shape=(4, 4)))


@pytest.mark.any_precision
def test_rows_without_weight(odd_rows):
    found = Uphill(1.0)(odd_rows, {"score": jnp.zeros(4)}).to_csr()
    expected = [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)


def test_gradient(kernel):
    def loss(function, graph, features):
        return jnp.sum(function(graph, features) @ features["score pseudotime"])

    gradient = check_gradient(loss, kernel.transition_function, arguments=(kernel.graph, kernel.features))
    assert gradient.log_b > 0


def test_gradient_at_odd_rows(odd_rows):
    """By the data too, and where slots hold no edge."""

    def loss(function_and_score, graph):
        function, score = function_and_score
        return jnp.sum(function(graph, {"score": score}) @ score**2)

    check_gradient(loss, (Uphill(1.0), jnp.arange(4.0)), arguments=(odd_rows,))


@pytest.mark.any_precision
def test_before_it_is_computed(kernel):
    assert UphillKernel(kernel.adata, "pseudotime").transition_function.log_b == pytest.approx(np.log(5))


@pytest.mark.any_precision
def test_it_is_combined_written_and_read(kernel, tmp_path):
    velocity = jv.kernels.VelocityKernel(kernel.adata).compute_transition_matrix()
    both = 0.5 * kernel + 0.5 * velocity
    both.write(tmp_path / "both.npz")
    assert repr(jv.kernels.read(tmp_path / "both.npz")) == repr(both)


@pytest.mark.any_precision
def test_its_number_is_fitted(kernel):
    known = jv.objectives.TimeGain(kernel.adata, "pseudotime")
    fitted = jv.tl.fit_kernel(kernel, known, train=["numbers"], steps=5, validation=None, progress=False).kernel
    assert fitted.params["b"] > 3


@pytest.mark.any_precision
@pytest.mark.parametrize(("b", "message"), [(0, "positive and finite"), (np.inf, "positive and finite")])
def test_number_out_of_range(kernel, b, message):
    with pytest.raises(ValueError, match=message):
        kernel.compute_transition_matrix(b)


@pytest.mark.any_precision
def test_score_that_is_missing():
    adata = make_cells()
    adata.obs["score"] = np.where(np.arange(adata.n_obs) < 2, np.nan, 1.0)
    with pytest.raises(ValueError, match="found 2 cells without"):
        UphillKernel(adata, "score")
    with pytest.raises(KeyError, match="Pass the key of a score"):
        UphillKernel(adata, "absent")
