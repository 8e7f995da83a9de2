"""When a Markov chain comes to each of its ends, given that it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._host import call_on_host
from jaxvelo.markov._absorbing_chain import ROUNDING, Absorbed, AbsorbingChain, Effort, Outcome, Way, plan
from jaxvelo.markov._absorption import DIRECT_CELLS, effort_of, one_hot, solve_implicitly
from jaxvelo.markov._metrics import expected_displacement
from jaxvelo.markov._reachability import cannot_reach

LEAST = 1e-9
"""The equations are solved to as many digits for cells whose probability of a fate is above this as for all others."""
SPREAD = 1e-2
"""Standard deviation, relative to the mean, from which on the error of a variance is relative to the variance."""


class AbsorptionTimes(NamedTuple):
    r"""When a chain comes to each class of terminal cells, and how well that is known.

    Attributes
    ----------
    mean
        Expected number of steps until absorption in a class, given that the chain ends there, shape
        ``(cells, fates)``. Zero for the terminal cells of the class, infinite for cells that no path leads there. NaN
        where the time is not known within the tolerance, as where the probability to come there is very small.
    variance
        Variance of that number. Zero for the terminal cells of the class, NaN for cells that never come there, and
        where it is not known within the tolerance.
        One whose root is less than a hundredth of the mean has the error of one of that size.
    residual
        Largest violation of the equations, relative to the probabilities of the fates.
    error
        Bound of the relative error of all means of fates with a probability above the tolerance, before they are
        rounded to the type of the transition probabilities. Infinite if nothing is known.
    variance_error
        The same of all variances.
    outcome
        An :class:`~jaxvelo.markov.Outcome` as an integer: zero if the errors of what is needed are within the
        tolerance, otherwise why not.

    Examples
    --------
    >>> chain = sp.csr_matrix([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    >>> terminal = np.array([0, -1, -1, 1])
    >>> found = jv.markov.absorption_times(chain, terminal, n_fates=2)
    >>> found.mean[1].round(3).tolist(), found.variance[1].round(3).tolist(), found.outcome == jv.markov.Outcome.SOLVED
    ([1.667, 2.667], [1.778, 1.778], True)
    """

    mean: Any
    variance: Any
    residual: Any
    error: Any
    variance_error: Any
    outcome: Any


def absorption_times(
    transitions: TransitionMatrix | sp.csr_matrix,
    terminal: Int[Array | np.ndarray, " cells"],
    n_fates: int,
    tolerance: float | None = None,
    max_steps: int = 500,
    direct_cells: int = DIRECT_CELLS,
    report: Callable[[int], object] | None = None,
    needs_variance: bool = True,
) -> AbsorptionTimes:
    r"""Mean and variance of the time until absorption in each class of terminal cells, given that the chain ends there.

    With :math:`B` and :math:`I - Q` as of :func:`absorption_probabilities`, the chain that is known to end in class k
    has the transitions :math:`B_{jk} Q_{ij} / B_{ik}` (Kemeny & Snell 1976, section 3.3; Doob's transform), so that

    .. math::
        (I - Q) u_k = B_k, \qquad (I - Q) w_k = 2 u_k - B_k, \qquad
        \mathbb{E}[\tau] = u_k / B_k, \qquad \operatorname{Var}[\tau] = w_k / B_k - (u_k / B_k)^2.

    Solved, with gradients, as :func:`absorption_probabilities` does it, and to as many digits for cells that hardly
    ever come to a class, down to probabilities of about 1e-9, as for all others.

    Parameters
    ----------
    transitions, terminal, n_fates, tolerance, max_steps, direct_cells, report
        As of :func:`absorption_probabilities`; the tolerance is one of relative errors.
    needs_variance
        Whether the chain counts as solved only if the variances are known too. They take many more digits than the
        means where they are small.

    Returns
    -------
    AbsorptionTimes
        Means (in steps) and variances, and whether to believe them: look at ``outcome``.

    Examples
    --------
    >>> chain = sp.csr_matrix([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    >>> terminal = np.array([0, -1, -1, 1])
    >>> jv.markov.absorption_times(chain, terminal, n_fates=2).mean.round(3).tolist()
    [[0.0, inf], [1.667, 2.667], [2.667, 1.667], [inf, 0.0]]
    """
    effort = effort_of(tolerance, max_steps, direct_cells)
    if isinstance(transitions, TransitionMatrix):
        graph = transitions.graph.bare
        return _of_graph(transitions.values, graph, jnp.asarray(terminal), n_fates, effort, needs_variance)
    found = _solve(AbsorbingChain(transitions, np.asarray(terminal), report), n_fates, effort, needs_variance)
    errors = found.error, found.variance_error
    return AbsorptionTimes(found.mean, found.variance, found.residual, *errors, int(found.outcome))


class _Solved(NamedTuple):
    """Means and variances, and what they follow from: fates, u and w side by side, zero for terminal cells."""

    mean: np.ndarray
    variance: np.ndarray
    solutions: np.ndarray
    residual: float
    error: float
    variance_error: float
    inverse: float
    outcome: Outcome
    way: Way


def _solve(chain: AbsorbingChain, n_fates: int, effort: Effort, needs_variance: bool) -> _Solved:
    chances = chain.absorb(n_fates, effort)
    ways = plan(chain.n_transient, effort)
    fates, times = chances.fates_and_times[:, :n_fates], chances.fates_and_times[:, n_fates:]
    ends = one_hot(chain.terminal, n_fates) > 0
    if not np.isfinite(times).all():
        unknown = np.where(ends, 0, np.nan)
        solutions = np.hstack([fates, fates, fates])
        return _Solved(unknown, unknown, solutions, np.nan, np.inf, np.inf, np.inf, chances.outcome, chances.way)

    def attempt(way: Way) -> tuple[float, _Solved]:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            found = _attempt(chain, chances, way, n_fates, effort)
        error = max(found.error, found.variance_error) if needs_variance else found.error
        if found.outcome == Outcome.SOLVED and not error <= effort.tolerance:
            found = found._replace(outcome=Outcome.INACCURATE)
        return error, found

    error, found = attempt(chances.way)
    if found.outcome != Outcome.SOLVED and chances.way != Way.ELIMINATION and Way.ELIMINATION in ways:
        other_error, other = attempt(Way.ELIMINATION)
        if other_error < error:
            found = other
    return found


def _attempt(chain: AbsorbingChain, chances: Absorbed, way: Way, n_fates: int, effort: Effort) -> _Solved:
    """One way to solve; the outcome is that of the fates."""
    fates, times = chances.fates_and_times[:, :n_fates], chances.fates_and_times[:, n_fates:]
    ends = one_hot(chain.terminal, n_fates) > 0
    transient = chain.transient[:, None]
    into = transient * (chain.matrix @ ends.astype(float))
    sizes = np.maximum(fates, 0) + np.where(transient, LEAST, 1)

    def solve(right_side: np.ndarray, start: np.ndarray) -> np.ndarray:
        if way == Way.ELIMINATION:
            return chain.solve(right_side, way, effort.max_steps)
        missing = chain.residual(start, right_side)
        return start + chain.solve(missing, way, effort.max_steps, sizes=sizes)

    nothing = np.zeros_like(fates)
    fates = solve(into, fates)
    first = solve(fates, nothing)
    second = solve(2 * first - fates, nothing)

    # Errors are at most multiples of one vector, the solution for the right-hand side `sizes`.
    sides = (into, fates, 2 * first - fates)
    missing = [
        (np.abs(chain.residual(x, side)) + ROUNDING * chain.leaves[:, None] * np.abs(x)) / sizes
        for x, side in zip((fates, first, second), sides, strict=True)
    ]
    residual = float(max(part.max(initial=0) for part in missing))
    of_fates, of_first, of_second = (part.max(axis=0, initial=0) for part in missing)
    bound = first + LEAST * times
    wanted = np.where(transient, sizes, 0)
    reached = (wanted - chain.residual(bound, wanted) - ROUNDING * chain.leaves[:, None] * bound) / sizes
    least = np.min(reached, axis=0, initial=1, where=transient)
    bound = np.where(least > 0.5, bound / np.maximum(least, 0.5), np.inf)
    longest = (bound / sizes).max(axis=0, initial=0)
    of_first = of_first + of_fates * longest
    of_second = of_second + 2 * of_first * longest + of_fates * longest

    mean, square = first / fates, second / fates
    variance = square - mean**2
    one = bound / fates
    off_mean = one * (of_first / mean + of_fates)
    off_variance = one * (of_second + square * of_fates) + 2 * mean**2 * off_mean + ROUNDING * square
    if way == Way.ELIMINATION:
        # No sum of it has a difference but this variance.
        step = chain.elimination.relative_error
        off_mean, off_variance = np.full_like(mean, 3 * step), 12 * step * square
    # Times that hardly vary, as where each way has the same length, are known as well as their mean.
    off_variance = np.maximum(off_mean, off_variance / np.maximum(variance, (SPREAD * mean) ** 2))
    comes = transient & ~_never_comes(chain, fates)

    def known(numbers: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, float]:
        """The numbers that are known, NaN elsewhere, and the largest error where the class is reached."""
        off = np.where(comes & (off >= 0), off, np.inf)
        error = float(off.max(initial=0, where=comes & (fates > effort.tolerance)))
        numbers = np.where(off <= effort.tolerance, numbers, np.nan)
        return np.where(ends, 0, numbers), error if chances.outcome == Outcome.SOLVED else max(error, chances.error)

    mean, error = known(mean, off_mean)
    mean = np.where(comes | ends, mean, np.inf)
    variance, variance_error = known(np.maximum(variance, 0), off_variance)
    solutions = np.hstack([fates, first, second])
    return _Solved(mean, variance, solutions, residual, error, variance_error, chances.inverse, chances.outcome, way)


def _never_comes(chain: AbsorbingChain, fates: Float[np.ndarray, "rows fates"]) -> Bool[np.ndarray, "rows fates"]:
    """Whether no path leads from a cell to a class; nothing else is as certain as that, since numbers underflow."""
    never = ~(one_hot(chain.terminal, fates.shape[1]) > 0)
    never[chain.transient] = fates[chain.transient] == 0
    # What terminal cells have for rows leads nowhere.
    moves = sp.diags_array(chain.transient.astype(float)) @ chain.matrix
    for k in np.flatnonzero(never[chain.transient].any(axis=0)):
        never[:, k] = cannot_reach(sp.csr_matrix(moves), np.where(chain.terminal == k, 0, -1))
    return never


class _Found(NamedTuple):
    """As :class:`_Solved`, of all cells; the solutions as the sum of two numbers, the second what rounding left."""

    mean: Float[Array, "cells fates"]
    variance: Float[Array, "cells fates"]
    high: Float[Array, "cells 3*fates"]
    low: Float[Array, "cells 3*fates"]
    residual: Float[Array, ""]
    error: Float[Array, ""]
    variance_error: Float[Array, ""]
    inverse: Float[Array, ""]
    outcome: Int[Array, ""]
    way: Int[Array, ""]


@partial(jax.jit, static_argnames=("n_fates", "effort", "needs_variance"))
def _of_graph(
    values, graph: NeighborGraph, terminal: Array, n_fates: int, effort: Effort, needs_variance: bool
) -> AbsorptionTimes:
    found = _moments(values, graph, terminal, n_fates, effort, needs_variance)
    errors = found.error, found.variance_error
    return AbsorptionTimes(found.mean, found.variance, found.residual, *errors, found.outcome)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _moments(
    values, graph: NeighborGraph, terminal: Array, n_fates: int, effort: Effort, needs_variance: bool
) -> _Found:
    dtype = values[0].dtype

    def solve(rows, columns, position, values, terminal) -> _Found:
        chain = AbsorbingChain.of_buckets(rows, columns, position, values, terminal)
        found = _solve(chain, n_fates, effort, needs_variance)
        exact = found.solutions[position]
        high = exact.astype(dtype)
        errors = found.error, found.variance_error
        numbers: Any = (found.residual, *errors, found.inverse, found.outcome, found.way)
        return _Found(found.mean[position], found.variance[position], high, exact - high, *numbers)

    n_cells = graph.position.shape[0]
    of_fates: Any = jax.ShapeDtypeStruct((n_cells, n_fates), dtype)
    all_three: Any = jax.ShapeDtypeStruct((n_cells, 3 * n_fates), dtype)
    number: Any = jax.ShapeDtypeStruct((), dtype)
    code: Any = jax.ShapeDtypeStruct((), jnp.int32)
    results = _Found(of_fates, of_fates, all_three, all_three, number, number, number, number, code, code)
    return call_on_host(solve, results, graph.rows, graph.columns, graph.position, values, terminal)


@_moments.defjvp
def _moments_jvp(n_fates, effort, needs_variance, primals, tangents):
    """Each of the three equations as that of the fates, one after the other."""
    values, graph, terminal = primals
    moved, _, _ = tangents
    found = _moments(values, graph, terminal, n_fates, effort, needs_variance)
    transient = (terminal < 0)[:, None]
    known = jnp.pad(jax.nn.one_hot(terminal, n_fates, dtype=found.high.dtype), ((0, 0), (0, 2 * n_fates)))
    ends = jnp.concatenate([known + found.high, found.low], axis=1)
    changes = expected_displacement(TransitionMatrix(graph, moved), ends)
    changes = jnp.where(transient, changes[:, : 3 * n_fates] + changes[:, 3 * n_fates :], 0)
    of_fates, of_first, of_second = jnp.split(changes, 3, axis=1)

    def solve(right_side: Array) -> Array:
        return solve_implicitly(right_side, values, graph, terminal, found.inverse, found.way, effort)

    fates = solve(of_fates)
    first = solve(fates + of_first)
    second = solve(2 * first - fates + of_second)
    # Where a time is not known, or none, there is no derivative.
    comes = transient & (found.high[:, :n_fates] != 0)
    has_mean, has_variance = (comes & jnp.isfinite(x) for x in (found.mean, found.variance))
    chance = jnp.where(comes, found.high[:, :n_fates], 1)
    mean, variance = jnp.where(has_mean, found.mean, 0), jnp.where(has_variance, found.variance, 0)
    of_mean = jnp.where(has_mean, (first - mean * fates) / chance, 0)
    of_square = (second - (variance + mean**2) * fates) / chance
    of_variance = jnp.where(has_variance, of_square - 2 * mean * of_mean, 0)
    still = jax.tree.map(jnp.zeros_like, found)
    solutions = jnp.concatenate([fates, first, second], axis=1)
    codes = {name: np.zeros((), jax.dtypes.float0) for name in ("outcome", "way")}
    return found, still._replace(mean=of_mean, variance=of_variance, high=solutions, **codes)
