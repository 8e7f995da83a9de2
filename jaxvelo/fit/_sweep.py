"""A grid of scales and weights in one compiled call."""

from __future__ import annotations

import equinox as eqx
import jax
from jaxtyping import Array, Float

from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.graph._precision import full_precision


@full_precision
@eqx.filter_jit
def sweep(problem: Problem, grid: Parameters, cells: Float[Array, "sets cells"]) -> Float[Array, "points sets"]:
    """Loss on sets of cells at many points, one after another.

    Parameters
    ----------
    problem
        The problem.
    grid
        The points; a leading axis counts them.
    cells
        The sets of cells.
    """
    return jax.lax.map(lambda parameters: problem.on_cells(parameters, cells), grid)
