"""The command line, run in the process of the tests on a small simulation; few shapes, so that little is compiled."""

import functools
import logging
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.cli import _demo, main
from jaxvelo.configuration import logger
from tests.cli.conftest import N_CELLS, N_GENES, Outcome, checksum

pytestmark = pytest.mark.usefixtures("optimized")
PICTURES = ("stream.png", "grid.png", "random_walks.png", "proportions.png")
DYNAMICS = ("phase_portraits.png", "latent_time.png")
OVERVIEW = "overview.png"
FATES = ("macrostates.png", "coarse_T.png", "fate_probabilities.png", "drivers_Fate_A.png", "drivers_Fate_B.png")


def simulate(seed: int = 0) -> ad.AnnData:
    return jv.datasets.simulate(n_cells=N_CELLS, n_genes=N_GENES, seed=seed)


def assert_is_picture(path: Path) -> None:
    import matplotlib.image

    picture = matplotlib.image.imread(path)
    assert min(picture.shape[:2]) > 100
    assert np.ptp(picture[..., :3]) > 0.5  # not an empty page


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder and report of ``jaxvelo demo`` on a smaller simulation."""
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch, open(folder / "report", "w+") as report:
        patch.setattr(_demo, "N_CELLS", N_CELLS)
        patch.setattr(jv.datasets, "simulate", functools.partial(jv.datasets.simulate, n_genes=N_GENES))
        patch.setattr(sys, "stdout", report)
        assert main(["demo", "--out", str(out), "--seed", "3"]) == 0
        report.seek(0)
        return out, report.read()


def test_demo_reports_what_it_does_and_finds_the_truth(demo):
    out, report = demo
    pictures = (OVERVIEW, *PICTURES, *DYNAMICS, *FATES)
    assert [path.name for path in sorted(out.iterdir())] == sorted(["kernel.h5ad", "summary.md", *pictures])
    for name in ("kernel.h5ad", "summary.md", *pictures):
        assert f"  {out / name}\n" in report[report.index("Written:") :]
    for name in pictures:
        assert_is_picture(out / name)

    statuses = re.search(r"    Genes: (.*)\n", report)[1]
    assert sum(int(n) for n in re.findall(r"(\d+) [a-z]", statuses)) > 45
    correlations = {
        model: (float(over_genes), float(over_cells))
        for model, over_genes, over_cells in re.findall(r"(dynamical|steady-state) +(\d\S+) +(\d\S+)\n", report)
    }
    assert correlations.keys() == {"dynamical", "steady-state"}
    assert correlations["dynamical"][0] > 0.25
    assert correlations["dynamical"][1] > 0.45
    assert float(re.search(r"Rank correlation of latent time and true time: (\S+)", report)[1]) > 0.8
    error, n_off, n_never = re.search(
        r"median: ([\d.]+) for the (\d+) genes that are switched off on the trunk,\n +[\d.]+ for the (\d+)", report
    ).groups()
    assert int(n_off) + int(n_never) > 45
    # Too few cells to find the ratios themselves: fits come out near the prior's mean, which by itself is off by 0.86.
    assert float(error) < 0.82
    assert re.search(r"once more, it takes \d\.\d+ s\n", report)
    assert float(re.search(r"([\d.]+)% of cells expect to be later", report)[1]) > 65
    started = re.search(r"They started in .*\n", report)[0]
    ends = [float(x) for x in re.findall(r"([\d.]+)% \(true: 50.0%\)", started)]
    assert len(ends) == 2
    # How they share is left to larger data: 30 neighbours of 150 cells connect both fates.
    assert sum(ends) > 90
    assert "(0.8 * VelocityKernel[n=150] + 0.2 * ConnectivityKernel[n=150])" in report
    assert re.search(r"Progenitor -> Intermediate: [\d.]+", report)


def test_demo_ranks_the_genes_by_their_ratio_of_rates(demo):
    """Of the genes that are switched off on the trunk; one value for all of them, or one for another's, does not."""
    var = ad.read_h5ad(demo[0] / "kernel.h5ad")
    is_switched_off = np.isfinite(var.varm["true_off"]).all(axis=1) & var.var["fit_gamma"].notna().to_numpy()
    genes = var.var[is_switched_off]
    fitted = np.log(genes["fit_gamma"] / (genes["fit_beta"] * genes["fit_scaling"]))
    true = np.log(genes["true_gamma"] / genes["true_beta"])
    found = fitted.corr(true, method="spearman")
    rng = np.random.default_rng(0)
    shuffled = [fitted.corr(true.sample(frac=1, random_state=rng).set_axis(true.index), "spearman") for _ in range(500)]
    assert found > np.quantile(shuffled, 0.975)
    assert found > 0.5


