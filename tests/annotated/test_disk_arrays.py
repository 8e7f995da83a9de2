"""Rows and columns of matrices on disk, in all forms in which AnnData has them."""

import os

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from anndata.io import sparse_dataset, write_elem

from jaxvelo.annotated.disk_arrays import (
    GatheredRows,
    check_readable,
    file_of,
    identity_of,
    is_on_disk,
    read_columns,
    read_rows,
)

pytestmark = pytest.mark.any_precision

FORMS = ["h5 in one piece", "h5 in chunks", "h5 sparse", "zarr", "zarr sparse", "dask", "dask sparse", "memory", "csr"]


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return (rng.random((50, 9)) * (rng.random((50, 9)) < 0.4)).astype(np.float32)


def as_form(values, form, folder):
    sparse = sp.csr_matrix(values)
    if form == "csr":
        return sparse
    if form == "memory":
        return values
    if form.startswith("dask"):
        array = pytest.importorskip("dask.array").from_array(values, chunks=(7, 9))
        return array.map_blocks(sp.csr_matrix) if form == "dask sparse" else array
    if form.startswith("zarr"):
        group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
        write_elem(group, "x", sparse if form == "zarr sparse" else values)
        return sparse_dataset(group["x"]) if form == "zarr sparse" else group["x"]
    with h5py.File(folder / "a.h5ad", "w") as file:
        if form == "h5 in chunks":
            file.create_dataset("x", data=values, chunks=(4, 3), compression="lzf")
        else:
            write_elem(file, "x", sparse if form == "h5 sparse" else values)
    stored = h5py.File(folder / "a.h5ad")["x"]
    return sparse_dataset(stored) if form == "h5 sparse" else stored


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else matrix


@pytest.mark.parametrize("form", FORMS)
def test_rows_and_columns_are_those_of_the_matrix(values, form, tmp_path):
    array = as_form(values, form, tmp_path)
    assert is_on_disk(array) == (form not in ("memory", "csr"))
    assert (file_of(array) is not None) == form.startswith(("h5", "zarr"))
    for cells in ([3], [0, 1, 2, 3], [0, 4, 5, 30, 49], []):
        found = read_rows(array, np.array(cells, dtype=int), "X")
        np.testing.assert_array_equal(dense(found), values[cells])
    for columns in ([2], [0, 1, 2], [1, 4, 8]):
        found = read_columns(array, np.array(columns), "X", lambda piece: piece, piece=300)
        np.testing.assert_array_equal(found, values[:, columns])
    # Pieces of four rows; some cells of a block were in the one before.
    rows = GatheredRows(array, "X", np.float64, np.array([1, 2, 6]), piece=300)
    for cells in ([5, 9, 1, 30, 31, 2], [9, 2, 40, 0], [7], [7, 8]):
        cells = np.array(cells)
        found = rows.read(cells, rows.empty(len(cells)))
        np.testing.assert_array_equal(found, values[np.ix_(cells, [1, 2, 6])].astype(float))


@pytest.mark.parametrize("columns", [None, np.array([1, 2, 6])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_padding", [0, 3])
def test_rows_of_a_matrix_in_memory_come_checked_and_in_the_type(values, columns, dtype, n_padding):
    values = values.astype(np.float32)
    expected = values if columns is None else values[:, columns]
    seen = []

    def check(piece):
        seen.append(piece.copy())
        return piece.astype(dtype, copy=False)

    rows = GatheredRows(values, "X", dtype, columns, check, piece=300)
    cells = np.array([5, 9, 1, 30, 31, 2, 7])
    into = np.full((8, expected.shape[1] + n_padding), -1, dtype)
    assert rows.read(cells, into) is into
    np.testing.assert_array_equal(into[:7, : expected.shape[1]], expected[cells])
    np.testing.assert_array_equal(np.concatenate(seen), expected[cells])
    assert len(seen) > 1
    assert (into[7:] == -1).all()
    assert (into[:, expected.shape[1] :] == -1).all()


def test_rows_of_the_block_before_are_not_read_again(values):
    class Counted:
        shape, dtype, asked = values.shape, values.dtype, 0

        def __getitem__(self, index):
            found = values[index]
            self.asked += len(found)
            return found

    array = Counted()
    rows = GatheredRows(array, "X", np.float32)
    for start in range(0, 40, 5):
        rows.read(np.arange(start, start + 10), rows.empty(10))
    assert array.asked == 45


def test_a_matrix_is_known_again_until_its_file_changes(values, tmp_path):
    for form in FORMS:
        array = as_form(values, form, tmp_path)
        before = identity_of(array, "X")
        assert identity_of(array, "X") == before
        del array  # and its file is closed
        assert identity_of(as_form(values[::-1], form, tmp_path), "X") != before


def test_a_file_that_another_replaced_is_what_it_was(values, tmp_path):
    former = as_form(values, "h5 in one piece", tmp_path)
    before = identity_of(former, "X")
    (tmp_path / "new").mkdir()
    as_form(values + 1, "h5 in one piece", tmp_path / "new").file.close()
    os.replace(tmp_path / "new" / "a.h5ad", tmp_path / "a.h5ad")
    assert identity_of(former, "X") == before
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert identity_of(file["x"], "X") != before


def test_changes_that_are_not_in_the_file_yet_are_seen(values, tmp_path):
    as_form(values, "h5 in chunks", tmp_path).file.close()
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        before = identity_of(file["x"], "X")
        file["x"][0, 0] = 3
        assert identity_of(file["x"], "X") != before


def test_an_array_of_dask_is_told_by_what_it_reads(values, tmp_path):
    dask = pytest.importorskip("dask.array")

    def array():
        return dask.from_zarr(str(tmp_path / "a.zarr"), "x")

    as_form(values, "zarr", tmp_path)
    name, before = array().name, identity_of(array(), "X")
    as_form(values + 1, "zarr", tmp_path)
    assert array().name == name, "else the name would tell"
    assert identity_of(array(), "X") != before


def test_zarr_in_a_zip_file_is_known_by_that(values, tmp_path):
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        write_elem(zarr.open_group(store, mode="w", zarr_format=3), "x", values)
    array = zarr.open_group(zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="r"), mode="r")["x"]
    assert file_of(array) == tmp_path / "a.zarr.zip"
    before = identity_of(array, "X")
    os.utime(tmp_path / "a.zarr.zip", (0, 0))
    assert identity_of(array, "X") != before


def test_unreadable_matrices_say_why(values, tmp_path):
    with h5py.File(tmp_path / "c.h5ad", "w") as file:
        write_elem(file, "x", sp.csc_matrix(values))
        write_elem(file, "names", np.array([["a", "b"]], dtype=object))
    file = h5py.File(tmp_path / "c.h5ad")
    with pytest.raises(ValueError, match=r"by columns \(CSC\) on disk.*Store it as CSR"):
        check_readable(sparse_dataset(file["x"]), "adata.X")
    with pytest.raises(ValueError, match=r"Expected numbers in `adata.X`, found the type object"):
        check_readable(file["names"], "adata.X")


def test_a_file_that_was_cut_off_is_named(values, tmp_path):
    array = as_form(values, "zarr", tmp_path)
    chunk = max((tmp_path / "a.zarr" / "x" / "c").rglob("*"), key=lambda path: path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(OSError, match=r"Could not read 50 rows of `adata.layers\['Ms'\]` from `.*a.zarr`"):
        read_rows(array, np.arange(50), "adata.layers['Ms']")
