"""Files of the command line: reading the user's, and writing ours in one piece."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.cli._writable import leave_out_unwritable as leave_out_unwritable
from jaxvelo.configuration import logger
from jaxvelo.reading import read

if TYPE_CHECKING:
    from anndata import AnnData

KERNEL = "kernel.h5ad"


def read_data(path: Path) -> AnnData:
    """Read a user's file of any kind that :func:`jaxvelo.reading.read` takes, and make the names of the genes unique.

    Genes are looked up by name on the way, by us and by scanpy.

    Raises
    ------
    OSError
        If there is no such file, or it must not be read.
    ValueError
        If it is of another format or damaged.
    """
    adata = read(path)
    if not adata.var_names.is_unique:
        before = adata.var_names
        adata.var_names_make_unique()
        changed = adata.var_names[adata.var_names != before]
        logger.info("Renamed %d genes, so that each has a name of its own: %s", len(changed), listed(changed, 5))
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
    with written_whole(path) as temporary:
        adata.write_h5ad(temporary, compression="lzf")
