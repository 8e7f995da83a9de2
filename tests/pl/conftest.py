import copy

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo import settings

NAMES = ["early", "middle", "late"]


def make_cells(n: int = 60) -> anndata.AnnData:
    """Cells on a bent line in two and three dimensions, with arrows along it."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 3, n))
    plane = np.stack([time, np.sin(time)], axis=1) + 0.05 * rng.standard_normal((n, 2))
    along = np.stack([np.ones(n), np.cos(time)], axis=1) * 0.1
    counts = rng.poisson(2.0, (n, 6)).astype(np.float32)
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(
            {
                "clusters": pd.Categorical.from_codes(time.astype(int), NAMES),
                "day": pd.Categorical(np.floor(time * 2) / 2),
                "time": time,
                "flag": time > 1,
                "label": [f"group {int(t)}" for t in time],
            },
            index=[f"cell_{i}" for i in range(n)],
        ),
        var=pd.DataFrame(index=[f"gene_{i}" for i in range(6)]),
        layers={"spliced": sp.csr_matrix(counts), "unspliced": sp.csr_matrix(rng.poisson(0.5, (n, 6)).astype(float))},
        obsm={
            "X_umap": plane.astype(np.float32),
            "X_umap3d": np.column_stack([plane, time**2]),
            "T_fwd_umap": along,
            "T_fwd_umap3d": np.column_stack([along, 0.2 * time]),
        },
        uns={"clusters_colors": ["#ff0000", "#00ff00", "#0000ff"]},
    )


@pytest.fixture
def cells() -> anndata.AnnData:
    return make_cells()


@pytest.fixture(autouse=True)
def closed():
    """Close what a test opened, and undo what it set."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
    settings.figdir = "."
    settings.set_figure_params()


@pytest.fixture
def unchanged(cells):
    """Check at the end that drawing left the cells as they were."""
    before = cells.copy()
    uns = copy.deepcopy(dict(cells.uns))
    yield cells
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    pd.testing.assert_frame_equal(cells.var, before.var)
    assert dict(cells.uns) == uns
    assert list(cells.obsm) == list(before.obsm)
    for key in before.obsm:
        np.testing.assert_array_equal(cells.obsm[key], before.obsm[key])
    for key in before.layers:
        assert abs(cells.layers[key] - before.layers[key]).max() == 0
    assert abs(cells.X - before.X).max() == 0
