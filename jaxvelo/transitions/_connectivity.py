"""Transition probabilities from similarities among cells."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions._expression import Expression, normalized
from jaxvelo.transitions._inner_product import safe_divide


class Connectivity(Expression):
    r"""Connectivities as transition probabilities.

    .. math:: T_{ij} \propto C_{ij} / (q_i q_j), \qquad q_j = \sum_i C_{ij},

    or :math:`T_{ij} \propto C_{ij}` without density normalisation (Coifman & Lafon 2006; Haghverdi et al. 2016).

    Attributes
    ----------
    density_normalize
        Whether to divide by the densities :math:`q`.
    edges
        Which of the graph's edges to use.
    """

    density_normalize: bool = eqx.field(static=True, default=True)
    edges: str = eqx.field(static=True, default="connectivities")

    def probabilities(self, graph: NeighborGraph, features, key):
        """Normalised connectivities; rows of zeros become uniform over the edges, cells without edges stay."""
        weights = graph.edges[self.edges].values
        if self.density_normalize:
            density = _column_sums(graph, weights)
            weights = tuple(
                safe_divide(w, density[c])  # the cell's own density is normalised away with its row
                for w, c in zip(weights, graph.columns, strict=True)
            )
        return normalized(graph, weights, graph.edges[self.edges].mask)


def _column_sums(graph: NeighborGraph, values) -> Array:
    total = jnp.zeros(graph.n_rows, values[0].dtype)
    for columns, value in zip(graph.columns, values, strict=True):
        total = total.at[columns].add(value)
    return total


class Precomputed(Expression):
    """Transition probabilities that stand on the graph's edges already.

    Attributes
    ----------
    edges
        Name of the graph's edges that hold the probabilities.
    """

    edges: str = eqx.field(static=True, default="precomputed")

    def probabilities(self, graph: NeighborGraph, features, key):
        """Rows of the stored values, normalised; cells without edges stay."""
        edges = graph.edges[self.edges]
        return normalized(graph, edges.values, edges.mask)
