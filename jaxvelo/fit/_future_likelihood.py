"""Agreement with known later states."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int

from jaxvelo.fit._label_likelihood import label_losses, likeliest_share
from jaxvelo.fit._objective import Objective


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

    Examples
    --------
    >>> matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]])
    >>> chain = jv.graph.NeighborGraph.from_csr(matrix)
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> later = jnp.array([[0.0], [0.0], [1.0]])
    >>> loss = jv.fit.FutureLikelihood(later, 1, jnp.array([0]), jnp.array([1]), jnp.ones(1))
    >>> round(float(loss.item_losses((transitions,), {}, None)[0]), 3)  # -log 0.75
    0.288
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
        return self.losses_and_outlook(transitions, features, key)[0]

    def outlook(self, transitions):
        """Probability of each set after the steps."""
        (matrix,) = transitions
        start = self.future.astype(matrix.values[0].dtype)
        return jax.lax.scan(lambda y, _: (matrix @ y, None), start, length=self.steps)[0]

    def losses_and_outlook(self, transitions, features, key):
        """Both from one power."""
        after = self.outlook(transitions)
        return label_losses(*self._probabilities(after), self.weight, self.blind), after

    def evidence(self, transitions):
        """Visits of chains from the items' cells within the steps."""
        at = np.zeros(len(self.future))
        at[self.cells_with_items] = 1
        visits, backward = np.zeros_like(at), sp.csr_matrix(transitions.to_csr().T)
        for _ in range(self.steps):
            visits += at
            at = backward @ at
        return visits

    def blind_share(self, transitions) -> Float[Array, ""]:
        """The share of blind sets that is likeliest for these transitions, whether it is given or not.

        Parameters
        ----------
        transitions
            The transition matrix, the only member of a tuple.

        Returns
        -------
        jax.Array
            From 0 to 0.9.
        """
        return likeliest_share(*self._probabilities(self.outlook(transitions)), self.weight)

    def _probabilities(self, after: Array) -> tuple[Float[Array, " items"], Float[Array, " items"]]:
        """Those of the known set, by the transitions and of any of the cells."""
        return after[self.cell, self.target], jnp.mean(self.future.astype(after.dtype), axis=0)[self.target]
