import contextlib
import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv


def contents(adata):
    """Everything in an AnnData, as copies, for comparison to the last bit."""
    arrays = {**adata.layers, **{f"obsp/{key}": value.toarray() for key, value in adata.obsp.items()}, "X": adata.X}
    return {key: np.array(value) for key, value in arrays.items()}, adata.var.copy(), repr(dict(adata.uns))


@contextlib.contextmanager
def unchanged(adata):
    arrays, var, uns = contents(adata)
    yield
    arrays_after, var_after, uns_after = contents(adata)
    assert arrays.keys() == arrays_after.keys()
    for key, value in arrays.items():
        np.testing.assert_array_equal(arrays_after[key], value)
    pd.testing.assert_frame_equal(var_after, var)
    assert uns_after == uns


@pytest.fixture
def adata():
    """Sixty cells, twenty genes that follow their steady state and five that do not; neighbours along a line."""
    rng = np.random.default_rng(0)
    n_cells, n_genes = 60, 25
    time = np.linspace(0, 1, n_cells)[:, None]
    mean = 20 * (1 + np.sin(6 * time + np.arange(n_genes)))
    s, u = rng.poisson(mean) + 0.5, rng.poisson(rng.uniform(0.2, 0.8, n_genes) * mean) + 0.25
    u[:, 20:] = rng.poisson(5.0, (n_cells, 5)) + 0.25
    s[:, 24] = u[:, 24] = 0
    graph = sum(np.eye(n_cells, k=k) for k in (-3, -2, -1, 1, 2, 3))
    adata = ad.AnnData(
        s.astype(np.float32),
        layers={"spliced": s.astype(np.float32), "unspliced": u.astype(np.float32)},
        obsp={"connectivities": sp.csr_matrix(graph)},
    )
    jv.pp.moments(adata)
    return adata


def numpy_deterministic(adata):
    s, u = adata.layers["Ms"].astype(float), adata.layers["Mu"].astype(float)
    score = s / s.max(axis=0).clip(1e-3) + u / u.max(axis=0).clip(1e-3)
    extreme = score >= np.percentile(score, 95, axis=0)
    with np.errstate(invalid="ignore"):
        gamma = np.nan_to_num((extreme * s * u).sum(axis=0) / (extreme * s * s).sum(axis=0))
        residual = u - gamma * s
        r2 = np.nan_to_num(1 - (residual**2).sum(axis=0) / ((u - u.mean(axis=0)) ** 2).sum(axis=0))
    return gamma, r2, residual, (r2 > 0.01) & (gamma > 0.01)


def numpy_stochastic(adata):
    """Gamma of the generalised least squares for all genes."""
    s, u = adata.layers["Ms"].astype(float), adata.layers["Mu"].astype(float)
    weights = adata.obsp["connectivities"].toarray() + np.eye(adata.n_obs)
    weights /= weights.sum(axis=1, keepdims=True)
    counts, unspliced = (adata.layers[key].astype(float) for key in ("spliced", "unspliced"))
    x2, y2 = 2 * weights @ counts**2 - s, 2 * weights @ (counts * unspliced) + u
    with np.errstate(invalid="ignore"):
        variance2 = (y2 - (x2 * y2).sum(axis=0) / (x2 * x2).sum(axis=0) * x2).var(axis=0)
        score = s / s.max(axis=0).clip(1e-3) + u / u.max(axis=0).clip(1e-3)
        used = (score >= np.percentile(score, 95, axis=0)) | (s >= np.percentile(s, 95, axis=0))
        weight1, weight2 = 1 / numpy_deterministic(adata)[2].var(axis=0).clip(1e-12), 1 / variance2
        return (weight1 * (used * s * u).sum(axis=0) + weight2 * (x2 * y2).sum(axis=0)) / (
            weight1 * (used * s * s).sum(axis=0) + weight2 * (x2 * x2).sum(axis=0)
        )


