"""Random walks on a transition matrix.

A step inverts the cumulative distribution of a row by a binary search among its slots. The distribution is kept in
whole numbers: their sums are exact in any order, so a slot of probability zero ends exactly where the slot before it
ends, and no rounding, on no device, can make a walk step there.
"""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from jaxvelo.graph import Pattern, TransitionMatrix
from jaxvelo.graph._buckets import is_unused, next_size
from jaxvelo.graph._whole import on_each_device

# A row sums to about this. One bit is left for the rows whose rounded probabilities sum to slightly more than one.
_ONE = 2.0**31

# Steps between two looks at whether all walks have stopped; their random bits are drawn together.
_STEPS_PER_BLOCK = 32


def random_walks(
    transitions: TransitionMatrix,
    start: Int[Array | np.ndarray, " walks"],
    key: Array,
    n_steps: int,
    stop: Bool[Array | np.ndarray, " cells"] | None = None,
    successive_hits: int = 0,
) -> tuple[Int[Array, "walks n_steps+1"], Int[Array, " walks"]]:
    r"""Simulate random walks, :math:`P(c_{t+1} = j \mid c_t = i) = T_{ij}`.

    A walk depends on the key, its own number and its start, not on how many walks are simulated nor on ``n_steps``:
    more walks or steps extend what fewer give. Programs are compiled for numbers of walks and steps that stand on a
    ladder, so that similar calls share one.

    Parameters
    ----------
    transitions
        The transition matrix. Each row is taken relative to its sum. Probabilities below :math:`2^{-31}` count as zero.
    start
        Cell where each walk starts, shape ``(walks,)``; see :func:`sample_starts`.
    key
        Random key.
    n_steps
        Largest number of steps.
    stop
        Mask of the cells that stop a walk, shape ``(cells,)``; ``None`` for walks of ``n_steps`` steps.
    successive_hits
        A walk stops when it has stepped to cells of ``stop`` for ``successive_hits + 1`` times in a row. The start is
        no such step.

    Returns
    -------
    paths : jax.Array
        Visited cells, shape ``(walks, n_steps + 1)``.
    lengths : jax.Array
        How many of them, the start included, belong to the walk, shape ``(walks,)``: from there on it rests in its last
        one.

    Examples
    --------
    >>> chain = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]]))
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> paths, lengths = jv.markov.random_walks(transitions, jnp.array([0, 2]), jax.random.key(0), n_steps=3)
    >>> paths.shape, paths[:, 1].tolist(), paths[1].tolist(), lengths.tolist()
    ((2, 4), [1, 2], [2, 2, 2, 2], [4, 4])
    """
    n_rows, n_cells = transitions.graph.n_rows, transitions.graph.n_cells
    start = jnp.asarray(start, dtype=jnp.int32)
    n_walks = start.shape[0]
    stop = jnp.zeros(n_rows, dtype=bool) if stop is None else jnp.pad(jnp.asarray(stop), (0, n_rows - n_cells))
    paths, lengths = _simulate(
        _slot_table(transitions.graph.pattern, transitions.values),
        stop,
        jnp.pad(start, (0, next_size(n_walks) - n_walks)),
        key,
        np.int32(n_walks),
        np.int32(n_steps),
        np.int32(successive_hits),
        n_blocks=next_size(-(-n_steps // _STEPS_PER_BLOCK), steps=4),
    )
    return paths[:n_walks, : n_steps + 1], lengths[:n_walks]


@partial(jax.jit, static_argnames="n")
def sample_starts(key: Array, mask: Bool[Array, " cells"], n: int) -> Int[Array, " n"]:
    r"""Draw ``n`` of the cells of ``mask``, each with equal probability, with replacement.

    .. math:: P(c = i) = m_i \, \big/ \sum_j m_j

    with the mask :math:`m`. The first draws are the same for any ``n``.

    Parameters
    ----------
    key
        Random key; not the one of the walks.
    mask
        Mask of the cells to draw from, shape ``(cells,)``, at least one.
    n
        Number of draws.

    Returns
    -------
    jax.Array
        Indices of the cells drawn, shape ``(n,)``.

    Examples
    --------
    >>> starts = jv.markov.sample_starts(jax.random.key(0), jnp.array([False, True, True, False]), n=5)
    >>> starts.shape, set(starts.tolist()) <= {1, 2}
    ((5,), True)
    """
    count = jnp.cumsum(mask, dtype=jnp.uint32)
    bits = jax.vmap(lambda k: jax.random.bits(k, dtype=jnp.uint32))(_numbered_keys(key, n))
    return jnp.searchsorted(count, _below(bits, count[-1]), side="right").astype(jnp.int32)


class _SlotTable(eqx.Module):
    """All slots one after another, with the cumulative distribution of each row in units of ``1 / _ONE``.

    Attributes
    ----------
    cumulative, neighbor
        Cumulative probability and neighbour of each slot.
    first, width
        First slot and number of slots of each cell; arbitrary beyond the cells.
    widest
        Width of the widest bucket.
    """

    cumulative: UInt32[Array, " slots"]
    neighbor: Int[Array, " slots"]
    first: Int[Array, " rows"]
    width: Int[Array, " rows"]
    widest: int = eqx.field(static=True)


@jax.jit
def _slot_table(pattern: Pattern, values) -> _SlotTable:
    firsts, widths, offset = [], [], 0
    for column in pattern.columns:
        n_rows, width = column.shape
        firsts.append(offset + width * jnp.arange(n_rows, dtype=jnp.int32))
        widths.append(jnp.full(n_rows, width, dtype=jnp.int32))
        offset += n_rows * width
    cell = jnp.concatenate(pattern.rows)
    # Unused rows name cell 0, which has a row of its own.
    unused = is_unused(len(pattern.rows[0]), len(cell) - pattern.n_cells, pattern.n_devices, jnp)
    number = jnp.arange(len(cell), dtype=cell.dtype).at[: len(unused)].mul((~unused).astype(cell.dtype))
    row = jnp.zeros_like(cell).at[cell].max(number)
    table = _SlotTable(
        cumulative=jnp.concatenate([_cumulative(value).ravel() for value in values]),
        neighbor=jnp.concatenate([column.ravel() for column in pattern.columns]),
        first=jnp.concatenate(firsts)[row],
        width=jnp.concatenate(widths)[row],
        widest=max(column.shape[1] for column in pattern.columns),
    )
    return on_each_device(table, pattern.mesh)


def _cumulative(values: Array) -> UInt32[Array, "rows width"]:
    total = jnp.sum(values, axis=1, keepdims=True)
    probability = values / jnp.where(total > 0, total, 1)
    return jnp.cumsum((probability * _ONE).astype(jnp.uint32), axis=1)


def _next_cell(table: _SlotTable, cell: Int[Array, " walks"], bits: UInt32[Array, " walks"]) -> Int[Array, " walks"]:
    """Find the first slot whose cumulative probability exceeds a random threshold below the row's sum."""
    first, width = table.first[cell], table.width[cell]
    threshold = _below(bits, table.cumulative[first + width - 1])
    slot = jnp.zeros_like(first)
    for bit in reversed(range((table.widest - 1).bit_length())):
        candidate = slot + (1 << bit)
        # Beyond the row's end, look at its last slot, whose cumulative probability is above any threshold.
        before = first + jnp.minimum(candidate, width) - 1
        slot = jnp.where(table.cumulative[before] <= threshold, candidate, slot)
    return table.neighbor[first + slot]


def _below(bits: UInt32[Array, " n"], bound: UInt32[Array, "..."]) -> UInt32[Array, " n"]:
    r"""Random whole numbers from 0 to ``bound - 1``: :math:`\lfloor \text{bits} \cdot \text{bound} / 2^{32} \rfloor`.

    The product has 64 bits, which JAX only has when the user enables them; hence the multiplication by halves.
    """
    half, low = 16, (1 << 16) - 1
    bits_high, bits_low = bits >> half, bits & low
    bound_high, bound_low = bound >> half, bound & low
    middle = bits_high * bound_low + (bits_low * bound_low >> half)
    carry = (bits_low * bound_high + (middle & low)) >> half
    return bits_high * bound_high + (middle >> half) + carry


def _numbered_keys(key: Array, n: int) -> Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n, dtype=jnp.uint32))


