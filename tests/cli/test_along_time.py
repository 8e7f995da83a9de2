"""``jaxvelo run`` on cells without velocities: along a pseudotime, along days, or along CytoTRACE's."""

import importlib.util

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.annotated.stored_trends import Trends
from jaxvelo.cli import _pictures, _trends
from jaxvelo.cli._plan import Options
from jaxvelo.cli._plan_along_time import CYTOTRACE, DAYS, PSEUDOTIME, goes_along_time, make_plan_along_time

pytestmark = pytest.mark.any_precision


@pytest.fixture
def spliced_alone(cells) -> ad.AnnData:
    """Counts of a user without unspliced ones, with the true time."""
    whole = jv.datasets.simulate(n_cells=cells.n_obs, n_genes=cells.n_vars, seed=3)
    time = whole.obs["true_time"].to_numpy(dtype=float)
    obs = cells.obs.assign(time=time, day=pd.Categorical(np.digitize(time, np.quantile(time, [0.3, 0.6])).astype(str)))
    return ad.AnnData(cells.layers["spliced"].copy(), obs=obs, var=cells.var, obsm=dict(cells.obsm))


def plan_of(cells, **options):
    return make_plan_along_time(cells, Options("cells.h5ad", **options))


def test_pseudotime_from_counts_to_pictures(spliced_alone, run, monkeypatch):
    draw = _pictures.draw
    of_trends = {"gene_trends", "heat_map"}
    monkeypatch.setattr(_pictures, "draw", lambda pictures, *to: draw([p for p in pictures if p[0] in of_trends], *to))
    spliced_alone.uns["trends"] = {"curves": {"lineage": np.array(["Old"])}}
    spliced_alone.uns["gene_perturbations_fwd"] = {"params": {"factor": 0.0}}
    spliced_alone.obsm["perturbed_fates_fwd"] = np.zeros((150, 2))
    result = run(spliced_alone, "--time-key", "time", "--n-top-genes", "30", fates=True).succeeded()
    assert not [line for line in result.out.splitlines() if "WARNING" in line and "velocities" in line]
    assert {"trends.csv", "gene_trends.png", "heat_map.png"} <= set(result.files)
    assert all(f"/{name}\n" in result.out for name in ("trends.csv", "gene_trends.png", "heat_map.png"))
    written = result.cells
    counts = spliced_alone.X.toarray()
    assert not {"gene_perturbations_fwd", "perturbed_fates_fwd"} & {*written.uns, *written.obsm}
    sizes = counts.sum(axis=1)
    np.testing.assert_allclose(written.X.toarray(), np.log1p(counts * np.median(sizes) / sizes[:, None]), rtol=1e-4)
    kernel = jv.kernels.from_adata(written, "T_fwd")
    assert str(kernel) == "(0.8 * PseudotimeKernel[n=150] + 0.2 * ConnectivityKernel[n=150])"
    trends, table = Trends.from_adata(written), pd.read_csv(result.folder / "trends.csv")
    assert trends.lineages == list(written.obs["term_states_fwd"].cat.categories)
    assert set(np.flatnonzero(written.var["highly_variable"])) <= set(written.var_names.get_indexer(trends.genes))
    pd.testing.assert_frame_equal(table, trends.to_frame().reset_index(drop=True), check_dtype=False)
    for lineage in trends.lineages:
        n_changing = int((table["qval"][table["lineage"] == lineage] < 0.05).sum())
        assert f"Towards {lineage}, {n_changing} of {len(trends.genes)} genes change" in result.out


def test_trends_are_drawn_without_drivers(spliced_alone, run, monkeypatch):
    drawn = []
    monkeypatch.setattr(_pictures, "draw", lambda pictures, out, written: drawn.extend(name for name, _ in pictures))
    monkeypatch.setattr(jv.estimators.GPCCA, "compute_lineage_drivers", lambda *_, **__: 1 / 0)
    result = run(spliced_alone, "--time-key", "time", fates=True).succeeded()
    assert "Going on without lineage drivers" in result.out
    lineages = Trends.from_adata(result.cells).lineages
    assert len(lineages) > 1
    assert all(f"Towards {lineage}, " in result.out for lineage in lineages)
    assert {"gene_trends", "heat_map"} <= set(drawn)


def test_days_are_coupled(spliced_alone, run, monkeypatch):
    pytest.importorskip("ott")
    drawn = []
    monkeypatch.setattr(_pictures, "draw", lambda pictures, out, written: drawn.extend(name for name, _ in pictures))
    names = ["early", "middle", "late"]
    spliced_alone.obs["day"] = spliced_alone.obs["day"].cat.rename_categories(names).cat.as_ordered()
    result = run(spliced_alone, "--time-key", "day", fates=True).succeeded()
    assert "Going along the 3 time points of `obs['day']`: ['early', 'middle', 'late']" in result.out
    assert "Could not project" not in result.out
    written = result.cells
    day = written.obs["day_number"].to_numpy()
    matrix = written.obsp["T_fwd"].tocoo()
    steps = day[matrix.col] - day[matrix.row]
    assert set(steps) == {0, 1}
    within = np.bincount(matrix.row, matrix.data * (steps == 0), minlength=len(day))
    np.testing.assert_allclose(within[day < 2], 0.2, atol=1e-6)
    assert np.ptp(written.obsm["T_fwd_umap"][day < 2], axis=0).min() > 0
    assert Trends.from_adata(written).time_key == "day_number"
    assert {"gene_trends", "heat_map"} <= set(drawn)


