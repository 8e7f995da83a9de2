"""Random walks from cells that the user names."""

import itertools
import re

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from jaxvelo.kernels._random_walks import n_steps
from tests.bent_line import N_CELLS
from tests.snapshot import unchanged


@pytest.fixture(scope="module")
def kernel(made):
    velocity = VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)
    return 0.8 * velocity + 0.2 * ConnectivityKernel(made).compute_transition_matrix()


def walks(kernel, n_sims=20, max_iter=10, seed=0, successive_hits=0, start_ixs=None, stop_ixs=None):
    return kernel.random_walks(n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs)


def test_steps_are_transitions(kernel):
    matrix = kernel.transition_matrix
    for walk in walks(kernel):
        assert len(walk) == 11
        assert all(matrix[i, j] > 0 for i, j in itertools.pairwise(walk))


def test_distribution(kernel):
    """After one step, walks from a cell are spread as its row."""
    ends = [walk[1] for walk in walks(kernel, n_sims=4000, max_iter=2, start_ixs=[7])]
    found = np.bincount(ends, minlength=N_CELLS) / len(ends)
    expected = kernel.transition_matrix[[7]].toarray().ravel()
    deviation = np.sqrt(expected * (1 - expected) / len(ends))
    assert (abs(found - expected) <= 5 * deviation).all()


def test_seeds(kernel):
    def flat(seed):
        return np.concatenate(walks(kernel, seed=seed))

    first = flat(0)
    np.testing.assert_array_equal(flat(0), first)
    np.testing.assert_array_equal(flat(jax.random.key(0)), first)
    assert (flat(1) != first).any()
    assert (flat(None) != flat(None)).any()
    for seed, error in ((1.5, TypeError), ("a", TypeError), (-1, ValueError), (2**32, ValueError)):
        with pytest.raises(error, match="`seed`"):
            walks(kernel, seed=seed)


def test_stopping(kernel):
    stop = {"clusters": "late"}
    is_stop = chosen_cells(kernel.adata, stop, "stop_ixs")
    start = {"clusters": "middle"}
    for walk in walks(kernel, max_iter=60, start_ixs=start, stop_ixs=stop):
        hits = is_stop[walk]
        assert not hits[:-1].any()
        assert hits[-1] or len(walk) == 61
    for walk in walks(kernel, max_iter=60, start_ixs=start, stop_ixs=stop, successive_hits=2):
        hits = is_stop[walk]
        assert hits[-3:].all() or len(walk) == 61
        assert not (hits[1:-3] & hits[2:-2] & hits[3:-1]).any()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, range(N_CELLS)),
        ([3, 5], [3, 5]),
        (7, [7]),
        ([-1, 0], [0, 59]),
        (np.array([2, 2, 2]), [2]),
        (range(4), [0, 1, 2, 3]),
        ({5, 3}, [3, 5]),
        ("cell_4", [4]),
        (["cell_4", "cell_9"], [4, 9]),
        (pd.Index(["cell_9"]), [9]),
        (np.arange(N_CELLS) < 2, [0, 1]),
        ([True, True] + [False] * 58, [0, 1]),
        ({"pseudotime": [0, 0.05]}, [0, 1, 2]),
        ({"pseudotime": (0.05, 0)}, [0, 1, 2]),
        ({"pseudotime": [0, 0]}, [0]),
        ({"clusters": "early"}, range(20)),
        ({"clusters": ["early", "middle"]}, range(40)),
        ({"day": 0.0}, range(20)),
        ({"day": [0.0, 1.0]}, range(40)),
        ({"label": "group 0"}, range(20)),
        ({"flag": True}, [1, 2]),
    ],
)
def test_chosen_cells(cells, chosen, expected):
    cells.obs["flag"] = np.isin(np.arange(N_CELLS), [1, 2])
    with unchanged(cells):
        mask = chosen_cells(cells, chosen, "start_ixs")
    assert mask.shape == (N_CELLS,)
    np.testing.assert_array_equal(np.flatnonzero(mask), list(expected))


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ([60], IndexError, "start indices below 60, found 60"),
        ([0, -61], IndexError, "found -61"),
        ([], ValueError, "No start indices"),
        ([0.5], TypeError, "indices, names or a mask of cells, or a dictionary, found float64"),
        (["cell_1", "absent"], KeyError, r"names of cells as `start_ixs`, found \['absent'\]"),
        ([True, False], ValueError, r"mask of length 60 as `start_ixs`, found shape \(2,\)"),
        (np.zeros(N_CELLS, dtype=bool), ValueError, "No start indices"),
        ({"absent": "early"}, KeyError, r"`adata.obs\['absent'\]`, found the keys \['clusters'"),
        ({"clusters": "absent"}, ValueError, r"found \['absent'\]. There are \['early', 'middle', 'late'\]"),
        ({"clusters": []}, ValueError, "No start indices"),
        ({"clusters": "early", "day": 0.0}, ValueError, "one key in `start_ixs`"),
        ({}, ValueError, "one key"),
        ({"pseudotime": 0.5}, ValueError, r"two limits for `adata.obs\['pseudotime'\]`, found 1"),
        ({"pseudotime": [0, 0.1, 0.2]}, ValueError, "two limits .*, found 3"),
        ({"pseudotime": [2, 3]}, ValueError, "No start indices"),
        ({"pseudotime": "early"}, TypeError, r"two numbers .*`adata.obs\['pseudotime'\]`.*found `early`"),
    ],
)
def test_cells_that_are_not_there(kernel, chosen, error, message):
    with unchanged(kernel.adata), pytest.raises(error, match=message):
        kernel.plot_random_walks(start_ixs=chosen, show=False)
    with pytest.raises(error, match=message.replace("start", "stop")):
        kernel.plot_random_walks(stop_ixs=chosen, show=False)


