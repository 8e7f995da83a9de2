"""Tests for kinetics of groups on AnnData: slow NumPy, what stays of earlier tests, and what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import jaxvelo as jv
from jaxvelo.annotated.dynamical_fit import read_stored_fit, write_fit
from jaxvelo.annotated.fit_columns import number_of_rates
from tests.dynamics import plain_kinetics
from tests.snapshot import unchanged
from tests.tl.test_rank_dynamical_genes import GROUPS, layers_of, parts_of, untouched  # noqa: F401

pytestmark = pytest.mark.any_precision
WRITTEN = "/var/fit_diff_kinetics", "/var/fit_pval_kinetics", "/var/fit_kinetics_of", "/varm", "/uns/recover_dynamics"


@pytest.fixture
def adata(untouched):  # noqa: F811
    """The middle cells of the third gene have kinetics of their own."""
    adata = untouched.copy()
    middle = (adata.obs["clusters"] == "middle").to_numpy()
    u = adata.layers["Mu"][middle, 2]
    adata.layers["Ms"][middle, 2] = 9 * u * np.random.default_rng(0).gamma(900, 1 / 900, u.shape)
    return adata


def test_equals_numpy(adata):
    rates, weights, groups = parts_of(adata)
    u, s = layers_of(adata, "Mu", "Ms")
    expected = np.array(
        [plain_kinetics.kinetic_p_values(*gene, weights, groups) for gene in zip(u.T, s.T, rates, strict=True)]
    )
    with unchanged(adata, *WRITTEN):
        assert jv.tl.differential_kinetic_test(adata) is None
    table = adata.varm["fit_pvals_kinetics"]
    assert list(table.columns) == GROUPS
    np.testing.assert_allclose(table.to_numpy()[:4], expected, rtol=1e-3, atol=1e-5)  # rates in single precision
    assert table.iloc[4].isna().all()
    named = adata.var["fit_diff_kinetics"]
    assert list(named.iloc[:4]) == [",".join(np.array(GROUPS)[p < 0.01]) for p in expected]
    assert named.iloc[2] == "middle"
    assert pd.isna(named.iloc[4])
    largest = [max((x for x in p if x < 0.01), default=np.nan) for p in expected]
    np.testing.assert_allclose(adata.var["fit_pval_kinetics"].iloc[:4], largest, rtol=1e-3, atol=1e-9)
    assert parameters(adata) == {
        "use_raw": False,
        "fit_diff_kinetics": "clusters",
        "fit_diff_kinetics_sizes": [(adata.obs["clusters"] == group).sum() for group in GROUPS],
    }


def parameters(adata):
    stored = dict(adata.uns["recover_dynamics"])
    sizes = stored.get("fit_diff_kinetics_sizes")
    return stored if sizes is None else {**stored, "fit_diff_kinetics_sizes": list(sizes)}


def test_some_genes_after_others(adata, tmp_path, caplog):
    with unchanged(adata):
        whole = jv.tl.differential_kinetic_test(adata, "all", copy=True)
    adata.var["velocity_genes"] = [True, False, False, True, True]
    jv.tl.differential_kinetic_test(adata)
    assert "Leaving out 1 genes without a fit" in caplog.text
    assert list(adata.var["fit_diff_kinetics"].isna()) == [False, True, True, False, True]
    adata.write_h5ad(tmp_path / "tested.h5ad")
    adata = ad.read_h5ad(tmp_path / "tested.h5ad")
    jv.tl.differential_kinetic_test(adata, ["gene_1", "gene_2"])
    pd.testing.assert_frame_equal(adata.varm["fit_pvals_kinetics"], whole.varm["fit_pvals_kinetics"])
    for key in ("fit_diff_kinetics", "fit_pval_kinetics"):
        pd.testing.assert_series_equal(adata.var[key].astype(object), whole.var[key].astype(object))
    # Of another clustering, whether its groups have the same names or not: what was found before does not belong there.
    adata.obs["part"] = adata.obs["clusters"].array[::-1]
    other = jv.tl.differential_kinetic_test(adata, "gene_0", "part", copy=True)
    assert list(other.varm["fit_pvals_kinetics"].columns) == list(whole.varm["fit_pvals_kinetics"].columns)
    assert other.var["fit_diff_kinetics"].notna().sum() == 1
    assert other.varm["fit_pvals_kinetics"].iloc[1:].isna().all(axis=None)
    adata.obs["half"] = pd.Categorical(np.arange(120) < 60)
    jv.tl.differential_kinetic_test(adata, "gene_0", "half")
    assert list(adata.varm["fit_pvals_kinetics"].columns) == ["False", "True"]
    assert adata.var["fit_diff_kinetics"].notna().sum() == 1


def test_a_new_fit_forgets_them(adata):
    """Those of the genes whose rates are others now."""
    jv.tl.differential_kinetic_test(adata)
    fit = read_stored_fit(adata)
    fit.columns["fit_alpha"][0] *= 2
    write_fit(adata, fit)
    assert adata.varm["fit_pvals_kinetics"].iloc[0].isna().all()
    assert adata.varm["fit_pvals_kinetics"].iloc[1:4].notna().any(axis=1).all()
    assert list(adata.var["fit_diff_kinetics"].isna()) == [True, False, False, False, True]
    assert list(adata.var["fit_pval_kinetics"].notna())[:3] == [False, False, True]
    # The others are still of this clustering, and nothing else that is there goes.
    adata.uns["recover_dynamics"]["mine"] = 3
    fit.columns["fit_alpha"][3] *= 2
    write_fit(adata, fit)
    stored = {"fit_connected_states": True, "use_raw": False, "mine": 3}
    assert parameters(adata).items() >= {**stored, "fit_diff_kinetics": "clusters"}.items()
    # scVelo's records cannot be taken apart.
    adata.varm["fit_pvals_kinetics"] = np.ones((5, 1))
    fit.columns["fit_alpha"][1] *= 2
    write_fit(adata, fit)
    assert "fit_pvals_kinetics" not in adata.varm
    fit.columns["fit_alpha"][2] *= 2
    write_fit(adata, fit)
    assert adata.var["fit_diff_kinetics"].isna().all()
    assert adata.uns["recover_dynamics"] == stored


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda a: a.var.pop("fit_gamma"), {}, KeyError, "fit_gamma.*recover_dynamics"),
        (lambda a: a.layers.pop("Ms"), {}, KeyError, "Ms.*pp.moments"),
        (lambda a: a.obsp.pop("connectivities"), {}, KeyError, "connectivities.*pp.neighbors"),
        (lambda a: None, {"var_names": ["absent"]}, KeyError, "absent"),
        (lambda a: None, {"var_names": ["gene_4"]}, ValueError, "genes with a fit, found none.*recover_dynamics"),
        (lambda a: None, {"groupby": "absent"}, KeyError, "absent"),
        (lambda a: setattr(a, "obs", a.obs.assign(clusters=["", "x"] * 60)), {}, ValueError, "found one that is empty"),
        (lambda a: a.layers["Mu"].__setitem__((0, 0), -1), {}, ValueError, "Mu.*1 negative"),
    ],
)
def test_what_is_refused(adata, change, arguments, error, message):
    change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.differential_kinetic_test(adata, **arguments)


@pytest.mark.parametrize("groups", [["_index", "Pre/Pro-B", "gene"], [".", "..", "/a"]])
def test_names_that_files_do_not_hold(adata, groups, tmp_path):
    """One is that of the genes' index, too. What is found is that under plain names."""
    jv.tl.differential_kinetic_test(adata)
    odd = adata.copy()
    odd.var.index.name = "gene"
    odd.obs["odd"] = odd.obs["clusters"].cat.rename_categories(dict(zip(GROUPS, groups, strict=True)))
    jv.tl.differential_kinetic_test(odd, groupby="odd")
    odd.write_h5ad(tmp_path / "odd.h5ad")
    odd.write_zarr(tmp_path / "odd.zarr")
    expected = list(adata.var["fit_diff_kinetics"][:4].astype(str).replace(dict(zip(GROUPS, groups, strict=True))))
    for again in (ad.read_h5ad(tmp_path / "odd.h5ad"), ad.read_zarr(tmp_path / "odd.zarr")):
        assert list(again.var["fit_diff_kinetics"][:4].astype(str)) == expected
        table = again.varm["fit_pvals_kinetics"]
        np.testing.assert_array_equal(table.to_numpy(), adata.varm["fit_pvals_kinetics"].to_numpy())
        jv.tl.differential_kinetic_test(again, ["gene_0"], "odd")  # knows the groups again
        np.testing.assert_array_equal(again.varm["fit_pvals_kinetics"], table)
        jv.tl.velocity(again, mode="deterministic", diff_kinetics=True)


