"""Ranks of likelihoods on AnnData: slow NumPy, what is left out, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import jaxvelo as jv
from jaxvelo.dynamics import neighborhood_weights
from tests.dynamics import plain_kinetics
from tests.snapshot import unchanged
from tests.trajectory import with_neighbors

pytestmark = pytest.mark.any_precision
GROUPS = ["late", "early", "middle"]


@pytest.fixture(scope="module")
def untouched():
    """Cells along a trajectory and true rates in the place of fitted ones; the last gene has no fit."""
    rng = np.random.default_rng(0)
    rates = np.array([[8, 1, 0.4, 5, 0.5], [6, 1, 2.0, 3, 2], [9, 1, 0.5, 6, 1], [5, 1, 0.3, 4, 0.7]])
    time = np.sort(rng.random(120)) * 12
    u, s, on, off = (np.full((120, 5), 1.0) for _ in range(4))
    for i, (alpha, beta, gamma, switch, scaling) in enumerate(rates):
        gene = plain_kinetics.Gene(np.zeros(1), np.zeros(1), alpha, beta, gamma, switch, scaling)
        on[:, i], off[:, i] = np.minimum(time, switch), np.maximum(time - switch, 0)
        places = [gene.place(int(t < switch), min(t, switch) if t < switch else t - switch) for t in time]
        u[:, i], s[:, i] = np.array(places).T * [[scaling], [1]] * rng.gamma(400, 1 / 400, (2, 120))
    on[:, 4], off[:, 4] = np.nan, np.nan
    layers = {"Ms": s, "Mu": u, "fit_tau": on, "fit_tau_": off, "fit_t": on + off}
    adata = AnnData(s, layers={key: value.astype(np.float32) for key, value in layers.items()})
    adata.var_names = [f"gene_{i}" for i in range(5)]
    columns = ["fit_alpha", "fit_beta", "fit_gamma", "fit_t_", "fit_scaling"]
    table = pd.DataFrame(np.r_[rates, np.full((1, 5), np.nan)], columns=columns, index=adata.var_names)
    table["fit_beta"] /= table["fit_scaling"]
    table["fit_std_u"], table["fit_std_s"] = u.std(axis=0), s.std(axis=0)
    adata.var = table
    labels = np.array(["early", "middle", "late"])[np.digitize(time, [4, 8])]
    adata.obs["clusters"] = pd.Categorical(labels, categories=[*GROUPS, "empty"])
    adata.uns["recover_dynamics"] = {"use_raw": False}
    return with_neighbors(adata, time[:, None])


@pytest.fixture
def adata(untouched):
    return untouched.copy()


def parts_of(adata):
    columns = [adata.var[f"fit_{name}"].to_numpy()[:4] for name in ("alpha", "beta", "gamma", "t_", "scaling")]
    columns[1] = columns[1] * columns[4]
    weights = neighborhood_weights(adata.obsp["connectivities"])
    groups = [(adata.obs["clusters"] == group).to_numpy() for group in GROUPS]
    return np.stack(columns, axis=1), weights, groups


def layers_of(adata, *names):
    return [adata.layers[name][:, :4].astype(float) for name in names]


def test_equals_numpy(adata):
    rates, weights, groups = parts_of(adata)
    on, off, u, s = layers_of(adata, "fit_tau", "fit_tau_", "Mu", "Ms")
    deviation = adata.var[["fit_std_u", "fit_std_s"]].to_numpy()[:4].T
    expected = plain_kinetics.group_likelihoods(rates, on, off, u, s, deviation, weights, groups)
    with unchanged(adata, "/uns/rank_dynamical_genes"):
        assert jv.tl.rank_dynamical_genes(adata, 3) is None
    found = adata.uns["rank_dynamical_genes"]
    assert found["params"]["groupby"] == "clusters"
    for group, likelihoods in zip(GROUPS, expected, strict=True):
        order = np.argsort(-likelihoods)[:3]
        assert list(found["names"][group]) == list(adata.var_names[order])
        np.testing.assert_allclose(found["scores"][group], likelihoods[order], atol=0.005 + 1e-6)
        assert ((found["pvals"][group] >= 0) & (found["pvals"][group] <= found["pvals_adj"][group])).all()
    assert found["pvals_adj"].dtype.names == tuple(GROUPS)


def test_copy_and_keys(adata):
    """And a gene is explained worse in a group whose cells are off the curve."""
    adata.obs["part"] = adata.obs["clusters"]
    del adata.obs["clusters"]
    for graph in ("connectivities", "distances"):
        adata.obsp[f"other_{graph}"] = adata.obsp.pop(graph)
    with unchanged(adata):
        result = jv.tl.rank_dynamical_genes(adata, groupby="part", neighbors_key="other", copy=True)
    assert len(result.uns["rank_dynamical_genes"]["names"]) == 4
    before = result.uns["rank_dynamical_genes"]
    adata.layers["Ms"][(adata.obs["part"] == "middle").to_numpy(), 2] *= 1.6
    jv.tl.rank_dynamical_genes(adata, groupby="part", neighbors_key="other")
    after = adata.uns["rank_dynamical_genes"]

    def score(tables, table="scores"):
        return tables[table]["middle"][tables["names"]["middle"] == "gene_2"].item()

    assert score(after) < score(before)
    assert score(after, "pvals") > 0.9


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda a: a.var.pop("fit_alpha"), {}, KeyError, "fit_alpha.*recover_dynamics"),
        (lambda a: a.layers.pop("fit_tau"), {}, KeyError, "fit_tau.*recover_dynamics"),
        (lambda a: a.layers["fit_tau_"].__setitem__((3, 1), np.inf), {}, ValueError, "fit_tau_.*found 1 that are not"),
        (lambda a: a.var.__setitem__("fit_std_u", 0.0), {}, ValueError, "fit_std_u.*found 4.*recover_dynamics"),
        (lambda a: a.layers.pop("Mu"), {}, KeyError, "Mu.*pp.moments"),
        (lambda a: a.obsp.pop("connectivities"), {}, KeyError, "connectivities.*pp.neighbors"),
        (lambda a: a.obs.pop("clusters"), {}, KeyError, r"adata.obs\['clusters'\].*groupby"),
        (lambda a: None, {"n_genes": 1.5}, ValueError, "`n_genes`"),
    ],
)
def test_what_is_refused(adata, change, arguments, error, message):
    change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.rank_dynamical_genes(adata, **arguments)
