"""``jaxvelo run`` ends with terminal states, fates and drivers; what fails there takes nothing from the rest."""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import jaxvelo as jv
from jaxvelo.annotated import progress_bar
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.cli import _pictures, _results
from jaxvelo.estimators import GPCCA

pytestmark = pytest.mark.any_precision

DRAWN = ["coarse_T.png", "drivers_Fate_A.png", "drivers_Fate_B.png", "fate_probabilities.png", "macrostates.png"]


def failing(*_, **__):
    raise ArithmeticError("overflow in a step")


def names_of(cells, key="term_states_fwd"):
    return list(cells.obs[key].cat.categories)


def test_fates_are_written_drawn_and_told(results, run):
    result = run(results, "--cluster-key", "clusters", fates=True).succeeded()
    assert set(DRAWN) <= set(result.files)
    written = result.cells
    expected = GPCCA(jv.kernels.from_adata(written.copy(), "T_fwd"))
    expected.compute_macrostates(cluster_key="clusters").predict_terminal_states().compute_fate_probabilities()
    assert names_of(written) == expected.fate_probabilities.names.tolist()
    np.testing.assert_allclose(written.obsm["lineages_fwd"], expected.fate_probabilities.X, rtol=0, atol=1e-9)
    by_cluster = pd.DataFrame(written.obsm["lineages_fwd"]).groupby(written.obs["clusters"].to_numpy()).mean()
    for cluster, means in by_cluster.iterrows():
        numbers = re.search(rf"\n    {cluster} +([\d. ]+)\n", result.out)[1].split()
        assert numbers == [f"{mean:.2f}" for mean in means]
    drivers = written.varm["terminal_lineage_drivers"]
    fate = written.obsm["lineages_fwd"][:, 0]
    by_hand = [np.corrcoef(x, fate)[0, 1] for x in written.layers["Ms"].T]
    np.testing.assert_allclose(drivers[f"{names_of(written)[0]}_corr"], by_hand, rtol=0, atol=1e-6)
    read = GPCCA.from_adata(written)
    assert str(read.kernel) == str(jv.kernels.from_adata(written, "T_fwd"))
    assert read.fate_probabilities is not None


@pytest.mark.usefixtures("undrawn")
def test_number_of_macrostates_and_direction(results, run):
    result = run(results, "--n-states", "3", "--backward", fates=True).succeeded()
    assert "Computing 3 macrostates" in result.out
    assert len(names_of(result.cells, "macrostates_bwd")) == 3
    assert "lineages_fwd" not in result.cells.obsm


@pytest.mark.usefixtures("undrawn")
def test_no_progress_bar_where_there_is_no_terminal(results, run, monkeypatch):
    """However long a step takes."""
    begun = []

    class Bar(progress_bar.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            begun.append((options["desc"], self.disable))

    monkeypatch.setattr(progress_bar, "tqdm", Bar)
    monkeypatch.setattr(progress_bar, "DELAY", 0)
    run(results, "--recompute", "velocity", fates=True).succeeded()  # with nothing on its error stream
    assert {name for name, _ in begun} >= {"Fits", "Schur vectors", "Fates"}
    assert all(is_silent for _, is_silent in begun)


STEPS = {
    "compute_macrostates": ("macrostates and fates", ()),
    "predict_terminal_states": ("terminal states and fates", ("macrostates_fwd",)),
    "compute_fate_probabilities": ("fate probabilities", ("macrostates_fwd", "term_states_fwd")),
    "compute_lineage_drivers": ("lineage drivers", ("macrostates_fwd", "term_states_fwd", "lineages_fwd")),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_fails_is_a_warning(name, results, run, monkeypatch):
    monkeypatch.setattr(GPCCA, name, failing)
    drawn = []
    monkeypatch.setattr(_pictures, "draw", lambda pictures, out, written: drawn.extend(n for n, _ in pictures))
    result = run(results, fates=True).succeeded()
    what, left = STEPS[name]
    assert re.search(rf"WARNING: Going on without {what}: .*overflow in a step", result.out)
    written = result.cells
    found = [key for key in ("macrostates_fwd", "term_states_fwd") if key in written.obs]
    assert [*found, *(key for key in ("lineages_fwd",) if key in written.obsm)] == list(left)
    assert "terminal_lineage_drivers" not in written.varm
    assert "T_fwd" in written.obsp
    assert "stream" in drawn
    assert ("fate_probabilities" in drawn) == ("lineages_fwd" in left)
    assert not [name for name in drawn if name.startswith("drivers")]


@pytest.mark.usefixtures("undrawn")
def test_the_kernel_is_on_disk_before_fates_and_stays_if_they_cannot_be_written(results, run, tmp_path, monkeypatch):
    seen, write = [], _results.write_h5ad

    def once(adata, path):
        seen.append("lineages_fwd" in adata.obsm)
        if seen[1:]:
            raise OSError("No space left on device")
        write(adata, path)

    monkeypatch.setattr(_results, "write_h5ad", once)
    result = run(results, fates=True).succeeded()
    assert seen == [False, True]
    assert "WARNING: Could not add the results to" in result.out
    assert "T_fwd" in result.cells.obsp
    assert "lineages_fwd" not in result.cells.obsm


def with_states(cells: ad.AnnData) -> ad.AnnData:
    """Cells with the fates of another transition matrix, of both directions, and drivers of ``raw``."""
    cells.raw = cells.copy()
    for backward in (False, True):
        keys = FateKeys(backward)
        cells.obs[keys.initial_states] = pd.Categorical(["a"] * cells.n_obs)
        cells.obsm[keys.fate_probabilities] = np.ones((cells.n_obs, 1))
        cells.uns[keys.parameters] = {"n": 1}
        cells.raw.varm[keys.lineage_drivers] = pd.DataFrame({"a_corr": np.ones(cells.n_vars)}, cells.var_names)
    return cells


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("options", "stay"), [((), False), (("--key", "other"), True)])
def test_fates_of_another_matrix_do_not_stay_beside_the_new_one(options, stay, results, run):
    """With another key they stay, beside the matrix that they are of."""
    result = run(with_states(results), *options).succeeded()
    written = result.cells
    assert ("Leaving out states and fates, which belong to another transition matrix" in result.out) == (not stay)
    assert ("init_states_fwd" in written.obs) == stay
    assert ("lineages_fwd" in written.obsm) == stay
    assert ("fwd_estimator_params" in written.uns) == stay
    assert ("terminal_lineage_drivers" in written.raw.varm) == stay
    assert "init_states_bwd" in written.obs
    assert "initial_lineage_drivers" in written.raw.varm


@pytest.mark.usefixtures("undrawn")
def test_new_fates_replace_others_whatever_the_key(results, run):
    result = run(with_states(results), "--key", "other", fates=True).succeeded()
    assert "init_states_fwd" not in result.cells.obs
    assert "Fates and states are those of `obsp['other']`" in result.out
    assert result.cells.obsm["lineages_fwd"].shape[1] == 2


def test_files_of_pictures():
    assert _pictures.file_name("CD4+ T / NK") == "CD4+_T_NK"

    class Estimator:
        macrostates = coarse_T = None
        fate_probabilities = jv.estimators.Lineage(np.ones((3, 2)) / 2, names=["a/b", "a b"])
        lineage_drivers = pd.DataFrame()
        plot_fate_probabilities = plot_lineage_drivers = staticmethod(print)

    drawn = [name for name, _ in _pictures.of_fates(Estimator(), "umap", None)]
    assert drawn == ["fate_probabilities", "drivers_a_b", "drivers_a_b_1"]