@pytest.fixture
def tested(adata):
    """The middle cells have kinetics of their own for the third gene, and by the user's word for the first."""
    jv.tl.differential_kinetic_test(adata)
    adata.var["fit_likelihood"] = 0.5
    adata.var["mine"] = ["late, middle", "", None, "", "early"]
    return adata


def velocities(adata, **arguments):
    result = adata.copy()
    jv.tl.velocity(result, **arguments)
    return {key: result.layers[key] for key in ("velocity", "velocity_u", "variance_velocity") if key in result.layers}


@pytest.mark.parametrize("arguments", [{"mode": "dynamical", "model": "curve"}, {"mode": "deterministic"}])
def test_groups_without_velocity(tested, arguments):
    """As scVelo: zero in the cells of the groups that are named; NaN, of a gene without a fit, stays."""
    plain = velocities(tested, **arguments)
    labels = tested.obs["clusters"].to_numpy()
    for key, asked in (("fit_diff_kinetics", True), ("fit_diff_kinetics", "fit_diff_kinetics"), ("mine", "mine")):
        found = velocities(tested, **arguments, diff_kinetics=asked)
        assert found.keys() == plain.keys()
        for name, expected in plain.items():
            expected = expected.copy()
            for gene, text in enumerate(tested.var[key].astype(object)):
                if isinstance(text, str):
                    expected[np.isin(labels, [group.strip() for group in text.split(",")]), gene] *= 0
            np.testing.assert_array_equal(found[name], expected)
            assert (found[name] != plain[name]).any()
    for no in (None, False):
        for name, expected in velocities(tested, **arguments, diff_kinetics=no).items():
            np.testing.assert_array_equal(expected, plain[name])


