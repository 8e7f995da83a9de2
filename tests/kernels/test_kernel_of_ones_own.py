"""A new kernel is a class, and nothing else has to know of it."""

import inspect

import anndata
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph import TransitionMatrix
from jaxvelo.kernels import (
    ConnectivityKernel,
    KernelExpression,
    NeighborKernel,
    PrecomputedKernel,
    VelocityKernel,
    _description,
    from_adata,
    read,
)
from jaxvelo.objectives import CrossBoundary, TimeGain
from jaxvelo.tl import fit_kernel
from jaxvelo.transitions import Connectivity, TransitionFunction
from tests.snapshot import unchanged


class PlainKernel(NeighborKernel):
    """Transition probabilities proportional to connectivities."""

    def __init__(self, adata, conn_key="connectivities", label=None):
        super().__init__(adata, {"conn_key": conn_key, "label": label}, conn_key)

    def compute_transition_matrix(self):
        self.set_transitions(self.transition_function(self.graph), {"scheme": "plain"})
        return self

    @property
    def backward(self):
        return None

    @property
    def transition_function(self):
        return Connectivity(False, self.conn_key)

    @classmethod
    def recognizes(cls, init):
        return set(init) == {"conn_key", "scheme_of_cellrank"}


class Later(TransitionFunction):
    """Probabilities of neighbours of a later time are twice those of others."""

    def probabilities(self, pattern, edges, data, key):
        time = data["time"]
        later = (time[c] > time[r][:, None] for r, c in zip(pattern.rows, pattern.columns, strict=True))
        weights = [jnp.where(m, 1 + a.astype(time.dtype), 0) for a, m in zip(later, pattern.mask, strict=True)]
        return tuple(w / jnp.maximum(w.sum(axis=1, keepdims=True), 1) for w in weights)


class LaterKernel(NeighborKernel):
    """A kernel that needs more than graph and velocity: a time of each cell."""

    def __init__(self, adata, time_key):
        super().__init__(adata, {"time_key": time_key})
        self._time_key = time_key

    def compute_transition_matrix(self):
        self.set_transitions(self.transition_function(self.graph, self.features), {})
        return self

    @property
    def backward(self):
        return False

    @property
    def features(self):
        return {"time": jnp.asarray(self.adata.obs[self._time_key].to_numpy(), dtype=float)}

    @property
    def transition_function(self):
        return Later()


@pytest.fixture
def kernel(cells):
    own = PlainKernel(cells, "other", label="mine").compute_transition_matrix()
    return 0.7 * own + 0.3 * ConnectivityKernel(cells).compute_transition_matrix()


def test_combined_and_drawn(cells, kernel, logged):
    own, other = kernel.kernels
    expected = 0.7 * own.transition_matrix + 0.3 * other.transition_matrix
    np.testing.assert_allclose(kernel.transition_matrix.toarray(), expected.toarray(), rtol=0, atol=1e-6)
    with unchanged(cells, "/obsm/T_fwd_umap", "/uns/T_fwd_params"):
        kernel.add_projection()
    assert "kNN" not in logged(), "its steps follow neighbours, as it says"
    assert kernel.conn_key == "other"
    assert kernel.connectivities is own.connectivities


def test_data_of_its_own(cells, tmp_path):
    """Data that a kernel reads stand beside those of others, by name, in combinations and fits."""
    cells.obs["t"] = np.arange(cells.n_obs) % 7
    later, velocity = LaterKernel(cells, "t"), VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)
    cells.obs["early"] = cells.obs["t"] - 9.0
    kernel = 0.5 * later.compute_transition_matrix() + 0.5 * velocity
    assert list(kernel.features) == ["time", "velocity"]
    pure = kernel.transition_function(kernel.graph, kernel.features).to_csr()
    np.testing.assert_allclose(pure.toarray(), kernel.transition_matrix.toarray(), rtol=0, atol=1e-6)
    kernel.write(tmp_path / "kernel.npz")
    assert repr(read(tmp_path / "kernel.npz")) == repr(kernel)
    with pytest.raises(ValueError, match="two different data named 'time'"):
        (later + LaterKernel(cells, "early")).features  # noqa: B018
    assert list((later + LaterKernel(cells, "t")).features) == ["time"]
    objective = CrossBoundary(cells, [("early", "middle")], "clusters")
    train = ["scale", "gene_weights", "weights"]
    fitted = fit_kernel(kernel, objective, train=train, steps=2, validation=None, progress=False).kernel
    assert [type(k) for k in fitted.kernels] == [LaterKernel, VelocityKernel]


def test_rows_without_probabilities(cells):
    class Nowhere(PlainKernel):
        def compute_transition_matrix(self):
            values = tuple(
                jnp.where(rows[:, None] == 59, 0, jnp.where(m, 1.0, 0.0))
                for rows, m in zip(self.graph.rows, self.graph.mask, strict=True)
            )
            self.set_transitions(TransitionMatrix(self.graph, values), {})
            return self

    with pytest.raises(ValueError, match="found 1 rows without any, the first for cell 59"):
        Nowhere(cells).compute_transition_matrix()