def test_demo_report_agrees_with_what_it_wrote(demo):
    out, report = demo
    adata = ad.read_h5ad(out / "kernel.h5ad")
    kernel = jv.kernels.from_adata(adata, "T_fwd")
    assert [type(k).__name__ for k in kernel.kernels] == ["VelocityKernel", "ConnectivityKernel"]
    np.testing.assert_allclose(kernel.transition_matrix.sum(axis=1), 1.0, rtol=1e-12)
    hours = adata.obs["true_time"].to_numpy()
    assert adata.uns["velocity_params"]["mode"] == "dynamical"
    ranks = adata.obs[["latent_time", "true_time"]].corr(method="spearman").iloc[0, 1]
    assert f"Rank correlation of latent time and true time: {ranks:.2f}\n" in report
    error, is_switched_off = _demo.ratio_errors(adata)
    assert f"median: {np.median(error[is_switched_off]):.2f} for the {is_switched_off.sum()} genes" in report
    share = np.mean(kernel.transition_matrix @ hours > hours)
    assert f"{share:.1%} of cells expect to be later in true time after a step" in report
    assert adata.obsm["T_fwd_umap"].shape == (N_CELLS, 2)


def scores_of(fates: pd.DataFrame, truth: pd.Series) -> tuple[float, float]:
    """Accuracy, and mean logarithm of the probability of the true fate, cell by cell."""
    cells = [(fates.loc[cell], fate) for cell, fate in truth.dropna().items()]
    return np.mean([row.idxmax() == fate for row, fate in cells]), np.mean(
        [np.log(max(row[fate], 2.3e-16)) for row, fate in cells]
    )


def test_demo_finds_the_fates(demo):
    """What it prints is what the file says; shuffled fates would be far off."""
    out, report = demo
    adata = ad.read_h5ad(out / "kernel.h5ad")
    names = list(adata.obs["term_states_fwd"].cat.categories)
    assert sorted(names) == ["Fate A", "Fate B"]
    ends = adata.obs[adata.obs["term_states_fwd"].notna()]
    assert (ends["clusters"].astype(str) == ends["term_states_fwd"].astype(str)).mean() > 0.9
    fates = pd.DataFrame(adata.obsm["lineages_fwd"], adata.obs_names, names)
    np.testing.assert_allclose(fates.sum(axis=1), 1, rtol=0, atol=1e-9)
    error, defect = map(
        float, re.search(r"largest error (\S+); probabilities of a cell .* within (\S+)", report).groups()
    )
    assert 0 <= error < 1e-6
    assert abs(fates.sum(axis=1) - 1).max() <= defect * 1.06 < 1e-9

    truth = adata.obs["true_fate"]
    accuracy, log_score = scores_of(fates, truth)
    assert f"    probabilities      {accuracy:9.3f} {log_score:10.3f}\n" in report
    assert f"Fates of the {truth.notna().sum()} cells after the branching" in report
    shares = truth.value_counts(normalize=True)
    shuffled = truth.sample(frac=1, random_state=0).set_axis(truth.index)
    prior = float(np.sum(shares * np.log(shares)))
    assert f"    the fates' shares  {max(shares):9.3f} {prior:10.3f}\n" in report
    assert accuracy > 0.85 > scores_of(fates, shuffled)[0] + 0.2
    assert log_score > -0.35 > prior > scores_of(fates, shuffled)[1]
    means = fates[truth.isna()].mean()
    for name in names:
        assert f"{name} {means[name]:.1%} (true: 50.0%)" in report[report.index("Before it, their mean is") :]