@pytest.mark.parametrize("mode", ["deterministic", "stochastic"])
def test_reference(shared, mode):
    adata = ad.read_h5ad(shared / "reference/pancreas_velocity.h5ad")
    expected = adata.var.copy()
    del adata.layers["velocity"]
    adata.var = adata.var[[]]
    jv.tl.velocity(adata, mode=mode)

    genes = expected[f"velocity_{mode}_genes"].to_numpy()
    np.testing.assert_array_equal(adata.var["velocity_genes"], genes)
    assert genes.sum() == 328
    for name in ("gamma", "qreg_ratio"):
        assert adata.var[f"velocity_{name}"].dtype == np.float32
        np.testing.assert_allclose(adata.var[f"velocity_{name}"], expected[f"{mode}_v_{name}"], rtol=2e-6)
    # The reference's r2 is a float32 sum, 3e-4 away from a float64 one.
    np.testing.assert_allclose(adata.var["velocity_r2"], expected[f"{mode}_v_r2"], rtol=5e-4, atol=5e-5)
    unspliced, steady = adata.layers["Mu"], expected[f"{mode}_v_gamma"].to_numpy() * adata.layers["Ms"]
    assert np.all(abs(adata.layers["velocity"] - (unspliced - steady)) <= 2e-6 * (unspliced + steady))
    assert list(adata.var) == ["velocity_gamma", "velocity_qreg_ratio", "velocity_r2", "velocity_genes"]


@pytest.mark.parametrize("mode", ["deterministic", "steady_state"])
def test_deterministic_equals_numpy(adata, mode):
    gamma, r2, residual, genes = numpy_deterministic(adata)
    assert 2 < genes.sum() < 25
    jv.tl.velocity(adata, mode=mode)
    np.testing.assert_allclose(adata.var["velocity_gamma"], gamma, rtol=1e-5)
    np.testing.assert_allclose(adata.var["velocity_r2"], r2, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(adata.var["velocity_genes"], genes)
    np.testing.assert_allclose(adata.layers["velocity"], residual, atol=1e-4)
    assert adata.layers["velocity"].dtype == np.float32
    assert "variance_velocity" not in adata.layers
    assert adata.uns["velocity_params"] == {"mode": mode, "fit_offset": False, "perc": [5, 95]}


def test_stochastic_refits_the_velocity_genes_only(adata):
    gamma, _, residual, genes = numpy_deterministic(adata)
    refitted = np.where(genes, numpy_stochastic(adata), gamma)
    assert np.abs(refitted - gamma)[genes].min() > 1e-6
    jv.tl.velocity(adata, vkey="v")
    np.testing.assert_allclose(adata.var["v_gamma"], refitted, rtol=1e-5)
    np.testing.assert_allclose(adata.var["v_qreg_ratio"], gamma, rtol=1e-5)
    np.testing.assert_allclose(adata.layers["v"][:, ~genes], residual[:, ~genes], atol=1e-4)
    np.testing.assert_allclose(adata.layers["v"], adata.layers["Mu"] - refitted * adata.layers["Ms"], atol=1e-4)
    assert (adata.layers["variance_v"][:, genes] != 0).any(axis=0).all()
    assert not adata.layers["variance_v"][:, ~genes].any()
    assert adata.uns["v_params"]["mode"] == "stochastic"


def test_offsets_are_written_and_taken_away_again(adata):
    jv.tl.velocity(adata, fit_offset=True, fit_offset2=True, perc=[5, 95])
    assert adata.var["velocity_offset"].any()
    assert adata.var["velocity_offset2"].any()
    assert adata.uns["velocity_params"] == {"mode": "stochastic", "fit_offset": True, "perc": [5, 95]}
    var = adata.var
    expected = adata.layers["Mu"] - var["velocity_gamma"].to_numpy() * adata.layers["Ms"]
    np.testing.assert_allclose(adata.layers["velocity"], expected - var["velocity_offset"].to_numpy(), atol=1e-4)
    jv.tl.velocity(adata)
    assert not {"velocity_offset", "velocity_offset2"} & set(adata.var)


def test_columns_with_one_value_are_not_written(adata):
    genes = numpy_deterministic(adata)[3]
    subset = adata[:, genes].copy()
    jv.tl.velocity(subset)
    assert "velocity_genes" not in subset.var
    assert "velocity_gamma" in subset.var


def test_velocity_genes_are_highly_variable_if_asked(adata):
    genes = numpy_deterministic(adata)[3]
    adata.var["highly_variable"] = np.arange(25) % 2 == 0
    jv.tl.velocity(adata, vkey="a", mode="deterministic")
    jv.tl.velocity(adata, vkey="b", mode="deterministic", use_highly_variable=False)
    np.testing.assert_array_equal(adata.var["a_genes"], genes & adata.var["highly_variable"])
    np.testing.assert_array_equal(adata.var["b_genes"], genes)


def test_thresholds(adata):
    gamma, r2, _, _ = numpy_deterministic(adata)
    ratio, fit = (np.sort(x)[12:14].mean() for x in (gamma, r2))
    jv.tl.velocity(adata, mode="deterministic", min_r2=fit, min_ratio=ratio)
    np.testing.assert_array_equal(adata.var["velocity_genes"], (r2 > fit) & (gamma > ratio))


def test_with_little_signal_the_best_fifth_of_the_genes_is_taken(adata, caplog):
    r2 = numpy_deterministic(adata)[1]
    with caplog.at_level(logging.WARNING):
        jv.tl.velocity(adata, min_r2=0.9999)
    np.testing.assert_array_equal(adata.var["velocity_genes"], r2 > np.percentile(r2, 80))
    assert "fewer than two velocity genes" in caplog.text
    assert "only 5 velocity genes" in caplog.text


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, lambda x: x.astype(float)])
def test_forms_of_the_layers(adata, form):
    expected = adata.copy()
    jv.tl.velocity(expected)
    for key in ("Ms", "Mu", "spliced", "unspliced"):
        adata.layers[key] = form(adata.layers[key])
    jv.tl.velocity(adata)
    np.testing.assert_allclose(adata.layers["velocity"], expected.layers["velocity"], atol=1e-4)
    np.testing.assert_allclose(adata.var["velocity_gamma"], expected.var["velocity_gamma"], rtol=1e-5)


