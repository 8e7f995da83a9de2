"""Truth values, names, cells, genes and groups, in all forms in which people and files have them."""

import anndata
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import chosen_groups, cluster_names, read_clusters, require_cluster
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.masks import read_mask
from jaxvelo.annotated.names import find_name, one_name, places_of, text_of
from jaxvelo.annotated.order import aligned, square_in_order
from tests.kernels.snapshot import unchanged

pytestmark = pytest.mark.any_precision

MASK = [True, False, True, False, False, True]
N = len(MASK)
NUMBERS = [int(truth) for truth in MASK]
WORDS = [str(truth) for truth in MASK]


@pytest.fixture
def adata():
    return anndata.AnnData(
        np.zeros((N, N), dtype=np.float32),
        obs=pd.DataFrame(
            {
                "clusters": pd.Categorical(["a", "a", "b", "b", None, "c"], categories=["a", "b", "c", "empty"]),
                "leiden": pd.Categorical(["0", "0", "1", "2", "2", "10"]),
                "label": ["x", "x", "y", "y", "z", "z"],
                "number": [0, 0, 1, 2, 2, 10],
                "gaps": pd.array([0, 0, 1, None, 2, 10], dtype="Int64"),
                "whole": [0.0, 0.0, 1.0, np.nan, 2.0, 10.0],
                "time": [0.0, 0.1, 0.2, np.nan, 0.4, 0.5],
                "flag": MASK,
                "flags": pd.array([*MASK[:5], None], dtype="boolean"),
                "bit": NUMBERS,
            },
            index=[f"cell_{i}" for i in range(N)],
        ),
        var=pd.DataFrame({"chosen": MASK, "bit": NUMBERS}, index=[f"gene_{i}" for i in range(N)]),
    )


FORMS = {
    "booleans": np.array(MASK),
    "list": MASK,
    "nullable": pd.array(MASK, dtype="boolean"),
    "objects": np.array(MASK, dtype=object),
    "integers": np.array(NUMBERS, dtype=np.int8),
    "unsigned": np.array(NUMBERS, dtype=np.uint32),
    "nullable integers": pd.array(NUMBERS, dtype="Int64"),
    "floats": np.array(NUMBERS, dtype=np.float32),
    "words": WORDS,
    "words of R": [word.upper() for word in WORDS],
    "bytes": np.array([word.encode() for word in WORDS]),
    "digits": list(map(str, NUMBERS)),
    "categories of words": pd.Categorical(WORDS),
    "categories of booleans": pd.Categorical(MASK),
    "categories of numbers": pd.Categorical(NUMBERS),
    "strings": pd.array(WORDS, dtype="string"),
    "jax": jnp.array(MASK),
}


@pytest.mark.parametrize("form", FORMS)
def test_masks(form, adata):
    values = FORMS[form]
    mask = read_mask(values if form != "jax" else np.asarray(values), "x", "")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(chosen_genes(adata, values, "gene_subset"), MASK)
    if form != "jax":
        adata.var["mask"] = pd.Series(values, index=adata.var_names)
        with unchanged(adata):
            np.testing.assert_array_equal(chosen_genes(adata, "mask", "gene_subset"), MASK)
            np.testing.assert_array_equal(chosen_genes(adata, adata.var["mask"], "gene_subset"), MASK)
            np.testing.assert_array_equal(chosen_genes(adata, adata.var["mask"].iloc[::-1], "gene_subset"), MASK)


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_cells(form, adata):
    """Numbers of 0 and 1, as many as there are cells, could be indices; so could no text be."""
    values = FORMS[form]
    if form in ("integers", "unsigned", "nullable integers", "floats", "categories of numbers"):
        with pytest.raises(ValueError, match=r"`cells`, found 6 numbers of 0 and 1 alone.*Pass booleans.*astype\(bool"):
            chosen_cells(adata, values, "cells")
    else:
        np.testing.assert_array_equal(chosen_cells(adata, values, "cells"), MASK)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("file", ["h5ad", "zarr"])
