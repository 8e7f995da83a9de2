"""Counts in the forms that people have them in, stored sizes that do not fit, and scVelo's arguments."""

import inspect
import itertools
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.fixture
def counts():
    """Small counts, so that they fit into any type."""
    rng = np.random.default_rng(0)
    depth = rng.gamma(4.0, 0.3, (40, 1))
    s, u = (rng.poisson(depth * rng.gamma(1.0, 2.0, 30)).clip(max=100) for _ in range(2))
    s[:, 7] = u[:, 7] = 0
    u[3] = 0
    names = [f"g{i}" for i in range(30)]
    return ad.AnnData(s, layers={"spliced": s.copy(), "unspliced": u}, var=pd.DataFrame(index=names))


def with_duplicates(kind):
    """Each count as two halves and a stored zero, in no order."""

    def change(x):
        csr = sp.csr_matrix(x, dtype=np.float64)
        data, indices = np.repeat(csr.data / 2, 2), np.repeat(csr.indices, 2)
        data, indices = np.append(data, 0.0), np.append(indices, 0)
        indptr = 2 * csr.indptr
        indptr[-1] += 1
        for start, stop in itertools.pairwise(indptr):
            data[start:stop], indices[start:stop] = data[start:stop][::-1], indices[start:stop][::-1]
        return kind((data, indices, indptr), shape=csr.shape)

    return change


def read_only(x):
    x = x.astype(np.float32)
    x.flags.writeable = False
    return x


FORMS = {
    "half precision": lambda x: x.astype(np.float16),
    "long double": lambda x: x.astype(np.longdouble),
    "other byte order": lambda x: x.astype(">f4"),
    "int8": lambda x: x.astype(np.int8),
    "uint8, sparse": lambda x: sp.csr_matrix(x.astype(np.uint8)),
    "uint64": lambda x: x.astype(np.uint64),
    "columns first": lambda x: np.asfortranarray(x.astype(np.float32)),
    "strides": lambda x: np.repeat(x, 2, axis=1).astype(float)[:, ::2],
    "read only": read_only,
    "no mask": lambda x: np.ma.masked_array(x.astype(float), mask=False),
    "csc array": sp.csc_array,
    "csr array, int32": lambda x: sp.csr_array(x.astype(np.int32)),
    "duplicates": with_duplicates(sp.csr_matrix),
    "duplicates, array": with_duplicates(sp.csr_array),
}


@pytest.mark.parametrize("form", FORMS)
def test_counts_of_every_form_give_the_same(form):
    rng = np.random.default_rng(1)
    # As many genes as it takes that none is alone, or one of two, in its bin: these have equal dispersions.
    s, u = (rng.poisson(rng.gamma(4.0, 0.3, (40, 1)) * rng.gamma(1.0, 2.0, 500)).clip(max=100) for _ in range(2))
    counts = ad.AnnData(s, layers={"spliced": s.copy(), "unspliced": u})
    expected = jv.pp.filter_and_normalize(
        counts, min_shared_counts=20, n_top_genes=100, subset_highly_variable=False, copy=True
    )
    adata = ad.AnnData(
        FORMS[form](counts.X),
        layers={name: FORMS[form](counts.layers[name]) for name in ("spliced", "unspliced")},
        var=counts.var.copy(),
    )
    stored = {name: layer.copy() for name, layer in adata.layers.items() if name is not None}
    result = jv.pp.filter_and_normalize(
        adata, min_shared_counts=20, n_top_genes=100, subset_highly_variable=False, copy=True
    )
    assert list(result.var_names) == list(expected.var_names)
    for name in ("spliced", "unspliced"):
        np.testing.assert_allclose(dense(result.layers[name]), dense(expected.layers[name]), rtol=1e-6)
        assert result.layers[name].dtype in (np.float32, np.float64)
        assert sp.issparse(result.layers[name]) == sp.issparse(adata.layers[name])
        # The argument is as it was, to the last stored zero.
        before, after = stored[name], adata.layers[name]
        if sp.issparse(before):
            np.testing.assert_array_equal(after.indices, before.indices)
            np.testing.assert_array_equal(after.data, before.data)
        else:
            np.testing.assert_array_equal(after, before)
    np.testing.assert_allclose(dense(result.X), dense(expected.X), rtol=1e-6)
    np.testing.assert_array_equal(result.var["highly_variable"], expected.var["highly_variable"])
    np.testing.assert_allclose(result.obs["initial_size_spliced"], expected.obs["initial_size_spliced"])


