"""Runs of the command on a small simulation; few shapes, so that little is compiled."""

import hashlib
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import jaxvelo as jv
from jaxvelo.cli import _pictures, main

N_CELLS, N_GENES = 150, 60
STOCHASTIC = ("--velocity-mode", "stochastic")


def raw_counts() -> ad.AnnData:
    """Cells of a user: counts, clusters and a UMAP."""
    cells = jv.datasets.simulate(n_cells=N_CELLS, n_genes=N_GENES, seed=3)
    return ad.AnnData(
        obs=cells.obs[["clusters"]],
        var=cells.var[[]],
        layers={key: cells.layers[key] for key in ("spliced", "unspliced")},
        obsm={"X_umap": cells.obsm["X_umap"]},
    )


class Outcome:
    """What a run left behind: exit status, both streams, names of files, and the cells in ``kernel.h5ad``."""

    def __init__(self, status, streams, folder):
        self.status, self.folder = status, folder
        self.out, self.err = streams
        self.files = sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    @property
    def cells(self) -> ad.AnnData:
        return ad.read_h5ad(self.folder / "kernel.h5ad")

    def succeeded(self) -> "Outcome":
        assert (self.err, self.status) == ("", 0)
        assert "kernel.h5ad" in self.files
        return self

    def refused(self) -> "Outcome":
        """It has told what is wrong in one line, before anything was computed or written."""
        assert self.status == 2
        assert self.err.startswith("jaxvelo run: error: ")
        assert self.err.count("\n") == 1
        assert not self.files
        assert "Computing velocities (" not in self.out
        assert "Computing transition matrix" not in self.out
        return self


@pytest.fixture
def raw(tmp_path) -> Path:
    """File of :func:`raw_counts`."""
    raw_counts().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.fixture
def cells() -> ad.AnnData:
    return raw_counts()


@pytest.fixture
def run(tmp_path, capsys):
    """Write cells to a file and run the command on it, without fates unless they are asked for."""

    def run_on(cells, *options, name="cells.h5ad", fates=False):
        file = tmp_path / name
        if cells is not None:
            cells.write_h5ad(file)
        before = file.read_bytes() if file.is_file() else None
        capsys.readouterr()
        status = main(["run", str(file), *options, *([] if fates else ["--no-fates"]), "--out", str(tmp_path / "out")])
        if before is not None:
            assert file.read_bytes() == before
        return Outcome(status, capsys.readouterr(), tmp_path / "out")

    return run_on


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the pictures, which take longer than all else."""
    monkeypatch.setattr(_pictures, "draw", lambda pictures, out, written: None)


@pytest.fixture(scope="session")
def all_results(tmp_path_factory) -> ad.AnnData:
    """What a run with the dynamical model leaves; each test takes a copy."""
    folder = tmp_path_factory.mktemp("results")
    raw_counts().write_h5ad(folder / "cells.h5ad")
    assert main(["run", str(folder / "cells.h5ad"), "--quiet", "--no-fates", "--out", str(folder / "out")]) == 0
    return ad.read_h5ad(folder / "out" / "kernel.h5ad")


@pytest.fixture
def results(all_results) -> ad.AnnData:
    return all_results.copy()


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(a, b) -> bool:
    """Whether two matrices, sparse or not, are equal to the last bit, NaN included."""
    if hasattr(a, "nnz"):
        return (a != b).nnz == 0
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