def test_masks_from_files(file, adata, tmp_path):
    """What a file gives back chooses the same genes."""
    adata.var["mixed"] = np.array(MASK, dtype=object).astype(str)
    adata.var["nullable"] = pd.array(MASK, dtype="boolean")
    path = tmp_path / f"cells.{file}"
    getattr(adata, f"write_{file}")(path)
    back = anndata.read_h5ad(path) if file == "h5ad" else anndata.read_zarr(path)
    for key in ("mixed", "nullable", "chosen", "bit"):
        np.testing.assert_array_equal(chosen_genes(back, key, "gene_subset"), MASK)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [0, 1, 2, 3, 4, 5],
            r"booleans, or 0 and 1, in `x`, found the type int64 with \[2, 3, 4, ... \(4 in all\)\]. Do this",
        ),
        ([0.5, 1.0], r"float64 with \[0.5\]"),
        (["True", "maybe"], r"with \['maybe'\]"),
        ([[1], [0]], "found the type object"),
        ([True, None], "found 1 missing values. Fill them, as by `.fillna"),
        ([1.0, np.nan, np.nan], "found 2 missing values"),
        (pd.array([True, None], dtype="boolean"), "found 1 missing"),
        (pd.Categorical(["True", None]), "found 1 missing"),
    ],
)
def test_no_masks(values, message):
    with pytest.raises(ValueError, match=message):
        read_mask(pd.Series(values), "x", "Do this.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (np.float32(3), "3"),
        ("3", "3"),
        (b"3", "3"),
        (np.str_("a"), "a"),
        (0.5, "0.5"),
        (True, "True"),
    ],
)
def test_texts(value, text):
    assert text_of(value) == text


# Names.


@pytest.mark.parametrize(
    "names",
    [
        pd.Index(["3", "7", "9"]),
        pd.Index([3, 7, 9]),
        pd.Index([3.0, 7.0, 9.0]),
        pd.Index([b"3", b"7", b"9"]),
        pd.Index(["3", 7, b"9"], dtype=object),
        pd.Index(["3", "7", "9"], dtype="string"),
        pd.CategoricalIndex(["3", "7", "9"]),
    ],
)
@pytest.mark.parametrize("wanted", [["9", "3"], [9, 3], [b"9", "3"], np.array(["9", "3"]), [9.0, 3]])
def test_names_of_any_type(names, wanted):
    np.testing.assert_array_equal(places_of(names, wanted, "adata.var_names", "genes"), [2, 0])
    assert one_name(names, wanted[1], "adata.var_names", "genes") == 0


def test_value_before_text():
    names = pd.Index([1, "1", "2"], dtype=object)
    assert one_name(names, 1, "adata.obs_names", "x") == 0
    assert one_name(names, "1", "adata.obs_names", "x") == 1
    with pytest.raises(ValueError, match=r"`x` once in `adata.obs_names`, found \[b'1'\] several times.*make_unique"):
        one_name(names, b"1", "adata.obs_names", "x")


def test_names_that_are_not_there():
    names = pd.Index(["a", None, "b", "b", np.nan], dtype=object)
    assert one_name(names, "a", "adata.obs_names", "x") == 0
    for missing in (None, np.nan, "None", "nan", "c", ("a",)):
        with pytest.raises(KeyError, match=r"names of cells as `x`, found .* not in `adata.obs_names`, which are like"):
            one_name(names, missing, "adata.obs_names", "x")
    with pytest.raises(ValueError, match=r"found \['b'\] several"):
        places_of(names, ["a", "b"], "adata.obs_names", "x")


def test_a_name_that_may_be_absent():
    names = pd.Index(["a", 5, "b", "b"], dtype=object)
    found = [find_name(names, name, "adata.var_names", "color") for name in ("a", "5", 5, "c", None)]
    assert found == [0, 1, 1, None, None]
    with pytest.raises(ValueError, match=r"`color` once in `adata.var_names`, found \['b'\] several times"):
        find_name(names, "b", "adata.var_names", "color")


def test_names_twice(adata):
    adata.obs_names = ["twin", "twin", *adata.obs_names[2:]]
    adata.var_names = ["twin", "twin", *adata.var_names[2:]]
    for chosen in ("twin", ["cell_3", "twin"]):
        with pytest.raises(ValueError, match=r"found \['twin'\] several times.*`adata.obs_names_make_unique\(\)`"):
            chosen_cells(adata, chosen, "cells")
    for chosen in ("twin", ["gene_3", "twin"]):
        with pytest.raises(ValueError, match=r"found \['twin'\] several times.*`adata.var_names_make_unique\(\)`"):
            chosen_genes(adata, chosen, "var_names")
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, ["cell_5", "cell_3", "cell_5"], "x")), [3, 5])
    with pytest.raises(ValueError, match="or several of one name"):
        chosen_cells(adata, pd.Series(MASK, index=adata.obs_names[::-1]), "cells")


