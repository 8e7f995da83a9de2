"""Elimination of a chain's states without subtractions, so that no digit is lost however slow the chain is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

BLOCK = 64
"""So many states are taken out at a time; what they do to all others is a product of matrices."""


class Elimination:
    r"""Triangular factors of :math:`A = \operatorname{diag}(M 1 + z) - M`, with M and z not negative.

    State after state is taken out of the chain: what goes to it, goes on as it would from there. Pivots are sums of
    probabilities to move, not differences (Grassmann, Taksar & Heyman 1985); so all numbers are sums, products and
    quotients of numbers that are not negative, each with a relative error of some times the rounding error, whatever
    the condition of A (O'Cinneide 1993, Numerische Mathematik 65; Alfa, Xue & Ye 2002, Mathematics of Computation 71).

    Parameters
    ----------
    moves
        Probabilities M to move from state to state, dense; its diagonal does not matter. It is overwritten.
    leaves
        Probabilities z to leave for good, from each state.
    """

    def __init__(self, moves: Float[np.ndarray, "states states"], leaves: Float[np.ndarray, " states"]):
        n, leaves = len(moves), leaves.copy()
        for start in range(0, n, BLOCK):
            end = min(start + BLOCK, n)
            block, rest = slice(start, end), slice(end, n)
            pivots = np.ones(end - start)
            for k in range(start, end):
                later = slice(k + 1, end)
                pivots[k - start] = pivot = leaves[k] + moves[k, k + 1 :].sum()
                moves[later, k] /= pivot
                moves[later, k + 1 :] += np.outer(moves[later, k], moves[k, k + 1 :])
                leaves[later] += moves[later, k] * leaves[k]
            upper = -moves[block, block]
            np.fill_diagonal(upper, pivots)
            moves[rest, block] = solve_triangular(upper, moves[rest, block].T, trans=1).T
            moves[rest, rest] += moves[rest, block] @ moves[block, rest]
            leaves[rest] += moves[rest, block] @ leaves[block]
            moves[range(start, end), range(start, end)] = -pivots
        self._factors = np.negative(moves, out=moves)

    @property
    def relative_error(self) -> float:
        """Bound of the relative error of each number of a solution with a right-hand side that is not negative.

        To take out one of n states changes the probabilities of the others by a few rounding errors, and by those of
        a sum over n numbers: NumPy adds contiguous ones pairwise, with no more than 40 rounding errors on the way to
        any. Relative changes of all probabilities of n states change the solution by 2 n times as much, at most.
        """
        return 48 * len(self._factors) ** 2 * float(np.finfo(np.float64).eps) / 2

    def solve(self, right_side: Float[np.ndarray, "states sides"], transposed: bool) -> tuple[np.ndarray, np.ndarray]:
        """Solve :math:`A x = b`, or with the transpose.

        Returns
        -------
        The solution, and the sizes that its errors are relative to: the solution for the magnitudes of the right-hand
        side.
        """
        n_sides = right_side.shape[1]
        both = np.hstack([np.maximum(right_side, 0), np.maximum(-right_side, 0)])
        order = [("lower", True), ("upper", False)]
        for part, unit in order[::-1] if transposed else order:
            both = solve_triangular(
                self._factors, both, trans=int(transposed), lower=part == "lower", unit_diagonal=unit
            )
        positive, negative = both[:, :n_sides], both[:, n_sides:]
        return positive - negative, positive + negative
