"""What matrices hold, by the kinds of files that there are: corrected, shared out, normalised, logarithmised counts."""

import logging

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.annotated.counts import cell_sizes, readable, scale_cells, to_size
from jaxvelo.pp._state_of_counts import state_of, together

pytestmark = pytest.mark.any_precision


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def whole(counts, rng):
    return counts


def shared_out(counts, rng):
    """As alevin's expected counts: a part of the molecules is shared out among genes."""
    some = rng.random(counts.nnz) < 0.15
    counts.data[some] *= rng.uniform(0.3, 1, some.sum())
    return counts


def from_soup(counts, rng):
    """As SoupX subtracts: a tenth of each cell's molecules, in the proportions of all cells together."""
    sizes, soup = cell_sizes(counts), np.ravel(counts.sum(axis=0)) / counts.sum()
    rows = np.repeat(np.arange(len(sizes)), np.diff(counts.indptr))
    counts.data = np.maximum(counts.data - 0.1 * sizes[rows] * soup[counts.indices], 0)
    counts.eliminate_zeros()
    return counts


def decontaminated(counts, rng):
    """As decontX multiplies: each count by the probability that it is the cell's own."""
    counts.data *= rng.uniform(0.6, 1, counts.nnz)
    return counts


def times_a_constant(counts, rng):
    return counts * 0.9


ORIGINS = [whole, shared_out, from_soup, decontaminated, times_a_constant]


def normalized(counts, target=None):
    return scale_cells(counts, to_size(cell_sizes(counts), target))


@pytest.fixture(scope="module")
def simulated():
    """Cells of different depths, sparse, with many genes."""
    adata = jv.datasets.simulate(300, 400, depth_spread=0.5, seed=1)
    return {name: sp.csr_matrix(adata.layers[name].astype(np.float64)) for name in ("spliced", "unspliced")}


def made(simulated, origin, seed=0):
    rng = np.random.default_rng(seed)
    return {name: origin(counts.copy(), rng) for name, counts in simulated.items()}


def variable(counts, n):
    """Genes whose normalised counts vary most, compared with their mean."""
    x = normalized(counts).toarray()
    return np.sort(np.argsort(-x.var(axis=0) / np.maximum(x.mean(axis=0), 1e-9))[:n])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", ["spliced", "unspliced"])
@pytest.mark.parametrize("origin", ORIGINS)
def test_raw_counts_are_told_from_processed_ones(simulated, origin, layer, dtype):
    counts = made(simulated, origin)[layer]
    sizes = cell_sizes(counts)
    chosen = variable(counts, 150)
    for target in (None, 1e4, 1.0):
        after = normalized(counts, target)
        assert state_of(after.astype(dtype)).kind == "normalized"
        # Without the other genes, sizes are no longer equal.
        assert np.std(cell_sizes(after[:, chosen])) > 0.1 * np.mean(cell_sizes(after[:, chosen]))
        assert state_of(after[:, chosen].astype(dtype), sizes).kind == "normalized"
        assert state_of(after[:, chosen].astype(dtype)).kind != "raw"
    assert state_of(normalized(counts, 1e4).log1p().astype(dtype)).kind == "logarithmized"
    for genes in (slice(None), chosen):
        assert state_of(counts[:, genes].astype(dtype)).kind == "raw"
        assert state_of(counts[:, genes].astype(dtype), sizes).kind == "raw"
        assert state_of(counts[:, genes].toarray().astype(dtype)).kind == "raw"
    if origin is whole:
        assert state_of(normalized(counts)[:, chosen].astype(dtype)) == (
            "normalized",
            "each cell holds multiples of a number of its own",
            True,
        )
        assert state_of(normalized(counts, 1e4)[:, chosen].log1p().astype(dtype)).kind == "logarithmized"
        assert state_of(counts.log1p().astype(dtype)).kind == "logarithmized"


@pytest.mark.parametrize("origin", ORIGINS)
def test_real_raw_counts_are_told_from_processed_ones(shared, origin):
    adata = ad.read_h5ad(shared / "data/pancreas_3696.h5ad")[::6]
    layers = {name: sp.csr_matrix(adata.layers[name], dtype=np.float64) for name in ("spliced", "unspliced")}
    for counts in made(layers, origin).values():
        sizes, chosen = cell_sizes(counts), variable(counts, 400)
        assert state_of(counts.astype(np.float32)).kind == "raw"
        assert state_of(counts[:, chosen].astype(np.float32)).kind == "raw"
        assert state_of(normalized(counts, 1e4).astype(np.float32)).kind == "normalized"
        assert state_of(normalized(counts)[:, chosen].astype(np.float32)).kind == "normalized"
        assert state_of(normalized(counts)[:, chosen].astype(np.float32), sizes).kind == "normalized"
        assert state_of(normalized(counts, 1e4).log1p().astype(np.float32)).kind == "logarithmized"