def test_copy_view_and_backed(adata, tmp_path):
    adata.write_h5ad(tmp_path / "moments.h5ad")
    with unchanged(adata):
        result = jv.tl.velocity(adata, copy=True)
    view = adata[:]
    with unchanged(adata), pytest.warns(ad.ImplicitModificationWarning, match="view"):
        assert jv.tl.velocity(view) is None
    backed = ad.read_h5ad(tmp_path / "moments.h5ad", backed="r")
    jv.tl.velocity(backed)
    for other in (view, backed):
        np.testing.assert_array_equal(other.layers["velocity"], result.layers["velocity"])
        pd.testing.assert_frame_equal(other.var, result.var)
    backed.file.close()
    result.layers["velocity"][0, 0] = 7.0  # an ordinary, writable array
    result.write_h5ad(tmp_path / "velocity.h5ad")
    read = ad.read_h5ad(tmp_path / "velocity.h5ad")
    assert list(read.uns["velocity_params"]["perc"]) == [5, 95]


def test_cells_in_another_order_give_the_same_genes(adata):
    order = np.random.default_rng(0).permutation(adata.n_obs)
    shuffled = adata[order].copy()
    jv.tl.velocity(adata)
    jv.tl.velocity(shuffled)
    np.testing.assert_allclose(shuffled.var["velocity_gamma"], adata.var["velocity_gamma"], rtol=1e-5)
    np.testing.assert_allclose(shuffled.layers["velocity"], adata.layers["velocity"][order], atol=1e-4)


@pytest.fixture
def grouped(adata):
    """Every third cell, so that each group knows the whole of the line; and some in no group."""
    names = np.array(["a", "b", "c"])[np.arange(adata.n_obs) % 3].astype(object)
    names[-6:] = None
    adata.obs["clusters"] = pd.Categorical(names)
    graph = sum(np.eye(adata.n_obs, k=k) for k in (-6, -3, -2, -1, 1, 2, 3, 6))
    adata.obsp["connectivities"] = sp.csr_matrix(graph)
    return adata