def test_demo_finds_the_genes_of_the_branches(demo):
    out, report = demo
    adata = ad.read_h5ad(out / "kernel.h5ad")
    for number, name in enumerate(adata.obs["term_states_fwd"].cat.categories):
        fate = adata.obsm["lineages_fwd"][:, number]
        correlations = pd.Series([np.corrcoef(x, fate)[0, 1] for x in adata.layers["Ms"].T], adata.var_names)
        top = correlations.sort_values(ascending=False, kind="stable").index[:10]
        shown = re.search(rf"Genes that go most with {name}, by their correlation: (.*)\n", report)[1]
        assert shown == ", ".join(f"{gene} {correlations[gene]:.2f}" for gene in top[:5])
        found = int((adata.var["program"][top] == name.replace("Fate", "fate")).sum())
        assert re.search(rf"switched on in that branch alone: .*{name} {found}\b", report)
        assert found >= 7  # of 15 of 60 genes: 2 or 3 by chance


def test_run_on_raw_counts_does_what_the_demo_does(raw, demo, tmp_path, capsys):
    before, modified = checksum(raw), raw.stat().st_mtime_ns
    out = tmp_path / "out"
    result = Outcome(main(["run", str(raw), "--out", str(out), "--seed", "3"]), capsys.readouterr(), tmp_path)
    assert (result.status, result.err) == (0, "")
    assert checksum(raw) == before
    assert raw.stat().st_mtime_ns == modified

    assert "Computing neighbours and velocities from the spliced and unspliced counts" in result.out
    assert "Guessed that the clusters are `obs['clusters']`" in result.out
    assert re.search(r"Simulating 1000 random walks of 200 steps\n    Finish \(0:\d\d:\d\d", result.out)
    assert re.search(r"Genes: \d+ converged", result.out)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["kernel.h5ad", "summary.md", *PICTURES, *DYNAMICS, *FATES]
    )
    for name in (*PICTURES, *DYNAMICS, *FATES):
        assert_is_picture(out / name)
    written, expected = ad.read_h5ad(out / "kernel.h5ad"), ad.read_h5ad(demo[0] / "kernel.h5ad")
    for key in ("T_fwd", "connectivities"):
        assert (written.obsp[key] != expected.obsp[key]).nnz == 0
    np.testing.assert_array_equal(written.layers["velocity"], expected.layers["velocity"])
    np.testing.assert_array_equal(written.obs["latent_time"], expected.obs["latent_time"])
    np.testing.assert_array_equal(written.obsm["lineages_fwd"], expected.obsm["lineages_fwd"])
    np.testing.assert_array_equal(written.obsm["X_umap"], expected.obsm["X_umap"])


@pytest.mark.parametrize("mode", ["stochastic", "deterministic"])
@pytest.mark.any_precision
def test_run_with_a_steady_state_model(mode, raw, tmp_path, capsys):
    out = tmp_path / "out"
    result = Outcome(
        main(["run", "--no-fates", str(raw), "--velocity-mode", mode, "--out", str(out)]), capsys.readouterr(), tmp_path
    )
    assert (result.status, result.err) == (0, "")
    assert f"Computing velocities ({mode})" in result.out
    assert "Recovering" not in result.out
    written = ad.read_h5ad(out / "kernel.h5ad")
    assert written.uns["velocity_params"]["mode"] == mode
    assert "fit_alpha" not in written.var
    assert sorted(path.name for path in out.iterdir()) == sorted(["kernel.h5ad", "summary.md", *PICTURES])


