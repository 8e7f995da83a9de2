"""What cannot be computed is said, and leaves everything as it was."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import ConnectivityKernel, PrecomputedKernel
from tests.bent_line import make_cells as bent_line

pytestmark = pytest.mark.any_precision


def snapshot(estimator):
    """All keys of the AnnData object, and all results."""
    adata = estimator.adata
    keys = {name: sorted(getattr(adata, name)) for name in ("obs", "obsm", "varm", "uns")}
    return keys, estimator._results, adata.obs.copy()


@pytest.fixture
def unchanged(complete):
    """An estimator with all results, which a failure must not change."""
    keys, results, obs = snapshot(complete)
    yield complete
    after_keys, after_results, after_obs = snapshot(complete)
    assert after_keys == keys
    assert after_results is results
    pd.testing.assert_frame_equal(after_obs, obs)


def test_no_matrix_yet():
    with pytest.raises(RuntimeError, match="compute_transition_matrix"):
        GPCCA(ConnectivityKernel(bent_line()))


def test_matrices_that_are_not_stochastic(cells, logged):
    matrix = cells.obsp["T_fwd"]
    with pytest.raises(ValueError, match="non-negative"):
        GPCCA(-matrix)
    with pytest.raises(ValueError, match="positive sum"):
        GPCCA(sp.csr_matrix((5, 5)))
    cells.obsp["half"] = matrix / 2
    estimator = GPCCA("half", adata=cells)
    assert "do not sum to one" in logged()
    np.testing.assert_allclose(estimator.transition_matrix.sum(axis=1), 1)
    np.testing.assert_allclose(GPCCA(matrix.toarray() * 2).transition_matrix.sum(axis=1), 1)
    assert "(smallest sum 2, largest 2). Normalizing them" in logged()
    assert GPCCA(cells).kernel.params == {"origin": "adata.obsp['T_fwd']"}


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda g: g.predict_terminal_states(), "compute_macrostates"),
        (lambda g: g.predict_initial_states(), "compute_macrostates"),
        (lambda g: g.set_terminal_states("left"), "compute_macrostates"),
        (lambda g: g.set_initial_states(), "compute_macrostates"),
        (lambda g: g.rename_terminal_states({"a": "b"}), "predict_terminal_states"),
        (lambda g: g.rename_initial_states({"a": "b"}), "predict_initial_states"),
        (lambda g: g.compute_fate_probabilities(), "predict_terminal_states"),
        (lambda g: g.compute_absorption_times(), "predict_terminal_states"),
        (lambda g: g.compute_lineage_priming(), "compute_fate_probabilities"),
        (lambda g: g.compute_lineage_drivers(), "compute_fate_probabilities"),
        (lambda g: g.plot_tsi(), "tsi"),
    ],
)
def test_what_must_be_computed_first(estimator, call, remedy):
    with pytest.raises(RuntimeError, match=remedy):
        call(estimator)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components"),
        ({"n_components": 3.5}, ValueError, "n_components"),
        ({"which": "SM"}, ValueError, "which"),
        ({"method": "arnoldi"}, ValueError, "krylov"),
        ({"alpha": None}, ValueError, "alpha"),
        ({"initial_distribution": np.ones(3)}, ValueError, "initial_distribution"),
        ({"initial_distribution": np.zeros(80)}, ValueError, "positive"),
        ({"initial_distribution": ["a"] * 80}, ValueError, "numbers in `initial_distribution`"),
    ],
)
def test_schur_vectors(unchanged, arguments, error, message):
    with pytest.raises(error, match=message):
        unchanged.compute_schur(**arguments)


def test_few_cells_have_few_schur_vectors(logged):
    estimator = GPCCA(PrecomputedKernel(np.full((6, 6), 1 / 6) + np.eye(6)))
    estimator.compute_schur()
    assert "6 cells only" in logged()
    assert estimator.schur_vectors.shape == (6, 6)
    estimator.compute_schur(1)
    assert "at least two" in logged()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_states": 0}, ValueError, "n_states"),
        ({"n_states": 2.5}, ValueError, "n_states"),
        ({"n_states": "4"}, ValueError, "n_states"),
        ({"n_states": [3, 4, 5]}, ValueError, "two limits"),
        ({"n_states": [3, 0]}, ValueError, "n_states"),
        ({"n_states": 200}, ValueError, "200"),
        ({"n_states": 4, "n_cells": 0}, ValueError, "n_cells"),
        ({"n_states": 4, "n_cells": 21}, ValueError, "at most 20"),
        ({"n_states": 4, "n_cells": 5, "cluster_key": "absent"}, KeyError, "absent"),
        ({"n_states": 4, "n_cells": 5, "cluster_key": "time"}, TypeError, "categorical"),
        ({"n_states": 4, "n_cells": 5, "optimizer": "newton"}, ValueError, "optimizer"),
        ({"n_states": 4, "n_cells": 5, "n_vectors": 3}, TypeError, "n_vectors"),
        ({"n_states": 4, "n_cells": 5, "which": "SM"}, ValueError, "which"),
        ({"n_states": 4, "n_cells": 5, "n_components": "a"}, ValueError, "n_components"),
    ],
)
def test_macrostates(unchanged, arguments, error, message):
    with pytest.raises(error, match=message):
        unchanged.compute_macrostates(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "best"}, "'stability', 'top_n'"),
        ({"method": "top_n"}, "n_states"),
        ({"method": "top_n", "n_states": 0}, "n_states"),
        ({"method": "top_n", "n_states": 9}, "at most the 4 macrostates"),
        ({"stability_threshold": 1.5}, "that of 'right'"),
        ({"stability_threshold": "high"}, "stability_threshold"),
        ({"method": "eigengap", "alpha": None}, "alpha"),
        ({"n_cells": 0}, "n_cells"),
        ({"n_cells": 60}, "at most"),
        ({"method": "top_n", "n_states": 4, "n_cells": 5}, "5 overlapping cells.*allow_overlap=True"),
    ],
)
def test_predicted_terminal_states(unchanged, arguments, message):
    with pytest.raises(ValueError, match=message):
        unchanged.predict_terminal_states(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_states": 0}, "n_states"),
        ({"n_states": 5}, "at most the 4 macrostates"),
        ({"n_cells": -1}, "n_cells"),
        ({"n_states": 2, "n_cells": 5}, "overlapping"),
    ],
)
def test_predicted_initial_states(unchanged, arguments, message):
    with pytest.raises(ValueError, match=message):
        unchanged.predict_initial_states(**arguments)


@pytest.mark.parametrize(
    ("states", "arguments", "error", "message"),
    [
        ("up", {}, KeyError, r"found \['up'\].*'left'"),
        (["left, up"], {}, KeyError, r"found \['up'\]"),
        (["left, right", "left"], {}, ValueError, "overlapping names"),
        ([], {}, ValueError, "found none"),
        ("left", {"n_cells": 0}, ValueError, "n_cells"),
        ("left", {"agg": "mean"}, ValueError, "agg"),
        ({"a": ["no_cell"]}, {}, KeyError, "no_cell"),
        ({"a": []}, {}, ValueError, "found none"),
        ({"a": [0, 1], "b": [1, 2]}, {}, ValueError, r"\['cell_1'\] in 'b'"),
        ({"a": [0], "b": [70]}, {"cluster_key": "absent"}, KeyError, "absent"),
        ({"clusters": ["up"]}, {}, ValueError, "up"),
        (pd.Series(["a"] * 80), {}, TypeError, "categorical"),
        (pd.Series(pd.Categorical([None] * 80, ["a"])), {}, ValueError, "missing"),
        (pd.Series(pd.Categorical(["a"] * 9)), {}, ValueError, "index"),
        ({"clusters": ["trunk"]}, {}, ValueError, "overlapping cells"),
    ],
)
def test_given_terminal_states(unchanged, states, arguments, error, message):
    with pytest.raises(error, match=message):
        unchanged.set_terminal_states(states, **{"n_cells": 5, **arguments})


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["left"], TypeError, "dictionary"),
        ({"up": "down"}, ValueError, r"found \['up'\]"),
        ({"left": "right"}, ValueError, "each new name once"),
    ],
)
def test_new_names(unchanged, names, error, message):
    with pytest.raises(error, match=message):
        unchanged.rename_terminal_states(names)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"keys": ["up"]}, KeyError, r"found \['up'\]"),
        ({"keys": []}, ValueError, "found none"),
        ({"keys": ["left, right", "left"]}, ValueError, "overlapping"),
        ({"solver": "mumps"}, ValueError, "solver"),
        ({"tol": 0}, ValueError, "tol"),
        ({"tol": 1e-16}, ArithmeticError, "double precision show no smaller one"),
        ({"check_sum_tol": "small"}, ValueError, "check_sum_tol"),
    ],
)
def test_fates(unchanged, arguments, error, message):
    with pytest.raises(error, match=message):
        unchanged.compute_fate_probabilities(**arguments)
    if "check_sum_tol" not in arguments:
        with pytest.raises(error, match=message):
            unchanged.compute_absorption_times(**arguments)


def apart(n_cells=12):
    """Two lines of cells that do not reach each other, and a way from the first cell to both."""
    weights = np.eye(n_cells) + np.eye(n_cells, k=1) + np.eye(n_cells, k=-1)
    half = n_cells // 2
    weights[half - 1, half] = weights[half, half - 1] = 0
    return weights / weights.sum(axis=1, keepdims=True)


def test_cells_that_reach_no_terminal_state():
    estimator = GPCCA(PrecomputedKernel(apart()))
    estimator.set_terminal_states({"a": [0]})
    with pytest.raises(ValueError, match=r"found 6 that reach none, such as \['6', '7', '8'"):
        estimator.compute_fate_probabilities()
    assert estimator.fate_probabilities is None
    assert "lineages_fwd" not in estimator.adata.obsm


def test_a_lineage_that_no_cell_reaches(logged):
    matrix = apart(6)
    matrix[3:] = 0
    matrix[3:, :2] = 0.5
    estimator = GPCCA(PrecomputedKernel(matrix))
    estimator.set_terminal_states({"a": [0], "b": [5]})
    estimator.compute_fate_probabilities()
    assert "No cell goes to ['b']" in logged()
    np.testing.assert_array_equal(estimator.fate_probabilities["b"].X.ravel(), [0, 0, 0, 0, 0, 1])
    estimator.compute_absorption_times()
    assert np.isinf(estimator.absorption_times["b_mean"][:5]).all()


def test_one_terminal_state_is_certain():
    """Exactly, also where equations of so many cells are solved by iteration: what rounding left is no priming."""
    rates = np.random.default_rng(0).uniform(0.2, 1, (3, 700))
    steps = sp.diags_array([rates[0, 1:], rates[1], rates[2, 1:]], offsets=[-1, 0, 1])
    estimator = GPCCA(PrecomputedKernel(sp.csr_matrix(sp.diags_array(1 / steps.sum(axis=1)) @ steps)))
    estimator.set_terminal_states({"end": [699]}).compute_fate_probabilities()
    np.testing.assert_array_equal(estimator.fate_probabilities, 1)
    np.testing.assert_array_equal(estimator.compute_lineage_priming(), 0)


def test_variances_that_are_not_known_hide_no_means():
    """As many steps as there are cells, always: the variance is nothing of two large squares."""
    n_cells = 300
    estimator = GPCCA(PrecomputedKernel(sp.csr_matrix(np.roll(np.eye(n_cells), 1, axis=1))))
    estimator.set_terminal_states({"end": [0]})
    with pytest.raises(ArithmeticError, match="calculate_variance=False"):
        estimator.compute_absorption_times(calculate_variance=True)
    estimator.compute_absorption_times()
    expected = (n_cells - np.arange(n_cells)) % n_cells
    np.testing.assert_allclose(estimator.absorption_times["end_mean"], expected, rtol=1e-6)


def test_all_cells_are_terminal(estimator):
    estimator.set_terminal_states({"clusters": ["trunk", "left", "middle", "right"]})
    estimator.compute_fate_probabilities()
    assert set(np.unique(estimator.fate_probabilities)) == {0, 1}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: g.compute_lineage_drivers("up"), KeyError, "up"),
        (lambda g: g.compute_lineage_drivers(method="t"), ValueError, "method"),
        (lambda g: g.compute_lineage_drivers(layer="absent"), KeyError, "absent"),
        (lambda g: g.compute_lineage_priming("mean"), ValueError, "method"),
        (lambda g: g.compute_lineage_priming(early_cells=["no_cell"]), KeyError, "no_cell"),
        (lambda g: g.compute_eigendecomposition(1), ValueError, "k"),
        (lambda g: g.compute_eigendecomposition(which="SM"), ValueError, "which"),
        (lambda g: g.tsi(0, ["left"], "clusters"), ValueError, "n_macrostates"),
        (lambda g: g.tsi(3, ["left"], "clusters", n_cells=0), ValueError, "n_cells"),
        (lambda g: g.tsi(3, ["left"], "clusters", optimizer="newton"), ValueError, "optimizer"),
        (lambda g: g.tsi(3, ["left"], "absent", show_progress_bar=False), KeyError, "absent"),
    ],
)
def test_further_results(unchanged, call, error, message):
    with pytest.raises(error, match=message):
        call(unchanged)


def test_without_a_stationary_distribution(estimator, monkeypatch, logged):
    """Of the cells: that of macrostates does not need it, only a single one does."""

    def fail(*_):
        raise ArithmeticError("not known so well")

    for file in ("_spectrum", "_macrostate_search"):
        monkeypatch.setattr(f"jaxvelo.estimators.{file}.stationary_distribution", fail)
    estimator.compute_macrostates(4, n_cells=5).predict_initial_states(n_cells=5)
    with pytest.raises(ArithmeticError, match="not known so well"):
        estimator.compute_macrostates(1, n_cells=5)
    assert "stationary_dist" not in estimator.compute_eigendecomposition().eigendecomposition
    assert "not known so well" in logged()


def test_a_criterion_is_checked_with_one_macrostate_too(estimator):
    estimator.compute_macrostates(1, n_cells=5)
    with pytest.raises(ValueError, match="'stability', 'top_n'"):
        estimator.predict_terminal_states("best", n_cells=5)


def test_macrostates_stored_without_their_chain(computed):
    """Several are not one."""
    adata = computed.to_adata()
    del adata.uns["coarse_fwd"]
    read = GPCCA.from_adata(adata)
    for choose in (read.predict_terminal_states, read.predict_initial_states):
        with pytest.raises(RuntimeError, match=r"coarse_fwd.*`\.compute_macrostates\(\)`"):
            choose(n_cells=5)
    del adata.obsm["macrostates_fwd_memberships"]
    with pytest.raises(RuntimeError, match=r"memberships.*`\.compute_macrostates\(\)`"):
        GPCCA.from_adata(adata).set_terminal_states("left", n_cells=5)


def test_macrostates_stored_without_a_long_run(computed):
    adata = computed.to_adata()
    stored = adata.uns["coarse_fwd"]
    del stored.obs["coarse_stat_dist"]
    read = GPCCA.from_adata(adata)
    assert read.coarse_stationary_distribution is None
    with pytest.raises(RuntimeError, match="set_initial_states"):
        read.predict_initial_states(n_cells=5)
