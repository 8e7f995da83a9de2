"""Linear equations of an absorbing Markov chain: solved in double precision on the host, with a bound of the error."""

from __future__ import annotations

import enum
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse.linalg import SuperLU, splu

from jaxvelo.markov._elimination import Elimination
from jaxvelo.markov._reachability import cannot_reach

RESIDUAL = 1e-12
"""Residual, relative to the right-hand side, at which the iteration ends."""
ROUGH = 0.25
"""Residual of times that only serve to bound the error; the bound is at most a third larger."""
ROWS = 16_384
"""So many rows are prepared at a time: this bounds the memory."""
THREADED_ENTRIES = 1_000_000
"""From so many entries of the matrix on, threads iterate for one right-hand side each."""
ELIMINATED_CELLS = 5000
"""Up to so many transient cells, equations that nothing else solves are solved by elimination: of 5,000 cells, within
ten seconds and 0.5 GB."""
ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Rounding errors in one row of the equations, relative to its largest term."""


class Outcome(enum.IntEnum):
    """Whether a chain's absorption is known, or why it is not.

    ``SOLVED``: within the tolerance. ``UNREACHABLE``: some cells reach no terminal cell. ``INACCURATE``: absorption
    takes so many steps that it is not known within the tolerance. ``NOT_FINITE``: some transition probabilities are not
    finite.

    Parameters
    ----------
    value
        The outcome of an :class:`~jaxvelo.markov.Absorption` or of :class:`~jaxvelo.markov.AbsorptionTimes`, 0 to 3.

    Examples
    --------
    >>> jv.markov.Outcome(0).name, jv.markov.Outcome.SOLVED.explanation
    ('SOLVED', 'The fates are known within the tolerance.')
    """

    SOLVED = 0
    UNREACHABLE = 1
    INACCURATE = 2
    NOT_FINITE = 3

    @property
    def explanation(self) -> str:
        """Cause and remedy."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Outcome.SOLVED: "The fates are known within the tolerance.",
    Outcome.UNREACHABLE: (
        "Some cells reach no terminal cell by moves of positive probability. Make some of them terminal, remove them, "
        "or add connectivities to the kernel; a smaller softmax scale keeps probabilities from becoming zero."
    ),
    Outcome.INACCURATE: (
        "Absorption takes so many steps that the fates are not known, or not shown to be known, within the tolerance "
        "(the bound of the error is never too small, and may be too large where few cells hardly let go). Add terminal "
        "cells or connectivities, make the softmax scale smaller, or raise `max_steps`, `direct_cells` or `tolerance`."
    ),
    Outcome.NOT_FINITE: "Some transition probabilities are not finite. Look for their cause in the kernel.",
}


class Way(enum.IntEnum):
    """How equations are solved."""

    ITERATION = 0
    FACTORS = 1
    ELIMINATION = 2


class Effort(NamedTuple):
    """How much work to put into a solution.

    Attributes
    ----------
    tolerance
        Largest error that counts as none: of probabilities, absolute; of other solutions, relative.
    max_steps
        Largest number of products with the transition matrix, for each right-hand side.
    direct_first, direct_last
        Up to so many transient cells, the equations are factorised at once, and where the iteration has failed.
    needs_times
        Whether the times are wanted. Otherwise they only serve to bound the error, for which rough ones do.
    """

    tolerance: float
    max_steps: int
    direct_first: int
    direct_last: int
    needs_times: bool = True


class Absorbed(NamedTuple):
    """Fates and times of a chain, in the order of its rows.

    Attributes
    ----------
    fates_and_times
        Probability of each class, and behind these, if needed, the expected number of steps; zero for terminal cells.
    residual, row_sum_defect, error
        As of :class:`~jaxvelo.markov.Absorption`.
    inverse
        Bound of the row sums of the inverse of the equations; infinite unless the chain is solved.
    outcome
        Whether the error is within the tolerance.
    way
        How the equations were solved.
    """

    fates_and_times: Float[np.ndarray, "rows columns"]
    residual: float
    row_sum_defect: float
    error: float
    inverse: float
    outcome: Outcome
    way: Way


