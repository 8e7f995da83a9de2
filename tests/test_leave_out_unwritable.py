"""What an h5ad file cannot hold is converted or left out before anything is computed, and said."""

import collections
import datetime
import pathlib
import re
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.cli._h5ad_files import leave_out_unwritable, write_h5ad

pytestmark = pytest.mark.any_precision

CELLS = ["a", "b", "c"]


def make(obs=None, **slots) -> ad.AnnData:
    adata = ad.AnnData(
        np.arange(6, dtype=np.float32).reshape(3, 2),
        obs=pd.DataFrame(obs or {}, index=CELLS),
        var=pd.DataFrame({"id": [1, 2]}, index=["g", "h"]),
        layers={"spliced": np.ones((3, 2), np.float32)},
        uns={"kept": np.arange(3)},
    )
    for slot, content in slots.items():
        getattr(adata, slot).update(content)
    return adata


@pytest.fixture
def log(caplog):
    caplog.set_level("INFO", logger="jaxvelo")
    return caplog


def written(adata, tmp_path) -> ad.AnnData:
    """The object, mended, written and read; nothing is renamed silently by a slash."""
    leave_out_unwritable(adata)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Forward slashes")
        write_h5ad(adata, tmp_path / "a.h5ad")
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(found.X, np.arange(6).reshape(3, 2))
    np.testing.assert_array_equal(found.layers["spliced"], np.ones((3, 2)))
    np.testing.assert_array_equal(found.uns["kept"], np.arange(3))
    assert list(found.obs_names) == CELLS
    return found


def as_list(values) -> list:
    return [None if pd.isna(value) else value for value in values]


