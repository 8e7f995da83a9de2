"""Layers that are written to disk in blocks, and taken up where they were left."""

import fcntl
import resource
import signal

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from anndata.io import read_elem

from jaxvelo import settings
from jaxvelo.annotated.layer_files import LayerFile, layer_folder

pytestmark = pytest.mark.any_precision


@pytest.fixture(autouse=True)
def default_folder():
    yield
    settings.layerdir = None


def begun(folder, origin="a"):
    return LayerFile(folder, "Ms", (10, 4), np.float32, [origin])


VALUES = np.arange(40, dtype=np.float32).reshape(10, 4)


def test_what_is_written_is_read_by_anndata(tmp_path):
    layer = begun(tmp_path / "new")
    layer.write(np.array([1, 3, 4]), VALUES[[1, 3, 4]], 3)
    layer.write(np.array([0, 2, *range(5, 10)]), VALUES[[0, 2, *range(5, 10)]], 10)
    found = layer.finish()
    np.testing.assert_array_equal(found[:], VALUES)
    np.testing.assert_array_equal(read_elem(found), VALUES)
    assert found.id.get_offset() is not None, "rows one after another, for reading any of them"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["Ms.h5"]


def test_genes_after_genes(tmp_path):
    first = LayerFile(tmp_path, "fit_t", (10, 4), np.float32, [], block=(1024, 3))
    first.write_genes(slice(0, 3), VALUES[:, :3], 3)
    first.close()
    second = LayerFile(tmp_path, "fit_t", (10, 4), np.float32, [], block=(1024, 1))
    assert second.position == 3
    second.write_genes(slice(3, 4), VALUES[:, 3:], 4)
    found = second.finish()
    assert found.chunks == (10, 3)
    np.testing.assert_array_equal(read_elem(found), VALUES)


def test_an_unfinished_layer_is_taken_up_if_it_is_of_the_same(tmp_path, logged):
    first = begun(tmp_path)
    first.write(np.arange(6), VALUES[:6], 6)
    first.close()
    assert not (tmp_path / "Ms.h5").exists()
    assert begun(tmp_path, "b").position == 0
    assert begun(tmp_path).position == 0, "what was begun for others took its place"

    first = begun(tmp_path)
    first.write(np.arange(6), VALUES[:6], 6)
    first.close()
    second = begun(tmp_path)
    assert second.position == 6
    assert "Going on with `layers['Ms']`" in logged()
    second.write(np.arange(6, 10), VALUES[6:], 10)
    np.testing.assert_array_equal(second.finish()[:], VALUES)


def test_a_whole_layer_is_used_if_it_is_of_the_same(tmp_path, logged):
    layer = begun(tmp_path)
    layer.write(np.arange(10), VALUES, 10)
    before = layer.finish()
    again = begun(tmp_path)
    assert again.is_whole
    assert "Found `layers['Ms']` of the same data, whole" in logged()
    np.testing.assert_array_equal(again.finish()[:], VALUES)

    other = begun(tmp_path, "b")
    assert not other.is_whole
    np.testing.assert_array_equal(before[:], VALUES, "the old one stands until the new one is whole")
    other.write(np.arange(10), VALUES + 1, 10)
    np.testing.assert_array_equal(other.finish()[:], VALUES + 1)


def test_what_another_process_writes_is_left_alone(tmp_path):
    layer = begun(tmp_path)
    layer.write(np.arange(6), VALUES[:6], 6)
    layer.close()
    with open(tmp_path / ".Ms.partial.h5", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for origin in "ab":
            with pytest.raises(OSError, match="another process is writing it"):
                begun(tmp_path, origin)
    assert begun(tmp_path).position == 6


def test_a_damaged_record_means_to_begin_anew(tmp_path):
    layer = begun(tmp_path)
    layer.write(np.arange(6), VALUES[:6], 6)
    layer.close()
    (tmp_path / ".Ms.partial.json").write_text("{")
    assert begun(tmp_path).position == 0


def test_no_room_is_said_before_anything_is_computed(tmp_path):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match=r"Could not write `layers\['Ms'\]`, 3.81 MiB, to the folder.*Make room"):
            LayerFile(tmp_path, "Ms", (10_000, 100), np.float32, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.glob("**/*.h5"))


def test_a_folder_that_must_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Could not write `layers\['Ms'\]`, 160 B, to the folder `.*file`"):
        begun(tmp_path / "file")


def test_layers_stand_beside_the_file_or_where_one_says(tmp_path):
    with h5py.File(tmp_path / "atlas.h5ad", "w") as file:
        file["x"] = VALUES
        assert layer_folder([VALUES, file["x"]]) == tmp_path / "atlas.layers"
    with pytest.raises(ValueError, match=r"Set `jaxvelo.settings.layerdir`"):
        layer_folder([VALUES])
    settings.layerdir = tmp_path
    assert layer_folder([VALUES]) == tmp_path
    with pytest.raises(TypeError, match="`layerdir`"):
        settings.layerdir = 3


@pytest.mark.parametrize("n_stored", [None, 0])
def test_a_key_may_have_a_slash(tmp_path, n_stored):
    layer = LayerFile(tmp_path, "a/b", (1, 2), np.float32, [], n_stored)
    layer.write(np.arange(1), np.zeros((1, 2)) if n_stored is None else sp.csr_matrix((1, 2)), 1)
    assert layer.finish().shape == (1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a_b.h5"]
