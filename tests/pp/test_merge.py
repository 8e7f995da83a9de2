"""Counts brought to processed data: the right ones to the right cells, or an error."""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxvelo as jv
from jaxvelo.pp._cell_matching import match_cells

pytestmark = pytest.mark.any_precision

GENES = [f"Gene{i}" for i in range(9)]


def barcodes(n, seed=0, length=16):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(n)]


def make_counts(cells, genes=GENES, seed=0, form=sp.csr_matrix, dtype=np.float32, **var):
    """Counts that differ from entry to entry, so that none is taken for another."""
    rng = np.random.default_rng(seed)
    values = rng.permutation(2 * len(cells) * len(genes)).reshape(2, len(cells), len(genes)).astype(dtype)
    layers = {name: form(x) for name, x in zip(("spliced", "unspliced"), values, strict=True)}
    return ad.AnnData(obs=pd.DataFrame(index=list(cells)), var=pd.DataFrame(var, index=list(genes)), layers=layers)


def make_processed(cells, genes=GENES, **var):
    rng = np.random.default_rng(1)
    n, g = len(cells), len(genes)
    adata = ad.AnnData(
        rng.random((n, g)).astype(np.float32),
        obs=pd.DataFrame({"leiden": pd.Categorical(rng.choice(["0", "1"], n))}, index=list(cells)),
        var=pd.DataFrame({"highly_variable": np.arange(g) % 2 == 0, **var}, index=list(genes)),
        obsm={"X_umap": rng.random((n, 2))},
        varm={"PCs": rng.random((g, 3))},
        layers={"scaled": rng.random((n, g))},
        uns={"leiden_colors": ["#ff0000", "#00ff00"]},
    )
    adata.obsp["connectivities"] = sp.csr_matrix(np.eye(n))
    adata.raw = adata.copy()
    return adata


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def assert_brought(adata, counts, cells, genes, names=("spliced", "unspliced")):
    """The layers are those of these cells and genes of the counts, in this order."""
    rows = [list(counts.obs_names).index(name) for name in cells]
    columns = [list(counts.var_names).index(name) for name in genes]
    for name in names:
        np.testing.assert_array_equal(dense(adata.layers[name]), dense(counts.layers[name])[np.ix_(rows, columns)])


@pytest.fixture
def log(caplog):
    caplog.set_level("INFO", logger="jaxvelo")
    return caplog