def test_small_or_empty_matrices_do_not_tell():
    rng = np.random.default_rng(0)
    assert state_of(np.zeros((4, 3))).kind == "unknown"
    assert state_of(sp.csr_matrix((4, 3))).kind == "unknown"
    assert state_of(rng.uniform(0.1, 3, (4, 3))).kind == "unknown"
    assert state_of(rng.gamma(2.0, 1.0, (50, 20))).kind == "unknown"  # no molecule to be seen
    assert state_of(np.array([[-1.0, 2.0]])).kind == "scaled"
    assert state_of(np.array([[0.2, 0.3, 0.5]])).kind == "normalized"  # one cell: nothing to be done
    assert state_of(np.eye(3)).kind == "raw"
    assert state_of(np.array([[0, 3], [2, 0]], dtype=np.uint8)).kind == "raw"
    assert state_of(np.array([[0.0, 2.9999999], [2.00001, 0.0]])).kind == "raw"  # an error of rounding


@pytest.mark.parametrize("sizes", [np.full(300, np.nan), np.zeros(300), np.full(300, 1e4)])
def test_stored_sizes_that_say_nothing_do_no_harm(simulated, sizes):
    counts = made(simulated, decontaminated)["spliced"]
    assert state_of(counts, sizes).kind == "raw"
    assert state_of(normalized(counts)[:, variable(counts, 150)], sizes).kind != "raw"


def test_layers_are_decided_together(simulated):
    raw, corrected = simulated["unspliced"], made(simulated, from_soup)["spliced"]
    states = {"spliced": state_of(corrected), "unspliced": state_of(raw)}
    assert {state.kind for state in together(states).values()} == {"raw"}
    # A layer that does not tell goes with the one that does.
    states = {"spliced": state_of(corrected[:5, :3]), "unspliced": state_of(raw)}
    assert states["spliced"].kind == "unknown"
    assert together(states)["spliced"] == ("raw", "as unspliced", True)
    states["unspliced"] = state_of(normalized(raw))
    assert together(states)["spliced"].kind == "normalized"
    states = {"spliced": state_of(normalized(raw)), "unspliced": state_of(raw)}
    assert together(states) == states


def put(simulated, spliced=None, unspliced=None, x=None):
    """Data with these layers; X is the spliced one, unless told."""
    spliced = simulated["spliced"] if spliced is None else spliced
    unspliced = simulated["unspliced"] if unspliced is None else unspliced
    return ad.AnnData(
        (spliced if x is None else x).astype(np.float32),
        layers={"spliced": spliced.astype(np.float32), "unspliced": unspliced.astype(np.float32)},
    )


def is_scaled(after, before):
    """Whether all cells were brought to the median size."""
    size = cell_sizes(before)
    np.testing.assert_allclose(dense(after), dense(before) * (np.median(size) / size)[:, None], rtol=1e-5, atol=1e-6)
    return True


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("both", [True, False])
def test_corrected_counts_are_normalized_with_the_others(simulated, origin, both, caplog):
    spliced = made(simulated, origin)["spliced"]
    unspliced = made(simulated, origin)["unspliced"] if both else simulated["unspliced"]
    adata = put(simulated, spliced, unspliced)
    with caplog.at_level(logging.INFO):
        jv.pp.filter_and_normalize(adata)
    assert is_scaled(adata.layers["spliced"], spliced)
    assert is_scaled(adata.layers["unspliced"], unspliced)
    assert is_scaled(np.expm1(dense(adata.X)), spliced)
    assert "for raw counts" in caplog.text
    # Nothing more happens where that is done, even if genes are left out then, and the sizes are forgotten.
    adata = adata[:, variable(spliced, 200)].copy()
    for key in list(adata.obs):
        if key != "n_counts" and origin in (whole, times_a_constant):
            del adata.obs[key]
    before = {"X": dense(adata.X), **{name: dense(layer) for name, layer in adata.layers.items()}}
    jv.pp.filter_and_normalize(adata)
    for name, values in before.items():
        np.testing.assert_array_equal(dense(adata.X if name == "X" else adata.layers[name]), values)


