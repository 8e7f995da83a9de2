"""Fates if the velocity of a gene were another one: exactly for one gene, and to first order for all."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.estimators._fates_of_velocities import VelocityFates, fates_of_velocities
from jaxvelo.graph._precision import full_precision


class FirstOrder(NamedTuple):
    r"""Derivatives of weighted means of fates by one factor on the velocity of each gene.

    Attributes
    ----------
    derivative
        :math:`\sum_i v_{ig} \, \partial F / \partial v_{ig}`, shape ``(means, fates, genes)``.
    shuffled
        The same with the velocities of other genes, scaled to the same sum of squares, shape
        ``(means, fates, genes, others)``; NaN where the other gene is the same.
    """

    derivative: Float[np.ndarray, "means fates genes"]
    shuffled: Float[np.ndarray, "means fates genes others"]


def first_order_changes(
    fates: VelocityFates, weights: Float[np.ndarray, "means cells"], others: Int[np.ndarray, " others"]
) -> FirstOrder:
    """Go back once for each mean and fate through the equations of the fates and the transition probabilities.

    What one fate gains the others lose, so that the last fate needs no way back of its own.

    Parameters
    ----------
    fates
        Kernel and terminal states.
    weights
        Of the cells in each mean.
    others
        Genes whose velocities take the place of each gene's.

    Raises
    ------
    ArithmeticError
        If the fates are not known.
    """
    n_means, n_fates, n_genes = len(weights), len(fates.names), fates.shape[1]
    v = fates.features.v
    cotangents = np.zeros((n_means, n_fates - 1, fates.shape[0], n_fates), dtype=v.dtype)
    for k in range(n_fates - 1):
        cotangents[:, k, :, k] = weights
    own, shuffled, outcome = _changes(
        v,
        jnp.asarray(cotangents.reshape(-1, *cotangents.shape[2:])),
        jnp.asarray(others.astype(np.int32)),
        fates.features,
        fates.chance,
        fates.kernel.features_name,
    )
    fates.require(outcome)
    shape = n_means, n_fates - 1
    own, shuffled = (np.array(x, dtype=float).reshape(*shape, *x.shape[1:]) for x in (own, shuffled))
    own, shuffled = own[:, :, :n_genes], shuffled[:, :, :n_genes]
    shuffled[:, :, others, np.arange(len(others))] = np.nan
    return FirstOrder(*(np.concatenate([x, -x.sum(axis=1, keepdims=True)], axis=1) for x in (own, shuffled)))


@eqx.filter_jit
@full_precision
def _changes(v, cotangents, others, features, chance, name: str):
    def fates(v):
        found = fates_of_velocities(v, features, chance, name, cotangents.shape[2])
        return found.probabilities, found.outcome

    _, pull, outcome = jax.vjp(fates, v, has_aux=True)
    length = jnp.linalg.norm(v, axis=0, keepdims=True)
    unit = v / jnp.where(length > 0, length, 1)

    def back(cotangent):
        (gradient,) = pull(cotangent)
        return jnp.sum(gradient * v, axis=0), length.T * (gradient.T @ unit[:, others])

    return *jax.lax.map(back, cotangents), outcome


def changed_fates(
    fates: VelocityFates, genes: Int[np.ndarray, " genes"], factor: float
) -> Float[np.ndarray, "genes cells fates"]:
    """Fates with the velocity of one gene after the other times a factor, less the fates as they are.

    Kernel and fates are computed anew for each gene; the softmax scale stays as it is.

    Raises
    ------
    ArithmeticError
        If the fates are not known.
    """

    def found(gene: int, by: float) -> np.ndarray:
        n_fates, name = len(fates.names), fates.kernel.features_name
        factors = jnp.ones(fates.features.v.shape[1], fates.features.v.dtype).at[gene].set(by)
        fates_then = _with_factors(factors, fates.features, fates.chance, name, n_fates)
        fates.require(fates_then.outcome)
        return np.asarray(fates_then.probabilities, dtype=float)

    before = found(0, 1.0)
    return np.stack([found(int(gene), factor) - before for gene in genes])


@eqx.filter_jit
def _with_factors(factors: Float[Array, " columns"], features, chance, name: str, n_fates: int):
    return fates_of_velocities(features.v * factors[None], features, chance, name, n_fates)
