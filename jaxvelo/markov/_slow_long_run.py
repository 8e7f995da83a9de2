"""The long run of a large chain with slow parts: what is slow from its Schur vectors, the rest by iteration."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator

from jaxvelo.markov._absorbing_chain import iterate_one
from jaxvelo.markov._long_run_means import LongRunMeans
from jaxvelo.markov._schur import ScaledChain

SLOW_PARTS = 20
"""At most so many Schur vectors are computed besides those of the closed classes."""
MAX_RESTARTS = 40
"""Those that take longer to find are close to others, and not slow."""
REFINEMENTS = 5
"""Largest number of times that what is missing is solved for."""


def slow_long_run(
    matrix: sp.csr_matrix, eta: Float[np.ndarray, " cells"], n_classes: int, tolerance: float, max_steps: int
) -> Float[np.ndarray, " cells"]:
    r"""Where a chain is found in the long run, NaN where that is not known.

    With the leading Schur vectors, :math:`T X = X R` and :math:`X^\top D X = 1`, the solution of
    :math:`x (1 - T) = b` falls into two parts,

    .. math:: x = q X^\top D + z, \qquad q = b X (1 - R)^\#, \qquad z (1 - T) = b - q X^\top D (1 - T), \quad z X = 0

    with the group inverse of the small :math:`1 - R`, which knows all slow processes; outside of the span of X the
    chain is fast, and BiCGSTAB converges. So what is missing of :math:`\mu T = \mu` is made up for, again and again,
    from :math:`\mu = \eta X R^\infty X^\top D` on. What the last step changed is what counts as the error.

    Parameters
    ----------
    matrix
        Transition matrix.
    eta
        Initial distribution.
    n_classes
        Number of closed classes.
    tolerance
        Largest change :math:`\sum_i |\Delta \mu_i|` by the last step.
    max_steps
        Largest number of products in one iteration.
    """
    found = ScaledChain(matrix, np.full(len(eta), 1 / len(eta))).slow_part(n_classes + SLOW_PARTS, MAX_RESTARTS)
    vectors, small = found.vectors, LongRunMeans(found.matrix)
    if small.n_always != n_classes:  # some parts hardly let go
        return np.full(len(eta), np.nan)
    weighted = vectors * found.initial_distribution[:, None]
    backward, stays = matrix.T, 1 - matrix @ np.ones(len(eta))

    def one_step(x: np.ndarray) -> np.ndarray:
        return backward @ x + stays * x

    def outside(x: np.ndarray) -> np.ndarray:
        return x - weighted @ (x @ vectors)

    fast = LinearOperator(matrix.shape, matvec=lambda x: outside(one_step(x)), dtype=np.float64)
    distribution, before = weighted @ ((eta @ vectors) @ small.projection), np.inf
    for _ in range(REFINEMENTS):
        missing = one_step(distribution) - distribution
        slow = weighted @ ((missing @ vectors) @ small.group_inverse)
        rest = outside(missing - (slow - one_step(slow)))
        step = slow + iterate_one(fast, rest, max_steps, None)
        change = float(np.abs(step).sum())
        if not change < before:
            break
        distribution, before = distribution + step, change
        if change <= 1e-3 * tolerance:
            break
    if not before <= tolerance:
        return np.full(len(eta), np.nan)
    distribution = np.maximum(distribution, 0)
    return distribution / distribution.sum()
