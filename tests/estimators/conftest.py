"""A branching chain with known ends, and the pancreas with CellRank's results."""

from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import PrecomputedKernel

TRUNK, BRANCH = 20, 20
NAMES = ["trunk", "left", "middle", "right"]
COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728"]


def make_cells() -> anndata.AnnData:
    """Twenty cells of a trunk and of each of three branches, from which the process hardly comes back."""
    n_cells = TRUNK + 3 * BRANCH
    rng = np.random.default_rng(0)
    weights = np.zeros((n_cells, n_cells))

    def step(i: int, j: int, forward: float) -> None:
        weights[i, j] += forward * rng.uniform(0.8, 1.2)
        weights[j, i] += (1 - forward) * rng.uniform(0.8, 1.2)

    for i in range(TRUNK - 1):
        step(i, i + 1, 0.62)
    for branch in range(3):
        first = TRUNK + branch * BRANCH
        step(TRUNK - 1, first, 0.62)
        for i in range(first, first + BRANCH - 1):
            step(i, i + 1, 0.62)
    np.fill_diagonal(weights, 0.3)
    for branch in range(3):
        ends = slice(TRUNK + (branch + 1) * BRANCH - 8, TRUNK + (branch + 1) * BRANCH)
        weights[ends, ends] += 1
    weights /= weights.sum(axis=1, keepdims=True)
    codes = np.repeat([0, 1, 2, 3], [TRUNK, BRANCH, BRANCH, BRANCH])
    place = np.concatenate([np.arange(TRUNK), *[TRUNK + np.arange(BRANCH)] * 3])
    adata = anndata.AnnData(
        rng.poisson(2.0, (n_cells, 7)).astype(np.float32),
        obs=pd.DataFrame(
            {"clusters": pd.Categorical.from_codes(codes, NAMES), "time": place / 40.0},
            index=[f"cell_{i}" for i in range(n_cells)],
        ),
        var=pd.DataFrame(index=[f"gene_{i}" for i in range(7)]),
        obsm={"X_umap": np.stack([place, (codes - 2) * np.maximum(place - TRUNK, 0)], axis=1).astype(np.float32)},
        obsp={"T_fwd": sp.csr_matrix(weights)},
        uns={"clusters_colors": COLORS},
    )
    proportions = np.full((n_cells, 4), 0.1)
    proportions[np.arange(n_cells), codes] = 0.7
    adata.obsm["proportions"] = pd.DataFrame(proportions, index=adata.obs_names, columns=NAMES)
    adata.obs["size"] = rng.integers(1, 9, n_cells)
    return adata


@pytest.fixture(scope="session")
def made() -> anndata.AnnData:
    return make_cells()


@pytest.fixture
def cells(made) -> anndata.AnnData:
    """Cells that a test may change."""
    return made.copy()


@pytest.fixture
def estimator(cells) -> GPCCA:
    """An estimator without results."""
    return GPCCA(PrecomputedKernel(cells, obsp_key="T_fwd"))


@pytest.fixture(scope="session")
def computed(made) -> GPCCA:
    """An estimator with all results; see `complete`."""
    estimator = GPCCA(PrecomputedKernel(made.copy(), obsp_key="T_fwd"))
    estimator.compute_macrostates(4, n_cells=5, cluster_key="clusters")
    estimator.predict_terminal_states("top_n", n_states=3, n_cells=5)
    estimator.predict_initial_states(n_cells=5)
    estimator.compute_fate_probabilities()
    estimator.compute_absorption_times(calculate_variance=True)
    estimator.compute_lineage_priming()
    estimator.compute_lineage_drivers()
    return estimator


@pytest.fixture
def complete(computed) -> GPCCA:
    """A copy of an estimator with all results, which a test may change."""
    return computed.copy(deep=True)


@pytest.fixture(scope="session")
def pancreas(shared) -> SimpleNamespace:
    """The pancreas: cells, the matrix of the combined kernel, and what CellRank 2.3.3 found."""
    with np.load(shared / "reference/pancreas_kernels.npz") as stored:
        parts = tuple(stored[f"combined/0.8v+0.2c.{part}"] for part in ("data", "indices", "indptr"))
    with np.load(shared / "reference/pancreas_estimators.npz", allow_pickle=False) as stored:
        results = dict(stored)
    adata = anndata.read_h5ad(shared / "reference/pancreas_velocity.h5ad")
    return SimpleNamespace(adata=adata, matrix=sp.csr_matrix(parts, shape=(adata.n_obs,) * 2), results=results)
