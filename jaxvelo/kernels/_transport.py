"""Couplings of the cells of two time points by entropic optimal transport."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.annotated.progress_bar import watched
from jaxvelo.configuration import logger

MOST_PAIRS = 100_000_000
"""Up to so many pairs of cells are transported: costs and masses of all of them are in memory."""
EPSILONS = (0.005, 0.02, 0.05, 0.2, 1.0)
SOURCE_TAUS = (1.0, 0.95, 0.8)
_CONVERGED, _STEPS = 1e-3, 5000


class TimePair(NamedTuple):
    """What is transported.

    Attributes
    ----------
    source, target
        Representations of the cells of two time points.
    mass
        Of the source cells, positive, with the sum one.
    futures
        Cells of the target that belong to the clones of a cell of the source; None where clones are not known.
    name
        For messages.
    """

    source: Float[np.ndarray, "sources dims"]
    target: Float[np.ndarray, "targets dims"]
    mass: Float[np.ndarray, " sources"]
    futures: sp.csr_matrix | None
    name: str


def transported(pair: TimePair, epsilon: float, tau_a: float, tau_b: float) -> Float[np.ndarray, "sources targets"]:
    r"""Mass that goes from each cell of the source to each one of the target.

    .. math:: \min_P \sum_{ij} P_{ij} C_{ij} - \epsilon H(P)
        + \tfrac{\epsilon \tau_a}{1 - \tau_a} \mathrm{KL}(P 1 | a)
        + \tfrac{\epsilon \tau_b}{1 - \tau_b} \mathrm{KL}(P^\top 1 | b)

    with squared Euclidean distances as costs :math:`C`, in units of their mean, and uniform masses :math:`b`; with
    :math:`\tau = 1`, the masses are kept (Cuturi 2013; Chizat et al. 2018; Schiebinger et al. 2019).

    Raises
    ------
    ImportError
        If ott-jax is not installed.
    ValueError
        If there are too many pairs of cells.
    """
    solve = _solver()
    n_pairs = len(pair.source) * len(pair.target)
    if n_pairs > MOST_PAIRS:
        raise ValueError(
            f"Expected at most {MOST_PAIRS:.0e} pairs of cells of two time points, found {n_pairs:.1e} of {pair.name}: "
            "they would not fit into memory. Pass `couplings`, sparse ones, as by moscot's low-rank solver."
        )
    arrays = (jnp.asarray(array, dtype=float) for array in (pair.source, pair.target, pair.mass, epsilon))
    # The library promotes types and ranks, which a user may have made errors.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        matrix, converged = solve(*arrays, tau_a, tau_b, _CONVERGED)
    if not bool(converged):
        logger.warning(
            "Optimal transport of %s has not converged with `epsilon=%g`: take a larger one", pair.name, epsilon
        )
    return np.asarray(matrix)


@functools.cache
def _solver() -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Make the compiled solver once: by itself, the library compiles its loop anew in every call."""
    try:
        from ott.geometry import geometry
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn
    except ImportError as error:
        raise ImportError(
            'Couplings of our own need ott-jax, which is not installed: pip install "jaxvelo[ot]". Or pass `couplings`.'
        ) from error

    @functools.partial(jax.jit, static_argnums=(4, 5, 6))
    def solve(source, target, mass, epsilon, tau_a, tau_b, threshold):
        of_costs = geometry.Geometry(cost_matrix=_cost(source, target), epsilon=epsilon)
        problem = linear_problem.LinearProblem(of_costs, a=mass, tau_a=tau_a, tau_b=tau_b)
        found = sinkhorn.Sinkhorn(threshold=threshold, max_iterations=_STEPS)(problem)
        return found.matrix, found.converged

    return solve


def _cost(source, target):
    """Squared distances in units of their mean."""
    # Around zero, where products of rows lose least.
    centre = jnp.mean(source, axis=0, keepdims=True)
    x, y = source - centre, target - centre
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    cost = jnp.maximum(jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None] - 2 * product, 0)
    return cost / jnp.mean(cost)


def best_on_clones(pairs: Sequence[TimePair], tau_b: float) -> tuple[float, float]:
    """``epsilon`` and ``tau_a`` with which cells most likely go to the later cells of their own clones.

    Of a few values each, those of the largest mean log-probability, over all cells with such later cells.

    Raises
    ------
    ValueError
        If no clone is of two time points that are coupled.
    """
    n_known = sum(int(np.count_nonzero(np.diff(p.futures.indptr))) for p in pairs if p.futures is not None)
    if not n_known:
        raise ValueError(
            "Expected clones with cells of two time points that are coupled, found none: they cannot tell `epsilon` "
            "and `tau_a`. Leave `clones` out."
        )
    scores = {}
    candidates = list(itertools.product(EPSILONS, SOURCE_TAUS))
    for epsilon, tau_a in watched(candidates, len(candidates), "Couplings", "values of `epsilon` and `tau_a`"):
        total = sum(
            _log_probabilities(transported(p, epsilon, tau_a, tau_b), p.futures) for p in pairs if p.futures is not None
        )
        scores[epsilon, tau_a] = total / n_known
    best = max(scores, key=lambda point: scores[point])
    logger.info(
        "Using `epsilon=%g`, `tau_a=%g`: mean log-probability %.3f of the later cells of %d cells' own clones",
        *best, scores[best], n_known,
    )  # fmt: skip
    return best


def _log_probabilities(coupling: np.ndarray, futures: sp.csr_matrix) -> float:
    """Sum of the log-probabilities to go to known later cells."""
    known = np.flatnonzero(np.diff(futures.indptr))
    tiny = np.finfo(coupling.dtype).tiny
    rows = coupling[known]
    share = np.asarray(futures[known].multiply(rows).sum(axis=1)).ravel() / np.maximum(rows.sum(axis=1), tiny)
    return float(np.log(np.maximum(share, tiny)).sum())
