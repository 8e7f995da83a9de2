"""Agreement with known later states."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.fit._label_likelihood import label_losses, likeliest_share
from jaxvelo.fit._objective import Objective, Transitions


class FutureLikelihood(Objective):
    r"""Negative log-likelihood of known later states, some of which may be wrong.

    .. math:: L_i = -\log \big( (1 - \varepsilon) p_i + \varepsilon |F_i| / n \big), \qquad
        p_i = \sum_{j \in F_i} (T^k)_{ij} = \big( T^k \mathbf{1}_{F_i} \big)_i

    The power is never formed: :math:`T` is applied :math:`k` times to the indicators of the distinct sets, the columns
    of ``future``. A share :math:`\varepsilon` of the sets is blind: after the steps, a cell may be any of the
    :math:`n` cells.

    Attributes
    ----------
    future
        Indicators of the distinct sets of later cells, shape ``(cells, sets)``.
    steps
        :math:`k`.
    target
        Set :math:`F_i` of each item.
    cell, weight
        Cell and weight of each item.
    blind
        :math:`\varepsilon`, or ``None``: the likeliest one, given the transitions and all items. One number for all
        sets of cells, it also knows the items that are held out.
    """

    future: Float[Array, "cells sets"]
    steps: int = eqx.field(static=True)
    target: Int[Array, " items"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    blind: Float[Array, ""] | float | None = 0.0
    is_likelihood = True

    @property
    def n_cells(self):
        """Those of ``future``."""
        return len(self.future)

    def item_losses(self, transitions, features, key):
        """Negative log-probability to be in the known set after the given number of steps."""
        return label_losses(*self._probabilities(transitions), self.weight, self.blind)

    def blind_share(self, transitions) -> Float[Array, ""]:
        """The share of blind sets that is likeliest for these transitions, whether it is given or not."""
        return likeliest_share(*self._probabilities(transitions), self.weight)

    def _probabilities(self, transitions: Transitions) -> tuple[Float[Array, " items"], Float[Array, " items"]]:
        """Those of the known set, by the transitions and of any of the cells."""
        (matrix,) = transitions
        start = self.future.astype(matrix.values[0].dtype)
        after, _ = jax.lax.scan(lambda y, _: (matrix @ y, None), start, length=self.steps)
        return after[self.cell, self.target], jnp.mean(start, axis=0)[self.target]
