"""Where a Markov chain is found in the long run: its stationary distribution."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.custom_derivatives import linear_call
from jaxtyping import Array, Float

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._host import call_on_host
from jaxvelo.markov._absorbing_chain import AbsorbingChain, Effort, Way, plan
from jaxvelo.markov._absorption import DIRECT_CELLS, effort_of
from jaxvelo.markov._closed_classes import closed_class_of_cells
from jaxvelo.markov._schur import initial_distribution_on_graph
from jaxvelo.markov._slow_long_run import slow_long_run

SMOOTHING_STEPS = 30
"""Steps of the chain after which a cell of each closed class is chosen that it often comes back to."""
QUICK = 4
"""The first attempt at a large chain may take so much less than all of the steps: a slow chain needs another way."""


def stationary_distribution(
    transitions: sp.csr_matrix | TransitionMatrix,
    initial_distribution: Any = None,
    *,
    tolerance: float | None = None,
    max_steps: int = 2000,
    direct_cells: int = DIRECT_CELLS,
) -> Any:
    r"""Where a chain is found in the long run, :math:`\mu T = \mu`.

    .. math:: \mu = \lim_{n \to \infty} \frac{1}{n} \sum_{t < n} \eta T^t = \sum_c w_c \pi_c

    with one distribution :math:`\pi_c` for each closed class of cells, and the probability :math:`w_c` to end in it
    from the initial distribution :math:`\eta`. It exists for every chain, and with a single closed class it does not
    depend on :math:`\eta`.

    One cell of each class is made absorbing. Between two visits there, the chain is expected at the other cells in
    proportion to :math:`\pi_c` (Kemeny & Snell 1976, theorem 6.2.3); so all of them follow from one equation with an
    absorbing chain, as the weights do, and their error is bounded as that of absorption probabilities: see
    :func:`absorption_probabilities`. Large chains whose parts hang together so loosely that this takes too long are
    solved with the help of their Schur vectors, up to 20 slow ones. Gradients, first derivatives alone, are implicit;
    they are NaN for these chains.

    Parameters
    ----------
    transitions
        Transition matrix, shape ``(cells, cells)``: of SciPy, for a result of NumPy in double precision; or on a graph,
        for one of its type that has derivatives.
    initial_distribution
        :math:`\eta`, shape ``(cells,)``; uniform if ``None``. It has no derivative.
    tolerance
        Largest error of :math:`\sum_i |\mu_i|` that counts as none, for each class; 1e-6 if ``None``.
    max_steps
        Largest number of products with the transition matrix in the iteration.
    direct_cells
        Up to so many cells, what the iteration does not solve is solved by LU factors.

    Returns
    -------
    array
        :math:`\mu`, not negative, with sum one, shape ``(cells,)``. On a graph, NaN where it is not known within the
        tolerance.

    Raises
    ------
    ArithmeticError
        If it is not known within the tolerance, for a matrix of SciPy.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    >>> jv.markov.stationary_distribution(chain).round(6).tolist()
    [0.25, 0.5, 0.25]
    """
    n_cells = transitions.shape[0]
    effort = effort_of(tolerance, max_steps, direct_cells)
    if isinstance(transitions, TransitionMatrix):
        start = initial_distribution_on_graph(transitions, initial_distribution)
        return _stationary(transitions.values, transitions.graph.bare, start, effort).distribution
    eta = np.full(n_cells, 1.0) if initial_distribution is None else np.asarray(initial_distribution, dtype=np.float64)
    found = long_run(without_zeros(transitions), eta / eta.sum(), effort)
    if not np.isfinite(found.distribution).all():
        raise ArithmeticError(
            f"Expected the stationary distribution of {n_cells} cells within {effort.tolerance:g}, found that it is "
            "not known so well: some cells are reached too rarely. The graph may hang together by a few edges only: "
            "use more neighbours, take its parts by themselves, or raise `tolerance`, `max_steps` or `direct_cells`."
        )
    return found.distribution


def without_zeros(transitions: sp.csr_matrix) -> sp.csr_matrix:
    """The matrix itself, or a copy if it stores zeros, is not in order or is of another precision."""
    if transitions.dtype == np.float64 and transitions.has_canonical_format and transitions.data.all():
        return transitions
    copy = sp.csr_matrix(transitions, dtype=np.float64, copy=True)
    copy.sum_duplicates()
    copy.eliminate_zeros()
    return copy


class LongRun(NamedTuple):
    """Long-run behaviour of a chain, NaN where it is not known.

    Attributes
    ----------
    distribution
        Where the chain is found.
    of_classes
        Where it is found once it is in the closed class of a cell: sums to one over each class, zero elsewhere.
    visits
        Expected number of visits at the cells of no closed class; zero if there is one class only, as the weights of
        the classes do not depend on them.
    """

    distribution: Any
    of_classes: Any
    visits: Any


def long_run(matrix: sp.csr_matrix, eta: Float[np.ndarray, " cells"], effort: Effort) -> LongRun:
    """Solve for visits between visits at one cell of each class; where that is too slow, for slow parts by themselves.

    Parameters
    ----------
    matrix
        Transition matrix, without stored zeros.
    eta
        Initial distribution.
    effort
        How much work to put into it.
    """
    is_large = matrix.shape[0] > effort.direct_last
    quick = effort._replace(max_steps=effort.max_steps // QUICK) if is_large else effort
    recurrence = Recurrence(matrix, quick)
    found = recurrence.long_run(eta)
    if is_large and not np.isfinite(found.distribution).all():
        slow = slow_long_run(matrix, eta, recurrence.n_classes, effort.tolerance, effort.max_steps)
        return found._replace(distribution=slow)
    return found


class Recurrence:
    """A chain from visit to visit at one cell of each closed class.

    Parameters
    ----------
    matrix
        Transition matrix, without stored zeros.
    effort
        How much work to put into it.
    """

    def __init__(self, matrix: sp.csr_matrix, effort: Effort):
        self.matrix, self.effort = matrix, effort
        self.label = closed_class_of_cells(matrix)
        self.n_classes = int(self.label.max()) + 1
        # The rarer the visits, the harder the equations.
        often = np.full(len(self.label), 1 / len(self.label))
        for _ in range(SMOOTHING_STEPS):
            often = 0.5 * (often + matrix.T @ often)
        order = np.lexsort((often, self.label))
        self.pins = order[np.append(np.flatnonzero(np.diff(self.label[order])), len(order) - 1)]
        self.pins = self.pins[self.label[self.pins] >= 0]
        terminal = np.full(len(self.label), -1)
        terminal[self.pins] = np.arange(self.n_classes)
        self.chain = AbsorbingChain(matrix, terminal)
        self.others = terminal < 0
        one_step = self.others[:, None].astype(float)
        self.way, self.inverse = Way.ITERATION, np.inf
        for way in plan(self.chain.n_transient, effort):
            times = self.chain.solve(one_step, way, effort.max_steps)
            exact = way == Way.ELIMINATION
            self.way, self.inverse = way, float(times.max()) if exact else self.chain.bound_of_inverse(times)
            if np.isfinite(self.inverse):
                break

    def solve(self, right_side: Float[np.ndarray, " cells"], transposed: bool) -> Float[np.ndarray, " cells"]:
        """Solve with the equations of the chain until its next visit, zero at the visited cells; NaN if not known."""
        side = np.where(self.others, right_side, 0)[:, None]
        return self.chain.solve_accurately(side, self.inverse, self.way, self.effort, transposed)[:, 0]

    def of_classes(self, values: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " classes"]:
        """Sum over each class."""
        inside = self.label >= 0
        return np.bincount(self.label[inside], values[inside], minlength=self.n_classes)

    def spread(self, values: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " cells"]:
        """Value of the class of each cell, zero for the cells of none."""
        return np.where(self.label >= 0, values[self.label], 0)

    def ends(self, mass: Float[np.ndarray, " cells"]) -> tuple[np.ndarray, np.ndarray]:
        """How much of a mass comes to each class, and how often it is expected at each cell until the first visit."""
        visits = self.solve(mass, transposed=True)
        return mass[self.pins] + (self.matrix.T @ visits)[self.pins], visits

    @functools.cached_property
    def profile(self) -> Float[np.ndarray, " cells"]:
        """Distribution of each class, side by side."""
        leaving = self.matrix.T @ (~self.others).astype(float)
        expected = np.maximum(self.solve(leaving, transposed=True), 0)  # a rounding error below zero is none
        expected[self.pins] = 1
        return expected * self.spread(1 / self.of_classes(expected))

    def long_run(self, eta: Float[np.ndarray, " cells"]) -> LongRun:
        """See :class:`LongRun`."""
        profile = self.profile
        if self.n_classes == 1:
            return LongRun(profile, profile, np.zeros_like(profile))
        weights, visits = self.ends(eta)
        distribution = profile * self.spread(weights / weights.sum())
        return LongRun(distribution, profile, np.where(self.label < 0, visits, 0))

    def change(
        self, inside: Float[np.ndarray, " cells"], between: Float[np.ndarray, " cells"]
    ) -> Float[np.ndarray, " cells"]:
        r"""First-order change of the long run, linear in its causes.

        Parameters
        ----------
        inside
            What the changed probabilities move within the classes in one step, :math:`\mu \dot T`.
        between
            What they move on the way there, :math:`v \dot T` with the visits v.
        """
        moved = self.solve(np.where(self.label >= 0, inside, 0), transposed=True)
        moved = moved - self.profile * self.spread(self.of_classes(moved))
        if self.n_classes == 1:
            return moved
        return moved + self.profile * self.spread(self.ends(between)[0])

    def change_transposed(self, gradient: Float[np.ndarray, " cells"]) -> tuple[np.ndarray, np.ndarray]:
        """Transpose of :meth:`change`."""
        means = self.of_classes(self.profile * gradient)
        inside = self.solve(np.where(self.label >= 0, gradient - self.spread(means), 0), transposed=False)
        inside = np.where(self.label >= 0, inside, 0)
        if self.n_classes == 1:
            return inside, np.zeros_like(inside)
        at_pins = np.zeros_like(gradient)
        at_pins[self.pins] = means
        return inside, at_pins + self.solve(self.matrix @ at_pins, transposed=False)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
@partial(jax.jit, static_argnums=(3,))
def _stationary(values, graph: NeighborGraph, eta: Array, effort: Effort) -> LongRun:
    def solve(transitions, eta) -> LongRun:
        return long_run(transitions.to_csr(), eta.astype(np.float64), effort)

    some: Any = jax.ShapeDtypeStruct(eta.shape, values[0].dtype)
    return call_on_host(solve, LongRun(some, some, some), TransitionMatrix(graph, values), eta)


@_stationary.defjvp
def _stationary_jvp(effort, primals, tangents):
    r"""With one class, :math:`\dot\mu (1 - T) = \mu \dot T`."""
    values, graph, eta = primals
    moved = TransitionMatrix(graph, tangents[0])
    found = _stationary(values, graph, eta, effort)
    sums = moved.row_sums()
    causes = tuple(mass @ moved - mass * sums for mass in (found.distribution, found.visits))
    some: Any = jax.ShapeDtypeStruct(eta.shape, values[0].dtype)

    def change(transitions, causes):
        def on_host(transitions, causes):
            doubles = (cause.astype(np.float64) for cause in causes)
            return Recurrence(transitions.to_csr(), effort).change(*doubles)

        return call_on_host(on_host, some, transitions, causes)

    def transposed(transitions, gradient):
        def on_host(transitions, gradient):
            return Recurrence(transitions.to_csr(), effort).change_transposed(gradient.astype(np.float64))

        return call_on_host(on_host, (some, some), transitions, gradient)

    still = jax.tree.map(jnp.zeros_like, found)
    return found, still._replace(distribution=linear_call(change, transposed, TransitionMatrix(graph, values), causes))