FORMS = {
    "Cell Ranger and velocyto": ("{}-1", "possorted_genome_bam_T851Q:{}x"),
    "sample in front": ("SAMPLE_{}", "s1:{}x"),
    "concatenated twice": ("{}-1-0", "{}-1"),
    "Seurat's merge": ("{}-1_2", "s2:{}x"),
    "R's names": ("s1_{}.1", "{}"),
    "ArchR": ("s1#{}-1", "s1:{}x"),
    "concatenated looms": ("{}-1", "s1:{}x-0"),
    "kb-python": ("{}-1", "{}"),
    "underscores": ("donor_1_day_3_{}-1", "donor-1-day-3:{}x"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [12, 16])
def test_barcodes_are_found_in_names(form, length):
    ours, theirs = FORMS[form]
    codes = barcodes(40, length=length)
    rng = np.random.default_rng(2)
    adata = make_processed([ours.format(code) for code in codes[:30]], GENES[1:])
    counts = make_counts([theirs.format(code) for code in rng.permutation(codes)], rng.permutation(GENES))
    before = adata.copy()
    assert jv.pp.merge(adata, counts) is None
    assert_brought(adata, counts, [theirs.format(code) for code in codes[:30]], GENES[1:])
    # All else is as it was.
    pd.testing.assert_frame_equal(adata.obs[before.obs.columns], before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    np.testing.assert_array_equal(adata.X, before.X)
    np.testing.assert_array_equal(adata.layers["scaled"], before.layers["scaled"])
    np.testing.assert_array_equal(adata.obsm["X_umap"], before.obsm["X_umap"])
    np.testing.assert_array_equal(adata.varm["PCs"], before.varm["PCs"])
    assert (adata.obsp["connectivities"] != before.obsp["connectivities"]).nnz == 0
    np.testing.assert_array_equal(adata.raw.X, before.raw.X)
    assert adata.uns["leiden_colors"] == before.uns["leiden_colors"]
    assert not adata.is_view


def test_names_without_barcodes():
    """Equal ones, and with velocyto's prefix and x, or a suffix that all have."""
    for ours, theirs in (
        ("cell_{}", "cell_{}"),
        ("cell_{}", "plate:cell_{}x"),
        ("cell{}-1", "s1:cell{}x"),
        ("a_AAAC{}-1", "b:AAAC{}x"),
    ):
        adata = make_processed([ours.format(i) for i in range(12)])
        counts = make_counts([theirs.format(i) for i in reversed(range(20))])
        jv.pp.merge(adata, counts)
        assert_brought(adata, counts, [theirs.format(i) for i in range(12)], GENES)
    # What tells cells apart is no suffix.
    with pytest.raises(ValueError, match="Expected cells of `adata` in `counts`, found none"):
        jv.pp.merge(make_processed([f"plate-{i}" for i in range(5)]), make_counts([f"well-{i}" for i in range(5)]))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_samples_match_as_they_were_named(data):
    """Cells of several samples, some with the same barcode, in any order and under other names of the samples."""
    n_samples = data.draw(st.integers(1, 4))
    pool = barcodes(60, seed=data.draw(st.integers(0, 5)))
    order = data.draw(st.permutations(range(n_samples)))
    ours, theirs, partner = [], [], {}
    for sample in range(n_samples):
        chosen = data.draw(st.lists(st.sampled_from(pool), min_size=25, max_size=40, unique=True))
        kept = chosen[: data.draw(st.integers(5, len(chosen)))]
        theirs += [f"bam_{'QRST'[order[sample]]}:{code}x" for code in chosen]
        ours += [f"{code}-{sample + 1}" for code in kept]
        partner |= {f"{code}-{sample + 1}": f"bam_{'QRST'[order[sample]]}:{code}x" for code in kept}
    ours = data.draw(st.permutations(ours))
    theirs = data.draw(st.permutations(theirs))
    given_samples = {str(sample + 1): f"bam_{'QRST'[order[sample]]}" for sample in range(n_samples)}
    if n_samples == 1:
        given_samples = {"": "bam_Q"}
    if data.draw(st.booleans()):
        found = match_cells(pd.Index(ours), pd.Index(theirs), given_samples)
    else:  # they are found by their barcodes, or it is an error
        try:
            found = match_cells(pd.Index(ours), pd.Index(theirs))
        except ValueError:
            return
    for a, b in zip(found.ours, found.theirs, strict=True):
        assert partner[ours[a]] == theirs[b]
    assert len(found.ours) == len(ours)
    assert list(found.ours) == sorted(found.ours)


def two_samples(n=30, n_shared=4):
    """Barcodes of two samples that have some in common, as happens by chance."""
    codes = barcodes(2 * n - n_shared)
    return codes[:n], codes[n - n_shared :]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (("{}-1", "{}-2"), ("bam_Q:{}x", "bam_R:{}x")),
        (("{}-1_1", "{}-1_2"), ("bam_R:{}x", "bam_Q:{}x")),
        (("{}-1-0", "{}-1-1"), ("{}-1-1", "{}-1-0")),  # the same names in another order
        (("a_{}", "b_{}"), ("b:{}x", "a:{}x")),
    ],
)
def test_samples_are_told_by_their_barcodes(ours, theirs, log):
    first, second = two_samples()
    if ours[0] == "a_{}":
        theirs = theirs[::-1]  # which have the same names
    adata = make_processed([ours[0].format(c) for c in first] + [ours[1].format(c) for c in second])
    expected = [theirs[0].format(c) for c in first] + [theirs[1].format(c) for c in second]
    counts = make_counts(np.random.default_rng(0).permutation(expected))
    jv.pp.merge(adata, counts)
    assert adata.n_obs == 60
    assert_brought(adata, counts, expected, GENES)
    assert "Samples: " in log.text


def test_a_sample_without_counts_gets_none_of_another(log):
    """Barcodes that two samples share by chance are not taken for the same cell."""
    first, second = two_samples()
    adata = make_processed([f"{c}-1" for c in first] + [f"{c}-2" for c in second])
    counts = make_counts([f"bam_Q:{c}x" for c in first])
    jv.pp.merge(adata, counts)
    assert list(adata.obs_names) == [f"{c}-1" for c in first]
    assert_brought(adata, counts, counts.obs_names, GENES)
    assert "Leaving out 30 cells" in log.text


