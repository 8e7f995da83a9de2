"""Sums and products of kernels: numbers, structure, names."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, KernelAdd, KernelMul, PrecomputedKernel, VelocityKernel
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged

DOUBLE = jax.config.jax_enable_x64
CLOSE = {"rtol": 0, "atol": 1e-13 if DOUBLE else 2e-7}


@pytest.fixture(scope="module")
def kernels(made):
    """Basic kernels: velocity, connectivity, velocity by another key, another graph, a matrix beyond all graphs."""
    rng = np.random.default_rng(1)
    matrix = sp.random_array((N_CELLS, N_CELLS), density=0.1, rng=rng, format="csr") + sp.eye_array(N_CELLS)
    return {
        "v": VelocityKernel(made).compute_transition_matrix(),
        "c": ConnectivityKernel(made).compute_transition_matrix(),
        "w": VelocityKernel(made, vkey="velocity2").compute_transition_matrix(similarity="cosine"),
        "o": ConnectivityKernel(made, conn_key="other").compute_transition_matrix(density_normalize=False),
        "p": PrecomputedKernel(matrix, made),
    }


def normalized(matrix):
    return matrix / matrix.sum(axis=1, keepdims=True)


COMBINATIONS = {
    "weighted": (lambda v, c, w, o, p: 0.8 * v + 0.2 * c, lambda v, c, w, o, p: 0.8 * v + 0.2 * c),
    "weights are relative": (lambda v, c, w, o, p: 3 * v + c, lambda v, c, w, o, p: (3 * v + c) / 4),
    "three": (lambda v, c, w, o, p: v + 2 * c + w, lambda v, c, w, o, p: (v + 2 * c + w) / 4),
    "two velocities": (lambda v, c, w, o, p: v + w, lambda v, c, w, o, p: (v + w) / 2),
    "other graph": (lambda v, c, w, o, p: 0.5 * v + 0.5 * o, lambda v, c, w, o, p: (v + o) / 2),
    "precomputed": (lambda v, c, w, o, p: 0.9 * v + 0.1 * p, lambda v, c, w, o, p: 0.9 * v + 0.1 * p),
    "product": (lambda v, c, w, o, p: v * c, lambda v, c, w, o, p: normalized(v * c)),
    "weights in products vanish": (lambda v, c, w, o, p: (3 * v) * c, lambda v, c, w, o, p: normalized(v * c)),
    "nested": (
        lambda v, c, w, o, p: 0.5 * (0.8 * v + 0.2 * c) + 0.5 * (o + p),
        lambda v, c, w, o, p: 0.4 * v + 0.1 * c + 0.25 * o + 0.25 * p,
    ),
    "weighted product": (
        lambda v, c, w, o, p: 0.5 * (v * c) + 0.5 * c,
        lambda v, c, w, o, p: (normalized(v * c) + c) / 2,
    ),
    # As in CellRank: beside terms with weights, a product without one is not normalised.
    "bare product": (lambda v, c, w, o, p: v * c + c, lambda v, c, w, o, p: normalized(v * c + c)),
    "bare products": (
        lambda v, c, w, o, p: v * c + v * w,
        lambda v, c, w, o, p: (normalized(v * c) + normalized(v * w)) / 2,
    ),
    "product of sums": (
        lambda v, c, w, o, p: (v + c) * (w + p),
        lambda v, c, w, o, p: normalized((v + c) * (w + p)),
    ),
    "same kernel twice": (
        lambda v, c, w, o, p: 0.5 * v + 0.5 * (v * c),
        lambda v, c, w, o, p: 0.5 * v + 0.5 * normalized(v * c),
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_numbers(kernels, made, name):
    combine, expected = COMBINATIONS[name]
    with unchanged(made):
        kernel = combine(**kernels)
        matrix = kernel.transition_matrix
        dense = {key: k.transition_matrix.toarray() for key, k in kernels.items()}
        np.testing.assert_allclose(matrix.toarray(), expected(**dense), **CLOSE)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-12)
        assert matrix.dtype == np.float64
        assert isinstance(matrix, sp.csr_matrix)
        assert matrix.has_canonical_format
        np.testing.assert_allclose(kernel.transitions.to_csr().toarray(), matrix.toarray(), **CLOSE)
        pure = kernel.transition_function(kernel.graph, kernel.features)
        np.testing.assert_allclose(pure.to_csr().toarray(), matrix.toarray(), rtol=0, atol=1e-12 if DOUBLE else 1e-6)


def test_leaves(kernels):
    for kernel in kernels.values():
        matrix = kernel.transition_matrix.toarray()
        np.testing.assert_allclose(kernel.transitions.to_csr().toarray(), matrix, **CLOSE)
        pure = kernel.transition_function(kernel.graph, kernel.features)
        np.testing.assert_allclose(pure.to_csr().toarray(), matrix, rtol=0, atol=1e-12 if DOUBLE else 1e-6)


def test_names(kernels):
    v, c, _, o, p = kernels.values()
    scale = f"softmax_scale={round(v.params['softmax_scale'], 3)}"
    full = f"VelocityKernel[n=60, model='deterministic', similarity='correlation', {scale}]"
    assert repr(v) == full
    assert str(v) == "VelocityKernel[n=60]"
    assert repr(c) == "ConnectivityKernel[n=60, dnorm=True, key='connectivities']"
    kernel = 0.8 * v + 0.2 * c
    assert str(kernel) == "(0.8 * VelocityKernel[n=60] + 0.2 * ConnectivityKernel[n=60])"
    assert repr(kernel) == f"(0.8 * {full} + 0.2 * {c!r})"
    relative = 3 * v + c
    assert str(relative) == "(3.0 * VelocityKernel[n=60] + 1.0 * ConnectivityKernel[n=60])", "as they were given"
    relative.compute_transition_matrix()
    assert str(relative) == "(0.75 * VelocityKernel[n=60] + 0.25 * ConnectivityKernel[n=60])", "as they are used"
    nested = 2 * (v * (2 * c + 3 * o)) + 2 * p
    assert str(nested) == (
        "(2.0 * (VelocityKernel[n=60] * (2.0 * ConnectivityKernel[n=60] + 3.0 * ConnectivityKernel[n=60]))"
        " + 2.0 * PrecomputedKernel[n=60])"
    )
    nested.compute_transition_matrix()
    assert str(nested) == (
        "(0.5 * (VelocityKernel[n=60] * (0.4 * ConnectivityKernel[n=60] + 0.6 * ConnectivityKernel[n=60]))"
        " + 0.5 * PrecomputedKernel[n=60])"
    )
    assert str(v * c) == "(VelocityKernel[n=60] * ConnectivityKernel[n=60])"
    assert str(0.5 * v) == "0.5 * VelocityKernel[n=60]"
    assert str(0.5 * kernel + 0.5 * (p * o)) == (
        "(0.5 * (0.8 * VelocityKernel[n=60] + 0.2 * ConnectivityKernel[n=60])"
        " + 0.5 * (PrecomputedKernel[n=60] * ConnectivityKernel[n=60]))"
    )
    assert str(v * c + c) == ("((VelocityKernel[n=60] * ConnectivityKernel[n=60]) + 1.0 * ConnectivityKernel[n=60])")


def test_names_of_backward_kernels(made):
    v, c = ~VelocityKernel(made), ConnectivityKernel(made)
    assert repr(v) == str(v) == "~VelocityKernel[n=60]"
    assert str(0.8 * v + 0.2 * c) == "~(0.8 * VelocityKernel[n=60] + 0.2 * ConnectivityKernel[n=60])"
    assert str(0.8 * v) == "~(0.8 * VelocityKernel[n=60])"
    assert str(~(VelocityKernel(made) + c)) == "~(1.0 * VelocityKernel[n=60] + 1.0 * ConnectivityKernel[n=60])"


def test_structure(kernels):
    v, c, w, o, _ = kernels.values()
    kernel = 0.8 * v + 0.2 * c + 1.0 * w
    assert isinstance(kernel, KernelAdd)
    assert len(kernel) == 3, "a weighted term joins the sum"
    assert [type(part) for part in kernel] == [KernelMul] * 3
    assert kernel[0][1] is v
    assert kernel[-1][1] is w
    assert repr(kernel[0][0]) == "0.8"
    assert kernel.weights == pytest.approx((0.4, 0.1, 0.5))
    with pytest.raises(IndexError):
        kernel[3]
    assert kernel.kernels == (v, c, w)
    assert (v * c + v).kernels == (v, c), "each once"
    assert kernel.shape == (60, 60)
    assert kernel.adata is v.adata
    assert list(kernel.params.values()) == [v.params, c.params, w.params]
    assert kernel.backward is False
    assert (c + o).backward is None
    assert (2 * (3 * v)).weight == 6
    assert len(v) == 1
    assert v[0] is v
    assert v.kernels == (v,)
    with pytest.raises(IndexError):
        v[1]
    assert list(v) == [v]


@pytest.mark.parametrize(
    "weight",
    [2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.array(2), np.array(2.0), jnp.array(2), jnp.array(2.0)],
)
def test_weights_of_all_types(kernels, weight):
    for kernel in (weight * kernels["v"], kernels["v"] * weight):
        assert isinstance(kernel, KernelMul)
        assert kernel.weight == 2.0
        assert type(kernel.weight) is float


@pytest.mark.parametrize("weight", [0, -1.0, np.nan, np.inf])
def test_impossible_weights(kernels, weight):
    with pytest.raises(ValueError, match=rf"positive and finite, found \[{float(weight)}\]"):
        weight * kernels["v"]


TIMES = pd.Series(np.linspace(1, 2, N_CELLS), index=[f"cell_{i}" for i in range(N_CELLS)])


@pytest.mark.parametrize(
    "weight",
    [
        TIMES,
        TIMES.iloc[::-1],
        TIMES.astype("Float64"),
        TIMES.reset_index(drop=True),
        TIMES.to_numpy(),
        jnp.asarray(TIMES.to_numpy()),
    ],
    ids=["series", "another order", "nullable", "no names", "numpy", "jax"],
)
def test_weights_of_cells_of_all_types(kernels, weight):
    """A series is in the order of its names."""
    for kernel in (weight * kernels["v"], kernels["v"] * weight):
        assert isinstance(kernel, KernelMul)
        np.testing.assert_allclose(kernel.weight, TIMES.to_numpy(), rtol=1e-7)
    total = weight * kernels["v"] + kernels["c"]
    share = (TIMES / (TIMES + 1)).to_numpy()[:, None]
    v, c = (kernels[key].transition_matrix.toarray() for key in "vc")
    np.testing.assert_allclose(total.transition_matrix.toarray(), share * v + (1 - share) * c, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (TIMES.rename("other_{}".format), ValueError, r"index of `weight` to be the 60 names \['cell_0', 'cell_1'\]"),
        (TIMES.iloc[:-1], ValueError, "index of `weight`"),
        (TIMES.where(TIMES < 1.5), ValueError, "positive and finite"),
        (TIMES.astype("Float64").mask(TIMES > 1.5), ValueError, "positive and finite"),
        (TIMES > 1.5, TypeError, "a weight to be a number, or one for each cell, found .* bool"),
        (TIMES.astype(str), TypeError, "a weight to be a number"),
        (np.array(["a"] * N_CELLS), TypeError, "a weight to be a number"),
        (pd.DataFrame({"t": TIMES}), TypeError, "unsupported operand"),
    ],
)
def test_impossible_series(kernels, weight, error, message):
    for product in (lambda: weight * kernels["v"], lambda: kernels["v"] * weight):
        with pytest.raises(error, match=message):
            product()


@pytest.mark.parametrize("other", ["a", None, True, [1.0]])
def test_impossible_operands(kernels, other):
    with pytest.raises(TypeError):
        other * kernels["v"]
    with pytest.raises(TypeError):
        kernels["v"] * other
    with pytest.raises(TypeError):
        kernels["v"] + other


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"one for each of the 60 cells, found \(3,\)"),
        (np.r_[-1.0, np.ones(59)], "positive and finite"),
        (np.r_[np.nan, np.ones(59)], "positive and finite"),
    ],
)
def test_impossible_weights_of_cells(kernels, weight, message):
    with pytest.raises(ValueError, match=message):
        weight * kernels["v"]
    with pytest.raises(TypeError):
        kernels["v"] + weight


def test_not_computed(made, kernels):
    kernel = 0.5 * VelocityKernel(made) + 0.5 * kernels["c"]
    assert VelocityKernel(made).transition_matrix is None
    for use in (
        lambda: kernel.transition_matrix,
        lambda: kernel.transitions,
        kernel.compute_transition_matrix,
        kernel.write_to_adata,
        lambda: kernel.plot_projection(show=False),
        lambda: VelocityKernel(made).transitions,
        lambda: VelocityKernel(made).plot_projection(show=False),
        lambda: VelocityKernel(made).plot_random_walks(show=False),
        lambda: VelocityKernel(made).cbc("early", "middle", "clusters", "X_pca"),
        lambda: VelocityKernel(made).plot_single_flow("early", "clusters", "day", show=False),
        lambda: VelocityKernel(made).write_to_adata(),
        lambda: PrecomputedKernel(VelocityKernel(made)),
    ):
        with unchanged(made), pytest.raises(RuntimeError, match=r"transition matrix first as `\.compute_"):
            use()


def test_directions_do_not_mix(made, kernels):
    with pytest.raises(ValueError, match="both forward and backward"):
        0.5 * ~kernels["v"] + 0.5 * kernels["v"]
    with pytest.raises(ValueError, match="both forward and backward"):
        ~kernels["v"] * kernels["w"]


def test_different_cells(kernels, cells):
    fewer = ConnectivityKernel(cells[:50].copy()).compute_transition_matrix()
    with pytest.raises(ValueError, match=r"same shape, found \[\(50, 50\), \(60, 60\)\]"):
        kernels["v"] + fewer


def test_different_data(kernels, cells):
    cells.obsp["connectivities"] = cells.obsp["connectivities"] * 0.5
    changed = ConnectivityKernel(cells).compute_transition_matrix()
    with pytest.raises(ValueError, match="two different matrices named 'connectivities'"):
        (kernels["v"] + changed).compute_transition_matrix()


def test_different_velocities_of_one_name(kernels, cells):
    cells.layers["velocity"] = cells.layers["velocity"] + 1
    changed = VelocityKernel(cells).compute_transition_matrix()
    with pytest.raises(ValueError, match="two different expressions or velocities named 'velocity'"):
        (kernels["v"] + changed).features  # noqa: B018


def test_users_similarity_beside_a_built_in_one(made, kernels):
    """The features of both are one and the same, but only built-in similarities may see padding."""

    def centred(v, displacements):
        return (displacements - displacements.mean(axis=1, keepdims=True)) @ v

    own = VelocityKernel(made).compute_transition_matrix(similarity=centred, softmax_scale=0.5)
    for kernel in (0.5 * own + 0.5 * kernels["v"], 0.5 * kernels["v"] + 0.5 * own):
        pure = kernel.transition_function(kernel.graph, kernel.features).to_csr()
        np.testing.assert_allclose(pure.toarray(), kernel.transition_matrix.toarray(), rtol=0, atol=2e-6)


def test_recomputed_leaf(made):
    """A combination follows its kernels."""
    v = VelocityKernel(made).compute_transition_matrix()
    c = ConnectivityKernel(made).compute_transition_matrix()
    kernel = 0.5 * v + 0.5 * c
    first = kernel.transition_matrix
    assert kernel.transition_matrix is first
    c.compute_transition_matrix(density_normalize=False)
    expected = 0.5 * (v.transition_matrix + c.transition_matrix).toarray()
    np.testing.assert_allclose(kernel.transition_matrix.toarray(), expected, **CLOSE)
    assert abs(kernel.transition_matrix - first).max() > 1e-3


def test_isolated_cell_in_one_of_two_graphs(cells):
    """It stays in the one; a product without a common edge is uniform over all edges, in both forms."""
    other = cells.obsp["other"].tolil()
    other[7], other[:, 7] = 0, 0
    cells.obsp["other"] = sp.csr_matrix(other)
    c = ConnectivityKernel(cells).compute_transition_matrix()
    o = ConnectivityKernel(cells, conn_key="other").compute_transition_matrix()
    assert o.transition_matrix[7, 7] == 1
    for kernel in (0.5 * c + 0.5 * o, c * o):
        pure = kernel.transition_function(kernel.graph, kernel.features).to_csr()
        np.testing.assert_allclose(pure.toarray(), kernel.transition_matrix.toarray(), rtol=0, atol=1e-6)
    edges = cells.obsp["connectivities"][7].indices
    np.testing.assert_allclose((c * o).transition_matrix[7, edges].toarray(), 1 / len(edges), rtol=1e-6)


def test_stored_matrix_beyond_the_graph(cells):
    """The neighbours have changed since a kernel was stored: its matrix must not be taken for one on their graph."""
    before = ConnectivityKernel(cells).compute_transition_matrix()
    before.write_to_adata("stored")
    cells.obsp["connectivities"] = cells.obsp["other"]
    stored = ConnectivityKernel.from_adata(cells, "stored")
    now = ConnectivityKernel(cells).compute_transition_matrix()
    for kernel in (0.5 * stored + 0.5 * now, 0.5 * now + 0.5 * stored):
        expected = 0.5 * (before.transition_matrix + now.transition_matrix).toarray()
        np.testing.assert_allclose(kernel.transition_matrix.toarray(), expected, **CLOSE)
        np.testing.assert_allclose(kernel.transitions.to_csr().toarray(), expected, **CLOSE)


@pytest.mark.parametrize("given", [0.8, np.linspace(0.5, 1, N_CELLS)], ids=["one", "of each cell"])
def test_weight_of_a_combination(made, kernels, given):
    weight = (given * kernels["v"])[0]
    assert weight.adata is made
    assert weight.shape == kernels["v"].shape
    other = weight.copy()
    assert type(other) is type(weight)
    assert other is not weight
    assert other.adata is made
    assert repr(other) == repr(weight)
    np.testing.assert_array_equal(other.value, given)
    assert not np.shares_memory(other.value, weight.value)


def test_copies(made, kernels):
    for kernel in (kernels["v"], kernels["p"], 0.8 * kernels["v"] + 0.2 * kernels["c"], kernels["v"] * kernels["o"]):
        expected = kernel.transition_matrix.toarray()
        for deep in (False, True):
            other = kernel.copy(deep=deep)
            assert type(other) is type(kernel)
            assert repr(other) == repr(kernel)
            assert other.params == kernel.params
            assert (other.adata is kernel.adata) is not deep
            assert all(k.adata is other.adata for k in other.kernels)
            assert not set(map(id, other.kernels)) & set(map(id, kernel.kernels))
            np.testing.assert_array_equal(other.transition_matrix.toarray(), expected)
            next(iter(other.kernels)).params["origin"] = "changed"
            np.testing.assert_array_equal(kernel.transition_matrix.toarray(), expected)
            assert "changed" not in repr(kernel)


def test_inversion(made, kernels):
    kernel = 0.8 * kernels["v"] + 0.2 * kernels["c"]
    other = ~kernel
    assert kernel.backward is False
    assert other.backward is True
    assert [k.backward for k in other.kernels] == [True, None]
    assert other.kernels[0].transition_matrix is None
    assert other.kernels[1].transition_matrix is not None, "what has no direction is kept"
    assert other.weights == kernel.weights
    assert kernels["v"].transition_matrix is not None
    other.kernels[0].compute_transition_matrix(softmax_scale=2.0)
    made_backward = VelocityKernel(made, backward=True).compute_transition_matrix(softmax_scale=2.0)
    expected = 0.8 * made_backward.transition_matrix + 0.2 * kernels["c"].transition_matrix
    np.testing.assert_allclose(other.transition_matrix.toarray(), expected.toarray(), **CLOSE)
    assert (~other).backward is False
    assert (~kernels["c"]).backward is None
    assert ~kernels["c"] is not kernels["c"]


def test_inversion_forgets_the_result(made, kernels):
    other = ~kernels["v"]
    assert other.params == {}
    assert other.transition_matrix is None
    assert other.logits is None
    assert other.transition_function.softmax_scale is None, "derived anew"
    assert other.transition_function.backward_mode == "transpose"
    assert kernels["v"].logits is not None


def test_precomputed_matrices_cannot_be_inverted(made, kernels):
    matrix = kernels["v"].transition_matrix
    assert (~PrecomputedKernel(matrix, made)).backward is None
    with pytest.raises(TypeError, match="cannot be inverted"):
        ~PrecomputedKernel(matrix, made, backward=False)


def test_adata_setter(made, kernels):
    kernel = (0.8 * kernels["v"] + 0.2 * kernels["c"]).copy()
    other = made.copy()
    kernel.adata = other
    assert kernel.adata is other
    assert all(k.adata is other for k in kernel.kernels)
    with pytest.raises(ValueError, match="60 cells, found 50"):
        kernel.adata = made[:50]
    with pytest.raises(TypeError, match="found `dict`"):
        kernel.adata = {}
    assert kernel.adata is other


def test_precomputed_matrices_of_equal_values(made):
    """Two permutations have the same values at different places: they must not be taken for one."""
    one, two = (sp.csr_matrix(sp.eye_array(N_CELLS, k=k) + sp.eye_array(N_CELLS, k=k - N_CELLS)) for k in (1, 2))
    kernel = PrecomputedKernel(one, made) + PrecomputedKernel(two, made)
    np.testing.assert_array_equal(kernel.transition_matrix.toarray(), 0.5 * (one + two).toarray())
    pure = kernel.transition_function(kernel.graph)
    np.testing.assert_allclose(pure.to_csr().toarray(), 0.5 * (one + two).toarray(), rtol=1e-6)
