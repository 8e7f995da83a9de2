"""The results on disk: whether they can be written, before anything is computed, and that nothing computed is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jaxvelo.cli._errors import described, message_of, reason
from jaxvelo.cli._h5ad_files import KERNEL, prepare_folder, write_h5ad
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels import KernelExpression

if TYPE_CHECKING:
    from anndata import AnnData

BACKUP, VELOCITIES = "kernel.npz", "velocities.h5ad"
SUFFIXES = (".gz", ".zip", ".h5ad", ".h5", ".hdf5", ".loom", ".zarr")


def default_folder(file: Path) -> Path:
    """Folder for the results of a file: its name without the endings of file formats."""
    name = file.resolve().name
    while Path(name).suffix.lower() in SUFFIXES:
        name = name[: -len(Path(name).suffix)]
    return Path(f"jaxvelo_{name}")


def check_folder(out: Path, file: Path | None = None) -> None:
    """Make the folder for the results, and see that they can be written there.

    Raises
    ------
    OSError
        If that is not possible.
    ValueError
        If the user's file would be replaced.
    """
    prepare_folder(out, keep=file)
    if (out / KERNEL).is_dir():
        raise IsADirectoryError(
            f"Expected to write the file `{out / KERNEL}`, found a folder of that name. Choose another one as --out."
        )
    if file is not None and file.is_file():
        free, size = shutil.disk_usage(out).free, file.stat().st_size
        if free < size:
            logger.warning(
                "There are %.1f MB left on the disk of `%s`, and the file has %.1f MB: the result may not fit",
                *(free / 1e6, out, size / 1e6),
            )


def save(kernel: KernelExpression, key: str, out: Path, written: list[Path]) -> OSError | None:
    """Write the cells with the kernel; if that fails, the kernel alone.

    Returns
    -------
    None, or an error for the end of the command: pictures can be drawn all the same.

    Raises
    ------
    OSError
        If neither can be written.
    """
    kernel.write_to_adata(key)
    path, backup = out / KERNEL, out / BACKUP
    try:
        with timed(f"Writing `{path}`"):
            write_h5ad(kernel.adata, path)
    except Exception as error:  # whatever it is, the kernel must not be lost
        text = message_of(error) if isinstance(error, OSError) else described(error)
        failure = OSError(f"Could not write `{path}`: {text.rstrip('.')}.")
        logger.warning("%s Writing the transition matrix alone", failure)
        logger.debug("This is where it happened:", exc_info=error)
        try:
            kernel.write(backup, write_adata=False)
        except Exception:
            backup.unlink(missing_ok=True)
            raise failure from error
        written.append(backup)
        return OSError(f"{failure} The transition matrix is in `{backup}`: read it with `jaxvelo.kernels.read`.")
    written.append(path)
    return None


def save_again(kernel: KernelExpression, out: Path) -> None:
    """Write the cells with what was found since; if that fails, the file stays as it is."""
    path = out / KERNEL
    try:
        with timed(f"Writing `{path}` with these results"):
            write_h5ad(kernel.adata, path)
    except Exception as error:
        logger.warning("Could not add the results to `%s`: %s", path, reason(error))


def salvage(adata: AnnData, out: Path, written: list[Path]) -> None:
    """Write velocities that were computed, as there is no kernel to write; a run on that file goes on from them."""
    path = out / VELOCITIES
    try:
        with timed(f"Writing what was computed so far to `{path}`"):
            write_h5ad(adata, path)
    except Exception as error:  # the first error is the one to tell
        logger.warning("Could not write `%s`: %s", path, described(error))
        return
    written.append(path)