@pytest.mark.filterwarnings("ignore:(Variable|Observation) names are not unique")
def test_ambiguous_cells_are_an_error_that_says_what_to_do():
    codes = barcodes(20)
    both = [f"{sample}:{c}x" for sample in ("s1", "s2") for c in codes]
    before = make_processed([f"{c}-{i}" for i in (1, 2) for c in codes])
    # Each barcode in each sample: only the user knows.
    adata = before.copy()
    message = r"found 40 cells with several: '\w+-1' of `adata` could be any of \['s1:\w+x', 's2:\w+x'\].*"
    with pytest.raises(ValueError, match=message + r"`samples=\{'1': 's1'\}`"):
        jv.pp.merge(adata, make_counts(both))
    assert "spliced" not in adata.layers
    counts = make_counts(both)
    jv.pp.merge(adata, counts, samples={"1": "s2", "2": "s1"})
    assert_brought(adata, counts, both[20:] + both[:20], GENES)

    # No sample in the names of adata, and one barcode in both samples.
    one = make_counts([f"s1:{c}x" for c in codes] + [f"s2:{codes[3]}x"])
    with pytest.raises(ValueError, match=r"found 1 cells with several.*`adata\.obs_names = adata\.obs\['sample'\]"):
        jv.pp.merge(make_processed(codes), one)
    adata = make_processed(codes)
    jv.pp.merge(adata, one, samples={"": "s1"})
    assert_brought(adata, one, [f"s1:{c}x" for c in codes], GENES)

    # Two cells of adata and one of the counts.
    with pytest.raises(ValueError, match=r"the cells \['\w+-1', '\w+-2'\] of `adata` could all be"):
        jv.pp.merge(before.copy(), make_counts(codes))

    # Names that are not unique.
    twice = make_counts([*codes, codes[0]])
    with pytest.raises(ValueError, match=r"The names of `counts` are not unique"):
        jv.pp.merge(make_processed(codes), twice)
    with pytest.raises(ValueError, match=r"The names of `adata` are not unique"):
        jv.pp.merge(make_processed([*codes, codes[0]]), make_counts(codes))
    # The rest of the names does not matter.
    adata = make_processed(codes[1:])
    jv.pp.merge(adata, twice)
    assert_brought(adata, twice, codes[1:], GENES)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"9": "s1"}, r"Expected samples of `adata` in `samples`, found \['9'\]. .* have \['1', '2'\]"),
        ({"1": "s9"}, r"Expected samples of `counts` in `samples`, found \['s9'\]. .* have \['s1', 's2'\]"),
        ({"1": "s1", "2": "s1"}, r"to stand once in `samples`"),
    ],
)
def test_samples_that_are_not_there(samples, message):
    codes = barcodes(5)
    adata, counts = (
        make([form.format(c) for form in forms for c in codes])
        for make, forms in ((make_processed, ("{}-1", "{}-2")), (make_counts, ("s1:{}x", "s2:{}x")))
    )
    with pytest.raises(ValueError, match=message):
        jv.pp.merge(adata, counts, samples=samples)


def test_cells_and_genes_without_counts_are_left_out_and_said(log):
    codes = barcodes(30)
    adata = make_processed([f"{c}-1" for c in codes], [*GENES, "Other1", "Other2"])
    before = adata.copy()
    counts = make_counts([f"s:{c}x" for c in codes[5:]] + [f"s:{c}x" for c in barcodes(7, seed=9)], [*GENES, "More"])
    jv.pp.merge(adata, counts)
    assert list(adata.obs_names) == list(before.obs_names[5:])
    assert list(adata.var_names) == GENES
    assert_brought(adata, counts, counts.obs_names[:25], GENES)
    np.testing.assert_array_equal(adata.X, before.X[5:, :9])
    np.testing.assert_array_equal(adata.obsm["X_umap"], before.obsm["X_umap"][5:])
    np.testing.assert_array_equal(adata.varm["PCs"], before.varm["PCs"][:9])
    assert adata.raw.shape == (25, 11)
    assert re.search(r"Matched 25 of 30 cells \(as '\w+-1' to 's:\w+x'\) and 9 of 11 genes \(by names\)", log.text)
    assert "Leaving out 5 cells" in log.text
    assert "and 2 genes ['Other1', 'Other2']" in log.text
    assert "compute neighbours anew" in log.text
    assert "Not used: 7 cells and 1 genes of `counts`" in log.text
    assert not [record for record in log.records if record.levelname == "WARNING"]


