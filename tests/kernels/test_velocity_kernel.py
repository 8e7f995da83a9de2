"""The velocity kernel: arguments, what it prints and keeps, models, directions, similarities, seeds."""

import copy
import pickle
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.configuration import settings
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged

DOUBLE = jax.config.jax_enable_x64
TOLERANCE = 1e-12 if DOUBLE else 2e-6


@pytest.fixture(scope="module")
def computed(made):
    return VelocityKernel(made).compute_transition_matrix()


def softmax_rows(logits, pattern, scale):
    """Plain NumPy: softmax over the stored entries of ``pattern``."""
    expected = np.zeros(logits.shape)
    for i in range(len(logits)):
        neighbors = pattern[[i]].indices
        weight = np.exp(scale * (logits[i, neighbors] - logits[i, neighbors].max()))
        expected[i, neighbors] = weight / weight.sum()
    return expected


def correlations(x, v, pattern):
    """Plain NumPy: correlation of velocity with displacement, for stored entries."""
    logits = np.zeros(pattern.shape)
    for i in range(len(x)):
        for j in pattern[[i]].indices:
            logits[i, j] = np.corrcoef(v[i], x[j] - x[i])[0, 1]
    return logits


def test_deterministic(made, computed):
    pattern = made.obsp["connectivities"]
    x, v = (made.layers[key].astype(float) for key in ("Ms", "velocity"))
    logits = correlations(x, v, pattern)
    scale = 1 / np.median(np.abs(logits[logits != 0]))
    assert computed.params["softmax_scale"] == pytest.approx(scale, rel=1e-12 if DOUBLE else 1e-5)
    expected = softmax_rows(logits, pattern, scale)
    np.testing.assert_allclose(computed.transition_matrix.toarray(), expected, rtol=0, atol=TOLERANCE)
    assert isinstance(computed.logits, sp.csr_matrix)
    np.testing.assert_allclose(computed.logits.toarray(), logits, rtol=0, atol=TOLERANCE)


def test_attributes(made, computed):
    assert computed.adata is made
    assert computed.shape == (N_CELLS, N_CELLS)
    assert computed.backward is False
    assert computed.compute_transition_matrix(softmax_scale=computed.params["softmax_scale"]) is computed
    assert abs(computed.connectivities - made.obsp["connectivities"]).max() == 0
    assert list(computed.params) == ["model", "similarity", "softmax_scale"]
    assert type(computed.params["softmax_scale"]) is float
    fresh = VelocityKernel(made)
    assert fresh.params == {}
    assert fresh.transition_matrix is None
    assert fresh.logits is None
    assert repr(fresh) == "VelocityKernel[n=60]"


def test_earlier_name_of_the_transition_function(computed):
    mixed = 0.8 * computed + 0.2 * ConnectivityKernel(computed.adata).compute_transition_matrix()
    for kernel in (computed, mixed):
        assert eqx.tree_equal(kernel.expression, kernel.transition_function)


def test_transition_function_before_the_computation(made, computed):
    """It has the automatic scale, and gives what the computation will give."""
    for fresh, expected in (
        (VelocityKernel(made), computed),
        (ConnectivityKernel(made), ConnectivityKernel(made).compute_transition_matrix()),
    ):
        matrix = fresh.transition_function(fresh.graph, fresh.features).to_csr()
        np.testing.assert_allclose(
            matrix.toarray(), expected.transition_matrix.toarray(), rtol=0, atol=1e-12 if DOUBLE else 1e-6
        )


def test_log(made, logged):
    with unchanged(made):
        VelocityKernel(made).compute_transition_matrix(n_jobs=2, backend="loky", show_progress_bar=False)
    lines = logged().splitlines()
    assert lines[0].startswith("DEBUG: Ignoring `n_jobs`, `backend`: ")
    assert lines[1] == "INFO: Computing transition matrix using `'deterministic'` model"
    assert re.fullmatch(r"INFO: Using `softmax_scale=\d\.\d{4}`", lines[2])
    assert re.fullmatch(r"INFO:     Finish \(0:00:\d\d\.\d\d\)", lines[3])
    assert len(lines) == 4
    VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)
    assert "Using" not in logged()


