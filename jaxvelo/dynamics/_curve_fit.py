r"""Fit of a gene's curve to points in its phase portrait by orthogonal distances.

The loss of a gene is the mean squared distance of its points :math:`x_b` (weights :math:`w_b`) to the curve, and a
normal prior on the parameters:

.. math:: \sum_b w_b \min_t |x_b - c_\theta(t)|^2 + (\theta - \mu)^\top \Lambda (\theta - \mu).

The minimum over :math:`t` is eliminated (variable projection): along the curve a point costs nothing, so that the
Gauss-Newton matrix takes the part of :math:`\partial c/\partial\theta` normal to the curve, except at its ends. That
converges in some ten steps where alternating between times and rates needs hundreds. The nearest points are found on a
grid of times; everything else is sums over the grid, weighted by the points that are nearest to each of its places.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.dynamics._phase_curve import LOWER, UPPER, nearest_places, steepness_at, time_grid
from jaxvelo.graph._precision import full_precision

N_ON, N_OFF = 24, 40
# Genes and starts that go through the compiled program at a time, of which a core's cache holds what they need; and
# elsewhere, to keep the device busy.
N_PROBLEMS, DEVICE_N_PROBLEMS = 16, 256
# Branches of points; FREE ones take the nearer.
FREE, ON, OFF = 0, 1, 2
FAR = 1e6


class Prior(NamedTuple):
    r"""Normal prior on the four parameters, in units of the loss.

    Attributes
    ----------
    mean
        :math:`\mu`, of shape (genes, 4).
    precision
        :math:`\Lambda`, of shape (genes, 4, 4).
    """

    mean: Float[Any, "genes 4"]
    precision: Float[Any, "genes 4 4"]


class CurveFit(NamedTuple):
    r"""Result of :func:`fit_curves`.

    Attributes
    ----------
    log_curve
        Parameters, of shape (genes, 4).
    loss
        Mean squared distance and prior, of shape (genes,).
    distance
        Mean squared distance, of shape (genes,).
    information
        Gauss-Newton matrix of the distance alone (half of its second derivative), of shape (genes, 4, 4).
    late_gain
        By how much the loss fell in the last four steps, relative to it, of shape (genes,).
    """

    log_curve: Float[Any, "genes 4"]
    loss: Float[Any, " genes"]
    distance: Float[Any, " genes"]
    information: Float[Any, "genes 4 4"]
    late_gain: Float[Any, " genes"]


@jax.jit
@full_precision
def fit_curves(
    start: Float[Array, "genes 4"],
    places: Float[Array, "genes 2 points"],
    weights: Float[Array, "genes points"],
    branches: Int[Array, "genes points"],
    prior: Prior,
    iterations: Int[Array, ""],
) -> CurveFit:
    """Fit the curves of genes by damped Gauss-Newton steps.

    Parameters
    ----------
    start
        Parameters to start from, of shape (genes, 4).
    places, weights, branches
        Points of each gene; ``branches`` is ``FREE``, ``ON`` or ``OFF``.
    prior
        Prior of each gene.
    iterations
        Number of steps, at least 5; an argument, so that another one compiles nothing.

    Returns
    -------
    CurveFit
        Of each gene.
    """
    return jax.vmap(partial(_fit_curve, iterations=iterations))(start, places, weights, branches, prior)


class _State(NamedTuple):
    log_curve: Float[Array, "4"]
    loss: Float[Array, ""]
    distance: Float[Array, ""]
    information: Float[Array, "4 4"]
    gradient: Float[Array, "4"]
    damping: Float[Array, ""]
    late_loss: Float[Array, ""]


def _fit_curve(
    start: Float[Array, "4"],
    places: Float[Array, "2 points"],
    weights: Float[Array, " points"],
    branches: Int[Array, " points"],
    prior: Prior,
    iterations: Int[Array, ""],
) -> CurveFit:
    dtype = start.dtype
    lower, upper = jnp.asarray(LOWER, dtype), jnp.asarray(UPPER, dtype)
    unit = jnp.eye(4, dtype=dtype)

    def step(i: Int[Array, ""], state: _State) -> _State:
        matrix = state.information + prior.precision
        scale = jnp.sum(matrix * unit, axis=1)
        damped = matrix + unit * (state.damping * scale + 1e-7 * jnp.sum(scale) + 1e-12)[None]
        # At most a factor of e: the curve is far from linear in its parameters.
        move = jnp.clip(_solve(damped, state.gradient), -1.0, 1.0)
        trial = jnp.clip(state.log_curve + move, lower, upper)
        loss, distance, information, gradient = _evaluate(trial, places, weights, branches, prior)
        better = loss < state.loss
        new = _State(
            trial, loss, distance, information, gradient, jnp.maximum(0.3 * state.damping, 1e-4), state.late_loss
        )
        old = state._replace(damping=jnp.minimum(5 * state.damping, 1e6))
        result = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
        return result._replace(late_loss=jnp.where(i == iterations - 5, result.loss, result.late_loss))

    # The first step evaluates the start itself: so that the program holds one evaluation, not two.
    infinite = jnp.full((), jnp.inf, dtype)
    first = _State(
        jnp.clip(start, lower, upper),
        infinite,
        infinite,
        unit,
        jnp.zeros_like(start),
        jnp.full((), 0.01, dtype),
        infinite,
    )
    last = jax.lax.fori_loop(0, iterations, step, first)
    gain = (last.late_loss - last.loss) / jnp.where(last.loss > 0, last.loss, 1.0)
    return CurveFit(last.log_curve, last.loss, last.distance, last.information, gain)


def _evaluate(
    log_curve: Float[Array, "4"],
    places: Float[Array, "2 points"],
    weights: Float[Array, " points"],
    branches: Int[Array, " points"],
    prior: Prior,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, "4 4"], Float[Array, "4"]]:
    """Loss, distance, Gauss-Newton matrix of the distance, and half the negative gradient of the loss."""
    curve = time_grid(log_curve, N_ON, N_OFF)
    corner = np.arange(N_ON + N_OFF) == N_ON - N_ON // 2 - 1
    # Otherwise the compiler computes the points of the curve anew for each point of the gene.
    curve, steepness = jax.lax.optimization_barrier((curve, steepness_at(log_curve, curve, corner)))

    x, y = places
    squared = jnp.square(x[:, None] - curve.places[0][None]) + jnp.square(y[:, None] - curve.places[1][None])
    other_branch = jnp.where(curve.on[None], (branches == OFF)[:, None], (branches == ON)[:, None])
    squared = jnp.where(other_branch, FAR, squared)
    # Sums over the points nearest to each place of the grid as a product of matrices, faster than a scatter.
    index = nearest_places(squared)
    hits = jnp.where(index[:, None] == jnp.arange(N_ON + N_OFF, dtype=index.dtype)[None], weights[:, None], 0.0)
    moments = jnp.stack([jnp.ones_like(x), x, y, x * x, x * y, y * y]) @ hits  # (6, grid)
    count, residual = moments[0], moments[1:3] - moments[:1] * curve.places

    along_u, along_s = curve.tangents
    length = jnp.square(along_u) + jnp.square(along_s)
    moving = (length > 0) & ~curve.ends
    direction = jnp.where(moving[None], curve.tangents * jax.lax.rsqrt(jnp.where(length > 0, length, 1.0))[None], 0.0)
    along = steepness[:, 0] * direction[:1] + steepness[:, 1] * direction[1:]
    normal = steepness - along[:, None] * direction[None]
    # One product for both: the residuals as one more parameter.
    left = jnp.concatenate([count[None, None] * normal, residual[None]])
    products = left.reshape(5, -1) @ normal.reshape(4, -1).T
    information, gradient = products[:4], products[4]

    # Distances to the tangents at the nearest places, and not to these: that takes the grid's spacing out of the loss.
    (cu, cs), (du, ds) = curve.places, direction
    uu = moments[3] - 2 * cu * moments[1] + cu * cu * count
    us = moments[4] - cu * moments[2] - cs * moments[1] + cu * cs * count
    ss = moments[5] - 2 * cs * moments[2] + cs * cs * count
    distance = jnp.sum(uu + ss - (du * du * uu + 2 * du * ds * us + ds * ds * ss))
    away = log_curve - prior.mean
    pull = jnp.sum(prior.precision * away[None], axis=1)
    return distance + jnp.sum(away * pull), distance, information, gradient - pull


def _solve(matrix: Float[Array, "4 4"], vector: Float[Array, "4"]) -> Float[Array, "4"]:
    """Solve a positive definite system of equations by elimination.

    A library call costs more; without the loop, it takes longer to compile.
    """

    def eliminate(i: Int[Array, ""], rows: Float[Array, "4 5"]) -> Float[Array, "4 5"]:
        row = rows[i] / rows[i, i]
        return jnp.where((jnp.arange(4) == i)[:, None], row[None], rows - rows[:, i, None] * row[None])

    return jax.lax.fori_loop(0, 4, eliminate, jnp.concatenate([matrix, vector[:, None]], axis=1))[:, 4]
