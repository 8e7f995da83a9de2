r"""The curve of one gene in its phase portrait: four parameters, points on it, and their derivatives.

In units of time :math:`1/\beta`, a gene's curve (unspliced, spliced) is given by
:math:`\theta = (\log U, \log S, \log g, \log T)`: the steady states :math:`U` of unspliced and :math:`S` of spliced
counts while the gene is on, :math:`g = \gamma/\beta`, and :math:`T = \beta` times the switching time. Rates of
transcription and the scaling between unspliced and spliced follow: :math:`\alpha/\beta = S g`, scaling
:math:`= U / (S g)`. Written for one gene; mapped by the callers.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.dynamics._splicing import mean_decay

# Shape of the curve beyond these is no longer seen in data, and float32 still resolves it there.
LOWER = np.log([1e-3, 1e-3, 0.02, 0.05])
UPPER = np.log([1e3, 1e3, 50.0, 40.0])
# The decay ends where 0.2 % of it are left and, in units of the standard deviation, not more than this of the counts.
LAST, NOTHING = 2e-3, 0.05


class CurvePoints(NamedTuple):
    """Points on a curve, those with the gene on first.

    Attributes
    ----------
    places
        Unspliced and spliced, of shape (2, points).
    tangents
        Their change per unit of time, of shape (2, points).
    times
        Time since the last switch, of shape (points,).
    on
        Whether the gene is on, of shape (points,).
    ends
        Whether the branch begins or ends there, of shape (points,).
    """

    places: Float[Array, "2 points"]
    tangents: Float[Array, "2 points"]
    times: Float[Array, " points"]
    on: Bool[Array, " points"]
    ends: Bool[Array, " points"]


def time_grid(log_curve: Float[Array, "4"], n_on: int, n_off: int) -> CurvePoints:
    """Points of both branches at times that resolve the fast and the slow of both rates.

    Half of the points of a branch are even in the unspliced counts, half in the decay at the slower rate. They are in
    no order: nothing that follows needs one.
    """
    level_u, level_s, ratio, switch = jnp.exp(log_curve)
    is_on, slowly, share, ends = _grid_shares(n_on, n_off)
    rate = jnp.where(slowly, jnp.minimum(ratio, 1.0), 1.0)
    end = jnp.where(is_on, switch, decay_end(log_curve))
    left = jnp.maximum(jnp.exp(-rate * end), 1e-6)  # float32 resolves no less
    times = jnp.clip(-jnp.log(left + jnp.asarray(1 - share, left.dtype) * (1 - left)) / rate, 0.0, end)
    times = jax.lax.stop_gradient(times)
    on = jnp.asarray(is_on)
    u, s = _shares_at(log_curve, times, on)
    places, tangents = jnp.stack([level_u * u, level_s * s]), _tangents(level_u, level_s, ratio, u, s, on)
    return CurvePoints(places, tangents, times, on, jnp.asarray(ends))


def _grid_shares(
    n_on: int, n_off: int
) -> tuple[Bool[np.ndarray, " grid"], Bool[np.ndarray, " grid"], Float[np.ndarray, " grid"], Bool[np.ndarray, " grid"]]:
    """Of each point: whether the gene is on, whether it is even in the slow decay, share of the way, whether an end."""
    on, slowly, share = [], [], []
    for n, is_on in ((n_on, True), (n_off, False)):
        n_slow, n_fast = n - n // 2, n // 2
        # With both ends, or without: once is enough.
        share += [np.linspace(0, 1, n_slow), (np.arange(n_fast) + 0.5) / n_fast]
        slowly += [np.ones(n_slow, dtype=bool), np.zeros(n_fast, dtype=bool)]
        on.append(np.full(n, is_on))
    shares, slow = np.concatenate(share), np.concatenate(slowly)
    return np.concatenate(on), slow, shares, slow & np.isin(shares, (0.0, 1.0))


def decay_end(log_curve: Float[Array, "4"]) -> Float[Array, ""]:
    r"""Time since the switch after which nothing is left that matters.

    Spliced counts are at most :math:`S (1 + y) e^{-y}` after the time :math:`y / \min(1, g)`, unspliced ones less than
    :math:`U e^{-y}`.
    """
    folds = jnp.maximum(jnp.maximum(log_curve[0], log_curve[1]) - math.log(NOTHING), 0.0)
    y = folds
    for _ in range(4):  # to the fixed point, where (1 + y) exp(-y) is that small
        y = folds + jnp.log(1 + y)
    return jnp.maximum(y, -math.log(LAST)) / jnp.minimum(jnp.exp(log_curve[2]), 1.0)


def curve_at(
    log_curve: Float[Array, "4"], times: Float[Array, " points"], on: Bool[Array, " points"]
) -> Float[Array, "2 points"]:
    """Unspliced and spliced at times since the last switch, of shape (2, points)."""
    level_u, level_s, _, _ = jnp.exp(log_curve)
    u, s = _shares_at(log_curve, times, on)
    return jnp.stack([level_u * u, level_s * s])


def _shares_at(
    log_curve: Float[Array, "4"], times: Float[Array, " points"], on: Bool[Array, " points"]
) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    """Unspliced and spliced in units of the steady states.

    The distance to that of the branch decays as molecules do when none are transcribed.
    """
    _, _, ratio, switch = jnp.exp(log_curve)
    decays = _decays(ratio, switch, times)
    u, s = _decayed(_distances(decays, on), decays)
    steady = on.astype(u.dtype)
    return steady + u, steady + s


def steepness_at(
    log_curve: Float[Array, "4"], curve: CurvePoints, corner: Bool[np.ndarray, " points"]
) -> Float[Array, "4 2 points"]:
    """Derivatives of the places on a curve by its parameters at fixed times, of shape (4, 2, points).

    Written out, but for those of the decays by the ratio: the derivatives that JAX takes of :func:`curve_at` are three
    times as long to compile and to run.

    Parameters
    ----------
    log_curve
        Parameters of the curve.
    curve
        Points on it.
    corner
        Mask of the end of the branch with the gene on, whose time is the switching time itself.
    """
    level_u, level_s, ratio, switch = jnp.exp(log_curve)
    zero = jnp.zeros_like(curve.times)
    decays, changes = jax.jvp(lambda ratio: _decays(ratio, switch, curve.times), (ratio,), (ratio,))
    (_, slow, mixed), (_, slow_change, mixed_change) = decays, changes
    u, s = _distances(decays, curve.on)
    other_start = jnp.where(curve.on, 0.0, -slow_change[-1] - mixed_change[-1])
    by_ratio = other_start * slow[:-1] + s * slow_change[:-1] + u * mixed_change[:-1]
    # With a later switch, the branch with the gene off starts further on.
    u_switch, s_switch = 1 - decays.unspliced[-1], 1 - slow[-1] - mixed[-1]
    speed = switch * (1 - u_switch), switch * ratio * (u_switch - s_switch)
    u_moved, s_moved = _decayed(tuple(jnp.where(curve.on, 0.0, x) for x in speed), decays)
    u_corner, s_corner = jnp.where(corner, switch, 0.0)[None] * curve.tangents
    by_parameter = [
        (curve.places[0], zero),
        (zero, curve.places[1]),
        (zero, level_s * by_ratio),
        (level_u * u_moved + u_corner, level_s * s_moved + s_corner),
    ]
    return jnp.stack([jnp.stack(change) for change in by_parameter])


class _Decays(NamedTuple):
    """What is left after some times, and, last, after the switching time, if nothing is transcribed.

    Attributes
    ----------
    unspliced, spliced
        Share of either kind of molecules.
    mixed
        Spliced molecules that unspliced ones have become, in units of both steady states.
    """

    unspliced: Float[Array, " times"]
    spliced: Float[Array, " times"]
    mixed: Float[Array, " times"]


def _decays(ratio: Float[Array, ""], switch: Float[Array, ""], times: Float[Array, " points"]) -> _Decays:
    times = jnp.concatenate([times, switch[None]])
    unspliced, spliced = jnp.exp(-times), jnp.exp(-ratio * times)
    # The difference of both over that of their rates, see `decay_difference`, without a third exponential function.
    splicing_slower = ratio >= 1
    slower = jnp.where(splicing_slower, unspliced, spliced)
    difference = times * slower * mean_decay(jnp.where(splicing_slower, ratio - 1, 1 - ratio) * times)
    return _Decays(unspliced, spliced, ratio * difference)


def _distances(decays: _Decays, on: Bool[Array, " points"]) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    """Unspliced and spliced where the branches start, less the steady states that they go to."""
    unspliced, spliced, mixed = (left[-1] for left in decays)
    return jnp.where(on, -1.0, 1 - unspliced), jnp.where(on, -1.0, 1 - spliced - mixed)


def _decayed(
    start: tuple[Float[Array, " points"], ...], decays: _Decays
) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    u, s = start
    return u * decays.unspliced[:-1], s * decays.spliced[:-1] + u * decays.mixed[:-1]


def tangents_at(
    log_curve: Float[Array, "4"], places: Float[Array, "2 points"], on: Bool[Array, " points"]
) -> Float[Array, "2 points"]:
    """Change per unit of time at places on the curve, of shape (2, points)."""
    level_u, level_s, ratio, _ = jnp.exp(log_curve)
    return _tangents(level_u, level_s, ratio, places[0] / level_u, places[1] / level_s, on)


def _tangents(
    level_u: Float[Array, ""],
    level_s: Float[Array, ""],
    ratio: Float[Array, ""],
    u: Float[Array, " points"],
    s: Float[Array, " points"],
    on: Bool[Array, " points"],
) -> Float[Array, "2 points"]:
    """Change per unit of time, at places in units of the steady states."""
    return jnp.stack([level_u * (on.astype(u.dtype) - u), level_s * ratio * (u - s)])


def nearest_places(squared: Float[Array, "points grid"]) -> Int[Array, " points"]:
    """Index of the least of each row; of nearly equal ones (less than 2e-5 apart), of any.

    The index of a minimum is slow on CPUs, and a comparison with the minimum can fail altogether: the compiler may
    compute the same numbers twice, and round them differently. So the index takes the last bits of the numbers.
    """
    # Numbers as small as the last bits alone would be flushed to zero.
    squared = jnp.maximum(squared, 1e-30)
    integers = jnp.int64 if squared.dtype == jnp.float64 else jnp.int32
    index = jnp.arange(squared.shape[1], dtype=integers)
    last_bits = (1 << (len(index) - 1).bit_length()) - 1
    keys = (jax.lax.bitcast_convert_type(squared, integers) & ~last_bits) | index[None]
    # Positive floats have the order of their bits, and minima of floats are faster.
    least = jnp.min(jax.lax.bitcast_convert_type(keys, squared.dtype), axis=1)
    return jax.lax.bitcast_convert_type(least, integers) & last_bits
