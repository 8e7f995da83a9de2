"""Reading files of every kind that people have, and what is said of those that are not read."""

import gzip
import os
import re
import shlex
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
import zarr

import jaxvelo as jv
from jaxvelo.graph._aligned import is_aligned
from jaxvelo.reading import _large_matrices, find_counts

pytestmark = pytest.mark.any_precision

CELLS, GENES = [f"AAACCTGAGAAACC{a}{b}-1" for a in "ACGT" for b in "ACG"], [f"Gene{i}" for i in range(7)]


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.fixture
def counts() -> ad.AnnData:
    rng = np.random.default_rng(0)
    layers = {name: sp.csr_matrix(rng.poisson(1, (12, 7)).astype(np.float32)) for name in ("spliced", "unspliced")}
    obs = pd.DataFrame({"clusters": pd.Categorical(["a", "b"] * 6)}, index=CELLS)
    return ad.AnnData(layers["spliced"].copy(), layers=layers, obs=obs, var=pd.DataFrame(index=GENES))


def assert_same(found: ad.AnnData, expected: ad.AnnData) -> None:
    assert list(found.obs_names) == list(expected.obs_names)
    assert list(found.var_names) == list(expected.var_names)
    for name in ("spliced", "unspliced"):
        np.testing.assert_array_equal(dense(found.layers[name]), dense(expected.layers[name]))
        assert found.layers[name].dtype == np.float32
    np.testing.assert_array_equal(dense(found.X), dense(expected.X))


@pytest.fixture
def log(caplog):
    """The log of jaxvelo."""
    caplog.set_level("INFO", logger="jaxvelo")
    return caplog


def test_h5ad_under_any_name(counts, tmp_path):
    counts.write_h5ad(tmp_path / "cells.dat")
    assert_same(jv.read(tmp_path / "cells.dat"), counts)
    found = jv.read(str(tmp_path / "cells.dat"))
    assert list(found.obs["clusters"]) == list(counts.obs["clusters"])
    assert not found.isbacked