def few_genes(adata):
    return adata[:, :9].copy()


def cells_without_counts(adata):
    for name in ("spliced", "unspliced"):
        counts = adata.layers[name].toarray()
        counts[:2] = 0
        adata.layers[name] = sp.csr_matrix(counts)
    return adata


def one_cluster(adata):
    adata.obs["clusters"] = pd.Categorical(["all"] * adata.n_obs)
    return adata


@pytest.mark.parametrize(
    ("spoil", "warning", "mode"),
    [
        (
            few_genes,
            r"Only \d genes have a fit of the dynamical model, fewer than 10: taking the stochastic",
            "stochastic",
        ),
        (cells_without_counts, None, "dynamical"),
        (one_cluster, None, "dynamical"),
    ],
)
@pytest.mark.any_precision
def test_run_on_odd_counts(spoil, warning, mode, raw, tmp_path, capsys):
    spoil(ad.read_h5ad(raw)).write_h5ad(raw)
    out = tmp_path / "out"
    result = Outcome(main(["run", "--no-fates", str(raw), "--out", str(out)]), capsys.readouterr(), tmp_path)
    assert (result.status, result.err) == (0, "")
    if warning:
        assert re.search(f"WARNING: {warning}", result.out)
    written = ad.read_h5ad(out / "kernel.h5ad")
    assert written.uns["velocity_params"]["mode"] == mode
    expected = [*PICTURES, *(DYNAMICS if mode == "dynamical" else ())]
    if spoil is one_cluster:  # which is none: there is nothing to tell apart
        assert "Found no clusters" in result.out
        expected.remove("proportions.png")
    assert sorted(path.name for path in out.iterdir()) == sorted(["kernel.h5ad", "summary.md", *expected])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.any_precision
def test_run_on_counts_heeds_no_earlier_fit(raw, tmp_path, capsys):
    adata = ad.read_h5ad(raw)
    adata.var["velocity_genes"] = np.arange(adata.n_vars) < 3
    for name in ("fit_alpha", "fit_beta", "fit_gamma", "fit_t_", "fit_scaling", "fit_likelihood"):
        adata.var[name] = 1.0
    adata.layers["fit_t"] = np.ones(adata.shape, dtype=np.float32)
    adata.varm["fit_covariance"] = np.ones((adata.n_vars, 3))
    adata.var["fit_diff_kinetics"], adata.uns["recover_dynamics"] = "0", {"fit_diff_kinetics": "clusters"}
    adata.var["spearmans_score"] = 0.5
    adata.uns["rank_dynamical_genes"] = adata.uns["rank_velocity_genes"] = {"params": {"groupby": "clusters"}}
    adata.var["fit_quality"] = 7.0  # which no fit writes
    adata.write_h5ad(raw)
    result = Outcome(
        main(["run", "--no-fates", str(raw), "--out", str(tmp_path / "out")]), capsys.readouterr(), tmp_path
    )
    assert (result.status, result.err) == (0, "")
    assert "Leaving out an earlier fit, as moments are new: velocity_genes, fit_alpha" in result.out
    written = ad.read_h5ad(tmp_path / "out" / "kernel.h5ad")
    assert written.uns["velocity_params"]["mode"] == "dynamical"
    assert written.var["velocity_genes"].sum() > 3
    assert (written.var["fit_quality"] == 7).all()
    assert "fit_covariance" not in written.varm
    assert "fit_diff_kinetics" not in {*written.var, *written.uns["recover_dynamics"]}
    assert "spearmans_score" not in written.var
    assert not {"rank_dynamical_genes", "rank_velocity_genes"} & set(written.uns)
    assert set(written.var["fit_status"]) <= {"converged", "not converged", "at a bound", "too few cells", "not fitted"}


def fail(*_, **__):
    raise ValueError("Expected genes to fit, found none.")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.any_precision
