"""Reading any common file of counts."""

import os
import warnings
import zipfile
from pathlib import Path

import anndata
import h5py
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.configuration import logger
from jaxvelo.reading._backed import read_backed
from jaxvelo.reading._conversion import about_folder, about_hdf5, about_other, about_zarr, about_zip
from jaxvelo.reading._large_matrices import is_with_large_matrices, read_aligned
from jaxvelo.reading._layer_names import could_be_counts, find_counts
from jaxvelo.reading._loom import read_loom

_ZARR_MARKS = ("zarr.json", ".zgroup")


def read(path: str | os.PathLike, backed: bool = False) -> AnnData:
    """Read annotated data from an h5ad, zarr or loom file.

    What a file is, is told by its content, not by its name. Counts that the tools name otherwise get scVelo's names:
    kb-python's ``mature`` and ``nascent`` become ``spliced`` and ``unspliced``, and so do names like ``Spliced`` or
    ``spliced_counts``; a log line says so. A layer is renamed, not copied, and only if none has the name ``spliced`` or
    ``unspliced`` already. The layer ``ambiguous`` stays what it is: it is added to neither. Everything else is as it is
    in the file, names of genes and cells that are not unique too (a log line counts them).

    Parameters
    ----------
    path
        An ``.h5ad`` file; zarr, as a folder or as a ``.zarr.zip``, of format 2 or 3; or a ``.loom`` file, for which the
        extra ``loom`` must be installed: ``pip install "jaxvelo[loom]"``.
    backed
        Whether ``X`` and the layers stay on disk, for data that do not fit in memory: they are arrays of h5py or zarr,
        or sparse matrices on disk, of a file that stays open for reading. All else is read but ``raw``, which is left
        out. :func:`jaxvelo.pp.filter_genes`, :func:`jaxvelo.pp.filter_and_normalize`, :func:`jaxvelo.pp.neighbors`,
        :func:`jaxvelo.pp.moments`, :func:`jaxvelo.tl.recover_dynamics`, :func:`jaxvelo.tl.velocity`, the ranks of genes
        and :class:`jaxvelo.kernels.VelocityKernel` read them in blocks, and write new layers to files beside this one.
        It goes fastest where rows are one after another in the file, not compressed. Such an object cannot be copied
        (``adata.copy()``). What is chosen of it is read where it is used, and nothing else:
        ``adata[cells, genes].to_memory()`` loads these alone, and ``adata[cells].write_h5ad(path)`` writes them to a
        file of their own. All of it can be written to another path. Never write it to the zarr that it reads: anndata
        removes what is there before it reads it.

    Returns
    -------
    AnnData
        In memory, or as ``backed`` says. Of a loom file, ``X`` are the spliced counts and ``layers["matrix"]`` is the
        file's main matrix.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the file is loom and loompy is not installed.
    OSError
        If the file must not be read.
    ValueError
        If the file is of another format (the message has the line that converts it), is damaged, or has been cut off;
        or if it is loom and ``backed`` is asked for.

    Examples
    --------
    >>> counts.write_h5ad("cells.h5ad")
    >>> jv.read("cells.h5ad").shape
    (150, 40)
    """
    path = _existing(path)
    with warnings.catch_warnings():
        # Said below, with what to do here.
        warnings.filterwarnings("ignore", message="(Variable|Observation) names are not unique")
        if path.is_dir():
            adata = _read_folder(path, backed)
        elif h5py.is_hdf5(path):
            adata = _read_hdf5(path, backed)
        elif zipfile.is_zipfile(path):
            adata = _read_zip(path, backed)
        else:
            with open(path, "rb") as file:
                raise ValueError(about_other(path, file.read(512)))
    _say_repeated(adata)
    _name_counts(adata)
    return adata


def _existing(path: str | os.PathLike) -> Path:
    """Return the path if something is there that may be read."""
    if "://" in os.fspath(path):
        raise ValueError(f"Expected a file on this machine, found the address `{path}`. Download it: curl -LO '{path}'")
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file `{path}`.")
    if path.is_file():
        with open(path, "rb"):  # says so if it must not be read
            pass
    return path


