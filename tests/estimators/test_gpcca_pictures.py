"""Each picture's method draws what `jaxvelo.pl` draws of the keys of the estimator's direction."""

import numpy as np
import pytest

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import PrecomputedKernel

pytestmark = pytest.mark.any_precision


@pytest.fixture(scope="module")
def backward(made):
    adata = made.copy()
    estimator = GPCCA(PrecomputedKernel(adata.obsp["T_fwd"], adata=adata, backward=True))
    estimator.compute_macrostates(4, n_cells=5, cluster_key="clusters").predict_terminal_states("eigengap", n_cells=5)
    estimator.predict_initial_states(n_cells=5).compute_fate_probabilities()
    estimator.compute_lineage_drivers()
    estimator.tsi(3, ["left"], "clusters", n_cells=3, show_progress_bar=False)
    return estimator


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("plot_macrostates", {"which": "all"}),
        ("plot_macrostates", {"which": "terminal", "discrete": False, "same_plot": False}),
        ("plot_macrostates", {"which": "initial", "states": "trunk"}),
        ("plot_fate_probabilities", {}),
        ("plot_fate_probabilities", {"mode": "time", "time_key": "time", "same_plot": False}),
        ("plot_spectrum", {"n": 5}),
        ("plot_schur_matrix", {}),
        ("plot_coarse_T", {}),
        ("plot_macrostate_composition", {"key": "clusters"}),
        ("plot_lineage_drivers", {"lineage": "left", "n_genes": 2}),
        ("plot_lineage_drivers_correlation", {"lineage_x": "left", "lineage_y": "right"}),
        ("plot_tsi", {"n_macrostates": 3}),
    ],
)
def test_pictures(backward, method, arguments):
    before = {name: sorted(getattr(backward.adata, name)) for name in ("obs", "obsm", "uns")}
    axes = getattr(backward, method)(show=False, **arguments)
    assert np.size(axes) >= 1
    assert before == {name: sorted(getattr(backward.adata, name)) for name in ("obs", "obsm", "uns")}