def test_truth_values_count_as_one(counts):
    adata = ad.AnnData(counts.X > 0, layers={name: counts.layers[name] > 0 for name in ("spliced", "unspliced")})
    jv.pp.filter_and_normalize(adata)
    size = (counts.layers["spliced"] > 0).sum(axis=1)
    np.testing.assert_allclose(np.expm1(adata.X).sum(axis=1), np.median(size), rtol=1e-5)


def masked(x):
    return np.ma.masked_equal(x.astype(float), 0)


REFUSED = {
    "objects": (lambda x: x.astype(object), "the type object.*astype"),
    "text": (lambda x: x.astype(str), "the type <U.*astype"),
    "complex": (lambda x: x.astype(complex), "the type complex128"),
    "masked": (masked, r"\d+ that are masked.*filled\(0\)"),
}


@pytest.mark.parametrize("place", ["X", "spliced"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_are_no_counts_is_refused(counts, case, place):
    change, message = REFUSED[case]
    if place == "X":
        counts.X = change(counts.X)
    else:
        counts.layers[place] = change(counts.layers[place])
    where = "adata.X" if place == "X" else r"adata.layers\['spliced'\]"
    for function in (jv.pp.filter_genes, jv.pp.filter_and_normalize):
        with pytest.raises(ValueError, match=f"{where}.*{message}"):
            function(counts, min_counts=2)
    assert list(counts.obs) == []
    assert counts.n_vars == 30


def test_genes_of_lazy_arrays_are_filtered_as_those_in_memory(counts, tmp_path, monkeypatch):
    da = pytest.importorskip("dask.array", reason="only where dask is there")
    lazy = counts.copy()
    lazy.layers["spliced"] = da.from_array(lazy.layers["spliced"])
    monkeypatch.setattr(jv.settings, "layerdir", tmp_path)
    for adata in (counts, lazy):
        jv.pp.filter_genes(adata, min_shared_counts=20)
    assert 0 < counts.n_vars < 30
    assert list(lazy.var_names) == list(counts.var_names)
    np.testing.assert_array_equal(np.asarray(lazy.layers["spliced"]), np.asarray(counts.layers["spliced"]))


def test_something_else_than_anndata_is_refused(counts):
    with pytest.raises(TypeError, match=r"AnnData.*ndarray"):
        jv.pp.filter_and_normalize(counts.X)


def test_few_cells_and_genes_work(counts):
    for cells, genes in ((1, 30), (2, 5), (40, 1)):
        adata = counts[:cells, :genes].copy()
        jv.pp.filter_and_normalize(adata)
        assert adata.shape == (cells, genes)
        assert np.isfinite(adata.X).all()
    empty = ad.AnnData(np.zeros((4, 3)), layers={name: np.zeros((4, 3)) for name in ("spliced", "unspliced")})
    jv.pp.filter_and_normalize(empty)
    np.testing.assert_array_equal(empty.X, 0)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_names_that_are_not_unique(counts):
    counts.var_names = ["g1" if i in (4, 9) else name for i, name in enumerate(counts.var_names)]
    kept = jv.pp.filter_and_normalize(counts, n_top_genes=5, retain_genes="g1", copy=True)
    assert (kept.var_names == "g1").sum() == 3
    np.testing.assert_array_equal(kept.obs["initial_size_spliced"], counts.layers["spliced"].sum(axis=1))


@pytest.mark.parametrize("none", ["cells", "genes"])
def test_nothing_to_normalize(counts, none):
    empty = counts[:0].copy() if none == "cells" else counts[:, :0].copy()
    for function in (jv.pp.filter_and_normalize, jv.pp.filter_genes):
        with pytest.raises(ValueError, match=f"Expected cells and genes in `adata`.* 0 {none}"):
            function(empty)


@pytest.mark.parametrize("names", [["3", "8"], [3, 8], np.array([3, 8]), 3, pd.Index(["3"])])
def test_retained_names_are_read_as_text(counts, names):
    counts.var_names = [str(i) for i in range(counts.n_vars)]
    jv.pp.filter_genes(counts, min_counts=1e9, retain_genes=names)
    assert set(counts.var_names) == {str(name) for name in np.ravel(names)}


@pytest.mark.parametrize("names", [["g7", "nothing"], np.array(["g7", "nothing"]), {"g7", "nothing"}])
def test_retained_names_that_are_absent_are_left_out(counts, names, caplog):
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(counts, min_counts=30, n_top_genes=5, retain_genes=names)
    assert "g7" in counts.var_names
    assert caplog.text.count("Leaving out of `retain_genes` what is not in `adata.var_names`: ['nothing']") == 1
    with pytest.raises(KeyError, match=r"retain_genes.*nothing.*There are.*g2"):
        jv.pp.filter_genes(counts, retain_genes=["nothing"])


def smaller(sizes):
    return sizes - (np.arange(40) == 5)


MISFITS = {
    "less than there is": (smaller, "1 that are less than what the cells hold now"),
    "another matrix": (lambda sizes: sizes / 2, "40 that are less"),
    "missing": (lambda sizes: np.where(np.arange(40) < 3, np.nan, sizes), "3 that are missing or no numbers"),
    "zero": (lambda sizes: 0 * sizes, "40 that are less"),
    "text": (lambda sizes: ["many"] * 40, "40 that are missing or no numbers"),
    "not available": (lambda sizes: pd.array([None, *sizes[1:]], dtype="Int64"), "1 that are missing"),
    "infinite": (lambda sizes: np.where(np.arange(40) < 2, np.inf, sizes), "2 that are missing or no numbers"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_stored_sizes_that_cannot_be_those_of_the_counts_are_counted_anew(counts, case, caplog):
    change, message = MISFITS[case]
    expected = jv.pp.filter_and_normalize(counts, copy=True)
    for column, layer in (("initial_size", "spliced"), ("initial_size_spliced", "spliced")):
        counts.obs[column] = change(counts.layers[layer].sum(axis=1).astype(float))
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(counts)
    assert (
        f"Expected `adata.obs['initial_size_spliced']` to hold the sizes of the cells in spliced, found {message}"
        in (caplog.text)
    )
    for column in ("initial_size", "initial_size_spliced", "initial_size_unspliced"):
        np.testing.assert_array_equal(counts.obs[column], expected.obs[column])
    np.testing.assert_array_equal(counts.layers["spliced"], expected.layers["spliced"])
    np.testing.assert_array_equal(counts.X, expected.X)


def test_stored_sizes_that_fit_are_kept(counts, caplog):
    whole = jv.pp.filter_and_normalize(counts, copy=True)
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_genes(counts, min_counts=40)
        assert 3 < counts.n_vars < 25
        jv.pp.filter_genes(counts, min_cells_u=5)
        jv.pp.filter_and_normalize(counts)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    np.testing.assert_array_equal(counts.obs["initial_size_spliced"], whole.obs["initial_size_spliced"])
    np.testing.assert_allclose(counts.layers["spliced"], whole[:, counts.var_names].layers["spliced"], rtol=1e-6)


def test_sizes_are_stored_of_raw_counts_only(counts):
    jv.pp.filter_and_normalize(counts)
    for column in list(counts.obs):
        del counts.obs[column]
    jv.pp.filter_genes(counts, min_counts=10)
    assert list(counts.obs) == []


BOUNDS = {
    "max_counts": ({"max_counts": 60}, lambda s, u: s.sum(0) <= 60),
    "max_cells": ({"max_cells": 25}, lambda s, u: (s > 0).sum(0) <= 25),
    "max_counts_u": ({"max_counts_u": 50}, lambda s, u: u.sum(0) <= 50),
    "max_cells_u": ({"max_cells_u": 20}, lambda s, u: (u > 0).sum(0) <= 20),
    "between": ({"min_counts": 20, "max_counts": 100}, lambda s, u: (s.sum(0) >= 20) & (s.sum(0) <= 100)),
    "all": (
        {"min_cells": 5, "max_counts": 100, "min_counts_u": 5, "max_cells_u": 35},
        lambda s, u: ((s > 0).sum(0) >= 5) & (s.sum(0) <= 100) & (u.sum(0) >= 5) & ((u > 0).sum(0) <= 35),
    ),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_upper_bounds(counts, case, caplog):
    bounds, passes = BOUNDS[case]
    expected = passes(counts.layers["spliced"], counts.layers["unspliced"])
    assert 1 < expected.sum() < 30
    with caplog.at_level(logging.INFO):
        kept = jv.pp.filter_genes(counts, **bounds, copy=True)
    assert list(kept.var_names) == list(counts.var_names[expected])
    assert ("more than" in caplog.text) == any(name.startswith("max") for name in bounds)
    with_one_more = jv.pp.filter_genes(counts, **bounds, retain_genes=counts.var_names[~expected][0], copy=True)
    assert with_one_more.n_vars == expected.sum() + 1


def test_order_of_arguments_is_scvelos():
    names = list(inspect.signature(jv.pp.filter_genes).parameters)
    assert names[1:] == [
        *("min_counts", "min_cells", "max_counts", "max_cells"),
        *("min_counts_u", "min_cells_u", "max_counts_u", "max_cells_u"),
        *("min_shared_counts", "min_shared_cells", "retain_genes", "copy"),
    ]


@pytest.mark.parametrize("bound", ["20", np.nan, True, [3]])
def test_bounds_are_numbers(counts, bound):
    with pytest.raises(ValueError, match="Expected `min_counts` to be a number or None"):
        jv.pp.filter_genes(counts, min_counts=bound)
    with pytest.raises(ValueError, match="Expected `min_shared_counts` to be a number or None"):
        jv.pp.filter_and_normalize(counts, min_shared_counts=bound)


@pytest.mark.parametrize("target", [10, 1e4, np.linspace(5.0, 50.0, 40)])
@pytest.mark.parametrize("use_initial_size", [True, False])
def test_size_to_scale_to(counts, target, use_initial_size):
    before = counts.copy()
    jv.pp.filter_and_normalize(
        counts, min_counts=30, counts_per_cell_after=target, use_initial_size=use_initial_size, log=False
    )
    assert counts.n_vars < 30
    for name in ("spliced", "unspliced"):
        genes = slice(None) if use_initial_size else counts.var_names
        size = before[:, genes].layers[name].sum(axis=1)
        factor = np.where(size > 0, target / np.maximum(size, 1), 1.0)
        expected = before[:, counts.var_names].layers[name] * factor[:, None]
        np.testing.assert_allclose(counts.layers[name], expected, rtol=1e-6)
    np.testing.assert_array_equal(counts.X, counts.layers["spliced"])


@pytest.mark.parametrize("by_name", [True, False])
def test_sizes_of_ones_own(counts, by_name):
    factors = np.linspace(0.5, 2.0, 40)
    counts.obs["size_factors"] = factors
    before = counts.layers["unspliced"].astype(float)
    jv.pp.filter_and_normalize(
        counts, counts_per_cell="size_factors" if by_name else factors, counts_per_cell_after=1.0
    )
    np.testing.assert_allclose(counts.layers["unspliced"], before / factors[:, None], rtol=1e-6)
    np.testing.assert_array_equal(counts.obs["initial_size_unspliced"], before.sum(axis=1))


@pytest.mark.parametrize("form", ["shuffled", "of more cells", "text", "nullable", "categories"])
def test_sizes_in_other_forms(counts, form):
    """By name where they have names, and as numbers whatever the type."""
    factors = pd.Series(np.linspace(0.5, 2.0, 40), index=counts.obs_names)
    expected = jv.pp.filter_and_normalize(counts, counts_per_cell=factors.to_numpy(), copy=True)
    given = {
        "shuffled": factors.sample(frac=1, random_state=0),
        "of more cells": pd.concat([pd.Series({"another": 9.0}), factors]),
        "text": factors.astype(str),
        "nullable": factors.astype("Float64"),
        "categories": factors.astype("category"),
    }[form]
    if form in ("text", "nullable", "categories"):
        counts.obs["size_factors"] = given
        given = "size_factors"
    jv.pp.filter_and_normalize(counts, counts_per_cell=given)
    np.testing.assert_array_equal(counts.layers["spliced"], expected.layers["spliced"])


SIZES = {
    "other cells": (pd.Series(1.0, index=[f"x{i}" for i in range(40)]), "index of `counts_per_cell_after`"),
    "text": ("many", "counts_per_cell_after.*type <U"),
    "too few": (np.ones(3), r"counts_per_cell_after.*40 numbers.*\(3,\)"),
    "zero": (0, "positive and finite"),
    "negative": (-1.0, "positive and finite"),
    "missing": (np.full(40, np.nan), "positive and finite"),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_are_checked(counts, case):
    value, message = SIZES[case]
    with pytest.raises(ValueError, match=message):
        jv.pp.filter_and_normalize(counts, counts_per_cell_after=value)
    with pytest.raises(KeyError, match=r"adata.obs\['size_factors'\].*counts_per_cell"):
        jv.pp.filter_and_normalize(counts, counts_per_cell="size_factors")


def test_layers_that_are_absent_are_left_out(counts, caplog):
    expected = jv.pp.filter_and_normalize(counts, copy=True).layers["spliced"]
    u = counts.layers["unspliced"].copy()
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(counts, layers_normalize=["X", "spliced", "nothing"])
    assert "Leaving out of `layers_normalize` what is not in `adata.layers`: ['nothing']" in caplog.text
    np.testing.assert_array_equal(counts.layers["spliced"], expected)
    np.testing.assert_array_equal(counts.layers["unspliced"], u)


def test_all_layers(counts):
    counts.layers["fractions"] = counts.layers["spliced"] + 0.25
    jv.pp.filter_and_normalize(counts, layers_normalize="all", counts_per_cell_after=10)
    for name in ("spliced", "fractions"):
        np.testing.assert_allclose(counts.layers[name].sum(axis=1), 10, rtol=1e-6)


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.csr_matrix, np.asarray])
def test_genes_are_chosen_from_every_kind_of_matrix(kind, flavor):
    rng = np.random.default_rng(1)
    s = rng.poisson(rng.gamma(1.0, 2.0, 300), (40, 300))
    s[:, ::4] = 0  # more than a tenth of the genes without any counts
    counts = ad.AnnData(kind(s), layers={"spliced": s, "unspliced": s})
    jv.pp.filter_and_normalize(counts, n_top_genes=60, flavor=flavor)
    assert 60 <= counts.n_vars <= 63
    assert (counts.layers["spliced"].sum(axis=0) > 0).all()


def test_fewer_genes_than_asked_for_is_told(counts, caplog):
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(counts, n_top_genes=28, flavor="cell_ranger")
    assert 0 < counts.n_vars < 28
    assert f"Marked {counts.n_vars} highly variable genes, fewer than the 28 of `n_top_genes`" in caplog.text
