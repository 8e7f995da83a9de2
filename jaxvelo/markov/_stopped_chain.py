"""Where a Markov chain is when it is stopped at random: its long run, as far as that can be known."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, gmres

TOLERANCE, ENOUGH = 1e-8, 1e-6
"""Errors that the iteration aims at, and that are good enough."""
RESTART, MOST_RESTARTS = 60, 5
"""Of the iteration that is quick where the chain mixes: products between restarts, and restarts before it ends."""
CHECKED, MOST_STEPS = 100, 100_000
"""Steps of the chain itself between checks of the error, and in all."""


def stopped_distribution(
    transitions: sp.csr_matrix, starts: Float[np.ndarray, " cells"], stop: float
) -> Float[np.ndarray, " cells"]:
    r"""Where a chain is that stops at each step with a small probability.

    .. math:: \mu = \epsilon \sum_{k \geq 0} (1 - \epsilon)^k \eta T^k, \qquad
              \mu (1 - (1 - \epsilon) T) = \epsilon \eta .

    A part of :math:`\eta` along a left eigenvector of eigenvalue :math:`\lambda` is left with the factor
    :math:`\epsilon / (\epsilon + (1 - \epsilon) (1 - \lambda))`: what lasts longer than :math:`1 / \epsilon` steps
    stays, the rest dies down. As :math:`\epsilon \to 0` this is the long run, where several classes of cells that lead
    to no others count by the probability to end there. Unlike eigenvectors it is always defined and never jumps: rows
    of :math:`T` that change by :math:`\delta` (in the sum of magnitudes) change :math:`\mu` by at most
    :math:`\delta / \epsilon`.

    Parameters
    ----------
    transitions
        Transition matrix, shape ``(cells, cells)``; every row sums to one.
    starts
        :math:`\eta`, shape ``(cells,)``, not negative, with sum one.
    stop
        :math:`\epsilon`, above 0 and below 1.

    Returns
    -------
    numpy.ndarray
        :math:`\mu`, not negative, with sum one, shape ``(cells,)``; the sum of magnitudes of the error is below 1e-6.

    Raises
    ------
    ArithmeticError
        If that is not reached, which may be for :math:`\epsilon` below 1e-4.

    Notes
    -----
    GMRES needs few products where the chain mixes, and may get nowhere where it is a long way from one end to the
    other. Then the sum itself is taken, as :math:`\mu \leftarrow (1 - \epsilon) \mu T + \epsilon \eta`: each step makes
    the error smaller by :math:`1 - \epsilon` at least.

    References
    ----------
    Page et al. (1999), The PageRank citation ranking, for the equation; the bounds follow from the sum.

    Examples
    --------
    >>> chain, starts = sp.csr_matrix([[0.0, 1.0], [0.0, 1.0]]), np.array([1.0, 0.0])
    >>> jv.markov.stopped_distribution(chain, starts, stop=0.1).round(3).tolist()
    [0.1, 0.9]
    """
    n_cells = transitions.shape[0]
    backward = sp.csr_matrix(transitions.T, dtype=np.float64)

    def equations(x: np.ndarray) -> np.ndarray:
        return x - (1 - stop) * (backward @ x)

    right_side = stop * starts
    found, _ = gmres(
        LinearOperator((n_cells, n_cells), matvec=equations, dtype=np.float64),
        right_side,
        x0=starts,
        rtol=0.0,
        # The sum of magnitudes is at most that many times the norm, and the inverse has the norm 1 / stop.
        atol=TOLERANCE * stop / np.sqrt(n_cells),
        restart=RESTART,
        maxiter=MOST_RESTARTS,
    )

    def error(x: np.ndarray) -> float:
        return float(np.abs(right_side - equations(x)).sum() / stop)

    if not error(found) <= ENOUGH:
        found = min(found, starts, key=error)
        for step in range(MOST_STEPS):
            if step % CHECKED == 0 and error(found) <= ENOUGH:
                break
            found = (1 - stop) * (backward @ found) + right_side
    if not error(found) <= ENOUGH:
        raise ArithmeticError(
            f"Expected the long run of a chain of {n_cells} cells within {ENOUGH:g}, found an error of "
            f"{error(found):.2g}. Take a larger probability to stop."
        )
    found = np.maximum(found, 0)
    return found / found.sum()
