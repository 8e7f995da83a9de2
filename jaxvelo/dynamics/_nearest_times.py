"""Times of cells as a function of the rates: the nearest points on the curve, with their derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.dynamics._cell_times import times_on_branches
from jaxvelo.dynamics._phase_curve import curve_at, decay_end, tangents_at
from jaxvelo.dynamics._splicing import SplicingKinetics

MOST_STEPS = 30


@jax.jit
def nearest_times(
    kinetics: SplicingKinetics,
    unspliced: Float[Array, "cells genes"],
    spliced: Float[Array, "cells genes"],
    deviation: Float[Array, "2 genes"],
) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
    r"""Find the times at which cells are closest to the curves of their genes, with the gene on and with it off.

    With the curve :math:`c(t; \theta)` and a cell :math:`x`, both in units of the standard deviations, the nearest
    point is where :math:`F(t, \theta) = (x - c) \cdot \dot c = 0`, or an end of the branch. It is searched for on a
    grid, then by Newton's method. (The grid is too coarse for the decay of a curve that is switched off early,
    :math:`\beta T < 0.3`, and reaches far beyond the cells.) Derivatives by rates and cells, of any order, are those of
    the implicit function,

    .. math:: \frac{\partial t}{\partial \theta} = \frac{\partial F / \partial \theta}
              {\dot c \cdot \dot c - (x - c) \cdot \ddot c},

    those of the end itself at an end, and zero where the denominator is not positive: there the cell is in the centre
    of the circle that follows the curve, and the nearest point jumps.

    Parameters
    ----------
    kinetics
        Rates of the genes, positive.
    unspliced, spliced
        Observed counts, of shape (cells, genes).
    deviation
        Standard deviations of unspliced and spliced counts, of shape (2, genes), positive.

    Returns
    -------
    tuple of jax.Array
        Times since the last switch, of shape (cells, genes), in the unit of the rates. With the gene on, at most the
        switching time; with the gene off, at most the time after which the counts left are less than 0.2 % and less
        than 0.05 standard deviations.

    References
    ----------
    Bergen et al. (2020), Methods: assignment of times; here by orthogonal distance.

    Examples
    --------
    >>> alpha, beta, gamma, switching_time, scaling = jnp.array([[2.0], [1.0], [0.5], [3.0], [1.0]])
    >>> kinetics = jv.dynamics.SplicingKinetics(alpha, beta, gamma, switching_time, scaling)
    >>> u, s = kinetics.state(jnp.array([[1.0], [4.0]]))
    >>> on, off = jv.dynamics.nearest_times(kinetics, u, s, jnp.ones((2, 1)))
    >>> round(float(on[0, 0]), 2), round(float(off[1, 0]), 2)  # since switched on, since switched off
    (1.0, 1.0)
    """
    alpha, beta, gamma, switch, scaling = (
        jnp.log(rate)
        for rate in (kinetics.alpha, kinetics.beta, kinetics.gamma, kinetics.switching_time, kinetics.scaling)
    )
    unit_u, unit_s = jnp.log(deviation[0]), jnp.log(deviation[1])
    log_curve = jnp.stack(
        [alpha - beta + scaling - unit_u, alpha - gamma - unit_s, gamma - beta, switch + beta], axis=1
    )
    cells = jnp.stack([(unspliced / deviation[0][None]).T, (spliced / deviation[1][None]).T], axis=1)
    on = _nearest(log_curve, cells, kinetics.switching_time * kinetics.beta, True)
    off = _nearest(log_curve, cells, jax.vmap(decay_end)(log_curve), False)
    on, off = (time.T / kinetics.beta[None] for time in (on, off))
    # The end of the branch is the switch itself, and not what rounding makes of it.
    switch = kinetics.switching_time[None]
    return jnp.where(on >= switch * (1 - 16 * jnp.finfo(on.dtype).eps), switch, on), off


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _nearest(
    log_curve: Float[Array, "genes 4"], cells: Float[Array, "genes 2 cells"], end: Float[Array, " genes"], is_on: bool
) -> Float[Array, "genes cells"]:
    """Times on one branch, in units of 1/beta."""
    return jax.lax.map(lambda gene: _search(gene, is_on), (log_curve, cells, end))


@_nearest.defjvp
def _nearest_jvp(is_on: bool, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    log_curve, cells, end = primals
    time = _nearest(log_curve, cells, end, is_on)

    def conditions(log_curve, cells):
        return jax.vmap(partial(_conditions, is_on=is_on))(log_curve, cells, time)

    (_, _, slope), (change, _, _) = jax.jvp(conditions, (log_curve, cells), tangents[:2])
    # The end may have been rounded in another way since.
    at_end = time >= end[:, None] * (1 - 16 * jnp.finfo(end.dtype).eps)
    return time, jnp.where(time <= 0, 0, jnp.where(at_end, tangents[2][:, None], _ratio(change, slope)))


def _search(
    gene: tuple[Float[Array, "4"], Float[Array, "2 cells"], Float[Array, ""]], is_on: bool
) -> Float[Array, " cells"]:
    """Nearest of a grid, then Newton's steps; where these lead to a maximum, steps of Gauss and Newton."""
    log_curve, cells, end = gene
    times, _, _ = times_on_branches(log_curve, *cells)
    start = times[0 if is_on else 1]
    tolerance = jnp.finfo(start.dtype).eps ** 0.4  # the error after a step is of the order of its square
    # At the very beginning, a cell may be as far as it can be from the points around, and would not move.
    _, _, slope = _conditions(log_curve, cells, start, is_on)
    start = jnp.where((start <= 0) & (slope < 0), 1e-3 * end, start)

    def improve(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        round_number, time, share, _ = state
        along, squared_speed, slope = _conditions(log_curve, cells, time, is_on)
        step = _ratio(along, jnp.where(slope > 0, slope, squared_speed))
        moved = jnp.clip(time + share * step, 0, end)
        before, after = (_squared_distance(log_curve, cells, t, is_on) for t in (time, moved))
        # Near the minimum, distances of equal digits say nothing about which time is better; the step does.
        closer = after <= before * (1 + 1e-5)
        moving = jnp.any(jnp.abs(jnp.clip(time + step, 0, end) - time) > tolerance * (1 + time))
        share = jnp.where(closer, jnp.minimum(2 * share, 1), share / 4)
        return round_number + 1, jnp.where(closer, moved, time), share, moving

    def goes_on(state: tuple[Array, Array, Array, Array]) -> Array:
        return state[3] & (state[0] < MOST_STEPS)

    first = jnp.asarray(0), start, jnp.ones_like(start), jnp.asarray(True)
    return jax.lax.while_loop(goes_on, improve, first)[1]


def _conditions(
    log_curve: Float[Array, "4"], cells: Float[Array, "2 cells"], time: Float[Array, " cells"], is_on: bool
) -> tuple[Float[Array, " cells"], Float[Array, " cells"], Float[Array, " cells"]]:
    r""":math:`F`, :math:`|\dot c|^2`, and the denominator of the derivative."""
    on = jnp.full(time.shape, is_on)
    places = curve_at(log_curve, time, on)
    tangent = tangents_at(log_curve, places, on)
    bend = tangents_at(log_curve, tangent, jnp.zeros_like(on))  # the equations are linear
    squared_speed = jnp.sum(tangent * tangent, axis=0)
    slope = squared_speed - jnp.sum((cells - places) * bend, axis=0)
    return jnp.sum((cells - places) * tangent, axis=0), squared_speed, slope


def _ratio(numerator: Float[Array, "*shape"], denominator: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Quotient, and 0 where the denominator is not positive."""
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1), 0)


def _squared_distance(
    log_curve: Float[Array, "4"], cells: Float[Array, "2 cells"], time: Float[Array, " cells"], is_on: bool
) -> Float[Array, " cells"]:
    return jnp.sum(jnp.square(cells - curve_at(log_curve, time, jnp.full(time.shape, is_on))), axis=0)
