"""A solver of one's own: where cells are found after a random number of steps."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import TransitionMatrix


class DiscountedVisits(NamedTuple):
    """Where cells are found, and how well that is known.

    Attributes
    ----------
    distribution
        Not negative, with sum one, shape ``(cells,)``; NaN where ``error`` is larger than the tolerance.
    error
        Bound of the sum of the absolute errors.
    """

    distribution: Float[Array, " cells"]
    error: Float[Array, ""]


@jax.jit
def discounted_visits(
    transitions: TransitionMatrix,
    start: Float[Array, " cells"],
    discount: float = 0.9,
    tolerance: float = 1e-4,
    max_steps: int = 1000,
) -> DiscountedVisits:
    r"""Where a chain is found if it goes on with probability :math:`\gamma` after each step.

    .. math:: \mu = (1 - \gamma) \sum_{t \geq 0} \gamma^t\, \eta T^t, \qquad
        \mu (I - \gamma T) = (1 - \gamma)\, \eta

    (Page et al. 1998). Each iteration :math:`\mu \leftarrow (1 - \gamma) \eta + \gamma \mu T` makes the error smaller
    by the factor :math:`\gamma`. Derivatives are implicit, by an equation with the same matrix.

    Parameters
    ----------
    transitions
        The transition matrix.
    start
        :math:`\eta`, not negative, with sum one.
    discount
        :math:`\gamma`, at least 0 and less than 1; :math:`\gamma / (1 - \gamma)` steps are expected.
    tolerance
        Largest error that counts as solved.
    max_steps
        Largest number of iterations.

    Returns
    -------
    The distribution and a bound of its error: the residual's norm, and its rounding error, times
    :math:`\|(I - \gamma T)^{-1}\|_\infty = 1 / (1 - \gamma)`.
    """
    dtype = transitions.values[0].dtype
    gamma = jnp.asarray(discount, dtype)
    side = (1 - gamma) * start.astype(dtype)

    def equation(mu):
        return mu - gamma * (mu @ transitions)

    def transposed(mu):
        return mu - gamma * (transitions @ mu)

    def solver_of(apply):
        def iterate(_, right):
            def goes_on(state):
                _, residual, step = state
                return (size(residual) > 0.1 * (1 - gamma) * tolerance * size(right)) & (step < max_steps)

            def improve(state):
                mu, residual, step = state
                mu = mu + residual
                return mu, right - apply(mu), step + 1

            return jax.lax.while_loop(goes_on, improve, (jnp.zeros_like(right), right, 0))[0]

        return iterate

    mu = jax.lax.custom_linear_solve(equation, side, solver_of(equation), solver_of(transposed))
    widest = max(columns.shape[1] for columns in transitions.graph.columns)
    rounding = widest * jnp.finfo(dtype).eps * size(side)
    error = jax.lax.stop_gradient((size(side - equation(mu)) + rounding) / (1 - gamma))
    return DiscountedVisits(jnp.where(error <= tolerance, mu, jnp.nan), error)


def size(values: Float[Array, " cells"]) -> Float[Array, ""]:
    """Sum of absolute values."""
    return jnp.sum(jnp.abs(values))
