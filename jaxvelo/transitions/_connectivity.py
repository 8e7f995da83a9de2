"""Transition probabilities from similarities among cells."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from jaxvelo.graph import Edges, Pattern
from jaxvelo.transitions._fixed_logits import FixedProbabilities
from jaxvelo.transitions._inner_product import safe_divide
from jaxvelo.transitions._transition_function import TransitionFunction, normalized


class Connectivity(TransitionFunction):
    r"""Connectivities as transition probabilities.

    .. math:: T_{ij} \propto C_{ij} / (q_i q_j), \qquad q_j = \sum_i C_{ij},

    or :math:`T_{ij} \propto C_{ij}` without density normalisation (Coifman & Lafon 2006; Haghverdi et al. 2016).

    Parameters
    ----------
    density_normalize
        Whether to divide by the densities :math:`q`.
    edges
        Name of the graph's edges to use; the attribute is :attr:`edges_name`.
    """

    density_normalize: bool = eqx.field(static=True)
    edges_name: str = eqx.field(static=True)

    def __init__(self, density_normalize: bool = True, edges: str = "connectivities"):
        self.density_normalize = density_normalize
        self.edges_name = edges

    def probabilities(self, pattern, edges, data, key):
        """Normalised connectivities; rows of zeros become uniform over the edges, cells without edges stay."""
        own: Edges = edges[self.edges_name]
        weights = own.values
        if self.density_normalize:
            density = _column_sums(pattern, weights)
            weights = tuple(
                safe_divide(w, density[c])  # the cell's own density is normalised away with its row
                for w, c in zip(weights, pattern.columns, strict=True)
            )
        return normalized(pattern, weights, own.mask)

    def reads(self):
        """The edges."""
        return frozenset((self.edges_name,))

    def fix(self, graph, data, name):
        """All of it."""
        return FixedProbabilities(name), Edges(self(graph).values, graph.edges[self.edges_name].mask)


def _column_sums(pattern: Pattern, values) -> Array:
    total = jnp.zeros(pattern.n_rows, values[0].dtype)
    for columns, value in zip(pattern.columns, values, strict=True):
        total = total.at[columns].add(value)
    return total


class Precomputed(TransitionFunction):
    """Transition probabilities that stand on the graph's edges already.

    Parameters
    ----------
    edges
        Name of the graph's edges that hold the probabilities; the attribute is :attr:`edges_name`.
    """

    edges_name: str = eqx.field(static=True)

    def __init__(self, edges: str = "precomputed"):
        self.edges_name = edges

    def probabilities(self, pattern, edges, data, key):
        """Rows of the stored values, normalised; cells without edges stay."""
        own: Edges = edges[self.edges_name]
        return normalized(pattern, own.values, own.mask)

    def reads(self):
        """The edges."""
        return frozenset((self.edges_name,))

    def fix(self, graph, data, name):
        """All of it."""
        return FixedProbabilities(name), Edges(self(graph).values, graph.edges[self.edges_name].mask)
