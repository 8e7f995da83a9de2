"""A new kernel is a class, and nothing else has to know of it."""

import inspect

import anndata
import numpy as np
import pytest

from jaxvelo.kernels import (
    ConnectivityKernel,
    Kernel,
    KernelExpression,
    PrecomputedKernel,
    _description,
    from_adata,
    read,
)
from jaxvelo.kernels._graph_data import read_neighbors
from jaxvelo.transitions import Connectivity
from tests.snapshot import unchanged


class PlainKernel(Kernel):
    """Transition probabilities proportional to connectivities."""

    def __init__(self, adata, conn_key="connectivities", label=None):
        key, graph_data = read_neighbors(adata, conn_key, check_connectivity=False)
        super().__init__(adata, graph_data, {"conn_key": conn_key, "label": label}, key)

    def compute_transition_matrix(self):
        self.set_transitions(self.expression(self.graph), {"scheme": "plain"})
        return self

    @property
    def backward(self):
        return None

    @property
    def expression(self):
        return Connectivity(False, self.conn_key)

    @classmethod
    def recognizes(cls, init):
        return set(init) == {"conn_key", "scheme_of_cellrank"}


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
    monkeypatch.delitem(_description._classes, "PlainKernel")
    with pytest.raises(ValueError, match=r"found `PlainKernel`. Import the module that defines it"):
        read(tmp_path / "kernel.npz", cells)


def test_names_of_classes_are_not_taken_twice(monkeypatch):
    with pytest.raises(TypeError, match=r"'VelocityKernel', which is one of `jaxvelo.kernels._velocity_kernel`"):
        type("VelocityKernel", (PlainKernel,), {"__module__": "elsewhere"})
    monkeypatch.setitem(_description._classes, "PlainKernel", PlainKernel)  # to put it back
    again = type("PlainKernel", (PlainKernel,), {"__module__": __name__})  # as a cell of a notebook that runs again
    assert _description._classes["PlainKernel"] is again


def test_methods_are_found_where_users_look():
    """Attached methods have their arguments and explanations on every class."""
    for name in ("plot_projection", "random_walks", "plot_random_walks", "cbc", "write", "write_to_adata", "read"):
        for cls in (PlainKernel, KernelExpression):
            method = getattr(cls, name)
            section = inspect.getdoc(method).partition("Parameters\n----------")[2]
            assert [p for p in inspect.signature(method).parameters if p != "self" and p not in section] == []
