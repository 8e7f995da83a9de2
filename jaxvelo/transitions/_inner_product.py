"""The inner product of displacements and velocities: weighted by genes, centred over genes."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.transitions._features import Features

# Expression; its mean over genes and what remains of its weighted mean, where these are to be taken off.
Expression = tuple[Array, Array | None, Array | None]


class InnerProduct(eqx.Module):
    r"""Inner product over genes, arranged so that its sums over neighbours are plain.

    With gene weights :math:`w` (ones without), displacement :math:`\delta_{ij} = x_j - x_i` and, if ``center``, the
    :math:`w`-weighted means over genes :math:`\bar\delta`, :math:`\bar v` (zero if not):

    .. math::
        \langle \delta, v \rangle = \sum_g w_g (\delta_g - \bar\delta)(v_g - \bar v) = \sum_g \delta_g u_g,
        \qquad u = w (v - \bar v),
        \qquad |\delta|^2 = \sum_g w_g \delta_g^2 - W \bar\delta^2, \quad W = \sum_g w_g .

    Attributes
    ----------
    is_gene
        One for genes, zero for padding.
    count
        Number of genes.
    weights
        Gene weights, zero for padding; ``None`` for ones.
    total
        :math:`W`.
    center
        Whether to centre: correlation is the cosine of centred vectors.
    """

    is_gene: Float[Array, " genes"]
    count: Float[Array, ""]
    weights: Float[Array, " genes"] | None
    total: Float[Array, ""]
    center: bool = eqx.field(static=True)

    @classmethod
    def over_genes(cls, features: Features, gene_weights: Float[Array, " genes"] | None, center: bool) -> InnerProduct:
        """Inner product over the genes of ``features``."""
        is_gene, count = features.is_gene(), features.gene_count()
        weights = None if gene_weights is None else gene_weights.astype(is_gene.dtype) * is_gene
        total = count if weights is None else jnp.sum(weights)
        return cls(is_gene, count, weights, total, center)

    def expression(self, x: Float[Array, " genes"]) -> Expression:
        """Expression of a cell, with what centring takes off: that is left to the displacements, without a copy of x.

        The unweighted mean is taken off first: then the remaining one is small, and subtracting its square in
        :meth:`norms` does not cancel in float32. It is ``None`` where nothing remains.
        """
        if not self.center:
            return x, None, None
        mean = jnp.sum(x) / self.count
        if self.weights is None:
            return x, mean, None
        return x, mean, safe_divide(((x - mean) * self.is_gene) @ self.weights, self.total)

    def displacements(
        self, own: Expression, others: Expression
    ) -> tuple[Float[Array, "neighbors genes"], Float[Array, " neighbors"] | None]:
        """Displacements of a cell to its neighbours, centred, and what remains of their weighted means.

        Parameters
        ----------
        own, others
            Of the cell and its neighbours, as :meth:`expression` gives them.
        """
        (x, mean, rest), (x_others, mean_of_others, rest_of_others) = own, others
        delta = x_others - x[None]
        if mean is not None and mean_of_others is not None:
            delta = (delta - (mean_of_others - mean)[:, None]) * self.is_gene[None]
        return delta, None if rest is None or rest_of_others is None else rest_of_others - rest

    def velocity(self, v: Float[Array, " genes"]) -> tuple[Float[Array, " genes"], Float[Array, ""]]:
        """Velocity :math:`u` of a cell as it enters the sums, and its norm, zero for a velocity without direction."""
        if not self.center:
            u = v if self.weights is None else v * self.weights
            return u, safe_sqrt(jnp.sum(u * v))
        size = jnp.sum(v * v)
        v = (v - jnp.sum(v) / self.count) * self.is_gene
        if self.weights is None:
            return v, safe_sqrt(_without_rounding(jnp.sum(v * v), size))
        v = (v - safe_divide(v @ self.weights, self.total)) * self.is_gene
        u = v * self.weights
        return u, safe_sqrt(_without_rounding(jnp.sum(u * v), size * self.total / self.count))

    def norms(
        self, delta: Float[Array, "neighbors genes"], mean: Float[Array, " neighbors"] | None
    ) -> Float[Array, " neighbors"]:
        """Norms of displacements, given what remains of their weighted means."""
        # From explicit differences: |x_j|² + |x_i|² - 2 x_i·x_j would be a matrix product, but cancels in float32.
        if self.weights is None:
            return safe_sqrt(jnp.einsum("kg,kg->k", delta, delta))
        squared = jnp.einsum("kg,kg->k", delta * self.weights[None], delta)
        return safe_sqrt(squared if mean is None else jnp.maximum(squared - self.total * mean**2, 0))


def _without_rounding(squared_norm: Array, size: Array) -> Array:
    """Zero where a squared norm is what rounding left of a velocity that is constant over genes."""
    tolerance = (4 * jnp.finfo(size.dtype).eps) ** 2
    return jnp.where(squared_norm > tolerance * size, squared_norm, 0)


def safe_sqrt(squared: Array) -> Array:
    """Square root with the gradient zero at zero."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """Quotient; zero, with zero gradient, where the denominator is zero."""
    nonzero = denominator != 0
    return jnp.where(nonzero, numerator / jnp.where(nonzero, denominator, 1), 0)
