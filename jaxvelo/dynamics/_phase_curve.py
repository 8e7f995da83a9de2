r"""The curve of one gene in its phase portrait: four parameters, points on it, and their derivatives.

In units of time :math:`1/\beta`, a gene's curve (unspliced, spliced) is given by
:math:`\theta = (\log U, \log S, \log g, \log T)`: the steady states :math:`U` of unspliced and :math:`S` of spliced
counts while the gene is on, :math:`g = \gamma/\beta`, and :math:`T = \beta` times the switching time. Rates of
transcription and the scaling between unspliced and spliced follow: :math:`\alpha/\beta = S g`, scaling
:math:`= U / (S g)`. Written for one gene; mapped by the callers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.dynamics._splicing import splicing_solution

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
    _, _, ratio, switch = jnp.exp(log_curve)
    slow = jnp.minimum(ratio, 1.0)

    def even(n: int, rate: Float[Array, ""], end: Float[Array, ""], whole: bool) -> Float[Array, " n"]:
        # With both ends, or without: once is enough.
        share = np.linspace(0, 1, n) if whole else (np.arange(n) + 0.5) / n
        left = jnp.maximum(jnp.exp(-rate * end), 1e-6)  # float32 resolves no less
        return -jnp.log(left + jnp.asarray(1 - share, left.dtype) * (1 - left)) / rate

    def branch(n: int, end: Float[Array, ""]) -> Float[Array, " n"]:
        slowly, fast = even(n - n // 2, slow, end, True), even(n // 2, jnp.ones_like(slow), end, False)
        return jnp.clip(jnp.concatenate([slowly, fast]), 0.0, end)

    times = jnp.concatenate([branch(n_on, switch), branch(n_off, decay_end(log_curve))])
    on = jnp.arange(n_on + n_off) < n_on
    ends = np.isin(np.arange(n_on + n_off), (0, n_on - n_on // 2 - 1, n_on, n_on + n_off - n_off // 2 - 1))
    times = jax.lax.stop_gradient(times)
    places = curve_at(log_curve, times, on)
    return CurvePoints(places, tangents_at(log_curve, places, on), times, on, jnp.asarray(ends))


def decay_end(log_curve: Float[Array, "4"]) -> Float[Array, ""]:
    r"""Time since the switch after which nothing is left that matters.

    Spliced counts are at most :math:`S (1 + y) e^{-y}` after the time :math:`y / \min(1, g)`, unspliced ones less than
    :math:`U e^{-y}`.
    """
    level_u, level_s, ratio, _ = jnp.exp(log_curve)
    folds = jnp.log(jnp.maximum(jnp.maximum(level_u, level_s) / NOTHING, 1.0))
    y = folds
    for _ in range(4):  # to the fixed point, where (1 + y) exp(-y) is that small
        y = folds + jnp.log1p(y)
    return jnp.maximum(y, -jnp.log(jnp.full_like(y, LAST))) / jnp.minimum(ratio, 1.0)


def curve_at(
    log_curve: Float[Array, "4"], times: Float[Array, " points"], on: Bool[Array, " points"]
) -> Float[Array, "2 points"]:
    """Unspliced and spliced at times since the last switch, of shape (2, points)."""
    level_u, level_s, ratio, switch = jnp.exp(log_curve)
    zero, one = jnp.zeros_like(ratio), jnp.ones_like(ratio)
    # In units of both steady states: with a transcription rate of one, these are 1 and 1 / ratio.
    u, s = splicing_solution(jnp.where(on, times, switch), zero, zero, one, one, ratio)
    u_off, s_off = splicing_solution(jnp.where(on, 0.0, times), u, s, zero, one, ratio)
    return jnp.stack([level_u * u_off, level_s * ratio * s_off])


def tangents_at(
    log_curve: Float[Array, "4"], places: Float[Array, "2 points"], on: Bool[Array, " points"]
) -> Float[Array, "2 points"]:
    """Change per unit of time at places on the curve, of shape (2, points)."""
    level_u, level_s, ratio, _ = jnp.exp(log_curve)
    u, s = places[0] / level_u, places[1] / level_s
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