@pytest.mark.usefixtures("undrawn")
def test_without_a_time_and_without_unspliced_counts_cytotrace(spliced_alone, run, monkeypatch):
    """The pseudotime is that of the kernel on means of all genes over the neighbours."""
    monkeypatch.setattr(_trends.tl, "fit_trends", lambda *_, **__: 1 / 0)
    result = run(spliced_alone, "--weight", "1", "--backward", fates=True).succeeded()
    assert "Found no unspliced counts and no velocities: going along the pseudotime of CytoTRACE" in result.out
    assert "WARNING: Going on without trends of genes: ZeroDivisionError" in result.out
    written = result.cells
    assert str(jv.kernels.from_adata(written, "T_bwd")) == "~CytoTRACEKernel[n=150]"
    assert "means_of_neighbors" not in written.layers
    near = sp.csr_matrix(written.obsp["connectivities"] > 0, dtype=float) + sp.eye_array(150)
    other = written.copy()
    other.layers["Ms"] = (near @ written.X).toarray() / np.asarray(near.sum(axis=1)).reshape(-1, 1)
    expected = jv.kernels.CytoTRACEKernel(other).compute_cytotrace("Ms").pseudotime
    np.testing.assert_allclose(written.obs["ct_pseudotime"], expected, atol=1e-5)


def test_kinds_of_time(spliced_alone, monkeypatch):
    n = spliced_alone.n_obs
    spliced_alone.obs["hours"] = np.arange(n) % 4 * 6.0
    spliced_alone.obs["text"] = [str(time) for time in spliced_alone.obs["time"]]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    kinds = {"time": PSEUDOTIME, "text": PSEUDOTIME, "day": DAYS, "hours": DAYS, None: CYTOTRACE}
    assert {key: plan_of(spliced_alone, time_key=key).time for key in kinds} == kinds


def test_where_velocities_can_be_they_are_taken(cells, spliced_alone):
    assert not goes_along_time(cells, Options("cells.h5ad"))
    assert goes_along_time(cells, Options("cells.h5ad", time_key="clusters"))
    assert goes_along_time(spliced_alone, Options("cells.h5ad"))
    assert not goes_along_time(spliced_alone, Options("cells.h5ad", velocity_mode="stochastic"))
    assert not goes_along_time(spliced_alone, Options("cells.h5ad", recompute=("velocity",)))


def missing(cells):
    cells.obs.loc[cells.obs_names[3], "time"] = np.nan


def constant(cells):
    cells.obs["time"] = 1.0


def unordered(cells):
    cells.obs["time"] = pd.Categorical(np.array(["young", "old"])[np.arange(cells.n_obs) % 2])


def empty(cells):
    cells.X = None


def not_finite(cells):
    cells.X.data[0] = np.nan


def scaled(cells):
    cells.X = cells.X.toarray() - 1.0


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (missing, ["--time-key", "time"], "a finite time of each cell in `adata.obs['time']`, found 1 cells without"),
        (constant, ["--time-key", "time"], "times that differ in `adata.obs['time']`, found 1 for all 150 cells"),
        (unordered, ["--time-key", "time"], "that are numbers or have an order, found ['old', 'young']"),
        (empty, ["--time-key", "time"], "Expected expression in `X`, found none"),
        (not_finite, ["--time-key", "time"], "Expected finite values in `X`, found 1 that are NaN"),
        (None, ["--time-key", "dpt"], "Expected `obs['dpt']`, found the keys ['clusters', 'time', 'day']"),
        (None, ["--time-key", "day", "--backward"], "Expected a pseudotime for --backward, found the 3 time points"),
        (None, ["--time-key", "time", "--velocity-mode", "stochastic", "--recompute", "moments"],
         "for velocities: --velocity-mode, --recompute moments."),
        (scaled, [], "from which CytoTRACE counts the genes that a cell expresses, found negative numbers"),
    ],
)  # fmt: skip
def test_what_is_refused(spoil, options, message, spliced_alone, run):
    if spoil is not None:
        spoil(spliced_alone)
    result = run(spliced_alone, *options).refused()
    assert message in result.err


def test_couplings_of_days_need_their_extra(spliced_alone, run, monkeypatch):
    monkeypatch.setattr("jaxvelo.cli._plan_along_time.find_spec", lambda name: None)
    result = run(spliced_alone, "--time-key", "day").refused()
    assert 'pip install "jaxvelo[ot]"' in result.err
