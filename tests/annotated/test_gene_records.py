"""Numbers of genes that are noted until all is done."""

import numpy as np
import pytest

from jaxvelo.annotated.gene_records import GeneRecord

pytestmark = pytest.mark.any_precision


def test_what_is_done_is_found_again_if_it_is_of_the_same(tmp_path):
    folder = tmp_path / "new"
    record = GeneRecord(folder, "velocity", ["a", 1])
    assert record.n_done == 0
    record.add({"gamma": np.arange(3.0), "status": np.array(["a", "b", "c"])})
    record.add({"gamma": np.array([7.0]), "status": np.array(["failed"])})

    again = GeneRecord(folder, "velocity", ["a", 1])
    assert again.n_done == 4
    np.testing.assert_array_equal(again.columns["gamma"], [0, 1, 2, 7])
    assert list(again.columns["status"]) == ["a", "b", "c", "failed"]
    assert GeneRecord(folder, "velocity", ["b", 1]).n_done == 0
    assert GeneRecord(folder, "other", ["a", 1]).n_done == 0
    assert [file.name for file in folder.iterdir()] == [".velocity.partial.npz"]
    again.keep(2)
    assert again.n_done == 2
    again.remove()
    assert GeneRecord(folder, "velocity", ["a", 1]).n_done == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_a_damaged_record_means_to_begin_anew(tmp_path, content):
    (tmp_path / ".velocity.partial.npz").write_bytes(content)
    assert GeneRecord(tmp_path, "velocity", []).n_done == 0


def test_a_folder_that_must_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Could not note the fits of genes in the folder `.*file`.*layerdir"):
        GeneRecord(tmp_path / "file", "velocity", []).add({"gamma": np.arange(3.0)})
