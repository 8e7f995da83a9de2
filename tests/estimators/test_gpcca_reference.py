"""Equality with CellRank 2.3.3 on the pancreas: what the memberships decide, and what follows from terminal states."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import PrecomputedKernel

pytestmark = pytest.mark.any_precision  # double precision, on the host


@pytest.fixture(scope="module")
def estimator(pancreas):
    adata = pancreas.adata[:, :20].copy()
    return GPCCA(PrecomputedKernel(pancreas.matrix, adata=adata, backward=False)).compute_schur()


@pytest.fixture(scope="module", params=[4, 5, 7, 9])
def of_cellrank(request, estimator, pancreas):
    """Macrostates by the same search, and what CellRank found for as many."""
    copied = estimator.copy()
    copied.compute_macrostates(request.param, cluster_key="clusters", optimizer="nelder-mead")
    prefix = f"macro{request.param}/"
    found = {key.removeprefix(prefix): pancreas.results[key] for key in pancreas.results if key.startswith(prefix)}
    return copied, found


def as_text(states):
    return states.astype(object).where(states.notna(), "").to_numpy(dtype=str)


def test_schur_and_eigenvalues(estimator, pancreas):
    np.testing.assert_allclose(estimator.eigendecomposition["D"], pancreas.results["schur/eigenvalues"], atol=1e-8)
    assert estimator.eigendecomposition["eigengap"] == 3


def test_macrostates(of_cellrank):
    estimator, expected = of_cellrank
    assert estimator.macrostates.cat.categories.tolist() == expected["names"].tolist()
    np.testing.assert_array_equal(as_text(estimator.macrostates), expected["assignment"])
    np.testing.assert_allclose(estimator.macrostates_memberships.X, expected["memberships"], atol=1e-3)
    np.testing.assert_allclose(estimator.coarse_T, expected["coarse_T"], atol=1e-3)
    np.testing.assert_allclose(estimator.coarse_initial_distribution, expected["initial"], atol=1e-3)
    np.testing.assert_allclose(estimator.coarse_stationary_distribution, expected["stationary"], atol=1e-3)
    assert estimator.crispness == pytest.approx(float(expected["crispness"]), abs=1e-4)


@pytest.mark.parametrize("method", ["stability", "top_n", "eigengap"])
def test_terminal_states(of_cellrank, method):
    estimator, expected = of_cellrank
    estimator.predict_terminal_states(method, n_states=3)
    assert estimator.terminal_states.cat.categories.tolist() == expected[f"terminal_{method}"].tolist()


def test_initial_states(of_cellrank):
    estimator, expected = of_cellrank
    estimator.predict_initial_states(allow_overlap=True)
    found = estimator.initial_states.cat.categories.tolist()
    if "initial_states" in expected:
        assert found == expected["initial_states"].tolist()
    else:  # by the smallest share in the long run, Epsilon would be initial where there are nine
        assert found[0].startswith("Ductal")


def test_fates_times_and_priming(estimator, pancreas):
    results = pancreas.results
    estimator = estimator.copy()
    names = results["fate/names"].tolist()
    states = pd.Series(results["fate/terminal_states"], index=pancreas.adata.obs_names)
    states = states.where(states.isin(names)).astype(pd.CategoricalDtype(names))
    estimator.set_terminal_states(states, cluster_key="clusters")
    estimator.compute_fate_probabilities()
    assert estimator.fate_probabilities.names.tolist() == names
    np.testing.assert_allclose(estimator.fate_probabilities, results["fate/direct"], rtol=1e-8, atol=1e-12)
    for method in ("kl_divergence", "entropy"):
        expected = results[f"fate/priming_{method}"]
        np.testing.assert_allclose(estimator.compute_lineage_priming(method), expected, atol=1e-8)
    estimator.compute_absorption_times(calculate_variance=True)
    for column in estimator.absorption_times:
        np.testing.assert_allclose(estimator.absorption_times[column], results[f"fate/times/{column}"], rtol=1e-8)


def test_tsi(estimator, pancreas):
    ends = ["Alpha", "Beta", "Epsilon", "Delta"]
    score = estimator.tsi(9, ends, "clusters", show_progress_bar=False)
    assert score == pytest.approx(float(pancreas.results["tsi/score"]), abs=1e-6)