COLUMNS = {
    "mixed": ([1, "a", 2.5], ["1", "a", "2.5"], "float, int, str"),
    "mixed, with gaps": ([1, "a", None], ["1", "a", None], "NoneType, int, str"),
    "truth values with gaps": ([True, None, False], [True, None, False], "NoneType, bool"),
    "whole numbers as objects": (np.array([1, 2, None], dtype=object), [1, 2, None], "NoneType, int"),
    "dates": (
        pd.to_datetime(["2020-01-31", None, "2021-02-03"]),
        ["2020-01-31T00:00:00", None, "2021-02-03T00:00:00"],
        "",
    ),
    "dates of Python": ([datetime.date(2020, 1, 31)] * 3, ["2020-01-31"] * 3, "date"),
    "durations": (
        pd.to_timedelta([1, 2, 3], unit="D"),
        ["1 days 00:00:00", "2 days 00:00:00", "3 days 00:00:00"],
        "timedelta64",
    ),
    "periods": (pd.period_range("2020-01", periods=3, freq="M"), ["2020-01", "2020-02", "2020-03"], "period[M]"),
    "intervals": (pd.interval_range(0, 3), ["(0, 1]", "(1, 2]", "(2, 3]"], "interval"),
    "cut": (pd.cut([1.0, 5.0, 9.0], [0, 4, 10]), ["(0, 4]", "(4, 10]", "(4, 10]"], "categories of interval"),
    "categories of mixed types": (pd.Categorical([1, "a", None], [1, "a"]), ["1", "a", None], "categories of mixed"),
    "categories of dates": (
        pd.Categorical(pd.to_datetime(["2020-01-31"] * 3)),
        ["2020-01-31T00:00:00"] * 3,
        "categories of datetime64",
    ),
    "sparse": (pd.arrays.SparseArray([0, 1, 0]), [0, 1, 0], "Sparse"),
    "numbers with gaps": (pd.array([1.5, None, 2.5], dtype="Float64"), [1.5, None, 2.5], "Float64"),
    "paths": ([pathlib.PurePosixPath("/a")] * 3, ["/a"] * 3, "PurePosixPath"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_are_converted(kind, tmp_path, log):
    values, expected, said = COLUMNS[kind]
    if kind == "categories of mixed types":
        categories = pd.Categorical(values)
    found = written(make({"x": values, "other": [1, 2, 3]}), tmp_path)
    assert as_list(found.obs["x"]) == expected
    assert list(found.obs["other"]) == [1, 2, 3]
    lines = [record.getMessage() for record in log.records]
    assert len(lines) == 1
    assert lines[0].startswith("Converted `obs['x']` from a column of ")
    assert said in lines[0]
    if kind == "categories of mixed types":
        assert list(found.obs["x"].cat.categories) == [str(name) for name in categories.categories]


def test_nullable_text(tmp_path):
    """Which anndata 0.12 refuses and 0.13 writes."""
    found = written(make({"x": pd.array(["u", None, "v"], dtype="string")}), tmp_path)
    assert as_list(found.obs["x"]) == ["u", None, "v"]


def test_what_is_written_as_it_is_stays_as_it_is(tmp_path, log):
    adata = make(
        {
            "text": ["u", None, "v"],
            "number": [1.0, np.nan, 3.0],
            "kind": pd.Categorical(["x", None, "y"], ["y", "x"]),
            "codes": pd.Categorical([2, 1, 2]),
            "whole": pd.array([1, None, 2], dtype="Int64"),
        },
        obsm={"X_pca": np.ones((3, 2)), "frame": pd.DataFrame({"u": [1, 2, 3]}, index=CELLS)},
        obsp={"connectivities": sp.csr_matrix(np.eye(3))},
        uns={"neighbors": {"params": {"n_neighbors": 3, "metric": "euclidean"}}, "colors": ["#ff0000", "#00ff00"]},
    )
    adata.raw = adata.copy()
    before = adata.copy()
    frame = adata.obsm["frame"]
    assert leave_out_unwritable(adata) == {}
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.obsm["frame"], frame)
    assert adata.uns["neighbors"] == before.uns["neighbors"]
    assert adata.uns["colors"] == before.uns["colors"]
    assert list(adata.raw.var_names) == list(before.raw.var_names)
    assert not log.records
    write_h5ad(adata, tmp_path / "a.h5ad")


@pytest.mark.parametrize("values", [[[1], [2], [3]], [{"u": 1}] * 3, [object()] * 3], ids=["lists", "dicts", "objects"])
def test_columns_of_collections_are_left_out(values, tmp_path, log):
    found = written(make({"x": values, "y": [1, 2, 3]}), tmp_path)
    assert list(found.obs) == ["y"]
    (record,) = log.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("Leaving out `obs['x']`: a column of ")


def test_names_of_columns(tmp_path, log):
    adata = make()
    adata.obs = pd.DataFrame([[1, 2, 3, 4, 5]] * 3, index=CELLS, columns=["_index", 7, "cell/type", "twice", "twice"])
    adata.var["_index"] = ["g", "h"]  # what the index says
    renamed = leave_out_unwritable(adata)
    assert renamed == {
        ("obs", "_index"): "_index_",
        ("obs", 7): "7",
        ("obs", "cell/type"): "cell_type",
        ("obs", "twice"): "twice_",
    }
    found = written(adata, tmp_path)
    assert list(found.obs) == ["_index_", "7", "cell_type", "twice", "twice_"]
    assert list(found.obs.iloc[0]) == [1, 2, 3, 4, 5]
    assert list(found.var) == ["id"]
    assert "Leaving out `var['_index']`, a name that cannot be written: it equals the index" in log.text
    for name in ("'_index'", "7", "'cell/type'", "'twice'"):
        assert log.text.count(f"Renamed `obs[{name}]` to") == 1


def test_new_names_take_none_that_is_there(tmp_path):
    adata = make({"a/b": [1, 2, 3], "a_b": [4, 5, 6], "a_b_": [7, 8, 9]}, uns={1: "one", "1": "text"})
    found = written(adata, tmp_path)
    assert list(found.obs) == ["a_b__", "a_b", "a_b_"]
    assert list(found.obs["a_b"]) == [4, 5, 6]
    assert found.uns["1"] == "text"
    assert found.uns["1_"] == "one"


def test_name_of_the_index_that_a_column_has(tmp_path, log):
    """As of loom files and of tables read by pandas."""
    adata = make({"CellID": [1, 2, 3]})
    adata.obs.index.name = "CellID"
    found = written(adata, tmp_path)
    assert list(found.obs["CellID"]) == [1, 2, 3]
    assert "Took away the name 'CellID' of the index of `obs`" in log.text


def test_raw(tmp_path, log):
    adata = make()
    raw = adata.copy()
    raw.var["features"] = ["u", "v"]
    adata.raw = raw
    adata.raw.var["_index"] = ["u", "v"]
    adata.raw.var["mixed"] = [1, "x"]
    adata.raw.var["lists"] = [[1], [2]]
    found = written(adata, tmp_path)
    assert list(found.raw.var) == ["id", "features", "_index_", "mixed"]
    assert list(found.raw.var["_index_"]) == ["u", "v"]
    np.testing.assert_array_equal(found.raw.X, raw.X)
    for line in (
        "Renamed `raw.var['_index']` to '_index_'",
        "Converted `raw.var['mixed']` from a column of int, str",
        "Leaving out `raw.var['lists']`: a column of list",
    ):
        assert line in log.text


def test_raw_of_a_seurat_file(tmp_path):
    """A column `_index` that anndata reads and does not write."""
    adata = make()
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "seurat.h5ad")
    with h5py.File(tmp_path / "seurat.h5ad", "a") as file:
        var = file["raw/var"]
        del var[var.attrs["_index"]]
        for name in ("features", "_index"):
            var[name] = np.array(["g", "h"]).astype(h5py.string_dtype())
            var[name].attrs["encoding-type"], var[name].attrs["encoding-version"] = "string-array", "0.2.0"
        var.attrs["_index"] = "features"
        var.attrs["column-order"] = np.array(["_index", "id"], dtype=object)
    adata = jv.read(tmp_path / "seurat.h5ad")
    assert "_index" in adata.raw.var
    found = written(adata, tmp_path)
    assert list(found.raw.var) == ["id"]
    assert list(found.raw.var_names) == ["g", "h"]