def cells_of(adata, *groups):
    return adata.obs["clusters"].isin(groups).to_numpy()


@pytest.mark.parametrize("mode", ["deterministic", "stochastic"])
@pytest.mark.parametrize("groups", ["b", ["a", "c"]])
def test_fit_to_some_groups(grouped, mode, groups):
    """As NumPy finds it for their cells; the others keep what they have, which at first is nothing."""
    cells = cells_of(grouped, *groups)
    part = grouped[cells].copy()
    gamma, r2, _, genes = numpy_deterministic(part)
    if mode == "stochastic":
        gamma = np.where(genes, numpy_stochastic(part), gamma)
    jv.tl.velocity(grouped, mode=mode, groupby="clusters", groups=groups)
    np.testing.assert_allclose(grouped.var["velocity_gamma"], gamma, rtol=1e-5)
    np.testing.assert_allclose(grouped.var["velocity_r2"], r2, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(grouped.var["velocity_genes"], genes)
    expected = part.layers["Mu"] - gamma * part.layers["Ms"]
    np.testing.assert_allclose(grouped.layers["velocity"][cells], expected, atol=1e-4)
    assert not grouped.layers["velocity"][~cells].any()
    if mode == "stochastic":
        assert grouped.layers["variance_velocity"][cells][:, genes].any()
        assert not grouped.layers["variance_velocity"][~cells].any()
    before = grouped.layers["velocity"].copy()
    others = cells_of(grouped, "a") if groups == "b" else cells_of(grouped, "b")
    jv.tl.velocity(grouped, mode=mode, groupby="clusters", groups="a" if groups == "b" else "b")
    np.testing.assert_array_equal(grouped.layers["velocity"][~others], before[~others])
    assert grouped.layers["velocity"][others].any()


@pytest.mark.parametrize("mode", ["deterministic", "stochastic"])
def test_each_group_by_itself(grouped, mode):
    jv.tl.velocity(grouped, mode=mode)
    assert "velocity_genes" in grouped.var
    del grouped.layers["velocity"]
    jv.tl.velocity(grouped, mode=mode, groupby="clusters")
    for group in "abc":
        alone = jv.tl.velocity(grouped, vkey="v", mode=mode, groups=group, groupby="clusters", copy=True)
        cells = cells_of(grouped, group)
        np.testing.assert_array_equal(grouped.layers["velocity"][cells], alone.layers["v"][cells])
        for name in ("gamma", "r2", "genes"):
            column = grouped.var[f"velocity_{name}_{group}"]
            np.testing.assert_array_equal(column, alone.var[f"v_{name}"])
    assert not grouped.layers["velocity"][-6:].any()
    # Those of the fit before are none of these.
    assert not {f"velocity_{name}" for name in ("gamma", "qreg_ratio", "r2", "genes")} & set(grouped.var)


def test_columns_of_groups_can_be_saved(grouped, tmp_path):
    """No file holds a slash in the name of a column: the sign of division stands for it."""
    grouped.obs["clusters"] = grouped.obs["clusters"].cat.rename_categories({"a": "Pre/Pro"})
    jv.tl.velocity(grouped, mode="deterministic", groupby="clusters")
    grouped.write_h5ad(tmp_path / "groups.h5ad")
    again = ad.read_h5ad(tmp_path / "groups.h5ad")
    np.testing.assert_array_equal(again.var["velocity_gamma_Pre\u2215Pro"], grouped.var["velocity_gamma_Pre\u2215Pro"])
    assert not [name for name in again.var if "/" in name]


def test_groups_as_scvelo(grouped):
    scv = pytest.importorskip("scvelo", reason='scVelo comes with `pip install "jaxvelo[tutorial]"`')
    grouped = grouped[:-6].copy()
    for arguments in ({"groups": ["a", "c"], "groupby": "clusters"}, {"groups": "b"}, {"groupby": "clusters"}):
        theirs, ours = grouped.copy(), grouped.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scv.settings.verbosity = 0
            scv.tl.velocity(theirs, mode="deterministic", **arguments)
        jv.tl.velocity(ours, mode="deterministic", **arguments)
        assert set(ours.var) == set(theirs.var)
        for key in ours.var:
            np.testing.assert_allclose(ours.var[key].astype(float), theirs.var[key].astype(float), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.layers["velocity"], theirs.layers["velocity"], atol=1e-3)


def test_groups_that_are_absent(grouped, caplog):
    with caplog.at_level(logging.WARNING):
        jv.tl.velocity(grouped, groups=["a", "nowhere"])
    assert "Leaving out ['nowhere'] of `groups`" in caplog.text
    with unchanged(grouped):
        for groups in ("nowhere", ["nowhere", "no"]):
            with pytest.raises(ValueError, match=r"obs\['clusters'\]` in `groups`.*nowhere.*'a', 'b', 'c'"):
                jv.tl.velocity(grouped, groups=groups)
        with pytest.raises(KeyError, match=r"obs\['lineage'\]"):
            jv.tl.velocity(grouped, groupby="lineage")
    del grouped.obs["clusters"]
    with pytest.raises(KeyError, match=r"`groupby` beside `groups`.*obs\['clusters'\]"):
        jv.tl.velocity(grouped, groups="a")


def without(slot, key):
    def change(adata):
        del getattr(adata, slot)[key]

    return change


def nan_in(key):
    def change(adata):
        adata.layers[key][4, 2] = np.nan

    return change


def negative_in(key):
    def change(adata):
        layer = adata.layers[key]
        adata.layers[key] = layer.toarray() if sp.issparse(layer) else layer
        adata.layers[key][4, 2] = -1

    return change


def negative_graph(adata):
    adata.obsp["connectivities"].data[0] = -1


def words_for_booleans(adata):
    adata.var["highly_variable"] = "yes"


BAD = {
    "no Ms": (without("layers", "Ms"), {}, KeyError, r"layers\['Ms'\].*Mu.*jaxvelo.pp.moments\(adata\)"),
    "no spliced": (without("layers", "spliced"), {}, KeyError, r"layers\['spliced'\].*unspliced"),
    "no graph": (without("obsp", "connectivities"), {}, KeyError, r"obsp\['connectivities'\].*jaxvelo.pp.neighbors"),
    "negative graph": (negative_graph, {}, ValueError, r"obsp\['connectivities'\].*1 negative.*jaxvelo.pp.neighbors"),
    "nan in Mu": (nan_in("Mu"), {}, ValueError, r"layers\['Mu'\].*1 that are NaN.*moments"),
    "nan in spliced": (nan_in("spliced"), {}, ValueError, r"layers\['spliced'\].*1 that are NaN"),
    "negative Ms": (negative_in("Ms"), {"mode": "deterministic"}, ValueError, r"layers\['Ms'\].*1 negative.*moments"),
    "negative spliced": (negative_in("spliced"), {}, ValueError, r"layers\['spliced'\].*1 negative"),
    "mask of words": (words_for_booleans, {}, ValueError, r"var\['highly_variable'\].*type (object|str).*Convert"),
    "dynamical": (None, {"mode": "dynamical"}, KeyError, r"var\['fit_alpha'\].*recover_dynamics"),
    "mode": (None, {"mode": "fast"}, ValueError, "mode.*stochastic.*fast"),
    "percentile": (None, {"perc": 120}, ValueError, "perc.*0 to 100.*120"),
    "order": (None, {"perc": (95, 5)}, ValueError, r"lower percentile.*\(95, 5\)"),
    "three": (None, {"perc": (1, 5, 95)}, ValueError, "perc.*one percentile or two"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(adata, case):
    change, arguments, error, message = BAD[case]
    if change is not None:
        change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.velocity(adata, **arguments)


def test_another_type_is_refused():
    with pytest.raises(TypeError, match="AnnData object, found `DataFrame`"):
        jv.tl.velocity(pd.DataFrame())


def test_the_deterministic_model_needs_moments_only(adata):
    del adata.obsp["connectivities"], adata.layers["spliced"], adata.layers["unspliced"]
    jv.tl.velocity(adata, mode="deterministic")
    assert "velocity" in adata.layers
