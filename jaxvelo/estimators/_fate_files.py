"""Estimators in ``.npz`` files, without pickled objects: the kernel's own file, and the results as ``.h5ad``."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import anndata
import numpy as np
from anndata import AnnData

from jaxvelo import kernels
from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.kernels import KernelExpression
from jaxvelo.kernels._storage import write_kernel

KERNEL, RESULTS = "kernel_file", "results_file"


def write_file(path: Path, kernel: KernelExpression, results: AnnData, write_adata: bool) -> None:
    """Write a kernel, and results that are in an AnnData object of their own, to one file, replaced if it is there."""
    with written_whole(path) as temporary:
        folder = temporary.parent
        write_kernel(kernel, folder / "kernel.npz", write_adata)
        results.write_h5ad(folder / "results.h5ad", compression="gzip", convert_strings_to_categoricals=False)
        files = {KERNEL: "kernel.npz", RESULTS: "results.h5ad"}
        # Read before the file is opened, which may have the name of one of them.
        parts = {key: np.fromfile(folder / name, dtype=np.uint8) for key, name in files.items()}
        with open(temporary, "wb") as file:
            np.savez(file, **parts)  # type: ignore[arg-type]


def read_file(path: Path, adata: AnnData | None, copy: bool) -> tuple[KernelExpression, AnnData]:
    """Read what :func:`write_file` wrote.

    Raises
    ------
    TypeError, ValueError
        As :func:`jaxvelo.kernels.read` does, and if the file is none of ours.
    """
    if not zipfile.is_zipfile(path):
        path.stat()  # which fails if there is no file at all
        raise ValueError(
            f"Expected an estimator written by jaxvelo in `{path}`, found another format. What CellRank pickled can be "
            "read in CellRank only: exchange estimators in AnnData, by `to_adata` and `from_adata`."
        )
    with np.load(path, allow_pickle=False) as file, tempfile.TemporaryDirectory() as name:
        if not {KERNEL, RESULTS} <= set(file.files):
            raise ValueError(
                f"Expected an estimator written by jaxvelo in `{path}`, found the arrays {file.files[:5]}. Read a "
                "kernel by `jaxvelo.kernels.read`."
            )
        folder = Path(name)
        for key in (KERNEL, RESULTS):
            file[key].tofile(folder / key)
        return kernels.read(folder / KERNEL, adata, copy), anndata.read_h5ad(folder / RESULTS)
