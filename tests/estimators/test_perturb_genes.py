"""Effects of silenced and raised genes: against kernels and fates that are computed anew, and their p-values."""

import anndata
import jax
import numpy as np
import pandas as pd
import pytest

from jaxvelo.estimators import GPCCA, fate_gradient
from jaxvelo.estimators._perturb_genes import scores_and_p_values
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from jaxvelo.tl import perturb_genes
from tests.bent_line import N_CELLS, N_GENES, make_cells

NAMES = ["begin", "end"]
TERMINAL = np.where(np.arange(N_CELLS) < 4, 0, np.where(np.arange(N_CELLS) >= N_CELLS - 4, 1, -1))
X64 = jax.config.jax_enable_x64


def with_states(adata):
    adata.obs["term_states_fwd"] = pd.Categorical.from_codes(TERMINAL, NAMES)
    return adata


def kernel_of(adata, scale=None):
    velocity = VelocityKernel(adata).compute_transition_matrix(softmax_scale=scale)
    return 0.8 * velocity + 0.2 * ConnectivityKernel(adata).compute_transition_matrix()


@pytest.fixture(scope="module")
def kernel():
    adata = with_states(make_cells())
    adata.layers["velocity"][:, 7] = 0
    return kernel_of(adata)


def of(table, **chosen):
    for name, value in chosen.items():
        table = table[table[name] == value]
    return table


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_exact_is_a_kernel_computed_anew(kernel, factor):
    genes = ["gene_3", "gene_30"]
    table = perturb_genes(kernel, genes, factor, cluster_key="clusters")
    scale = kernel.kernels[0].params["softmax_scale"]
    found = kernel.adata.obsm["perturbed_fates_fwd"]
    assert list(found) == [f"{gene}_{name}" for gene in genes for name in NAMES]
    fates = {}
    for gene in ["none", *genes]:
        adata = with_states(make_cells())
        adata.layers["velocity"][:, 7] = 0
        if gene != "none":
            adata.layers["velocity"][:, adata.var_names.get_loc(gene)] *= factor
        estimator = GPCCA(kernel_of(adata, scale))
        estimator.set_terminal_states({n: list(adata.obs_names[k == TERMINAL]) for k, n in enumerate(NAMES)})
        estimator.compute_fate_probabilities()
        fates[gene] = estimator.fate_probabilities[NAMES].X
    for gene in genes:
        change = fates[gene] - fates["none"]
        assert np.abs(change).max() > 5e-5
        np.testing.assert_allclose(
            found[[f"{gene}_{name}" for name in NAMES]], change, rtol=0, atol=1e-10 if X64 else 2e-6
        )
        for cluster, mask in [("all cells", TERMINAL < 0), ("middle", kernel.adata.obs["clusters"] == "middle")]:
            exact = of(table, gene=gene, cluster=cluster)["exact"]
            np.testing.assert_allclose(
                exact, change[np.asarray(mask)].mean(axis=0), rtol=0, atol=1e-10 if X64 else 2e-6
            )
    assert of(table, gene="gene_4")["exact"].isna().all()


@pytest.mark.skipif(not X64, reason="differences of fates need double precision")
def test_first_order_is_a_finite_difference_of_the_exact(kernel):
    step = 1e-6
    table = perturb_genes(kernel, list(kernel.kernels[0].genes), 1 + step, cluster_key="clusters")
    largest = table["exact"].abs().max()
    np.testing.assert_allclose(table["effect"], table["exact"], rtol=0, atol=2e-5 * largest)
    assert len(table) == N_GENES * 4 * 2


