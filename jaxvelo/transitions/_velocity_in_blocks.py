"""Transition probabilities from RNA velocity that does not fit in memory: block after block of the cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array

from jaxvelo.graph import Edges, NeighborGraph
from jaxvelo.graph._row_blocks import LocalGraphs, RowBlock, near_order, read_ahead, row_blocks
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._transition_function import Probabilities
from jaxvelo.transitions.velocity import Velocity, softmax_with_scale, velocity_details, without_scale

ReadFeatures = Callable[[RowBlock, int, int], Features]
"""Features of a block: expression of the cells that it gathers, in their order, and velocity of the first of them.

Called with the block and the numbers of rows of both arrays, of which the last ones are zero.
"""


def bytes_of_block(row_bytes: int, all_velocities: bool) -> Callable[[Any, Any], Any]:
    """Memory for a block, by the number of its cells and of the rows that it gathers, at most.

    Parameters
    ----------
    row_bytes
        Bytes of the expression of one cell.
    all_velocities
        Whether the velocities of neighbours are needed too, see :func:`needs_all_velocities`.
    """

    def n_bytes(n_own, n_gathered):
        n_velocities = n_gathered if all_velocities else n_own
        # Expression and velocity of this block and the next one; then, in the program, centred expression, centred
        # velocity, and velocity by row; and the slots. Shapes are rounded up by at most 1/16, and rows are more than
        # cells, as their buckets are as large as in any block.
        program = n_gathered + 4 * n_velocities if all_velocities else n_gathered + 2 * n_own
        return (2 * n_gathered + 2 * n_velocities + program) * (row_bytes * 17 // 16) + 2000 * n_own

    return n_bytes


def needs_all_velocities(velocity: Velocity) -> bool:
    """Whether a cell's probabilities depend on its neighbours' velocities."""
    return velocity.backward_mode == "transpose" or velocity.model != "deterministic"


def velocity_in_blocks(
    velocity: Velocity,
    graph: NeighborGraph,
    connectivities: sp.csr_matrix,
    read: ReadFeatures,
    n_bytes: Callable[[Any, Any], Any],
    budget: int,
    key: Array | None = None,
) -> tuple[Probabilities, Probabilities, Array]:
    """Probabilities, logits and softmax scale, as :func:`~jaxvelo.transitions.evaluate_velocity` gives them.

    Each row is computed by the program that computes it in memory, with the slots that it has there, so that results
    differ by rounding at most. The features are read once for the deterministic model and once more for the others
    unless the scale is given. Blocks are computed by the default device, also where several share the graph.

    Parameters
    ----------
    velocity
        The transition function.
    graph
        The graph.
    connectivities
        The edges of the graph, as a sparse matrix.
    read
        Reads the features of a block.
    n_bytes
        Memory for a block, see :func:`bytes_of_block`.
    budget
        Bytes that blocks may take.
    key
        Random key of the Monte Carlo model.

    Raises
    ------
    BudgetTooSmall
        If one cell and its neighbours exceed the budget.
    """
    edges = graph.edges[velocity.edges_name]
    blocks = list(row_blocks(connectivities, near_order(connectivities), n_bytes, budget))
    sharding = None if graph.pattern.mesh is None else graph.columns[0].sharding
    stream = _Stream(LocalGraphs(graph, blocks), blocks, read, needs_all_velocities(velocity), sharding)
    scale = velocity.softmax_scale
    if velocity.model == "deterministic" or scale is None:
        of_logits = without_scale(velocity)
        mask = [np.asarray(of_bucket) for of_bucket in edges.mask]
        logits, defined = stream.of_all(
            lambda pattern, features, _, mask: _similarities(of_logits, pattern, mask, features), None, mask
        )
        support, scale = _support_and_scale(velocity, graph.pattern, edges.mask, logits, defined)
        if velocity.model == "deterministic":
            return softmax_with_scale(logits, support, scale, graph.rows), logits, scale
    values = [np.asarray(of_bucket) for of_bucket in edges.values], [np.asarray(of_bucket) for of_bucket in edges.mask]

    def of_block(pattern, features, scale, values, mask):
        return velocity_details(velocity, pattern, Edges(values, mask), features, key, scale)[:2]

    probabilities, logits = stream.of_all(of_block, np.asarray(scale), *values)
    return probabilities, logits, scale


class _Stream:
    """The blocks of a graph, with what they read."""

    def __init__(
        self, local: LocalGraphs, blocks: list[RowBlock], read: ReadFeatures, all_velocities: bool, sharding: Any
    ):
        self._sharding = sharding
        self._local, self._blocks, self._read = local, blocks, read
        self._n_velocities = local.n_gathered if all_velocities else local.n_own

    def of_all(
        self, program: Callable[..., Any], of_cells: np.ndarray | None, *of_slots: list[np.ndarray]
    ) -> tuple[Any, ...]:
        """Run a program on all blocks, and put its results for the slots together.

        Parameters
        ----------
        program
            Function of a block's pattern, features, and parts of the other arguments, that returns arrays bucket by
            bucket, in a tuple.
        of_cells
            One number, or one for each cell, or None.
        of_slots
            Values of the graph's slots.
        """
        results: list[list[np.ndarray]] = []

        def read(block: RowBlock) -> Features:
            return jax.device_put(self._read(block, self._local.n_gathered, self._n_velocities))

        for block, features in read_ahead(read, self._blocks):
            pattern, places = self._local.pattern(block)
            here = [self._local.of_block(values, places) for values in of_slots]
            number = of_cells
            if of_cells is not None and of_cells.ndim:
                number = np.ones(self._local.n_gathered, of_cells.dtype)
                number[: len(block.own) + len(block.others)] = of_cells[block.gathered]
            found = program(*jax.device_put((pattern, features, number, *here)))
            results = results or [self._local.empty(of_result[0].dtype) for of_result in found]
            for result, of_block in zip(results, found, strict=True):
                self._local.put_back(result, of_block, places)
            del features
        return tuple(jax.device_put(tuple(result), self._sharding) for result in results)


@eqx.filter_jit
def _similarities(velocity, pattern, mask, features):
    return velocity.similarities(pattern, mask, features)


@eqx.filter_jit
def _support_and_scale(velocity, pattern, mask, logits, defined):
    return velocity.support_and_scale(pattern, mask, logits, defined)
