"""What CellRank returns for kernels without velocities."""

import functools

import jax
import numpy as np
import scipy.sparse as sp

TOLERANCE = 1e-10 if jax.config.jax_enable_x64 else 1e-6


@functools.lru_cache
def _stored(file):
    return np.load(file)


def reference(shared, key):
    return _stored(shared / "reference" / "other_kernels.npz")[key]


def reference_matrix(shared, key):
    parts = [reference(shared, f"{key}.{part}") for part in ("data", "indices", "indptr")]
    return sp.csr_matrix(tuple(parts), shape=(len(parts[2]) - 1,) * 2)


def assert_equal(matrix, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)), 1, rtol=0, atol=1e-12)
    assert abs(matrix - expected).max() < tolerance