@pytest.mark.filterwarnings("ignore")  # AnnData warns of such names
@pytest.mark.parametrize("names", [[10, 11, 12, 13, 14, 15], [b"10", b"11", b"12", b"13", b"14", b"15"]])
def test_cells_whose_names_are_no_text(names, adata):
    adata.obs_names = pd.Index(names)
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, "12", "cells")), [2])
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, ["12", "15"], "cells")), [2, 5])
    np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, [2, 5], "cells")), [2, 5])  # numbers are indices


def test_column_twice(adata):
    adata.obs = pd.concat([adata.obs, adata.obs[["clusters", "time"]]], axis=1)
    message = r"one column `adata.obs\['clusters'\]`, found 2 of that name.*duplicated\(\)"
    with pytest.raises(ValueError, match=message):
        require_key(adata.obs, "clusters", "adata.obs", "")
    with pytest.raises(ValueError, match=message):
        read_clusters(adata, "clusters")
    with pytest.raises(ValueError, match=message):
        chosen_cells(adata, {"clusters": "a"}, "cells")
    with pytest.raises(ValueError, match=r"`adata.obs\['time'\]`, found 2"):
        chosen_cells(adata, {"time": [0, 1]}, "cells")


# Genes.


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("gene_2", [2]),
        (["gene_4", "gene_1"], [1, 4]),
        ({"gene_4", "gene_1"}, [1, 4]),
        (pd.Index(["gene_4"]), [4]),
        (pd.Series(["gene_4", "gene_1"]), [1, 4]),
        (pd.Categorical(["gene_4", "gene_1"]), [1, 4]),
        (np.array([b"gene_4"]), [4]),
    ],
)
def test_chosen_genes(adata, chosen, expected):
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, chosen, "gene_subset")), expected)


def test_genes_named_by_numbers():
    """Zeros and ones are a mask, unless they are as texts the names of genes."""
    adata = anndata.AnnData(np.zeros((3, 4), dtype=np.float32))
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, [1, 0, 1, 1], "g")), [0, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, ["1", "0", "1", "1"], "g")), [0, 1])
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, [3, 2], "g")), [2, 3])


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ("absent", KeyError, r"`adata.var\['absent'\]`, found the keys \['chosen', 'bit'\]"),
        (["gene_1", "absent"], KeyError, r"`g`, found \['absent'\] not in `adata.var_names`"),
        (MASK[:-1], ValueError, r"mask of length 6 as `g`, found shape \(5,\)"),
        (np.array([MASK]), ValueError, r"found shape \(1, 6\)"),
        ([*MASK[:-1], None], ValueError, "`g`, found 1 missing"),
        ([False] * N, ValueError, r"`g` to choose some of the 6 genes, found none.*\['gene_0'"),
        ([], ValueError, "found none"),
        (3, TypeError, "`g`, found `3`"),
        (None, TypeError, "`g`, found `None`"),
        ([0.5, 1.5], TypeError, "`g` to be names or a mask of genes, found float64 values"),
        (pd.Series(MASK, index=list("abcdef")), ValueError, r"index of `g` to be the 6 names \['gene_0'.*to_numpy"),
    ],
)
def test_genes_that_are_not_there(adata, chosen, error, message):
    with pytest.raises(error, match=message):
        chosen_genes(adata, chosen, "g")


def test_gene_and_column(adata):
    adata.var["gene_1"] = MASK
    with pytest.raises(ValueError, match="'gene_1' is both"):
        chosen_genes(adata, "gene_1", "g")
    np.testing.assert_array_equal(np.flatnonzero(chosen_genes(adata, ["gene_1"], "g")), [1])


