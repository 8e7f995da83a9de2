"""Likelihood of labels, some of which may be wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGEST_SHARE = 0.9
"""Largest share of blind labels that is looked for: with all of them blind, a loss would be the same everywhere."""
BISECTIONS = 30
"""As many as single precision can tell apart."""


def negative_log(probability: Float[Array, " items"]) -> Float[Array, " items"]:
    """Negative logarithm, with probabilities below the floating-point resolution raised to it."""
    return -jnp.log(_resolved(probability))


def label_losses(
    probability: Float[Array, " items"],
    blind: Float[Array, " items"],
    weight: Float[Array, " items"],
    share: Float[Array, ""] | float | None,
) -> Float[Array, " items"]:
    r"""Negative log-likelihood of labels of which a share :math:`\varepsilon` was given blindly.

    .. math:: L_i = -\log \big( (1 - \varepsilon) p_i + \varepsilon u_i \big)

    Parameters
    ----------
    probability
        :math:`p_i`, probability of each label if it is not blind; below the floating-point resolution, it counts as
        that, with gradient zero.
    blind
        :math:`u_i`, its probability if it is.
    weight
        Weight of each label, for the likeliest share.
    share
        :math:`\varepsilon`; the likeliest one, :func:`likeliest_share`, if ``None``.
    """
    if share is None:
        share = likeliest_share(probability, blind, weight)
    share = jnp.asarray(share, probability.dtype)
    return negative_log((1 - share) * _resolved(probability) + share * blind)


def likeliest_share(
    probability: Float[Array, " items"], blind: Float[Array, " items"], weight: Float[Array, " items"]
) -> Float[Array, ""]:
    r"""The share of blind labels that maximises their likelihood, between 0 and :data:`LARGEST_SHARE`.

    The log-likelihood :math:`\sum_i w_i \log((1 - \varepsilon) p_i + \varepsilon u_i)` is concave in
    :math:`\varepsilon`, so its slope is bisected. With it, a loss is the profile likelihood (Pawitan 2001, section
    3.4), whose gradient and Hessian by the other parameters are those in which the share is fitted along.

    Parameters
    ----------
    probability, blind, weight
        As of :func:`label_losses`.

    Returns
    -------
    The share; derivatives up to the third order are exact, and zero where it is at a limit.
    """
    right, blind, weight = _resolved(probability), blind.astype(probability.dtype), weight.astype(probability.dtype)
    fixed = jax.lax.stop_gradient(right)

    def slopes(share: Array, right: Array) -> tuple[Array, Array]:
        ratio = (blind - right) / ((1 - share) * right + share * blind)
        return jnp.sum(weight * ratio), -jnp.sum(weight * ratio**2)

    def halve(_, limits: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = limits
        middle = (low + high) / 2
        rises = slopes(middle, fixed)[0] > 0
        return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

    zero, most = jnp.zeros((), right.dtype), jnp.asarray(LARGEST_SHARE, right.dtype)
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (zero, most))
    starts_down, ends_up = slopes(zero, fixed)[0] <= 0, slopes(most, fixed)[0] >= 0
    share = jnp.where(starts_down, zero, jnp.where(ends_up, most, (low + high) / 2))
    inside = ~starts_down & ~ends_up
    # Each of Newton's steps from the solution doubles the number of derivatives that are exact.
    for _ in range(2):
        slope, curvature = slopes(share, right)
        step = jnp.where(inside, slope, 0) / jnp.where(inside & (curvature < 0), curvature, -1)
        share = jnp.clip(share - step, zero, most)
    return jnp.where(inside, share, jax.lax.stop_gradient(share))


def _resolved(probability: Array) -> Array:
    return jnp.maximum(probability, jnp.finfo(probability.dtype).eps)
