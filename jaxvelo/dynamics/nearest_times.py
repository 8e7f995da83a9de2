"""Times of cells as a function of the rates: the nearest points on the curve, with their derivatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvelo.dynamics._cell_times import times_on_branches
from jaxvelo.dynamics._phase_curve import curve_at, decay_end, tangents_at
from jaxvelo.dynamics.splicing import SplicingKinetics

NEWTON_STEPS = 6


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
    grid, then by Newton's method. Derivatives by rates and cells are those of the implicit function,

    .. math:: \frac{\partial t}{\partial \theta} = \frac{\partial F / \partial \theta}
              {\dot c \cdot \dot c - (x - c) \cdot \ddot c},

    those of the end itself at an end, and zero where the denominator is not positive: there the cell is on the
    evolute, and the nearest point jumps.

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
        Times since the last switch, of shape (cells, genes), in the unit of the rates: with the gene on, at most the
        switching time, and with the gene off, at most the time after which less than 0.2 % of the counts, and of the
        standard deviation 0.05 at most, are left.

    References
    ----------
    Bergen et al. (2020), Methods: assignment of times; here by orthogonal distance.
    """
    alpha, beta, gamma, switch, scaling = (
        jnp.log(rate)
        for rate in (kinetics.alpha, kinetics.beta, kinetics.gamma, kinetics.switching_time, kinetics.scaling)
    )
    unit_u, unit_s = jnp.log(deviation[0]), jnp.log(deviation[1])
    log_curve = jnp.stack(
        [alpha - beta + scaling - unit_u, alpha - gamma - unit_s, gamma - beta, switch + beta], axis=1
    )
    in_units = unspliced / deviation[0][None], spliced / deviation[1][None]
    on, off = jax.lax.map(lambda gene: _both(*gene), (log_curve, in_units[0].T, in_units[1].T))
    on, off = (time.T / kinetics.beta[None] for time in (on, off))
    # The end of the branch is the switch itself, and not what rounding makes of it.
    switch = kinetics.switching_time[None]
    return jnp.where(on >= switch * (1 - 16 * jnp.finfo(on.dtype).eps), switch, on), off


def _both(
    log_curve: Float[Array, "4"], unspliced: Float[Array, " cells"], spliced: Float[Array, " cells"]
) -> tuple[Float[Array, " cells"], Float[Array, " cells"]]:
    """Times of one gene on both branches, in units of 1/beta."""
    fixed = jax.lax.stop_gradient((log_curve, unspliced, spliced))
    times, _, _ = times_on_branches(*fixed)
    cells = jnp.stack([unspliced, spliced])
    ends = jnp.exp(log_curve[3]), decay_end(log_curve)
    on, off = (
        _refined(log_curve, cells, time, jnp.full(cells.shape[1], is_on), end)
        for time, is_on, end in zip(times, (True, False), ends, strict=True)
    )
    return on, off


def _refined(
    log_curve: Float[Array, "4"],
    cells: Float[Array, "2 cells"],
    time: Float[Array, " cells"],
    on: Bool[Array, " cells"],
    end: Float[Array, ""],
) -> Float[Array, " cells"]:
    """Newton's steps from nearly the right time; one more, which does not move, carries the derivative."""
    fixed_curve, fixed_cells, fixed_end = jax.lax.stop_gradient((log_curve, cells, end))

    def improve(_: int, time: Float[Array, " cells"]) -> Float[Array, " cells"]:
        step = _newton_step(fixed_curve, fixed_cells, time, on)
        moved = jnp.clip(time + step, 0, fixed_end)
        before, after = (_squared_distance(fixed_curve, fixed_cells, t, on) for t in (time, moved))
        # Near the minimum, distances of equal digits say nothing about which time is better; the step does.
        return jnp.where(after <= before * (1 + 1e-5), moved, time)

    time = jax.lax.fori_loop(0, NEWTON_STEPS, improve, time)
    step = _newton_step(log_curve, cells, time, on)
    inside = time + step - jax.lax.stop_gradient(step)
    return jnp.where(time <= 0, 0, jnp.where(time >= fixed_end, end, inside))


def _newton_step(
    log_curve: Float[Array, "4"],
    cells: Float[Array, "2 cells"],
    time: Float[Array, " cells"],
    on: Bool[Array, " cells"],
) -> Float[Array, " cells"]:
    """Step to where cell and curve meet at a right angle; no derivative by the denominator is taken."""
    places = curve_at(log_curve, time, on)
    tangent = tangents_at(log_curve, places, on)
    bend = tangents_at(log_curve, tangent, jnp.zeros_like(on))  # the equations are linear
    slope = jax.lax.stop_gradient(jnp.sum(tangent * tangent, axis=0) - jnp.sum((cells - places) * bend, axis=0))
    along = jnp.sum((cells - places) * tangent, axis=0)
    return jnp.where(slope > 0, along / jnp.where(slope > 0, slope, 1), 0)


def _squared_distance(
    log_curve: Float[Array, "4"],
    cells: Float[Array, "2 cells"],
    time: Float[Array, " cells"],
    on: Bool[Array, " cells"],
) -> Float[Array, " cells"]:
    return jnp.sum(jnp.square(cells - curve_at(log_curve, time, on)), axis=0)