def test_verbosity(made, caplog):
    before = settings.verbosity
    try:
        settings.verbosity = "warning"
        VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)
        assert not caplog.records
        settings.verbosity = "info"
        VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0, n_jobs=1)
        assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    finally:
        settings.verbosity = before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "dynamical"}, ValueError, "`model` to be one of .*'stochastic'.*found `'dynamical'`"),
        ({"backward_mode": "flip"}, ValueError, "`backward_mode` to be one of .*'negate'.*found `'flip'`"),
        ({"similarity": "pearson"}, ValueError, "`similarity` to be one of .*'dot_product'.*found `'pearson'`"),
        ({"similarity": 3}, TypeError, "or a function, found `int`"),
        ({"softmax_scale": 0.0}, ValueError, "positive and finite, or None, found `0.0`"),
        ({"softmax_scale": -1}, ValueError, "found `-1`"),
        ({"softmax_scale": np.nan}, ValueError, "found `nan`"),
        ({"softmax_scale": "4"}, TypeError, "`softmax_scale` to be a number or None, found `str`"),
        ({"n_samples": 0}, ValueError, "`n_samples` to be an integer of at least 1, found `0`"),
        ({"n_samples": 2.5}, ValueError, "found `2.5`"),
        ({"n_samples": "many"}, ValueError, "found `'many'`"),
        ({"model": "monte_carlo", "seed": 1.5}, TypeError, "`seed` to be an integer, a random key.*found `1.5`"),
        ({"model": "monte_carlo", "seed": -1}, ValueError, r"from 0 to 2\*\*32 - 1, found `-1`"),
        ({"mode": "deterministic", "scheme": "cosine"}, TypeError, r"arguments \['mode', 'scheme'\]"),
    ],
)
def test_bad_arguments(made, arguments, error, message):
    kernel = VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)
    before = kernel.transition_matrix, kernel.params.copy(), kernel.transition_function
    with unchanged(made), pytest.raises(error, match=message):
        kernel.compute_transition_matrix(**arguments)
    assert kernel.transition_matrix is before[0], "a failure leaves the last result"
    assert kernel.params == before[1]


def test_backward_argument(made):
    assert VelocityKernel(made, backward=np.bool_(True)).backward is True
    with pytest.raises(TypeError, match="`backward` to be `bool`, found `NoneType`"):
        VelocityKernel(made, backward=None)


@pytest.mark.parametrize("model", ["deterministic", "stochastic", "monte_carlo"])
def test_negation(made, cells, model):
    """Backward by negation is forward with negated velocities, for all models."""
    cells.layers["velocity"] = -cells.layers["velocity"]
    arguments = {"model": model, "seed": 0, "n_samples": 16}
    backward = VelocityKernel(made, backward=True).compute_transition_matrix(backward_mode="negate", **arguments)
    forward = VelocityKernel(cells).compute_transition_matrix(**arguments)
    expected = forward.transition_matrix.toarray()
    np.testing.assert_allclose(backward.transition_matrix.toarray(), expected, rtol=0, atol=1e-15)
    assert backward.params["model"] == model
    assert backward.params["bwd_mode"] == "negate"
    assert repr(backward).startswith(f"~VelocityKernel[n=60, model='{model}'")
    unchanged_direction = VelocityKernel(made).compute_transition_matrix(backward_mode="negate", **arguments)
    assert abs(unchanged_direction.transition_matrix - backward.transition_matrix).max() > 0.01
    assert "bwd_mode" not in unchanged_direction.params, "a forward kernel has no backward mode"


@pytest.mark.parametrize("model", ["stochastic", "monte_carlo"])
def test_transposition_is_deterministic(made, model, logged):
    kernel = VelocityKernel(made, backward=True).compute_transition_matrix(model=model, softmax_scale=3.0)
    assert f"WARNING: Mode `'{model}'` is currently not supported for backward process" in logged()
    assert kernel.params["model"] == "deterministic"
    expected = VelocityKernel(made, backward=True).compute_transition_matrix(softmax_scale=3.0)
    assert abs(kernel.transition_matrix - expected.transition_matrix).max() == 0
    x, v = (made.layers[key].astype(float) for key in ("Ms", "velocity"))
    logits = np.zeros(kernel.shape)
    for i in range(N_CELLS):
        for j in kernel.connectivities[[i]].indices:
            logits[i, j] = np.corrcoef(v[j], x[i] - x[j])[0, 1]
    expected = softmax_rows(logits, kernel.connectivities, 3.0)
    np.testing.assert_allclose(kernel.transition_matrix.toarray(), expected, rtol=0, atol=TOLERANCE)


