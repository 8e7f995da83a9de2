"""Agreement with velocities of genes that the transition matrix has not seen."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.fit._objective import Objective
from jaxvelo.markov import expected_displacement
from jaxvelo.transitions import TransitionFunction, Velocity


class HeldOutVelocity(Objective):
    r"""How well transitions from one half of the genes predict the velocities of the other half, as a loss.

    For random halves :math:`A`, :math:`B` of the genes, with :math:`T^A` computed on :math:`A` alone,

    .. math:: L_i = - \cos\Big( \sum_j T^A_{ij} (x_j - x_i)^B, v_i^B \Big),

    both centred over the genes of :math:`B`; the mean over ``n_splits`` splits. It needs no labels. Genes are left out
    of the similarity by a weight of zero, so gene weights can be fitted by it as well; for the dot product the
    remaining weights are raised in proportion, as its logits grow with the number of genes. Zero where the velocity or
    the expected step has no direction.

    Attributes
    ----------
    features_name
        Name of the gene expression and velocity to predict.
    n_splits
        Number of splits. The random key decides which.
    cell, weight
        Cell and weight of each item.

    Examples
    --------
    >>> loss = jv.fit.HeldOutVelocity("velocity", 1, jnp.arange(150), jnp.ones(150))
    >>> data = {"velocity": jv.transitions.Features(x, v)}
    >>> bool(loss(jv.transitions.Velocity(4.0), graph, data, jax.random.key(0)) < 0)  # minus the mean cosine
    True
    """

    features_name: str = eqx.field(static=True)
    n_splits: int = eqx.field(static=True)
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = False

    @property
    def feature_names(self):
        """The features whose velocities are predicted."""
        return (self.features_name,)

    @property
    def n_transition_functions(self):
        """One for each split."""
        return self.n_splits

    def transition_functions(self, transition_function, features, key):
        """The transition function on the first half of each split."""
        chosen = features[self.features_name]
        is_gene = chosen.is_gene()
        return tuple(
            _on_genes(transition_function, half, is_gene, self.features_name) for half in self._halves(chosen, key)
        )

    def item_losses(self, transitions, features, key):
        """Mean over the splits of the negative cosine."""
        chosen = features[self.features_name]
        n_cells = transitions[0].graph.n_cells
        x, v = chosen.x[:n_cells], chosen.v[:n_cells]
        losses = jnp.zeros(n_cells, x.dtype)
        for matrix, half in zip(transitions, self._halves(chosen, key), strict=True):
            other = chosen.is_gene() * (1 - half.astype(x.dtype))
            losses = losses - _centered_cosine(expected_displacement(matrix, x), v, other) / self.n_splits
        return losses[self.cell]

    def _halves(self, chosen, key) -> list[Bool[Array, " genes"]]:
        n_columns = chosen.x.shape[1]
        halves = []
        for split in jax.random.split(key, self.n_splits):
            # Padding comes last, whatever is drawn for it.
            order = jnp.where(chosen.is_gene() > 0, jax.random.uniform(split, (n_columns,)), 2)
            rank = jnp.argsort(jnp.argsort(order)).astype(chosen.x.dtype)
            halves.append(rank < chosen.gene_count() // 2)
        return halves


def _on_genes(
    transition_function: TransitionFunction,
    genes: Bool[Array, " genes"],
    is_gene: Float[Array, " genes"],
    features_name: str,
) -> TransitionFunction:
    """The transition function with all other genes left out of the similarities of these features."""

    def restrict(term):
        if not (isinstance(term, Velocity) and term.features_name == features_name):
            return term
        weights = jnp.ones(genes.shape) if term.gene_weights is None else term.gene_weights
        weights = weights * is_gene.astype(weights.dtype)
        kept = weights * genes.astype(weights.dtype)
        kept = kept * jnp.sum(weights) / jnp.maximum(jnp.sum(kept), jnp.finfo(weights.dtype).tiny)
        return eqx.tree_at(lambda t: t.gene_weights, term, kept, is_leaf=lambda leaf: leaf is None)

    return jax.tree.map(restrict, transition_function, is_leaf=lambda term: isinstance(term, Velocity))


def _centered_cosine(
    a: Float[Array, "cells genes"], b: Float[Array, "cells genes"], chosen: Float[Array, " genes"]
) -> Float[Array, " cells"]:
    """Cosine of rows over the chosen genes, centred over these; zero, with gradient zero, where there is none."""
    count = jnp.maximum(jnp.sum(chosen), 1)
    a, b = ((z - (z @ chosen / count)[:, None]) * chosen[None] for z in (a, b))
    a_squared, b_squared = jnp.sum(a**2, axis=1), jnp.sum(b**2, axis=1)
    defined = (a_squared > 0) & (b_squared > 0)
    norms = jnp.sqrt(jnp.where(defined, a_squared, 1)) * jnp.sqrt(jnp.where(defined, b_squared, 1))
    return jnp.where(defined, jnp.sum(a * b, axis=1) / norms, 0)
