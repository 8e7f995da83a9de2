"""Agreement with what is known of the fates of populations."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.fit._fate_objective import FateObjective
from jaxvelo.fit._label_likelihood import negative_log


class FateProportions(FateObjective):
    r"""Negative log-likelihood of the shares of sets of cells that went to each fate.

    One item for each set :math:`S`,

    .. math:: L_S = -\sum_k f_{Sk} \log \frac{1}{|S|} \sum_{i \in S}
        \mathbb{P}(\text{absorbed in class } k \mid \text{start in } i),

    that of one observation of a multinomial, with weight :math:`n_S`, the number of observations: of overdispersed
    counts or shares with standard errors, the number of independent ones that would be as uncertain (Kish 1965). A set
    of one cell that was seen once is an item of :class:`FateLikelihood`. Smallest where the mean fate probabilities of
    each set are the observed shares.

    A set is one observation that cannot be split among its cells: it counts in those sets of cells that hold more than
    half of its own, so it is never both fitted and held out.

    Attributes
    ----------
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    n_fates
        Number of classes.
    shares
        :math:`f_{Sk}`, observed shares, shape ``(sets, fates)``; rows sum to one.
    member, member_of
        Cell and set of each membership of a cell in a set, in the order of the sets. Each set has at least one.
    cell
        One cell of each set, where its item is counted if cells are counted in groups.
    weight
        :math:`n_S`.
    names
        Names of the classes; numbers if there are none.

    Examples
    --------
    >>> matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]])
    >>> chain = jv.graph.NeighborGraph.from_csr(matrix)
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> one, seen = jnp.array([1]), jnp.array([[0.25, 0.75]])
    >>> loss = jv.fit.FateProportions(jnp.array([0, -1, 1]), 2, seen, one, one * 0, one, jnp.array([8.0]))
    >>> round(float(loss.item_losses((transitions,), {}, None)[0]), 3)  # the entropy of what was seen
    0.562
    """

    terminal: Int[Array, " cells"]
    n_fates: int = eqx.field(static=True)
    shares: Float[Array, "sets fates"]
    member: Int[Array, " members"]
    member_of: Int[Array, " members"]
    cell: Int[Array, " sets"]
    weight: Float[Array, " sets"]
    is_likelihood = True

    @property
    def cells_with_items(self):
        """All cells of the sets."""
        counts = np.asarray(self.weight)[np.asarray(self.member_of)] > 0
        return np.unique(np.asarray(self.member)[counts])

    @property
    def joint_cells(self):
        """Those of each set."""
        member, member_of = np.asarray(self.member), np.asarray(self.member_of)
        return tuple(member[member_of == number] for number in range(len(self.cell)))

    def losses_of(self, fates):
        """Negative log-likelihood of the shares of each set, per observation."""
        means = self._means(fates)
        return jnp.sum(self.shares.astype(means.dtype) * negative_log(means), axis=1)

    def weights_in(self, cells):
        """Weight of the sets of which more than half are among the cells, zero for the others."""
        inside = self._means(cells.T) > 0.5
        return jnp.where(inside.T, self.weight[None], 0)

    def _means(self, values: Float[Array, "cells columns"]) -> Float[Array, "sets columns"]:
        """Mean over the cells of each set."""
        sum_of = partial(
            jax.ops.segment_sum, segment_ids=self.member_of, num_segments=len(self.cell), indices_are_sorted=True
        )
        return sum_of(values[self.member]) / sum_of(jnp.ones(len(self.member), values.dtype))[:, None]