def test_seeds(made):
    def compute(seed):
        kernel = VelocityKernel(made).compute_transition_matrix(
            model="monte_carlo", softmax_scale=4.0, n_samples=16, seed=seed
        )
        return kernel.transition_matrix.toarray(), kernel

    first, kernel = compute(0)
    assert kernel.params["seed"] == 0
    assert kernel.params["n_samples"] == 16
    np.testing.assert_array_equal(compute(0)[0], first)
    np.testing.assert_array_equal(compute(np.int64(0))[0], first)
    np.testing.assert_array_equal(compute(jax.random.key(0))[0], first)
    assert abs(compute(1)[0] - first).max() > 1e-3
    assert abs(compute(2**32 - 1)[0] - first).max() > 1e-3
    assert abs(compute(None)[0] - compute(None)[0]).max() > 1e-3
    pure = kernel.transition_function(kernel.graph, kernel.features, key=jax.random.key(0)).to_csr()
    np.testing.assert_allclose(pure.toarray(), first, rtol=0, atol=1e-12 if DOUBLE else 1e-6)


def test_users_similarity(made):
    """A dot product written by the user is the built-in one, forward, backward and to second order."""

    def product(v, displacements):
        return displacements @ v

    for backward, model in ((False, "deterministic"), (True, "deterministic"), (False, "stochastic")):
        own, built_in = (
            VelocityKernel(made, backward=backward).compute_transition_matrix(
                model=model, similarity=similarity, softmax_scale=0.05
            )
            for similarity in (product, "dot_product")
        )
        np.testing.assert_allclose(
            own.transition_matrix.toarray(), built_in.transition_matrix.toarray(), rtol=0, atol=TOLERANCE
        )
        assert own.params["similarity"] == "product"
        pure = own.transition_function(own.graph, own.features).to_csr()
        np.testing.assert_allclose(pure.toarray(), own.transition_matrix.toarray(), rtol=0, atol=TOLERANCE)


def test_similarity_of_cellrank(made):
    """Each way in which one differs gets the same advice."""

    def with_scale(v, D, softmax_scale):
        logits = D @ v
        return np.exp(logits), logits

    def with_default_scale(v, D, softmax_scale=1.0):
        logits = D @ v
        return jnp.exp(softmax_scale * logits), logits

    def in_numpy(v, D):
        return np.asarray(D) @ np.asarray(v)

    def one_number(v, D):
        return jnp.sum(D @ v)

    for similarity in (with_scale, with_default_scale, in_numpy, one_number):
        with unchanged(made), pytest.raises(TypeError, match=r"`lambda v, displacements: displacements @ v`"):
            VelocityKernel(made).compute_transition_matrix(similarity=similarity)


def test_similarity_that_is_not_finite(cells):
    cells.layers["Ms"][5] = cells.layers["Ms"][6]

    def unsafe(v, displacements):
        return displacements @ v / jnp.linalg.norm(displacements, axis=1)

    with pytest.raises(
        ValueError, match=r"finite transition probabilities, found \d+ .*'unsafe'.*cells in the same place"
    ):
        VelocityKernel(cells).compute_transition_matrix(similarity=unsafe, softmax_scale=1.0)


@pytest.mark.parametrize("xkey", ["X", None])
def test_expression_from_x(made, xkey):
    kernel = VelocityKernel(made, xkey=xkey).compute_transition_matrix(softmax_scale=2.0)
    expected = VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)
    assert kernel.init["xkey"] == "X"
    np.testing.assert_allclose(
        kernel.transition_matrix.toarray(), expected.transition_matrix.toarray(), rtol=0, atol=1e-15
    )


def test_graph_by_the_name_of_the_neighbours(made, computed):
    kernel = VelocityKernel(made, conn_key="neighbors").compute_transition_matrix()
    np.testing.assert_array_equal(kernel.transition_matrix.toarray(), computed.transition_matrix.toarray())


def test_result_does_not_follow_the_data(cells):
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    kernel.write_to_adata()
    before = kernel.transition_matrix.toarray()
    cells.layers["velocity"][:] = 0
    cells.obsp["connectivities"].data[:] = 1
    np.testing.assert_array_equal(kernel.transition_matrix.toarray(), before)
    np.testing.assert_array_equal(cells.obsp["T_fwd"].toarray(), before)


def test_values_that_are_too_large(cells):
    """An overflow is an error, and leaves the last result."""
    cells.layers["velocity"] = cells.layers["velocity"].astype(float) * (1e307 if DOUBLE else 2e37)
    kernel = VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    before = kernel.transition_matrix
    with unchanged(cells), pytest.raises(ValueError, match=r"found \d+ that are not.*`softmax_scale` are too large"):
        kernel.compute_transition_matrix(similarity="dot_product", softmax_scale=2.0)
    assert kernel.transition_matrix is before


def test_standard_copies(made):
    """Users copy and pickle what they hold."""
    kernel = VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)
    kernel = 0.5 * kernel + 0.5 * kernel
    for other in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert repr(other) == repr(kernel)
        assert len(other.kernels) == 1
        assert abs(other.compute_transition_matrix().transition_matrix - kernel.transition_matrix).max() < 1e-7
