"""Markov chains for tests: the same one as dense float64 arrays, and as a transition matrix."""

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph, TransitionMatrix


def chain(dense, stored=None):
    """Transition matrix with the probabilities of ``dense`` on the edges where ``stored``; isolated cells stay."""
    stored = dense != 0 if stored is None else stored
    graph = NeighborGraph.from_csr(csr(dense, stored))
    matrix = TransitionMatrix(graph, graph.edges["connectivities"].values)
    return matrix.normalize() if np.any(~stored.any(axis=1)) else matrix


def csr(dense, stored):
    """Sparse matrix that holds exactly the entries where ``stored``, zeros included."""
    row, column = np.nonzero(stored)
    return sp.csr_matrix((dense[row, column], (row, column)), shape=dense.shape)


def messy_chain(n_cells=40, seed=0):
    """Asymmetric, of two parts, with hubs, stored zeros, a stored diagonal, lone cells and cells of one neighbour.

    Returns the transition matrix, its dense float64 form and the stored edges.
    """
    rng = np.random.default_rng(seed)
    stored = rng.random((n_cells, n_cells)) < rng.choice([0.05, 0.2, 0.6], size=(n_cells, 1))
    half = n_cells // 2
    stored[:half, half:] = stored[half:, :half] = False
    np.fill_diagonal(stored, rng.random(n_cells) < 0.2)
    stored[2] = stored[half + 1] = False
    stored[3] = np.arange(n_cells) == 5
    dense = np.where(stored & (rng.random(stored.shape) < 0.8), rng.random(stored.shape), 0)
    dense[3, 5] = 1
    for i in np.flatnonzero(dense.sum(axis=1) == 0):
        dense[i] = stored[i] if stored[i].any() else np.eye(n_cells)[i]
    dense /= dense.sum(axis=1, keepdims=True)
    return chain(dense * stored, stored), dense, stored


def permuted(dense, stored, order):
    """The same chain with the cells in another order."""
    return chain((dense * stored)[np.ix_(order, order)], stored[np.ix_(order, order)])


def with_lone_cells(dense, stored, n_more):
    """The same chain with more cells behind it, which have no neighbours: other buckets, other unused rows."""
    pad = ((0, n_more), (0, n_more))
    return chain(np.pad(dense * stored, pad), np.pad(stored, pad))


def floats(*arrays):
    """As JAX arrays of the default floating-point type."""
    return tuple(jnp.asarray(array, dtype=float) for array in arrays)
