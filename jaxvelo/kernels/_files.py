"""Kernels in ``.npz`` files, as matrices and dictionaries, without pickled objects."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.configuration import logger


def write_file(
    path: Path,
    description: dict[str, Any],
    matrices: Mapping[str, sp.csr_matrix | None],
    adata: AnnData,
    write_adata: bool,
) -> None:
    """Write a kernel to one file, replaced if it is there.

    Parameters
    ----------
    path
        The file.
    description
        The kernel as a dictionary.
    matrices
        Transition matrices by name, as far as they are computed.
    adata
        Annotated data.
    write_adata
        Whether to include them; otherwise only the names of the cells.
    """
    arrays: dict[str, np.ndarray] = {
        "kernel": np.asarray(json.dumps(description, default=_to_json)),
        "n_cells": np.asarray(adata.n_obs),
        "cells": np.asarray([text_of(name) for name in adata.obs_names]),
    }
    for name, matrix in matrices.items():
        if matrix is not None:
            arrays |= {f"{name}/{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
    with written_whole(path) as temporary:
        if write_adata:
            # Writing a backed object would tie it to the new file.
            adata = adata.to_memory() if adata.isbacked else adata
            stored = temporary.parent / "adata.h5ad"
            adata.write_h5ad(stored, convert_strings_to_categoricals=False)
            arrays["adata"] = np.fromfile(stored, dtype=np.uint8)
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_file(
    path: Path, adata: AnnData | None, copy: bool
) -> tuple[dict[str, Any], AnnData, dict[str, sp.csr_matrix]]:
    """Read what :func:`write_file` wrote: description, annotated data, and transition matrices by name.

    Parameters
    ----------
    path
        The file.
    adata
        Annotated data, for a file without.
    copy
        Whether to copy ``adata``; a view always is.

    Raises
    ------
    TypeError
        If there is no AnnData object in the file nor given.
    ValueError
        If ``adata`` has other cells, or in another order, or the file is none of ours.
    """
    if not zipfile.is_zipfile(path):
        path.stat()  # which fails if there is no file at all
        raise ValueError(
            f"Expected a kernel written by jaxvelo in `{path}`, found another format. CellRank's pickled kernels can "
            "be read in CellRank only: exchange kernels in AnnData, by `write_to_adata` and `from_adata`."
        )
    with np.load(path, allow_pickle=False) as file:
        if not {"kernel", "n_cells"} <= set(file.files):
            raise ValueError(f"Expected a kernel written by jaxvelo in `{path}`, found the arrays {file.files[:5]}.")
        arrays = {name: file[name] for name in file.files}
    n_cells = int(arrays["n_cells"])
    if "adata" in arrays:
        if adata is not None:
            logger.warning("Ignoring supplied `adata` object because it is already present")
        with tempfile.TemporaryDirectory() as folder:
            stored = Path(folder) / "adata.h5ad"
            arrays["adata"].tofile(stored)
            adata = anndata.read_h5ad(stored)
    elif adata is None:
        raise TypeError("The kernel was written without its AnnData object. Pass it as `adata=...`.")
    elif require_anndata(adata).n_obs != n_cells:
        raise ValueError(f"Expected `adata` with {n_cells} cells, found {adata.n_obs}. Pass the one it was made with.")
    else:
        if "cells" in arrays:  # not in older files
            _check_names(arrays["cells"], [text_of(name) for name in adata.obs_names])
        if copy or adata.is_view:
            adata = adata.copy()
    matrices = {}
    for name in (key.removesuffix("/data") for key in arrays if key.endswith("/data")):
        parts = tuple(arrays[f"{name}/{part}"] for part in ("data", "indices", "indptr"))
        matrices[name] = sp.csr_matrix(parts, shape=(n_cells, n_cells))
    return json.loads(str(arrays["kernel"])), adata, matrices


def _check_names(before: np.ndarray, names: list[str]) -> None:
    """Raise a ValueError unless the cells are those that the kernel was written with."""
    if list(before) == names:
        return
    if sorted(before) == sorted(names):
        raise ValueError(
            "Expected `adata` with the cells in the order in which the kernel was written, found them in another. Put "
            f"them in order by name, with {listed(before[:3])} first."
        )
    raise ValueError(
        f"Expected `adata` with the cells of the kernel, such as {listed(before[:3])}, found others, such as "
        f"{listed(names[:3])}. Pass the one that it was made with."
    )


def _to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)
