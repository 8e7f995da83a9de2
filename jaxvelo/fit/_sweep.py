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
    r"""Loss on sets of cells at many points, one after another: :math:`L(\theta_p; C)` of :meth:`Problem.on_cells`.

    Parameters
    ----------
    problem
        The problem.
    grid
        The points :math:`\theta_p`; a leading axis counts them.
    cells
        The sets :math:`C` of cells, each a mask (or a weight for each cell), shape ``(sets, cells)``.

    Returns
    -------
    jax.Array
        Shape ``(points, sets)``.

    Examples
    --------
    >>> grid = jv.fit.Parameters(log_scales=(jnp.log(jnp.array([[1.0], [4.0], [16.0]])),))
    >>> jv.fit.sweep(fit_problem, grid, jnp.ones((1, 150))).shape
    (3, 1)
    """
    return jax.lax.map(lambda parameters: problem.on_cells(parameters, cells), grid)
