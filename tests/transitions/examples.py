"""Small random data on graphs of every kind, all with the same bucket shapes, so that programs are compiled once."""

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

N_CELLS, N_GENES = 39, 6
BUCKETS = [(40, 16)]


def representable(values):
    """Float64 numbers that are float32 numbers too, so that both precisions start from the same data."""
    return values.astype(np.float32).astype(np.float64)


def nearest(points, k):
    """Directed graph of the ``k`` nearest cells, with positive weights."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(len(points), np.inf))
    rank = distance.argsort(axis=1).argsort(axis=1)
    return np.where(rank < k, representable(np.exp(-np.minimum(distance, 9))), 0)


def smooth_data(rng, points):
    """Expression and velocity that vary smoothly over the cells, plus noise."""
    x = np.tanh(points @ rng.normal(size=(2, N_GENES))) + 0.3 * rng.normal(size=(len(points), N_GENES))
    v = np.cos(points @ rng.normal(size=(2, N_GENES))) + 0.3 * rng.normal(size=(len(points), N_GENES))
    return representable(x), representable(v)


def example(kind, seed=0):
    """A graph (scipy CSR), expression and velocity (float64). All kinds but ``"asymmetric"`` start symmetric."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(N_CELLS, 2))
    x, v = smooth_data(rng, points)
    dense = nearest(points, 5)
    if kind != "asymmetric":
        dense = nearest(points, 4)
        dense = np.maximum(dense, dense.T)
    # A hub in each graph: then all have buckets of the same width.
    dense[7, :15] = np.where(dense[7, :15] > 0, dense[7, :15], 0.25)
    dense[7, 15:] = dense[7, 7] = 0
    if kind != "asymmetric":
        dense[:, 7] = dense[7]
    return _CHANGES[kind](rng, dense, x, v)


def _plain(rng, dense, x, v):
    return sp.csr_matrix(dense), x, v


def _isolated(rng, dense, x, v):
    for i in (0, 20, 21, 38):
        dense[i] = dense[:, i] = 0
    # Another without neighbours, though others have it as theirs.
    dense[30] = 0
    return sp.csr_matrix(dense), x, v


def _diagonal(rng, dense, x, v):
    dense[[1, 2, 30, 31], [1, 2, 30, 31]] = 0.5
    dense[31] = 0
    dense[31, 31] = 1.0
    return sp.csr_matrix(dense), x, v


def _explicit_zeros(rng, dense, x, v):
    graph = sp.csr_matrix(dense)
    graph.data[rng.random(graph.nnz) < 0.2] = 0.0
    # A cell all of whose edges are stored zeros.
    graph.data[graph.indptr[33] : graph.indptr[34]] = 0.0
    return graph, x, v


def _one_neighbor(rng, dense, x, v):
    for i, j in ((11, 30), (12, 31), (36, 37)):
        dense[i] = 0
        dense[i, j] = 0.75
    return sp.csr_matrix(dense), x, v


def _disconnected(rng, dense, x, v):
    dense[:20, 20:] = dense[20:, :20] = 0
    return sp.csr_matrix(dense), x, v


def _duplicates(rng, dense, x, v):
    x[[3, 17, 34]] = x[[4, 18, 35]]
    dense[3, 4] = dense[4, 3] = dense[17, 18] = dense[34, 35] = 0.5
    # A cell all of whose neighbours are its duplicates.
    dense[25] = 0
    dense[25, [26, 27, 28]] = 0.25
    x[[26, 27, 28]] = x[25]
    return sp.csr_matrix(dense), x, v


def _zero_velocities(rng, dense, x, v):
    v[[5, 6, 7, 13]] = 0.0
    # A cell that, like all its neighbours, does not move.
    v[33] = 0.0
    v[dense[33] > 0] = 0.0
    return sp.csr_matrix(dense), x, v


def _constant_velocities(rng, dense, x, v):
    # No direction once centred over genes; not powers of two, so that centring does round.
    cells = [8, 9, 10, 33, *np.flatnonzero(dense[33] > 0)]
    v[cells] = representable(np.linspace(-1.3, 0.7, len(cells)))[:, None]
    return sp.csr_matrix(dense), x, v


_CHANGES = {
    "symmetric": _plain,
    "asymmetric": _plain,
    "isolated": _isolated,
    "diagonal": _diagonal,
    "explicit_zeros": _explicit_zeros,
    "one_neighbor": _one_neighbor,
    "disconnected": _disconnected,
    "duplicates": _duplicates,
    "zero_velocities": _zero_velocities,
    "constant_velocities": _constant_velocities,
}
KINDS = list(_CHANGES)

GENE_WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 0.0, 0.25])


def default(array):
    """The array in JAX's default precision."""
    return jnp.asarray(array, dtype=float)