@pytest.mark.parametrize("spliced_is_raw", [True, False])
def test_a_mixture_is_told_and_brought_to_one_state(simulated, spliced_is_raw, caplog):
    raw = simulated
    done = {name: normalized(counts) for name, counts in raw.items()}
    adata = put(raw, *((raw["spliced"], done["unspliced"]) if spliced_is_raw else (done["spliced"], raw["unspliced"])))
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(adata)
    assert "in several states" in caplog.text
    assert "`enforce=" in caplog.text
    assert "--normalize" in caplog.text
    for name in raw:
        np.testing.assert_allclose(dense(adata.layers[name]), dense(done[name]), rtol=1e-5)


def test_logarithms_beside_raw_counts_are_refused(simulated):
    adata = put(simulated, spliced=normalized(simulated["spliced"], 1e4).log1p())
    before = adata.copy()
    with pytest.raises(ValueError, match=r"one scale.*spliced logarithmized.*unspliced raw.*enforce=.*--normalize"):
        jv.pp.filter_and_normalize(adata)
    assert list(adata.obs) == list(before.obs)
    np.testing.assert_array_equal(dense(adata.layers["unspliced"]), dense(before.layers["unspliced"]))


@pytest.mark.parametrize("origin", [whole, decontaminated])
def test_x_may_be_processed_where_layers_are_raw(simulated, origin, caplog):
    layers = made(simulated, origin)
    logarithms = normalized(layers["spliced"], 1e4).log1p()
    adata = put(simulated, *layers.values(), x=logarithms)
    with caplog.at_level(logging.INFO):
        jv.pp.filter_and_normalize(adata, n_top_genes=100, subset_highly_variable=False)
    assert "Took X for logarithmized" in caplog.text
    np.testing.assert_array_equal(dense(adata.X), dense(logarithms.astype(np.float32)))
    assert is_scaled(adata.layers["spliced"], layers["spliced"])
    assert "initial_size" not in adata.obs  # nor a number of counts: X holds none
    assert "n_counts" not in adata.obs
    assert "initial_size_spliced" in adata.obs

    # Normalised, but no logarithm yet.
    adata = put(simulated, *layers.values(), x=normalized(layers["spliced"], 1e4))
    jv.pp.filter_and_normalize(adata)
    np.testing.assert_allclose(dense(adata.X), dense(logarithms), rtol=1e-5)
    assert is_scaled(adata.layers["unspliced"], layers["unspliced"])


def test_scaled_x_stays_and_genes_are_chosen_by_spliced_counts(simulated, caplog):
    x = normalized(simulated["spliced"], 1e4).log1p().toarray()
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-3)
    expected = put(simulated)
    jv.pp.filter_and_normalize(expected, n_top_genes=50, subset_highly_variable=False)
    for enforce in (None, True):
        adata = put(simulated, x=x)
        with caplog.at_level(logging.WARNING):
            jv.pp.filter_and_normalize(adata, n_top_genes=50, subset_highly_variable=False, enforce=enforce)
        assert "Left X as it is, as it is scaled: some values are negative" in caplog.text
        caplog.clear()
        np.testing.assert_array_equal(adata.X, x.astype(np.float32))
        assert is_scaled(adata.layers["spliced"], simulated["spliced"])
        np.testing.assert_array_equal(adata.var["highly_variable"], expected.var["highly_variable"])


def test_what_uns_says_of_x_is_checked(simulated, caplog):
    adata = put(simulated)
    adata.uns["log1p"] = {"base": None}
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(adata)
    assert "Found `adata.uns['log1p']`, as if X were logarithmized, but it is not: whole numbers" in caplog.text
    assert is_scaled(np.expm1(dense(adata.X)), simulated["spliced"])

    # Where X does not tell, it is believed; and without it, nothing is logarithmised twice.
    x = np.log1p(np.random.default_rng(0).gamma(2.0, 1.0, simulated["spliced"].shape))
    for uns, said in (({"log1p": {}}, "as `adata.uns['log1p']` says"), ({}, "cannot tell")):
        adata = put(simulated, x=x)
        adata.uns.update(uns)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            jv.pp.filter_and_normalize(adata)
        assert said in caplog.text
        np.testing.assert_array_equal(adata.X, x.astype(np.float32))


def test_values_that_do_not_tell_stay_and_the_remedy_is_named(caplog):
    rng = np.random.default_rng(0)
    layers = {name: rng.gamma(2.0, 1.0, (50, 20)).astype(np.float32) for name in ("spliced", "unspliced")}
    adata = ad.AnnData(layers["spliced"].copy(), layers=dict(layers))
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(adata)
    assert "cannot tell" in caplog.text
    assert "`enforce=True`" in caplog.text
    assert "`--normalize yes`" in caplog.text
    np.testing.assert_array_equal(adata.layers["spliced"], layers["spliced"])
    np.testing.assert_array_equal(adata.X, layers["spliced"])

    jv.pp.filter_and_normalize(adata, enforce=True)
    assert is_scaled(adata.layers["spliced"], layers["spliced"])
    assert is_scaled(np.expm1(adata.X), layers["spliced"])


