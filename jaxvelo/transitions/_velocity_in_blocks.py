"""Transition probabilities from RNA velocity that does not fit in memory: block after block of the cells."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array

from jaxvelo.graph import Edges, NeighborGraph
from jaxvelo.graph._row_blocks import LocalGraphs, RowBlock, block_between, near_order, read_ahead, row_blocks
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._transition_function import Probabilities
from jaxvelo.transitions.velocity import Velocity, softmax_with_scale, velocity_details, without_scale

ReadFeatures = Callable[[RowBlock, int, int], Features]
"""Features of a block: expression of the cells that it gathers, in their order, and velocity of the first of them.

Called with the block and the numbers of rows of both arrays, of which the last ones are zero.
"""


class BlockNotes(Protocol):
    """Results of finished blocks that outlive the process, of one computation."""

    def known(self, part: str, start: int) -> tuple[int, list[np.ndarray]] | None:
        """Where the block ends, in a part of the computation, that starts at a position, and its results; if known."""

    def note(self, part: str, start: int, end: int, results: list[np.ndarray]) -> None:
        """Note the results of a block."""


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
    notes: BlockNotes | None = None,
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
    notes
        Where finished blocks are noted, which are not computed again: with the same budget, to the same bits.

    Raises
    ------
    BudgetTooSmall
        If one cell and its neighbours exceed the budget.
    """
    edges = graph.edges[velocity.edges_name]
    stream = _Stream(graph, connectivities, read, needs_all_velocities(velocity), n_bytes, budget, notes)
    scale = velocity.softmax_scale
    if velocity.model == "deterministic" or scale is None:
        of_logits = without_scale(velocity)
        mask = [np.asarray(of_bucket) for of_bucket in edges.mask]
        logits, defined = stream.of_all(
            "logits", lambda pattern, features, _, mask: _similarities(of_logits, pattern, mask, features), None, mask
        )
        support, scale = _support_and_scale(velocity, graph.pattern, edges.mask, logits, defined)
        if velocity.model == "deterministic":
            return softmax_with_scale(logits, support, scale, graph.rows), logits, scale
    values = [np.asarray(of_bucket) for of_bucket in edges.values], [np.asarray(of_bucket) for of_bucket in edges.mask]

    def of_block(pattern, features, scale, values, mask):
        return velocity_details(velocity, pattern, Edges(values, mask), features, key, scale)[:2]

    probabilities, logits = stream.of_all("probabilities", of_block, np.asarray(scale), *values)
    return probabilities, logits, scale


class _Stream:
    """The blocks of a graph, with what they read."""

    def __init__(
        self,
        graph: NeighborGraph,
        connectivities: sp.csr_matrix,
        read: ReadFeatures,
        all_velocities: bool,
        n_bytes: Callable[[Any, Any], Any],
        budget: int,
        notes: BlockNotes | None,
    ):
        self._graph, self._connectivities, self._order = graph, connectivities, near_order(connectivities)
        self._read, self._all_velocities, self._notes = read, all_velocities, notes
        self._n_bytes, self._budget = n_bytes, budget
        self._sharding = None if graph.pattern.mesh is None else graph.columns[0].sharding

    def of_all(
        self, part: str, program: Callable[..., Any], of_cells: np.ndarray | None, *of_slots: list[np.ndarray]
    ) -> tuple[Any, ...]:
        """Run a program on all blocks, and put its results for the slots together.

        Parameters
        ----------
        part
            Name of this part of the computation, for the notes.
        program
            Function of a block's pattern, features, and parts of the other arguments, that returns arrays bucket by
            bucket, in a tuple.
        of_cells
            One number, or one for each cell, or None.
        of_slots
            Values of the graph's slots.
        """
        known, start = self._known(part)
        rest = list(row_blocks(self._connectivities, self._order, self._n_bytes, self._budget, start))
        # Shapes are those that all blocks have together, as if none were known; but blocks that were noted with a
        # larger budget are not to make them larger than this one.
        fits = [
            block
            for block, _ in known
            if self._n_bytes(len(block.own), len(block.gathered)) <= self._budget or not rest
        ]
        local = LocalGraphs(self._graph, [*fits, *rest])
        n_buckets = len(self._graph.columns)
        results: list[list[np.ndarray]] = []

        def put_back(found: list[np.ndarray], places: list[np.ndarray]) -> None:
            for number, of_block in enumerate(found[i : i + n_buckets] for i in range(0, len(found), n_buckets)):
                if number == len(results):
                    results.append(local.empty(of_block[0].dtype))
                local.put_back(results[number], of_block, places)

        while known:
            block, found = known.pop()
            put_back(found, local.places(block))

        def read(block: RowBlock) -> Features:
            shape = local.shape(block)
            n_velocities = shape.n_gathered if self._all_velocities else shape.n_own
            return jax.device_put(self._read(block, shape.n_gathered, n_velocities))

        for block, features in read_ahead(read, rest):
            pattern, places = local.pattern(block)
            here = [local.of_block(block, values, places) for values in of_slots]
            number = of_cells
            if of_cells is not None and of_cells.ndim:
                number = np.ones(local.shape(block).n_gathered, of_cells.dtype)
                number[: len(block.own) + len(block.others)] = of_cells[block.gathered]
            arrays = jax.tree.leaves(program(*jax.device_put((pattern, features, number, *here))))
            found = [
                np.asarray(array)[: len(place)] for array, place in zip(arrays, itertools.cycle(places), strict=False)
            ]
            put_back(found, places)
            # What is computed at once is not worth a file.
            if self._notes is not None and len(self._order) > len(block.own):
                self._notes.note(part, block.end - len(block.own), block.end, found)
            del features
        return tuple(jax.device_put(tuple(result), self._sharding) for result in results)

    def _known(self, part: str) -> tuple[list[tuple[RowBlock, list[np.ndarray]]], int]:
        """Blocks, from the first one, that are noted, with their results; and where the last of them ends."""
        known, start = [], 0
        while self._notes is not None and (found := self._notes.known(part, start)) is not None:
            known.append((block_between(self._connectivities, self._order, start, found[0]), found[1]))
            start = found[0]
        return known, start


@eqx.filter_jit
def _similarities(velocity, pattern, mask, features):
    return velocity.similarities(pattern, mask, features)


@eqx.filter_jit
def _support_and_scale(velocity, pattern, mask, logits, defined):
    return velocity.support_and_scale(pattern, mask, logits, defined)
