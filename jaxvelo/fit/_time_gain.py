"""Agreement with a known time."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.fit._label_likelihood import negative_log
from jaxvelo.fit._objective import Objective


class TimeGain(Objective):
    r"""How far a step is from going to later neighbours in proportion to the time that they gain.

    .. math:: L_i = \sum_j q_{ij} \log \frac{q_{ij}}{T_{ij}}, \qquad
        q_{ij} = \frac{\max(t_j - t_i, 0)}{\sum_k \max(t_k - t_i, 0)},

    the Kullback-Leibler divergence of the step from the reference :math:`q_i` on the neighbours of the cell. It is the
    expected logarithmic score, which is strictly proper (Gneiting & Raftery 2007, section 4): zero if
    :math:`T_i = q_i`, positive otherwise. So more is not always better: all probability on the latest neighbour is as
    far from the reference as steps that do not know the time. Neighbours that are hardly later hardly count, so that
    small errors of the time do little; large ones make the reference, and the fit, flatter.

    Zero for a cell without later neighbours, from which no time is to be gained. Probabilities below the resolution of
    the floating-point type count as that, with gradient zero.

    Attributes
    ----------
    time
        Time or pseudotime of each cell, in any unit, shape ``(cells,)``.
    cell, weight
        Cell and weight of each item.

    Examples
    --------
    >>> matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]])
    >>> chain = jv.graph.NeighborGraph.from_csr(matrix)
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> loss = jv.fit.TimeGain(jnp.array([0.0, 1.0, 3.0]), jnp.array([1]), jnp.ones(1))
    >>> round(float(loss.item_losses((transitions,), {}, None)[0]), 3)  # -log 0.75: only the last cell is later
    0.288
    """

    time: Float[Array, " cells"]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = False

    @property
    def n_cells(self):
        """Those of ``time``."""
        return len(self.time)

    def item_losses(self, transitions, features, key):
        """Divergence of the step from the reference."""
        (matrix,) = transitions
        graph, time = matrix.graph, self.time.astype(matrix.values[0].dtype)
        divergences = []
        for rows, columns, values in zip(graph.rows, graph.columns, matrix.values, strict=True):
            # Padding is the cell itself, at no gain.
            gain = jnp.maximum(time[columns] - time[rows][:, None], 0)
            total = jnp.sum(gain, axis=1, keepdims=True)
            reference = gain / jnp.where(total > 0, total, 1)
            logarithm = jnp.log(jnp.where(reference > 0, reference, 1))
            divergences.append(jnp.sum(reference * (logarithm + negative_log(values)), axis=1))
        return graph.gather_rows(tuple(divergences))[self.cell]
