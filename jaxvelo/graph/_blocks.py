"""Rows in blocks, so that gathered neighbours never fill an array of (cells, neighbours, genes)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from jaxvelo.graph._buckets import is_unused
from jaxvelo.graph._halo import Halo
from jaxvelo.graph._pattern import Pattern
from jaxvelo.graph._whole import on_each_device

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


def block_rows(shape: tuple[int, ...], slot_bytes: int, block_bytes: int | None = None) -> int:
    """Number of rows to process at a time: the divisor of all rows whose block comes nearest to the bytes wanted.

    Parameters
    ----------
    shape
        Rows and width of the bucket.
    slot_bytes
        Bytes of one gathered neighbour.
    block_bytes
        Bytes wanted for a block; what suits the device if ``None``.
    """
    n_rows, width = shape
    if block_bytes is None:
        block_bytes = BLOCK_BYTES if on_cpu() else DEVICE_BLOCK_BYTES
    target = max(block_bytes / max(slot_bytes * width, 1), 1.0)
    return min(_divisors(n_rows), key=lambda d: abs(np.log(d / target)))


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return small + [n // d for d in small]


def map_rows(
    function: Callable[..., Any],
    pattern: Pattern,
    of_cells: Any,
    *of_rows: tuple[Any, ...],
    slot_bytes: int | None = None,
    halo: Halo | None = None,
) -> Any:
    r"""Apply a function of one row to all rows, one block of rows after another.

    .. math:: y_i = f\big(x_i, (x_j)_{j \in N_i}, r_i\big)

    for the cell :math:`i` of each row, with values :math:`x` of the cells, its slots :math:`N_i` and values :math:`r`
    of the rows. This is the one loop over the rows of a graph. On several devices (:attr:`Pattern.mesh`), each goes
    through its own rows. The result of a block is recomputed in the backward pass, so that the memory of one block is
    all that is ever held.

    Parameters
    ----------
    function
        :math:`f`. It takes what belongs to the row's cell; the same of its neighbours, with a leading axis over the
        slots; and one row of each of ``of_rows``. Returns one array for the row, or several as a tuple. Arrays that all
        rows share are given to it by :class:`jax.tree_util.Partial`, as first arguments: on several devices, there is
        no derivative by arrays that it takes from where it was defined.
    pattern
        Pattern of the graph.
    of_cells
        :math:`x`, arrays whose first axis are the cells, in a tree: gathered for each row and each of its slots. Each
        block adds a gradient of their whole size; what is of the row's own cell alone is better gathered before, as one
        of ``of_rows``.
    *of_rows
        :math:`r`, arrays whose first axis are the rows (or trees of them), one for each bucket.
    slot_bytes
        Bytes that are held for one slot, which decide about the number of rows in a block; those that are gathered if
        ``None``.
    halo
        Where the values of the cells are, if they are shared out to the devices: ``of_cells`` is in the order of
        :meth:`Halo.place` then. Otherwise each device has all of them.

    Returns
    -------
    tuple of jax.Array
        :math:`y`, one array for each bucket, whose first axis are the rows: unused rows and padding are among them,
        see :class:`Pattern`. If the function returns a tuple, a tuple of such.

    Examples
    --------
    >>> pair = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0], [1.0, 0.0]]))
    >>> steps = jv.graph.map_rows(lambda own, others: jnp.sum(others - own), pair.pattern, jnp.array([1.0, 3.0]))
    >>> pair.gather_rows(steps).tolist()
    [2.0, -2.0]
    """
    if slot_bytes is None:
        slot_bytes = sum(leaf.dtype.itemsize * math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(of_cells))

    def on_bucket(function, of_cells, rows, columns, *of_rows):
        def on_block(block):
            rows, columns, *of_rows = block
            own, others = (jax.tree.map(lambda a, i=i: a[i], of_cells) for i in (rows, columns))
            return jax.vmap(function)(own, others, *of_rows)

        size = block_rows(columns.shape, slot_bytes, pattern.block_bytes)
        results = jax.lax.map(jax.checkpoint(on_block), _split((rows, columns, *of_rows), size))
        return jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:]), results)

    rows, columns = pattern.rows, pattern.columns
    if halo is not None:
        of_cells, rows, columns = halo.exchange(of_cells), halo.rows, halo.columns
    held, code = eqx.partition(function, eqx.is_array)

    def on_rows(held, *arguments):
        return on_bucket(eqx.combine(held, code), *arguments)

    if pattern.mesh is not None:
        on_rows = _on_each_device(on_rows, pattern.mesh, halo is not None)
    results = [on_rows(held, of_cells, *bucket) for bucket in zip(rows, columns, *of_rows, strict=True)]
    return tuple(zip(*results, strict=True)) if isinstance(results[0], tuple) else tuple(results)


def of_own_cells(pattern: Pattern, of_cells: Array, halo: Halo | None = None) -> tuple[Array, ...]:
    """Values of each row's own cell, bucket by bucket; arguments as of :func:`map_rows`."""
    return tuple(of_cells[rows] for rows in pattern.rows) if halo is None else halo.of_rows(of_cells)


