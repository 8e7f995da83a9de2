"""The dynamical model on moments that stay on disk: the same numbers, in whatever parts and however often it ends."""

import tracemalloc
from functools import partial

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.annotated.gene_records import GeneRecord
from jaxvelo.annotated.layer_files import LayerFile
from tests.layers_on_disk import cells_on_a_ring, written

pytestmark = pytest.mark.any_precision
SMALL = "130 kB"
"""A budget for ten genes, or fewer."""
OF_CELLS = ("fit_t", "fit_tau", "fit_tau_", "fit_on", "fit_velocity")
VELOCITIES = ("velocity", "velocity_u")


def fitted(adata, var_names="all", max_iter=5, **options):
    jv.tl.recover_dynamics(adata, var_names, max_iter=max_iter, show_progress_bar=False, **options)
    jv.tl.velocity(adata, mode="dynamical", memory_limit=options.get("memory_limit"))
    return adata


def same(found, expected):
    for name in (*OF_CELLS, *VELOCITIES):
        layer = found.layers[name]
        assert isinstance(layer, h5py.Dataset)
        assert layer.dtype == expected.layers[name].dtype
        np.testing.assert_array_equal(layer[:], expected.layers[name], name)
    pd.testing.assert_frame_equal(found.var, expected.var, check_exact=True)
    for name, values in expected.varm.items():
        np.testing.assert_array_equal(found.varm[name], values, name)
    assert found.uns == expected.uns


@pytest.fixture(scope="module")
def moments():
    adata = cells_on_a_ring(120, 37)
    jv.pp.moments(adata)
    adata.layers["Ms"][:, 5] = 0
    return adata


@pytest.fixture(scope="module")
def in_memory(moments):
    return fitted(moments.copy(), standard_errors=True)


def on_disk(adata, folder):
    return jv.read(written(adata, folder / "ring.h5ad"), backed=True)


def test_fits_and_velocities_as_in_memory(moments, in_memory, tmp_path):
    backed = fitted(on_disk(moments, tmp_path), standard_errors=True, memory_limit=SMALL)
    same(backed, in_memory)
    assert backed.layers["fit_t"].chunks[1] < 37, "more than one part"
    assert backed.layers["velocity"].chunks is None, "rows one after another"
    # What an earlier fit has left of other genes stays, and their models are found anew with those of the new ones.
    again = in_memory.copy()
    for adata, limit in ((backed, SMALL), (again, None)):
        adata.var.loc["g20", "fit_gamma"] *= 1.1  # as if another fit had changed it
        fitted(adata, ["g3", "g5", "g17"], max_iter=8, fit_scaling=False, memory_limit=limit)
    same(backed, again)


def test_genes_and_steady_states_are_found_as_in_memory(moments, tmp_path):
    backed, adata = on_disk(moments, tmp_path), moments.copy()
    for cells, limit in ((backed, SMALL), (adata, None)):
        jv.tl.recover_dynamics(
            cells, n_top_genes=4, max_iter=5, t_max=False, show_progress_bar=False, memory_limit=limit
        )
        del cells.var["fit_r2"]
        jv.tl.velocity(cells, mode="dynamical", model="curve", min_likelihood=None, memory_limit=limit)
    same(backed, adata)


def test_groups_with_kinetics_of_their_own_and_fits_of_scvelo(in_memory, tmp_path):
    adata = in_memory.copy()
    for name in ("fit_on", "fit_velocity", *VELOCITIES):
        del adata.layers[name]
    for name in ("fit_velocity_of", "velocity_genes"):
        del adata.var[name]
    adata.obs["clusters"] = pd.Categorical(["a", "b"] * 60)
    adata.var["others"] = np.where(np.arange(37) % 2, "a,b", "b")
    backed = on_disk(adata, tmp_path)
    for cells in (backed, adata):
        jv.tl.velocity(cells, mode="dynamical", diff_kinetics="others", memory_limit="50 kB")
    for name in VELOCITIES:
        np.testing.assert_array_equal(backed.layers[name][:], adata.layers[name])
    assert (adata.layers["velocity"][1::2, np.isfinite(adata.layers["velocity"][0])] == 0).all()
    pd.testing.assert_frame_equal(backed.var, adata.var)


