"""Estimators in ``.npz`` files, without pickled objects: the kernel's own file, and the results as ``.h5ad``."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

import anndata
import numpy as np
from anndata import AnnData

from jaxvelo import kernels
from jaxvelo.kernels import KernelExpression
from jaxvelo.kernels._storage import write_kernel

KERNEL, RESULTS = "kernel_file", "results_file"


def write_file(path: Path, kernel: KernelExpression, results: AnnData, write_adata: bool) -> None:
    """Write a kernel, and results that are in an AnnData object of their own, to one file, replaced if it is there."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        folder = Path(name)
        write_kernel(kernel, folder / "kernel.npz", write_adata)
        results.write_h5ad(folder / "results.h5ad", compression="gzip", convert_strings_to_categoricals=False)
        parts = {KERNEL: "kernel.npz", RESULTS: "results.h5ad"}
        with open(folder / "estimator.npz", "wb") as file:
            np.savez(file, **{key: np.fromfile(folder / part, dtype=np.uint8) for key, part in parts.items()})  # type: ignore[arg-type]
        os.replace(folder / "estimator.npz", path)


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
