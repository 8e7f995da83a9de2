"""How certain fitted scales and weights are."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxvelo.fit._objective import coefficients_of, terms_of
from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.graph._precision import full_precision


@full_precision
@eqx.filter_jit
def laplace_covariance(
    problem: Problem, parameters: Parameters, cells: Float[Array, " cells"]
) -> tuple[Float[Array, "numbers numbers"], Float[Array, " eigenvalues"]]:
    r"""Covariance of the unconstrained scales and weights by Laplace's approximation.

    .. math:: \operatorname{Cov} = \Big( \nabla^2 \sum_i w_i L_i \Big)^{-1}

    with the Hessian of the sum of the negative log-likelihoods :math:`L_i` of the items in ``cells`` (MacKay 2003,
    section 27.1), penalties left out; gene weights are held at their values.

    Parameters
    ----------
    problem
        The problem; its objective must be a likelihood or a positive multiple of one. The factor is divided out: it
        moves no maximum, and the observations are as many as before.
    parameters
        Where the likelihood is largest.
    cells
        The cells that the parameters were fitted on.

    Returns
    -------
    The covariance, NaN unless the Hessian is positive definite, and the Hessian's eigenvalues. The numbers are all log
    scales, then all weight logits.
    """
    (likelihood,), (factor,) = terms_of(problem.objective), coefficients_of(problem.objective)
    moving = Parameters(parameters.log_scales, parameters.weight_logits)
    start, unravel = ravel_pytree(moving)
    count = jnp.sum(likelihood.weights_in(cells[None])) / factor

    def total(flat: Array) -> Array:
        moved = unravel(flat)
        moved = Parameters(moved.log_scales, moved.weight_logits, parameters.log_gene_weights)
        return count.astype(flat.dtype) * problem.on_cells(moved, cells[None])[0]

    hessian = jax.jacfwd(jax.grad(total))(start)
    hessian = (hessian + hessian.T) / 2
    eigenvalues, vectors = jnp.linalg.eigh(hessian)
    # A direction in which the likelihood is flat has an eigenvalue of rounding errors, of either sign.
    regular = jnp.all(eigenvalues > len(start) * jnp.finfo(start.dtype).eps * jnp.max(jnp.abs(eigenvalues)))
    covariance = (vectors / jnp.where(regular, eigenvalues, 1)[None]) @ vectors.T
    return jnp.where(regular, covariance, jnp.nan), eigenvalues


@full_precision
@eqx.filter_jit
def standard_errors(problem: Problem, parameters: Parameters, covariance: Array) -> tuple[tuple, tuple]:
    r"""Standard errors of scales and weights, from the covariance of the unconstrained numbers.

    The delta method: :math:`\operatorname{se}(f) = \sqrt{\nabla f^\top \operatorname{Cov} \nabla f}`.

    Returns
    -------
    Those of :meth:`Parametrization.scales` and of :meth:`Parametrization.weights`, in their shapes.
    """
    flat, unravel = ravel_pytree(Parameters(parameters.log_scales, parameters.weight_logits))

    def error(readable):
        def function(flat):
            return readable(unravel(flat))

        slopes = jax.jacfwd(function)(flat)
        return jax.tree.map(lambda s: jnp.sqrt(jnp.einsum("...i,ij,...j->...", s, covariance, s)), slopes)

    parametrization = problem.parametrization
    return error(parametrization.scales), error(parametrization.weights)