def test_what_the_user_decides_holds(simulated, caplog):
    done = {name: normalized(counts) for name, counts in simulated.items()}
    adata = put(simulated)
    jv.pp.filter_and_normalize(adata, enforce=False)
    np.testing.assert_array_equal(dense(adata.layers["spliced"]), dense(simulated["spliced"]))
    np.testing.assert_allclose(dense(adata.X), np.log1p(dense(simulated["spliced"])), rtol=1e-6)
    adata = put(simulated, **done)
    jv.pp.filter_and_normalize(adata, enforce=True, counts_per_cell_after=50)
    np.testing.assert_allclose(cell_sizes(adata.layers["spliced"]), 50, rtol=1e-5)
    np.testing.assert_allclose(np.expm1(dense(adata.X)).sum(axis=1), 50, rtol=1e-5)

    graph = sp.csr_matrix(np.ones((300, 300)) - np.eye(300))
    for enforce, layers in ((False, simulated), (None, done), (True, done)):
        adata = put(simulated)
        adata.obsp["connectivities"] = graph
        jv.pp.moments(adata, enforce=enforce)
        expected = np.broadcast_to(dense(layers["spliced"]).mean(axis=0), adata.shape)
        np.testing.assert_allclose(adata.layers["Ms"], expected, rtol=1e-4)


@pytest.mark.parametrize("origin", ORIGINS)
def test_moments_decide_alike(simulated, origin, caplog):
    layers = made(simulated, origin)
    expected = put(simulated, *layers.values())
    expected.obsp["connectivities"] = sp.random(300, 300, 0.05, "csr", random_state=0)
    jv.pp.filter_and_normalize(expected)
    adata = put(simulated, *layers.values())
    adata.obsp["connectivities"] = expected.obsp["connectivities"]
    jv.pp.moments(expected)
    with caplog.at_level(logging.WARNING):
        jv.pp.moments(adata)
    assert "Found raw counts in spliced and unspliced" in caplog.text
    for key in ("Ms", "Mu", "spliced", "unspliced"):
        np.testing.assert_allclose(dense(adata.layers[key]), dense(expected.layers[key]), rtol=1e-5, atol=1e-6)
    # What was normalised is known as such afterwards.
    caplog.clear()
    adata = adata[:, variable(layers["spliced"], 150)].copy()
    before = dense(adata.layers["spliced"])
    jv.pp.moments(adata)
    assert "raw counts" not in caplog.text
    np.testing.assert_array_equal(dense(adata.layers["spliced"]), before)


def test_ambiguous_counts_go_with_the_others(simulated, caplog):
    ambiguous = sp.csr_matrix(np.random.default_rng(0).poisson(0.3, simulated["spliced"].shape), dtype=np.float32)
    adata = put(simulated)
    adata.layers["ambiguous"] = ambiguous
    jv.pp.filter_and_normalize(adata)
    assert is_scaled(adata.layers["ambiguous"], ambiguous)
    np.testing.assert_array_equal(adata.obs["initial_size_ambiguous"], cell_sizes(ambiguous))
    # scVelo leaves them raw: that is no reason to take the others for raw.
    adata.layers["ambiguous"] = ambiguous
    before = dense(adata.layers["spliced"])
    with caplog.at_level(logging.WARNING):
        jv.pp.filter_and_normalize(adata)
    assert "several states" not in caplog.text
    np.testing.assert_array_equal(dense(adata.layers["spliced"]), before)
    np.testing.assert_array_equal(dense(adata.layers["ambiguous"]), dense(ambiguous))


def test_readable_leaves_the_argument_as_it_is():
    data, rows, columns = np.array([1.0, 2.0, 0.0, 3.0]), np.array([0, 3, 4]), np.array([1, 1, 0, 2])
    for kind in (sp.csr_matrix, sp.csr_array):
        matrix = kind((data.copy(), columns.copy(), rows.copy()), shape=(2, 3))
        # Cell 0 holds gene 1 twice and gene 0 as a stored zero.
        known = readable("counts", matrix)
        assert type(known) is kind
        np.testing.assert_array_equal(known.toarray(), [[0, 3, 0], [0, 0, 3]])
        assert known.nnz == 2
        np.testing.assert_array_equal(matrix.data, data)
        np.testing.assert_array_equal(matrix.indices, columns)
        np.testing.assert_array_equal(matrix.indptr, rows)