def test_run_without_a_dynamical_fit(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jv.tl, "recover_dynamics", fail)
    result = Outcome(
        main(["run", "--no-fates", str(raw), "--out", str(tmp_path / "out")]), capsys.readouterr(), tmp_path
    )
    assert (result.status, result.err) == (0, "")
    assert "WARNING: The dynamical model cannot be fitted: taking the stochastic model instead. Expected" in result.out
    assert "Computing velocities (stochastic)" in result.out


@pytest.mark.usefixtures("undrawn")
@pytest.mark.any_precision
def test_run_falls_back_if_no_fit_is_good_enough(raw, tmp_path, capsys, monkeypatch):
    velocity = jv.tl.velocity
    strict = functools.partial(velocity, min_likelihood=1e9)
    monkeypatch.setattr(jv.tl, "velocity", lambda a, mode: (strict if mode == "dynamical" else velocity)(a, mode=mode))
    result = Outcome(
        main(["run", "--no-fates", str(raw), "--out", str(tmp_path / "out")]), capsys.readouterr(), tmp_path
    )
    assert (result.status, result.err) == (0, "")
    assert "WARNING: Only 0 genes have a dynamical fit that is good enough: taking the stochastic model" in result.out
    written = ad.read_h5ad(tmp_path / "out" / "kernel.h5ad")
    assert written.uns["velocity_params"]["mode"] == "stochastic"
    assert "velocity_u" not in written.layers


