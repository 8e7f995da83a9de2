import logging

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

import jaxvelo as jv
from tests.dynamics import plain
from tests.snapshot import unchanged
from tests.trajectory import simulated, two_parts


@pytest.fixture
def tolerance():
    """In single precision a time may be taken across the root's: then another gene is the percentile."""
    return 1e-8 if jax.config.jax_enable_x64 else 2e-2


def times_of(adata, min_likelihood=0.1):
    genes = adata.var["fit_likelihood"].to_numpy() >= min_likelihood
    return adata.layers["fit_t"][:, genes]


def smoothed(adata, latent, min_confidence=0.75):
    around = (adata.obsp["connectivities"] > 0).toarray() + np.eye(adata.n_obs)
    around /= around.sum(axis=1, keepdims=True)
    mean = around @ latent
    scale = latent @ mean / (mean @ mean)
    agrees = (1 - abs(latent - scale * mean) / latent.max()) ** 2 >= min_confidence
    return plain.unit_range(around @ np.where(agrees, latent, 0)), agrees


def first_marked(adata, times, key, descending=False):
    order = np.argsort(times.sum(axis=1))
    order = order[::-1] if descending else order
    return [i for i in order if adata.obs[key].iloc[i] > 0.999][:4]


def test_equals_numpy(adata, tolerance):
    jv.tl.terminal_states(adata)
    jv.tl.latent_time(adata, n_iterations=0)
    times = times_of(adata)
    expected, agrees = smoothed(adata, plain.latent_time(times, first_marked(adata, times, "root_cells")))
    np.testing.assert_allclose(adata.obs["latent_time"], expected, atol=tolerance)
    assert agrees.any()
    assert adata.obs["latent_time"].min() == 0
    assert adata.obs["latent_time"].max() == 1
    assert adata.obs["latent_time"].dtype == np.float64


def test_options_equal_numpy(adata, tolerance):
    jv.tl.terminal_states(adata)
    times = times_of(adata, 0.3)
    roots, ends = first_marked(adata, times, "root_cells"), first_marked(adata, times, "end_points", True)
    jv.tl.latent_time(adata, min_likelihood=0.3, end_key="end_points", min_confidence=0.9, t_max=20, n_iterations=0)
    expected, agrees = smoothed(adata, plain.latent_time(times, roots, ends), 0.9)
    assert 0 < (~agrees).sum() < adata.n_obs
    np.testing.assert_allclose(adata.obs["latent_time"], 20 * expected, atol=60 * tolerance)


def test_diffusion_equals_numpy(adata, tolerance):
    jv.tl.terminal_states(adata)
    times = times_of(adata)
    roots = first_marked(adata, times, "root_cells")
    with_root = jv.tl.velocity_pseudotime(adata, root_key=int(roots[0]), power=1, copy=True)
    pseudotime = with_root.obs["velocity_pseudotime"]
    pseudotime = pseudotime.to_numpy()
    good = [plain.correlation(t, pseudotime) >= 0.4 for t in times.T]
    assert 2 < sum(good) < len(good)
    latent = plain.latent_time(times[:, good], roots)
    _, agrees = smoothed(adata, latent)
    expected = np.where(agrees, 0.7 * latent + 0.3 * pseudotime, pseudotime)
    jv.tl.latent_time(adata, weight_diffusion=0.3, min_corr_diffusion=0.4, n_iterations=0)
    np.testing.assert_allclose(adata.obs["latent_time"], plain.unit_range(expected), atol=tolerance + 1e-4)
    assert "velocity_pseudotime" not in adata.obs


@pytest.mark.parametrize("n_branches", [1, 2])
def test_follows_the_true_time(n_branches):
    adata = simulated(240, 48, n_branches, noise=0.3)
    jv.tl.latent_time(adata)
    assert spearmanr(adata.obs["latent_time"], adata.obs["true_time"])[0] > 0.8
    jv.tl.latent_time(adata, weight_diffusion=0.3)
    assert spearmanr(adata.obs["latent_time"], adata.obs["true_time"])[0] > 0.8


