"""Expressions whose logits are known: what is left to compute when only scale and weights change."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import Edges, NeighborGraph
from jaxvelo.transitions._connectivity import Connectivity, Precomputed
from jaxvelo.transitions._expression import Expression
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._softmax import softmax_of_rows
from jaxvelo.transitions.velocity import Velocity, evaluate_logits


class FixedLogits(Expression):
    r"""Softmax of logits that stand on the graph's edges already.

    .. math:: T_{ij} = \exp(\sigma \ell_{ij}) / \sum_k \exp(\sigma \ell_{ik})

    Attributes
    ----------
    log_scale
        :math:`\log \sigma`, one for all cells or one for each, shape ``(cells,)``.
    logits
        Name of the graph's edges that hold the logits, in at least one slot of each row.
    """

    log_scale: Float[Array, ""] | Float[Array, " cells"]
    logits: str = eqx.field(static=True)

    def probabilities(self, graph: NeighborGraph, features, key):
        """Softmax of the stored logits."""
        stored = graph.edges[self.logits]
        return softmax_of_rows(stored.values, stored.mask, jnp.exp(self.log_scale), graph.rows)


class FixedProbabilities(Expression):
    """Transition probabilities that stand on the graph's edges already, rows normalised.

    Attributes
    ----------
    edges
        Name of the graph's edges that hold the probabilities.
    """

    edges: str = eqx.field(static=True)

    def probabilities(self, graph: NeighborGraph, features, key):
        """The stored values."""
        return graph.edges[self.edges].values


def fix_logits(
    expression: Expression, graph: NeighborGraph, features: Mapping[str, Features], prefix: str = ""
) -> tuple[Expression, NeighborGraph]:
    """Compute once what depends neither on softmax scales nor on weights, and put it on the graph's edges.

    Deterministic velocity terms become :class:`FixedLogits` (with their scale, the automatic one if they have none),
    connectivities and precomputed matrices become :class:`FixedProbabilities`. Stochastic and Monte Carlo terms stay:
    there, the scale enters the propagation of uncertainty too.

    Parameters
    ----------
    expression
        The expression.
    graph, features
        The data that it is evaluated on.
    prefix
        Of the names of the new edges, to fix several expressions on one graph.

    Returns
    -------
    The expression, with the same leaves for scales and weights, and the graph with the further edges.
    """
    edges = dict(graph.edges)

    def fix(term):
        name = f"{prefix}fixed {len(edges)}"
        if isinstance(term, Velocity) and term.model == "deterministic":
            logits, support, scale = evaluate_logits(term, graph, features[term.features])
            edges[name] = Edges(logits, support)
            return FixedLogits(jnp.log(scale), name)
        if isinstance(term, (Connectivity, Precomputed)):
            edges[name] = Edges(term(graph).values, graph.edges[term.edges].mask)
            return FixedProbabilities(name)
        return term

    fixed = jax.tree.map(fix, expression, is_leaf=lambda term: isinstance(term, (Velocity, Connectivity, Precomputed)))
    return fixed, eqx.tree_at(lambda g: g.edges, graph, edges)