# Cells.


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"clusters": "a"}, [0, 1]),
        ({"clusters": ["c", "a"]}, [0, 1, 5]),
        ({"leiden": 0}, [0, 1]),
        ({"leiden": "0"}, [0, 1]),
        ({"leiden": [0, 10]}, [0, 1, 5]),
        ({"leiden": np.int64(10)}, [5]),
        ({"leiden": 10.0}, [5]),
        ({"leiden": b"10"}, [5]),
        ({"number": 0}, [0, 1]),
        ({"number": "0"}, [0, 1]),
        ({"number": [2]}, [3, 4]),
        ({"number": [0, 1]}, [0, 1, 2]),
        ({"number": [1, 5]}, [2, 3, 4]),
        ({"number": {0, 10}}, [0, 1, 5]),
        ({"number": ["0", "10"]}, [0, 1, 5]),
        ({"number": [0, 2, 10]}, [0, 1, 3, 4, 5]),
        ({"number": np.array([10, 2, 0])}, [0, 1, 3, 4, 5]),
        ({"gaps": 0}, [0, 1]),
        ({"gaps": [0, 1]}, [0, 1, 2]),
        ({"gaps": [0, 2, 10]}, [0, 1, 4, 5]),
        ({"whole": 10}, [5]),
        ({"whole": "2"}, [4]),
        ({"time": [0.1, 0.4]}, [1, 2, 4]),
        ({"label": "y"}, [2, 3]),
        ({"flag": True}, [0, 2, 5]),
        ({"flag": "True"}, [0, 2, 5]),
        ({"flag": 0}, [1, 3, 4]),
        ({"flags": True}, [0, 2]),
        ({"flags": [False]}, [1, 3, 4]),
        ({"bit": 1}, [0, 2, 5]),
        ({"bit": True}, [0, 2, 5]),
        (np.array(3), [3]),
        (np.int64(3), [3]),
        (jnp.array([3, 4]), [3, 4]),
        ([0, 1, 1, 0, 1], [0, 1]),  # not as many as there are cells
        (pd.Series(MASK, index=[f"cell_{i}" for i in range(N)]).iloc[::-1], [0, 2, 5]),
        (pd.Series(MASK), [0, 2, 5]),
        (pd.Series(["cell_4"], index=["whatever"]), [4]),
    ],
)
def test_chosen_cells(adata, chosen, expected):
    with unchanged(adata):
        np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, chosen, "cells")), expected)


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"clusters": "empty"}, ValueError, r"in `cells`, found \['empty'\] \(\['empty'\] without cells\). There are"),
        ({"clusters": ["empty", "d"]}, ValueError, r"found \['empty', 'd'\] \(\['empty'\] without cells\)"),
        ({"clusters": None}, ValueError, r"found \[None\]"),
        ({"leiden": 3}, ValueError, r"found \[3\]. There are \['0', '1', '10', '2'\]"),
        ({"number": 3}, ValueError, r"found \[3\]. There are \[0, 1, 2, 10\]"),
        ({"number": "0.5"}, ValueError, "found"),
        ({"time": 0.1}, ValueError, "two limits .*, found 1"),
        ({"time": [0.1, 0.2, 0.3]}, ValueError, "two limits .*, found 3"),
        ({"time": "a"}, TypeError, "two numbers as limits"),
        ({"time": [0.11, 0.12]}, ValueError, "No cells indices"),
        ("clusters", KeyError, r"\['clusters'\] not in `adata.obs_names`"),
        ([*MASK[:-1], None], ValueError, "found 1 missing values"),
        ([0, 1, 0, 1, 0, 6], IndexError, "indices below 6, found 6"),
    ],
)
def test_cells_that_are_not_there(adata, chosen, error, message):
    with pytest.raises(error, match=message):
        chosen_cells(adata, chosen, "cells")


def test_absent_groups_are_left_out(adata, caplog):
    with caplog.at_level("WARNING", logger="jaxvelo"):
        found = chosen_cells(adata, {"clusters": ["a", "absent", "empty"]}, "start_ixs")
    np.testing.assert_array_equal(np.flatnonzero(found), [0, 1])
    assert "Leaving out ['absent', 'empty'] of `start_ixs`: no values of `adata.obs['clusters']`" in caplog.text
    assert "(['empty'] without cells)" in caplog.text


def test_limits_with_values_between(adata, caplog):
    """A pair on a column of whole numbers is a range, which is said where it is more than the pair."""
    with caplog.at_level("WARNING", logger="jaxvelo"):
        chosen_cells(adata, {"number": [1, 2]}, "cells")
        assert not caplog.text
        np.testing.assert_array_equal(np.flatnonzero(chosen_cells(adata, {"number": [0, 2]}, "cells")), [0, 1, 2, 3, 4])
    assert "Taking `[0, 2]` of `cells` as limits of `adata.obs['number']`" in caplog.text


# Groups.