@partial(jax.jit, static_argnames="n_blocks")
def _simulate(table, stop, start, key, n_walks, n_steps, successive_hits, *, n_blocks):
    """Walk in blocks of steps until all walks have stopped; walks beyond ``n_walks`` are padding and never start."""
    capacity = start.shape[0]
    keys = _numbered_keys(key, capacity)

    def step(state, time_and_bits):
        cell, hits, length = state
        time, bits = time_and_bits
        walking = (hits < successive_hits) & (time < n_steps)
        reached = _next_cell(table, cell, bits)
        hits = jnp.where(walking, jnp.where(stop[reached], hits + 1, -1), hits)
        cell = jnp.where(walking, reached, cell)
        return (cell, hits, length + walking.astype(jnp.int32)), cell

    def more(carry):
        block, (_, hits, _), _ = carry
        return (block * _STEPS_PER_BLOCK < n_steps) & jnp.any(hits < successive_hits)

    def run_block(carry):
        block, state, path = carry
        bits = jax.vmap(lambda k: jax.random.bits(jax.random.fold_in(k, block), (_STEPS_PER_BLOCK,), jnp.uint32))(keys)
        time = block * _STEPS_PER_BLOCK
        times = time + jnp.arange(_STEPS_PER_BLOCK, dtype=jnp.int32)
        state, cells = jax.lax.scan(step, state, (times, bits.T))
        return block + 1, state, jax.lax.dynamic_update_slice_in_dim(path, cells, time, axis=0)

    hits = jnp.where(jnp.arange(capacity, dtype=jnp.int32) < n_walks, -1, successive_hits).astype(jnp.int32)
    state = start, hits, jnp.ones_like(start)
    path = jnp.zeros((n_blocks * _STEPS_PER_BLOCK, capacity), dtype=jnp.int32)
    block, (cell, _, lengths), path = jax.lax.while_loop(more, run_block, (jnp.int32(0), state, path))
    simulated = jnp.arange(path.shape[0], dtype=jnp.int32) < block * _STEPS_PER_BLOCK
    path = jnp.where(simulated[:, None], path, cell[None, :])
    return jnp.concatenate([start[None, :], path]).T, lengths