def write_zarr(adata, path, version):
    """In a format of zarr, by the public setting of anndata, which is quiet about what it will do by default."""
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        adata.write_zarr(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("form", ["folder", "zip of what is in it", "zip of the folder"])
def test_zarr(counts, tmp_path, version, form):
    folder = tmp_path / "anything"
    write_zarr(counts, folder, version)
    mark = "zarr.json" if version == 3 else ".zgroup"
    assert (folder / mark).exists()
    if form == "folder":
        assert_same(jv.read(folder), counts)
        return
    root = folder if form == "zip of what is in it" else tmp_path
    with zipfile.ZipFile(tmp_path / "cells.zarr.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(root))
    assert_same(jv.read(tmp_path / "cells.zarr.zip"), counts)


@pytest.mark.parametrize("form", ["h5ad", "h5ad in chunks", "zarr"])
def test_large_matrices_are_as_jax_takes_them(counts, tmp_path, form, monkeypatch):
    monkeypatch.setattr(_large_matrices, "LARGE", 12 * 7 * 4)
    monkeypatch.setattr(_large_matrices, "PIECE", 100)
    counts.layers["Ms"] = np.random.default_rng(1).random((12, 7), dtype=np.float32)
    counts.layers["rank"] = np.arange(84).reshape(12, 7)
    counts.layers["small"] = counts.layers["Ms"].astype(np.float16)
    counts.uns["of"] = {"clusters": np.arange(3)}
    counts.obsm["X_pca"], counts.raw = np.ones((12, 2)), counts
    path = tmp_path / "cells"
    if form == "zarr":
        write_zarr(counts, path, 3)
    else:
        counts.write_h5ad(path, **({"compression": "gzip"} if form == "h5ad in chunks" else {}))
    found, plain = jv.read(path), (ad.io.read_zarr if form == "zarr" else ad.io.read_h5ad)(path)
    for name in ("Ms", "rank"):
        assert is_aligned(found.layers[name])
    for name in counts.layers:
        np.testing.assert_array_equal(dense(found.layers[name]), dense(counts.layers[name]))
        assert type(found.layers[name]) is type(plain.layers[name])
        assert found.layers[name].dtype == plain.layers[name].dtype
    assert_same(found, counts)
    np.testing.assert_array_equal(dense(found.raw.X), dense(counts.raw.X))
    pd.testing.assert_frame_equal(found.obs, plain.obs)
    assert list(found.uns) == list(plain.uns)
    np.testing.assert_array_equal(found.obsm["X_pca"], 1)
    before = found.layers["Ms"].copy()
    found.layers["Ms"][0] = -1  # the file is what it was
    np.testing.assert_array_equal(jv.read(path).layers["Ms"], before)


def write_loom(path, layers, genes, cells):
    """As the specification has it: genes by cells, names as attributes of rows and columns."""
    with h5py.File(path, "w") as file:
        for name, matrix in layers.items():
            file[f"layers/{name}" if name else "matrix"] = matrix.T
        for group, attributes in (("row_attrs", genes), ("col_attrs", cells)):
            for name, values in attributes.items():
                values = np.asarray(values)
                file[f"{group}/{name}"] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
        for group in ("layers", "row_graphs", "col_graphs", "attrs"):
            file.require_group(group)
        file["attrs/LOOM_SPEC_VERSION"] = "3.0.0"


@pytest.fixture
def loom(tmp_path):
    """As velocyto writes it: types of integers, a main matrix of all counts, and a name that two genes have."""
    rng = np.random.default_rng(0)
    s, u, a = (rng.poisson(rate, (12, 7)) for rate in (2.0, 1.0, 0.3))
    layers = {
        "": (s + u + a).astype(np.float32),
        "spliced": s.astype(np.uint16),
        "unspliced": u.astype(np.uint16),
        "ambiguous": a.astype(np.uint32),
    }
    genes = {"Gene": ["Pisd", "Sox17", "Pisd", "Mrpl15", "Xkr4", "Rp1", "Lypla1"], "Start": np.arange(7)}
    genes["Accession"] = [f"ENSMUSG{i:011d}" for i in range(7)]
    cells = {"CellID": [f"s1:{name[:-2]}x" for name in CELLS], "tsne": rng.random((12, 2))}
    write_loom(tmp_path / "s1.loom", layers, genes, cells)
    return tmp_path / "s1.loom", layers, genes, cells


def test_loom(loom, log):
    pytest.importorskip("loompy")
    path, layers, genes, cells = loom
    found = jv.read(path)
    for name in ("spliced", "unspliced", "ambiguous"):
        np.testing.assert_array_equal(found.layers[name].toarray(), layers[name])
        assert (found.layers[name].format, found.layers[name].dtype) == ("csr", np.float32)
    np.testing.assert_array_equal(found.layers["matrix"].toarray(), layers[""])
    np.testing.assert_array_equal(found.X.toarray(), layers["spliced"])
    assert not np.shares_memory(found.X.data, found.layers["spliced"].data)
    assert list(found.obs_names) == cells["CellID"]
    assert list(found.var_names) == genes["Gene"]  # as they are, and said
    assert list(found.var["Accession"]) == genes["Accession"]
    np.testing.assert_array_equal(found.obsm["tsne"], cells["tsne"])
    assert "2 genes whose names are not unique, as ['Pisd']: `adata.var_names_make_unique()`" in log.text
    assert "Leaving `layers['ambiguous']` alone" in log.text
    found.write_h5ad(path.with_suffix(".h5ad"))


def test_loom_of_other_tools(tmp_path, log):
    """The main matrix alone, in double precision; names under those of scanpy, or none."""
    pytest.importorskip("loompy")
    matrix = np.random.default_rng(0).random((3, 4))
    table = np.array([(1.0, 2), (3.0, 4), (5.0, 6)], dtype=[("x", float), ("y", int)])
    write_loom(
        tmp_path / "a.loom", {"": matrix}, {"Length": np.arange(4)}, {"obs_names": ["i", "j", "k"], "map": table}
    )
    found = jv.read(tmp_path / "a.loom")
    np.testing.assert_array_equal(found.X.toarray(), matrix)
    assert found.X.dtype == np.float64
    assert list(found.obs_names) == ["i", "j", "k"]
    assert list(found.var_names) == ["0", "1", "2", "3"]
    assert "Found no names of genes among ['Length']" in log.text
    assert list(found.obsm["map"]["y"]) == [2, 4, 6]
    assert "matrix" not in found.layers


def test_loom_without_loompy(loom, monkeypatch):
    monkeypatch.setitem(sys.modules, "loompy", None)
    with pytest.raises(
        ImportError, match=r"pip install \"jaxvelo\[loom\]\".*scanpy.read_loom\('.*s1.loom'\).write_h5ad"
    ):
        jv.read(loom[0])


NAMES = {
    "nac": (
        ["mature", "nascent", "ambiguous"],
        {"spliced": "mature", "unspliced": "nascent", "ambiguous": "ambiguous"},
    ),
    "capitals": (["Spliced", "Unspliced"], {"spliced": "Spliced", "unspliced": "Unspliced"}),
    "suffix": (
        ["spliced_counts", "unspliced_counts", "ambiguous_counts"],
        {"spliced": "spliced_counts", "unspliced": "unspliced_counts", "ambiguous": "ambiguous_counts"},
    ),
    "prefix": (["raw.spliced", "raw.un-spliced"], {"spliced": "raw.spliced", "unspliced": "raw.un-spliced"}),
    "both there": (["spliced", "unspliced", "mature", "nascent"], {"spliced": "spliced", "unspliced": "unspliced"}),
    "beside processed ones": (
        ["spliced", "unspliced", "spliced_counts", "unspliced_counts"],
        {"spliced": "spliced", "unspliced": "unspliced"},
    ),
    "one there": (["spliced", "nascent"], {"spliced": "spliced"}),
    "two of a kind": (["Spliced", "spliced_raw", "unspliced_raw"], {}),
    "two kinds": (["mature", "nascent", "Spliced", "Unspliced"], {}),
    "one alone": (["mature"], {}),
    "others": (["Ms", "Mu", "premature", "velocity", "spliced_velocity"], {}),
    "X of anndata 0.13": ([None, "mature", "nascent"], {"spliced": "mature", "unspliced": "nascent"}),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_layers(case):
    names, expected = NAMES[case]
    assert find_counts(names) == expected


@pytest.mark.parametrize("case", ["nac", "capitals", "suffix", "two kinds", "both there"])
def test_layers_are_renamed_and_nothing_is_lost(case, counts, tmp_path, log):
    names, expected = NAMES[case]
    rng = np.random.default_rng(1)
    matrices = {name: rng.poisson(1, counts.shape).astype(np.float32) for name in names}
    file = ad.AnnData(counts.X, obs=counts.obs, var=counts.var, layers=dict(matrices))
    file.write_h5ad(tmp_path / "a.h5ad")
    found = jv.read(tmp_path / "a.h5ad")
    by_file = {known_as: name for name, known_as in expected.items()}
    assert {name for name in found.layers if name} == {by_file.get(name, name) for name in names}
    for name, matrix in matrices.items():
        np.testing.assert_array_equal(found.layers[by_file.get(name, name)], matrix)
        said = f"Renamed `layers['{name}']` to '{by_file.get(name)}'" in log.text
        assert said == (by_file.get(name, name) != name)
    assert ("Cannot tell which of the layers" in log.text) == (case == "two kinds")


# What is not read


def ten_x(path, counts):
    matrix = sp.csc_matrix(counts.X.T.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = matrix.shape
        group["barcodes"] = np.array(counts.obs_names, dtype="S")
        for name in ("id", "name"):
            group[f"features/{name}"] = np.array(counts.var_names, dtype="S")
        group["features/feature_type"] = np.full(counts.n_vars, b"Gene Expression")
        group["features/genome"] = np.full(counts.n_vars, b"GRCm39")


def line_in(message: str) -> str:
    """The converting line of Python in a message."""
    return re.search(r'python -c ".*"', message)[0]


def run_line(message: str, folder: Path) -> None:
    """Do what the message says."""
    command = shlex.split(line_in(message))
    done = subprocess.run([sys.executable, "-W", "ignore", *command[1:]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def refusal(path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        jv.read(path)
    return str(caught.value)


def test_matrix_of_cell_ranger_is_named_and_the_line_converts_it(counts, tmp_path):
    pytest.importorskip("scanpy")
    ten_x(tmp_path / "filtered_feature_bc_matrix.h5", counts)
    message = refusal(tmp_path / "filtered_feature_bc_matrix.h5")
    assert "spliced and unspliced counts in one sum" in message
    assert "jaxvelo.pp.merge" in message
    run_line(message, tmp_path)
    found = jv.read(tmp_path / "filtered_feature_bc_matrix.h5ad")
    np.testing.assert_array_equal(dense(found.X), dense(counts.X))


def test_folder_of_cell_ranger(counts, tmp_path):
    pytest.importorskip("scanpy")
    folder = tmp_path / "filtered"
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", counts.X.T.astype(int))
    for name, rows in (("barcodes", CELLS), ("features", [f"ENS{g}\t{g}\tGene Expression" for g in GENES])):
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    for name in ("matrix.mtx", "barcodes.tsv", "features.tsv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    message = refusal(folder)
    assert "in one sum" in message
    run_line(message, tmp_path)
    np.testing.assert_array_equal(dense(jv.read(tmp_path / "filtered.h5ad").X), dense(counts.X))
    assert "Name its folder" in refusal(folder / "matrix.mtx.gz")


@pytest.mark.parametrize("compressed", [False, True])
def test_folder_of_starsolo(counts, tmp_path, compressed):
    folder = tmp_path / "Velocyto" / "filtered"
    folder.mkdir(parents=True)
    for name in ("spliced", "unspliced"):
        scipy.io.mmwrite(folder / f"{name}.mtx", counts.layers[name].T.astype(int))
    (folder / "barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    (folder / "features.tsv").write_text("\n".join(f"ENS{g}\t{g}\tGene Expression" for g in GENES) + "\n")
    if compressed:
        for file in list(folder.iterdir()):
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    message = refusal(folder)
    assert "STARsolo" in message
    run_line(message, tmp_path)
    found = jv.read(tmp_path / "velocyto.h5ad")
    assert list(found.obs_names) == CELLS
    assert list(found.var_names) == GENES
    assert list(found.var["gene_ids"]) == [f"ENS{g}" for g in GENES]
    for name in ("spliced", "unspliced"):
        np.testing.assert_array_equal(dense(found.layers[name]), dense(counts.layers[name]))


def test_tables_of_text(counts, tmp_path):
    for name in ("spliced", "unspliced"):
        frame = pd.DataFrame(dense(counts.layers[name]).T, index=GENES, columns=CELLS)
        frame.to_csv(tmp_path / f"{name}.csv")
    # The unspliced ones in another order.
    frame.iloc[::-1, ::-1].to_csv(tmp_path / "unspliced.csv")
    message = refusal(tmp_path / "spliced.csv")
    run_line(message.replace("UNSPLICED", str(tmp_path / "unspliced.csv")), tmp_path)
    found = jv.read(tmp_path / "spliced.h5ad")
    for name in ("spliced", "unspliced"):
        np.testing.assert_array_equal(dense(found.layers[name]), dense(counts.layers[name]))


def hdf5(**content):
    def write(path):
        with h5py.File(path, "w") as file:
            for name, value in content.items():
                file[name.replace("__", "/")] = value

    return write


def text(content):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def files(*names):
    def write(path):
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text("")

    return write


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cells.h5ad", "")


def spatial(path):
    zarr.open_group(str(path), mode="w").create_group("tables").create_group("table")


REFUSED = {
    "a.h5mu": (hdf5(mod__rna__X=1.0, mod__atac__X=1.0, obs=1.0, var=1.0), r"\['rna'\]\.write_h5ad\('a\.h5ad'\)"),
    "a.h5Seurat": (
        hdf5(assays__RNA=1.0, **{"meta.data": 1.0}),
        r'SeuratDisk::Convert\(".*a\.h5Seurat", dest = "h5ad"\)',
    ),
    "molecule_info.h5": (hdf5(barcode_idx=[1], umi=[1]), r"single molecules of Cell Ranger.*pp\.merge"),
    "other.h5": (hdf5(matrix=[1]), r"Expected a file in h5ad format with `obs` and `var`, found \['matrix'\]"),
    "a.rds": (text(b"\x1f\x8b\x08rds"), r'anndataR::write_h5ad\(readRDS\(".*a\.rds"\), "a\.h5ad"\)'),
    "a.RData": (text(b"RDX3"), r"get\(load\("),
    "a.qs": (text(b"\x0b\x0e\x0a\x0c"), r"qs::qread\("),
    "a.qs2": (text(b"\x0b\x0e\x0a\xc1"), r"qs2::qs_read\("),
    "a.h5ad.gz": (text(gzip.compress(b"x")), r"compressed. Unpack it: gunzip -k '.*a\.h5ad\.gz'"),
    "a.tar.gz": (text(gzip.compress(b"x")), r"tar -xzf"),
    "a.txt": (text("gene\tcell\n"), r"no HDF5 file but text.*read_text"),
    "empty.h5ad": (text(""), r"is empty. Copy or download it anew"),
    "zeros.h5ad": (text(bytes(600)), r"starts with zeros: it is damaged"),
    "pointer.h5ad": (text("version https://git-lfs.github.com/spec/v1\noid sha256:0"), r"git lfs pull"),
    "page.h5ad": (text("\n<!DOCTYPE html><html>"), r"web page, not data"),
    "a.pkl": (text(b"\x80\x04"), r"is a pickle, which can run any code and is not read"),
    "a.bam": (text(b"BAM\x01"), r"holds reads, not counts"),
    "a.zip": (zipped, r"zip file without zarr in it. Unpack it"),
    "a.npz": (zipped, r"Expected h5ad, zarr or loom"),
    "unknown.h5ad": (text("something"), r"is no HDF5 file. Files that are read: h5ad, zarr"),
    "nothing/": (files("notes.md"), r"Expected a file or zarr, found the folder.*Files that are read"),
    "kb/": (files("counts_unfiltered/adata.h5ad", "run_info.json"), r"Did you mean `.*counts_unfiltered/adata\.h5ad`"),
    "kb_mtx/": (files("cells_x_genes.mature.mtx", "cells_x_genes.nascent.mtx"), r"`kb count` with --h5ad"),
    "velocyto/": (files("s1.loom", "s2.loom"), r"Did you mean `.*s1\.loom` \(or another of 2\)"),
    "fry/": (files("alevin/quants_mat.mtx", "quant.json"), r"pyroe\.load_fry\('.*fry', output_format='velocity'\)"),
    "spatial/": (spatial, r"SpatialData.*jaxvelo\.read\('.*spatial/tables/table'\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named(name, tmp_path):
    write, message = REFUSED[name]
    path = tmp_path / name.rstrip("/")
    if name.endswith("/"):
        path.mkdir()
    write(path)
    assert re.search(message, refusal(path)), refusal(path)
    assert "\n" not in refusal(path)


def test_fry_is_known_from_within(tmp_path):
    files("fry/alevin/quants_mat.mtx", "fry/quant.json")(tmp_path)
    assert f"pyroe.load_fry('{tmp_path / 'fry'}'" in refusal(tmp_path / "fry" / "alevin")


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        jv.read(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"found the address.*Download it"):
        jv.read("https://example.org/cells.h5ad")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_what_must_not_be_read(counts, tmp_path):
    counts.write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "a.h5ad").chmod(0)
    with pytest.raises(PermissionError):
        jv.read(tmp_path / "a.h5ad")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_cut_off(counts, tmp_path, share):
    counts.write_h5ad(tmp_path / "a.h5ad")
    content = (tmp_path / "a.h5ad").read_bytes()
    (tmp_path / "a.h5ad").write_bytes(content[: int(len(content) * share)])
    assert re.search(r"Could not read `.*a\.h5ad`: .*truncated.*It was cut off", refusal(tmp_path / "a.h5ad"))


def test_damaged(counts, tmp_path):
    counts.X = np.random.default_rng(0).random((12, 7))
    counts.write_h5ad(tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(tmp_path / "a.h5ad") as file:
        chunk = file["X"].id.get_chunk_info(0)
    content = bytearray((tmp_path / "a.h5ad").read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    (tmp_path / "a.h5ad").write_bytes(content)
    assert re.search(r"Could not read.*If it is damaged, copy or download it anew", refusal(tmp_path / "a.h5ad"))


def test_damaged_zarr(counts, tmp_path):
    write_zarr(counts, tmp_path / "a.zarr", 3)
    (tmp_path / "a.zarr" / "obs" / "zarr.json").write_text("{")
    (tmp_path / "a.zarr" / "zarr.json").write_text(
        '{"zarr_format": 3, "node_type": "group", '
        '"attributes": {"encoding-type": "anndata", "encoding-version": "0.1.0"}}'
    )
    assert re.search(r"Could not read `.*a\.zarr`", refusal(tmp_path / "a.zarr"))
