"""How certain fitted scales and weights are."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxvelo.fit._evaluation import DescentSetting, evaluation
from jaxvelo.fit._objective import coefficients_of, terms_of
from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.graph._precision import full_precision

DIFFERENCE = {32: 0.1, 64: 0.01}
"""Change of a log scale or logit in a difference, by the bits of its type: the fourth power, over thirty, is the error
of the difference, and the rounding error of a gradient, over this, the other."""


def laplace_covariance(
    problem: Problem, parameters: Parameters, cells: Any, prior: float = 0.0, outside: float = 0.0
) -> tuple[Float[np.ndarray, "numbers numbers"], Float[np.ndarray, " eigenvalues"]]:
    r"""Covariance of the unconstrained scales and weights by Laplace's approximation.

    .. math:: \operatorname{Cov} = \Big( \nabla^2 \sum_i w_i L_i \Big)^{-1}

    with the Hessian of the sum of the negative log-likelihoods :math:`L_i` of the items in ``cells`` (MacKay 2003,
    section 27.1), and of the prior of scales and weights and what holds the cells outside; gene weights are held at
    their values. The Hessian is taken from differences of gradients, of fourth order, which need no program but that of
    the fit itself.

    Parameters
    ----------
    problem
        The problem; its objective must be a likelihood or a positive multiple of one. The factor is divided out: it
        moves no maximum, and the observations are as many as before.
    parameters
        Where the likelihood is largest.
    cells
        Which cells the parameters were fitted on, shape ``(cells,)``.
    prior, outside
        Factors of the two penalties, as of :class:`DescentSetting`. For a prior of standard deviation s, that is one
        over twice its square and the number of observations, the sum of the weights of the items.

    Returns
    -------
    covariance : numpy.ndarray
        Shape ``(numbers, numbers)``, NaN unless the Hessian is positive definite. The numbers are all log scales, then
        all weight logits, then all others.
    eigenvalues : numpy.ndarray
        Of the Hessian, in units of the prior's if there is one, shape ``(numbers,)``.

    References
    ----------
    MacKay (2003), Information theory, inference, and learning algorithms, section 27.1.

    Examples
    --------
    >>> covariance, eigenvalues = jv.fit.laplace_covariance(fit_problem, parametrization.start(), np.ones(150))
    >>> covariance.shape, eigenvalues.shape
    ((1, 1), (1,))
    """
    (likelihood,), (factor,) = terms_of(problem.objective), coefficients_of(problem.objective)
    cells = jnp.asarray(cells, dtype=float)
    count = float(jnp.sum(likelihood.weights_in(cells[None]))) / float(factor)
    factors = (jnp.asarray(factor, dtype=float) for factor in (0.0, 0.0, prior, outside))
    setting = DescentSetting(cells, cells, *factors)
    leaves, structure = jax.tree.flatten(parameters.without_gene_weights())
    start = np.concatenate([np.ravel(leaf) for leaf in leaves])
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    precision = jnp.finfo(start.dtype)
    step = DIFFERENCE[precision.bits]

    def slope(numbers: np.ndarray) -> np.ndarray:
        parts = zip(np.split(numbers, ends), leaves, strict=True)
        moved = jax.tree.unflatten(structure, [jax.device_put(part.reshape(leaf.shape)) for part, leaf in parts])
        gradient = evaluation(problem, moved.with_gene_weights_of(parameters), setting).gradient
        of_moving = jax.tree.leaves(gradient.without_gene_weights())
        return np.concatenate([np.ravel(np.asarray(leaf, dtype=np.float64)) for leaf in of_moving])

    def along(unit: np.ndarray) -> np.ndarray:
        one, two = (slope(start + k * unit) - slope(start - k * unit) for k in (1, 2))
        return (8 * one - two) / (12 * step)

    hessian = count * np.array([along(unit) for unit in step * np.eye(len(start), dtype=start.dtype)])
    hessian = (hessian + hessian.T) / 2
    unknown = np.full_like(hessian, np.nan)
    if not np.isfinite(hessian).all():
        return unknown, unknown[0]
    if prior > 0:
        # In units of the prior's curvature, so that one is what is known without the likelihood. Where parameters were
        # held back, the likelihood may be concave: such a direction counts as flat.
        of_prior = prior * count * float(factor) * np.asarray(_distance_curvature(problem, parameters), np.float64)
        eigenvalues, vectors = scipy.linalg.eigh(hessian, of_prior)
        eigenvalues, regular = np.maximum(eigenvalues, 1), True
    else:
        eigenvalues, vectors = np.linalg.eigh(hessian)
        # A direction in which the likelihood is flat has an eigenvalue of rounding errors, of either sign.
        regular = (eigenvalues > np.sqrt(precision.eps) * np.abs(eigenvalues).max()).all()
    return (vectors / eigenvalues) @ vectors.T if regular else unknown, eigenvalues


@full_precision
@eqx.filter_jit
def _distance_curvature(problem: Problem, parameters: Parameters) -> Float[Array, "numbers numbers"]:
    """Second derivatives of the squared distance from the convention, which are the same everywhere."""
    start, unravel = ravel_pytree(parameters.without_gene_weights())

    def distance(flat: Array) -> Float[Array, ""]:
        return problem.parametrization.distance(unravel(flat).with_gene_weights_of(parameters))

    return jax.hessian(distance)(start)


@full_precision
@eqx.filter_jit
def standard_errors(problem: Problem, parameters: Parameters, covariance: Array) -> tuple[tuple, tuple, tuple]:
    r"""Standard errors of scales and weights, from the covariance of the unconstrained numbers.

    The delta method: :math:`\operatorname{se}(f) = \sqrt{\nabla f^\top \operatorname{Cov} \nabla f}`.

    Parameters
    ----------
    problem
        The problem.
    parameters
        Where the loss is smallest.
    covariance
        Result of :func:`laplace_covariance` or :func:`clustered_covariance`.

    Returns
    -------
    tuple of tuples of jax.Array
        Those of :meth:`Parametrization.scales`, :meth:`Parametrization.weights` and :meth:`Parametrization.numbers`, in
        their shapes and units.

    Examples
    --------
    >>> scales, weights, numbers = jv.fit.standard_errors(fit_problem, parametrization.start(), jnp.array([[0.04]]))
    >>> [round(float(error), 3) for error in scales], weights, numbers  # 0.2 in the logarithm of a scale of 1
    ([0.2], (), ())
    """
    flat, unravel = ravel_pytree(parameters.without_gene_weights())

    def error(readable):
        def function(flat):
            return readable(unravel(flat))

        slopes = jax.jacfwd(function)(flat)
        return jax.tree.map(lambda s: jnp.sqrt(jnp.einsum("...i,ij,...j->...", s, covariance, s)), slopes)

    parametrization = problem.parametrization
    return error(parametrization.scales), error(parametrization.weights), error(parametrization.numbers)