def test_without_a_pure_function(cells):
    class Impure(NeighborKernel):
        def compute_transition_matrix(self):
            return self

        @property
        def backward(self):
            return None

    with pytest.raises(TypeError, match="transition_function"):
        Impure(cells, {})


def test_free_numbers_that_it_does_not_take(cells):
    """What is missing is named where a fit finds numbers in the function, and the kernel has no way to take them."""

    class Scaled(Later):
        free = ("log_more",)
        log_more: jnp.ndarray

        def probabilities(self, pattern, edges, data, key):
            later = super().probabilities(pattern, edges, data, key)
            powers = [jnp.where(m, p ** jnp.exp(self.log_more), 0) for m, p in zip(pattern.mask, later, strict=True)]
            return tuple(p / p.sum(axis=1, keepdims=True) for p in powers)

    class ScaledKernel(LaterKernel):
        @property
        def transition_function(self):
            return Scaled(jnp.zeros(()))

    kernel = ScaledKernel(cells, "pseudotime").compute_transition_matrix()
    with pytest.raises(TypeError, match=r"found \['more'\]\. .* needs a method `with_numbers`"):
        fit_kernel(kernel, TimeGain(cells, "pseudotime"), steps=1, validation=None, progress=False)


def test_through_files(cells, kernel, tmp_path):
    kernel.write(tmp_path / "kernel.npz")
    kernel.write_to_adata("mine")
    kernel.kernels[0].write_to_adata("single")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for found in (read(tmp_path / "kernel.npz"), from_adata(back, "mine")):
        assert repr(found) == repr(kernel)
        assert type(found.kernels[0]) is PlainKernel
        assert found.kernels[0].init == {"conn_key": "other", "label": "mine"}
        assert (found.transition_matrix != kernel.transition_matrix).nnz == 0
    assert type(from_adata(back, "single")) is PlainKernel
    assert type(PlainKernel.from_adata(back, "single")) is PlainKernel
    with pytest.raises(TypeError, match="found a `PlainKernel`"):
        ConnectivityKernel.from_adata(back, "single")


def test_recognized_where_no_class_is_named(cells, kernel):
    """CellRank stores arguments without the class, which the class recognises."""
    matrix = kernel.kernels[0].transition_matrix
    cells.obsp["theirs"] = matrix
    cells.uns["theirs_params"] = {"params": {}, "init": {"conn_key": "other", "scheme_of_cellrank": 1}}
    with pytest.raises(TypeError, match="scheme_of_cellrank"):
        from_adata(cells, "theirs")  # found, and asked to be made with an argument that it does not have
    cells.uns["theirs_params"]["init"] = {"conn_key": "other", "scheme_of_others": 1}
    assert type(from_adata(cells, "theirs")) is PrecomputedKernel


def test_unknown_class(cells, kernel, tmp_path, monkeypatch):
    kernel.write(tmp_path / "kernel.npz", write_adata=False)
    monkeypatch.delitem(_description._classes, (__name__, "PlainKernel"))
    with pytest.raises(ValueError, match=r"found `PlainKernel`. Import the module that defines it"):
        read(tmp_path / "kernel.npz", cells)


@pytest.fixture
def classes(monkeypatch):
    """The register of classes, which is put back."""
    monkeypatch.setattr(_description, "_classes", dict(_description._classes))
    return _description._classes


def defined_in(module, name):
    return type(name, (PlainKernel,), {"__module__": module, "__qualname__": name})


def test_our_class_is_read_whatever_is_called_alike(cells, classes, tmp_path):
    ConnectivityKernel(cells, conn_key="other").compute_transition_matrix().write(tmp_path / "k.npz", write_adata=False)
    defined_in("elsewhere", "ConnectivityKernel")
    assert type(read(tmp_path / "k.npz", cells)) is ConnectivityKernel


def test_one_file_under_two_names_of_its_module(cells, kernel, classes, tmp_path):
    """As where a program imports the package that it is a part of; which class was written is not known."""
    kernel.write(tmp_path / "kernel.npz", write_adata=False)
    defined_in("__main__", "PlainKernel")
    with pytest.raises(ValueError, match=r"one class of kernels named `PlainKernel`, found several, in .*'__main__'"):
        read(tmp_path / "kernel.npz", cells)


def test_a_cell_of_a_notebook_that_runs_again(cells, kernel, classes, tmp_path):
    kernel.write(tmp_path / "kernel.npz", write_adata=False)
    again = defined_in(__name__, "PlainKernel")
    assert type(read(tmp_path / "kernel.npz", cells).kernels[0]) is again


def test_methods_are_found_where_users_look():
    """Attached methods have their arguments and explanations on every class."""
    for name in ("plot_projection", "random_walks", "plot_random_walks", "cbc", "write", "write_to_adata", "read"):
        for cls in (PlainKernel, KernelExpression):
            method = getattr(cls, name)
            section = inspect.getdoc(method).partition("Parameters\n----------")[2]
            assert [p for p in inspect.signature(method).parameters if p != "self" and p not in section] == []
