"""What is in a file that is not read here, and the line that converts it."""

from collections.abc import Collection, Iterable
from pathlib import Path

READ = "Files that are read: h5ad, zarr (a folder, or zipped as .zarr.zip) and loom."
_SUMMED = (
    "It holds spliced and unspliced counts in one sum, which makes no velocities. Count them apart (velocyto from the "
    "BAM file; kb-python, alevin-fry or STARsolo from the reads), and add them to processed data by "
    "`jaxvelo.pp.merge(adata, jaxvelo.read(counts))`."
)


def about_hdf5(path: Path, keys: Collection[str], inner: Iterable[str], modalities: Iterable[str]) -> str:
    """Say what an HDF5 file is that is none of those that are read.

    Parameters
    ----------
    path
        The file.
    keys
        Names at its top.
    inner
        Names in the groups at its top.
    modalities
        Names of the data sets in a file of several.
    """
    inner, modalities = set(inner), list(modalities)
    if "mod" in keys:
        return _modalities(path, modalities)
    if {"assays", "meta.data"} <= set(keys):
        line = f'SeuratDisk::Convert("{path}", dest = "h5ad")'
        return f"`{path}` is a Seurat object. Convert it in R: {line}"
    if "barcode_idx" in keys:
        return f"`{path}` holds single molecules of Cell Ranger. {_SUMMED}"
    if "barcodes" in inner and "indptr" in inner:
        line = _python(
            f"import scanpy; a = scanpy.read_10x_h5('{path}'); a.var_names_make_unique(); "
            f"a.write_h5ad('{path.stem}.h5ad')"
        )
        return f"`{path}` is a matrix of Cell Ranger or CellBender. {_SUMMED} To convert it nevertheless: {line}"
    return (
        f"Expected a file in h5ad format with `obs` and `var`, found {sorted(keys)[:8]} in the HDF5 file `{path}`. "
        f"{READ}"
    )


def about_zarr(path: Path, keys: Collection[str], children: Collection[str]) -> str:
    """Say what a zarr group is that holds no AnnData object.

    Parameters
    ----------
    path
        Folder or zip file.
    keys
        Names at its top.
    children
        Names of the modalities in ``mod``, or of the tables in ``tables``.
    """
    if "mod" in keys:
        return _modalities(path, sorted(children))
    if "tables" in keys and children:
        table = path / "tables" / sorted(children)[0]
        return f"`{path}` is a SpatialData object. Read one of its tables: jaxvelo.read('{table}')"
    return (
        f"Expected zarr with `obs` and `var`, as `adata.write_zarr` writes it, found {sorted(keys)[:8]} in `{path}`. "
        f"{READ}"
    )


def about_folder(path: Path) -> str:
    """Say what is in a folder that is no zarr group, and what to do with it."""
    readable = _within(path, ("*.h5ad", "*.loom", "*.zarr", "*.zarr.zip"))
    if readable:
        also = f" (or another of {len(readable)})" if len(readable) > 1 else ""
        return f"Expected a file or zarr, found the folder `{path}`. Did you mean `{readable[0]}`{also} in it?"
    names = {file.name.removesuffix(".gz") for file in path.iterdir()}
    fry = next((folder for folder in (path, path.parent) if (folder / "alevin" / "quants_mat.mtx").exists()), None)
    if fry is not None or "quants_mat.mtx" in names:
        folder = path if fry is None else fry
        line = _python(
            f"import pyroe; pyroe.load_fry('{folder}', output_format='velocity').write_h5ad('{folder.name}.h5ad')"
        )
        return f"Expected a file or zarr, found the folder `{path}` of alevin-fry. Convert it: {line}"
    if {"spliced.mtx", "unspliced.mtx"} <= names:
        return f"Expected a file or zarr, found the folder `{path}` of STARsolo. Convert it: {_starsolo(path, names)}"
    if {"cells_x_genes.mature.mtx", "cells_x_genes.nascent.mtx"} <= names or {"spliced.mtx", "spliced.genes.txt"} <= (
        names
    ):
        return (
            f"Expected a file or zarr, found the folder `{path}` of kb-python. Run `kb count` with --h5ad, and read "
            "its `adata.h5ad`."
        )
    if "matrix.mtx" in names:
        line = _python(f"import scanpy; scanpy.read_10x_mtx('{path}').write_h5ad('{path.name}.h5ad')")
        return (
            f"Expected a file or zarr, found the folder `{path}` with a matrix of Cell Ranger. {_SUMMED} "
            f"To convert it nevertheless: {line}"
        )
    return f"Expected a file or zarr, found the folder `{path}`. {READ}"