def of_neighbors(
    pattern: Pattern, of_cells: Float[Array, " cells"], halo: Halo | None = None
) -> tuple[Float[Array, "rows width"], ...]:
    """Values of each row's neighbours, one number for each cell; arguments as of :func:`map_rows`."""
    if halo is None:
        return tuple(of_cells[columns] for columns in pattern.columns)
    return map_rows(lambda own, others: others, pattern, of_cells, halo=halo)


def _on_each_device(on_bucket: Callable[..., Any], mesh: Mesh, shared: bool = False) -> Callable[..., Any]:
    """Apply a function to each device's rows; results follow one another.

    It takes what all devices have; values of the cells, all of them or, if ``shared``, those that the device has; and
    values of a bucket's rows.
    """
    by_row = PartitionSpec(mesh.axis_names)

    def on_rows(held, of_cells, *of_rows):
        specs = (PartitionSpec(), by_row if shared else PartitionSpec(), *[by_row] * len(of_rows))
        return jax.shard_map(on_bucket, mesh=mesh, in_specs=specs, out_specs=by_row)(held, of_cells, *of_rows)

    return on_rows


def sum_to_neighbors(
    pattern: Pattern, values: tuple[Float[Array, "rows width"], ...], of_cells: Float[Array, "cells features"]
) -> Float[Array, "cells features"]:
    r"""Send values of the cells along the edges, :math:`\sum_i w_{ij} y_i`, in blocks as :func:`map_rows`.

    Parameters
    ----------
    pattern
        Pattern of the graph.
    values
        Weight :math:`w` of each slot, one array for each bucket.
    of_cells
        Values :math:`y` of the cells.
    """
    mesh, n_cells = pattern.mesh, of_cells.shape[0]
    slot_bytes = of_cells.shape[1] * of_cells.dtype.itemsize

    def on_bucket(_, of_cells, rows, columns, weights):
        def send(received, block):
            rows, columns, weights = block
            return received.at[columns].add(weights[:, :, None] * of_cells[rows][:, None, :]), None

        blocks = _split((rows, columns, weights), block_rows(columns.shape, slot_bytes, pattern.block_bytes))
        nothing = jnp.zeros(of_cells.shape, jnp.result_type(weights, of_cells))
        if mesh is not None:
            nothing = jax.lax.pcast(nothing, mesh.axis_names, to="varying")
        return jax.lax.scan(send, nothing, blocks)[0][None]

    on_rows = on_bucket if mesh is None else _on_each_device(on_bucket, mesh)
    received = []
    # Unused rows point to cell 0, which is not theirs.
    unused = is_unused(len(pattern.rows[0]), pattern.n_rows - n_cells, pattern.n_devices, jnp)
    sent = jnp.where(unused[:, None], 0, values[0]), *values[1:]
    for rows, columns, weights in zip(pattern.rows, pattern.columns, sent, strict=True):
        received.append(jnp.sum(on_rows((), of_cells, rows, columns, weights), axis=0))
    return on_each_device(functools.reduce(jnp.add, received), mesh)


def stream_rows(
    program: Callable[..., Sequence[Array]], n_rows: int, *arrays: Float[np.ndarray, "rows *features"]
) -> list[np.ndarray]:
    """Run a compiled program on rows that are on the host, one block after another, all blocks of one shape.

    Neither the device's memory nor the number of programs depends on the number of rows.

    Parameters
    ----------
    program
        Function of the blocks of all arrays that returns some with as many rows. Rows must not depend on each other:
        the last one is repeated to fill the last block.
    n_rows
        Rows of a block.
    *arrays
        Arrays, or what gives arrays when it is sliced, with at least one row.

    Returns
    -------
    list of numpy.ndarray
        The results of all rows.
    """
    total = arrays[0].shape[0]
    results: list[np.ndarray] = []
    for start in range(0, total, n_rows):
        here = slice(start, start + n_rows)
        found = [np.asarray(of_block) for of_block in program(*(filled_up(a[here], n_rows, 0) for a in arrays))]
        results = results or [np.empty((total, *of_block.shape[1:]), of_block.dtype) for of_block in found]
        for result, of_block in zip(results, found, strict=True):
            result[here] = of_block[: total - start]
    return results


def filled_up(array: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Repeat the last entries along an axis up to a size."""
    missing = size - array.shape[axis]
    if not missing:
        return array
    return np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)], mode="edge")


def _split(arrays: Any, size: int) -> Any:
    """Blocks of rows along a new first axis."""
    return jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), arrays)
