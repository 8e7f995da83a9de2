"""Agreement with known transitions between clusters."""

from __future__ import annotations

from jaxtyping import Array, Float, Int

from jaxvelo.fit._objective import Objective
from jaxvelo.markov import expected_displacement, row_correlation


class CrossBoundary(Objective):
    r"""Cross-boundary correctness of known transitions, as a loss.

    One item for each cell :math:`i` at the boundary of a source cluster,

    .. math:: L_i = 1 - \operatorname{cor}\Big( \sum_j T_{ij} (x_j - x_i), d_i \Big), \qquad
        d_i = \sum_{j \in \text{target}} w_{ij} (x_j - x_i),

    that is one minus the score of :func:`jaxvelo.markov.cross_boundary_correctness` (Qiao & Huang 2021, in CellRank's
    form). All :math:`d_i` are known beforehand, so one expected step of each cell serves all transitions.

    Attributes
    ----------
    x
        Coordinates of the cells, shape ``(cells, features)``.
    towards
        :math:`d_i` of each item, not zero.
    cell
        Cell of each item.
    weight
        Weight of each item: one over the number of items of its transition, so that all transitions count the same.

    Examples
    --------
    >>> matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]])
    >>> chain = jv.graph.NeighborGraph.from_csr(matrix)
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> x, towards = jnp.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), jnp.array([[1.0, 0.0]])
    >>> loss = jv.fit.CrossBoundary(x, towards, jnp.array([1]), jnp.ones(1))
    >>> abs(round(float(loss.item_losses((transitions,), {}, None)[0]), 3))  # the expected step goes there
    0.0
    """

    x: Float[Array, "cells features"]
    towards: Float[Array, "items features"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = False

    @property
    def n_cells(self):
        """Those of ``x``."""
        return len(self.x)

    def item_losses(self, transitions, features, key):
        """One minus the correlation of expected step and known direction; one where there is no expected step."""
        step = expected_displacement(transitions[0], self.x)[self.cell]
        return 1 - row_correlation(step, self.towards.astype(step.dtype))[0]
