"""Elimination of a chain's states without subtractions, so that no digit is lost however slow the chain is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular


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
        pivots = np.ones(n)
        for k in range(n):
            rest = slice(k + 1, n)
            pivots[k] = leaves[k] + moves[k, rest].sum()
            moves[rest, k] /= pivots[k]
            moves[rest, rest] += np.outer(moves[rest, k], moves[k, rest])
            leaves[rest] += moves[rest, k] * leaves[k]
        self._factors = -moves
        np.fill_diagonal(self._factors, pivots)

    @property
    def relative_error(self) -> float:
        """Bound of the relative error of each number of a solution with a right-hand side that is not negative."""
        return 2 * len(self._factors) ** 3 * float(np.finfo(np.float64).eps) / 2

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
