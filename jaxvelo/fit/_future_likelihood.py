"""Agreement with known later states."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.fit._fate_likelihood import negative_log
from jaxvelo.fit._objective import Objective


class FutureLikelihood(Objective):
    r"""Negative log-likelihood of known later states.

    .. math:: L_i = -\log \sum_{j \in F_i} (T^k)_{ij} = -\log \big( T^k \mathbf{1}_{F_i} \big)_i

    The power is never formed: :math:`T` is applied :math:`k` times to the indicators of the distinct sets, the columns
    of ``future``.

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
    """

    future: Float[Array, "cells sets"]
    steps: int = eqx.field(static=True)
    target: Int[Array, " items"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = True

    @property
    def n_cells(self):
        """Those of ``future``."""
        return len(self.future)

    def item_losses(self, transitions, features, key):
        """Negative log-probability to be in the known set after the given number of steps."""
        return self.losses_and_outlook(transitions, features, key)[0]

    def outlook(self, transitions):
        """Probability of each set after the steps."""
        (matrix,) = transitions
        start = self.future.astype(matrix.values[0].dtype)
        return jax.lax.scan(lambda y, _: (matrix @ y, None), start, length=self.steps)[0]

    def losses_and_outlook(self, transitions, features, key):
        """Both follow from one power."""
        after = self.outlook(transitions)
        return negative_log(after[self.cell, self.target]), after

    def evidence(self, transitions):
        """Visits of chains from the items' cells within the steps."""
        at = np.zeros(len(self.future))
        at[np.asarray(self.cell)[np.asarray(self.weight) > 0]] = 1
        visits, backward = np.zeros_like(at), transitions.to_csr().T.tocsr()
        for _ in range(self.steps):
            visits += at
            at = backward @ at
        return visits
