"""Kernels in files of their own."""

import pickle

import anndata
import numpy as np
import pytest

from jaxvelo.kernels import (
    ConnectivityKernel,
    KernelAdd,
    KernelExpression,
    PrecomputedKernel,
    VelocityKernel,
    from_adata,
    read,
)
from tests.kernels.test_annotated import assert_same
from tests.snapshot import snapshot, unchanged


@pytest.fixture(scope="module")
def kernel(made):
    v = VelocityKernel(made, gene_subset=["gene_1", "gene_5", "gene_7"])
    v.compute_transition_matrix(softmax_scale=2.0)
    w = VelocityKernel(made, backward=False, gene_subset=made.var["chosen"].to_numpy())
    w.compute_transition_matrix(model="monte_carlo", softmax_scale=1 / 3, n_samples=16, seed=0)
    c = ConnectivityKernel(made).compute_transition_matrix()
    return 0.3 * (v * PrecomputedKernel(c)) + 0.7 * (0.8 * w + 0.2 * c)


def same_content(adata, other):
    """Compare all but the state; files do not keep the order of keys."""
    left, right = ({path: v for path, v in snapshot(a).items() if path != "/state"} for a in (adata, other))
    assert left == right


@pytest.mark.parametrize("with_adata", [True, False])
def test_combination(kernel, cells, tmp_path, with_adata):
    with unchanged(kernel.adata):
        assert kernel.write(tmp_path / "kernel.npz", write_adata=with_adata) is None
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.npz"]
    with np.load(tmp_path / "kernel.npz", allow_pickle=False) as file:
        assert all(not file[name].dtype.hasobject for name in file.files)
    with unchanged(cells):
        found = read(tmp_path / "kernel.npz", adata=None if with_adata else cells)
    assert_same(found, kernel)
    if with_adata:
        same_content(found.adata, kernel.adata)
    else:
        assert found.adata is cells


def test_combinations_are_not_computed_anew(kernel, cells, tmp_path, monkeypatch):
    """What was stored is the result, whatever computing it on another machine would give."""
    kernel.write(tmp_path / "kernel.npz", write_adata=False)
    kernel = kernel.copy()
    kernel.adata = cells
    kernel.write_to_adata()
    monkeypatch.delattr(KernelAdd, "combined")
    for found in (read(tmp_path / "kernel.npz", cells), from_adata(cells, "T_fwd")):
        assert (found.transition_matrix != kernel.transition_matrix).nnz == 0
        with pytest.raises(TypeError, match="`KernelAdd` is abstract"):
            found.compute_transition_matrix()


def test_all_kinds(made, tmp_path):
    """Also what has not been computed; and from the class, as in CellRank."""
    v, c = VelocityKernel(made, backward=True), ConnectivityKernel(made, conn_key="other")
    for one in (v, c, 0.25 * v + 0.75 * c, c.copy().compute_transition_matrix(), ~v):
        one.write(str(tmp_path / "kernel"), write_adata=False)
        found = KernelExpression.read(str(tmp_path / "kernel"), adata=made)
        assert type(found) is type(one)
        assert repr(found) == repr(one)
        assert [k.init for k in found.kernels] == [k.init for k in one.kernels]
        for k, other in zip(found.kernels, one.kernels, strict=True):
            assert (k.transition_matrix is None) == (other.transition_matrix is None)
    assert type(VelocityKernel.read(tmp_path / "kernel", made)) is VelocityKernel


def test_log(made, tmp_path, logged):
    ConnectivityKernel(made).write(tmp_path / "kernel.npz")
    assert f"Writing `ConnectivityKernel[n=60]` to `{tmp_path / 'kernel.npz'}`" in logged()


def test_whose_adata(made, cells, tmp_path, logged):
    kernel = ConnectivityKernel(made)
    kernel.write(tmp_path / "with.npz")
    kernel.write(tmp_path / "without.npz", write_adata=False)
    assert read(tmp_path / "with.npz", adata=cells).adata is not cells
    assert "WARNING: Ignoring supplied `adata`" in logged()
    assert read(tmp_path / "without.npz", adata=cells).adata is cells
    assert read(tmp_path / "without.npz", adata=cells, copy=True).adata is not cells
    view = cells[np.arange(60)]
    assert not read(tmp_path / "without.npz", adata=view).adata.is_view
    assert view.is_view
    with pytest.raises(TypeError, match=r"without its AnnData object. Pass it as `adata="):
        read(tmp_path / "without.npz")
    with pytest.raises(ValueError, match="with 60 cells, found 50"):
        read(tmp_path / "without.npz", adata=cells[:50])
    with pytest.raises(TypeError, match="AnnData object, found `dict`"):
        read(tmp_path / "without.npz", adata={})


def test_backed(made, tmp_path):
    """Writing leaves a backed object tied to its own file."""
    made.write_h5ad(tmp_path / "cells.h5ad")
    adata = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    kernel = ConnectivityKernel(adata).compute_transition_matrix()
    with unchanged(adata):
        kernel.write(tmp_path / "kernel.npz")
    assert adata.filename == tmp_path / "cells.h5ad"
    assert adata.X[0, 0] == made.X[0, 0]
    adata.file.close()
    found = read(tmp_path / "kernel.npz")
    assert not found.adata.isbacked
    assert_same(found, kernel)


def test_view(cells, tmp_path):
    view = cells[:30]
    kernel = ConnectivityKernel(view).compute_transition_matrix()
    with unchanged(cells), unchanged(view):
        kernel.write(tmp_path / "kernel.npz")
    assert_same(read(tmp_path / "kernel.npz"), kernel)


@pytest.mark.parametrize("failure", ["adata", "disk"])
def test_failure_leaves_the_old_file(cells, tmp_path, monkeypatch, failure):
    kernel = ConnectivityKernel(cells).compute_transition_matrix()
    kernel.write(tmp_path / "kernel.npz")
    before = (tmp_path / "kernel.npz").read_bytes()
    if failure == "adata":
        cells.uns["impossible"] = object()
        error = Exception
    else:

        def full(file, **arrays):
            file.write(b"a part")
            raise OSError("No space left on device")

        monkeypatch.setattr(np, "savez_compressed", full)
        error = OSError
    with unchanged(cells), pytest.raises(error):
        kernel.write(tmp_path / "kernel.npz")
    assert (tmp_path / "kernel.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.npz"]


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match=r"written by jaxvelo in .*other.npz`, found the arrays \['a'\]"):
        read(tmp_path / "other.npz")
    (tmp_path / "kernel.pickle").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"kernel.pickle`, found another format.*`write_to_adata`"):
        read(tmp_path / "kernel.pickle")
