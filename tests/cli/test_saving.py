"""What can fail is looked at first; what was computed is on disk before anything is drawn, and is not lost."""

import re
import shutil
import time
from collections import namedtuple

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

import jaxvelo as jv
from jaxvelo.cli import _pictures, _run, _workflow, main
from jaxvelo.kernels import read
from tests.cli.conftest import STOCHASTIC, same

pytestmark = pytest.mark.any_precision

PICTURES = ["grid.png", "random_walks.png", "stream.png"]


@pytest.fixture
def quickly(results):
    """Cells of which everything is known, so that a run does little."""
    return results


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [ValueError("too few colours"), KeyError("stale"), RuntimeError("no font"), MemoryError(), AssertionError()],
)
def test_a_failed_picture_is_a_warning(error, quickly, run, monkeypatch):
    monkeypatch.setattr(jv.pl, "projection_grid", raising(error))
    result = run(quickly)
    assert (result.status, result.err) == (0, "")
    assert result.files == sorted(["kernel.h5ad", "proportions.png", "random_walks.png", "stream.png", "summary.md"])
    warning = re.search(r"WARNING: Could not draw `.*/grid.png`: (.*)\n", result.out)[1]
    assert type(error).__name__ in warning
    assert "grid.png" not in result.out[result.out.index("Written:") :]


def test_the_kernel_is_written_before_anything_is_drawn(quickly, run, monkeypatch):
    seen = []

    def look(pictures, out, written):
        seen.extend(path.name for path in out.iterdir())

    monkeypatch.setattr(_pictures, "draw", look)
    run(quickly).succeeded()
    assert seen == ["kernel.h5ad"]


@pytest.mark.usefixtures("undrawn")
def test_the_kernel_has_the_arrows_of_the_pictures(quickly, run):
    written = run(quickly).succeeded().cells
    kernel = jv.kernels.from_adata(written, "T_fwd")
    known = written.obsm["T_fwd_umap"].copy()
    kernel.plot_projection(recompute=True, show=False)
    np.testing.assert_allclose(written.obsm["T_fwd_umap"], known, rtol=1e-5, atol=1e-6)


def test_a_failed_projection_is_a_warning(quickly, run, monkeypatch):
    monkeypatch.setattr(jv.kernels.KernelExpression, "add_projection", raising(FloatingPointError("overflow")))
    result = run(quickly)
    assert result.status == 0
    assert "Could not project the transition matrix onto `umap`: FloatingPointError: overflow." in result.out
    assert {"kernel.h5ad", "random_walks.png", "proportions.png"} <= set(result.files)


def test_what_was_computed_survives_a_full_disk(quickly, run, monkeypatch):
    expected = run(quickly).succeeded()
    before = (expected.folder / "kernel.h5ad").read_bytes()
    write = ad.AnnData.write_h5ad

    def fill(self, path, **options):
        if path.name == "cells.h5ad":  # that of the user
            return write(self, path, **options)
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", fill)
    result = run(quickly)
    assert result.status == 2
    assert "No space left on device. The transition matrix is in" in result.err
    assert result.files == sorted(["kernel.h5ad", "kernel.npz", "proportions.png", "summary.md", *PICTURES])
    assert (result.folder / "kernel.h5ad").read_bytes() == before
    kernel = read(result.folder / "kernel.npz", quickly)
    assert same(kernel.transition_matrix, expected.cells.obsp["T_fwd"])


@pytest.mark.usefixtures("undrawn")
def test_velocities_survive_an_error_in_the_kernel(cells, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_run.VelocityKernel, "compute_transition_matrix", raising(MemoryError("Unable to allocate")))
        result = run(cells, *STOCHASTIC)
    assert result.status == 1
    assert "Computing the transition matrix failed with MemoryError: Unable to allocate." in result.err
    assert result.files == ["velocities.h5ad"]
    shutil.copy(result.folder / "velocities.h5ad", tmp_path / "cells.h5ad")
    resumed = run(None).succeeded()
    assert "Using the velocities in `layers['velocity']`" in resumed.out


def test_walks_that_fail_leave_the_kernel(quickly, run, monkeypatch):
    monkeypatch.setattr(_workflow, "random_walks", raising(MemoryError()))
    result = run(quickly)
    assert result.status == 1
    assert result.files == ["kernel.h5ad"]
    assert "Written before: " in result.err


def test_an_interrupt_leaves_nothing_half_written(quickly, run, monkeypatch):
    from jaxvelo.cli import _results

    def interrupt(adata, path):
        path.with_name(".kernel.tmp").write_bytes(b"half")
        path.with_name(".kernel.tmp").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(_results, "write_h5ad", interrupt)
    result = run(quickly)
    assert result.status == 130
    assert result.files == []
    monkeypatch.undo()
    monkeypatch.setattr(jv.pl, "projection_grid", raising(KeyboardInterrupt()))
    result = run(quickly)
    assert result.status == 130
    assert result.files == ["kernel.h5ad", "stream.png"]
    assert "Written before: " in result.err
    assert "stream.png" in result.err