@pytest.mark.any_precision
def test_run_goes_on_without_latent_time(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jv.tl, "latent_time", fail)
    out = tmp_path / "out"
    result = Outcome(main(["run", "--no-fates", str(raw), "--out", str(out)]), capsys.readouterr(), tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "WARNING: Going on without a latent time: Expected genes" in result.out
    assert (out / "phase_portraits.png").exists()
    assert not (out / "latent_time.png").exists()


@pytest.mark.any_precision
def test_run_uses_velocities_that_are_there(demo, tmp_path, capsys):
    file = tmp_path / "own.h5ad"
    adata = ad.read_h5ad(demo[0] / "kernel.h5ad")
    adata.layers["own"] = -adata.layers["velocity"]
    adata.obs["kind"] = np.arange(N_CELLS) % 3  # whole numbers are clusters too
    adata.write_h5ad(file)
    before = checksum(file)
    options = ["--vkey", "own", "--xkey", "Ms", "--backward", "--similarity", "cosine", "--softmax-scale", "3"]
    options += [
        "--weight",
        "0.5",
        "--cluster-key",
        "kind",
        "--start",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    result = Outcome(main(["run", "--no-fates", str(file), *options]), capsys.readouterr(), tmp_path)
    assert (result.status, result.err) == (0, "")
    assert checksum(file) == before
    assert "Using the velocities in `layers['own']` with the expression in `layers['Ms']`" in result.out
    assert "Filtered" not in result.out

    velocity = jv.kernels.VelocityKernel(adata, backward=True, vkey="own")
    velocity.compute_transition_matrix(similarity="cosine", softmax_scale=3)
    similarity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    expected = 0.5 * velocity + 0.5 * similarity
    written = ad.read_h5ad(tmp_path / "out" / "kernel.h5ad")
    assert (written.obsp["T_bwd"] != expected.transition_matrix).nnz == 0
    assert "T_bwd_umap" in written.obsm
    assert list(written.obs["kind"].cat.categories) == ["0", "1", "2"]
    assert_is_picture(tmp_path / "out" / "stream.png")


@pytest.mark.any_precision
def test_run_with_another_model_in_three_dimensions(demo, tmp_path, capsys):
    """Only with arrows on a grid, as there are no stream lines."""
    out = tmp_path / "out"
    options = ["--model", "stochastic", "--basis", "umap3d", "--start", "Progenitor", "--out", str(out)]
    result = Outcome(main(["run", "--no-fates", str(demo[0] / "kernel.h5ad"), *options]), capsys.readouterr(), tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "Drawing in the embedding `umap3d`" in result.out
    assert sorted(path.name for path in out.iterdir()) == sorted(["kernel.h5ad", "summary.md", *PICTURES[1:]])
    for name in PICTURES[1:]:
        assert_is_picture(out / name)
        assert f"  {out / name}\n" in result.out
    kernel = jv.kernels.from_adata(ad.read_h5ad(out / "kernel.h5ad"), "T_fwd")
    assert kernel.kernels[0].params["model"] == "stochastic"
    assert kernel.weights == (0.8, 0.2)
    assert kernel.adata.obsm["T_fwd_umap3d"].shape == (N_CELLS, 3)


@pytest.mark.any_precision
def test_run_computes_umap_and_manages_without_clusters(raw, tmp_path, capsys):
    adata = ad.read_h5ad(raw)
    del adata.obsm["X_umap"], adata.obs["clusters"]
    adata.write_h5ad(raw)
    out = tmp_path / "out"
    arguments = ["run", "--no-fates", str(raw), "--n-top-genes", "40", "--weight", "1", "--out", str(out)]
    result = Outcome(main(arguments), capsys.readouterr(), tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "Found no clusters" in result.out
    assert "Drawing in the embedding `umap`, which is computed" in result.out
    written = ad.read_h5ad(out / "kernel.h5ad")
    assert written.obsm["X_umap"].shape == (N_CELLS, 2)
    assert written.var["highly_variable"].sum() == 40
    assert type(jv.kernels.from_adata(written, "T_fwd")) is jv.kernels.VelocityKernel
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["kernel.h5ad", "summary.md", *PICTURES[:3], *DYNAMICS]
    )


@pytest.mark.any_precision
def test_quiet_only_names_the_files_and_replaces_only_these(demo, tmp_path, capsys):
    (tmp_path / "kernel.h5ad").write_text("old")
    (tmp_path / "mine.txt").write_text("keep")
    stream, verbosity = logger.handlers[0].stream, jv.settings.verbosity
    assert main(["run", "--no-fates", str(demo[0] / "kernel.h5ad"), "--quiet", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(r"\nDone in \S+ Written:\n(  \S+\n){6}", out)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert h5py.is_hdf5(tmp_path / "kernel.h5ad")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["kernel.h5ad", "mine.txt", "summary.md", *PICTURES])
    assert (logger.handlers[0].stream, jv.settings.verbosity) == (stream, verbosity)


@pytest.mark.any_precision
def test_failed_writing_leaves_no_half_file(demo, tmp_path, capsys, monkeypatch):
    (tmp_path / "kernel.h5ad").write_text("old")

    def fill_disk(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", fill_disk)
    file = str(demo[0] / "kernel.h5ad")
    result = Outcome(main(["run", "--no-fates", file, "--out", str(tmp_path)]), capsys.readouterr(), tmp_path)
    assert result.status == 2
    assert "No space left on device" in result.err
    assert (tmp_path / "kernel.h5ad").read_text() == "old"
    # The transition matrix alone, as nothing that was computed may be lost.
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["kernel.h5ad", "kernel.npz", "summary.md", *PICTURES])


@pytest.mark.any_precision
def test_help_and_version_need_nothing_heavy():
    code = (
        "import sys\nfrom jaxvelo.cli import main\n"
        "assert main(['--help']) == main(['run', '--help']) == main(['demo', '--help']) == main(['--version']) == 0\n"
        "assert not {'jax', 'anndata', 'scanpy', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"jaxvelo {jv.__version__}\n")


@pytest.mark.any_precision
def test_module_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "jaxvelo", "run", "nowhere.h5ad"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "jaxvelo run: error: There is no file `nowhere.h5ad`.\n"
    assert logging.getLogger("jaxvelo") is logger
