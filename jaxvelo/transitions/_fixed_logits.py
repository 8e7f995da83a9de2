"""Expressions whose logits are known: what is left to compute when only scale and weights change."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.graph import Edges, NeighborGraph, uniform
from jaxvelo.transitions._connectivity import Connectivity, Precomputed
from jaxvelo.transitions._expression import Expression
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._softmax import scale_of_rows, softmax
from jaxvelo.transitions.velocity import Velocity, evaluate_logits


class FixedLogits(Expression):
    r"""Softmax of logits that stand on the graph's edges already.

    .. math:: T_{ij} = \exp(\sigma \ell_{ij}) / \sum_k \exp(\sigma \ell_{ik})

    Attributes
    ----------
    log_scale
        :math:`\log \sigma`, one for all cells or one for each, shape ``(cells,)``.
    logits
        Name of the graph's edges that hold the logits, where they are defined.
    edges
        Name of the graph's edges over which a row without logits is uniform.
    """

    log_scale: Float[Array, ""] | Float[Array, " cells"]
    logits: str = eqx.field(static=True)
    edges: str = eqx.field(static=True)

    def probabilities(self, graph: NeighborGraph, features, key):
        """Softmax of the stored logits."""
        stored, scale = graph.edges[self.logits], jnp.exp(self.log_scale)
        return tuple(
            softmax(logits, defined, scale_of_rows(scale.astype(logits.dtype), r), uniform(r, c, m, logits.dtype))
            for logits, defined, r, c, m in zip(
                stored.values, stored.mask, graph.rows, graph.columns, graph.edges[self.edges].mask, strict=True
            )
        )


def fix_logits(
    expression: Expression, graph: NeighborGraph, features: Mapping[str, Features], prefix: str = ""
) -> tuple[Expression, NeighborGraph]:
    """Compute once what depends neither on softmax scales nor on weights, and put it on the graph's edges.

    Deterministic velocity terms become :class:`FixedLogits` (with their scale, the automatic one if they have none),
    connectivities become :class:`~jaxvelo.transitions.Precomputed`. Stochastic and Monte Carlo terms stay: there, the
    scale enters the propagation of uncertainty too.

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
            logits, defined, scale = evaluate_logits(term, graph, features[term.features])
            edges[name] = Edges(logits, defined)
            return FixedLogits(jnp.log(scale), name, term.edges)
        if isinstance(term, Connectivity):
            edges[name] = Edges(term(graph).values, graph.edges[term.edges].mask)
            return Precomputed(name)
        return term

    fixed = jax.tree.map(fix, expression, is_leaf=lambda term: isinstance(term, (Velocity, Connectivity)))
    return fixed, eqx.tree_at(lambda g: g.edges, graph, edges)
