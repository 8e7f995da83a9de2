"""Simulated data that are written to a file, block by block."""

import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo import datasets
from jaxvelo.datasets import _simulate
from tests.datasets.conftest import checksum

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_data_in_a_file_are_those_in_memory_whatever_the_block(tmp_path, monkeypatch, name):
    monkeypatch.setattr(_simulate, "BLOCK_VALUES", 20 * 7)
    without = datasets.simulate(60, 20, seed=3, path=tmp_path / name)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == [name]
    read = anndata.read_h5ad if name.endswith("h5ad") else anndata.read_zarr
    found, expected = read(tmp_path / name), datasets.simulate(60, 20, seed=3)
    assert list(found.uns["clusters_colors"]) == expected.uns["clusters_colors"]
    assert found.uns["simulation"] == expected.uns["simulation"]
    found.uns = expected.uns  # the format has types and an order of its own
    assert checksum(found) == checksum(expected)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert without.X is None
    assert not [layer for layer in without.layers if layer is not None]
    for adata in (found, without):
        pd.testing.assert_frame_equal(adata.obs, expected.obs)
        pd.testing.assert_frame_equal(adata.var, expected.var)
        np.testing.assert_array_equal(adata.obsm["X_umap"], expected.obsm["X_umap"])
    assert found.X.has_canonical_format
    # It is replaced as a whole.
    datasets.simulate(60, 20, seed=4, true_layers=False, path=str(tmp_path / name))
    assert not [layer for layer in read(tmp_path / name).layers if layer is not None and layer.startswith("true")]


def test_what_was_there_is_replaced_whatever_it_was(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file.zarr").write_text("a file")
    for name in ("link.zarr", "file.zarr"):
        datasets.simulate(20, 20, true_layers=False, path=tmp_path / name)
        assert anndata.io.read_zarr(tmp_path / name).shape == (20, 20)
    assert (tmp_path / "elsewhere" / "kept").read_text() == "kept"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "file.zarr", "link.zarr"]


def test_a_simulation_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "cells.h5ad"
    datasets.simulate(60, 20, true_layers=False, path=path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(_simulate, "tree_map", full)
    with pytest.raises(OSError, match="No space left"):
        datasets.simulate(60, 20, path=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"end in \.h5ad or \.zarr, found"):
        datasets.simulate(60, 20, path=tmp_path / "cells.csv")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        datasets.simulate(60, 20, path=tmp_path / "none" / "cells.h5ad")
    with pytest.raises(TypeError, match="Expected `path` to be a path, found `int`"):
        datasets.simulate(60, 20, path=3)
