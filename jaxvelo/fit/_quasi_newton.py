"""An optimiser that learns the curvature of the loss on its way, and ends where there is nothing left to gain."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

MEMORY = 20
"""So many moves are remembered: more than most fits have numbers, few beside those that have gene weights."""
FIRST = 0.3
"""Largest change of a number in the first move, about which nothing is known."""
LONGEST = 1.5
"""Largest change of a number in any move."""
SUFFICIENT = 1e-4
"""Part of the gain expected by the slope that a move must bring."""
CURVED = 1e-6
"""Smallest cosine of a move and the change of the gradient on it that counts as curvature."""
NOTHING = 1e-7
"""A gain this small, relative to the loss, is none; single precision knows losses to about ten times as much."""


class QuasiNewtonState(NamedTuple):
    """Where the optimiser stands; all vectors are the parameters in one row.

    Attributes
    ----------
    point, value, gradient
        The last point that was a gain, its loss and gradient. The loss is infinite before the first.
    direction, length
        What is tried from there: the direction, and which part of it.
    moves, changes
        The last moves from one such point to the next, and changes of the gradient on them, newest first; zero where
        there are fewer.
    ended
        Whether there is nothing left to gain.
    """

    point: Float[Array, " numbers"]
    value: Float[Array, ""]
    gradient: Float[Array, " numbers"]
    direction: Float[Array, " numbers"]
    length: Float[Array, ""]
    moves: Float[Array, "memory numbers"]
    changes: Float[Array, "memory numbers"]
    ended: Bool[Array, ""]


def quasi_newton() -> optax.GradientTransformationExtraArgs:
    r"""L-BFGS (Liu & Nocedal 1989) as an optax optimiser whose every step is one loss and gradient.

    A step either confirms the move before, :math:`f(x + t d) \leq f(x) + c\, t\, d^\top \nabla f(x)` (Armijo 1966), and
    tries the next one, :math:`d = -H \nabla f`, whole; or it takes the move back and tries a shorter one. A loss that
    is not finite makes the move shorter too. Where the loss is concave along a move, which says nothing about where to
    stop, the next one goes downhill twice as far.

    It has ended where the gain expected of the next move is nothing beside the loss.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its ``update`` takes the loss at the point as ``value``.

    References
    ----------
    Liu & Nocedal (1989), On the limited memory BFGS method for large scale optimization, Math. Program. 45:503.

    Examples
    --------
    >>> optimizer, point = jv.fit.quasi_newton(), jnp.array([1.0, -2.0])
    >>> state, update = optimizer.init(point), jax.jit(optimizer.update)
    >>> for _ in range(10):
    ...     value, gradient = jax.value_and_grad(lambda p: jnp.sum(p**2))(point)
    ...     step, state = update(gradient, state, point, value=value)
    ...     point = optax.apply_updates(point, step)
    >>> bool(jnp.abs(point).max() < 1e-3)
    True
    """

    def init(parameters: Any) -> QuasiNewtonState:
        point, _ = ravel_pytree(parameters)
        infinite, nothing = jnp.asarray(jnp.inf, point.dtype), jnp.zeros_like(point)
        memory = jnp.zeros((MEMORY, len(point)), point.dtype)
        length = jnp.ones((), point.dtype)
        return QuasiNewtonState(point, infinite, nothing, nothing, length, memory, memory, jnp.asarray(False))

    def update(updates: Any, state: QuasiNewtonState, params: Any = None, *, value: Array, **others: Any):
        point, unravel = ravel_pytree(params)
        gradient, _ = ravel_pytree(updates)
        value = value.astype(point.dtype)
        is_first = ~jnp.isfinite(state.value)
        expected = state.length * _dot(state.direction, state.gradient)
        is_known = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        is_gain = is_first | (is_known & (value <= state.value + SUFFICIENT * expected))

        there = _next(state, point, value, gradient, is_first)
        # The parabola through both losses and the slope has its minimum there.
        lowest = -expected / (2 * (value - state.value - expected))
        shorter = jnp.where(is_known, jnp.clip(lowest, 0.1, 0.5), 0.25)
        back = state._replace(length=state.length * shorter)
        state = jax.tree.map(lambda a, b: jnp.where(is_gain, a, b), there, back)

        gain = -state.length * _dot(state.direction, state.gradient)
        least = max(NOTHING, 10 * float(jnp.finfo(point.dtype).eps)) * jnp.abs(state.value)
        # Nor does a move that rounding takes away lead anywhere.
        moved = state.point + state.length * state.direction
        state = state._replace(ended=(gain <= least) | jnp.all(moved == state.point))
        return unravel(moved - point), state

    return optax.GradientTransformationExtraArgs(init, update)


def _next(
    state: QuasiNewtonState, point: Array, value: Array, gradient: Array, is_first: Bool[Array, ""]
) -> QuasiNewtonState:
    """After a gain: what was learnt by the move, and which one is next."""
    move, change = point - state.point, gradient - state.gradient
    is_curved = _dot(move, change) > CURVED * jnp.sqrt(_dot(move, move) * _dot(change, change))
    learnt = [
        jnp.where(is_curved, jnp.concatenate([new[None], old[:-1]]), 0)
        for new, old in ((move, state.moves), (change, state.changes))
    ]
    moves, changes = (
        jnp.where(is_first, old, new) for new, old in zip(learnt, (state.moves, state.changes), strict=True)
    )
    is_blind = ~jnp.any(moves[0] != 0)
    reach = jnp.where(is_first, FIRST, 2 * jnp.max(jnp.abs(move), initial=0))
    steepest = jnp.max(jnp.abs(gradient), initial=0)
    downhill = -gradient * reach / jnp.where(steepest > 0, steepest, 1)
    direction = jnp.where(is_blind, downhill, -_times_inverse(gradient, moves, changes))
    direction = direction * jnp.minimum(1, LONGEST / jnp.max(jnp.abs(direction), initial=LONGEST))
    return QuasiNewtonState(
        point, value, gradient, direction, jnp.ones_like(state.length), moves, changes, jnp.asarray(False)
    )


def _times_inverse(
    gradient: Float[Array, " numbers"], moves: Float[Array, "memory numbers"], changes: Float[Array, "memory numbers"]
) -> Float[Array, " numbers"]:
    """The inverse Hessian times the gradient, by two loops over the memory (Nocedal & Wright 2006, algorithm 7.4)."""
    curvature = jnp.sum(moves * changes, axis=1)
    inverse = jnp.where(curvature > 0, 1 / jnp.where(curvature > 0, curvature, 1), 0)

    def backward(vector: Array, pair):
        move, change, inverse = pair
        share = inverse * _dot(move, vector)
        return vector - share * change, share

    def forward(vector: Array, pair):
        move, change, inverse, share = pair
        return vector + move * (share - inverse * _dot(change, vector)), None

    vector, part = jax.lax.scan(backward, gradient, (moves, changes, inverse))
    size = _dot(changes[0], changes[0])
    vector = vector * curvature[0] / jnp.where(size > 0, size, 1)
    return jax.lax.scan(forward, vector, (moves, changes, inverse, part), reverse=True)[0]


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b)