def about_other(path: Path, start: bytes) -> str:
    """Say what a file is that is no HDF5 and no zip file.

    Parameters
    ----------
    path
        The file.
    start
        Its first bytes.
    """
    name = path.name.lower()
    if not start:
        return f"The file `{path}` is empty. Copy or download it anew."
    if start.startswith(b"version https://git-lfs"):
        return f"`{path}` only points to a file in Git LFS. Fetch the file itself: git lfs pull"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"`{path}` is a web page, not data. Download the file itself, not the page about it."
    if not any(start):
        return f"`{path}` starts with zeros: it is damaged. Copy or download it anew."
    r_object = name.endswith((".rds", ".rda", ".rdata", ".qs", ".qs2"))
    text = name.removesuffix(".gz").endswith((".csv", ".tsv", ".txt", ".tab"))
    if r_object:
        return _r_object(path)
    if text:
        tables = f"read_{'csv' if '.csv' in name else 'text'}"
        line = _python(
            f"from anndata.io import {tables} as read; a = read('{path}').T; a.layers['spliced'] = a.X; "
            f"a.layers['unspliced'] = read('UNSPLICED').T[a.obs_names, a.var_names].X; "
            f"a.write_h5ad('{_stem(path)}.h5ad')"
        )
        return (
            f"Expected h5ad, zarr or loom, found that `{path}` is no HDF5 file but text. If it is a table of spliced "
            f"counts, genes by cells, and UNSPLICED one of unspliced counts, convert them: {line}"
        )
    if name.removesuffix(".gz").endswith(".mtx"):
        return (
            f"`{path}` is a matrix without the names of cells and genes. Name its folder `{path.parent}` to be told "
            "how to convert that."
        )
    if start.startswith(b"\x1f\x8b"):
        if name.endswith((".tar.gz", ".tgz")):
            return f"`{path}` is an archive. Unpack it: tar -xzf '{path}'"
        return f"`{path}` is compressed. Unpack it: gunzip -k '{path}'"
    if name.endswith((".pkl", ".pickle")):
        return f"`{path}` is a pickle, which can run any code and is not read. Load it where it was made; write h5ad."
    if name.endswith((".bam", ".sam", ".cram", ".fastq", ".fq")):
        return f"`{path}` holds reads, not counts. Count them: velocyto, kb-python, alevin-fry or STARsolo."
    return f"Expected a file in h5ad format, found that `{path}` is no HDF5 file. {READ}"


def about_zip(path: Path) -> str:
    """Say what to do with a zip file that holds no zarr."""
    if path.suffix.lower() in (".npz", ".xlsx", ".docx", ".pt"):
        return f"Expected h5ad, zarr or loom, found `{path}`. {READ}"
    return f"`{path}` is a zip file without zarr in it. Unpack it (unzip '{path}'), and name the file in it."


def _modalities(path: Path, modalities: list[str]) -> str:
    chosen = next((name for name in ("rna", "gex") if name in modalities), modalities[0] if modalities else "rna")
    read = "read_h5mu" if path.is_file() and path.suffix != ".zip" else "read_zarr"
    line = _python(f"import mudata; mudata.{read}('{path}')['{chosen}'].write_h5ad('{path.stem}.h5ad')")
    return f"`{path}` holds several data sets (MuData): {modalities}. Write the one with the counts as h5ad: {line}"


def _starsolo(path: Path, names: set[str]) -> str:
    """Line that reads STARsolo's folder `Velocyto/raw` or `Velocyto/filtered`."""
    end = "" if (path / "spliced.mtx").exists() else ".gz"
    layers = [name for name in ("spliced", "unspliced", "ambiguous") if f"{name}.mtx" in names]
    genes = "features.tsv" if "features.tsv" in names else "genes.tsv"
    return _python(
        f"import anndata as ad, pandas as pd; from scipy.io import mmread; d = '{path}/'; "
        f"m = {{k: mmread(d + k + '.mtx{end}').T.tocsr() for k in {layers}}}; "
        f"t = lambda f, n: pd.read_csv(d + f + '{end}', sep='\\t', header=None).set_axis(n, axis=1); "
        f"v = t('{genes}', ['gene_ids', 'gene', 'type']).set_index('gene'); v.index = v.index.astype(str); "
        f"ad.AnnData(m['spliced'], obs=t('barcodes.tsv', ['barcode']).set_index('barcode'), var=v, layers=m)"
        f".write_h5ad('velocyto.h5ad')"
    )


def _r_object(path: Path) -> str:
    if path.suffix.lower() in (".rda", ".rdata"):
        load = f'get(load("{path}"))'
    else:
        reader = {".qs": "qs::qread", ".qs2": "qs2::qs_read"}.get(path.suffix.lower(), "readRDS")
        load = f'{reader}("{path}")'
    line = f'anndataR::write_h5ad({load}, "{path.stem}.h5ad")'
    return f"`{path}` is an object of R (Seurat or SingleCellExperiment). Convert it in R: {line}"


def _within(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Files of these patterns in a folder and the folders in it, the nearest first."""
    return [
        file for depth in ("", "*/", "*/*/") for pattern in patterns for file in sorted(folder.glob(depth + pattern))
    ]


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _python(program: str) -> str:
    return f'python -c "{program}"'
