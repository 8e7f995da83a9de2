"""Agreement with known fates."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.fit._objective import Objective
from jaxvelo.markov import Outcome, absorption_probabilities


class FateLikelihood(Objective):
    r"""Negative log-likelihood of known fates.

    .. math:: L_i = -\log \mathbb{P}(\text{absorbed in class } f_i \mid \text{start in } i)

    through :func:`jaxvelo.markov.absorption_probabilities`, whose gradient is implicit. Probabilities below the
    resolution of the floating-point type count as that, with gradient zero. Where the fates are not known within their
    tolerance (:class:`~jaxvelo.markov.Outcome`), all losses are NaN.

    Attributes
    ----------
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    n_fates
        Number of classes.
    fate
        :math:`f_i`, the known class of each item.
    cell, weight
        Cell and weight of each item.
    """

    terminal: Int[Array, " cells"]
    n_fates: int = eqx.field(static=True)
    fate: Int[Array, " items"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = True

    def item_losses(self, transitions, features, key):
        """Negative log-probability of the known fate."""
        found = absorption_probabilities(transitions[0], self.terminal, self.n_fates)
        losses = negative_log(found.probabilities[self.cell, self.fate])
        return jnp.where(found.outcome == Outcome.SOLVED, losses, jnp.nan)

    def why_not_finite(self, transitions):
        """What keeps the fates from being known."""
        found = absorption_probabilities(transitions[0], self.terminal, self.n_fates)
        return "" if found.outcome == Outcome.SOLVED else Outcome(int(found.outcome)).explanation


def negative_log(probability: Float[Array, " items"]) -> Float[Array, " items"]:
    """Negative logarithm, with probabilities below the floating-point resolution raised to it."""
    return -jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).eps))
