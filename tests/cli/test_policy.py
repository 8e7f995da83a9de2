"""What the help says is used as it is, is used as it is; options choose otherwise; what does not fit is an error."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.cli import main
from tests.cli.conftest import STOCHASTIC, raw_counts, same

pytestmark = [pytest.mark.any_precision, pytest.mark.usefixtures("undrawn")]


def without(cells, **names):
    """Delete entries of slots."""
    for slot, keys in names.items():
        for key in keys:
            del getattr(cells, slot)[key]
    return cells


def ring(n, step=1.0):
    """A graph that no method of neighbours would give: a ring, with distances."""
    graph = sp.csr_matrix(
        sp.eye_array(n, k=1) + sp.eye_array(n, k=1 - n) + sp.eye_array(n, k=2) + sp.eye_array(n, k=2 - n)
    )
    return sp.csr_matrix(graph + graph.T) * step


def test_neighbors_are_kept_and_moments_are_over_them(cells, run):
    graph = ring(cells.n_obs)
    cells.obsp["connectivities"], cells.obsp["distances"] = graph, 2 * graph
    cells.uns["neighbors"] = {"connectivities_key": "connectivities", "distances_key": "distances", "params": {}}
    result = run(cells, *STOCHASTIC).succeeded()
    assert "using the neighbours in `obsp['connectivities']`" in result.out
    written = result.cells
    assert same(written.obsp["connectivities"], graph)
    assert same(written.obsp["distances"], 2 * graph)
    neighborhood = sp.csr_matrix((graph + sp.eye_array(cells.n_obs)) > 0, dtype=float)
    mean = (neighborhood @ written.layers["spliced"]).toarray() / np.asarray(neighborhood.sum(axis=1)).reshape(-1, 1)
    np.testing.assert_allclose(written.layers["Ms"], mean, rtol=1e-5)
    assert not (abs(written.obsp["T_fwd"]) > abs(graph) * 2).nnz  # steps along its edges only


@pytest.mark.parametrize("option", [["--n-neighbors", "12"], ["--recompute", "neighbors"], ["--n-pcs", "5"]])
def test_options_choose_other_neighbors_and_leave_velocities(option, results, run):
    velocity, moments = results.layers["velocity"].copy(), results.layers["Ms"].copy()
    results.obsp["connectivities"] = results.obsp["distances"] = ring(results.n_obs)
    result = run(results, *option).succeeded()
    assert "computing neighbours" in result.out
    written = result.cells
    assert not same(written.obsp["connectivities"], ring(results.n_obs))
    if option[0] == "--n-neighbors":
        assert set(np.diff(written.obsp["distances"].indptr)) == {11}
    assert same(written.layers["velocity"], velocity)
    assert same(written.layers["Ms"], moments)


def test_other_neighbors_by_name(cells, run):
    for name, step in (("first", 1.0), ("second", 0.5)):
        cells.obsp[f"{name}_connectivities"] = cells.obsp[f"{name}_distances"] = ring(cells.n_obs, step)
        keys = {"connectivities_key": f"{name}_connectivities", "distances_key": f"{name}_distances"}
        cells.uns[name] = {**keys, "params": {"method": "umap"}}
    refused = run(cells, *STOCHASTIC).refused()
    assert "several of other names: ['first', 'second']" in refused.err
    assert "--neighbors-key" in refused.err
    result = run(cells, *STOCHASTIC, "--neighbors-key", "second").succeeded()
    written = result.cells
    assert "connectivities" not in written.obsp
    del cells.uns["first"], cells.obsp["first_connectivities"], cells.obsp["first_distances"]
    only = run(cells, *STOCHASTIC).succeeded()
    assert same(only.cells.layers["Ms"], written.layers["Ms"])
    assert same(only.cells.obsp["T_fwd"], written.obsp["T_fwd"])
    absent = run(cells, "--neighbors-key", "third")
    assert absent.status == 2
    assert "Expected neighbours called `third`" in absent.err


def test_a_graph_alone_by_its_key_in_obsp(cells, run):
    cells.obsp["mine"] = ring(cells.n_obs)
    written = run(cells, *STOCHASTIC, "--neighbors-key", "mine").succeeded().cells
    assert same(written.obsp["mine"], ring(cells.n_obs))
    assert "connectivities" not in written.obsp


def test_neighbors_that_do_not_fit_are_an_error(cells, run):
    cells.obsp["connectivities"] = sp.csr_matrix(cells.shape[:1] * 2)
    assert "found that no cell has any" in run(cells).refused().err
    cells.obsp["connectivities"] = -ring(cells.n_obs)
    assert "non-negative weights" in run(cells).refused().err


def test_moments_are_kept(results, run):
    without(results, layers=["velocity", "velocity_u", "spliced", "unspliced"])
    results.layers["Ms"] = results.layers["Ms"] * 2
    moments = results.layers["Ms"].copy()
    fit = results.var["fit_alpha"].copy()
    result = run(results, "--velocity-mode", "deterministic").succeeded()
    assert "from the moments in `layers['Ms']` and `layers['Mu']`" in result.out
    assert same(result.cells.layers["Ms"], moments)
    assert same(result.cells.var["fit_alpha"], fit)
    assert not {"spliced", "unspliced"} & set(result.cells.layers)


def test_a_fit_is_kept_with_its_moments(results, run):
    velocity = results.layers["velocity"].copy()
    without(results, layers=["velocity", "velocity_u"])
    results.var["velocity_score"] = 1
    results.uns["rank_velocity_genes"] = results.uns["rank_dynamical_genes"] = {"params": {"groupby": "clusters"}}
    result = run(results).succeeded()
    assert "velocities are new: velocity_score, " in result.out
    assert "velocity_score" not in result.cells.var
    assert "rank_velocity_genes" not in result.cells.uns
    assert "rank_dynamical_genes" in result.cells.uns  # of the fit
    assert "Using the fit of the dynamical model" in result.out
    assert "Recovering dynamics" not in result.out
    assert same(result.cells.layers["velocity"], velocity)
    assert same(result.cells.obs["latent_time"], results.obs["latent_time"])


def test_latent_time_and_root_cells_are_kept(results, run):
    without(results, layers=["velocity", "velocity_u"])
    time = np.linspace(0, 1, results.n_obs)
    results.obs["latent_time"] = time
    result = run(results).succeeded()
    assert "Using the latent time in `obs['latent_time']`" in result.out
    assert same(result.cells.obs["latent_time"], time)
    del results.obs["latent_time"]
    roots = np.zeros(results.n_obs)
    roots[7] = 1
    results.obs["root_cells"] = roots
    result = run(results).succeeded()
    assert "Computing latent time with 'root_cells' as prior" in result.out
    assert same(result.cells.obs["root_cells"], roots)
    assert result.cells.obs["latent_time"].iloc[7] < 0.2


def test_fits_stay_beside_velocities_whose_moments_are_missing(results, run):
    without(results, layers=["Ms", "Mu"])
    result = run(results).succeeded()
    assert "Computing the expression, `layers['Ms']`" in result.out
    for name in ("fit_alpha", "velocity_genes"):
        assert same(result.cells.var[name], results.var[name])
    assert same(result.cells.layers["velocity"], results.layers["velocity"])


def test_velocities_are_kept_though_neighbors_are_missing(results, run):
    without(results, obsp=["connectivities", "distances"])
    result = run(results).succeeded()
    assert "computing neighbours" in result.out
    assert same(result.cells.layers["velocity"], results.layers["velocity"])
    assert same(result.cells.obsm["X_pca"], results.obsm["X_pca"])


def test_neighbors_from_raw_expression_are_of_its_logarithms(results, run):
    """Without principal components, those of X that is normalised for that alone."""
    reference = without(results.copy(), obsp=["connectivities", "distances"])
    raw = raw_counts()[:, results.var_names].copy()
    results.X = raw.layers["spliced"]
    without(results, obsp=["connectivities", "distances"], obsm=["X_pca"])
    result = run(results).succeeded()
    assert same(result.cells.X, results.X)
    expected = run(reference).succeeded().cells.obsm["X_pca"]
    found = result.cells.obsm["X_pca"]
    assert abs(np.corrcoef(found[:, 0], expected[:, 0])[0, 1]) > 0.99


@pytest.mark.parametrize("mode", ["stochastic", "deterministic"])
def test_the_mode_computes_velocities_anew(mode, results, run):
    result = run(results, "--velocity-mode", mode).succeeded()
    assert "the velocities in `layers['velocity']` are computed anew" in result.out
    assert f"Computing velocities ({mode})" in result.out
    written = result.cells
    assert not same(written.layers["velocity"], results.layers["velocity"])
    assert same(written.layers["Ms"], results.layers["Ms"])
    # What belongs to the velocities of the file is not left beside the new ones.
    assert not {"velocity_graph", "velocity_graph_neg"} & set(written.uns)
    assert "latent_time" not in written.obs
    assert "velocity_u" not in written.layers
    assert written.uns["velocity_params"]["mode"] == mode


def test_recompute_velocity_fits_anew(results, run):
    results.var["fit_alpha"] *= 3
    result = run(results, "--recompute", "velocity").succeeded()
    assert "Recovering dynamics" in result.out
    assert not same(result.cells.var["fit_alpha"], results.var["fit_alpha"])
    assert same(result.cells.layers["Ms"], results.layers["Ms"])
    assert "latent_time" in result.cells.obs


def test_recompute_moments_brings_velocities(results, run):
    results.layers["Ms"] *= 2
    result = run(results, "--recompute", "moments", *STOCHASTIC).succeeded()
    assert not same(result.cells.layers["Ms"], results.layers["Ms"])
    assert same(result.cells.obsp["connectivities"], results.obsp["connectivities"])
    assert "fit_alpha" not in result.cells.var
    assert "Leaving out an earlier fit, as moments are new" in result.out


def test_recompute_all(results, run):
    results.obsm["X_pca"] = np.random.default_rng(0).random(results.obsm["X_pca"].shape)
    results.obsp["connectivities"] = results.obsp["distances"] = ring(results.n_obs)
    results.var["highly_variable"] = np.arange(results.n_vars) < 5
    result = run(results, "--recompute", "all", *STOCHASTIC).succeeded()
    written = result.cells
    assert not same(written.obsm["X_pca"], results.obsm["X_pca"])
    assert not same(written.obsp["connectivities"], results.obsp["connectivities"])
    assert not same(written.obsm["X_umap"], results.obsm["X_umap"])
    assert written.var["highly_variable"].sum() > 5


@pytest.mark.parametrize("as_numbers", [False, True])
def test_highly_variable_genes_are_kept(as_numbers, cells, run):
    marked = np.arange(cells.n_vars) % 2 == 0
    cells.var["highly_variable"] = marked.astype(int) if as_numbers else marked
    result = run(cells, *STOCHASTIC).succeeded()
    assert "Using the 30 highly variable genes in `var['highly_variable']`" in result.out
    written = result.cells
    assert same(written.var["highly_variable"], pd.Series(marked, cells.var_names)[written.var_names])
    # Principal components and velocity genes are of them.
    assert not written.varm["PCs"][~written.var["highly_variable"]].any()
    assert not (written.var["velocity_genes"] & ~written.var["highly_variable"]).any()
    chosen = run(cells, *STOCHASTIC, "--n-top-genes", "20").succeeded().cells
    assert chosen.var["highly_variable"].sum() == 20


def test_no_highly_variable_gene_is_an_error(cells, run):
    cells.var["highly_variable"] = False
    assert "--n-top-genes" in run(cells).refused().err


def test_processed_counts_are_not_processed_again(results, run):
    """A file with normalised layers and logarithms, and nothing that was computed from them."""
    kept = {"layers": ["spliced", "unspliced"], "obsm": ["X_umap"]}
    for slot in ("layers", "obsm", "obsp", "uns", "varm"):
        without(results, **{slot: [key for key in getattr(results, slot) if key not in (None, *kept.get(slot, []))]})
    results.var = results.var[[]]
    written = run(results, *STOCHASTIC).succeeded().cells
    genes = results.var_names.isin(written.var_names)
    np.testing.assert_allclose(written.layers["spliced"].toarray(), results.layers["spliced"].toarray()[:, genes])
    np.testing.assert_allclose(written.X.toarray(), results.X.toarray()[:, genes])


def test_least_number_of_shared_counts(cells, run):
    few = run(cells, *STOCHASTIC, "--min-shared-counts", "200").succeeded().cells
    everything = run(cells, *STOCHASTIC, "--min-shared-counts", "0").succeeded().cells
    assert few.n_vars < run(cells, *STOCHASTIC).succeeded().cells.n_vars < everything.n_vars == cells.n_vars


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vkey", "own", "--velocity-mode", "stochastic"], "Leave out --vkey, or all of --velocity-mode"),
        (["--vkey", "own", "--n-top-genes", "30"], "Leave out --vkey"),
        (["--basis", "pca", "--recompute", "umap"], "--recompute umap computes the embedding `umap`"),
        (["--use-rep", "X_harmony"], r"Expected a representation of the cells in `obsm['X_harmony']`"),
    ],
)
def test_options_that_contradict_each_other(options, message, results, run):
    results.layers["own"] = -results.layers["velocity"]
    assert message in run(results, *options).refused().err


def test_stored_velocities_that_do_not_fit(results, run):
    results.layers["velocity"] = np.full(results.shape, np.nan)
    message = run(results).refused().err
    assert "found 0 of" in message
    assert "--recompute velocity" in message


def test_stored_expression_that_does_not_fit(results, run):
    assert "Expected expression in `X`, found none" in run(_without_x(results), "--xkey", "X").refused().err
    results.layers["Ms"] = np.full(results.shape, np.nan)
    assert "Expected finite values in `layers['Ms']`" in run(results).refused().err


def _without_x(cells):
    cells = cells.copy()
    del cells.X
    return cells


def test_the_file_keeps_its_transition_matrix_under_another_key(results, run):
    matrix = results.obsp["T_fwd"].copy()
    result = run(results, "--weight", "1", "--key", "T_new").succeeded()
    assert same(result.cells.obsp["T_fwd"], matrix)
    assert "T_new_umap" in result.cells.obsm
    assert "Leaving out the file's transition matrix" not in result.out
    replaced = run(results, "--weight", "1").succeeded()
    assert "Leaving out the file's transition matrix of this name, as there is a new one: T_fwd" in replaced.out
    assert not [key for key in replaced.cells.obsp if key.startswith("T_fwd_kernel")]


def test_umap_under_its_name_in_any_case(cells, run):
    cells.obsm["X_UMAP"] = cells.obsm.pop("X_umap")
    result = run(cells, *STOCHASTIC).succeeded()
    assert "Drawing in the embedding `UMAP`\n" in result.out
    assert "T_fwd_UMAP" in result.cells.obsm


def test_counts_of_other_names(cells, run):
    expected = run(cells, *STOCHASTIC).succeeded().cells
    cells.layers["S"], cells.layers["U"] = cells.layers.pop("spliced"), cells.layers.pop("unspliced")
    assert "given as --spliced and --unspliced" in run(cells, name="other.h5ad").err
    written = run(cells, *STOCHASTIC, "--spliced", "S", "--unspliced", "U").succeeded().cells
    assert same(written.layers["velocity"], expected.layers["velocity"])
    assert {"S", "U"} <= set(written.layers)
    cells.X = cells.layers.pop("S")
    written = run(cells, *STOCHASTIC, "--spliced", "X", "--unspliced", "U").succeeded().cells
    assert same(written.layers["velocity"], expected.layers["velocity"])
    absent = run(cells, "--spliced", "counts")
    assert absent.status == 2
    assert "Expected spliced counts in `layers['counts']`" in absent.err


def test_the_help_states_the_policy(capsys):
    assert main(["run", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "What FILE holds is used as it is, and what it lacks is computed",
        "velocities layers[--vkey], with their expression in layers[--xkey]; else from the moments",
        "moments layers Ms and Mu; else from the spliced and unspliced counts",
        "neighbours obsp connectivities; else 30, in up to 30 principal components",
        "variable genes var highly_variable, if genes are chosen; else the 2000 most variable",
        "latent time obs latent_time, and root cells for it obs root_cells; else computed, with a dynamical model",
        "What is used but does not fit the cells is an error.",
        "FILE is never changed",
    ):
        assert line in text
