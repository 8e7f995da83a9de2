"""The precomputed kernel: where the matrix comes from, its direction, what it must be."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel, VelocityKernel
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    dense = rng.random((N_CELLS, N_CELLS)) * (rng.random((N_CELLS, N_CELLS)) < 0.2) + np.eye(N_CELLS)
    return sp.csr_matrix(dense / dense.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "convert", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, sp.coo_array, lambda m: m.toarray()]
)
def test_formats(made, matrix, convert):
    with unchanged(made):
        kernel = PrecomputedKernel(convert(matrix), made)
        assert isinstance(kernel.transition_matrix, sp.csr_matrix)
        assert kernel.transition_matrix.has_sorted_indices
        np.testing.assert_array_equal(kernel.transition_matrix.toarray(), matrix.toarray())
    assert kernel.backward is None
    assert kernel.params == {"origin": "array"}
    assert repr(kernel) == "PrecomputedKernel[n=60, origin='array']"
    assert kernel.compute_transition_matrix("anything", at="all") is kernel


def test_without_adata(matrix, logged):
    kernel = PrecomputedKernel(matrix)
    assert kernel.shape == (N_CELLS, N_CELLS)
    assert "WARNING: Creating empty `AnnData` object of shape `(60, 1)`" in logged()


def test_normalisation(made, matrix):
    """Rows are normalised in a copy; what is normalised already is kept to the last bit."""
    scaled = sp.csr_matrix(matrix.multiply(np.arange(1, N_CELLS + 1)[:, None]))
    before = scaled.copy()
    kernel = PrecomputedKernel(scaled, made)
    np.testing.assert_allclose(kernel.transition_matrix.toarray(), matrix.toarray(), rtol=1e-14)
    np.testing.assert_array_equal(scaled.data, before.data)
    np.testing.assert_array_equal(PrecomputedKernel(matrix, made).transition_matrix.data, matrix.data)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix.toarray])
def test_matrix_may_change_later(made, matrix, kind, copy):
    given = kind(matrix.copy())
    kernel = PrecomputedKernel(given, made, copy=copy)
    for array in (given,) if isinstance(given, np.ndarray) else (given.data, *_places(given)):
        array[:] = 0
    np.testing.assert_array_equal(kernel.transition_matrix.toarray(), matrix.toarray())
    np.testing.assert_allclose(kernel.transitions.to_csr().toarray(), matrix.toarray(), rtol=0, atol=1e-7)
    found = kernel.transition_function(kernel.graph)
    np.testing.assert_allclose(found.to_csr().toarray(), matrix.toarray(), rtol=0, atol=1e-7)


def _places(matrix):
    return (matrix.row, matrix.col) if matrix.format == "coo" else (matrix.indices, matrix.indptr)


def test_unsorted_matrix_is_left_alone(made, matrix):
    unsorted = matrix.copy()
    for i in range(N_CELLS):
        row = slice(*unsorted.indptr[i : i + 2])
        unsorted.indices[row], unsorted.data[row] = unsorted.indices[row][::-1].copy(), unsorted.data[row][::-1].copy()
    unsorted.has_sorted_indices = False
    before = unsorted.indices.copy()
    kernel = PrecomputedKernel(unsorted, made)
    np.testing.assert_array_equal(kernel.transition_matrix.indices, matrix.indices)
    np.testing.assert_array_equal(kernel.transition_matrix.data, matrix.data)
    np.testing.assert_array_equal(unsorted.indices, before)


def test_from_adata(cells, matrix, logged):
    cells.obsp["T_fwd"], cells.obsp["T_bwd"], cells.obsp["mine"] = matrix, sp.eye_array(N_CELLS).tocsr(), matrix
    cases = [
        (PrecomputedKernel(cells), "T_fwd", False),
        (PrecomputedKernel(cells, backward=True), "T_bwd", True),
        (PrecomputedKernel(cells, obsp_key="T_bwd"), "T_bwd", True),
        (PrecomputedKernel(cells, obsp_key="mine"), "mine", None),
        (PrecomputedKernel(cells, obsp_key="mine", backward=True), "mine", True),
        (PrecomputedKernel("mine", adata=cells), "mine", None),
        (PrecomputedKernel(True, adata=cells), "T_bwd", True),
        (PrecomputedKernel(False, adata=cells), "T_fwd", False),
        (PrecomputedKernel(None, adata=cells), "T_fwd", None),
    ]
    for kernel, key, backward in cases:
        np.testing.assert_array_equal(kernel.transition_matrix.toarray(), cells.obsp[key].toarray())
        assert kernel.backward is backward
        assert kernel.params == {"origin": f"adata.obsp[{key!r}]"}
        assert kernel.adata is cells
        assert repr(kernel).startswith("~") is (backward is True)
    text = logged()
    assert "Using transition matrix from `adata.obsp['T_fwd']`" in text
    assert "Setting directionality `backward=None`" in text
    del cells.obsp["T_fwd"]
    assert PrecomputedKernel(cells).backward is True, "the other default key is next"


def test_from_kernel(made):
    kernel = VelocityKernel(made, backward=True).compute_transition_matrix(softmax_scale=2.0)
    kernel = 0.5 * kernel + 0.5 * ConnectivityKernel(made).compute_transition_matrix()
    found = PrecomputedKernel(kernel)
    assert abs(found.transition_matrix - kernel.transition_matrix).max() == 0
    assert found.backward is True
    assert found.adata is made
    assert found.params["origin"] == repr(kernel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:, :50], r"shape \(60, 60\) in `array`, found \(60, 50\)"),
        (lambda m: m[:50, :50], r"shape \(60, 60\) in `array`, found \(50, 50\)"),
        (lambda m: m.toarray()[0], r"found \(60,\)"),
        (lambda m: -m, r"non-negative probabilities in `array`, found \d+ negative"),
        (lambda m: m * np.nan, r"finite probabilities in `array`, found \d+ that"),
        (lambda m: sp.csr_matrix(m.multiply(np.arange(N_CELLS)[:, None] != 7)), "found 1 rows without.*cell 7"),
    ],
)
def test_impossible_matrices(made, matrix, change, message):
    with unchanged(made), pytest.raises(ValueError, match=message):
        PrecomputedKernel(change(matrix), made)


def test_bad_arguments(cells, matrix):
    with unchanged(cells):
        with pytest.raises(KeyError, match=r"at 'T_fwd' or 'T_bwd', found the keys \['connectivities'"):
            PrecomputedKernel(cells)
        with pytest.raises(KeyError, match="at 'T_bwd'"):
            PrecomputedKernel(True, adata=cells)
        with pytest.raises(KeyError, match=r"`adata.obsp\['absent'\]`, found the keys .*'other'"):
            PrecomputedKernel("absent", adata=cells)
        with pytest.raises(TypeError, match="found `NoneType`"):
            PrecomputedKernel("mine")
        with pytest.raises(TypeError, match=r"`object` to be an AnnData object, a matrix.*found `list`"):
            PrecomputedKernel([1.0], adata=cells)
        with pytest.raises(TypeError, match="`backward` to be `bool` or None, found `str`"):
            PrecomputedKernel(matrix, cells, backward="yes")
        with pytest.raises(TypeError, match="found `dict`"):
            PrecomputedKernel(matrix, {})
