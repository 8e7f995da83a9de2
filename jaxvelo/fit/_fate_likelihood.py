"""Agreement with known fates."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.fit._objective import Objective
from jaxvelo.markov import Outcome, absorption_probabilities, cannot_reach


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

    @property
    def n_cells(self):
        """Those of ``terminal``."""
        return len(self.terminal)

    def check(self, transitions, cells):
        """All cells must reach a terminal cell."""
        lost = np.flatnonzero(cannot_reach(transitions.to_csr(), np.asarray(self.terminal)))
        if len(lost):
            names = ", ".join(repr(str(cells[i])) for i in lost[:5]) + (", ..." if len(lost) > 5 else "")
            raise ValueError(
                f"Expected all cells to reach a terminal cell, found {len(lost)} that cannot: [{names}]. Make some of "
                "them terminal, remove them, or add a `ConnectivityKernel`."
            )

    def item_losses(self, transitions, features, key):
        """Negative log-probability of the known fate."""
        found = absorption_probabilities(transitions[0], self.terminal, self.n_fates, needs_times=False)
        losses = negative_log(found.probabilities[self.cell, self.fate])
        return jnp.where(found.outcome == Outcome.SOLVED, losses, jnp.nan)

    def why_not_finite(self, transitions):
        """What keeps the fates from being known."""
        found = absorption_probabilities(transitions[0], self.terminal, self.n_fates)
        return "" if found.outcome == Outcome.SOLVED else Outcome(int(found.outcome)).explanation


def negative_log(probability: Float[Array, " items"]) -> Float[Array, " items"]:
    """Negative logarithm, with probabilities below the floating-point resolution raised to it."""
    return -jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).eps))
