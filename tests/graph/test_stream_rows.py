"""Rows on the host, in blocks of one shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph._blocks import stream_rows


@pytest.mark.parametrize("n_cells", [1, 4, 11, 12])
def test_results_and_programs(n_cells):
    shapes = []

    @jax.jit
    def program(x, y):
        shapes.append(x.shape)
        return x * y[:, None], jnp.sum(x, axis=1)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n_cells, 3)).astype(np.float32), rng.normal(size=n_cells).astype(np.float32)
    product, total = stream_rows(program, 4, x, y)
    np.testing.assert_allclose(product, x * y[:, None], rtol=1e-6)
    np.testing.assert_allclose(total, x.sum(axis=1), rtol=1e-4, atol=1e-6)
    assert shapes == [(4, 3)]


def test_only_slices_are_taken():
    """So that what lies in a file is read block by block."""

    taken = []

    class File:
        shape = (10, 2)

        def __getitem__(self, rows):
            taken.append((rows.start, rows.stop))
            return np.arange(20.0, dtype=np.float32).reshape(10, 2)[rows]

    (found,) = stream_rows(lambda x: [x + 1], 4, File())
    np.testing.assert_array_equal(found, np.arange(20.0).reshape(10, 2) + 1)
    assert taken == [(0, 4), (4, 8), (8, 12)]
