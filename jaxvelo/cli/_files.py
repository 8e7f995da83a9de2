"""Files of the command line: reading the user's, and writing ours in one piece."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

KERNEL = "kernel.h5ad"


def read_h5ad(path: Path) -> AnnData:
    """Read a user's file.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is not in h5ad format.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file `{path}`.")
    if path.is_dir():
        raise IsADirectoryError(f"Expected an h5ad file, found the folder `{path}`.")
    with open(path, "rb"):  # says so if it must not be read
        pass
    import anndata
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"Expected a file in h5ad format, found that `{path}` is no HDF5 file.")
    with h5py.File(path) as file:
        if not {"obs", "var"} <= file.keys():
            raise ValueError(
                f"Expected a file in h5ad format with `obs` and `var`, found {sorted(file)[:8]} in `{path}`."
            )
    try:
        adata = anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise of many kinds for damaged files
        raise ValueError(f"Could not read `{path}` as h5ad: {str(error).strip() or type(error).__name__}") from error
    adata.var_names_make_unique()
    return adata


def prepare_folder(out: Path, keep: Path | None = None) -> None:
    """Make the folder for the results, and see that files can be written there.

    Parameters
    ----------
    out
        The folder.
    keep
        The user's file, which must not be replaced.

    Raises
    ------
    OSError
        If that is not possible.
    ValueError
        If the user's file would be replaced.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"Cannot write to the folder `{out}`: {error.strerror}. Choose another one as --out.") from error
    if keep is not None and (out / KERNEL).exists() and (out / KERNEL).samefile(keep):
        raise ValueError(f"`{keep}` would be replaced by the result. Choose another folder as --out.")


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write under a temporary name and rename, so that no half-written file is ever seen."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        adata.write_h5ad(temporary, compression="lzf")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