def _read_hdf5(path: Path, backed: bool) -> AnnData:
    try:
        with h5py.File(path) as file:
            keys = set(file)
            inner = {key for group in file.values() if isinstance(group, h5py.Group) for key in group}
            modalities = sorted(file["mod"]) if "mod" in file else []
    except (OSError, RuntimeError, KeyError) as error:
        raise _damaged(path, error) from error
    is_loom = {"matrix", "row_attrs", "col_attrs"} <= keys
    if not is_loom and ("mod" in keys or not {"obs", "var"} <= keys):
        raise ValueError(about_hdf5(path, keys, inner, modalities))
    if is_loom and backed:
        raise ValueError(
            f"Expected h5ad or zarr with `backed=True`, found the loom file `{path}`, which has genes as rows. Convert "
            "it: `jaxvelo.read(path).write_h5ad(...)`."
        )
    try:
        if backed:
            return read_backed(h5py.File(path, "r"))
        if is_loom:
            return read_loom(path)
        with h5py.File(path) as file:
            if is_with_large_matrices(file):
                return read_aligned(file)
        return anndata.io.read_h5ad(path)
    except ImportError:
        raise
    except Exception as error:  # h5py, anndata and loompy raise of many kinds for damaged files
        raise _damaged(path, error) from error


def _read_folder(path: Path, backed: bool) -> AnnData:
    if not any((path / mark).is_file() for mark in _ZARR_MARKS):
        raise ValueError(about_folder(path))
    import zarr

    return _read_zarr(path, lambda: zarr.open_group(str(path), mode="r"), backed)


def _read_zip(path: Path, backed: bool) -> AnnData:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    roots = [name[: -len(mark)].rstrip("/") for name in names for mark in _ZARR_MARKS if name.split("/")[-1] == mark]
    if not roots:
        raise ValueError(about_zip(path))
    import zarr

    store = zarr.storage.ZipStore(str(path), mode="r")
    try:
        # Some zip the folder, some what is in it.
        return _read_zarr(path, lambda: zarr.open_group(store, mode="r", path=min(roots, key=len)), backed)
    finally:
        if not backed:
            store.close()


def _read_zarr(path: Path, open_group, backed: bool) -> AnnData:
    try:
        group = open_group()
        keys = set(group)
        children = {name for key in ("mod", "tables") if key in keys for name in group[key]}
    except Exception as error:  # zarr raises of many kinds for damaged files
        raise _damaged(path, error) from error
    if "mod" in keys or not {"obs", "var"} <= keys:
        raise ValueError(about_zarr(path, keys, children))
    if backed and path.is_dir():
        logger.warning(
            "Do not write these data to `%s` itself, as by `adata.write_zarr`: what is there is removed before it is "
            "read. Write them to another path",
            path,
        )
    try:
        if backed:
            return read_backed(group)
        return read_aligned(group) if is_with_large_matrices(group) else anndata.io.read_zarr(group)
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    """Error for a file that looks right and cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if "read method" in reason or "IOSpec" in reason:
        remedy = f"A newer anndata than {anndata.__version__} may have written it: pip install -U anndata"
    elif "truncated" in reason:
        remedy = "It was cut off: copy or download it anew, and compare the sizes."
    else:
        remedy = "If it is damaged, copy or download it anew."
    return ValueError(f"Could not read `{path}`: {reason}. {remedy}")


def _say_repeated(adata: AnnData) -> None:
    """Say that names are not unique."""
    for what, names, axis in (("cells", adata.obs_names, "obs"), ("genes", adata.var_names, "var")):
        if not names.is_unique:
            repeated = names[names.duplicated(keep=False)]
            logger.warning(
                "Found %d %s whose names are not unique, as %s: `adata.%s_names_make_unique()` makes them so",
                len(repeated),
                what,
                listed(repeated.unique(), 3),
                axis,
            )


def _name_counts(adata: AnnData) -> None:
    """Bring the layers of the counts to scVelo's names, and say so."""
    found = find_counts(adata.layers)
    for name, known_as in found.items():
        if name != known_as:
            adata.layers[name] = adata.layers.pop(known_as)
            logger.info("Renamed `layers[%r]` to %r", known_as, name)
    unclear = could_be_counts(adata.layers)
    if unclear and len({"spliced", "unspliced"} & found.keys()) < 2:
        logger.warning(
            "Cannot tell which of the layers %s are the spliced and unspliced counts: name them, as by "
            "`adata.layers['spliced'] = adata.layers.pop(%r)`",
            listed(unclear),
            unclear[0],
        )
    if {"spliced", "unspliced", "ambiguous"} <= found.keys():
        logger.info("Leaving `layers['ambiguous']` alone: these counts are neither with the spliced nor the unspliced")