class AbsorbingChain:
    r"""The moves of a chain until it comes to a terminal cell.

    Its equations are those of a Laplacian on the transient cells,

    .. math:: (A x)_i = \sum_{j \neq i} T_{ij} (x_i - x_j), \qquad x_j = 0 \text{ at the terminal cells},

    whose diagonal is the sum of the probabilities to move, in double precision, not one minus the probability to stay
    (as in Grassmann, Taksar & Heyman 1985). Rows that sum to one but for rounding errors of single precision would
    lose or make probability at every step, and steps may be many. So the solution belongs to the chain whose
    probabilities to move are given, to their last digit.

    The given matrix is not changed, and its pattern is shared: what is made of it takes as much memory as its values.

    Parameters
    ----------
    matrix
        Transition matrix. What it holds for terminal cells does not matter.
    terminal
        Class of each terminal cell, -1 for all others.
    report
        Called with 1 after each right-hand side that was iterated for.
    has_duplicates
        Whether the matrix may have several entries for one pair of cells. One without is given away if it is not
        sorted.
    """

    def __init__(
        self,
        matrix: sp.csr_matrix,
        terminal: Int[np.ndarray, " rows"],
        report: Callable[[int], object] | None = None,
        has_duplicates: bool = True,
    ):
        indices = matrix.indices
        if not matrix.has_canonical_format:
            # SciPy sorts indices in place, of one of the matrices that share them.
            if has_duplicates:
                matrix = matrix.copy()
                matrix.sum_duplicates()
                indices = matrix.indices
            else:  # not to share them takes a tenth of the time that sorting does
                indices = indices.copy()
        self.matrix = matrix
        self.terminal = terminal
        self.report = report
        self.transient: Bool[np.ndarray, " rows"] = terminal < 0
        leaves, chances = _jumps(matrix, self.transient)
        self.is_stuck = bool((self.transient & (leaves <= 0)).any())
        self.leaves: Float[np.ndarray, " rows"] = np.where(self.transient & (leaves > 0), leaves, 1)
        # Where a move from a transient cell leads, if to another one, P: the equations are those of I - P.
        self.jumps = sp.csr_matrix((chances, indices, matrix.indptr), shape=matrix.shape)

    @classmethod
    def of_buckets(
        cls,
        rows: Sequence[np.ndarray],
        columns: Sequence[np.ndarray],
        position: Int[np.ndarray, " cells"],
        values: Sequence[np.ndarray],
        terminal: Int[np.ndarray, " cells"],
    ) -> AbsorbingChain:
        """From the arrays of a graph, which are a sparse matrix as they stand; vectors are in the order of its rows.

        Parameters
        ----------
        rows, columns, position
            As of :class:`~jaxvelo.graph.NeighborGraph`.
        values
            As of :class:`~jaxvelo.graph.TransitionMatrix`.
        terminal
            Class of each terminal cell, -1 for all others.
        """
        counts, widths = [len(row) for row in rows], [column.shape[1] for column in columns]
        entries = np.repeat(widths, counts)
        indptr = np.concatenate([[0], np.cumsum(entries)]).astype(np.int32)
        indices = position[np.concatenate([column.ravel() for column in columns])]
        data = np.concatenate([value.astype(np.float64).ravel() for value in values])
        # Unused rows of the graph are no cells: terminal, and nobody moves there.
        of_rows = np.zeros(len(entries), dtype=np.int64)
        of_rows[position] = terminal
        used = np.zeros(len(entries), dtype=bool)
        used[position] = True
        # Padding is of a cell with itself, or in an unused row: so no pair of cells is left twice.
        row = np.repeat(np.arange(len(entries)), entries)
        data[((indices == row) | ~used[row]) & np.isfinite(data)] = 0
        matrix = sp.csr_matrix((data, indices, indptr), shape=(sum(counts), sum(counts)))
        matrix.eliminate_zeros()
        return cls(matrix, of_rows, has_duplicates=False)

    @functools.cached_property
    def factors(self) -> SuperLU:
        """Triangular factors of I - P, pivots on its dominant diagonal."""
        matrix = sp.csc_matrix(sp.eye_array(len(self.leaves)) - self.jumps)
        return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    @property
    def n_transient(self) -> int:
        """Number of transient cells."""
        return int(np.count_nonzero(self.transient))

    def has_traps(self) -> bool:
        """Whether some cells reach no terminal cell."""
        return bool(cannot_reach(self.matrix, self.terminal).any())

    def residual(self, x: np.ndarray, right_side: np.ndarray, transposed: bool = False) -> np.ndarray:
        """What is missing of the right-hand side, :math:`b - A x`."""
        leaves = self.leaves[:, None]
        if transposed:
            return right_side - (leaves * x - self.jumps.T @ (leaves * x))
        return right_side - leaves * (x - self.jumps @ x)

    def solve(
        self,
        right_side: np.ndarray,
        way: Way,
        max_steps: int,
        transposed: bool = False,
        sizes: np.ndarray | None = None,
        enough: float | None = None,
    ) -> np.ndarray:
        """Solve :math:`A x = b`, or with the transpose of A, for right-hand sides that are zero at terminal cells.

        Parameters
        ----------
        right_side
            Shape ``(rows, sides)``.
        way
            How to solve them.
        max_steps
            As of :class:`Effort`.
        transposed
            Whether to solve with the transpose.
        sizes
            Positive, of the shape of the right-hand sides: the iteration weighs the residual of each equation by the
            inverse. Where small numbers are to be known to as many digits as large ones, about the solution's sizes.
        enough
            Residual at which the iteration may end, absolute; a small one relative to the right-hand side if ``None``.
        """
        if way == Way.ELIMINATION:
            return self._eliminate(right_side, transposed)[0]
        leaves = self.leaves[:, None]
        b = right_side if transposed else right_side / leaves
        if way == Way.FACTORS:
            x = self._solve_directly(b, transposed)
        else:
            matrix = self.jumps.T if transposed else self.jumps
            x = _iterate(matrix, b, max_steps, sizes, enough, self.report)
        return x / leaves if transposed else x

    def _solve_directly(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        jumps, side = (self.jumps.T, "T") if transposed else (self.jumps, "N")
        try:
            x = self.factors.solve(b, side)
        except RuntimeError:  # singular, but for numbers that have become zero
            return np.full(b.shape, np.nan)
        return x + self.factors.solve(b - x + jumps @ x, side)

    @functools.cached_property
    def elimination(self) -> Elimination:
        """Factors that are accurate whatever the chain, dense."""
        free = self.transient
        inside = (self.jumps[free][:, free]).toarray() * self.leaves[free, None]
        out = self.matrix @ (~free).astype(float)
        return Elimination(inside, out[free])

    def _eliminate(self, right_side: np.ndarray, transposed: bool) -> tuple[np.ndarray, np.ndarray]:
        x, sizes = np.zeros_like(right_side), np.zeros_like(right_side)
        x[self.transient], sizes[self.transient] = self.elimination.solve(right_side[self.transient], transposed)
        return x, sizes

    def bound_of_inverse(self, times: Float[np.ndarray, "rows 1"]) -> float:
        r"""Bound of the row sums of the inverse, which is not negative anywhere.

        .. math:: A t \geq c > 0 \quad\Rightarrow\quad 0 \leq A^{-1} 1 \leq t / c

        (Berman & Plemmons 1994, chapter 6). The times, :math:`A t = 1`, serve even where they are rough.

        Parameters
        ----------
        times
            The vector :math:`t`.
        """
        if not self.n_transient:
            return 0.0
        longest = float(np.abs(times).max())  # a failed iteration may leave large negative numbers
        wanted = self.transient[:, None].astype(float)
        reached = wanted - self.residual(times, wanted) - ROUNDING * self.leaves[:, None] * longest
        least = float(reached[self.transient].min())
        return longest / least if least > 0.5 else np.inf

    def absorb(self, n_fates: int, effort: Effort) -> Absorbed:
        """Fates and times, and how good they are."""
        n_columns = n_fates + effort.needs_times
        if not np.isfinite(self.matrix.data).all():
            return self._nothing(n_columns, Outcome.NOT_FINITE)
        found = self._nothing(n_columns, Outcome.UNREACHABLE)
        if self.is_stuck:
            return found
        for way in plan(self.n_transient, effort):
            if way != Way.ITERATION and self.has_traps():
                return self._nothing(n_columns, Outcome.UNREACHABLE)
            found = self._attempt(n_fates, way, effort)
            if found.outcome == Outcome.SOLVED:
                return found
        return self._nothing(n_columns, Outcome.UNREACHABLE) if self.has_traps() else found

    def _attempt(self, n_fates: int, way: Way, effort: Effort) -> Absorbed:
        one_step = self.transient[:, None].astype(float)
        into = one_step * (self.matrix @ (self.terminal[:, None] == np.arange(n_fates)).astype(float))
        if effort.needs_times or way != Way.ITERATION:
            both = self.solve(np.hstack([into, one_step]), way, effort.max_steps)
            fates, times = both[:, :n_fates], both[:, n_fates:]
        else:
            fates = self.solve(into, way, effort.max_steps)
            times = self.solve(one_step, way, effort.max_steps, enough=ROUGH)
        inverse = self.bound_of_inverse(times)
        missing = np.abs(self.residual(fates, into))
        rounding = ROUNDING * one_step * self.leaves[:, None]
        late = np.abs(self.residual(times, one_step)) + rounding * np.abs(times).max(initial=0)
        # Relative to the times, that error is what is missing of one over what is there of it, at least a half.
        error = float((missing + rounding).max(initial=0)) * inverse
        if effort.needs_times:
            error = max(error, 2 * float(late.max(initial=0)))
        if way == Way.ELIMINATION:
            inverse, error = float(times.max(initial=0)), self.elimination.relative_error
        defect = float(np.abs(1 - fates.sum(axis=1))[self.transient].max(initial=0))
        good = error <= effort.tolerance and defect <= n_fates * effort.tolerance
        outcome = Outcome.SOLVED if good else Outcome.INACCURATE
        error = error if error >= 0 else np.inf  # where factors are not finite
        inverse = inverse if good else np.inf
        found = np.hstack([fates, times]) if effort.needs_times else fates
        return Absorbed(found, float(missing.max(initial=0)), defect, error, inverse, outcome, way)

    def _nothing(self, n_columns: int, outcome: Outcome) -> Absorbed:
        unknown = np.where(self.transient[:, None], np.nan, np.zeros(n_columns))
        return Absorbed(unknown, np.nan, np.nan, np.inf, np.inf, outcome, Way.ITERATION)

    def solve_accurately(
        self, right_side: np.ndarray, inverse: float, way: Way, effort: Effort, transposed: bool
    ) -> np.ndarray:
        """Solve for any right-hand sides, NaN where the relative error is not within the tolerance.

        That is the error of the largest number; with the transpose, of the sum of all numbers.

        Parameters
        ----------
        right_side
            Shape ``(rows, sides)``.
        inverse, way
            As of :class:`Absorbed`, for this chain.
        effort
            How much work to put into it.
        transposed
            Whether to solve with the transpose.
        """
        found = np.full(right_side.shape, np.nan)
        right_side = np.where(self.transient[:, None], right_side, 0)
        if not np.isfinite(inverse):
            return found
        if way == Way.ELIMINATION:
            x, sizes = self._eliminate(right_side, transposed)
            norm = np.sum if transposed else np.max
            off = self.elimination.relative_error * norm(sizes, axis=0)
            return np.where(off <= effort.tolerance * norm(np.abs(x), axis=0), x, np.nan)
        for method in [way] if way != Way.ITERATION else plan(self.n_transient, effort):
            if method == Way.ELIMINATION:
                break
            x = self.solve(right_side, method, effort.max_steps, transposed)
            missing = np.abs(self.residual(x, right_side, transposed))
            if transposed:
                rounding = ROUNDING * self.leaves[:, None] * np.abs(x)
                good = inverse * (missing + rounding).sum(axis=0) <= effort.tolerance * np.abs(x).sum(axis=0)
            else:
                largest = np.abs(x).max(axis=0)
                rounding = ROUNDING * self.leaves[:, None] * largest
                good = inverse * (missing + rounding).max(axis=0) <= effort.tolerance * largest
            found = np.where(good, x, np.nan)
            if good.all():
                break
        return found


def _jumps(matrix: sp.csr_matrix, transient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability that a cell is left, and of each entry, given that the cell is left from one transient to another."""
    leaves, chances = np.zeros(matrix.shape[0]), np.empty(matrix.nnz)
    for start in range(0, len(leaves), ROWS):
        indptr = matrix.indptr[start : start + ROWS + 1]
        entries, counts = slice(indptr[0], indptr[-1]), np.diff(indptr)
        row, column = np.repeat(np.arange(len(counts)), counts), matrix.indices[entries]
        moves = np.where(column == row + start, 0, matrix.data[entries])
        left = np.bincount(row, moves, minlength=len(counts))
        scale = np.divide(1, left, out=np.zeros(len(counts)), where=transient[start : start + ROWS] & (left > 0))
        leaves[start : start + ROWS] = left
        chances[entries] = moves * scale[row] * transient[column]
    return leaves, chances


def plan(n_transient: int, effort: Effort) -> list[Way]:
    """Ways to solve the equations, one after the other until one succeeds."""
    ways = [Way.ITERATION] if n_transient > effort.direct_first else []
    if n_transient <= effort.direct_last:
        ways.append(Way.FACTORS)
    if n_transient <= min(ELIMINATED_CELLS, effort.direct_last):
        ways.append(Way.ELIMINATION)
    return ways


def _iterate(
    matrix: sp.sparray | sp.spmatrix,
    b: np.ndarray,
    max_steps: int,
    sizes: np.ndarray | None,
    enough: float | None,
    report: Callable[[int], object] | None,
) -> np.ndarray:
    """Solve (I - matrix) x = b, side by side; by threads where that takes long, each with a few vectors of its own."""

    def solve(side: int) -> np.ndarray:
        scale = None if sizes is None else np.ascontiguousarray(sizes[:, side])
        return iterate_one(matrix, np.ascontiguousarray(b[:, side]), max_steps, scale, enough)

    x = np.empty_like(b)

    def take(solutions: Iterable[np.ndarray]) -> None:
        for side, solution in enumerate(solutions):
            x[:, side] = solution
            if report is not None:
                report(1)

    if matrix.nnz < THREADED_ENTRIES:
        take(map(solve, range(b.shape[1])))
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            take(pool.map(solve, range(b.shape[1])))
    return x


def iterate_one(
    matrix: sp.sparray | sp.spmatrix,
    b: np.ndarray,
    max_steps: int,
    scale: np.ndarray | None,
    enough: float | None = None,
) -> np.ndarray:
    """Solve for one right-hand side by BiCGSTAB (van der Vorst 1992) to the residual ``enough``, in units of ``scale``.

    Written out, without BLAS: its threads wait for each other where programs of JAX occupy the processor cores (a
    product of two vectors of 10,000 numbers took 100 times as long).
    """

    def left_side(x: np.ndarray) -> np.ndarray:
        if scale is None:
            return x - matrix @ x
        return x - matrix @ (x * scale) / scale

    missing = b if scale is None else b / scale
    right_side, enough = missing, RESIDUAL * _norm(missing) if enough is None else enough
    x, steps = np.zeros_like(b), 0
    while steps < max_steps and _norm(missing) > enough:
        # Begin from what was found: by and by, the iteration's own account of the residual drifts.
        begun, corrected, r, p = steps, x.copy(), missing.copy(), missing.copy()
        shadow, rho = missing, _dot(r, r)
        while steps < max_steps and _norm(r) > enough:
            v = left_side(p)
            alpha = _ratio(rho, _dot(shadow, v))
            r -= alpha * v
            t = left_side(r)
            omega = _ratio(_dot(t, r), _dot(t, t))
            corrected += alpha * p
            corrected += omega * r
            r -= omega * t
            before, rho = rho, _dot(shadow, r)
            v *= omega
            p -= v
            p *= _ratio(rho, before) * _ratio(alpha, omega)
            p += r
            steps += 2
        left = right_side - left_side(corrected)
        if steps == begun or not _norm(left) < _norm(missing):
            break
        x, missing = corrected, left
    return x if scale is None else x * scale


def _dot(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.einsum("r,r->", x, y))


def _norm(x: np.ndarray) -> float:
    return float(np.sqrt(_dot(x, x)))


def _ratio(numerator: float, denominator: float) -> float:
    """Zero where there is nothing left to do."""
    return numerator / denominator if denominator != 0 else 0.0
