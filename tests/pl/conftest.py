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


def same(found, before):
    if isinstance(found, dict):
        return found.keys() == before.keys() and all(same(found[key], before[key]) for key in found)
    if isinstance(found, anndata.AnnData):
        return np.array_equal(found.X, before.X) and found.obs.equals(before.obs)
    return np.array_equal(found, before)


@pytest.fixture
def unchanged(cells):
    """Check at the end that drawing left the cells as they were."""
    before = cells.copy()
    uns = copy.deepcopy(dict(cells.uns))
    yield cells
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    pd.testing.assert_frame_equal(cells.var, before.var)
    assert same(dict(cells.uns), uns)
    assert list(cells.obsm) == list(before.obsm)
    for key in before.obsm:
        np.testing.assert_array_equal(cells.obsm[key], before.obsm[key])
    for key in before.layers:
        assert abs(cells.layers[key] - before.layers[key]).max() == 0
    assert abs(cells.X - before.X).max() == 0


@pytest.fixture
def fates(cells):
    """The cells with three macrostates, two of them terminal, under CellRank's keys, and results that follow."""
    rng = np.random.default_rng(1)
    states, terminal = ["early", "late_1", "late_2"], ["late_1", "late_2"]
    memberships = rng.dirichlet(np.ones(3), cells.n_obs)
    codes = np.full(cells.n_obs, -1)
    codes[:5], codes[40:45], codes[-5:] = 0, 1, 2
    cells.obs["macrostates_fwd"] = pd.Categorical.from_codes(codes, states)
    cells.obs["term_states_fwd"] = pd.Categorical.from_codes(np.maximum(codes - 1, -1), terminal)
    cells.obs["init_states_fwd"] = pd.Categorical.from_codes(np.where(codes == 0, 0, -1), ["early"])
    cells.uns["macrostates_fwd_colors"] = ["#111111", "#ee2222", "#3333ee"]
    cells.uns["term_states_fwd_colors"] = ["#ee2222", "#3333ee"]
    cells.obsm["macrostates_fwd_memberships"] = memberships
    cells.obsm["term_states_fwd_memberships"] = memberships[:, 1:]
    fates = memberships[:, 1:] / memberships[:, 1:].sum(axis=1, keepdims=True)
    for state in (0, 1):
        fates[codes == state + 1] = np.eye(2)[state]
    cells.obsm["lineages_fwd"] = fates
    chain = np.array([[0.7, 0.2, 0.1], [0.0, 0.95, 0.05], [0.02, 0.08, 0.9]])
    shares = pd.DataFrame({"coarse_init_dist": [0.5, 0.3, 0.2], "coarse_stat_dist": [0.1, 0.6, 0.3]}, index=states)
    cells.uns["coarse_fwd"] = anndata.AnnData(chain, obs=shares)
    cells.uns["schur_matrix_fwd"] = np.array([[1.0, 0.1, 0.2], [0.0, 0.8, -0.3], [0.0, 0.2, 0.8]])
    cells.uns["eigendecomposition_fwd"] = {"D": np.array([1.0, 0.95, 0.8 + 0.1j, 0.8 - 0.1j, 0.3]), "eigengap": 1}
    names = ["corr", "pval", "qval", "ci_low", "ci_high"]
    cells.varm["terminal_lineage_drivers"] = pd.DataFrame(
        {f"{lineage}_{name}": rng.uniform(0, 1, cells.n_vars) for lineage in terminal for name in names},
        index=cells.var_names,
    )
    return cells


@pytest.fixture
def unchanged_fates(fates, unchanged):
    """Check likewise for states and what follows from them."""
    return fates
