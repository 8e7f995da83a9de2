"""Errors of other packages: which step failed, on what, and how; a result less is no error."""

import re

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.cli import _umap
from jaxvelo.cli._errors import is_foreseen, message_of
from tests.cli.conftest import STOCHASTIC, same

pytestmark = pytest.mark.any_precision


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        KeyError("params"),
        AttributeError("'csr_array' object has no attribute 'getnnz'"),
        IndexError("index 3 is out of bounds"),
        RuntimeError("RESOURCE_EXHAUSTED"),
        AssertionError(),
        MemoryError("Unable to allocate 3 GiB"),
        np.linalg.LinAlgError("did not converge"),
        ValueError("Input contains NaN"),
        ZeroDivisionError("division by zero"),
    ],
)
def test_an_error_that_nobody_has_foreseen(error, cells, run, monkeypatch):
    monkeypatch.setattr(jv.pp, "moments", raising(error))
    result = run(cells, *STOCHASTIC)
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert f"Computing moments failed with {type(error).__name__}" in result.err
    assert message_of(error) in result.err
    assert "--verbose" in result.err
    assert "Traceback" not in result.out
    verbose = run(cells, *STOCHASTIC, "--verbose")
    assert verbose.status == 1
    assert "Traceback" in verbose.out
    assert "--verbose" not in verbose.err


def test_checks_of_our_own_are_foreseen():
    with pytest.raises(KeyError) as caught:
        jv.pp.moments(ad.AnnData(np.ones((3, 2))))
    assert is_foreseen(caught.value)
    with pytest.raises(ValueError, match="not enough values") as caught:
        _first, _second = [1]
    assert not is_foreseen(caught.value)


@pytest.mark.usefixtures("undrawn")
def test_neighbors_without_a_note_of_how_they_were_made(results, run):
    del results.obsm["X_umap"]
    expected = run(results).succeeded()
    for note in ({}, {"params": {}}, {"params": {"method": "gauss"}}, {"params": {"use_rep": "X_gone", "n_pcs": 99}}):
        keys = {"connectivities_key": "connectivities", "distances_key": "distances"}
        results.uns["neighbors"] = {**keys, **note}
        result = run(results).succeeded()
        assert "WARNING" not in result.out
        assert same(result.cells.obsm["X_umap"], expected.cells.obsm["X_umap"])
        assert set(result.cells.uns["neighbors"]) == {*keys, *note}  # what is the user's stays as it is
    del results.uns["neighbors"], results.obsm["X_pca"]
    assert "X_umap" in run(results).succeeded().cells.obsm


@pytest.mark.parametrize("with_components", [True, False])
def test_without_a_umap_pictures_are_of_principal_components(with_components, results, run, monkeypatch):
    del results.obsm["X_umap"]
    if not with_components:
        del results.obsm["X_pca"]
    monkeypatch.setattr(_umap, "compute_umap", raising(TypeError("cannot use scipy.linalg.eigh")))
    result = run(results).succeeded()
    warning = "The UMAP failed: drawing in the first principal components instead. TypeError: cannot use scipy"
    assert f"WARNING: {warning}" in result.out
    assert {"stream.png", "grid.png", "random_walks.png"} <= set(result.files)
    assert "X_umap" not in result.cells.obsm
    assert result.cells.obsm["T_fwd_pca"].shape[1] >= 2


def test_umap_of_isolated_cells_and_separate_parts(results, run):
    del results.obsm["X_umap"]
    graph = results.obsp["connectivities"].tolil()
    graph[:3], graph[:, :3] = 0, 0
    graph[3:70, 70:], graph[70:, 3:70] = 0, 0
    results.obsp["connectivities"] = sp.csr_matrix(graph)
    result = run(results).succeeded()
    assert {"stream.png", "grid.png"} <= set(result.files)


@pytest.mark.usefixtures("undrawn")
def test_a_chosen_model_is_not_replaced_by_another(cells, run):
    few = cells[:, :9].copy()
    result = run(few, "--velocity-mode", "dynamical")
    assert result.status == 2
    assert re.search(r"Only \d genes have a fit.*Choose stochastic or deterministic as --velocity-mode", result.err)
    assert not result.files


@pytest.mark.usefixtures("undrawn")
def test_without_counts_the_model_that_needs_none_takes_over(results, run):
    del results.layers["spliced"], results.layers["unspliced"], results.layers["velocity"]
    few = results[:, :9].copy()
    result = run(few, "--recompute", "velocity").succeeded()
    assert "taking the deterministic model instead" in result.out


@pytest.mark.usefixtures("undrawn")
def test_no_gene_with_enough_counts(cells, run):
    result = run(cells, "--min-shared-counts", "1000000")
    assert result.status == 2
    assert "min_shared_counts" in result.err or "--min-shared-counts" in result.err
    assert not result.files


def test_odd_columns_beside_the_counts(cells, run):
    """Cells and genes without any count, and a gene that is the same everywhere."""
    for name in ("spliced", "unspliced"):
        counts = cells.layers[name].toarray()
        counts[:2], counts[:, 1], counts[:, 2] = 0, 0, 1
        cells.layers[name] = sp.csr_matrix(counts)
    assert run(cells, *STOCHASTIC).succeeded().cells.n_obs == cells.n_obs


@pytest.mark.usefixtures("undrawn")
def test_latent_time_that_fails_in_any_way(results, run, monkeypatch):
    monkeypatch.setattr(jv.tl, "latent_time", raising(AttributeError("no attribute")))
    result = run(results, "--recompute", "velocity").succeeded()
    assert "WARNING: Going on without a latent time: no attribute" in result.out


@pytest.mark.parametrize("size", [(9, 60), (150, 1)])
def test_too_few(size, cells, run):
    assert "Expected at least" in run(cells[: size[0], : size[1]].copy()).refused().err