def test_chosen_groups(adata):
    clusters = adata.obs["leiden"]
    assert chosen_groups(clusters, ["10", 0, "0"], "x", "groups") == ["10", "0"]
    assert chosen_groups(clusters, 10, "x", "groups") == ["10"]
    assert chosen_groups(adata.obs["number"], ["10", 0], "x", "groups") == [10, 0]
    mixed = pd.Series(pd.Categorical([1, "1", "a"], categories=[1, "1", "a"]))
    assert chosen_groups(mixed, ["1", 1], "x", "groups") == ["1", 1]
    with pytest.raises(ValueError, match=r"of `x` for each name in `groups`, found several that read \[b'1'\]"):
        chosen_groups(mixed, [b"1"], "x", "groups")


def test_one_cluster(adata):
    clusters = read_clusters(adata, "clusters")
    np.testing.assert_array_equal(np.flatnonzero(require_cluster(clusters, "a", "clusters")), [0, 1])
    np.testing.assert_array_equal(np.flatnonzero(require_cluster(adata.obs["leiden"], 10, "leiden")), [5])
    with pytest.raises(ValueError, match=r"found \['empty'\] \(\['empty'\] without cells\)"):
        require_cluster(clusters, "empty", "clusters")


@pytest.mark.parametrize("text", ["nan", "None", "<NA>", ""])
@pytest.mark.parametrize("kind", ["category", object])
def test_missing_values_written_as_text(adata, text, kind, caplog):
    adata.obs["label"] = pd.Series(["x", "x", text, "y", "y", text], index=adata.obs_names).astype(kind)
    assert list(read_clusters(adata, "label").cat.categories) == sorted(["x", "y", text])
    assert f"`adata.obs['label']` has a group named {text!r}" in caplog.text
    remedy = caplog.text[caplog.text.index("`adata.obs['label'] = ") + 1 :].split("`")[0]
    exec(remedy, {"adata": adata})
    caplog.clear()
    assert list(read_clusters(adata, "label").cat.categories) == ["x", "y"]
    assert not caplog.records


def test_names_of_clusters(adata):
    assert cluster_names(adata.obs["clusters"], "x") == ["a", "b", "c", "empty"]
    mixed = pd.Series(pd.Categorical([1, "1", "a"], categories=[1, "1", "a"]))
    with pytest.raises(ValueError, match=r"categories of `x` with different names, found several that read \['1'\]"):
        cluster_names(mixed, "x")


# Values of the cells with names of their own.


def test_tables_of_cells_and_cells(adata):
    names = adata.obs_names
    values = np.arange(N * N, dtype=float).reshape(N, N)
    named = pd.DataFrame(values, names, names)
    shuffled = named.sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=1)
    for form in (
        values,
        values.tolist(),
        jnp.array(values),
        named,
        shuffled,
        shuffled.astype("Int64"),
        pd.DataFrame(values),
    ):
        np.testing.assert_array_equal(square_in_order(form, names, "T"), values)
    sparse = sp.coo_array(values)
    assert square_in_order(sparse, names, "T") is sparse
    for form, error, message in (
        (named.iloc[1:], ValueError, r"`T` of shape \(6, 6\), cells by cells, found \(5, 6\)"),
        (named.rename(index={"cell_1": "cell_2"}), KeyError, r"\['cell_1'\] not in `T.index`"),
        (named.rename(columns={"cell_1": "x"}), KeyError, r"\['cell_1'\] not in `T.columns`"),
        (named.astype(str), TypeError, "matrix of numbers as `T`, found the type"),
        ("T_fwd", ValueError, r"`T` of shape \(6, 6\)"),
    ):
        with pytest.raises(error, match=message):
            square_in_order(form, names, "T")


def test_aligned(adata):
    names = adata.obs_names
    values = pd.Series(np.arange(N), index=names)
    np.testing.assert_array_equal(aligned(values, names, "w"), np.arange(N))
    np.testing.assert_array_equal(aligned(values.sample(frac=1, random_state=0), names, "w"), np.arange(N))
    np.testing.assert_array_equal(aligned(values.reset_index(drop=True), names, "w"), np.arange(N))
    np.testing.assert_array_equal(aligned(values[::-1], names[2:4], "w"), [2, 3])  # some cells chosen since
    twins = pd.Series(range(N), index=[*names[1:], names[1]])
    for other in (values.iloc[:-1], values.rename("a{}".format), pd.Series(range(N), index=range(1, N + 1)), twins):
        with pytest.raises(ValueError, match=r"index of `w` to be the 6 names \['cell_0', 'cell_1'\]"):
            aligned(other, names, "w")