def test_few_matches_are_a_warning_and_none_an_error(log):
    codes = barcodes(30)
    jv.pp.merge(make_processed([f"{c}-1" for c in codes]), make_counts([f"s:{c}x" for c in codes[:10]]))
    warned = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert len(warned) == 2
    assert "Leaving out 20 cells" in warned[0]
    assert re.search(r"The cells of `counts` are named like \['s:\w+x'", warned[1])
    with pytest.raises(ValueError, match=r"found none. The cells of `adata` are named like \['\w+-1', .* 's:\w+x'"):
        jv.pp.merge(make_processed([f"{c}-1" for c in codes[:5]]), make_counts([f"s:{c}x" for c in codes[5:]]))
    with pytest.raises(ValueError, match=r"named like \['ENSG1'\], those of `counts` like \['Gene0'"):
        jv.pp.merge(make_processed(codes, ["ENSG1"]), make_counts(codes))


IDS = [f"ENSMUSG{i:011d}" for i in range(9)]


@pytest.mark.parametrize(
    ("ours", "theirs", "by"),
    [
        ({"genes": GENES, "gene_ids": IDS}, {"genes": IDS}, "gene_ids and names"),
        ({"genes": IDS}, {"genes": GENES, "Accession": IDS}, "names and Accession"),
        ({"genes": IDS}, {"genes": [f"{i}.{n}" for n, i in enumerate(IDS)]}, "names"),
        ({"genes": [f"{i}.1" for i in IDS]}, {"genes": GENES, "Accession": [f"{i}.2" for i in IDS]}, "names and Acc"),
        ({"genes": IDS, "gene_symbols": GENES}, {"genes": GENES}, "gene_symbols and names"),
        ({"genes": GENES, "gene_ids": IDS}, {"genes": GENES, "Accession": IDS}, "names"),
    ],
)
def test_genes_match_by_names_or_identifiers(ours, theirs, by, log):
    codes = barcodes(6)
    adata = make_processed(codes, **ours)
    counts = make_counts(codes, **theirs)
    order = np.random.default_rng(3).permutation(9)
    jv.pp.merge(adata, counts[:, order].copy())
    assert list(adata.var_names) == ours["genes"]
    assert_brought(adata, counts, codes, counts.var_names)
    assert f"9 of 9 genes (by {by}" in log.text


@pytest.mark.filterwarnings("ignore:(Variable|Observation) names are not unique")
def test_gene_names_that_are_not_unique(log):
    """They match none, as it is not known which; identifiers tell them apart."""
    codes = barcodes(6)
    genes = ["Pisd", *GENES[1:8], "Pisd"]
    adata = make_processed(codes, ["Pisd", *GENES[1:8], "Pisd-1"])
    counts = make_counts(codes, genes)
    jv.pp.merge(adata, counts)
    assert list(adata.var_names) == GENES[1:8]
    assert_brought(adata, counts, codes, GENES[1:8])
    assert "1 genes whose names are not unique, as ['Pisd']" in log.text

    adata = make_processed(codes, ["Pisd", *GENES[1:8], "Pisd-1"], gene_ids=IDS)
    counts = make_counts(codes, genes[::-1], Accession=IDS[::-1])
    jv.pp.merge(adata, counts)
    for name in ("spliced", "unspliced"):
        np.testing.assert_array_equal(dense(adata.layers[name]), dense(counts.layers[name])[:, ::-1])


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_layers_keep_their_type(form, dtype):
    codes = barcodes(20)
    counts = make_counts(codes[::-1], form=form, dtype=dtype)
    expected = {name: dense(layer).copy() for name, layer in counts.layers.items() if name}
    adata = make_processed(codes[:15], GENES[::2])
    jv.pp.merge(adata, counts)
    assert_brought(adata, counts, codes[:15], GENES[::2])
    for name, before in expected.items():
        layer = adata.layers[name]
        assert (type(layer), layer.dtype) == (type(form(before)), dtype)
        if sp.issparse(layer):
            assert layer.has_sorted_indices
        np.testing.assert_array_equal(dense(counts.layers[name]), before)
    # A matrix of its own: what is done to one does not reach the other.
    adata = make_processed(codes[::-1])
    jv.pp.merge(adata, counts)
    stored = [getattr(a.layers["spliced"], "data", a.layers["spliced"]) for a in (adata, counts)]
    if form is not np.asarray:
        assert not np.shares_memory(*stored)


