"""Where a Markov chain ends: probabilities of absorption."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import breadth_first_order

from jaxvelo.graph import TransitionMatrix, full_precision


class Absorption(NamedTuple):
    r"""Absorption probabilities, and how well they solve their equations.

    Attributes
    ----------
    probabilities
        Shape ``(cells, fates)``.
    residual
        Largest violation of the equations, :math:`\max_{ik} |(B - T B)_{ik}|` over the transient cells.
    """

    probabilities: Float[Array, "cells fates"]
    residual: Float[Array, ""]


@full_precision
@partial(jax.jit, static_argnames=("n_fates", "tolerance", "max_steps"))
def absorption_probabilities(
    transitions: TransitionMatrix,
    terminal: Int[Array, " cells"],
    n_fates: int,
    tolerance: float | None = None,
    max_steps: int = 1000,
) -> Absorption:
    r"""Probabilities to be absorbed in each class of terminal cells.

    With the terminal cells made absorbing, :math:`Q` the transitions among the others and :math:`R` those from them
    into each class,

    .. math:: (I - Q) B = R, \qquad B_{ik} = \mathbb{P}(\text{absorbed in class } k \mid \text{start in } i)

    (Kemeny & Snell 1976, theorem 3.3.7; Lange et al. 2022). Solved by GMRES for all classes at once. Gradients are
    implicit, by a second solve with the transpose, and so are exact up to the tolerance. In jitted functions and
    gradients of your own, put :func:`jax.default_matmul_precision` with ``"highest"`` around these, where there is a
    GPU: the solver's own products are traced last, and rounded ones cost it steps (the equations themselves are always
    evaluated in full precision, and so is the residual).

    Parameters
    ----------
    transitions
        The transition matrix.
    terminal
        Class of each terminal cell, from 0; -1 for all other cells. Each cell must be able to reach one of them, see
        :func:`cannot_reach`.
    n_fates
        Number of classes.
    tolerance
        Tolerance of the solver, relative to the largest entry of the right-hand side; 1e-6 in single and 1e-12 in
        double precision if ``None``.
    max_steps
        Largest number of restarts of the solver.

    Returns
    -------
    The probabilities, with zero or one for the terminal cells themselves, and the residual.
    """
    dtype = transitions.values[0].dtype
    if tolerance is None:
        tolerance = 1e-6 if dtype == jnp.float32 else 1e-12
    absorbed = jax.nn.one_hot(terminal, n_fates, dtype=dtype)
    transient = (terminal < 0).astype(dtype)[:, None]
    known = transient * (transitions @ absorbed)

    def left_side(unknown: Array) -> Array:
        return unknown - transient * (transitions @ (transient * unknown))

    def solve(matvec, right_side: Array, tolerance: float = tolerance) -> Array:
        # The solver's tolerances are for entries of order one; those of a gradient may have any size. In single
        # precision it may stagnate just above them: what it found then is returned, and judged by the residual.
        size = jnp.max(jnp.abs(right_side))
        size = jnp.where(size > 0, size, 1)
        operator = lx.FunctionLinearOperator(matvec, jax.eval_shape(lambda: right_side))
        solver = lx.GMRES(rtol=tolerance, atol=tolerance, max_steps=max_steps, restart=30, stagnation_iters=3)
        return lx.linear_solve(operator, right_side / size, solver, throw=False).value * size

    def solve_transposed(matvec, right_side: Array) -> Array:
        # Its solution counts visits, and is larger than the right-hand side by their number: so are rounding errors.
        return solve(matvec, right_side, 100 * tolerance)

    solution = jax.lax.custom_linear_solve(left_side, known, solve, transpose_solve=solve_transposed)
    probabilities = absorbed + transient * solution
    violation = transient * (probabilities - transitions @ probabilities)
    return Absorption(probabilities, jnp.max(jnp.abs(jax.lax.stop_gradient(violation))))


def cannot_reach(matrix: sp.csr_matrix, terminal: np.ndarray) -> np.ndarray:
    """Mask of the cells that no path of positive probability leads to a terminal cell.

    Parameters
    ----------
    matrix
        Transition matrix.
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    """
    n_cells = matrix.shape[0]
    # One more cell, from which backward edges lead to all terminal cells: what it does not reach, reaches none of them.
    # A stored zero is no edge.
    backward = sp.csr_matrix(matrix.T > 0)
    source = sp.csr_matrix((terminal >= 0)[None])
    joined = sp.block_array([[backward, None], [source, sp.csr_matrix((1, 1))]], format="csr")
    reached = breadth_first_order(joined, n_cells, return_predecessors=False)
    unreached = np.ones(n_cells + 1, dtype=bool)
    unreached[reached] = False
    return unreached[:n_cells]
