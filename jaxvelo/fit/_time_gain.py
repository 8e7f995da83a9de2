"""Agreement with a known time."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.fit._objective import Objective


class TimeGain(Objective):
    r"""Expected gain of time along one step, against the spread of the step, as a loss.

    .. math:: L_i = - \frac{\sum_j T_{ij} (t_j - t_i)}{\sqrt{\sum_j T_{ij} (t_j - t_i)^2}}

    between -1 (all steps lead to one and the same later time) and 1; zero where no step changes the time.

    Attributes
    ----------
    time
        Time or pseudotime of each cell, in any unit, shape ``(cells,)``.
    cell, weight
        Cell and weight of each item.
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
        """Negative expected gain over the root mean square of the gain."""
        (matrix,) = transitions
        time = self.time.astype(matrix.values[0].dtype)
        # From differences on the edges: T t² - 2 t T t + t² would cancel.
        gain = tuple(
            time[columns] - time[rows][:, None]
            for rows, columns in zip(matrix.graph.rows, matrix.graph.columns, strict=True)
        )
        mean = matrix.row_dot(gain)
        square = matrix.row_dot(tuple(g**2 for g in gain))
        moves = square > 0
        return -jnp.where(moves, mean / jnp.sqrt(jnp.where(moves, square, 1)), 0)[self.cell]