def test_sizes_of_cells_are_those_over_all_genes():
    codes = barcodes(20)
    counts = make_counts(codes)
    adata = make_processed(codes[::-1], GENES[:2])
    jv.pp.merge(adata, counts)
    for name in ("spliced", "unspliced"):
        expected = dense(counts.layers[name]).sum(axis=1)[::-1]
        np.testing.assert_array_equal(adata.obs[f"initial_size_{name}"], expected)
    adata = make_processed(codes)
    adata.obs["initial_size_spliced"] = 7.0
    jv.pp.merge(adata, counts)
    assert (adata.obs["initial_size_spliced"] == 7).all()


def test_copy_and_views():
    codes = barcodes(20)
    counts = make_counts(codes[3:])
    parent = make_processed(codes)
    before = parent.copy()
    copied = jv.pp.merge(parent, counts, copy=True)
    assert copied.shape == (17, 9)
    assert_brought(copied, counts, codes[3:], GENES)
    whole = jv.pp.merge(parent[3:].copy(), counts, copy=True)
    assert_brought(whole, counts, codes[3:], GENES)
    view, view_of_counts = parent[5:], counts[:, GENES[:5]]
    jv.pp.merge(view, view_of_counts)
    assert not view.is_view
    assert view_of_counts.is_view
    assert view.shape == (15, 5)
    assert_brought(view, counts, codes[5:], GENES[:5])
    assert parent.shape == before.shape
    assert [name for name in parent.layers if name] == ["scaled"]
    np.testing.assert_array_equal(parent.X, before.X)


def test_counts_under_other_names_and_ambiguous_ones():
    codes = barcodes(8)
    counts = make_counts(codes)
    counts.layers["ambiguous"] = counts.layers["unspliced"] * 3
    expected = {name: counts.layers[name].toarray() for name in ("spliced", "unspliced", "ambiguous")}
    counts.layers["mature"], counts.layers["nascent"] = counts.layers.pop("spliced"), counts.layers.pop("unspliced")
    adata = make_processed(codes)
    jv.pp.merge(adata, counts)
    for name, layer in expected.items():
        np.testing.assert_array_equal(adata.layers[name].toarray(), layer)
    assert {"mature", "nascent"} <= set(counts.layers)
    del counts.layers["nascent"]
    with pytest.raises(KeyError, match=r"Expected the layers 'spliced' and 'unspliced' in `counts`"):
        jv.pp.merge(make_processed(codes), counts)


def test_counts_that_are_there_are_not_replaced():
    codes = barcodes(8)
    adata, counts = make_processed(codes), make_counts(codes)
    jv.pp.merge(adata, counts)
    jv.pp.merge(adata, counts)  # the same once more
    adata.layers["spliced"] = adata.layers["spliced"] * 2
    before = adata.copy()
    message = r"Expected no `adata.layers\['spliced'\]`, or one equal .* found one with 7\d other values. .* `del adata"
    with pytest.raises(ValueError, match=message):
        jv.pp.merge(adata, counts)
    assert (adata.layers["spliced"] != before.layers["spliced"]).nnz == 0
    del adata.layers["spliced"]
    jv.pp.merge(adata, counts)
    assert_brought(adata, counts, codes, GENES)


def test_what_is_no_data(tmp_path):
    codes = barcodes(4)
    with pytest.raises(TypeError, match=r"Expected `counts` to be an AnnData object, found `PosixPath`"):
        jv.pp.merge(make_processed(codes), tmp_path)
    make_processed(codes).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="found it backed"):
        jv.pp.merge(ad.read_h5ad(tmp_path / "a.h5ad", backed="r"), make_counts(codes))
    # Counts may be backed.
    counts = make_counts(codes)
    counts.write_h5ad(tmp_path / "counts.h5ad")
    adata = make_processed(codes)
    backed = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    jv.pp.merge(adata, backed)
    backed.file.close()
    assert_brought(adata, counts, codes, GENES)


def test_from_counts_to_velocity(log):
    """Merged data go the way of any other."""
    simulated = jv.datasets.simulate(n_cells=60, n_genes=20)
    codes = barcodes(60)
    counts = ad.AnnData(
        obs=pd.DataFrame(index=[f"s:{c}x" for c in codes]),
        var=simulated.var[[]],
        layers={name: simulated.layers[name] for name in ("spliced", "unspliced")},
    )
    adata = make_processed([f"{c}-1" for c in codes[::-1]], simulated.var_names)
    jv.pp.merge(adata, counts)
    jv.pp.moments(adata)
    jv.tl.velocity(adata, mode="deterministic")
    assert adata.layers["velocity"].shape == (60, 20)