def test_summaries_are_those_of_the_gradient(kernel):
    table = perturb_genes(kernel, factor=3.0, cluster_key="clusters")
    assert list(dict.fromkeys(table["cluster"])) == ["all cells", "early", "middle", "late"]
    tolerance = {"rtol": 0, "atol": 1e-12 if X64 else 1e-5}
    for cluster, cells in [("all cells", None), ("late", {"clusters": ["late"]})]:
        expected = fate_gradient(kernel, TERMINAL, NAMES, cells=cells)
        for name in NAMES:
            found = of(table, cluster=cluster, lineage=name)
            assert list(found["gene"]) == list(expected.effect.index)
            np.testing.assert_allclose(found["effect"], 2 * expected.effect[name], **tolerance)
            np.testing.assert_allclose(found["consistency"], expected.score[name], **tolerance)


def test_p_values_are_those_of_other_velocities(kernel):
    """One gene and one other after the other, in double precision."""
    table = of(perturb_genes(kernel, cluster_key="clusters"), lineage="end", cluster="all cells")
    gradient = np.asarray(fate_gradient(kernel, TERMINAL, NAMES, of_cells=True).of_cells[1], float)
    v = np.asarray(kernel.adata.layers["velocity"], float)
    length = np.linalg.norm(v, axis=0)
    relative, scores = [], np.full(N_GENES, np.nan)
    for g in np.flatnonzero(length):
        other = [
            length[g] / length[r] * sum(gradient[i, g] * v[i, r] for i in range(N_CELLS))
            for r in np.flatnonzero(length)
            if r != g
        ]
        unit = np.sqrt(np.mean(np.square(other)))
        relative += list(np.abs(other) / unit)
        scores[g] = -(gradient[:, g] @ v[:, g]) / unit
    np.testing.assert_allclose(table["score"], scores, rtol=1e-8 if X64 else 2e-3)
    p = [(1 + np.sum(np.array(relative) >= abs(z))) / (1 + len(relative)) for z in scores]
    known = np.isfinite(scores)
    np.testing.assert_allclose(table["pval"][known], np.array(p)[known], atol=1e-12 if X64 else 5e-3)
    assert (table["qval"][known] >= table["pval"][known]).all()


def test_a_gene_without_velocity_has_no_effect(kernel):
    table = of(perturb_genes(kernel, ["gene_7", "gene_7"], 5.0, cluster_key="clusters"), gene="gene_7")
    np.testing.assert_array_equal(table["effect"], 0)
    np.testing.assert_array_equal(table["exact"], 0)
    assert len(table) == 8
    assert table[["score", "pval", "qval"]].isna().all(axis=None)
    np.testing.assert_array_equal(kernel.adata.obsm["perturbed_fates_fwd"], np.zeros((N_CELLS, 2)))


