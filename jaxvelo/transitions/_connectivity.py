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

    Examples
    --------
    >>> line = jv.graph.NeighborGraph.from_csr(sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 3.0], [0.0, 3.0, 0.0]]))
    >>> jv.transitions.Connectivity(density_normalize=False)(line).rows(1).tolist()
    [[0.25, 0.0, 0.75]]
    >>> jv.transitions.Connectivity()(line).rows(1).round(6).tolist()
    [[0.5, 0.0, 0.5]]
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

    Examples
    --------
    >>> pair = jv.graph.NeighborGraph.from_csr({"precomputed": sp.csr_matrix([[1.0, 3.0], [2.0, 0.0]])})
    >>> jv.transitions.Precomputed()(pair).to_csr().toarray().tolist()
    [[0.25, 0.75], [1.0, 0.0]]
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
