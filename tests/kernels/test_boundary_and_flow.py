"""Cross-boundary correctness, and the flow between clusters, from keys of an AnnData object."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import VelocityKernel
from tests.snapshot import unchanged


@pytest.fixture
def kernel(cells):
    return VelocityKernel(cells).compute_transition_matrix(softmax_scale=2.0)


def expected_scores(matrix, x, source, target, graph):
    """Plain NumPy: correlation of expected step and weighted displacement to the neighbours in the target."""
    scores = []
    for i in np.flatnonzero(source):
        neighbors = [j for j in graph[[i]].indices if target[j] and graph[i, j] != 0]
        if neighbors:
            observed = sum(graph[i, j] * (x[j] - x[i]) for j in neighbors)
            expected = matrix[[i]].toarray().ravel() @ x - x[i]
            scores.append(np.corrcoef(expected, observed)[0, 1])
    return np.array(scores)


@pytest.mark.parametrize("graph_key", ["distances", "other"])
def test_cbc(cells, kernel, graph_key):
    source, target = (cells.obs["clusters"].to_numpy() == name for name in ("early", "middle"))
    with unchanged(cells):
        scores = kernel.cbc("early", "middle", "clusters", "X_pca", graph_key=graph_key)
    x, graph = cells.obsm["X_pca"], cells.obsp[graph_key]
    expected = expected_scores(kernel.transition_matrix, x, source, target, graph)
    assert len(expected) >= 4
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_formats_of_the_representation(cells, kernel):
    expected = kernel.cbc("early", "middle", "clusters", "X_pca")
    cells.obsm["sparse"] = sp.csr_matrix(cells.obsm["X_pca"])
    cells.obsm["frame"] = pd.DataFrame(cells.obsm["X_pca"], index=cells.obs_names, columns=list("abcde"))
    for rep in ("sparse", "frame"):
        np.testing.assert_array_equal(kernel.cbc("early", "middle", "clusters", rep), expected)
    np.testing.assert_array_equal(kernel.cbc("group 0", "group 1", "label", "X_pca"), expected)


def test_no_boundary(kernel):
    scores = kernel.cbc("early", "late", "clusters", "X_pca", graph_key="other")
    assert scores.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("absent", "middle", "clusters", "X_pca"),
            ValueError,
            r"of `adata.obs\['clusters'\]` in `cluster`, found \['absent'\]",
        ),
        ((["early"], "middle", "clusters", "X_pca"), ValueError, r"in `cluster`, found \[\['early'\]\]"),
        (("early", "absent", "clusters", "X_pca"), ValueError, r"There are \['early', 'middle', 'late'\]"),
        (("early", "middle", "absent", "X_pca"), KeyError, r"`adata.obs\['absent'\]`, found the keys \['clusters'"),
        (("early", "middle", "pseudotime", "X_pca"), TypeError, r"categorical, found float64.*astype\('category'\)"),
        (("early", "middle", "clusters", "absent"), KeyError, r"`adata.obsm\['absent'\]`, found the keys \['X_umap'"),
        (("early", "middle", "clusters", "X_pca", "absent"), KeyError, r"`adata.obsp\['absent'\]`.*graph_key"),
    ],
)
def test_bad_arguments(cells, kernel, arguments, error, message):
    with unchanged(cells), pytest.raises(error, match=message):
        kernel.cbc(*arguments)


def test_bad_distances(cells, kernel):
    cells.obsp["distances"].data[0] = np.nan
    with unchanged(cells), pytest.raises(ValueError, match=r"finite weights in `adata.obsp\['distances'\]`"):
        kernel.cbc("early", "middle", "clusters", "X_pca")


def test_single_flow(cells, kernel, tmp_path):
    with unchanged(cells):
        axes = kernel.plot_single_flow("early", "clusters", "day", show=False)
        assert axes is not None
        kernel.plot_single_flow(
            "early", "clusters", "day", clusters=["middle"], time_points=[0.0, 1.0], save=tmp_path / "flow.png"
        )
    assert (tmp_path / "flow.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("absent", "clusters", "day"), ValueError, "absent"),
        (("early", "absent", "day"), KeyError, "absent"),
        (("early", "clusters", "absent"), KeyError, "absent"),
        (("early", "clusters", "label"), TypeError, "label"),
        (("early", "clusters", "day", ["absent"]), ValueError, "absent"),
        (("early", "clusters", "day", None, [0.0]), ValueError, "time"),
    ],
)
def test_single_flow_that_is_not_there(cells, kernel, arguments, error, message):
    with unchanged(cells), pytest.raises(error, match=message):
        kernel.plot_single_flow(*arguments, show=False)
    assert not plt.get_fignums()