VALUES = {
    "set": ({3, 1, 2}, [1, 2, 3]),
    "set of text": (frozenset({"b", "a"}), ["a", "b"]),
    "tuple": ((1.5, 2.5), [1.5, 2.5]),
    "tuple of both": ((1, "a"), ["1", "a"]),
    "list with None": ([None, "a"], ["None", "a"]),
    "range": (range(3), [0, 1, 2]),
    "path": (pathlib.PurePosixPath("/tmp/x"), "/tmp/x"),
    "timestamp": (pd.Timestamp("2020-01-31 12:00"), "2020-01-31T12:00:00"),
    "date": (datetime.date(2020, 1, 31), "2020-01-31"),
    "duration": (datetime.timedelta(days=1), "1 day, 0:00:00"),
    "interval": (pd.Interval(0, 1), "(0, 1]"),
    "bytes": (b"abc", "abc"),
    "large": (2**70, str(2**70)),
    "complex": (1 + 2j, "(1+2j)"),
    "index": (pd.Index(["u", "v"]), ["u", "v"]),
    "extension": (pd.array([1, 2], dtype="Float64"), [1.0, 2.0]),
    "dates": (np.array(["2020-01-31"], dtype="datetime64[D]"), ["2020-01-31"]),
    "objects": (np.array([1, 2.5], dtype=object), [1.0, 2.5]),
    "objects of both": (np.array([1, "a"], dtype=object), ["1", "a"]),
    "triplets": (sp.coo_matrix(np.eye(2)), [[1, 0], [0, 1]]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_converted_at_any_depth(kind, tmp_path, log):
    value, expected = VALUES[kind]
    found = written(make(uns={"a": {"b": {"x": value, "y": 1}}}), tmp_path).uns["a"]["b"]
    seen = found["x"].toarray() if sp.issparse(found["x"]) else found["x"]
    assert np.asarray(seen).tolist() == expected
    assert found["y"] == 1
    (record,) = log.records
    assert record.getMessage().startswith("Converted `uns['a']['b']['x']` from a")


def test_series_and_frames_in_uns(tmp_path):
    series = pd.Series([1, 2], index=["u", "v"], name="s")
    frame = pd.DataFrame({0: [1, "a"], "when": pd.to_datetime(["2020-01-31"] * 2)}, index=[5, 6])
    mixed = pd.Series([1, "a"], index=["u", "v"])
    nested = pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([("u", "v")]))
    found = written(make(uns={"s": series, "f": frame, "m": mixed, "n": nested}), tmp_path).uns
    assert list(found["s"]["s"]) == [1, 2]
    assert list(found["s"].index) == ["u", "v"]
    assert list(found["f"]) == ["0", "when"]
    assert list(found["f"]["0"]) == ["1", "a"]
    assert list(found["m"]["value"]) == ["1", "a"]
    assert list(found["n"]["x"]) == [1]


@pytest.mark.parametrize(
    "value",
    [print, lambda x: x, object(), [{1}, {2}], [[1, 2], [3]], np.dtype("f4"), np.array([[1], {}], dtype=object)],
    ids=["builtin", "function", "object", "sets", "ragged", "dtype", "array"],
)
def test_what_has_no_other_form_is_left_out(value, tmp_path, log):
    found = written(make(uns={"a": {"x": value, "y": 1}}), tmp_path)
    assert found.uns["a"] == {"y": 1}
    (record,) = log.records
    assert record.levelname == "WARNING"
    assert re.match(r"Leaving out `uns\['a'\]\['x'\]`: an? .* cannot be written to an h5ad file", record.getMessage())


def test_kinds_of_dictionaries(tmp_path):
    ordered = collections.OrderedDict(u=1)
    default = collections.defaultdict(dict, v={"w": 2})
    found = written(make(uns={"o": ordered, "d": default, "e": {}}), tmp_path).uns
    assert found["o"] == {"u": 1}
    assert found["d"] == {"v": {"w": 2}}


def test_keys(tmp_path, log):
    adata = make(uns={"a": {1: "x", "b/c": {"d/e": 2}, "": 3, ".": 4}})
    adata.layers["Ms/scaled"] = np.full((3, 2), 2.0)
    adata.obsm["X/umap"] = np.full((3, 2), 3.0)
    adata.varm["P/C"] = np.full((2, 2), 4.0)
    adata.obsp["con/n"] = sp.csr_matrix(np.eye(3))
    renamed = leave_out_unwritable(adata)
    assert renamed["layers", "Ms/scaled"] == "Ms_scaled"
    found = written(adata, tmp_path)
    assert found.uns["a"] == {"1": "x", "b_c": {"d_e": 2}, "_": 3, "__": 4}
    assert (found.layers["Ms_scaled"] == 2).all()
    assert (found.obsm["X_umap"] == 3).all()
    assert (found.varm["P_C"] == 4).all()
    assert (found.obsp["con_n"].toarray() == np.eye(3)).all()
    for place in ("uns['a'][1]", "uns['a']['b/c']", "layers['Ms/scaled']", "obsm['X/umap']", "obsp['con/n']"):
        assert f"Renamed `{place}` to " in log.text


def test_arrays(tmp_path, log):
    adata = make()
    adata.obsm["numbers"] = np.array([[1, 2.5]] * 3, dtype=object)
    adata.obsm["text"] = np.array([[1, "a"]] * 3, dtype=object)
    adata.obsm["frame"] = pd.DataFrame({"p": [1, "a", 2], 5: [1, 2, 3], "l": [[1], [2], [3]]}, index=CELLS)
    adata.layers["objects"] = np.array([[1, 2]] * 3, dtype=object)
    adata.layers["complex"] = np.ones((3, 2), dtype=complex)
    adata.obsm["lists"] = np.array([[[1], {}]] * 3, dtype=object)
    found = written(adata, tmp_path)
    np.testing.assert_array_equal(found.obsm["numbers"], [[1, 2.5]] * 3)
    assert found.obsm["text"].tolist() == [["1", "a"]] * 3
    assert list(found.obsm["frame"]["p"]) == ["1", "a", "2"]
    assert list(found.obsm["frame"]) == ["p", "5"]
    np.testing.assert_array_equal(found.layers["objects"], [[1, 2]] * 3)
    np.testing.assert_array_equal(found.layers["complex"], np.ones((3, 2)))
    assert "lists" not in found.obsm
    for line in (
        "Converted `obsm['numbers']` from an array of float, int to an array of float64",
        "Converted `obsm['frame']['p']` from a column of int, str",
        "Leaving out `obsm['frame']['l']`",
        "Leaving out `obsm['lists']`: an array of dict, list",
    ):
        assert line in log.text


def test_large_matrices_are_not_tried(monkeypatch):
    """It costs no more than the annotation does."""
    from jaxvelo.cli import _writable

    tried = []

    def write(file, key, value):
        tried.append(value)

    monkeypatch.setattr(_writable, "write_elem", write)
    adata = make(uns={"velocity_graph": sp.csr_matrix(np.eye(3))}, obsp={"connectivities": sp.csr_matrix(np.eye(3))})
    adata.raw = adata.copy()
    leave_out_unwritable(adata)
    assert tried
    assert not [value for value in tried if sp.issparse(value) or isinstance(value, np.ndarray)]
