"""Where a Markov chain ends, and when: probabilities and times of absorption."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._host import call_on_host
from jaxvelo.markov._absorbing_chain import AbsorbingChain, Effort, Way
from jaxvelo.markov._metrics import expected_displacement

TOLERANCE = 1e-6
"""Largest error of a probability that counts as none; single precision resolves 1e-7."""
DIRECT_FIRST = 500
"""Up to so many transient cells, factorising the equations takes about as long as the iteration: 10 ms."""
DIRECT_CELLS = 10_000
"""Up to so many transient cells, equations that the iteration does not solve are factorised. The factors hold at most
as many numbers as a dense matrix, 1.2 GB with indices; those of 10,000 cells with 30 neighbours each take 0.2 GB and
ten seconds, and about seven times as long for twice as many cells."""


class Absorption(NamedTuple):
    r"""Where a chain ends, when, and how well that is known.

    Attributes
    ----------
    probabilities
        Probability of each class of terminal cells, shape ``(cells, fates)``. Zero or one for terminal cells.
    times
        Expected number of steps until absorption, shape ``(cells,)``. Zero for terminal cells. NaN if not asked for.
    residual
        Largest violation of the equations, :math:`\max_{ik} |\sum_{j \neq i} T_{ij} (B_{ik} - B_{jk})|` over the
        transient cells. A small one does not make a small error: see ``error``.
    row_sum_defect
        Largest difference of a cell's probabilities from the sum one.
    error
        Bound of the error of all probabilities, and of the relative error of the times if these are asked for, before
        they are rounded to the type of the transition probabilities: residual and rounding errors times the largest row
        sum of the inverse of the equations. Infinite if nothing is known.
    outcome
        An :class:`~jaxvelo.markov.Outcome` as an integer: zero if ``error`` is within the tolerance, otherwise why
        not. Where there is no solution, probabilities and times are NaN; one that is not accurate enough is given as it
        is, and its gradient is NaN.

    Examples
    --------
    >>> chain = sp.csr_matrix([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    >>> terminal = np.array([0, -1, -1, 1])
    >>> found = jv.markov.absorption_probabilities(chain, terminal, n_fates=2)
    >>> found.times.round(6).tolist(), found.outcome == jv.markov.Outcome.SOLVED, found.error < 1e-6
    ([0.0, 2.0, 2.0, 0.0], True, True)
    """

    probabilities: Any
    times: Any
    residual: Any
    row_sum_defect: Any
    error: Any
    outcome: Any


def absorption_probabilities(
    transitions: TransitionMatrix | sp.csr_matrix,
    terminal: Int[Array | np.ndarray, " cells"],
    n_fates: int,
    tolerance: float | None = None,
    max_steps: int = 500,
    direct_cells: int = DIRECT_CELLS,
    report: Callable[[int], object] | None = None,
    needs_times: bool = True,
) -> Absorption:
    r"""Probabilities to be absorbed in each class of terminal cells, and the time until then.

    With the terminal cells made absorbing, :math:`Q` the transitions among the others and :math:`R` those from them
    into each class,

    .. math:: (I - Q) B = R, \qquad B_{ik} = \mathbb{P}(\text{absorbed in class } k \mid \text{start in } i)

    and the expected numbers of steps are :math:`(I - Q) t = 1` (Kemeny & Snell 1976, theorems 3.3.5 and 3.3.7; Lange
    et al. 2022). Both follow from the probabilities to move: with those, :math:`T_{ii}` is what is left to one.

    Solved in double precision whatever the type of the probabilities, by SciPy on the host, so that a device needs no
    double precision: by iteration, and by sparse LU factors for few cells and where the iteration does not reach the
    tolerance. Gradients of any order are implicit, by solves with the same matrix or its transpose; where such a solve
    does not reach the tolerance, the gradient is NaN.

    Parameters
    ----------
    transitions
        The transition matrix, shape ``(cells, cells)``: on a graph, for results of its type that have derivatives; or
        of SciPy, for results of NumPy in double precision. Of that one, no more than the values are copied.
    terminal
        Class of each terminal cell, from 0; -1 for all other cells; shape ``(cells,)``. Each cell must be able to reach
        one of them, see :func:`cannot_reach`.
    n_fates
        Number of classes.
    tolerance
        Largest error of a probability that counts as solved; 1e-6 if ``None``.
    max_steps
        Largest number of products with the transition matrix in the iteration, for each class.
    direct_cells
        Up to so many transient cells, what the iteration does not solve is solved by LU factors, whose memory may grow
        with the square of this number, 12 bytes each: 1.2 GB for 10,000 cells.
    report
        Called with 1 each time that one of the equations is solved by iteration, for a matrix of SciPy.
    needs_times
        Whether the times are wanted too; otherwise they are NaN.

    Returns
    -------
    Absorption
        Probabilities and times (in steps), and whether to believe them: look at ``outcome``.

    Examples
    --------
    >>> chain = sp.csr_matrix([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    >>> terminal = np.array([0, -1, -1, 1])
    >>> jv.markov.absorption_probabilities(chain, terminal, n_fates=2).probabilities.round(3).tolist()
    [[1.0, 0.0], [0.667, 0.333], [0.333, 0.667], [0.0, 1.0]]
    """
    effort = effort_of(tolerance, max_steps, direct_cells)._replace(needs_times=needs_times)
    if isinstance(transitions, TransitionMatrix):
        return _of_graph(transitions.values, transitions.graph.bare, jnp.asarray(terminal), n_fates, effort)
    classes = np.asarray(terminal)
    found = AbsorbingChain(transitions, classes, report).absorb(n_fates, effort)
    probabilities = found.fates_and_times[:, :n_fates] + one_hot(classes, n_fates)
    times = found.fates_and_times[:, n_fates].copy() if needs_times else np.full(len(classes), np.nan)
    return Absorption(probabilities, times, found.residual, found.row_sum_defect, found.error, int(found.outcome))


def effort_of(tolerance: float | None, max_steps: int, direct_cells: int) -> Effort:
    """From the arguments of :func:`absorption_probabilities`."""
    allowed = TOLERANCE if tolerance is None else tolerance
    return Effort(allowed, max_steps, min(DIRECT_FIRST, direct_cells), direct_cells)


def one_hot(classes: Int[np.ndarray, " cells"], n_fates: int) -> Float[np.ndarray, "cells fates"]:
    """One for terminal cells in the column of their class, zero elsewhere."""
    return (classes[:, None] == np.arange(n_fates)).astype(float)


@partial(jax.jit, static_argnames=("n_fates", "effort"))
def _of_graph(values, graph: NeighborGraph, terminal: Array, n_fates: int, effort: Effort) -> Absorption:
    found = _absorb(values, graph, terminal, n_fates, effort)
    known = jax.nn.one_hot(terminal, n_fates, dtype=found.high.dtype)
    times = found.high[:, n_fates] if effort.needs_times else jnp.full(len(terminal), jnp.nan, found.high.dtype)
    return Absorption(
        known + found.high[:, :n_fates], times, found.residual, found.row_sum_defect, found.error, found.outcome
    )


class _Found(NamedTuple):
    """Fates and perhaps times of the transient cells as the sum of two numbers; the second is what rounding left."""

    high: Float[Array, "cells columns"]
    low: Float[Array, "cells columns"]
    residual: Float[Array, ""]
    row_sum_defect: Float[Array, ""]
    error: Float[Array, ""]
    inverse: Float[Array, ""]
    outcome: Int[Array, ""]
    way: Int[Array, ""]


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _absorb(values, graph: NeighborGraph, terminal: Array, n_fates: int, effort: Effort) -> _Found:
    dtype = values[0].dtype

    def solve(rows, columns, position, values, terminal) -> _Found:
        found = AbsorbingChain.of_buckets(rows, columns, position, values, terminal).absorb(n_fates, effort)
        exact = found.fates_and_times[position]
        high = exact.astype(dtype)
        numbers: Any = (found.residual, found.row_sum_defect, found.error, found.inverse, found.outcome, found.way)
        return _Found(high, exact - high, *numbers)

    both: Any = jax.ShapeDtypeStruct((graph.position.shape[0], n_fates + effort.needs_times), dtype)
    number: Any = jax.ShapeDtypeStruct((), dtype)
    code: Any = jax.ShapeDtypeStruct((), jnp.int32)
    results = _Found(both, both, number, number, number, number, code, code)
    return call_on_host(solve, results, graph.rows, graph.columns, graph.position, values, terminal)


@_absorb.defjvp
def _absorb_jvp(n_fates, effort, primals, tangents):
    r"""From :math:`A x = b`: :math:`(A \dot x)_i = \sum_j \dot T_{ij} (x_j - x_i)`, with all of the digits of x."""
    values, graph, terminal = primals
    moved, _, _ = tangents
    found = _absorb(values, graph, terminal, n_fates, effort)
    transient = (terminal < 0)[:, None]
    known = jax.nn.one_hot(terminal, n_fates, dtype=found.high.dtype)
    known = jnp.pad(known, ((0, 0), (0, int(effort.needs_times))))
    ends = jnp.concatenate([known + found.high, found.low], axis=1)
    changes = expected_displacement(TransitionMatrix(graph, moved), ends)
    of_high, of_low = jnp.split(changes, 2, axis=1)
    change = jnp.where(transient, of_high + of_low, 0)
    # What one fate loses, the others gain: the last one needs no solution of its own.
    solution = solve_implicitly(
        jnp.delete(change, n_fates - 1, axis=1), values, graph, terminal, found.inverse, found.way, effort
    )
    fates, times = jnp.split(solution, [n_fates - 1], axis=1)
    solution = jnp.concatenate([fates, -jnp.sum(fates, axis=1, keepdims=True), times], axis=1)
    still = jax.tree.map(jnp.zeros_like, found)
    codes = {name: np.zeros((), jax.dtypes.float0) for name in ("outcome", "way")}
    return found, still._replace(high=solution, **codes)


def solve_implicitly(
    right_side: Float[Array, "cells sides"],
    values,
    graph: NeighborGraph,
    terminal: Array,
    inverse: Array,
    way: Array,
    effort: Effort,
) -> Float[Array, "cells sides"]:
    """Solve the equations of a chain that has been solved before; with derivatives, by the right-hand sides too.

    Parameters
    ----------
    right_side
        What is given is the solution itself at terminal cells.
    values, graph, terminal
        The chain, as of :func:`absorption_probabilities`.
    inverse, way
        As of :class:`~jaxvelo.markov._absorbing_chain.Absorbed`, for this chain.
    effort
        How much work to put into a solution.
    """
    transient = (terminal < 0)[:, None]

    def left_side(x: Array) -> Array:
        inside = jnp.where(transient, x, 0)
        return jnp.where(transient, -expected_displacement(TransitionMatrix(graph, values), inside), x)

    def solve(_, right_side: Array, transposed: bool = False) -> Array:
        def on_host(rows, columns, position, values, terminal, inverse, way, right_side):
            chain = AbsorbingChain.of_buckets(rows, columns, position, values, terminal)
            b = np.zeros((len(chain.leaves), right_side.shape[1]))
            b[position] = right_side
            return chain.solve_accurately(b, float(inverse), Way(int(way)), effort, transposed)[position]

        solution = call_on_host(
            on_host,
            jax.ShapeDtypeStruct(right_side.shape, right_side.dtype),
            *(graph.rows, graph.columns, graph.position, values, terminal, inverse, way),
            right_side,
        )
        return jnp.where(transient, solution, right_side)

    return jax.lax.custom_linear_solve(left_side, right_side, solve, partial(solve, transposed=True))