@pytest.mark.any_precision
def test_of_effects_by_chance_5_percent_are_significant():
    rng = np.random.default_rng(0)
    unit = rng.lognormal(size=(1000, 1))
    own, other = unit[:, 0] * rng.normal(size=1000), unit * rng.normal(size=(1000, 100))
    assert (scores_and_p_values(own, other)[1] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    own[0], other[3] = 20 * unit[0, 0], 0
    scores, p = scores_and_p_values(own, other)
    assert p[0] == pytest.approx(1 / (1 + 999 * 100))
    assert np.isnan([scores[3], p[3]]).all()


@pytest.mark.any_precision
def test_smooth_velocities_without_effect_are_not_significant():
    """Expression and velocities that are smooth over neighbours, and know nothing of each other.

    Shuffled over the cells instead of the genes, the velocities would make many of them significant.
    """
    rng = np.random.default_rng(1)
    angle = 2 * np.pi * np.arange(N_CELLS) / N_CELLS
    waves = np.concatenate([[np.cos(k * angle), np.sin(k * angle)] for k in range(1, 7)]).T
    over_genes, over_cells = [], []
    for _ in range(3):
        adata = with_states(make_cells())
        x, v = (waves @ rng.normal(size=(12, N_GENES)) for _ in range(2))
        v[:, 7] = 0
        adata.layers["Ms"], adata.layers["velocity"] = x, v
        kernel = kernel_of(adata)
        over_genes += list(
            of(perturb_genes(kernel, cluster_key="clusters"), lineage="end", cluster="all cells")["pval"]
        )
        gradient = fate_gradient(kernel, TERMINAL, NAMES, of_cells=True).of_cells[1]
        own = np.abs((gradient * v).sum(axis=0))
        larger = [np.abs((gradient * v[rng.permutation(N_CELLS)]).sum(axis=0)) >= own for _ in range(100)]
        over_cells += list(np.mean(larger, axis=0))
    assert (np.array(over_genes) <= 0.05).mean() <= 0.1
    assert (np.array(over_cells) <= 0.05).mean() > 0.2


def test_stored(kernel, tmp_path):
    states = {name: list(kernel.adata.obs_names[k == TERMINAL]) for k, name in enumerate(NAMES)}
    estimator = GPCCA(kernel)
    estimator.set_terminal_states(states)
    table = perturb_genes(estimator, "gene_1", seed=3)
    kernel.adata.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad")
    stored = read.uns["gene_perturbations_fwd"]
    pd.testing.assert_frame_equal(
        stored["table"].reset_index(drop=True), table, check_dtype=False, check_index_type=False
    )
    assert stored["params"]["factor"] == 0
    assert list(stored["params"]["genes"]) == ["gene_1"]
    np.testing.assert_array_equal(read.obsm["perturbed_fates_fwd"], kernel.adata.obsm["perturbed_fates_fwd"])
    again = perturb_genes(kernel, seed=3)
    pd.testing.assert_frame_equal(again.drop(columns="exact"), table.drop(columns="exact"))
    assert "perturbed_fates_fwd" not in kernel.adata.obsm


@pytest.mark.any_precision
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"genes": ["gene_1", "gene_99"]}, KeyError, "gene_99"),
        ({"genes": []}, ValueError, "genes"),
        ({"factor": np.nan}, ValueError, "factor"),
        ({"factor": np.inf}, ValueError, "factor"),
        ({"factor": 1.0}, ValueError, "changes nothing"),
        ({"factor": "high"}, ValueError, "factor"),
        ({"cluster_key": "nothing"}, KeyError, "nothing"),
        ({"n_shuffles": 0}, ValueError, "n_shuffles"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_errors(kernel, arguments, error, match):
    before = set(kernel.adata.uns)
    with pytest.raises(error, match=match):
        perturb_genes(kernel, **arguments)
    assert set(kernel.adata.uns) == before


@pytest.mark.any_precision
def test_errors_of_kernels(kernel):
    adata = with_states(make_cells())
    with pytest.raises(TypeError, match="velocities"):
        perturb_genes(ConnectivityKernel(adata).compute_transition_matrix())
    with pytest.raises(TypeError, match="found `AnnData`"):
        perturb_genes(adata)
    with pytest.raises(RuntimeError, match="compute_transition_matrix"):
        perturb_genes(VelocityKernel(adata))
    with pytest.raises(KeyError, match=r"gene_0.*velocities"):
        perturb_genes(VelocityKernel(adata, gene_subset="chosen").compute_transition_matrix(), "gene_0")
    twice = with_states(make_cells())
    twice.var_names = ["gene_0", *twice.var_names[:-1]]
    with pytest.raises(ValueError, match=r"'gene_0'\] several times"):
        perturb_genes(VelocityKernel(twice).compute_transition_matrix(), "gene_0")
    velocity = VelocityKernel(adata).compute_transition_matrix()
    adata.obs["clusters"] = adata.obs["clusters"].cat.rename_categories({"late": "all cells"})
    with pytest.raises(ValueError, match="all cells"):
        perturb_genes(velocity, cluster_key="clusters")
    adata.obs["term_states_fwd"] = adata.obs["term_states_fwd"].cat.remove_categories("begin")
    with pytest.raises(ValueError, match="two or more terminal states"):
        perturb_genes(velocity)
    del adata.obs["term_states_fwd"]
    with pytest.raises(KeyError, match=r"term_states_fwd.*set_terminal_states"):
        perturb_genes(velocity)
