"""How certain fitted scales and weights are where the items of one group depend on each other."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.fit._objective import terms_of
from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.graph._precision import full_precision


def clustered_covariance(
    problem: Problem,
    parameters: Parameters,
    cells: Bool[np.ndarray, " cells"],
    groups: Int[np.ndarray, " cells"],
    covariance: Float[Array, "numbers numbers"],
) -> Float[np.ndarray, "numbers numbers"]:
    r"""Covariance of the unconstrained scales and weights with groups of cells, not cells, as what is independent.

    .. math:: \operatorname{Cov} = H^{-1} \Big( \frac{G}{G-1} \sum_{g=1}^G (s_g - \bar s)(s_g - \bar s)^\top \Big)
        H^{-1}, \qquad s_g = \sum_{i \in g} w_i \nabla L_i

    with :math:`H^{-1}` the covariance of independent items, :func:`laplace_covariance` (White 1982; Liang & Zeger
    1986). With few groups it is too small rather than too large (Cameron & Miller 2015, section VI).

    Parameters
    ----------
    problem
        The problem; its objective must be a likelihood or a positive multiple of one.
    parameters
        Where the likelihood is largest.
    cells
        Which cells the parameters were fitted on, shape ``(cells,)``.
    groups
        Number of each cell's group, shape ``(cells,)``.
    covariance
        :math:`H^{-1}`, shape ``(numbers, numbers)``.

    Returns
    -------
    numpy.ndarray
        The covariance, shape ``(numbers, numbers)``; NaN if there are fewer than two groups.

    Examples
    --------
    >>> groups, everywhere = np.arange(150) % 10, np.ones(150, dtype=bool)
    >>> jv.fit.clustered_covariance(fit_problem, parametrization.start(), everywhere, groups, jnp.array([[0.04]])).shape
    (1, 1)
    """
    (likelihood,) = terms_of(problem.objective)
    inverse = np.asarray(covariance, dtype=np.float64)
    weight = np.asarray(likelihood.weights_in(jax.device_put(cells[None].astype(inverse.dtype.name)))[0], np.float64)
    counted = weight > 0
    names, number = np.unique(groups[np.asarray(likelihood.cell)[counted]], return_inverse=True)
    if len(names) < 2:
        return np.full_like(inverse, np.nan)
    gradients = np.asarray(_item_gradients(problem, parameters), dtype=np.float64)[counted]
    sums = np.zeros((len(names), len(inverse)))
    np.add.at(sums, number, weight[counted][:, None] * gradients)
    sums -= sums.mean(axis=0)
    return inverse @ (sums.T @ sums * (len(names) / (len(names) - 1))) @ inverse


@full_precision
@eqx.filter_jit
def _item_gradients(problem: Problem, parameters: Parameters) -> Float[Array, "items numbers"]:
    """Gradient of the loss of each item, gene weights held fixed: forward, as the numbers are few."""
    start, unravel = ravel_pytree(parameters.without_gene_weights())

    def losses(flat: Array) -> Array:
        return problem.item_losses(unravel(flat).with_gene_weights_of(parameters))[0][0]

    return jax.jacfwd(losses)(start)
