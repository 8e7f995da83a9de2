"""Fates if the velocity of a gene were another one: exactly for one gene, and to first order for all."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.annotated.progress_bar import watched
from jaxvelo.estimators._fate_gradient import consistency
from jaxvelo.estimators._fates_of_velocities import VelocityFates, fates_of_velocities
from jaxvelo.graph._precision import full_precision


class FirstOrder(NamedTuple):
    r"""Derivatives of weighted means of fates by one factor on the velocity of each gene.

    Attributes
    ----------
    derivative
        :math:`\sum_i v_{ig} \, \partial F / \partial v_{ig}`, shape ``(means, fates, genes)``.
    consistency
        How consistently more velocity of the gene leads to the fate, see :class:`FateGradient`, of the same shape.
    shuffled
        The derivatives with the velocities of other genes, scaled to the same sum of squares, shape
        ``(means, fates, genes, others)``; NaN where the other gene is the same.
    """

    derivative: Float[np.ndarray, "means fates genes"]
    consistency: Float[np.ndarray, "means fates genes"]
    shuffled: Float[np.ndarray, "means fates genes others"]


def first_order_changes(
    fates: VelocityFates, weights: Float[np.ndarray, "means cells"], others: Int[np.ndarray, " others"]
) -> FirstOrder:
    """Go back once for each mean and fate through the equations of the fates and the transition probabilities.

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
    *found, outcome = _changes(
        fates.features.v,
        jnp.asarray(weights, fates.features.v.dtype),
        jnp.asarray(others.astype(np.int32)),
        fates.features,
        fates.chance,
        fates.kernel.features_name,
        n_fates,
    )
    fates.require(outcome)
    shaped = (np.array(x, dtype=float).reshape(n_means, n_fates, *x.shape[1:]) for x in found)
    first = FirstOrder(*(x[:, :, :n_genes] for x in shaped))
    first.shuffled[:, :, others, np.arange(len(others))] = np.nan
    return first


@eqx.filter_jit
@full_precision
def _changes(v, weights, others, features, chance, name: str, n_fates: int):
    def fates(v):
        found = fates_of_velocities(v, features, chance, name, n_fates)
        return found.probabilities, found.outcome

    _, pull, outcome = jax.vjp(fates, v, has_aux=True)
    length = jnp.linalg.norm(v, axis=0, keepdims=True)
    unit = v / jnp.where(length > 0, length, 1)

    def back(mean_and_fate):
        mean, fate = mean_and_fate
        (gradient,) = pull(weights[mean][:, None] * jax.nn.one_hot(fate, n_fates, dtype=v.dtype)[None])
        shuffled = length.T * (gradient.T @ unit[:, others])
        return jnp.sum(gradient * v, axis=0), consistency(gradient), shuffled

    means, each = (jnp.asarray(x.ravel(), jnp.int32) for x in np.indices((len(weights), n_fates)))
    return *jax.lax.map(back, (means, each)), outcome


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
    return np.stack([found(int(gene), factor) - before for gene in watched(genes, len(genes), "Fates", "genes")])


@eqx.filter_jit
def _with_factors(factors: Float[Array, " columns"], features, chance, name: str, n_fates: int):
    return fates_of_velocities(features.v * factors[None], features, chance, name, n_fates)