def test_genes_that_move_in_one_branch_only_do_not_count_elsewhere():
    """Half of the genes stand still in any branch after the fork: to low percentiles late cells seem early."""
    adata = simulated(300, 48, 3, noise=0.1)
    time, lineage = adata.obs["true_time"].to_numpy(), adata.obs["lineage"].astype("category").cat.codes.to_numpy()
    branch = np.arange(adata.n_vars) % 4
    moves = (time[:, None] < 10) | (lineage[:, None] == branch) | (branch == 3)
    adata.layers["fit_t"] = np.where(moves, time[:, None], 0) + np.random.default_rng(0).random(adata.shape)
    adata.uns["root"] = int(np.argmin(time))
    correlation = {}
    for n_iterations in (0, 10):
        jv.tl.latent_time(adata, root_key="root", n_iterations=n_iterations)
        correlation[n_iterations] = spearmanr(adata.obs["latent_time"], time)[0]
    assert correlation[0] < 0.7
    assert correlation[10] > 0.99


def test_rounding_and_the_order_of_the_cells_do_not_matter(adata):
    rng = np.random.default_rng(0)
    expected = jv.tl.latent_time(adata, copy=True).obs["latent_time"]
    other = adata[rng.permutation(adata.n_obs)].copy()
    for name in ("velocity_graph", "velocity_graph_neg"):
        del other.uns[name]
    for layer in ("velocity", "fit_t"):
        other.layers[layer] = other.layers[layer] * (1 + 1e-6 * rng.normal(size=other.shape))
    jv.tl.velocity_graph(other)
    jv.tl.latent_time(other)
    np.testing.assert_allclose(other.obs["latent_time"].loc[adata.obs_names], expected, atol=0.02)


def test_what_is_missing_is_computed_and_written(adata):
    del adata.uns["velocity_graph"], adata.uns["velocity_graph_neg"], adata.obs["velocity_self_transition"]
    with unchanged(adata):
        result = jv.tl.latent_time(adata, copy=True)
    by_hand = adata.copy()
    jv.tl.velocity_graph(by_hand)
    jv.tl.terminal_states(by_hand)
    jv.tl.latent_time(by_hand)
    pd.testing.assert_frame_equal(result.obs, by_hand.obs)
    assert set(result.uns) == set(by_hand.uns)
    assert (result.uns["velocity_graph"] != by_hand.uns["velocity_graph"]).nnz == 0


def test_known_roots_need_no_velocity(adata):
    """Neither graph nor velocities, if the root cells are given and diffusion is not asked for."""
    first = int(np.argmin(adata.obs["true_time"]))
    for key in ("velocity", "Ms", "Mu"):
        del adata.layers[key]
    adata.uns = {}
    del adata.obsp["distances"]
    adata.uns["root"], adata.uns["name"] = np.int64(first), adata.obs_names[first]
    adata.obs["starting_cells"] = pd.Categorical(np.where(np.arange(150) == first, "first", None), ["first"])
    adata.obs["mask"] = np.arange(150) == first
    keys = ("root", "name", "mask", None)
    results = [jv.tl.latent_time(adata, root_key=key, n_iterations=0, copy=True) for key in keys]
    for result in results:
        np.testing.assert_array_equal(result.obs["latent_time"], results[0].obs["latent_time"])
    expected, _ = smoothed(adata, plain.latent_time(times_of(adata), [first]))
    np.testing.assert_allclose(results[0].obs["latent_time"], expected, atol=1e-4)


def test_root_cells_that_are_none(adata, caplog):
    adata.obs["root_cells"] = 0.5
    with caplog.at_level(logging.WARNING):
        jv.tl.latent_time(adata)
    assert "Found no root cells: no cell has a score above 0.999 in `adata.obs['root_cells']`" in caplog.text
    assert np.isfinite(adata.obs["latent_time"]).all()


def test_disconnected_graph():
    """Cells that the pseudotime does not reach keep their latent time; a lone cell has one too."""
    adata = two_parts()
    jv.tl.latent_time(adata, weight_diffusion=0.5)
    assert np.isfinite(adata.obs["latent_time"]).all()
    jv.tl.latent_time(adata)
    assert np.isfinite(adata.obs["latent_time"]).all()


def test_one_gene_and_few_cells():
    adata = simulated(30, 8)
    adata.var["fit_likelihood"] = np.where(np.arange(8) == 0, 0.5, np.nan)
    adata.uns["root"] = 0
    jv.tl.latent_time(adata, root_key="root")
    assert np.isfinite(adata.obs["latent_time"]).all()


