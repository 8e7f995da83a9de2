"""Agreement with known fates."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.fit._fate_objective import FateObjective
from jaxvelo.fit._label_likelihood import label_losses, likeliest_share


class FateLikelihood(FateObjective):
    r"""Negative log-likelihood of known fates, some of which may be wrong.

    .. math:: L_i = -\log \big( (1 - \varepsilon) \mathbb{P}(\text{absorbed in class } f_i \mid \text{start in } i) +
        \varepsilon / K \big)

    through :func:`jaxvelo.markov.absorption_probabilities`, whose gradient is implicit: a share :math:`\varepsilon` of
    the labels is blind, each of the :math:`K` classes as likely as the others. Probabilities below the resolution of
    the floating-point type count as that, with gradient zero. Where the fates are not known within their tolerance
    (:class:`~jaxvelo.markov.Outcome`), all losses are NaN.

    Attributes
    ----------
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    n_fates
        :math:`K`, the number of classes.
    fate
        :math:`f_i`, the known class of each item.
    cell, weight
        Cell and weight of each item.
    blind
        :math:`\varepsilon`, or ``None``: the likeliest one, given the transitions and all items. One number for all
        sets of cells, it also knows the items that are held out.
    names
        Names of the classes; numbers if there are none.

    Examples
    --------
    >>> matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]])
    >>> chain = jv.graph.NeighborGraph.from_csr(matrix)
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> loss = jv.fit.FateLikelihood(jnp.array([0, -1, 1]), 2, jnp.array([1]), jnp.array([1]), jnp.ones(1))
    >>> round(float(loss.item_losses((transitions,), {}, None)[0]), 3)  # -log 0.75
    0.288
    """

    terminal: Int[Array, " cells"]
    n_fates: int = eqx.field(static=True)
    fate: Int[Array, " items"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    blind: Float[Array, ""] | float | None = 0.0
    is_likelihood = True

    @property
    def classes(self):
        """The known fates."""
        return self.fate

    def losses_of(self, fates):
        """Negative log-probability of the known fate."""
        known = fates[self.cell, self.fate]
        return label_losses(known, self._uniform(known), self.weight, self.blind)

    def blind_share(self, transitions) -> Float[Array, ""]:
        """The share of blind labels that is likeliest for these transitions, whether it is given or not.

        Parameters
        ----------
        transitions
            The transition matrix, the only member of a tuple.

        Returns
        -------
        jax.Array
            From 0 to 0.9.
        """
        known = self.fates(transitions)[self.cell, self.fate]
        return likeliest_share(known, self._uniform(known), self.weight)

    def _uniform(self, known: Array) -> Array:
        return jnp.full_like(known, 1 / self.n_fates)
