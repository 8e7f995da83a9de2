"""What stands in an AnnData object may be older than what it describes, of other cells, or in other units."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxvelo as jv
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision

USES = {
    "terminal states": lambda a: jv.tl.terminal_states(a),
    "pseudotime": lambda a: jv.tl.velocity_pseudotime(a),
    "latent time": lambda a: jv.tl.latent_time(a, min_likelihood=None),
}


def order_of(adata):
    return np.random.default_rng(0).permutation(adata.n_obs)


# The velocity graph, which AnnData neither cuts nor sorts with the cells.


@pytest.mark.parametrize("use", ["terminal states", "pseudotime"])
def test_graph_of_cells_in_another_order(adata, use):
    other = adata[order_of(adata)].copy()
    message = (
        r"`adata.uns\['velocity_graph'\]` to be the graph of these velocities.*another order.*jaxvelo.tl.velocity_graph"
    )
    with unchanged(other), pytest.raises(ValueError, match=message):
        USES[use](other)
    jv.tl.velocity_graph(other)
    USES[use](other)


@pytest.mark.parametrize("use", ["terminal states", "pseudotime"])
def test_graph_of_older_velocities(adata, use):
    """New velocities leave the old graph: their parameters tell."""
    adata.layers["Mu"] = adata.layers["Mu"] * np.random.default_rng(0).uniform(0.5, 1.5, adata.shape)
    jv.tl.velocity(adata, mode="deterministic")
    with unchanged(adata), pytest.raises(ValueError, match=r"was computed before these velocities.*tl.velocity_graph"):
        USES[use](adata)
    jv.tl.velocity_graph(adata)
    USES[use](adata)


def test_graph_of_other_genes(adata, caplog):
    """It is related, and may be meant."""
    genes = adata.var_names[:4]
    jv.tl.velocity_graph(adata, gene_subset=list(genes))
    with caplog.at_level("WARNING", logger="jaxvelo"):
        jv.tl.terminal_states(adata)
    assert "`adata.uns['velocity_graph']` has correlations that agree by 0." in caplog.text
    assert "it may be older, or of other genes" in caplog.text


@pytest.mark.parametrize("roots", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"n_neighbors": 5}, {"mode_neighbors": "connectivities"}])
def test_graph_of_these_velocities(adata, caplog, roots, arguments):
    """Roots of velocities, other neighbours, sparse layers: all are recognised."""
    jv.tl.velocity_graph(adata, sqrt_transform=roots, **arguments)
    adata.layers["velocity"] = sp.csr_matrix(adata.layers["velocity"])
    with caplog.at_level("WARNING", logger="jaxvelo"):
        jv.tl.terminal_states(adata)
        assert "agree" not in caplog.text
        part = adata.copy()
        del part.layers["Ms"]  # without it there is nothing to compare with
        jv.tl.terminal_states(part)
    assert "agree" not in caplog.text


@pytest.mark.parametrize("value", ["text", np.arange(3), None])
def test_parameters_that_are_none(adata, value):
    adata.uns["velocity_params"] = value
    jv.tl.velocity_graph(adata)
    assert adata.uns["velocity_params"] == {"mode_neighbors": "distances", "n_recurse_neighbors": 2}


# Root cells and end points.


def test_end_points_are_kept(adata):
    """Only what is missing is computed and written."""
    adata.obs["end_points"] = np.linspace(0, 1, adata.n_obs)
    with unchanged(adata, "/obs"):
        before = adata.obs["end_points"].copy()
        jv.tl.velocity_pseudotime(adata)
    assert "root_cells" in adata.obs
    pd.testing.assert_series_equal(adata.obs["end_points"], before)


def test_root_cells_that_say_nothing_are_replaced(adata, caplog):
    adata.obs["root_cells"] = 0.0
    with caplog.at_level("WARNING", logger="jaxvelo"):
        jv.tl.velocity_pseudotime(adata)
    assert "`adata.obs['root_cells']` marks no cell: replacing it" in caplog.text
    assert adata.obs["root_cells"].max() == 1


@pytest.mark.parametrize(
    "values",
    [
        lambda mask: mask,
        lambda mask: mask.astype(int),
        lambda mask: mask.astype(str),
        lambda mask: pd.Categorical(mask.astype(str)),
        lambda mask: pd.array(np.where(mask, True, None), dtype="boolean"),
        lambda mask: pd.Categorical(np.where(mask, "root", None)),
        lambda mask: np.where(mask, 1.0, np.nan),
    ],
)
def test_marks_of_any_type(adata, values):
    """Truth values as files give them back are no labels: "False" marks nothing."""
    mask = np.arange(adata.n_obs) < 4
    expected = jv.tl.velocity_pseudotime(adata, root_key=mask_key(adata, mask.astype(float)), copy=True)
    adata.obs["marks"] = values(mask)
    jv.tl.velocity_pseudotime(adata, root_key="marks")
    np.testing.assert_array_equal(adata.obs["velocity_pseudotime"], expected.obs["velocity_pseudotime"])


def mask_key(adata, score):
    adata.obs["score"] = score
    return "score"


def test_cells_by_name(adata):
    name = adata.obs_names[7]
    by_number = jv.tl.velocity_pseudotime(adata, root_key=7, copy=True).obs["velocity_pseudotime"]
    by_name = jv.tl.velocity_pseudotime(adata, root_key=name, copy=True).obs["velocity_pseudotime"]
    np.testing.assert_array_equal(by_name, by_number)
    adata.obs_names = [name, *adata.obs_names[1:]]
    with unchanged(adata), pytest.raises(ValueError, match=r"several times.*`adata.obs_names_make_unique\(\)`"):
        jv.tl.velocity_pseudotime(adata, root_key=name)
    with unchanged(adata), pytest.raises(KeyError, match="number or the name of a cell, found `'absent'`"):
        jv.tl.velocity_pseudotime(adata, root_key="absent")


def test_column_of_root_cells_twice(adata):
    adata.obs["score"] = 1.0
    adata.obs = pd.concat([adata.obs, adata.obs[["score"]]], axis=1)
    with pytest.raises(ValueError, match=r"one column `adata.obs\['score'\]`, found 2"):
        jv.tl.velocity_pseudotime(adata, root_key="score")


# Masks of genes.


def test_highly_variable_genes_of_any_type(adata, tmp_path):
    chosen = np.arange(adata.n_vars) % 2 == 0
    adata.var["highly_variable"] = chosen
    expected = jv.tl.velocity(adata, mode="deterministic", copy=True).var["velocity_genes"]
    assert not expected[~chosen].any()
    for values in (chosen.astype(int), chosen.astype(float), chosen.astype(str), pd.array(chosen, dtype="boolean")):
        adata.var["highly_variable"] = values
        adata.write_h5ad(tmp_path / "cells.h5ad")
        back = anndata.read_h5ad(tmp_path / "cells.h5ad")
        jv.tl.velocity(back, mode="deterministic")
        np.testing.assert_array_equal(back.var["velocity_genes"], expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (False, "to mark some of the .* genes, found none.*use_highly_variable=False"),
        (0, "found none"),
        (2, "booleans, or 0 and 1"),
    ],
)
def test_highly_variable_genes_that_say_nothing(adata, values, message):
    adata.var["highly_variable"] = values
    with unchanged(adata), pytest.raises(ValueError, match=message):
        jv.tl.velocity(adata, mode="deterministic")
    jv.tl.velocity(adata, mode="deterministic", use_highly_variable=False)


# Fits.


@pytest.fixture(scope="module")
def fitted(with_velocity_graph):
    adata = with_velocity_graph.copy()
    jv.tl.recover_dynamics(adata, "all", max_iter=5, show_progress_bar=False)
    jv.tl.velocity(adata, mode="dynamical")
    return adata


@pytest.mark.parametrize("layer", ["Ms", "Mu"])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_moments_in_another_unit(fitted, layer, factor):
    """As of another normalisation: then rates and curves are not of these counts."""
    adata = fitted.copy()
    adata.layers[layer] = adata.layers[layer] * factor
    message = (
        rf"`adata.layers\['{layer}'\]` to be the moments.*{factor:.1g}.* times .*`adata.var\['fit_std.*another unit"
    )
    with unchanged(adata), pytest.raises(ValueError, match=message):
        jv.tl.velocity(adata, mode="dynamical")


def test_part_of_the_cells_of_a_fit(fitted):
    part = fitted[fitted.obs["true_time"] < fitted.obs["true_time"].median()].copy()
    jv.tl.velocity(part, mode="dynamical")
    np.testing.assert_array_equal(part.layers["velocity"], fitted[part.obs_names].layers["velocity"])


@pytest.mark.parametrize("dtype", ["Float64", object, str])
def test_rates_of_any_type(fitted, dtype):
    """Numbers with missing values, and numbers that a file has made text."""
    adata = fitted.copy()
    adata.var["fit_alpha"] = adata.var["fit_alpha"].where(np.arange(adata.n_vars) > 1).astype(dtype)
    jv.tl.velocity(adata, mode="dynamical")
    known = np.isfinite(adata.layers["velocity"]).all(axis=0)
    assert not known[:2].any()
    np.testing.assert_array_equal(adata.layers["velocity"][:, known], fitted.layers["velocity"][:, known])
    adata.var["fit_alpha"] = "a"
    with unchanged(adata), pytest.raises(ValueError, match=r"numbers in `adata.var\['fit_alpha'\]`"):
        jv.tl.velocity(adata, mode="dynamical")