def test_ranks_as_in_memory(in_memory, tmp_path):
    adata = in_memory.copy()
    adata.obs["clusters"] = pd.Categorical(["a", "b"] * 60)
    backed = on_disk(adata, tmp_path)
    ranks = (
        (jv.tl.rank_velocity_genes, {"min_likelihood": 0, "min_corr": -1}, "velocity_score"),
        (jv.tl.rank_dynamical_genes, {}, "fit_likelihood"),
    )
    for rank, options, column in ranks:
        with pytest.raises(ValueError, match="Expected `memory_limit` to hold one block") as error:
            rank(backed, **options, memory_limit=1000)
        rank(backed, **options, memory_limit=str(error.value).split("memory_limit='")[1].split("'")[0])
        rank(adata, **options)
        for name, table in adata.uns[rank.__name__].items():
            if name != "params":
                found = pd.DataFrame(backed.uns[rank.__name__][name])
                pd.testing.assert_frame_equal(found, pd.DataFrame(table), rtol=1e-6)
        assert len(adata.uns[rank.__name__]["names"]) > 10
        np.testing.assert_array_equal(backed.var[column], adata.var[column])
    adata.layers["fit_tau"][3, 4] = np.nan
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"finite numbers in `adata.layers\['fit_tau'\]`"):
        jv.tl.rank_dynamical_genes(on_disk(adata, tmp_path / "other"))


def test_interrupted_runs_go_on_to_the_same_bits(moments, in_memory, tmp_path, monkeypatch):
    path = written(moments, tmp_path / "ring.h5ad")
    left = [0]

    def interrupted(kind, name):
        step = getattr(kind, name)

        def counted(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return step(*arguments)

        monkeypatch.setattr(kind, name, counted)

    for kind, name in ((GeneRecord, "add"), (LayerFile, "write_genes"), (LayerFile, "write"), (LayerFile, "finish")):
        interrupted(kind, name)
    rng = np.random.default_rng(0)
    for attempt in range(100):
        left[0] = int(rng.integers(9, 20))
        backed = jv.read(path, backed=True)
        try:
            fitted(backed, standard_errors=True, memory_limit="200 kB" if attempt % 2 else SMALL)
            break
        except KeyboardInterrupt:
            assert "fit_t" not in backed.layers or "fit_alpha" in backed.var
    assert attempt > 3
    same(backed, in_memory)
    names = {file.name for file in (tmp_path / "ring.layers").iterdir()}
    assert names == {f"{name}.h5" for name in (*OF_CELLS, *VELOCITIES)} | {".dynamics_curves.partial.npz"}

    # After all was done, the curves are found, also where a layer was lost.
    (tmp_path / "ring.layers" / "fit_tau.h5").unlink()
    (tmp_path / "ring.layers" / "fit_velocity.h5").unlink()
    left[0] = 1000
    same(fitted(jv.read(path, backed=True), standard_errors=True), in_memory)


def test_memory_does_not_grow_with_genes_and_a_budget_that_is_asked_for_is_enough(tmp_path):
    n_cells, n_genes = 2500, 36
    cells = np.arange(n_cells)
    steps = [sp.csr_matrix((np.ones(n_cells), (cells, (cells + step) % n_cells))) for step in (1, 2, -1, -2)]
    angle = 2 * np.pi * (cells[:, None] / n_cells + np.arange(n_genes) / n_genes)
    noise = np.random.default_rng(0).gamma(20, 1 / 20, (2, n_cells, n_genes))
    shapes = {"Ms": 1 + np.cos(angle), "Mu": 1 + np.cos(angle + 0.5)}
    layers = {name: (x * y).astype(np.float32) for (name, x), y in zip(shapes.items(), noise, strict=True)}
    adata = ad.AnnData(layers["Ms"], layers=layers, obsp={"connectivities": sum(steps[1:], steps[0])})
    peaks = []
    for some in (12, n_genes):
        (tmp_path / str(some)).mkdir()
        backed = on_disk(adata[:, :some].copy(), tmp_path / str(some))
        fit = partial(jv.tl.recover_dynamics, backed, max_iter=5, show_progress_bar=False)
        velocity = partial(jv.tl.velocity, backed, mode="dynamical")
        if not peaks:
            for step in (partial(fit, ["0"]), velocity):
                with pytest.raises(ValueError, match="Expected `memory_limit` to hold one block") as error:
                    step(memory_limit=1000)
                step(memory_limit=str(error.value).split("memory_limit='")[1].split("'")[0])
        tracemalloc.start()
        try:
            fit("all", memory_limit="3 MiB")
            velocity(memory_limit="3 MiB")
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        finally:
            tracemalloc.stop()
    # The larger has two layers of 0.34 MiB, and seven that are written.
    assert peaks[1] < peaks[0] + 0.4