def test_genes_of_gradual_transcription_keep_their_velocity(tested):
    """By evidence; a velocity of other rates is that of the curve, whatever the model was."""
    tested.var["mine"] = "late"
    tested.var["fit_model"] = pd.Categorical(["curve", "gradual", "gradual", "gradual", None])
    tested.layers["fit_velocity"] = np.ones(tested.shape, dtype=np.float32)
    tested.layers["fit_velocity"][:, 4] = np.nan
    rates = [tested.var[f"fit_{name}"].to_numpy() for name in ("alpha", "beta", "gamma", "t_", "scaling")]
    tested.var["fit_velocity_of"] = number_of_rates(rates)
    tested.var.loc["gene_3", "fit_velocity_of"] += 1
    late = (tested.obs["clusters"] == "late").to_numpy()
    for model, kept in (("evidence", [False, True, True, False]), ("curve", [False] * 4)):
        found = velocities(tested, mode="dynamical", model=model, diff_kinetics="mine")["velocity"]
        np.testing.assert_array_equal((found[late, :4] != 0).all(axis=0), kept)
        assert (found[~late, :4] != 0).any(axis=0).all()


def test_cells_of_groups_that_are_not_asked_for_keep_their_velocity(tested):
    """Whatever their kinetics are."""
    tested.layers["velocity"] = np.ones(tested.shape, dtype=np.float32)
    late = (tested.obs["clusters"] == "late").to_numpy()
    found = velocities(tested, mode="deterministic", groups="late", diff_kinetics="mine")["velocity"]
    assert (found[~late] == 1).all()
    assert not found[late, 0].any()
    assert found[late, 1].any()


def test_of_fewer_cells(tested):
    """A group that has lost its cells says nothing of the others."""
    few = tested[tested.obs["clusters"] != "middle"].copy()
    found = velocities(few, mode="deterministic", diff_kinetics=True)["velocity"]
    np.testing.assert_array_equal(found[:, 2], velocities(few, mode="deterministic")["velocity"][:, 2])


def test_names_with_commas(tested):
    tested.obs["clusters"] = tested.obs["clusters"].cat.rename_categories({"late": "late, very"})
    tested.var["mine"] = ["early,late, very", "", "late,very , middle", "", "late, very"]
    found = velocities(tested, mode="deterministic", diff_kinetics="mine")["velocity"]
    for gene, groups in ((0, ["early", "late, very"]), (2, ["late, very", "middle"])):
        np.testing.assert_array_equal(found[:, gene] == 0, tested.obs["clusters"].isin(groups))


def assign(adata, slot, **columns):
    setattr(adata, slot, getattr(adata, slot).assign(**columns))


@pytest.mark.parametrize(
    ("change", "asked", "error", "message"),
    [
        (lambda a: a.var.pop("fit_diff_kinetics"), True, KeyError, "fit_diff_kinetics.*differential_kinetic_test"),
        (lambda a: None, "absent", KeyError, "'absent'.*differential_kinetic_test"),
        (lambda a: None, 3, ValueError, "`diff_kinetics` to be True, False or.*`3`"),
        (lambda a: None, "fit_gamma", ValueError, "names of groups in .*fit_gamma.*float"),
        (lambda a: assign(a, "var", mine=None), "mine", ValueError, "missing for all genes"),
        (lambda a: a.obs.pop("clusters"), True, KeyError, "'clusters'.*is of its groups"),
        (lambda a: assign(a, "var", mine="late,none"), "mine", ValueError, r"found \['none'\]. There are"),
        (
            lambda a: assign(a, "obs", clusters=a.obs["clusters"].cat.rename_categories({"late": "other"})),
            True,
            ValueError,
            r"those that were tested, \['late', 'early', 'middle'\], found \['other'\]",
        ),
        (
            lambda a: assign(a, "obs", clusters=np.where(a.obs["clusters"] == "late", "early", a.obs["clusters"])),
            True,
            ValueError,
            r"found more cells in \['early'\]",
        ),
        (lambda a: assign(a, "var", fit_gamma=1.01 * a.var["fit_gamma"]), True, ValueError, "found 4 genes with"),
    ],
)
def test_what_a_velocity_cannot_heed(tested, change, asked, error, message):
    change(tested)
    with unchanged(tested), pytest.raises(error, match=message):
        jv.tl.velocity(tested, mode="deterministic", diff_kinetics=asked)