@pytest.mark.parametrize("form", [sp.csr_matrix, lambda x: x.astype(np.float32)])
def test_forms_of_the_times(adata, form):
    adata.uns["root"] = 3
    expected = jv.tl.latent_time(adata, root_key="root", copy=True).obs["latent_time"]
    adata.layers["fit_t"] = form(np.nan_to_num(adata.layers["fit_t"]))
    jv.tl.latent_time(adata, root_key="root")
    np.testing.assert_allclose(adata.obs["latent_time"], expected, atol=1e-2)


def test_cells_of_known_times(shared):
    adata = ad.read_h5ad(shared / "reference/dyngen_bifurcating_velocity.h5ad")
    jv.tl.latent_time(adata)
    assert spearmanr(adata.obs["latent_time"], adata.obs["global_time"])[0] > 0.95
    assert adata.obs["global_time"][adata.obs["root_cells"] > 0.999].max() < 0.3


def test_reference(shared, tolerance):
    """The latent time of scVelo 0.3.4 for the small data with its own root cells, from the file."""
    adata = ad.read_h5ad(shared / "reference/small_velocity.h5ad")
    expected = adata.obs.pop("latent_time")
    jv.tl.latent_time(adata, n_iterations=0)
    assert spearmanr(adata.obs["latent_time"], expected)[0] > 0.999
    np.testing.assert_allclose(adata.obs["latent_time"], expected, atol=tolerance)


def nothing_varies(adata):
    adata.layers["fit_t"] = np.ones(adata.shape)


def all_nan(adata):
    adata.layers["fit_t"] = np.full(adata.shape, np.nan)


def negative_graph(adata):
    adata.obsp["connectivities"] = -adata.obsp["connectivities"]


def all_connected(adata):
    adata.obsp["connectivities"] = sp.csr_matrix(np.ones((adata.n_obs, adata.n_obs)))


BAD = {
    "all connected": (all_connected, {}, ValueError, r"obsp\['connectivities'\].*all are the same.*fewer neighbours"),
    "no fit": (lambda a: a.layers.pop("fit_t"), {}, KeyError, r"layers\['fit_t'\].*jaxvelo.tl.recover_dynamics"),
    "no likelihood": (lambda a: a.var.pop("fit_likelihood"), {}, KeyError, r"var\['fit_likelihood'\].*recover"),
    "no gene": (all_nan, {}, ValueError, r"layers\['fit_t'\].*found none \(0 with finite times\)"),
    "no good gene": (None, {"min_likelihood": 2.0}, ValueError, "from 2.0 on, found none.*lower `min_likelihood`"),
    "nothing varies": (nothing_varies, {}, ValueError, r"layers\['fit_t'\].*vary among cells, found none"),
    "no graph": (lambda a: a.obsp.pop("connectivities"), {}, KeyError, r"obsp\['connectivities'\]"),
    "negative graph": (negative_graph, {}, ValueError, r"obsp\['connectivities'\].*negative"),
    "root": (None, {"root_key": "nothing"}, KeyError, "root_key.*nothing"),
    "end": (None, {"end_key": "nothing"}, KeyError, r"obs\['nothing'\].*end_key"),
    "number of a root": (None, {"root_key": "far"}, ValueError, r"uns\['far'\].*150 cells.*500"),
    "confidence": (None, {"min_confidence": 1.5}, ValueError, "min_confidence.*0 to 1.*1.5"),
    "no confidence": (None, {"min_confidence": None}, ValueError, "min_confidence.*None"),
    "truth value": (None, {"min_confidence": True}, ValueError, "min_confidence.*0 to 1.*True"),
    "weight": (None, {"weight_diffusion": -0.1}, ValueError, "weight_diffusion.*0 to 1.*-0.1"),
    "correlation": (None, {"min_corr_diffusion": 0.9999}, ValueError, "min_corr_diffusion.*0.9999.*found none"),
    "iterations": (None, {"n_iterations": -1}, ValueError, "n_iterations.*0.*-1"),
    "t_max": (None, {"t_max": 0}, ValueError, "t_max.*positive.*0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(adata, case):
    change, arguments, error, message = BAD[case]
    adata.uns["far"] = 500
    if change is not None:
        change(adata)
    with unchanged(adata), pytest.raises(error, match=message):
        jv.tl.latent_time(adata, **arguments)