def column_of_raw(file):
    """As SeuratDisk writes it: anndata reads the column `_index`, and does not write it."""
    with h5py.File(file, "a") as h5:
        table = h5["raw/var"]
        index = table[table.attrs["_index"]]
        names = (index["values"] if isinstance(index, h5py.Group) else index)[:]  # a group, of pandas' newer text
        table.move(table.attrs["_index"], "features")
        table.attrs["_index"] = "features"
        column = table.create_dataset("_index", data=names.astype(h5py.string_dtype()))
        column.attrs["encoding-type"], column.attrs["encoding-version"] = "string-array", "0.2.0"
        table.attrs["column-order"] = np.array(["_index"], dtype=object)


@pytest.mark.usefixtures("undrawn")
def test_what_cannot_be_written_is_said_before_anything_is_computed(quickly, run, tmp_path):
    quickly.raw = quickly.copy()
    quickly.write_h5ad(tmp_path / "cells.h5ad")
    column_of_raw(tmp_path / "cells.h5ad")
    result = run(None).succeeded()
    assert "raw.var" in result.out[: result.out.index("Transition matrix")]


EMBEDDINGS = {
    "one column": lambda x: x[:, :1],
    "no column": lambda x: x[:, :0],
    "not finite": lambda x: x * np.nan,
    "one place": lambda x: x * 0,
}


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_an_embedding_that_cannot_be_drawn_in_is_an_error_at_once(kind, cells, run):
    cells.obsm["X_umap"] = EMBEDDINGS[kind](cells.obsm["X_umap"])
    message = run(cells).refused().err
    assert "obsm['X_umap']" in message
    assert "--recompute umap" in message


def test_text_as_an_embedding_is_an_error_at_once(cells, run):
    cells.obsm["X_umap"] = pd.DataFrame({"x": ["a"] * cells.n_obs, "y": ["b"] * cells.n_obs}, index=cells.obs_names)
    assert "Expected numbers in `obsm['X_umap']`" in run(cells).refused().err


def test_an_embedding_as_a_table_and_with_gaps(quickly, run):
    positions = quickly.obsm["X_umap"].copy()
    positions[:3] = np.nan
    quickly.obsm["X_umap"] = pd.DataFrame(positions, index=quickly.obs_names, columns=["x", "y"])
    result = run(quickly).succeeded()
    assert "WARNING: 3 cells have no finite coordinates" in result.out
    assert set(PICTURES) <= set(result.files)


def test_a_folder_in_the_place_of_the_result(quickly, run, tmp_path):
    (tmp_path / "out" / "kernel.h5ad").mkdir(parents=True)
    result = run(quickly)
    assert result.status == 2
    assert "found a folder of that name" in result.err
    assert "Transition matrix" not in result.out


@pytest.mark.usefixtures("undrawn")
def test_little_room_on_the_disk_is_said_first(quickly, run, monkeypatch):
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    result = run(quickly).succeeded()
    assert "the result may not fit" in result.out[: result.out.index("Transition matrix")]


@pytest.mark.usefixtures("undrawn")
def test_names_of_cells_and_genes_are_made_unique(cells, run):
    cells.obs_names = ["cell"] * cells.n_obs
    cells.var_names = [f"gene{i // 2}" for i in range(cells.n_vars)]
    result = run(cells, *STOCHASTIC).succeeded()
    assert result.cells.obs_names.is_unique
    assert result.cells.var_names.is_unique
    assert f"Renamed {cells.n_obs - 1} cells" in result.out
    assert "Renamed 30 genes" in result.out


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a.h5ad", "a"), ("a.zarr", "a"), ("a.zarr.zip", "a"), ("a.b.loom", "a.b"), ("a", "a"), ("x.y/a.H5AD", "a")],
)
def test_name_of_the_folder(name, folder, tmp_path):
    from jaxvelo.cli._results import default_folder

    assert str(default_folder(tmp_path / name)) == f"jaxvelo_{folder}"


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_run_takes_zarr(quickly, tmp_path, capsys, monkeypatch):
    quickly.write_zarr(tmp_path / "cells.zarr")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--no-fates", "cells.zarr"]) == 0
    assert (tmp_path / "jaxvelo_cells" / "kernel.h5ad").exists()
    capsys.readouterr()


def test_many_levels_that_the_user_names(quickly, run):
    quickly.obs["barcode"] = [f"AAAC{i}" for i in range(quickly.n_obs)]
    start = time.perf_counter()
    result = run(quickly, "--cluster-key", "barcode").succeeded()
    assert time.perf_counter() - start < 60
    assert "WARNING: `obs['barcode']` holds 150 clusters of 150 cells" in result.out
    assert "others" in re.search("They end in: (.*)\n", result.out)[1]
