import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvelo.dynamics._phase_bins import N_POINTS, phase_bins


def portraits(n_cells, n_genes=3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 1.0, (n_cells, n_genes)).astype(dtype), rng.gamma(3.0, 2.0, (n_cells, n_genes)).astype(dtype)


def check(u, s, branches=None, rtol=1e-12):
    """What holds for all cells: shapes, weights that sum to one, means that are kept, in all and per branch."""
    points = phase_bins(u, s, branches)
    n_genes = u.shape[1]
    assert points.places.shape == (n_genes, 2, N_POINTS)
    assert points.weights.shape == points.branches.shape == (n_genes, N_POINTS)
    assert points.places.dtype == points.weights.dtype == u.dtype
    assert (points.weights >= 0).all()
    np.testing.assert_allclose(points.weights.sum(axis=1), 1, rtol=rtol)
    for axis, x in enumerate((u, s)):
        mean = np.sum(points.places[:, axis] * points.weights, axis=1)
        np.testing.assert_allclose(mean, x.mean(axis=0), rtol=rtol)
    if branches is None:
        assert not points.branches.any()
        return points
    for gene in range(n_genes):
        for branch in np.unique(branches[:, gene]):
            ours = points.branches[gene] == branch
            cells = branches[:, gene] == branch
            share = points.weights[gene, ours].sum()
            np.testing.assert_allclose(share, cells.mean(), rtol=rtol)
            for axis, x in enumerate((u, s)):
                mean = np.sum(points.places[gene, axis, ours] * points.weights[gene, ours]) / share
                np.testing.assert_allclose(mean, x[cells, gene].mean(), rtol=rtol)
    return points


@settings(max_examples=40, deadline=None)
@given(
    n_cells=st.integers(1, 1300),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
    n_branches=st.integers(1, 3),
)
def test_weights_sum_to_one_and_means_are_kept(n_cells, seed, share, n_branches):
    u, s = portraits(n_cells, 2, seed)
    check(u, s)
    rng = np.random.default_rng(seed)
    branches = np.where(rng.random(u.shape) < share, 0, rng.integers(0, n_branches, u.shape))
    check(u, s, branches)


def test_single_precision_stays():
    u, s = portraits(5000, dtype=np.float32)
    check(u, s, rtol=3e-6)


@pytest.mark.parametrize("n_cells", [N_POINTS, 4 * N_POINTS, 1234])
def test_all_bins_hold_about_as_many_cells(n_cells):
    points = phase_bins(*portraits(n_cells))
    counts = points.weights * n_cells
    assert (counts > 0.99).all()
    # Rounding twice: the slabs, and the bins of a slab.
    assert (counts.max() - counts.min()) <= 2 + 1e-6


def test_bins_are_close_in_both():
    """Slabs in unspliced, then in spliced: within a bin, cells differ far less than in all."""
    u, s = portraits(8000, 1)
    points = phase_bins(u, s)
    within = [1 - np.sum(points.weights * (p - x.mean()) ** 2) / x.var() for p, x in zip(points.places[0], (u, s),
              strict=True)]  # fmt: skip
    assert max(within) < 0.05


def test_fewer_cells_than_bins_are_points_themselves():
    u, s = portraits(37)
    points = check(u, s)
    for gene in range(u.shape[1]):
        used = points.weights[gene] > 0
        assert used.sum() == 37
        np.testing.assert_allclose(points.weights[gene, used], 1 / 37)
        found = points.places[gene][:, used].T
        expected = np.stack([u[:, gene], s[:, gene]], axis=1)
        np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_cells_of_different_branches_share_no_bin():
    """With a whole number of unspliced counts for each branch, every bin's mean is one of them."""
    rng = np.random.default_rng(0)
    branches = rng.integers(0, 3, (900, 4))
    branches[:, 1] = 2
    branches[:, 2] = np.where(np.arange(900) < 3, 1, 0)  # a branch of fewer cells than one slab would have
    u, s = branches.astype(float), rng.random((900, 4))
    points = check(u, s, branches)
    used = points.weights > 0
    np.testing.assert_allclose(points.places[:, 0][used], points.branches[used])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_cells=st.integers(2, 900), levels=st.integers(1, 30))
def test_order_of_cells_and_genes_does_not_matter(seed, n_cells, levels):
    """To the last bit, with many cells of the same counts too: zeros are common."""
    rng = np.random.default_rng(seed)
    u, s = portraits(n_cells, 4, seed)
    u[:, 1] = np.floor(u[:, 1] * levels / 4)
    s[:, 2] = np.floor(s[:, 2] * levels / 8)
    u[:, 3], s[:, 3] = np.floor(u[:, 3] * levels / 4), np.floor(s[:, 3] * levels / 8)
    branches = rng.integers(0, 3, u.shape)
    cells, genes = rng.permutation(n_cells), rng.permutation(4)
    for labels in (None, branches):
        points = phase_bins(u, s, labels)
        shuffled = phase_bins(u[cells], s[cells], None if labels is None else labels[cells])
        for found, expected in zip(shuffled, points, strict=True):
            np.testing.assert_array_equal(found, expected)
        of_genes = phase_bins(u[:, genes], s[:, genes], None if labels is None else labels[:, genes])
        for found, expected in zip(of_genes, points, strict=True):
            np.testing.assert_array_equal(found, expected[genes])
