"""Rows in blocks, so that gathered neighbours never fill an array of (cells, neighbours, genes)."""

import jax
import numpy as np
from jaxtyping import Array

BLOCK_BYTES, DEVICE_BLOCK_BYTES = 1 << 22, 1 << 26
"""Bytes wanted for the gathered neighbours of one block: on a CPU, they stay in the cache of one processor core;
elsewhere, they keep the device busy.

The memory bound: besides arguments and results, a program holds at most 16 blocks, 6 arrays of the size of the features
(16 in a gradient) and 32 numbers for each slot of the graph. One row with more neighbours than fit is a block. Programs
that are mapped over parameters hold as much for each of these.
"""


def on_cpu() -> bool:
    """Whether programs are made for a CPU: that of the default device. Where arrays lie, a program does not know."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined] # JAX types its own options by name only
    platform = device if device is None or isinstance(device, str) else device.platform
    return (platform or jax.default_backend()) == "cpu"


def block_rows(shape: tuple[int, ...], row_bytes: int) -> int:
    """Number of rows to process at a time: the divisor of all rows whose block comes nearest to the bytes wanted.

    Parameters
    ----------
    shape
        Rows and width of the bucket.
    row_bytes
        Bytes of one gathered neighbour.
    """
    n_rows, width = shape
    wanted = BLOCK_BYTES if on_cpu() else DEVICE_BLOCK_BYTES
    target = max(wanted / max(row_bytes * width, 1), 1.0)
    return min(_divisors(n_rows), key=lambda d: abs(np.log(d / target)))


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return small + [n // d for d in small]


def map_rows(function, block: int, *arrays: Array | None):
    """Apply ``function`` to blocks of ``block`` rows of ``arrays``, one block after another.

    The result of a block is recomputed in the backward pass, so that the memory of one block is all that is ever held.
    """
    n_rows = jax.tree.leaves(arrays)[0].shape[0]
    blocks = jax.tree.map(lambda a: a.reshape(n_rows // block, block, *a.shape[1:]), arrays)
    result = jax.lax.map(jax.checkpoint(lambda block_arrays: function(*block_arrays)), blocks)
    return jax.tree.map(lambda r: r.reshape(n_rows, *r.shape[2:]), result)