def test_duplicate_names(cells):
    cells.obs_names = ["twin", "twin", *cells.obs_names[2:]]
    with pytest.raises(ValueError, match=r"`start_ixs` once in `adata.obs_names`, found \['twin'\].*make_unique"):
        chosen_cells(cells, "twin", "start_ixs")
    assert list(np.flatnonzero(chosen_cells(cells, "cell_5", "start_ixs"))) == [5]


@pytest.mark.parametrize(("max_iter", "steps"), [(5, 5), (0.25, 15), (0.24, 15), (1.0, 60), (np.int64(7), 7)])
def test_number_of_steps(max_iter, steps):
    assert n_steps(max_iter, N_CELLS) == steps


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_iter": 1}, ValueError, "iterations to be > 1, found `1`"),
        ({"max_iter": 0.001}, ValueError, r"found `1` \(from `max_iter=0.001`\)"),
        ({"max_iter": -0.5}, ValueError, "found `-30`"),
        ({"max_iter": np.nan}, ValueError, "`max_iter` to be finite, found `nan`"),
        ({"max_iter": "all"}, TypeError, "`max_iter` to be an integer or a fraction, found `'all'`"),
        ({"n_sims": 0}, ValueError, "`n_sims` to be an integer of at least 1, found `0`"),
        ({"n_sims": 2.5}, ValueError, "`n_sims`"),
        ({"n_sims": "2"}, ValueError, "`n_sims`"),
        ({"successive_hits": -1}, ValueError, "`successive_hits` to be an integer of at least 0"),
        ({"basis": "tsne"}, KeyError, "X_tsne"),
        ({"color": "absent"}, KeyError, "absent"),
        ({"cmap": "absent"}, ValueError, "`cmap`"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
def test_bad_arguments(kernel, arguments, error, message):
    with unchanged(kernel.adata), pytest.raises(error, match=message):
        kernel.plot_random_walks(**{"max_iter": 10, "show": False, **arguments})
    assert not plt.get_fignums()


@pytest.mark.parametrize("basis", ["umap", "X_umap", "umap3d"])
def test_picture(kernel, basis, logged):
    with unchanged(kernel.adata):
        axes = kernel.plot_random_walks(
            n_sims=12,
            max_iter=0.5,
            seed=0,
            start_ixs={"clusters": "early"},
            stop_ixs={"pseudotime": [0.9, 1]},
            basis=basis,
            ixs_legend_loc="lower left",
            color="clusters",
            n_jobs=2,
            backend="threading",
            show_progress_bar=False,
            show=False,
        )
    assert axes.name == ("3d" if basis == "umap3d" else "rectilinear")
    text = logged()
    assert "DEBUG: Ignoring `n_jobs`, `backend`, `show_progress_bar`" in text
    assert "INFO: Simulating `12` random walks of maximum length `30`" in text
    assert re.search(r"INFO:     Finish \(0:00:\d\d\.\d\d\)\nINFO: Plotting random walks", text)


def test_save(kernel, tmp_path):
    assert kernel.plot_random_walks(max_iter=10, seed=0, save=tmp_path / "walks.png") is None
    assert (tmp_path / "walks.png").stat().st_size > 1000
    assert not plt.get_fignums()
